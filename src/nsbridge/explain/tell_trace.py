"""A prediction beside the kernel's trace, in words for 100 columns, and as data for --json.

The client's port is different each time, so the words leave it out: what is the same reads the same.
"""

from __future__ import annotations

from itertools import groupby

from nsbridge.explain import tell
from nsbridge.explain.compare import BOTH, EXTRA, MISSING, OTHER
from nsbridge.explain.cures import called
from nsbridge.explain.hooks import discovers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from nsbridge.explain.compare import Compared, Comparison
    from nsbridge.firewall.packet import Packet

LEGEND = "= as predicted   - predicted, not met   + not predicted   ~ another verdict   (blank: can't be told)"

_PROBES = {
    "connected": "The probe connected",
    "answered": "The probe was answered",
    "refused": "The probe was refused",
    "unreachable": "The probe got an error",
    "not sent": "The probe wasn't even sent",
    "silence": "The probe heard nothing",
}


def probed(comparison: Comparison, said: str = "") -> str:
    """What the probe saw. said: the error."""
    if not comparison.outcome:
        return "Somebody's packet was followed."
    return f"{_PROBES[comparison.outcome]}{f': {said}' if said else ''}."


def verdict(comparison: Comparison) -> str:
    """Whether they agree."""
    count = len(comparison.differences)
    if count:
        return f"The kernel differs from what was predicted in {count} {'place' if count == 1 else 'places'}:"
    rules = f"{comparison.rules} {'rule' if comparison.rules == 1 else 'rules'}"
    if comparison.path.doubt:
        return f"The prediction had left it open; {rules} of it {'was' if comparison.rules == 1 else 'were'} met."
    if not comparison.rules:
        return "The kernel agrees: no rules were predicted, and none were met."
    return f"The kernel agrees: {rules} {'was' if comparison.rules == 1 else 'were'} predicted and met, in this order."


def lines(comparison: Comparison) -> Iterator[str]:
    """Yield the hops of both directions, namespace by namespace."""
    yield LEGEND
    yield ""
    yield from _leg(comparison.out, back=False)
    if comparison.back:
        yield ""
        yield "the answer:"
        yield from _leg(comparison.back, back=True)
    elif comparison.path.back is not None:
        yield ""
        yield "the answer: none was seen"


def _leg(leg: tuple[Compared, ...], *, back: bool) -> Iterator[str]:
    ends = ""
    for netns, group in groupby(leg, key=lambda one: one.netns):
        yield called(netns)
        for one in group:
            yield _line(one)
            if one.packet is not None and not discovers(one.packet):
                before, ends = ends, _ends(one.packet, back=back)
                if before not in ("", ends):
                    yield f"  {'':{tell.STAGE}} now {ends}"


def _ends(packet: Packet, *, back: bool) -> str:
    """Source and destination, without the client's port."""
    if packet.icmp_type is not None:
        return f"{packet.saddr} → {packet.daddr}"
    if back:
        return f"{packet.of} → {packet.daddr}"
    return f"{packet.saddr} → {packet.to}"


def _line(one: Compared) -> str:
    return tell.line(one.thing, _verdict(one), one.why, f"{one.mark} {one.stage:<{tell.STAGE}} ")


def _verdict(one: Compared) -> str:
    if one.mark == OTHER:
        return f"{one.predicted} predicted, {one.kernel} met"
    if one.mark == EXTRA:
        return one.kernel
    return tell.says(one.thing, one.predicted)


# as data


def _record(one: Compared) -> dict[str, Any]:
    words = {BOTH: "as predicted", MISSING: "not met", EXTRA: "not predicted", OTHER: "another verdict"}
    return {
        "netns": one.netns,
        "stage": one.stage,
        "thing": one.thing,
        "predicted": one.predicted,
        "kernel": one.kernel,
        "mark": words.get(one.mark, "can't be told"),
        "why": one.why,
    }


def record(comparison: Comparison, source: str, said: str = "", took_s: float | None = None) -> dict[str, Any]:
    """All of it, as --json prints it."""
    probe = None
    if comparison.outcome:
        probe = {"outcome": comparison.outcome, "said": said, "took_s": took_s}
    return {
        "says": tell.sentence(comparison.path, source),
        "agrees": comparison.agrees,
        "fate": comparison.path.fate,
        "probe": probe,
        "asked": tell.packet_record(comparison.path.question.packet),
        "rules": comparison.rules,
        "differences": list(comparison.differences),
        "way": [_record(one) for one in comparison.out],
        "back": [_record(one) for one in comparison.back],
        "untold": list(comparison.untold),
    }
