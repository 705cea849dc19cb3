"""Addresses and routes as rtnetlink messages, and back (rtnetlink(7), <linux/if_addr.h>, <linux/rtnetlink.h>).

Pure, like rtnetlink.py. A route of ours carries our own protocol number, so that it is known again and
nobody else's is deleted.
"""

from __future__ import annotations

from _struct import Struct
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

from nsbridge.kernel.netlink import CREATE, EXCL, REPLACE, as_u32, attr, attributes, message, u8, u32
from nsbridge.model.names import ROUTE_PROTOCOL, ROUTE_TABLE, RULE_PRIORITY
from nsbridge.state.things import Address, Route, RoutingRule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.state.things import Address_, Network_

NEWADDR, DELADDR, GETADDR = 20, 21, 22
NEWROUTE, DELROUTE, GETROUTE = 24, 25, 26
NEWRULE, DELRULE, GETRULE = 32, 33, 34

PROTOCOL = ROUTE_PROTOCOL
PROTO_KERNEL = 2
MAIN_TABLE = 254

_INET, _INET6 = 2, 10
_IFADDR, _RTMSG, _RTNEXTHOP = Struct("=BBBBI"), Struct("=BBBBBBBBI"), Struct("=HBBi")
_IFA_ADDRESS, _IFA_LOCAL, _IFA_F_NODAD = 1, 2, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_MULTIPATH, _RTA_TABLE = 1, 4, 5, 6, 9, 15
_SCOPE_UNIVERSE, _SCOPE_LINK, _SCOPE_HOST, _SCOPE_NOWHERE = 0, 253, 254, 255
_KINDS = {"unicast": 1, "blackhole": 6, "unreachable": 7, "prohibit": 8}
_KIND_OF = {number: kind for kind, number in _KINDS.items()}
_COMPAT = 252  # RT_TABLE_COMPAT: the number doesn't fit here, see RTA_TABLE
_FRA_SRC, _FRA_PRIORITY, _FRA_TABLE, _FRA_PROTOCOL, _TO_TABLE = 2, 6, 15, 21, 1
_IP6_DEFAULT_METRIC = 1024


def _address(kind: int, flags: int, thing: Address, index: int) -> bytes:
    address = thing.address
    packed = address.packed
    parts = attr(_IFA_LOCAL, packed) + attr(_IFA_ADDRESS, packed)
    family, bits = _INET, 0
    if address.version == 6:
        # No duplicate address detection: our addresses are leased, and a tentative one can't be used for 2 s.
        family, bits = _INET6, _IFA_F_NODAD
    loopback = address.version == 4 and packed[0] == 127  # `is_loopback` makes all networks of special use first
    scope = _SCOPE_HOST if loopback else _SCOPE_UNIVERSE
    return message(kind, flags, _IFADDR.pack(family, address.network.prefixlen, bits, scope, index) + parts)


def add_address(thing: Address, index: int) -> bytes:
    """The message that gives an address to the link of that index; without a broadcast address, as `ip` does."""
    return _address(NEWADDR, CREATE | EXCL, thing, index)


def replace_address(thing: Address, index: int) -> bytes:
    """The same, whether or not the address is there."""
    return _address(NEWADDR, CREATE | REPLACE, thing, index)


def delete_address(thing: Address, index: int) -> bytes:
    """The message that takes an address from a link."""
    return _address(DELADDR, 0, thing, index)


def _route(kind: int, flags: int, thing: Route, index: int, scope: int, protocol: int = PROTOCOL) -> bytes:
    family = _INET if thing.dst.version == 4 else _INET6
    parts = [u32(_RTA_OIF, index)] if index else []
    if thing.dst.prefixlen:
        parts.append(attr(_RTA_DST, thing.dst.network_address.packed))
    if thing.via is not None:
        parts.append(attr(_RTA_GATEWAY, thing.via.packed))
    if thing.metric:
        parts.append(u32(_RTA_PRIORITY, thing.metric))
    table = MAIN_TABLE
    if thing.table:
        parts.append(u32(_RTA_TABLE, thing.table))
        table = _COMPAT
    header = _RTMSG.pack(family, thing.dst.prefixlen, 0, 0, table, protocol, scope, _KINDS[thing.kind], 0)
    return message(kind, flags, header + b"".join(parts))


def _scope(thing: Route) -> int:
    """IPv4 wants to know that a route without gateway is on the link; IPv6 has no scopes."""
    on_link = thing.via is None and thing.kind == "unicast" and thing.dst.version == 4
    return _SCOPE_LINK if on_link else _SCOPE_UNIVERSE


def add_route(thing: Route, index: int, *, protocol: int = PROTOCOL) -> bytes:
    """The message that adds a route out of the link of that index, marked with our `PROTOCOL`."""
    return _route(NEWROUTE, CREATE | EXCL, thing, index, _scope(thing), protocol)


def replace_route(thing: Route, index: int) -> bytes:
    """The same, taking the place of a route to that destination with that metric."""
    return _route(NEWROUTE, CREATE | REPLACE, thing, index, _scope(thing))


def delete_route(thing: Route, index: int) -> bytes:
    """The message that deletes a route of ours, and no other one to the same destination."""
    return _route(DELROUTE, 0, thing, index, _SCOPE_NOWHERE)


def _rule(kind: int, flags: int, thing: RoutingRule) -> bytes:
    family = _INET if thing.src.version == 4 else _INET6
    header = _RTMSG.pack(family, 0, thing.src.prefixlen, 0, _COMPAT, 0, 0, _TO_TABLE, 0)
    parts = attr(_FRA_SRC, thing.src.network_address.packed) + u32(_FRA_PRIORITY, RULE_PRIORITY)
    parts += u32(_FRA_TABLE, thing.table) + u8(_FRA_PROTOCOL, PROTOCOL)
    return message(kind, flags, header + parts)


def add_rule(thing: RoutingRule, index: int = 0) -> bytes:
    """The message that adds a policy rule."""
    return _rule(NEWRULE, CREATE | EXCL, thing)


def delete_rule(thing: RoutingRule) -> bytes:
    """The message that deletes a policy rule of ours."""
    return _rule(DELRULE, 0, thing)


def get_rules(family: int) -> bytes:
    """Ask for the policy rules of IP version 4 or 6."""
    return message(GETRULE, 0, _RTMSG.pack(_INET if family == 4 else _INET6, 0, 0, 0, 0, 0, 0, 0, 0))


def decode_rule(netns: str, body: bytes) -> RoutingRule | None:
    """Read an RTM_NEWRULE body; None for a rule that isn't ours."""
    family, _, prefix, _, _, _, _, _, _ = _RTMSG.unpack_from(body)
    found = attributes(body, _RTMSG.size)
    if found.get(_FRA_PROTOCOL, b"\0")[0] != PROTOCOL or _FRA_SRC not in found:
        return None
    src = (IPv4Network if family == _INET else IPv6Network)((found[_FRA_SRC], prefix))
    return RoutingRule(netns, src, as_u32(found[_FRA_TABLE]))


def get_addresses(index: int = 0) -> bytes:
    """Ask for the addresses of one link, or of all."""
    return message(GETADDR, 0, _IFADDR.pack(0, 0, 0, 0, index))


def get_routes(family: int, index: int = 0, table: int = MAIN_TABLE) -> bytes:
    """Ask for a table of IP version 4 or 6, or what of it leaves by one link. table 0: for all of them."""
    header = _RTMSG.pack(_INET if family == 4 else _INET6, 0, 0, 0, 0, 0, 0, 0, 0)
    return message(
        GETROUTE, 0, header + (u32(_RTA_TABLE, table) if table else b"") + (u32(_RTA_OIF, index) if index else b"")
    )


def decode_address(netns: str, body: bytes, names: dict[int, str]) -> Address | None:
    """Read an RTM_NEWADDR body; `names` are the links by index. None for what isn't ours to tell."""
    family, prefix, _, _, index = _IFADDR.unpack_from(body)
    found = attributes(body, _IFADDR.size)
    packed = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS)
    if packed is None or index not in names or family not in (_INET, _INET6):
        return None
    make = IPv4Interface if family == _INET else IPv6Interface
    return Address(netns=netns, link=names[index], address=make((packed, prefix)))


def decode_route(netns: str, body: bytes, names: dict[int, str]) -> tuple[Route, int] | None:
    """Read an RTM_NEWROUTE body: the route and its protocol.

    None for what a Route can't say: several ways, local and broadcast routes, tables that are neither the main one
    nor ours. IPv6 routes with the default metric (1024) have metric 0.
    """
    family, prefix, _, _, table, protocol, _, kind, _ = _RTMSG.unpack_from(body)
    found = attributes(body, _RTMSG.size)
    index = as_u32(found[_RTA_OIF]) if _RTA_OIF in found else 0
    table = as_u32(found[_RTA_TABLE]) if _RTA_TABLE in found else table
    ours = ROUTE_TABLE <= table <= ROUTE_TABLE + 0xFFFF
    if not (table == MAIN_TABLE or ours) or kind not in _KIND_OF or (kind == 1 and index not in names):
        return None
    metric = as_u32(found[_RTA_PRIORITY]) if _RTA_PRIORITY in found else 0
    via: Address_ | None = None
    dst: Network_
    if family == _INET:
        dst = IPv4Network((found.get(_RTA_DST, bytes(4)), prefix))
        via = IPv4Address(found[_RTA_GATEWAY]) if _RTA_GATEWAY in found else None
    else:
        dst = IPv6Network((found.get(_RTA_DST, bytes(16)), prefix))
        via = IPv6Address(found[_RTA_GATEWAY]) if _RTA_GATEWAY in found else None
        metric = 0 if metric == _IP6_DEFAULT_METRIC else metric
    link = names[index] if kind == 1 else ""
    return Route(netns, dst, link, via, metric, table if ours else 0, _KIND_OF[kind]), int(protocol)


def decode_routes(netns: str, body: bytes, names: dict[int, str]) -> list[tuple[Route, int]]:
    """Read an RTM_NEWROUTE body that may name several ways: one route each, as if they were given singly."""
    found = attributes(body, _RTMSG.size)
    ways = found.get(_RTA_MULTIPATH, b"")
    if not ways:
        one = decode_route(netns, body, names)
        return [one] if one else []
    routes = []
    offset = 0
    while offset + _RTNEXTHOP.size <= len(ways):
        size, _, _, index = _RTNEXTHOP.unpack_from(ways, offset)
        if size < _RTNEXTHOP.size:
            break
        gateway = attributes(ways[offset + _RTNEXTHOP.size : offset + size]).get(_RTA_GATEWAY)
        parts = [u32(_RTA_OIF, index)] + ([attr(_RTA_GATEWAY, gateway)] if gateway else [])
        parts += [attr(kind, value) for kind, value in found.items() if kind in (_RTA_DST, _RTA_PRIORITY)]
        one = decode_route(netns, body[: _RTMSG.size] + b"".join(parts), names)
        routes += [one] if one else []
        offset += size + 3 & ~3
    return routes
