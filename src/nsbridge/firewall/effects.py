"""What a statement does to a packet, and how NAT rewrites: the packet after, in every way it may come out.

NAT works on the connection: what is decided for its first packet is kept as the tuple that answers are expected
with, and each packet, in either direction, is rewritten to fit. So does `translated` (nf_nat_packet in
net/netfilter/nf_nat_core.c).
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

from nsbridge.firewall.fields import FIELD_PLACES, ORDER
from nsbridge.firewall.packet import Ct, Flow
from nsbridge.firewall.reads import Conn, HeaderBytes, Meta, Option
from nsbridge.firewall.sources import possible
from nsbridge.firewall.view import MISSING, ones

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.firewall.packet import Address, Packet
    from nsbridge.firewall.reads import Source
    from nsbridge.firewall.seen import Assign, Rewrite
    from nsbridge.firewall.view import Bits, View

PORTS = ("tcp", "udp", "sctp", "dccp", "udplite")
SOURCE_HOOKS = ("postrouting", "input")
_MOST = 16
_HARMLESS = ("nftrace", "secmark", "rtclassid", "cgroup", "label", "event", "broute")


# ------------------------------------------------------------------ setting marks and fields


def assigned(part: Assign, view: View) -> list[tuple[Packet, str]]:
    """The packet after, in each way; with words for what nobody can say."""
    packet = view.packet
    to = part.to
    if isinstance(to, (Meta, Conn)) and to.key in _HARMLESS:
        return [(packet, "")]
    options = [one for one in possible(part.of, view) if one is not MISSING]
    if isinstance(to, HeaderBytes):
        return [(_written(to, one, packet), "") for one in options]
    if isinstance(to, Conn) and packet.connected is (to.key == "zone"):
        # A connection that isn't known yet has no mark; one that is keeps its zone (net/netfilter/nft_ct.c).
        return [(packet, "")] if options else []
    return [_set(to, one, packet) for one in options]


def _set(to: object, bits: Bits, packet: Packet) -> tuple[Packet, str]:
    value, known, size = bits
    number = int.from_bytes(value.to_bytes(size, "big"), ORDER) if known == ones(size) else None
    if isinstance(to, Meta) and to.key in ("mark", "priority"):
        return packet.replace(**{to.key: number}), ""
    if isinstance(to, Meta) and to.key == "pkttype" and number is not None:
        return packet.replace(pkttype=("host", "broadcast", "multicast", "other")[number & 3]), ""
    if isinstance(to, Conn) and to.key == "mark":
        return packet.replace(ct=packet.ct.replace(mark=number)), ""
    if isinstance(to, Conn) and to.key == "zone" and number is not None:
        return packet.replace(ct=packet.ct.replace(zone=number)), ""
    what = getattr(to, "key", "an option")
    return packet, "" if isinstance(to, Option) else f"sets {what} to something that nobody can foresee"


def _written(to: HeaderBytes, bits: Bits, packet: Packet) -> Packet:
    """The packet with the fields written that lie in these bytes: nft writes some together with their neighbours."""
    value, known, size = bits
    for name, (base, offset, width, _) in FIELD_PLACES.items():
        owner, _, field = name.partition(" ")
        inside = base == to.base and to.offset <= offset and offset + width <= to.offset + size
        if not inside or owner not in (packet.family, packet.proto) or field not in _FIELDS:
            continue
        shift = 8 * (to.offset + size - offset - width)
        raw = (value >> shift & ones(width)).to_bytes(width, "big")
        sure = known >> shift & ones(width) == ones(width)
        if field in ("saddr", "daddr"):
            packet = packet.replace(**{field: ip_address(raw)}) if sure else packet
        else:
            packet = packet.replace(**{_FIELDS[field]: int.from_bytes(raw, "big") if sure else None})
    return packet


_FIELDS = {
    "saddr": "saddr", "daddr": "daddr", "sport": "sport", "dport": "dport", "ttl": "ttl", "hoplimit": "ttl",
    "length": "length",
}  # fmt: skip
"""Fields of headers that a `Packet` has; others that are written no rule tells from what they were."""


# ------------------------------------------------------------------ NAT


def tracked(packet: Packet) -> Packet:
    """The packet once conntrack has seen it: a first packet's connection gets its two tuples."""
    ct = packet.ct
    if packet.tracked or ct.state in ("untracked", "invalid") or ct.origin is not None:
        return packet.replace(tracked=True)
    sport, dport = packet.sport, packet.dport
    origin = Flow(packet.saddr, packet.daddr, sport, dport)
    answer = Flow(packet.daddr, packet.saddr, dport, sport)
    if ct.reply:
        origin, answer = answer, origin
    return packet.replace(tracked=True, ct=ct.replace(origin=origin, answer=answer))


def translated(packet: Packet, hook: str) -> Packet:
    """The packet as its connection's rewriting makes it at this hook."""
    ct = packet.ct
    if ct.origin is None or ct.answer is None:
        return packet
    source = hook in SOURCE_HOOKS
    status = ("dnat" if source else "snat") if ct.reply else ("snat" if source else "dnat")
    if status not in ct.status:
        return packet
    other = ct.origin if ct.reply else ct.answer
    if source:
        return packet.replace(saddr=other.daddr, sport=other.dport if packet.proto in PORTS else packet.sport)
    return packet.replace(daddr=other.saddr, dport=other.sport if packet.proto in PORTS else packet.dport)


def settled(
    packet: Packet, kind: str, address: Address | None = None, port: int | None = None, *, mapped: bool = False
) -> Packet:
    """The packet with its connection's rewriting of that kind decided; nothing given: it stays as it is.

    mapped: by a prefix. Such a connection has the status of a rewritten one even where its address maps onto itself
    (seen on 6.18), any other only if something of it changes.
    """
    ct = packet.ct
    if kind in ct.settled or ct.origin is None or ct.answer is None:
        return packet
    answer = ct.answer
    if kind == "dnat":
        after = answer.replace(saddr=address or answer.saddr, sport=port if port is not None else answer.sport)
    else:
        after = answer.replace(daddr=address or answer.daddr, dport=port if port is not None else answer.dport)
    changes = after != answer or mapped
    status = (*ct.status, kind) if changes and kind not in ct.status else ct.status
    return packet.replace(ct=ct.replace(answer=after, status=status, settled=(*ct.settled, kind)))


def rewritten(part: Rewrite, view: View) -> list[tuple[Packet | None, str, str]]:
    """The packet after a NAT statement: in each way, what it did and what nobody can say. None: it is dropped."""
    kind = "snat" if part.kind in ("snat", "masquerade") else "dnat"
    packet = view.packet
    if kind in packet.ct.settled:
        return [(packet, part.kind, "")]
    found: list[tuple[Packet | None, str, str]] = []
    addresses = _addresses(part, view)
    ports = _ports(part, view)
    if addresses == [] or ports == []:
        return []
    for address, doubt in addresses:
        if address is None and part.kind == "redirect" and not doubt:
            found.append((None, part.kind, ""))
            continue
        for port, more in ports:
            after = translated(settled(packet, kind, address, port, mapped=part.prefix), view.hook)
            found.append((after, _told(part, after, address, port), doubt or more))
    return found


def _told(part: Rewrite, after: Packet, address: Address | None, port: int | None) -> str:
    if part.kind == "masquerade":
        return f"masquerade as {after.saddr}"
    if address is None and port is None:
        return part.kind
    shown = f"[{address}]" if isinstance(address, IPv6Address) and port is not None else str(address or "")
    return f"{part.kind} to {shown}{f':{port}' if port is not None else ''}"


def _addresses(part: Rewrite, view: View) -> list[tuple[Address | None, str]]:
    """Addresses it may take, None for none of its own; beside each, a doubt."""
    packet, version = view.packet, 6 if view.packet.family == "ip6" else 4
    if part.kind == "masquerade":
        source = view.around.source_for(view.oif, packet.daddr)
        return [(source, "" if source is not None else f"the address of {view.oif or 'the way out'} isn't known")]
    if part.kind == "redirect":
        if view.hook == "output":
            return [(IPv4Address("127.0.0.1") if version == 4 else IPv6Address("::1"), "")]
        own = view.around.primary(view.iif, version)
        return [(own, "" if own is not None else f"the address of {view.iif} isn't known")]
    if part.address is None:
        return [(None, "")]
    firsts = _numbers(part.address, view)
    if firsts is None:
        return [(None, "the address isn't known")]
    lasts = _numbers(part.address_last, view) if part.address_last is not None else firsts
    return _spread(part, firsts, lasts, packet, version)


def _spread(
    part: Rewrite, firsts: list[int], lasts: list[int] | None, packet: Packet, version: int
) -> list[tuple[Address | None, str]]:
    make = IPv6Address if version == 6 else IPv4Address
    if part.prefix and lasts:
        old = int(packet.daddr if part.kind == "dnat" else packet.saddr)
        hosts = firsts[0] ^ lasts[0]
        return [(make(firsts[0] & ~hosts | old & hosts), "")]
    if lasts and lasts != firsts and lasts[0] - firsts[0] < _MOST:
        firsts = list(range(firsts[0], lasts[0] + 1))
    elif lasts != firsts:
        return [(make(firsts[0]), f"any address up to {make(lasts[0]) if lasts else '?'} may be taken")]
    return [(make(number), "") for number in firsts]


def _ports(part: Rewrite, view: View) -> list[tuple[int | None, str]]:
    """Ports it may take, None to keep the packet's; beside each, a doubt."""
    packet = view.packet
    if part.port is None or packet.proto not in PORTS:
        return [(None, "")]
    firsts = _numbers(part.port, view)
    if firsts is None:
        return [(None, "the port isn't known")]
    lasts = _numbers(part.port_last, view) if part.port_last is not None else firsts
    if not firsts or not lasts or lasts == firsts:
        return [(one, "") for one in firsts]
    own = packet.sport if part.kind in ("snat", "masquerade") else packet.dport
    if own is not None and firsts[0] <= own <= lasts[0]:
        return [(own, "")]
    return [(firsts[0], f"any port from {firsts[0]} to {lasts[0]} may be taken")]


def _numbers(of: Source, view: View) -> list[int] | None:
    """Distinct values it may have; none when there is nothing to read, None when nobody can say."""
    found: list[int] = []
    for one in possible(of, view):
        if one is MISSING:
            continue
        value, known, size = one
        if known != (1 << 8 * size) - 1:
            return None
        if value not in found:
            found.append(value)
    return found


def untracked(ct: Ct) -> Ct:
    """The same without a conntrack entry."""
    return ct.replace(state="untracked", origin=None, answer=None)
