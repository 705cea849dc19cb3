"""Addresses, routes, policy rules and neighbours as rtnetlink shows them, everybody's (rtnetlink(7)).

rtroute.py reads those that are ours to make; a prediction has to know the others too: local and broadcast routes, all
tables, rules with marks.
"""

from __future__ import annotations

from _struct import Struct
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)

from nsbridge.explain.world import SeenAddress, SeenNeighbour, SeenPolicy, SeenRoute
from nsbridge.kernel.netlink import as_text, as_u32, attributes, message
from nsbridge.kernel.rtroute import get_addresses, get_routes, get_rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from nsbridge.kernel.netlink import NetlinkSocket
    from nsbridge.state.things import Address_, Network_

_INET, _INET6 = 2, 10
_GETNEIGH = 30
_IFADDR, _RTMSG, _RTNEXTHOP = Struct("=BBBBI"), Struct("=BBBBBBBBI"), Struct("=HBBi")
_NDMSG = Struct("=BxxxiHBB")
_S32 = Struct("=i")
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_SECONDARY, _DADFAILED, _TENTATIVE, _OPTIMISTIC = 1, 8, 0x40, 4
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_METRICS = 1, 4, 5, 6, 7, 8
_RTA_MULTIPATH, _RTA_TABLE, _RTA_VIA, _RTAX_MTU = 9, 15, 18, 2
_DEAD, _LINKDOWN, _CLONED = 1, 16, 0x200
_KINDS = {
    1: "unicast",
    2: "local",
    3: "broadcast",
    4: "anycast",
    5: "multicast",
    6: "blackhole",
    7: "unreachable",
    8: "prohibit",
    9: "throw",
}
_ACTIONS = {1: "lookup", 2: "goto", 3: "nop", 6: "blackhole", 7: "unreachable", 8: "prohibit"}
_FRA_DST, _FRA_SRC, _FRA_IIF, _FRA_PRIORITY, _FRA_MARK, _FRA_TABLE, _FRA_MASK, _FRA_OIF = 1, 2, 3, 6, 10, 15, 16, 17
_FRA_INVERT = 2
_FRA_STRANGE = {5: "goto", 12: "tun_id", 19: "l3mdev", 20: "uidrange", 22: "ipproto", 23: "sport", 24: "dport"}
_FRA_SUPPRESS = 14  # FRA_SUPPRESS_PREFIXLEN, -1 when it isn't used
_NUD = {1: "incomplete", 2: "reachable", 4: "stale", 8: "delay", 16: "probe", 32: "failed", 64: "noarp"}
_NUD_PERMANENT = 128


def _address(family: int, packed: bytes) -> Address_:
    return IPv4Address(packed) if family == _INET else IPv6Address(packed)


def addresses(sock: NetlinkSocket, names: dict[int, str]) -> Iterator[SeenAddress]:
    """Read all addresses of a namespace; names: its links by index."""
    for _, body in sock.dump(get_addresses()):
        family, prefix, low, _, index = _IFADDR.unpack_from(body)
        found = attributes(body, _IFADDR.size)
        packed = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS)
        if packed is None or index not in names or family not in (_INET, _INET6):
            continue
        flags = as_u32(found[_IFA_FLAGS]) if _IFA_FLAGS in found else low
        make = IPv4Interface if family == _INET else IPv6Interface
        waiting = family == _INET6 and flags & _TENTATIVE and not flags & _OPTIMISTIC
        yield SeenAddress(
            names[index], make((packed, prefix)), not (waiting or flags & _DADFAILED), bool(flags & _SECONDARY)
        )


def _ways(family: int, found: dict[int, bytes], names: dict[int, str]) -> tuple[list[tuple[str, Any]], int]:
    """Return the next hops of a route, and the flags that all of them have."""
    many = found.get(_RTA_MULTIPATH, b"")
    if not many:
        if _RTA_OIF not in found:
            return [], 0
        return [(names.get(as_u32(found[_RTA_OIF]), ""), _gateway(family, found))], 0
    ways, offset, all_flags = [], 0, -1
    while offset + _RTNEXTHOP.size <= len(many):
        size, flags, _, index = _RTNEXTHOP.unpack_from(many, offset)
        if size < _RTNEXTHOP.size:
            break
        inner = attributes(many[offset + _RTNEXTHOP.size : offset + size])
        if not flags & _DEAD:
            ways.append((names.get(index, ""), _gateway(family, inner)))
        all_flags &= flags
        offset += size + 3 & ~3
    return ways, all_flags


def _gateway(family: int, found: dict[int, bytes]) -> Address_ | None:
    if _RTA_GATEWAY in found:
        return _address(family, found[_RTA_GATEWAY])
    if _RTA_VIA in found:  # struct rtvia: the gateway's own family, IPv6 for IPv4 (RFC 5549)
        via = found[_RTA_VIA]
        return _address(int.from_bytes(via[:2], "little"), via[2:])
    return None


def routes(sock: NetlinkSocket, names: dict[int, str]) -> Iterator[SeenRoute]:
    """Read every route of every table."""
    for version in (4, 6):
        for _, body in sock.dump(get_routes(version, table=0)):
            family, prefix, _, _, table, _, _, kind, flags = _RTMSG.unpack_from(body)
            if flags & _CLONED:
                continue
            found = attributes(body, _RTMSG.size)
            ways, common = _ways(family, found, names)
            metrics = attributes(found.get(_RTA_METRICS, b""))
            blank = bytes(4 if version == 4 else 16)
            dst: Network_ = (IPv4Network if version == 4 else IPv6Network)((found.get(_RTA_DST, blank), prefix))
            yield SeenRoute(
                as_u32(found[_RTA_TABLE]) if _RTA_TABLE in found else table,
                dst,
                _KINDS.get(kind, f"type {kind}"),
                tuple(ways),
                as_u32(found[_RTA_PRIORITY]) if _RTA_PRIORITY in found else 0,
                _address(family, found[_RTA_PREFSRC]) if _RTA_PREFSRC in found else None,
                bool((flags | (common if common > 0 else 0)) & _DEAD),
                as_u32(metrics[_RTAX_MTU]) if _RTAX_MTU in metrics else 0,
            )


def _signed(raw: bytes) -> int:
    return _S32.unpack(raw)[0] if raw else -1


def policies(sock: NetlinkSocket) -> Iterator[SeenPolicy]:
    """Read every policy routing rule."""
    for version in (4, 6):
        make: Any = IPv4Network if version == 4 else IPv6Network
        for _, body in sock.dump(get_rules(version)):
            _, dst, src, tos, table, _, _, action, flags = _RTMSG.unpack_from(body)
            found = attributes(body, _RTMSG.size)
            strange = [word for number, word in _FRA_STRANGE.items() if number in found]
            strange += ["tos"] if tos else []
            mark = as_u32(found[_FRA_MARK]) if _FRA_MARK in found else 0
            mask = as_u32(found[_FRA_MASK]) if _FRA_MASK in found else 0xFFFFFFFF if mark else 0
            yield SeenPolicy(
                version,
                as_u32(found[_FRA_PRIORITY]) if _FRA_PRIORITY in found else 0,
                _ACTIONS.get(action, f"action {action}"),
                as_u32(found[_FRA_TABLE]) if _FRA_TABLE in found else table,
                make((found[_FRA_SRC], src)) if _FRA_SRC in found else None,
                make((found[_FRA_DST], dst)) if _FRA_DST in found else None,
                as_text(found.get(_FRA_IIF, b"")),
                as_text(found.get(_FRA_OIF, b"")),
                (mark, mask),
                bool(flags & _FRA_INVERT),
                _signed(found.get(_FRA_SUPPRESS, b"")),
                ", ".join(strange),
            )


def neighbours(sock: NetlinkSocket, names: dict[int, str]) -> Iterator[SeenNeighbour]:
    """Read what the namespace believes of its neighbours' MACs."""
    for family in (_INET, _INET6):
        for _, body in sock.dump(message(_GETNEIGH, 0, _NDMSG.pack(family, 0, 0, 0, 0))):
            _, index, state, _, kind = _NDMSG.unpack_from(body)
            found = attributes(body, _NDMSG.size)
            if 1 not in found or index not in names or kind not in (1, 2):
                continue
            word = "permanent" if state & _NUD_PERMANENT else _NUD.get(state, "none")
            yield SeenNeighbour(names[index], _address(family, found[1]), found.get(2, b"").hex(":"), word)
