"""What is to be traced, and what the kernel tells of it: patterns of packets, and the rules that such packets met."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from nsbridge.firewall.packet import PROTOS
from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.state.things import Address_

NAME = "nsbridge_trace"
"""How the names of a tracer's tables begin; the process's number and a count follow."""

FIRST, LAST = ("prerouting", "output"), ("input", "postrouting")
"""Hooks at which a tracer's own chains stand: before all others to begin the trace, after all others to see who is
left. They bear the names of their hooks."""

ECHO = {8: 0, 128: 129}
"""Types of echo requests, and of the replies to them."""


class Watch(Value):
    """Packets to be traced, in one direction. None, or no addresses, stand for any.

    proto: tcp, udp, icmp or icmpv6. Of an echo, sport is its id and dport its type.
    """

    proto: str
    saddr: Address_ | None = None
    daddr: Address_ | None = None
    sport: int | None = None
    dport: int | None = None

    @property
    def turned(self) -> Watch:
        """The answers to such packets."""
        if self.proto in ("icmp", "icmpv6"):
            return Watch(self.proto, self.daddr, self.saddr, self.sport, ECHO.get(self.dport or 0))
        return Watch(self.proto, self.daddr, self.saddr, self.dport, self.sport)


class Event(Value):
    """One event of the kernel's trace, of a packet whose headers are known.

    kind: ``rule``, ``policy``, ``return``. base: the base chain that it is in or came from. saddr to dport: of the
    packet when that chain began with it, None where it has none. flags: of tcp. iif, oif: numbers of links.
    run: numbers each packet's way through a base chain, of one namespace.
    """

    netns: str
    family: str
    table: str
    chain: str
    base: str
    kind: str
    verdict: str
    handle: int
    saddr: Address_
    daddr: Address_
    proto: str
    sport: int | None = None
    dport: int | None = None
    flags: int = 0
    iif: int = 0
    oif: int = 0
    run: int = 0


class Blind(Value):
    """A family of tables whose rules couldn't be traced in a namespace, and the kernel's reason."""

    netns: str
    family: str
    why: str


class Headers(Value):
    """Headers of a packet. Of an echo, sport is its id and dport its type."""

    saddr: Address_
    daddr: Address_
    proto: str
    sport: int | None = None
    dport: int | None = None
    flags: int = 0


_NAMES = {number: name for name, number in PROTOS.items()}


def headers(network: bytes, transport: bytes) -> Headers | None:
    """Read the first bytes of an IP packet and of what it carries; None for anything else."""
    if len(network) >= 20 and network[0] >> 4 == 4:
        source, target = IPv4Address(network[12:16]), IPv4Address(network[16:20])
        return _headers(source, target, network[9], transport)
    if len(network) >= 40 and network[0] >> 4 == 6:
        return _headers(IPv6Address(network[8:24]), IPv6Address(network[24:40]), network[6], transport)
    return None


def _headers(source: Address_, target: Address_, number: int, data: bytes) -> Headers:
    proto = _NAMES.get(number, str(number))
    if proto in ("tcp", "udp") and len(data) >= 4:
        ports = int.from_bytes(data[:2], "big"), int.from_bytes(data[2:4], "big")
        return Headers(source, target, proto, *ports, data[13] if proto == "tcp" and len(data) > 13 else 0)
    if proto in ("icmp", "icmpv6") and len(data) >= 6 and data[0] in (*ECHO, *ECHO.values()):
        return Headers(source, target, proto, int.from_bytes(data[4:6], "big"), data[0])
    return Headers(source, target, proto)
