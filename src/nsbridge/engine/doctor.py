"""What on this host blocks or endangers us, with the fix: each check is one small function that returns findings."""

from __future__ import annotations

from nsbridge.desired.network import FORWARDING
from nsbridge.desired.proxy import proxy_sockets
from nsbridge.engine import gc, networks, ports
from nsbridge.firewall.ruleset import Table
from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Literal, TypeAlias

    from nsbridge.engine.host import Host
    from nsbridge.kernel.interface import HostFacts

    Level: TypeAlias = Literal["ok", "note", "warning", "error"]

FULL = 0.9
"""The part of the conntrack table from which on new connections are about to be dropped."""


class Finding(Value):
    """One thing worth knowing. what: in one line; why: what it means; fix: a command or an instruction."""

    level: Level
    what: str
    why: str = ""
    fix: str = ""


def _forwarding(host: Host, facts: HostFacts) -> Iterator[Finding]:
    """Whether packets pass between bridges and the world, and who decided so."""
    mine = {sysctl.key: sysctl for sysctl in host.store.host().sysctls}
    for version, key in FORWARDING.items():
        name, value = key.replace("/", "."), facts.sysctl(key)
        wanted = any(network.subnet(version) and not network.internal for network in host.store.networks())
        if key in mine and value == "1":
            yield Finding(
                "note",
                f"{name}=1 was set by us (it was {mine[key].was}) and goes back with the last network",
                "what neither comes from nor goes to our networks is still not forwarded (S13)",
                "if other software on this host needs forwarding, set it in /etc/sysctl.d before our first network",
            )
        elif wanted and value == "0":
            yield Finding(
                "error",
                f"{name} is 0, so nothing passes between networks and the world",
                "somebody set it back after us",
                f"`sysctl -w {name}=1`, or `nsbridge up` again",
            )
        elif wanted:
            yield Finding("ok", f"{name} is on")


def _single_links(host: Host, facts: HostFacts) -> Iterator[Finding]:
    """Links that somebody took out of IPv4 forwarding. IPv6 has that setting too, but doesn't forward by it."""
    bridges = {network.ifname: network.name for network in host.store.networks() if network.subnet(4)}
    if facts.sysctl(FORWARDING[4]) == "0" or not bridges:
        return
    uplinks = [key.split("/")[3] for key, _ in facts.sysctls if key.endswith("/accept_ra")]
    for name in dict.fromkeys((*bridges, *uplinks)):
        key = f"net/ipv4/conf/{name}/forwarding"
        if host.kernel.setting(key) != "0":
            continue
        level: Level = "error" if name in bridges else "warning"
        meaning = "ports published there don't answer, and endpoints get no answers from there"
        if name in bridges:
            meaning = f"endpoints of {bridges[name]!r} reach one another and this host, and nothing beyond"
        yield Finding(
            level,
            f"{key} is 0: IPv4 packets that come in by {name} aren't forwarded",
            meaning,
            f"`sysctl -w {key}=1`; where systemd-networkd set it: IPv4Forwarding=yes for {name}",
        )


def _foreign_chains(host: Host, facts: HostFacts) -> Iterator[Finding]:
    """Chains of other people that drop what is forwarded: an accept of ours can't undo that (S29)."""
    present = {thing.identity for thing in host.kernel.find(facts.droppers)}
    needed = bool(host.store.networks())
    for thing in facts.droppers:
        where = f"{thing.family} {thing.table} {thing.chain}".strip() or "FORWARD"
        name = f"{thing.where} chain {where} drops what is forwarded"
        if thing.identity in present:
            yield Finding("ok", f"{name}; our one rule in it lets pass what we mark")
        elif needed:
            yield Finding(
                "error",
                name,
                "published ports and the way out don't work, since a drop elsewhere is final",
                "any `nsbridge up` or `nsbridge network create` puts our one rule there",
            )
        else:
            yield Finding("note", name, "our first network will put one rule there, and take it away at the end")


def _guards(host: Host, facts: HostFacts) -> Iterator[Finding]:
    """Whether frames between ports are checked."""
    if not facts.bridge_filter:
        yield Finding(
            "warning",
            "nf_tables can't filter between the ports of a bridge here, so endpoints may send in each other's name",
            "networks work without these guards; `icc: false` then closes published ports of neighbours too",
            "use a kernel with CONFIG_NF_TABLES_BRIDGE, or `modprobe nft_meta_bridge`",
        )
    elif unguarded := [network.name for network in host.store.networks() if not network.guarded]:
        yield Finding(
            "note",
            f"endpoints of {', '.join(unguarded)} may send in each other's name",
            "the network was made when this kernel couldn't tell",
            "make it anew",
        )


def _table(host: Host, facts: HostFacts) -> Iterator[Finding]:
    """Whether our rules are still as we wrote them."""
    nets = host.store.networks()
    shared = networks.shared_steps(host, nets, facts)[1].steps
    steps = [step for step in shared if any(isinstance(thing, Table) for thing in step.things)]
    steps += [step for network in nets for step in networks.mend(host, network)]
    if steps:
        lost = sum(len(step.things) for step in steps)
        yield Finding(
            "error",
            f"{lost} things of our networks are missing or changed in the kernel",
            "somebody flushed rules or removed a bridge; or one was added, and iptables has to be told of it",
            "`nsbridge up` for projects; any `nsbridge connect` or `publish` mends the rules of the others",
        )
    elif host.store.networks():
        yield Finding("ok", "rules, bridges and settings of all networks are in place")


def _leftovers(host: Host, facts: HostFacts) -> Iterator[Finding]:
    for text in gc.collect(host, dry_run=True):
        yield Finding("warning", f"left over: {text}", fix="`nsbridge gc`")


def _loopback(host: Host, facts: HostFacts) -> Iterator[Finding]:
    if host.kernel.setting("net/ipv4/conf/all/route_localnet") == "1":
        yield Finding(
            "warning",
            "net.ipv4.conf.all.route_localnet is 1: neighbours may reach services on this host's 127.0.0.1",
            "CVE-2020-8558; we set it on our own bridges only, behind a guard",
            "`sysctl -w net.ipv4.conf.all.route_localnet=0`",
        )


def _conntrack(host: Host, facts: HostFacts) -> Iterator[Finding]:
    count = host.kernel.setting("net/netfilter/nf_conntrack_count")
    limit = host.kernel.setting("net/netfilter/nf_conntrack_max")
    if count.isdigit() and limit.isdigit() and int(limit) and int(count) > FULL * int(limit):
        yield Finding(
            "error",
            f"the conntrack table holds {count} of {limit} connections",
            "new connections are dropped when it is full",
            "`sysctl -w net.netfilter.nf_conntrack_max=…` higher",
        )


def _subnets(host: Host, facts: HostFacts) -> Iterator[Finding]:
    """Routes that appeared after us, a VPN's say, and lie over a network."""
    ours = {network.ifname for network in host.store.networks()}
    for network in host.store.networks():
        for subnet in network.subnets:
            for net, link in facts.routes:
                if (
                    link not in ours
                    and net.version == subnet.network.version
                    and net.prefixlen >= subnet.network.prefixlen
                    and net.overlaps(subnet.network)
                ):
                    yield Finding(
                        "error",
                        f"the host's route {net} by {link} lies inside network {network.name!r} ({subnet.network})",
                        "packets to these addresses take that route",
                        f"give the network another subnet, or remove the route: `ip route del {net} dev {link}`",
                    )


def _bridge_calls(host: Host, facts: HostFacts) -> Iterator[Finding]:
    if host.kernel.setting("net/bridge/bridge-nf-call-iptables") == "1":
        yield Finding(
            "note",
            "net.bridge.bridge-nf-call-iptables is 1: packets between neighbours pass everybody's rules",
            "ours are made for both; it costs neighbours about a third of their throughput",
            "`sysctl -w net.bridge.bridge-nf-call-iptables=0`, unless other software relies on it",
        )


def _listeners(host: Host, facts: HostFacts) -> Iterator[Finding]:
    """Processes of the host behind a published port: nobody reaches them any more."""
    for endpoint in host.store.endpoints():
        network = host.store.network(endpoint.network)
        for port in endpoint.ports:
            if any(ports.listener(host, one) for one in ports.on_the_host(network, port)):
                yield Finding(
                    "warning",
                    f"a process of this host listens on {port.host_text}/{port.proto}, published for {endpoint.name!r}",
                    "connections go to the endpoint, not to that process",
                    f"stop it, or `nsbridge unpublish {endpoint.name} {port.target}/{port.proto}`",
                )


def _proxied(host: Host, facts: HostFacts) -> Iterator[Finding]:
    """Ways in that need a user-space proxy, which isn't there."""
    sockets = [socket for endpoint in host.store.endpoints() for socket in proxy_sockets(endpoint)]
    if sockets:
        more = f" and {len(sockets) - 3} more" if len(sockets) > 3 else ""
        yield Finding(
            "note",
            f"no proxy serves {', '.join(map(str, sockets[:3]))}{more}",
            "published ports don't answer on [::1], to link-local clients, or to IPv6 clients of an IPv4-only endpoint",
            "use 127.0.0.1 or another address of this host; give the network IPv6 (`enable_ipv6: true`, `--ipv6`)",
        )


def _interfaces(host: Host, facts: HostFacts) -> Iterator[Finding]:
    """Interfaces that ports are published on, whose addresses are others by now."""
    for endpoint in host.store.endpoints():
        for port in endpoint.ports:
            if port.interface and set(port.own) != set(host.kernel.addresses_of(port.interface)):
                yield Finding(
                    "warning",
                    f"{port.interface} has other addresses than when {port} of {endpoint.name!r} was published",
                    "what comes in by it is served all the same; this host itself doesn't reach it by the new ones",
                    f"`nsbridge unpublish {endpoint.name} {port.target}/{port.proto}` and publish it again",
                )


CHECKS = (
    _forwarding,
    _single_links,
    _foreign_chains,
    _guards,
    _table,
    _subnets,
    _listeners,
    _proxied,
    _interfaces,
    _leftovers,
    _loopback,
    _bridge_calls,
    _conntrack,
)


def examine(host: Host) -> tuple[Finding, ...]:
    """Return everything worth knowing, in the order of the checks. Changes nothing."""
    facts = host.kernel.facts()
    return tuple(finding for check in CHECKS for finding in check(host, facts))
