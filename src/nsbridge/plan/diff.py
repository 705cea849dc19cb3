"""From one state to another: which steps, in which order.

Build in private, publish last; withdraw first, dismantle after. Guards come before what they guard: the table
before the setting that would let 127/8 onto a bridge, the set that keeps others unforwarded before forwarding.
"""

from __future__ import annotations

from nsbridge.firewall.ruleset import Element, Table
from nsbridge.plan.step import Plan, Step
from nsbridge.state.kernel_state import KernelState
from nsbridge.state.things import HOST, Address, ForeignAccept, Link, Netns, Route, RoutingRule, Shaper, Sysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsbridge.state.things import Thing

TABLE, SETS, FOREIGN, GLOBAL, NETNS, BRIDGE, PORTS, INSIDE, PUBLISH = range(9)
WORDS = {
    TABLE: "our tables",
    SETS: "networks and guards in our tables",
    FOREIGN: "other people's forward chains",
    GLOBAL: "settings of the host",
    NETNS: "namespaces",
    BRIDGE: "bridges",
    PORTS: "ports of bridges",
    INSIDE: "inside the namespaces",
    PUBLISH: "published ports",
}
"""The phases in the order of building, and what a person calls them."""


def phase(thing: Thing) -> int:
    """Return the phase in which a thing is added; removal goes the other way."""
    kind = type(thing)
    if kind is Table:
        return TABLE
    if kind is Element:
        data: tuple[object, ...] = thing.data  # type: ignore[union-attr]
        return SETS if not data or str(data[0]).startswith("goto ") else PUBLISH
    if kind is ForeignAccept:
        return FOREIGN
    if kind is Netns:
        return NETNS
    if thing.netns != HOST:  # type: ignore[union-attr]
        return INSIDE
    if kind is Sysctl:
        return GLOBAL if thing.was else BRIDGE  # type: ignore[union-attr]
    if kind is Shaper:
        return PORTS
    if kind is Link and thing.kind != "bridge":  # type: ignore[union-attr]
        return PORTS
    return BRIDGE


class Removal:
    """What the kernel takes along by itself when all of `things` are removed."""

    def __init__(self, things: Iterable[Thing]) -> None:
        self._gone = {thing.identity for thing in things}
        self._peers = {("link", t.peer_netns, t.peer_name) for t in things if isinstance(t, Link) and t.peer_name}

    def takes(self, thing: Thing) -> bool:
        """Tell whether `thing` goes with one of them, without a step of its own."""
        gone = self._gone
        if isinstance(thing, Element):
            return ("table", *thing.table) in gone
        if isinstance(thing, Table | ForeignAccept | Netns):
            return False
        if thing.netns != HOST and ("netns", thing.netns) in gone:
            return True
        if isinstance(thing, Link):
            return thing.identity in self._peers
        if isinstance(thing, Sysctl):
            # net/ipv4/conf/LINK/… dies with its link; what is to be given back is nobody's but ours to give.
            return not thing.was and self._link_gone(thing.netns, thing.key.split("/")[-2])
        if isinstance(thing, RoutingRule):
            return False
        return self._link_gone(thing.netns, thing.link)

    def _link_gone(self, netns: str, name: str) -> bool:
        return ("link", netns, name) in self._gone or ("link", netns, name) in self._peers


def _inside_order(thing: Thing) -> int:
    """Settings before the link goes up, then the link, its addresses, its routes."""
    return {Sysctl: 0, Link: 1, Address: 2, Route: 3, RoutingRule: 4, Shaper: 5}[type(thing)]


def _bridge_order(thing: Thing) -> int:
    return {Link: 0, Address: 1, Route: 2, Sysctl: 3}[type(thing)]


def adding(things: Iterable[Thing]) -> tuple[Step, ...]:
    """Return the steps that add things to a host where none of them is."""
    groups: dict[tuple[int, str], list[Thing]] = {}
    for thing in things:
        at = phase(thing)
        groups.setdefault((at, thing.netns if at == INSIDE else ""), []).append(thing)  # type: ignore[union-attr]
    steps = []
    for (at, _), group in sorted(groups.items(), key=lambda item: item[0][0]):
        if at == INSIDE:
            group.sort(key=_inside_order)
        elif at == BRIDGE:
            group.sort(key=_bridge_order)
        steps.append(Step("add", tuple(group), why=WORDS[at]))
    return tuple(steps)


def removing(things: Iterable[Thing]) -> tuple[Step, ...]:
    """Return the steps that remove things: published ports first, then links with all on them, the table last."""
    gone = KernelState(things)
    table, links = gone.of(Table), []
    groups: dict[int, list[Thing]] = {}
    for thing in gone:
        at = phase(thing)
        if at in (BRIDGE, PORTS, INSIDE):
            links.append(thing)
        else:
            groups.setdefault(TABLE if at == SETS and table else at, []).append(thing)
    # Links of all kinds in one step: so the ports of a bridge that goes too can go by their group, at once.
    if links:
        groups[PORTS] = links
    order = (PUBLISH, PORTS, NETNS, FOREIGN, GLOBAL, SETS, TABLE)
    return tuple(Step("remove", tuple(groups[at]), why=WORDS[at]) for at in order if at in groups)


def _goes_too(thing: Thing, gone: set[tuple[str, ...]], removal: Removal) -> bool:
    """Tell whether a thing has to go, to come again perhaps, because of others that go."""
    if isinstance(thing, Link):
        if ("link", thing.netns, thing.master) in gone:
            return True  # a port doesn't go with its bridge, but would be left without one
        ends = [(thing.netns, thing.name)] if thing.kind != "veth" or thing.peer_name else []
        ends += [(thing.peer_netns, thing.peer_name)] if thing.peer_name else []
        if any(("setting of", *end) in gone for end in ends):
            return True
    if isinstance(thing, Route) and ("address of", thing.netns, thing.link, str(thing.dst.version)) in gone:
        return True  # without the last address of its link the kernel drops it (fib_disable_ip, net/ipv4)
    return removal.takes(thing)


def _with_settings(gone: Iterable[Thing]) -> set[tuple[str, ...]]:
    """Return the identities of what goes, and the links that lose an address, or a setting with nothing to give back.

    Such a setting goes with its link and not otherwise.
    """
    found = set()
    for thing in gone:
        found.add(thing.identity)
        if isinstance(thing, Sysctl) and not thing.was:
            found.add(("setting of", thing.netns, thing.key.split("/")[-2]))
        if isinstance(thing, Address):
            found.add(("address of", thing.netns, thing.link, str(thing.address.version)))
    return found


def diff(before: KernelState, after: KernelState) -> Plan:
    """Return the plan that turns `before` into `after`: what goes, what changes, what comes."""
    gone = [thing for thing in before if after.find(thing.identity) is None]
    while True:
        # What stands on something that goes can't be changed in place: it goes too, and comes again.
        removal = Removal(gone)
        names = _with_settings(gone)
        along = [thing for thing in before if thing.identity not in names and _goes_too(thing, names, removal)]
        if not along:
            break
        gone += along
    kept = before - gone
    new = [thing for thing in after if kept.find(thing.identity) is None]
    changed = [(old, thing) for thing in after if (old := kept.find(thing.identity)) is not None and old != thing]
    changed.sort(key=lambda pair: phase(pair[1]))
    changes = [Step("change", (thing,), (old,), why=WORDS[phase(thing)]) for old, thing in changed]
    return Plan((*removing(gone), *changes, *adding(new)))
