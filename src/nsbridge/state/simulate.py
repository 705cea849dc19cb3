"""What a state becomes when a step is done: the kernel's behaviour, in values.

It refuses what the kernel would refuse (a name taken, a link that isn't there), and removing a link takes along
what stands on it, as the kernel does.
"""

from __future__ import annotations

from errno import EEXIST, ENODEV, ENOENT

from nsbridge.errors import KernelError
from nsbridge.firewall.ruleset import Element, Table
from nsbridge.state.kernel_state import KernelState
from nsbridge.state.things import HOST, Address, Link, Netns, Route, RoutingRule, Shaper, Sysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.plan.step import Step
    from nsbridge.state.things import Thing


def _refuse(thing: Thing, errno: int, text: str, done: list[Thing]) -> KernelError:
    # The firewall comes last and changes at once: what of it was before the refused thing isn't done.
    before = tuple([one for one in done if not isinstance(one, Table | Element)])
    return KernelError(f"{text}: {thing!r}", errno=errno, thing=thing, done=before)


def _link_of(setting: Sysctl) -> str:
    """Name the link of ours that a setting belongs to (net/ipv4/conf/LINK/...), "" when it isn't one of a link.

    What is to be given back belongs to the host, or to a link that was there before us.
    """
    parts = setting.key.split("/")
    return parts[3] if len(parts) == 5 and not setting.was and parts[3] not in ("all", "default", "lo") else ""


def _missing(thing: Thing, state: KernelState) -> tuple[int, str] | None:
    """What a thing needs first and doesn't find."""
    if isinstance(thing, Element):
        if state.find(("table", *thing.table)) is None:
            return ENOENT, "no such table"
    elif isinstance(thing, Link | Address | Route | RoutingRule | Shaper | Sysctl):
        if thing.netns != HOST and state.find(("netns", thing.netns)) is None:
            return ENOENT, "no such namespace"
        if isinstance(thing, Link):
            if thing.master and state.find(("link", thing.netns, thing.master)) is None:
                return ENODEV, "no such bridge"
            if thing.peer_netns != HOST and state.find(("netns", thing.peer_netns)) is None:
                return ENOENT, "no such namespace for its other end"
        elif isinstance(thing, Sysctl):
            if (name := _link_of(thing)) and state.find(("link", thing.netns, name)) is None:
                return ENOENT, "no such link"
        elif (
            isinstance(thing, Address | Route | Shaper)
            and thing.link
            and state.find(("link", thing.netns, thing.link)) is None
        ):
            return ENODEV, "no such link"
    return None


def _on(gone: Thing, thing: Thing, state: KernelState) -> bool:
    """Tell whether `thing` goes when `gone` goes."""
    if isinstance(gone, Table):
        return isinstance(thing, Element) and thing.table == (gone.family, gone.name)
    if isinstance(gone, Netns):
        if isinstance(thing, Link) and thing.peer_netns == gone.path:
            return True
        return getattr(thing, "netns", None) == gone.path
    if isinstance(gone, Link):
        where = (gone.netns, gone.name)
        if isinstance(thing, Link):
            return (thing.netns, thing.name) == (gone.peer_netns, gone.peer_name) or (
                (thing.peer_netns, thing.peer_name) == where and bool(thing.peer_name)
            )
        if isinstance(thing, Address | Route | Shaper):
            return (thing.netns, thing.link) == where
        if isinstance(thing, Sysctl):
            return thing.netns == gone.netns and f"/{gone.name}/" in thing.key
    return False


def _without(thing: Thing, state: KernelState) -> KernelState:
    pending, gone = [thing], {thing.identity}
    while pending:
        root = pending.pop()
        for other in state:
            if other.identity not in gone and _on(root, other, state):
                gone.add(other.identity)
                pending.append(other)
    return KernelState(other for other in state if other.identity not in gone)


_ORDER: dict[type, int] = {Table: 0, Netns: 1}


def _rank(thing: Thing) -> int:
    """Containers before what they hold; bridges before their ports."""
    if isinstance(thing, Link):
        return 3 if thing.master else 2
    return _ORDER.get(type(thing), 4)


def simulate(state: KernelState, step: Step) -> KernelState:
    """Return the state after the step; KernelError as the kernel would refuse it.

    Removing what isn't there is success, as it is for `Kernel.do`.
    """
    done: list[Thing] = []
    for thing in step.things if step.verb == "remove" else step.before if step.verb == "swap" else ():
        if state.find(thing.identity) is not None:
            state = _without(thing, state)
    if step.verb == "remove":
        return state
    if step.verb == "change":
        for thing in step.things:
            if state.find(thing.identity) is None:
                raise _refuse(thing, ENOENT, "nothing to change", done)
            state = state | (thing,)
            done.append(thing)
        return state
    for thing in sorted(step.things, key=_rank):
        if state.find(thing.identity) is not None:
            raise _refuse(thing, EEXIST, "exists already", done)
        if (trouble := _missing(thing, state)) is not None:
            raise _refuse(thing, *trouble, done)
        state = state | (thing,)
        done.append(thing)
    return state
