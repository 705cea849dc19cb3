"""The way of a packet as the few stops that a picture has room for: where it enters, is rewritten, and ends."""

from __future__ import annotations

from itertools import groupby

from nsbridge.explain.hooks import discovers
from nsbridge.explain.path import ARRIVES, LEFT
from nsbridge.explain.picture import WORLD, Stop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsbridge.explain.path import Hop, Path
    from nsbridge.firewall.packet import Packet


def _said(packet: Packet) -> str:
    return f"{packet.of} → {packet.to}"


def _link(hops: Sequence[Hop]) -> str:
    """The interface by which it leaves a namespace, or came into it."""
    leaving = [hop.packet.oif for hop in hops if hop.packet.oif]
    coming = [hop.packet.iif for hop in hops if hop.packet.iif]
    return leaving[-1] if leaving else coming[0] if coming else ""


def stops(path: Path) -> tuple[Stop, ...]:
    """Return the stops of a packet on its way there: one for each namespace that it comes to, and for each rewrite."""
    question, out = path.question, path.out
    packet = question.packet
    found: list[Stop] = []
    if question.start is None:
        found.append(Stop(WORLD, _said(packet), packet.proto))
    own = [hop for hop in out.hops if not discovers(hop.packet)]
    for at, group in groupby(own, key=lambda hop: hop.netns):
        hops = tuple(group)
        link, some = _link(hops), []
        if not found:
            some.append(Stop(at, _said(packet), packet.proto, link))
        for hop in hops:
            if _said(hop.packet) != _said(packet):
                some.append(Stop(at, _said(hop.packet), hop.why or hop.stage, link))
            packet = hop.packet
        found += some or [Stop(at, _said(packet), "", link)]
    return (*found[:-1], *_end(path, found[-1])) if found else ()


def _end(path: Path, last: Stop) -> tuple[Stop, ...]:
    """The last stop and what becomes of the packet there."""
    out = path.out
    if out.fate == LEFT:
        return last, Stop(WORLD, _said(out.packet), "left")
    if out.fate == ARRIVES:
        arrives = f"arrives at {out.to}" if out.to else "arrives"
        return (last.replace(why=f"{last.why}; {arrives}" if last.why else arrives),)
    why = path.culprit.why if path.culprit is not None else "nobody takes it"
    return last, Stop(out.netns, out.fate, why, last.link)
