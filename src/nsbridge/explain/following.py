"""One flow among the kernel's events: what to watch for, and what of it is the first packet and the answer."""

from __future__ import annotations

from nsbridge.explain.hooks import discovers
from nsbridge.firewall.tracing import ECHO, Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsbridge.explain.path import Path
    from nsbridge.firewall.packet import Packet
    from nsbridge.firewall.tracing import Event
    from nsbridge.state.things import Address_

_SYN, _RST, _ACK = 2, 4, 16


def _packets(path: Path) -> list[Packet]:
    legs = (path.out, path.back) if path.back is not None else (path.out,)
    packets = [hop.packet for leg in legs for hop in leg.hops]
    return [path.question.packet, *(packet for packet in packets if not discovers(packet))]


def watches(path: Path, port: int) -> tuple[Watch, ...]:
    """Packets of a probe, both ways: with its port, from or to any address on the path, rewritten or not."""
    packet = path.question.packet
    ends = dict.fromkeys(one for each in _packets(path) for one in (each.saddr, each.daddr) if int(one))
    found = []
    for end in ends:
        for watch in (
            Watch(packet.proto, saddr=end, sport=port, dport=packet.icmp_type),
            Watch(packet.proto, daddr=end, sport=port, dport=packet.icmp_type),
        ):
            found += [watch, watch.turned]
    return tuple(dict.fromkeys(found))


def awaited(path: Path, source: Address_ | None) -> tuple[Watch, ...]:
    """Packets like the one asked about, both ways, from whatever port. source: None for anybody's."""
    packet = path.question.packet
    there = [packet, *(hop.packet for hop in path.out.hops if not discovers(hop.packet))]
    aims = dict.fromkeys((one.daddr, one.dport) for one in there)
    sources: dict[Address_ | None, None] = dict.fromkeys(one.saddr for one in there if int(one.saddr))
    found = []
    for saddr in sources if source is not None else (None,):
        for daddr, dport in aims:
            kind = packet.icmp_type if packet.icmp_type is not None else dport
            watch = Watch(packet.proto, saddr, daddr, None, kind)
            found += [watch, watch.turned]
    return tuple(dict.fromkeys(found))


def asks(event: Event, path: Path) -> bool:
    """Tell whether an event is of a packet like the one asked about, at the start of its way."""
    packet = path.question.packet
    if packet.icmp_type is not None:
        return event.dport == packet.icmp_type
    return event.dport == packet.dport and event.daddr == packet.daddr and _first(event, back=False)


# ------------------------------------------------------------------ the events of one flow


def _first(event: Event, *, back: bool) -> bool:
    """Of TCP only the packets that begin a connection are followed: the later ones meet other rules."""
    if event.proto != "tcp":
        return True
    if back:
        return event.flags & _ACK != 0 and event.flags & (_SYN | _RST) != 0
    return event.flags & (_SYN | _ACK) == _SYN


def _goes_back(event: Event, port: int) -> bool | None:
    if event.proto in ("icmp", "icmpv6"):
        return None if event.sport != port else event.dport in ECHO.values()
    return False if event.sport == port else True if event.dport == port else None


def directions(events: Iterable[Event], port: int) -> tuple[list[Event], list[Event]]:
    """Return the events of the flow's first packet, and of the first that answers it.

    What was sent again comes to the same chains in the same way, and is left out.
    """
    ways: tuple[list[Event], list[Event]] = ([], [])
    known: dict[tuple[object, ...], int] = {}
    for one in events:
        back = _goes_back(one, port)
        if back is None or not _first(one, back=back):
            continue
        tuple_ = (one.saddr, one.daddr, one.sport, one.dport)
        way = (one.netns, one.family, one.table, one.base, one.iif, one.oif, *tuple_)
        if known.setdefault(way, one.run) == one.run:
            ways[back].append(one)
    return ways
