"""Bytes of a rule or element as nft(8) writes them: by the type of what they are compared with."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from nsbridge.firewall.fields import (
    CT_STATES,
    CT_STATUSES,
    FIB_TYPES,
    ORDER,
    TCP_FLAGS,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NATIVE = frozenset(
    (
        "mark", "number", "ct_state", "ct_status", "fib_addrtype", "ifindex", "uid", "gid", "devgroup", "realm",
        "classid", "time", "hour", "iface_type",
    )
)  # fmt: skip
"""Types whose numbers are in the machine's order."""

_PROTOS = {
    1: "icmp", 2: "igmp", 4: "ipencap", 6: "tcp", 17: "udp", 33: "dccp", 41: "ipv6", 47: "gre", 50: "esp", 51: "ah",
    58: "ipv6-icmp", 89: "ospf", 108: "ipcomp", 132: "sctp", 136: "udplite",
}  # fmt: skip
_ETHERTYPES = {0x0800: "ip", 0x0806: "arp", 0x86DD: "ip6", 0x8100: "8021q", 0x88A8: "8021ad"}
_ICMP = {
    0: "echo-reply", 3: "destination-unreachable", 4: "source-quench", 5: "redirect", 8: "echo-request",
    9: "router-advertisement", 10: "router-solicitation", 11: "time-exceeded", 12: "parameter-problem",
    13: "timestamp-request", 14: "timestamp-reply", 15: "info-request", 16: "info-reply",
    17: "address-mask-request", 18: "address-mask-reply",
}  # fmt: skip
_ICMPV6 = {
    1: "destination-unreachable", 2: "packet-too-big", 3: "time-exceeded", 4: "parameter-problem", 128: "echo-request",
    129: "echo-reply", 130: "mld-listener-query", 131: "mld-listener-report", 132: "mld-listener-done",
    133: "nd-router-solicit", 134: "nd-router-advert", 135: "nd-neighbor-solicit", 136: "nd-neighbor-advert",
    137: "nd-redirect", 138: "router-renumbering", 141: "ind-neighbor-solicit", 142: "ind-neighbor-advert",
    143: "mld2-listener-report",
}  # fmt: skip
_ICMP_CODES = {
    0: "net-unreachable", 1: "host-unreachable", 2: "prot-unreachable", 3: "port-unreachable", 4: "frag-needed",
    9: "net-prohibited", 10: "host-prohibited", 13: "admin-prohibited",
}  # fmt: skip
_NAMES: Mapping[str, Mapping[int, str]] = {
    "inet_proto": _PROTOS,
    "ether_type": _ETHERTYPES,
    "icmp_type": _ICMP,
    "icmpv6_type": _ICMPV6,
    "icmp_code": _ICMP_CODES,
    "nf_proto": {2: "ipv4", 10: "ipv6"},
    "fib_addrtype": {number: name for name, number in FIB_TYPES.items()},
    "pkt_type": {0: "host", 1: "broadcast", 2: "multicast", 3: "other"},
    "ct_dir": {0: "original", 1: "reply"},
    "arp_op": {1: "request", 2: "reply"},
    "iface_type": {1: "ether", 512: "ppp", 772: "loopback", 768: "ipip", 778: "ipgre", 776: "sit"},
    "day": dict(enumerate(("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"))),
    "boolean": {0: "missing", 1: "exists"},
}
_QUOTED = ("day", "ifname", "string")
_BITS = {"ct_state": CT_STATES, "ct_status": CT_STATUSES, "tcp_flag": TCP_FLAGS}


def number(kind: str, raw: bytes) -> int:
    """The number behind the bytes."""
    return int.from_bytes(raw, ORDER if kind in NATIVE else "big")


def text(kind: str, raw: bytes, *, turned: bool = False) -> str:
    """A value as nft(8) writes it. turned: bytes of a number are in the network's order, as in intervals."""
    if kind in ("ifname", "string"):
        name = raw.split(b"\0", 1)[0].decode("utf-8", "replace")
        return f'"{name}"' if b"\0" in raw or len(raw) == 16 else f'"{name}*"'
    if kind == "ipv4_addr":
        return str(IPv4Address(raw[:4]))
    if kind in ("ipv6_addr", "address"):
        return str(IPv6Address(raw[:16]) if len(raw) >= 16 else IPv4Address(raw[:4]))
    if kind == "ether_addr":
        return raw[:6].hex(":")
    value = int.from_bytes(raw, "big") if turned else number(kind, raw)
    if kind in _BITS:
        return flags(kind, value)
    if kind == "mark":
        return f"0x{value:08x}"
    if kind == "hex":
        return f"0x{value:x}"
    if kind == "classid":
        return f"{value >> 16:x}:{value & 0xFFFF:x}"
    if kind == "hour":
        return f'"{value // 3600:02}:{value // 60 % 60:02}"'
    name = _NAMES.get(kind, {}).get(value, str(value))
    return f'"{name}"' if kind in _QUOTED else name


def flags(kind: str, value: int) -> str:
    """``established,related``; several at once of a TCP header are joined by a bar."""
    found = [name for name, bit in _BITS[kind].items() if value & bit]
    return (" | " if kind == "tcp_flag" else ",").join(found) if found else f"0x{value:x}"


def span(kind: str, first: bytes, last: bytes) -> str:
    """An interval: a prefix where it is one, else its ends."""
    if first == last:
        return text(kind, first, turned=True)
    if kind in ("ipv4_addr", "ipv6_addr"):
        low, high = int.from_bytes(first, "big"), int.from_bytes(last, "big")
        hosts = low ^ high
        if hosts & (hosts + 1) == 0 and low & hosts == 0:
            return prefix(kind, first, 8 * len(first) - hosts.bit_length())
    return f"{text(kind, first, turned=True)}-{text(kind, last, turned=True)}"


def prefix(kind: str, first: bytes, length: int) -> str:
    """``10.0.0.0/8``."""
    make: Callable[[tuple[bytes, int]], object] = IPv4Network if kind == "ipv4_addr" else IPv6Network
    size = 4 if kind == "ipv4_addr" else 16
    return str(make((first.ljust(size, b"\0")[:size], length)))


def length_of(mask: bytes) -> int | None:
    """The length of the prefix that a mask takes, None for another mask."""
    bits = bin(int.from_bytes(mask, "big"))[2:].zfill(8 * len(mask)).rstrip("0")
    return None if "0" in bits else len(bits)
