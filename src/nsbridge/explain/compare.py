"""A path as it was predicted beside the kernel's own trace of it: rule by rule, differences marked.

In each namespace, the rules that were to be met and those that were are two lists, which are aligned as diff(1) aligns
lines. What isn't a rule (a route, a neighbour, a veth pair) isn't traced by any kernel; but the tracer's own chains
tell where the packet came in, was delivered or left, and the addresses it had then.
"""

from __future__ import annotations

from nsbridge.explain.cures import called
from nsbridge.explain.following import directions
from nsbridge.explain.hooks import discovers, loud, place
from nsbridge.explain.path import ARRIVES, DROPPED, LOST, REFUSED, UNSENT
from nsbridge.firewall.tracing import NAME
from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from nsbridge.explain.path import Leg, Path
    from nsbridge.firewall.evaluate import Met
    from nsbridge.firewall.packet import Packet
    from nsbridge.firewall.tracing import Blind, Event
    from nsbridge.state.things import Address_

    Where = tuple[int, ...]
    Namer = Callable[[Event], tuple[str, str, str]]

BOTH, MISSING, EXTRA, OTHER, UNTOLD = "=", "-", "+", "~", " "
"""Marks: predicted and so it was; predicted, but not so; not predicted; met with another verdict; nobody can tell."""

_REWRITES = ("dnat", "snat", "masquerade", "redirect", "netmap")
_LEAVES = ("neighbour", "veth", "link")
_ENDS = ("socket", "icmp", "conntrack")

_RANKS = {
    name: rank
    for rank, names in enumerate(
        (
            ("ingress", "bridge prerouting"),
            ("prerouting", "output"),
            ("bridge input", "input", "forward", "bridge forward"),
            ("postrouting",),
            ("bridge output", "bridge postrouting", "egress"),
        )
    )
    for name in names
}
"""In which order a packet comes to hooks."""


class Compared(Value):
    """One line of the comparison: a hop, or a rule that would make none, or was not expected.

    predicted, kernel: verdicts, empty where there is none. packet: as it was afterwards, of a hop.
    """

    mark: str
    netns: str
    stage: str
    thing: str
    predicted: str = ""
    kernel: str = ""
    why: str = ""
    packet: Packet | None = None


class Comparison(Value):
    """A prediction beside what happened.

    outcome: what the probe saw, "" if somebody else sent the packet. out, back: lines of both directions; `back` is
    empty if no answer was predicted or seen. differences: in words, none if they agree. rules: so many were predicted
    and met. untold: notes about what couldn't be compared.
    """

    path: Path
    outcome: str
    out: tuple[Compared, ...]
    back: tuple[Compared, ...]
    differences: tuple[str, ...]
    rules: int
    untold: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        """Tell whether prediction and kernel agree; a prediction that left the fate open can't."""
        return not self.differences and not self.path.doubt


# ------------------------------------------------------------------ side by side


def _ours(event: Event) -> bool:
    return event.table.startswith(NAME)


def _key(event: Event) -> tuple[object, ...]:
    return (event.family, event.table, event.chain, event.handle if event.kind == "rule" else "policy")


def _key_of(met: Met) -> tuple[object, ...]:
    return (met.family, met.table, met.chain, met.handle if met.index >= 0 else "policy")


def plain(verdict: str) -> str:
    """A verdict as the kernel's trace has it: it knows no rejecting and no rewriting."""
    word = verdict.partition(" ")[0]
    return "drop" if word == "reject" else "accept" if word in _REWRITES else verdict


class _Expected(Value):
    """A rule that is to be met. at: its place among the lines. shown: it is a hop. missing: it wasn't met."""

    at: Where
    hook: str
    met: Met
    shown: bool
    missing: bool = False


def _expected(leg: Leg, netns: str) -> list[_Expected]:
    found: list[_Expected] = []
    for number, passing in enumerate(leg.passings):
        if passing.netns != netns:
            continue
        hop = passing.at
        stage = f"bridge {passing.hook}" if passing.layer == "bridge" else passing.hook
        for met in passing.met:
            if met.table.startswith(NAME):
                continue  # of somebody else who traces
            shown = loud(met)
            at = (hop, 0) if shown else (hop, -1, number, len(found))
            found.append(_Expected(at, stage, met, shown))
            hop += shown
    return found


class _Leg:
    """One direction, while it is compared."""

    def __init__(
        self,
        leg: Leg,
        events: Sequence[Event],
        name: Namer,
        blind: Iterable[Blind],
        *,
        back: bool = False,
    ) -> None:
        self.leg = leg
        self.back = back
        self.events = events
        self.name = name
        self.blind = {(one.netns, one.family) for one in blind}
        self.found: list[tuple[Where, Compared]] = []
        self.lines: tuple[Compared, ...] = ()
        self.differences: list[str] = []
        self.rules = 0
        self.at_hop: dict[int, Compared] = {}

    def run(self) -> None:
        """Compare namespace by namespace, then put the hops around it."""
        there = dict.fromkeys((*(hop.netns for hop in self.leg.hops), *(one.netns for one in self.events)))
        for netns in there:
            self._namespace(netns)
        rules = {id(line) for _, line in self.found}
        for number, hop in enumerate(self.leg.hops):
            if number not in self.at_hop:
                mark, kernel = self._sighted(number)
                line = Compared(mark, hop.netns, hop.stage, hop.thing, hop.verdict, kernel, hop.why, hop.packet)
                self.found.append(((number, 0), line))
        self.found.sort(key=lambda one: one[0])
        self.lines = tuple(line for _, line in self.found)
        # A hop that wasn't reached is no difference of its own: some rule before it is, or how it all ended.
        self.differences = [
            _difference(line) for line in self.lines if id(line) in rules and line.mark not in (BOTH, UNTOLD)
        ]

    def _namespace(self, netns: str) -> None:
        from difflib import SequenceMatcher

        expected = [one for one in _expected(self.leg, netns) if self._told(one, netns)]
        events = [one for one in self.events if one.netns == netns]
        met = [one for one in events if not _ours(one) and one.kind in ("rule", "policy")]
        matcher = SequenceMatcher(None, [_key_of(one.met) for one in expected], list(map(_key, met)), autojunk=False)
        pairs = {b + k: a + k for a, b, size in matcher.get_matching_blocks() for k in range(size)}
        for number, one in enumerate(expected):
            if number not in pairs.values():
                self._missing(netns, one)
                expected[number] = one.replace(missing=True)
        tuples = self._tuples(netns)
        order = {id(event): number for number, event in enumerate(met)}
        at, place_ = -1, self._start(netns)
        for count, event in enumerate(events):
            if id(event) in order:
                if order[id(event)] in pairs:
                    at = pairs[order[id(event)]]
                    place_ = expected[at].at
                    self._met(netns, expected[at], event)
                else:
                    at, place_ = self._after(expected, at, place_, event)
                    place_ = (*place_, 1, count)
                    self._unexpected(netns, place_, event)
            if self._ends(event) not in tuples:
                tuples.add(self._ends(event))
                place_ = (*place_, 1, count)
                self._readdressed(netns, place_, event)

    def _after(self, expected: Sequence[_Expected], at: int, place_: Where, event: Event) -> tuple[int, Where]:
        """Find the place of an unexpected rule: after what was to be met before it, had that been met."""
        rank = _RANKS.get(self.name(event)[0], 0)
        while at + 1 < len(expected) and expected[at + 1].missing and _RANKS.get(expected[at + 1].hook, 0) <= rank:
            at += 1
            place_ = expected[at].at
        return at, place_

    def _told(self, one: _Expected, netns: str) -> bool:
        """Tell whether the kernel would tell of a rule; write it down if not."""
        met = one.met
        layer = met.family if met.family in ("bridge", "netdev") else ""
        if met.backend != "iptables-legacy" and (netns, layer) not in self.blind:
            return True
        if one.shown:
            self._rule(UNTOLD, netns, one, "")
        return False

    def _start(self, netns: str) -> Where:
        return (next((at for at, hop in enumerate(self.leg.hops) if hop.netns == netns), len(self.leg.hops)), -2)

    def _ends(self, one: Event | Packet) -> tuple[object, ...]:
        """What a NAT may change, but for the client's port, which it may have to choose anew."""
        ported = one.proto in ("tcp", "udp")
        return (one.saddr, one.daddr, (one.sport if self.back else one.dport) if ported else None)

    def _tuples(self, netns: str) -> set[tuple[object, ...]]:
        packets = [hop.packet for hop in self.leg.hops if hop.netns == netns and not discovers(hop.packet)]
        packets += [passing.packet for passing in self.leg.passings if passing.netns == netns]
        return set(map(self._ends, packets))

    def _rule(self, mark: str, netns: str, one: _Expected, kernel: str) -> None:
        met = one.met
        packet = self.leg.hops[one.at[0]].packet if one.shown else None
        line = Compared(mark, netns, one.hook, f"{place(met)}: {met.text}", met.verdict, kernel, met.why, packet)
        if one.shown:
            self.at_hop[one.at[0]] = line
        if one.shown or mark != BOTH:
            self.found.append((one.at, line))

    def _met(self, netns: str, one: _Expected, event: Event) -> None:
        same = plain(one.met.verdict) == event.verdict or one.met.open
        self.rules += same
        self._rule(BOTH if same else OTHER, netns, one, event.verdict)

    def _missing(self, netns: str, one: _Expected) -> None:
        self._rule(UNTOLD if one.met.open else MISSING, netns, one, "")

    def _unexpected(self, netns: str, at: Where, event: Event) -> None:
        stage, thing, why = self.name(event)
        self.found.append((at, Compared(EXTRA, netns, stage, thing, "", event.verdict, why)))

    def _readdressed(self, netns: str, at: Where, event: Event) -> None:
        source, target = (event.sport, None) if self.back else (None, event.dport)
        ported = event.proto in ("tcp", "udp")
        ends = f"{_shown(event.saddr, source if ported else None)} → {_shown(event.daddr, target if ported else None)}"
        stage, _, _ = self.name(event)
        self.found.append((at, Compared(EXTRA, netns, stage, f"the packet is now {ends}")))

    def _sighted(self, number: int) -> tuple[str, str]:
        """Return mark and words for a hop that isn't a rule."""
        hop = self.leg.hops[number]
        here = [one for one in self.events if one.netns == hop.netns]
        bases = {one.base for one in here if _ours(one)}
        if discovers(hop.packet):
            return UNTOLD, ""
        if not here:
            return (UNTOLD, "") if (hop.netns, "bridge") in self.blind or not self.events else (MISSING, "")
        leaves = hop.stage in _LEAVES or (hop.stage == "bridge" and self.leg.hops[number - 1].stage == "neighbour")
        if leaves and "postrouting" not in bases:
            return (UNTOLD if (hop.netns, "bridge") in self.blind else MISSING), ""
        if hop.stage in _ENDS and "input" not in bases and number == len(self.leg.hops) - 1:
            return MISSING, ""
        if hop.thing == "conntrack" and hop.verdict != "drop":
            rewritten = self._ends(hop.packet) in set(map(self._ends, here))
            return (BOTH, "seen") if rewritten else (MISSING, "")
        return (UNTOLD, "") if hop.verdict not in ("pass", "local", "deliver") else (BOTH, "seen")


def _difference(line: Compared) -> str:
    said = {
        MISSING: f"predicted ({line.predicted}), but not met",
        OTHER: f"predicted was {line.predicted}, the kernel says {line.kernel}",
    }
    extra = f"{line.kernel}, not predicted" if line.kernel else "not predicted"
    return f"{called(line.netns)}, {line.stage}: {line.thing}: {said.get(line.mark, extra)}"


def _shown(address: Address_, port: int | None) -> str:
    if port is None:
        return str(address)
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def compare(
    path: Path,
    events: Iterable[Event],
    port: int,
    outcome: str,
    name: Namer,
    blind: Iterable[Blind] = (),
) -> Comparison:
    """Set a path beside the events of the flow that has this source port (or id of an echo).

    outcome: of `Probed`, or "". name: gives hook, words and reason of a rule that wasn't predicted.
    """
    there, again = directions(events, port)
    blind = tuple(blind)
    out = _Leg(path.out, there, name, blind)
    out.run()
    differences = out.differences
    rules = out.rules
    back: tuple[Compared, ...] = ()
    if path.back is not None and again:
        answer = _Leg(path.back, again, name, blind, back=True)
        answer.run()
        back = answer.lines
        differences += answer.differences
        rules += answer.rules
    differences += _outcomes(path, there, again, outcome)
    untold = [f"rules of family {one.family} in {called(one.netns)} can't be traced: {one.why}" for one in blind]
    if any(line.mark == UNTOLD and "iptables-legacy" in line.thing for line in (*out.lines, *back)):
        untold.append("iptables-legacy tells nobody of its rules: they are predicted only")
    return Comparison(path, outcome, out.lines, back, tuple(differences), rules, tuple(untold))


FITTING = {
    "connected": ("answered", "left", "unknown"),
    "answered": ("answered", "left", "unknown"),
    "refused": (REFUSED, "left", "unknown"),
    "unreachable": (REFUSED, DROPPED, LOST, UNSENT, "left", "unknown"),
    "not sent": (UNSENT, DROPPED, "unknown"),
    "silence": (DROPPED, LOST, "no answer", "left", "unknown"),
}
"""Which fates of a path fit what a probe saw."""


def _outcomes(path: Path, there: Sequence[Event], again: Sequence[Event], outcome: str) -> list[str]:
    """Differences of the whole: whether it was delivered, and whether an answer came."""
    found = []
    ends = {one.netns for one in there if _ours(one) and one.base == "input"}
    leg = path.out
    if leg.fate == ARRIVES and leg.netns not in ends:
        found.append(f"predicted to arrive in {called(leg.netns)}, but it wasn't delivered there")
    last = leg.hops[-1].stage if leg.hops else ""
    if leg.fate in (DROPPED, LOST, UNSENT) and ends and last not in _ENDS:
        found.append(f"predicted {leg.fate}, but it was delivered in {called(min(ends))}")
    udp = path.question.packet.proto == "udp"
    if outcome and path.fate not in FITTING[outcome] and not (udp and outcome == "silence" and leg.fate == ARRIVES):
        found.append(f"predicted {path.fate}, the probe says {outcome}")
    if not outcome and not again and path.fate == "answered" and not udp:
        found.append("predicted was an answer, but none was seen")
    return found
