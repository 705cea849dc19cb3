"""Namespaces, links, addresses, routes, settings and limits as commands of ip(8), bridge(8), tc(8) and sysctl(8).

What one message of ours says at once takes a person several commands: a link is made, then told what only an existing
link listens to, then its settings, and only then raised. The order here is that of kernel/apply.py.
"""

from __future__ import annotations

from nsbridge.explain.command import Command, quoted, space, within
from nsbridge.firewall.ruleset import Element, Table
from nsbridge.model.limits import PACKETS, QUEUE_S, burst
from nsbridge.model.names import NETNS_ALIAS, PORT_GROUP, ROUTE_PROTOCOL, RULE_PRIORITY
from nsbridge.plan.diff import Removal
from nsbridge.state.things import HOST, Address, ForeignAccept, Link, Netns, Route, RoutingRule, Shaper, Sysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nsbridge.state.things import Thing

NO_IPV6_BELOW = 1280
"""A link of a smaller MTU has no IPv6, and no settings for it (RFC 8200, section 5)."""

MARKS = "the marks by which nsbridge knows it again"

_RANK: dict[type, int] = {Netns: 0, Link: 1, Sysctl: 2, Address: 4, Route: 5, RoutingRule: 6, Shaper: 7}
_BRIDGE_WORDS = {"multicast_snooping": "mcast_snooping"}
"""Bridge options that ip-link(8) calls otherwise than /sys does."""


def adding(things: Iterable[Thing]) -> list[Command]:
    """Return the commands that make things; firewall things among them are left to others."""
    found: list[Command] = []
    for group in _by_netns(things):
        ranked = sorted(group, key=lambda thing: _RANK[type(thing)])
        links = [thing for thing in ranked if isinstance(thing, Link)]
        first = [thing for thing in ranked if _RANK[type(thing)] < 1]
        settings = [thing for thing in ranked if isinstance(thing, Sysctl)]
        rest = [thing for thing in ranked if _RANK[type(thing)] > 2]
        for thing in first:
            found += _made(thing)
        for link in links:
            found += _link(link)
        found += [_setting(one, one.value) for one in settings]
        # The outer end of a pair is raised as it is told the rest: without the inner end it has no carrier.
        found += [_raised(link) for link in links if link.up and not _is_port(link)]
        for thing in rest:
            found += _made(thing)
    return found


def removing(things: Iterable[Thing]) -> list[Command]:
    """Return the commands that take things away; none for what goes along with something else of them."""
    things = tuple(things)
    along = Removal(things)
    return [one for thing in things if not along.takes(thing) for one in _gone(thing)]


def changing(things: Iterable[Thing]) -> list[Command]:
    """Return the commands that give things which exist their new values."""
    found: list[Command] = []
    for thing in things:
        if isinstance(thing, Sysctl):
            found.append(_setting(thing, thing.value))
        elif isinstance(thing, Link):
            found += _told(thing)
            found += [_raised(thing)] if thing.up and not _is_port(thing) else []
        elif not isinstance(thing, Table | Element | ForeignAccept | Netns):
            found += [Command(one.text.replace(" add ", " replace ", 1), one.why) for one in _made(thing)]
    return found


def _by_netns(things: Iterable[Thing]) -> Iterator[list[Thing]]:
    """Namespaces themselves, then what is on the host, then what is in each of them."""
    groups: dict[str, list[Thing]] = {"netns": [], HOST: []}
    for thing in things:
        if isinstance(thing, Netns):
            groups["netns"].append(thing)
        elif not isinstance(thing, Table | Element | ForeignAccept):
            groups.setdefault(thing.netns, []).append(thing)
    return iter(groups.values())


# ------------------------------------------------------------------ links


def _is_port(link: Link) -> bool:
    return bool(link.peer_name)


def _link(link: Link) -> list[Command]:
    """Make a link, unless it comes with the other end of its pair, and tell it what it is to be."""
    if link.kind == "bridge":
        options = "".join(f" {_BRIDGE_WORDS.get(name, name)} {value}" for name, value in link.options)
        made = f"ip link add name {link.name} type bridge{options}"
    elif link.peer_name:
        inside = f" netns {quoted(space(link.peer_netns))}" if link.peer_netns else ""
        made = f"ip link add name {link.name} type veth peer name {link.peer_name}{inside}"
    elif link.parent:
        where = f" netns {quoted(space(link.netns))}" if link.netns else ""
        made = f"ip link add link {link.parent} name {link.name}{where} type {link.kind} mode {link.mode}"
    else:
        return _told(link)
    return [Command(made, link.why), *_told(link)]


def _told(link: Link) -> list[Command]:
    """What it is to be, what it is as a port, and the marks by which it is known as ours."""
    words, marks = [], []
    if link.master:
        words.append(f"master {link.master}")
    if link.group:
        marks.append(f"group {_group(link)}")
    if link.mac:
        words.append(f"address {link.mac}")
    if link.mtu:
        words.append(f"mtu {link.mtu}")
    if link.alias:
        marks.append(f"alias {quoted(link.alias)}")
    if not link.autoconf and not 0 < link.mtu < NO_IPV6_BELOW:
        words.append("addrgenmode none")
    if link.up and _is_port(link):
        words.append("up")
    head = f"link set dev {link.name}"
    found = [Command(within(link.netns, "ip", f"{head} {' '.join(words)}"), link.why)] if words else []
    found += _as_port(link)
    return [*found, Command(within(link.netns, "ip", f"{head} {' '.join(marks)}"), MARKS)] if marks else found


def _group(link: Link) -> str:
    """The link's group; that of a port counts from the index of its bridge, which isn't known before there is one."""
    if link.group != PORT_GROUP:
        return f"{link.group:#x}"
    return f"$(({PORT_GROUP:#x} + $(ip -o link show dev {link.master} | cut -d: -f1)))"


def _as_port(link: Link) -> list[Command]:
    """What a bridge port is told. In one VLAN it leaves the others first; its other end isn't up yet."""
    said = [name for name, on in (("hairpin", link.hairpin), ("isolated", link.isolated)) if on]
    found = []
    if said and link.master:
        found.append(Command(f"bridge link set dev {link.name} {' '.join(f'{name} on' for name in said)}"))
    if link.vlan and link.master:
        found.append(Command(f"bridge vlan delete dev {link.name} vid 1-4094", f"VLAN {link.vlan} and no other"))
        found.append(Command(f"bridge vlan add dev {link.name} vid {link.vlan} pvid untagged"))
    return found


def _raised(link: Link) -> Command:
    return Command(within(link.netns, "ip", f"link set dev {link.name} up"), "all is set, so it is raised")


# ------------------------------------------------------------------ what stands on links


def _setting(setting: Sysctl, value: str) -> Command:
    """Write a setting by dots, as people do, unless an interface's own name has some."""
    parts = setting.key.split("/")
    key = ".".join(parts) if all("." not in part for part in parts) else setting.key
    return Command(within(setting.netns, "sysctl", f"-qw {key}={value}"), setting.why)


def _family(version: int) -> str:
    return "-6 " if version == 6 else ""


def _route(route: Route) -> str:
    kind = "" if route.kind == "unicast" else f"{route.kind} "
    via = f" via {route.via}" if route.via is not None else ""
    dev = f" dev {route.link}" if route.link else ""
    metric = f" metric {route.metric}" if route.metric else ""
    table = f" table {route.table}" if route.table else ""
    dst = str(route.dst) if route.dst.prefixlen else "default"
    return f"{kind}{dst}{via}{dev}{metric}{table} proto {ROUTE_PROTOCOL}"


def _shaper(shaper: Shaper) -> str:
    if not (shaper.delay or shaper.loss):
        most = burst(shaper.rate // 8)
        return f"tbf rate {shaper.rate}bit burst {most} latency {QUEUE_S * 1000:g}ms"
    words = [f"netem limit {PACKETS}"]
    if shaper.delay:
        words.append(f"delay {shaper.delay}us" + (f" {shaper.jitter}us" if shaper.jitter else ""))
    if shaper.loss:
        words.append(f"loss {shaper.loss / 10_000:g}%")
    if shaper.rate:
        words.append(f"rate {shaper.rate}bit")
    return " ".join(words)


def _made(thing: Thing) -> list[Command]:
    if isinstance(thing, Netns):
        name = space(thing.path)
        made = Command(f"ip netns add {name}", thing.why or f"namespace {name}")
        return [made, Command(f"ip -n {name} link set dev lo up alias {quoted(NETNS_ALIAS)}")]
    if isinstance(thing, Shaper):
        return [Command(within(thing.netns, "tc", f"qdisc add dev {thing.link} root {_shaper(thing)}"), thing.why)]
    assert isinstance(thing, Address | Route | RoutingRule)
    nodad = " nodad" if isinstance(thing, Address) and thing.address.version == 6 else ""
    return [Command(within(thing.netns, "ip", _by_ip("add", thing) + nodad), thing.why)]


def _by_ip(verb: str, thing: Address | Route | RoutingRule) -> str:
    """What ip(8) is told to do with it."""
    if isinstance(thing, Address):
        return f"address {verb} {thing.address} dev {thing.link}"
    if isinstance(thing, Route):
        return f"{_family(thing.dst.version)}route {verb} {_route(thing)}"
    rule = f"from {thing.src} lookup {thing.table} priority {RULE_PRIORITY} protocol {ROUTE_PROTOCOL}"
    return f"{_family(thing.src.version)}rule {verb} {rule}"


def _gone(thing: Thing) -> list[Command]:
    if isinstance(thing, Netns):
        return [Command(f"ip netns delete {space(thing.path)}", thing.why)]
    if isinstance(thing, Link):
        # The inner end of a pair goes with the outer one.
        made = thing.kind != "veth" or thing.peer_name
        return [Command(within(thing.netns, "ip", f"link delete dev {thing.name}"), thing.why)] if made else []
    if isinstance(thing, Sysctl):
        return [_setting(thing, thing.was)] if thing.was else []
    if isinstance(thing, Shaper):
        return [Command(within(thing.netns, "tc", f"qdisc delete dev {thing.link} root"), thing.why)]
    if isinstance(thing, Address | Route | RoutingRule):
        return [Command(within(thing.netns, "ip", _by_ip("delete", thing)), thing.why)]
    return []
