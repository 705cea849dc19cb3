"""The headers of a packet as far as they are known: bytes, and beside each which of its bits are known.

A rule may ask for any bytes of a packet (``@th,0,16``), and even its named fields are bytes to the kernel. So a
packet is laid out once as it would be on the wire, and one piece of code answers them all. What no field of `Packet`
says (sequence numbers, checksums) is unknown.
"""

from __future__ import annotations

from nsbridge.firewall.fields import ETHERTYPES, TCP_FLAGS
from nsbridge.firewall.packet import proto_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.firewall.packet import Packet

_PORTS = ("tcp", "udp", "sctp", "dccp", "udplite")
_ADVERTISES = 136
"""The ICMPv6 type of a neighbour advertisement (RFC 4861 §4.4)."""

_NO_FRAGMENT = 0x3FFF


class Layout:
    """Bytes and their known bits, growing as fields are written."""

    def __init__(self, size: int) -> None:
        self.raw = bytearray(size)
        self.known = bytearray(size)

    def put(self, offset: int, raw: bytes, known: bytes = b"") -> None:
        """Write a field; known: which of its bits, all by default."""
        end = offset + len(raw)
        self.raw[offset:end] = raw
        self.known[offset:end] = known or b"\xff" * len(raw)

    def number(self, offset: int, size: int, value: int | None) -> None:
        """Write a number in network order, nothing when it isn't known."""
        if value is not None:
            self.put(offset, value.to_bytes(size, "big"))

    def part(self, offset: int, size: int) -> tuple[int, int]:
        """A field as a number and its known bits; what lies behind the layout is unknown."""
        raw = bytes(self.raw[offset : offset + size]).ljust(size, b"\0")
        known = bytes(self.known[offset : offset + size]).ljust(size, b"\0")
        return int.from_bytes(raw, "big"), int.from_bytes(known, "big")


def network(packet: Packet) -> Layout:
    """The IPv4 or IPv6 header without options."""
    if packet.family == "ip6":
        found = Layout(40)
        found.put(0, b"\x60\0", b"\xf0\0")
        found.number(4, 2, packet.length - 40 if packet.length is not None else None)
        found.number(6, 1, 44 if packet.fragment else proto_number(packet.proto))
        found.number(7, 1, packet.ttl)
        found.put(8, packet.saddr.packed)
        found.put(24, packet.daddr.packed)
        return found
    if packet.family != "ip":
        return arp(packet)
    found = Layout(20)
    found.put(0, b"\x45")
    found.number(2, 2, packet.length)
    found.put(6, b"\0\0", b"\0\0" if packet.fragment else _NO_FRAGMENT.to_bytes(2, "big"))
    found.number(8, 1, packet.ttl)
    found.number(9, 1, proto_number(packet.proto))
    found.put(12, packet.saddr.packed)
    found.put(16, packet.daddr.packed)
    return found


def arp(packet: Packet) -> Layout:
    """An ARP request from saddr for daddr."""
    found = Layout(28)
    found.put(0, bytes((0, 1, 8, 0, 6, 4)))
    if packet.ether_saddr:
        found.put(8, mac(packet.ether_saddr))
    found.put(14, packet.saddr.packed)
    found.put(24, packet.daddr.packed)
    return found


def transport(packet: Packet) -> Layout | None:
    """The header behind it, None when this fragment has none."""
    if packet.fragment or packet.family not in ("ip", "ip6"):
        return None
    found = Layout(20)
    if packet.proto in _PORTS:
        found.number(0, 2, packet.sport)
        found.number(2, 2, packet.dport)
    if packet.proto == "tcp":
        found.number(13, 1, sum([TCP_FLAGS[name] for name in packet.flags]))
    elif packet.proto == "udp" and packet.length is not None:
        found.number(4, 2, packet.length - (40 if packet.family == "ip6" else 20))
    elif packet.proto in ("icmp", "icmpv6"):
        found.number(0, 1, packet.icmp_type)
        found.number(1, 1, packet.icmp_code)
        if packet.icmp_type == _ADVERTISES:  # its sender's own address
            found.put(8, packet.saddr.packed)
    return found


def link(packet: Packet) -> Layout | None:
    """The Ethernet header, None for what a local socket sends: it has none yet."""
    if packet.local and not packet.ether_saddr:
        return None
    found = Layout(14)
    if packet.ether_daddr:
        found.put(0, mac(packet.ether_daddr))
    if packet.ether_saddr:
        found.put(6, mac(packet.ether_saddr))
    found.number(12, 2, ETHERTYPES.get(packet.family))
    return found


def mac(text: str) -> bytes:
    """A MAC's bytes."""
    return bytes.fromhex(text.replace(":", ""))
