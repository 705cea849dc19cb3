"""What stands on links, each kind with its messages: addresses, routes, policy rules, shapers; and whether it is there.

One table, so that what carries out steps needn't know the kinds.
"""

from __future__ import annotations

from nsbridge.kernel import rtroute, tc
from nsbridge.state.things import Address, Route, RoutingRule, Shaper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol, TypeAlias

    OnLink: TypeAlias = Address | Route | RoutingRule | Shaper

    class Lists(Protocol):
        """What answers a question for a list: a NetlinkSocket, or who remembers its answers."""

        def dump(self, one: bytes, /) -> list[tuple[int, bytes]]:
            """Return replies as (type, body)."""


KINDS = (Address, Route, RoutingRule, Shaper)

_ADD: dict[type, Callable[..., bytes]] = {
    Address: rtroute.add_address,
    Route: rtroute.add_route,
    RoutingRule: rtroute.add_rule,
    Shaper: tc.add_shaper,
}
_REPLACE: dict[type, Callable[..., bytes]] = {
    Address: rtroute.replace_address,
    Route: rtroute.replace_route,
    RoutingRule: rtroute.add_rule,
    Shaper: tc.replace_shaper,
}


def add(thing: OnLink, index: int) -> bytes:
    """The message that adds it; index: of its link, 0 for what stands on none."""
    return _ADD[type(thing)](thing, index)


def replace(thing: OnLink, index: int) -> bytes:
    """The message that puts it in the place of one of the same identity."""
    return _REPLACE[type(thing)](thing, index)


def delete(thing: OnLink, index: int) -> bytes:
    """The message that deletes it."""
    if isinstance(thing, Address):
        return rtroute.delete_address(thing, index)
    if isinstance(thing, Route):
        return rtroute.delete_route(thing, index)
    return rtroute.delete_rule(thing) if isinstance(thing, RoutingRule) else tc.delete_shaper(index)


def link_of(thing: OnLink) -> str:
    """The name of its link, empty for what stands on none."""
    return "" if isinstance(thing, RoutingRule) else thing.link


def order(thing: OnLink) -> int:
    """Addresses first, then routes without gateway, since others may lead through them, then the rest."""
    if isinstance(thing, Route):
        return 1 if thing.via is None else 2
    return {Address: 0, RoutingRule: 3, Shaper: 4}[type(thing)]


def exists(sock: Lists, thing: OnLink, index: int) -> bool:
    """Tell whether it is there, equal and, for routes, ours. index: of its link."""
    netns, names = thing.netns, {index: link_of(thing)}
    if isinstance(thing, Address):
        found = [rtroute.decode_address(netns, body, names) for _, body in sock.dump(rtroute.get_addresses(index))]
        return thing in found
    if isinstance(thing, Route):
        replies = sock.dump(rtroute.get_routes(thing.dst.version, index, thing.table or rtroute.MAIN_TABLE))
        routes = [rtroute.decode_route(netns, body, names) for _, body in replies]
        return (thing, rtroute.PROTOCOL) in routes
    if isinstance(thing, RoutingRule):
        replies = sock.dump(rtroute.get_rules(thing.src.version))
        return thing in [rtroute.decode_rule(netns, body) for _, body in replies]
    return thing in [tc.decode_shaper(netns, body, names) for _, body in sock.dump(tc.get_shapers())]
