"""A path in people's words: one sentence first, then the hops; and the same as data for --json."""

from __future__ import annotations

from itertools import groupby

from nsbridge.explain.cures import called
from nsbridge.explain.hooks import discovers
from nsbridge.explain.path import ARRIVES, LEFT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from nsbridge.explain.path import Culprit, Hop, Leg, Path
    from nsbridge.firewall.packet import Packet

WIDTH = 100
STAGE = 18
"""Columns of the longest: bridge postrouting."""

HEADER = ("WHERE", "STAGE", "WHAT", "VERDICT", "PACKET AFTERWARDS")


def _proto(packet: Packet) -> str:
    return "ping" if packet.icmp_type is not None else packet.proto


def asked(path: Path, source: str) -> str:
    """What was asked: ``a tcp connection from ns1 to 10.0.0.2:80``."""
    packet = path.question.packet
    what = {"tcp": "a tcp connection", "udp": "a udp packet", "ping": "a ping"}.get(_proto(packet), "a packet")
    return f"{what} from {source} to {packet.to}"


def _reached(path: Path) -> str:
    leg, question = path.out, path.question.packet
    name = leg.to.partition(" (")[0]
    whom = f" ({name})" if name else ""
    where = "in " + called(leg.netns) if leg.netns else "on the host"
    as_ = f" as {leg.packet.to}" if leg.packet.to != question.to else ""
    return f"arrives {where}{as_}{whom} and is seen to come from {leg.packet.saddr}"


def sentence(path: Path, source: str) -> str:
    """Whether it arrives, where and as whom; or who is to blame."""
    said = asked(path, source)
    said = said[0].upper() + said[1:]
    culprit = path.culprit
    if path.doubt:
        open_ = "; ".join(path.opaque)
        return f"Nobody can say whether {said[0].lower()}{said[1:]} arrives: it depends on {open_}."
    if path.fate == "answered":
        return f"{said} {_reached(path)}; the answer comes back."
    if path.fate == LEFT:
        return (
            f"{said} leaves {called(path.out.netns)} from {path.out.packet.saddr}: {path.out.to}. "
            "What becomes of it there can't be seen from here."
        )
    if path.fate == "no answer":
        why = culprit.why if culprit is not None else "it is lost on its way"
        if path.then is not None:
            return f"{said} {_reached(path)} and is answered, but what follows doesn't get through: {why}."
        return f"{said} {_reached(path)}, but the answer doesn't get back: {why}."
    verb = {"refused": "is refused", "dropped": "is dropped", "unsent": "isn't even sent"}.get(path.fate, "gets lost")
    if culprit is None:
        return f"{said} {verb}."
    where = called(culprit.netns)
    place = "" if where in culprit.why or not culprit.netns else f" (in {where})"
    return f"{said} {verb}: {culprit.why}{place}."


def guilty(culprit: Culprit) -> str:
    """The guilty thing, as its tool writes it."""
    return culprit.thing


def _changed(hop: Hop, before: Packet | None) -> str:
    packet = hop.packet
    if before is not None and (before.of, before.to, before.mark) == (packet.of, packet.to, packet.mark):
        return ""
    return _ends(packet)


def _ends(packet: Packet) -> str:
    mark = f" mark {packet.mark:#x}" if packet.mark else ""
    return f"{packet.of} → {packet.to}{mark}"


def rows(leg: Leg) -> list[tuple[str, str, str, str, str]]:
    """The hops as rows under `HEADER`; the packet only where it changed."""
    found = []
    before: Packet | None = None
    for hop in leg.hops:
        why = f"{hop.thing}  # {hop.why}" if hop.why and hop.why not in hop.thing else hop.thing
        found.append((called(hop.netns), hop.stage, why, hop.verdict, _changed(hop, before)))
        before = hop.packet
    return found


def lines(leg: Leg, width: int) -> Iterator[str]:
    """Yield the hops namespace by namespace, for a terminal that is too narrow for rows."""
    ends = ""
    for where, group in groupby(leg.hops, key=lambda hop: called(hop.netns)):
        yield where
        for hop in group:
            yield line(hop.thing, says(hop.thing, hop.verdict), hop.why, f"  {hop.stage:<{STAGE}} ", width)
            if not discovers(hop.packet):
                before, ends = ends, _ends(hop.packet)
                if before != ends:
                    yield wrapped(f"now {ends}" if before else ends, STAGE + 3, width=width)


def says(thing: str, verdict: str) -> str:
    """A verdict as lines have it, nothing where the packet merely goes on."""
    if thing == "conntrack" and verdict != "drop":
        return "rewritten"
    return "" if verdict in ("pass", "local", "deliver") else verdict


def line(thing: str, said: str, why: str, first: str, width: int = WIDTH) -> str:
    """Return the line of a hop, without what a rule has counted; its comment is the reason behind it."""
    from re import sub

    text = sub(r"counter packets \d+ bytes \d+", "counter", thing).replace(f' comment "{why}"', "")
    text += f" → {said}" if said and not text.endswith(f" {said}") else ""
    text += f"  # {why}" if why and why not in text else ""
    return wrapped(text, first=first, width=width)


def wrapped(text: str, indent: int = 0, *, first: str = "", width: int = WIDTH) -> str:
    """Return text in lines of so many columns, cut between words. first: what the first of them begins with."""
    from textwrap import fill

    first = first or " " * indent
    return fill(
        text,
        width,
        initial_indent=first,
        subsequent_indent=" " * (len(first) + 2),
        break_long_words=False,
        break_on_hyphens=False,
    )


# as data


def packet_record(packet: Packet) -> dict[str, Any]:
    """A packet, as --json prints it."""
    return {
        "source": str(packet.saddr),
        "source_port": packet.sport if packet.icmp_type is None else None,
        "destination": str(packet.daddr),
        "destination_port": packet.dport,
        "protocol": packet.proto,
        "mark": packet.mark,
    }


def _leg(leg: Leg | None) -> dict[str, Any] | None:
    if leg is None:
        return None
    return {
        "fate": leg.fate,
        "netns": leg.netns,
        "to": leg.to,
        "packet": packet_record(leg.packet),
        "hops": [
            {
                "netns": hop.netns,
                "stage": hop.stage,
                "thing": hop.thing,
                "verdict": hop.verdict,
                "why": hop.why,
                "packet": packet_record(hop.packet),
            }
            for hop in leg.hops
        ],
    }


def record(path: Path, source: str) -> dict[str, Any]:
    """All of it, as --json prints it."""
    culprit = path.culprit
    return {
        "says": sentence(path, source),
        "arrives": path.arrives,
        "fate": path.fate,
        "asked": packet_record(path.question.packet),
        "culprit": None
        if culprit is None
        else {
            "kind": culprit.kind,
            "netns": culprit.netns,
            "thing": culprit.thing,
            "why": culprit.why,
            "fix": list(culprit.fix),
            "advice": culprit.advice,
        },
        "way": _leg(path.out),
        "back": _leg(path.back),
        "opaque": list(path.opaque),
        "assumed": list(path.assumed),
        "notes": list(path.notes),
    }


def arrived(path: Path) -> bool:
    """Tell whether a script may go on: it is answered, or left in good order."""
    return not path.doubt and (path.fate == "answered" or path.out.fate == LEFT) and path.out.fate in (ARRIVES, LEFT)
