"""The words of nf_tables: numbers of messages, fields, types and names (<linux/netfilter/nf_tables.h>).

Two encoders' worth of facts in tables, so that `nftencode` and `nftdecode` read the same line forwards and
backwards. A field is loaded by an expression (`meta`, `payload`, `ct`, `fib`) into registers of four bytes;
a type says how many bytes a value takes and in which form.
"""

from __future__ import annotations

import errno
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from nsbridge.errors import KernelError
from nsbridge.firewall.ruleset import TURNS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

SUBSYSTEM = 10
"""NFNL_SUBSYS_NFTABLES, the upper byte of every message type."""

BATCH_BEGIN, BATCH_END = 0x10, 0x11

(NEWTABLE, GETTABLE, DELTABLE, NEWCHAIN, GETCHAIN, DELCHAIN, NEWRULE, GETRULE, DELRULE) = range(0xA00, 0xA09)
(NEWSET, GETSET, DELSET, NEWSETELEM, GETSETELEM, DELSETELEM, NEWGEN, GETGEN) = range(0xA09, 0xA11)

FAMILIES = {"inet": 1, "ip": 2, "arp": 3, "netdev": 5, "bridge": 7, "ip6": 10}
HOOKS = {"prerouting": 0, "input": 1, "forward": 2, "output": 3, "postrouting": 4}
NFPROTOS = {"ipv4": 2, "ipv6": 10}
PROTOS = {"icmp": 1, "tcp": 6, "udp": 17, "dccp": 33, "icmpv6": 58, "sctp": 132, "udplite": 136}
CT_STATES = {"invalid": 1, "established": 2, "related": 4, "new": 8, "untracked": 64}
CT_STATUSES = {"expected": 1, "seen-reply": 2, "assured": 4, "confirmed": 8, "snat": 16, "dnat": 32, "dying": 512}
FIB_TYPES = {"unicast": 1, "local": 2, "broadcast": 3, "anycast": 4, "multicast": 5, "blackhole": 6, "unreachable": 7}

ETHERTYPES = {"ip": 0x0800, "arp": 0x0806, "ip6": 0x86DD}

DROP, ACCEPT = 0, 1
JUMP, GOTO, RETURN = -3, -4, -5

SET_ANONYMOUS, SET_CONSTANT, SET_INTERVAL, SET_MAP, SET_CONCAT = 1, 2, 4, 8, 0x80
ELEMENT_END = 1

SNAT, DNAT = 0, 1

FIRST_REGISTER = 8
"""NFT_REG32_00; the registers of four bytes go on from here. 1 to 4 are older names for every fourth of them."""

TYPES = {
    "nf_proto": (2, 1),
    "ipv4_addr": (7, 4),
    "ipv6_addr": (8, 16),
    "ether_addr": (9, 6),
    "inet_proto": (12, 1),
    "inet_service": (13, 2),
    "ifname": (41, 16),
    "turn": (4, 4),
}
"""Type of a set's field: its number, by which nft(8) prints elements (src/datatype.c there), and its bytes."""

TYPE_OF_CODE = {code: name for name, (code, _) in TYPES.items()}

LENGTH = {name: length for name, (_, length) in TYPES.items()} | {
    "ct_state": 4,
    "ct_status": 4,
    "mark": 4,
    "fib_addrtype": 4,
    "ether_type": 2,
    "icmpv6_type": 1,
    "verdict": 16,
}

VERDICT = 0xFFFFFF00
"""Type of a map's data that is a verdict (NFT_DATA_VERDICT); its length is that of struct nft_verdict."""

LINK_HEADER, NETWORK_HEADER, TRANSPORT_HEADER = 0, 1, 2

FIELDS: dict[str, tuple[str, tuple[int, ...], str]] = {
    "mark": ("meta", (3,), "mark"),
    "iifname": ("meta", (6,), "ifname"),
    "oifname": ("meta", (7,), "ifname"),
    "nfproto": ("meta", (15,), "nf_proto"),
    "l4proto": ("meta", (16,), "inet_proto"),
    "iifkind": ("meta", (26,), "ifname"),
    "oifkind": ("meta", (27,), "ifname"),
    "ip saddr": ("payload", (NETWORK_HEADER, 12), "ipv4_addr"),
    "ip daddr": ("payload", (NETWORK_HEADER, 16), "ipv4_addr"),
    "ip6 saddr": ("payload", (NETWORK_HEADER, 8), "ipv6_addr"),
    "ip6 daddr": ("payload", (NETWORK_HEADER, 24), "ipv6_addr"),
    "th sport": ("payload", (TRANSPORT_HEADER, 0), "inet_service"),
    "th dport": ("payload", (TRANSPORT_HEADER, 2), "inet_service"),
    "ct state": ("ct", (0,), "ct_state"),
    "ct status": ("ct", (2,), "ct_status"),
    "fib daddr type": ("fib", (3, 2), "fib_addrtype"),
    "turn": ("numgen", (TURNS, 0, 0), "turn"),
    "protocol": ("meta", (1,), "ether_type"),
    "ether saddr": ("payload", (LINK_HEADER, 6), "ether_addr"),
    "arp saddr ether": ("payload", (NETWORK_HEADER, 8), "ether_addr"),
    "arp saddr ip": ("payload", (NETWORK_HEADER, 14), "ipv4_addr"),
    "icmpv6 type": ("payload", (TRANSPORT_HEADER, 0), "icmpv6_type"),
    "icmpv6 taddr": ("payload", (TRANSPORT_HEADER, 8), "ipv6_addr"),
}
"""Field of a rule: the expression that loads it, its arguments, its type.

meta, ct: the key. payload: header and offset in bytes. fib: result (address type) and flags (destination).
numgen: modulus, type (incremental) and offset.
"""

PLACES_SHARED = {"arp": ("arp saddr ip", "arp saddr ether"), "icmpv6": ("icmpv6 type", "icmpv6 taddr")}
"""Fields that lie where others do; a test of what the packet carries, before them, tells which is meant."""

_SHARED = [field for fields in PLACES_SHARED.values() for field in fields]
FIELD_OF_LOAD = {(name, arguments): field for field, (name, arguments, _) in FIELDS.items() if field not in _SHARED}
FIELD_BEHIND = {carried: {FIELDS[field][:2]: field for field in fields} for carried, fields in PLACES_SHARED.items()}


TYPEOF = {
    "inet_proto": (9, (16,)),
    "inet_service": (7, (11, 2)),
    "turn": (23, (0, TURNS, 0)),
    "ipv4_addr": (7, (12, 12)),
    "ipv6_addr": (7, (13, 9)),
}
"""How nft(8) notes which expression a set's field is compared with, where the type alone doesn't say ("integer").

Its number of the expression (include/expression.h: meta, payload, numgen) and what the expression notes: a key; a
header and its field (include/proto.h); type, modulus and offset.
"""


def words(kind: str) -> int:
    """Registers (and, in a concatenation, four-byte words) a value of that type takes."""
    return LENGTH[kind] + 3 >> 2


def type_code(kinds: Sequence[str]) -> int:
    """The number of a type, six bits a field."""
    code = 0
    for kind in kinds:
        code = code << 6 | TYPES[kind][0]
    return code


def type_length(kinds: Sequence[str]) -> int:
    """Bytes of a key; in a concatenation every field is padded to four."""
    return LENGTH[kinds[0]] if len(kinds) == 1 else sum([4 * words(kind) for kind in kinds])


FAMILY_TEST = {"ip": "ipv4", "ip6": "ipv6"}
"""What a table of both families asks of nfproto before a field of one."""


def family_of(field: str) -> str:
    """``ip`` or ``ip6`` for a field that only such a packet has, else empty."""
    first = field.split(" ", 1)[0]
    return first if first in ("ip", "ip6") else ""


def pack_value(kind: str, value: Any) -> bytes:
    """A value of that type as the kernel compares it, without padding. KernelError (EINVAL) when it doesn't fit."""
    length = LENGTH[kind]
    try:
        if kind == "ifname":
            raw: bytes = value.encode()
            if len(raw) >= length:
                raise ValueError(f"{value!r} is longer than {length - 1} bytes")
            return raw.ljust(length, b"\0")
        if kind in ("ipv4_addr", "ipv6_addr"):
            if len(value.packed) != length:
                raise ValueError(f"{value} is no {kind}")
            return bytes(value.packed)
        if kind == "inet_service":
            return int(value).to_bytes(2, "big")
        if kind == "ether_addr":
            return _mac(value)
        if kind == "ether_type":
            return ETHERTYPES[value].to_bytes(2, "big")
        if kind == "icmpv6_type":
            return bytes((value,))
        if kind == "inet_proto":
            return bytes((PROTOS[value] if value in PROTOS else int(value),))
        if kind == "nf_proto":
            return bytes((NFPROTOS[value],))
        if kind == "fib_addrtype":
            return native(FIB_TYPES[value])
        if kind == "turn":
            return native(int(value))
        return native(bits(kind, value) if kind != "mark" else value)
    except (ValueError, KeyError, AttributeError, OverflowError, TypeError) as err:
        raise KernelError(f"{value!r} can't be a value of type {kind}: {err}", errno=errno.EINVAL) from err


def unpack_value(kind: str, raw: bytes) -> Any:
    """The value behind what `pack_value` gave; numbers without a name come as their digits."""
    if kind == "ifname":
        return raw.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
    if kind == "ipv4_addr":
        return IPv4Address(raw[:4])
    if kind == "ipv6_addr":
        return IPv6Address(raw[:16])
    if kind == "inet_service":
        return int.from_bytes(raw[:2], "big")
    if kind == "ether_addr":
        return raw[:6].hex(":")
    if kind == "ether_type":
        return _ETHERTYPE_NAMES.get(int.from_bytes(raw[:2], "big"), raw[:2].hex())
    if kind == "icmpv6_type":
        return raw[0]
    if kind == "inet_proto":
        return _PROTO_NAMES.get(raw[0], str(raw[0]))
    if kind == "nf_proto":
        return _NFPROTO_NAMES.get(raw[0], str(raw[0]))
    number = from_native(raw[:4])
    if kind == "fib_addrtype":
        return _FIB_NAMES.get(number, str(number))
    return number


def _mac(value: str) -> bytes:
    raw = bytes.fromhex(value.replace(":", ""))
    if len(raw) != 6:
        raise ValueError("a MAC has six bytes")
    return raw


def bits(kind: str, names: tuple[str, ...]) -> int:
    """The bits of these conntrack states or statuses."""
    table = CT_STATES if kind == "ct_state" else CT_STATUSES
    return sum({table[name] for name in names})


def bit_names(kind: str, number: int) -> tuple[str, ...]:
    """The names of the bits that are set, lowest first."""
    table = CT_STATES if kind == "ct_state" else CT_STATUSES
    return tuple(name for name, bit in table.items() if number & bit)


def network(kind: str, first: bytes, length: int) -> IPv4Network | IPv6Network:
    """The network of that type that begins at an address."""
    if kind == "ipv4_addr":
        return IPv4Network((first, length))
    return IPv6Network((first, length))


def native(number: int) -> bytes:
    """Four bytes in the machine's order, as marks and conntrack bits are kept in registers."""
    return number.to_bytes(4, ORDER)


def from_native(raw: bytes) -> int:
    """Reverse `native`."""
    return int.from_bytes(raw, ORDER)


def _byte_order() -> str:
    from sys import byteorder

    return byteorder


ORDER: Any = _byte_order()
_PROTO_NAMES = {number: name for name, number in PROTOS.items()}
_NFPROTO_NAMES = {number: name for name, number in NFPROTOS.items()}
_ETHERTYPE_NAMES = {number: name for name, number in ETHERTYPES.items()}
_FIB_NAMES = {number: name for name, number in FIB_TYPES.items()}
