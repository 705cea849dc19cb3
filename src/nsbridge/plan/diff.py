"""From one state to another: which steps, in which order.

Build in private, publish last; withdraw first, dismantle after. Guards come before what they guard: the table
before the setting that would let 127/8 onto a bridge, the set that keeps others unforwarded before forwarding.
"""

from __future__ import annotations

from nsbridge.firewall.ruleset import Element, Table
from nsbridge.plan.step import Plan, Step
from nsbridge.state.kernel_state import KernelState
from nsbridge.state.things import HOST, Address, ForeignAccept, Link, Netns, Route, Sysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsbridge.state.things import Thing

TABLE, SETS, FOREIGN, GLOBAL, NETNS, BRIDGE, PORTS, INSIDE, PUBLISH = range(9)
WORDS = {
    TABLE: "our table",
    SETS: "networks in our table",
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
        return PUBLISH if thing.data else SETS  # type: ignore[union-attr]
    if kind is ForeignAccept:
        return FOREIGN
    if kind is Netns:
        return NETNS
    if thing.netns != HOST:  # type: ignore[union-attr]
        return INSIDE
    if kind is Sysctl:
        return GLOBAL if thing.was else BRIDGE  # type: ignore[union-attr]
    if kind is Link and thing.kind != "bridge":  # type: ignore[union-attr]
        return PORTS
    return BRIDGE


def implied(thing: Thing, gone: KernelState) -> bool:
    """Tell whether the kernel removes `thing` by itself when all of `gone` is removed."""
    kind = type(thing)
    if kind is Element:
        return gone.find(("table", *thing.table)) is not None  # type: ignore[union-attr]
    if kind is Table or kind is ForeignAccept or kind is Netns:
        return False
    netns = thing.netns  # type: ignore[union-attr]
    if netns != HOST and gone.find(("netns", netns)) is not None:
        return True
    if kind is Link:
        return netns != HOST
    if kind is Sysctl:
        return not thing.was and any(  # type: ignore[union-attr]
            link.netns == netns and f"/{link.name}/" in thing.key  # type: ignore[union-attr]
            for link in gone.of(Link)
        )
    return gone.find(("link", netns, thing.link)) is not None  # type: ignore[union-attr]


def _inside_order(thing: Thing) -> int:
    """Settings before the link goes up, then the link, its addresses, its routes."""
    return {Sysctl: 0, Link: 1, Address: 2, Route: 3}[type(thing)]  # type: ignore[index]


def _bridge_order(thing: Thing) -> int:
    return {Link: 0, Address: 1, Route: 2, Sysctl: 3}[type(thing)]  # type: ignore[index]


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


def diff(before: KernelState, after: KernelState) -> Plan:
    """Return the plan that turns `before` into `after`: what goes, what changes, what comes."""
    gone = [thing for thing in before if after.find(thing.identity) is None]
    new = [thing for thing in after if before.find(thing.identity) is None]
    changed = [(old, thing) for thing in after if (old := before.find(thing.identity)) is not None and old != thing]
    changed.sort(key=lambda pair: phase(pair[1]))
    changes = [Step("change", (thing,), (old,), why=WORDS[phase(thing)]) for old, thing in changed]
    return Plan((*removing(gone), *changes, *adding(new)))
