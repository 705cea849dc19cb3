"""One base chain, rule by rule: nft_do_chain of net/netfilter/nf_tables_core.c, for packets that are only foreseen.

A test without an answer is followed both ways. What a way remembers is small (packet, where to return to, what it
met), and two ways that come to the same rule with the same packet go on as one, so that many open tests cost no more
than each its own.
"""

from __future__ import annotations

from nsbridge.firewall import seen
from nsbridge.firewall.effects import assigned, rewritten, untracked
from nsbridge.firewall.expressions import Accept, Drop, Goto, Jump, Return
from nsbridge.firewall.judge import TESTS, holds
from nsbridge.firewall.sources import possible
from nsbridge.firewall.view import MISSING, View, ones

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, TypeAlias

    from nsbridge.firewall.packet import Packet
    from nsbridge.firewall.seen import Contents, SeenChain, SeenRule, SeenTable
    from nsbridge.firewall.surroundings import Surroundings
    from nsbridge.firewall.view import Possible

    Stack: TypeAlias = tuple[tuple[str, int], ...]
    Place: TypeAlias = tuple[SeenRule | None, SeenChain, SeenTable, SeenChain]  # the last: its base chain

DEEPEST = 16
"""NFT_JUMP_STACK_SIZE: a packet that would jump deeper is dropped."""
_MOST_WAYS = 4000
"""Places at which ways are followed in one chain; with more than that its end is open."""


class Passed:
    """A rule that a way has met, after earlier ones: a list that ways share as far as they were one.

    before, after: the packet as it came to the rule, and as it left it.
    """

    __slots__ = ("after", "before", "doubt", "earlier", "place", "verdict")

    def __init__(
        self, earlier: Passed | None, place: Place, verdict: str, before: Packet, after: Packet, doubt: bool = False
    ) -> None:
        self.earlier = earlier
        self.place = place
        self.verdict = verdict
        self.before = before
        self.after = after
        self.doubt = doubt

    def listed(self) -> list[Passed]:
        """From the first on."""
        found: list[Passed] = []
        one: Passed | None = self
        while one is not None:
            found.append(one)
            one = one.earlier
        return found[::-1]


class End:
    """How a way ends in one base chain."""

    __slots__ = ("packet", "passed", "said", "verdict")

    def __init__(self, verdict: str, packet: Packet, passed: Passed | None, said: str = "") -> None:
        self.verdict = verdict
        self.packet = packet
        self.passed = passed
        self.said = said


class Result:
    """What one rule makes of a packet. verdict: None when it goes on after the rule."""

    __slots__ = ("doubt", "matched", "packet", "said", "verdict")

    def __init__(self, matched: bool, packet: Packet, verdict: Any = None, said: str = "", doubt: bool = False) -> None:
        self.matched = matched
        self.packet = packet
        self.verdict = verdict
        self.said = said
        self.doubt = doubt


class Walk:
    """A packet in one base chain. doubtful: parts of rules that had no answer; assumed: what was taken for granted."""

    def __init__(self, table: SeenTable, base: SeenChain, contents: Contents | None, around: Surroundings) -> None:
        self.table = table
        self.base = base
        self.contents = contents
        self.around = around
        self.chains = {chain.name: chain for chain in table.chains}
        self.assumed: dict[Any, str] = {}
        self.doubtful: list[tuple[Any, SeenRule, SeenChain]] = []

    def run(self, packet: Packet, passed: Passed | None) -> list[End]:
        """Every way in which the chain may end for it."""
        ends: list[End] = []
        seen_places: set[tuple[Stack, Packet]] = set()
        ways: list[tuple[Stack, Packet, Passed | None]] = [(((self.base.name, 0),), packet, passed)]
        forked = False
        while ways:
            stack, packet, passed = ways.pop()
            if forked:
                if (stack, packet) in seen_places:
                    continue
                seen_places.add((stack, packet))
                if len(seen_places) > _MOST_WAYS:
                    return [*ends, End("accept", packet, passed), End("drop", packet, passed)]
            more = self._step(stack, packet, passed, ends)
            forked = forked or len(more) > 1
            ways += more
        return ends

    def _step(
        self, stack: Stack, packet: Packet, passed: Passed | None, ends: list[End]
    ) -> list[tuple[Stack, Packet, Passed | None]]:
        """Go on to the next rule that says something."""
        view = View(packet, self.base.hook, self.table, self.contents, self.around)
        while stack:
            name, index = stack[-1]
            chain = self.chains.get(name)
            if chain is None or index >= len(chain.rules):
                stack = stack[:-1]
                continue
            rule = chain.rules[index]
            results = list(self.results(rule, chain, view))
            stack = (*stack[:-1], (name, index + 1))
            if len(results) == 1 and not results[0].matched:
                if results[0].packet is not packet:  # it did something before a test of it failed
                    packet = results[0].packet
                    view = view.of(packet)
                continue
            ways = []
            for result in reversed(results):
                on = self._follow(result, packet, (rule, chain, self.table, self.base), stack, passed, ends)
                if on is not None:
                    ways.append(on)
            return ways
        verdict = self.base.policy or "accept"
        place = (None, self.base, self.table, self.base)
        ends.append(End(verdict, packet, Passed(passed, place, verdict, packet, packet)))
        return []

    def _follow(
        self, result: Result, before: Packet, place: Place, stack: Stack, passed: Passed | None, ends: list[End]
    ) -> tuple[Stack, Packet, Passed | None] | None:
        """Where a way goes on after a rule; None when it ends there."""
        if not result.matched:
            return stack, result.packet, passed
        verdict = result.verdict
        passed = Passed(passed, place, result.said or _words(verdict), before, result.packet, result.doubt)
        if verdict is None:
            return stack, result.packet, passed
        if isinstance(verdict, (Jump, Goto)):
            if isinstance(verdict, Goto):
                stack = stack[:-1]
            if len(stack) >= DEEPEST:
                ends.append(End("drop", result.packet, passed))
                return None
            return (*stack, (verdict.chain, 0)), result.packet, passed
        if isinstance(verdict, Return):
            return stack[:-1], result.packet, passed
        name = verdict if isinstance(verdict, str) else type(verdict).__name__.lower()
        ends.append(End(name, result.packet, passed, result.said))
        return None

    # ------------------------------------------------------------ one rule

    def results(self, rule: SeenRule, chain: SeenChain, view: View) -> Iterator[Result]:
        """What the rule may make of the packet, one `Result` unless something is open."""
        ways: list[tuple[int, View, str, bool]] = [(0, view, "", False)]
        parts = flat(rule.parts)
        left: list[Packet] = []  # how it goes on to the next rule, in each way
        while ways:
            index, view, said, doubt = ways.pop()
            if index == len(parts):
                yield Result(True, view.packet, None, said, doubt)
                continue
            part = parts[index]
            kind = type(part)
            if kind in TESTS:
                answer = holds(part, view)  # type: ignore[arg-type]
                if answer is None:
                    self.doubtful.append((part, rule, chain))
                elif answer and kind is seen.Limited:
                    self.assumed[rule.handle, chain.name, part] = f"{chain.name}: {part.what} isn't used up"  # type: ignore[union-attr]
                if answer is not True and view.packet not in left:
                    left.append(view.packet)
                    yield Result(False, view.packet)
                if answer is not False:
                    ways.append((index + 1, view, said, doubt or answer is None))
                continue
            for result in _DOERS.get(kind, _nothing)(part, view):
                if not result.matched:
                    if result.packet not in left:
                        left.append(result.packet)
                        yield Result(False, result.packet)
                    continue
                if result.doubt:
                    self.doubtful.append((part, rule, chain))
                if result.verdict is not None:
                    yield Result(True, result.packet, result.verdict, result.said, doubt or result.doubt)
                    continue
                after = view if result.packet is view.packet else view.of(result.packet)
                ways.append((index + 1, after, result.said or said, doubt))


def flat(parts: tuple[seen.Part, ...]) -> list[seen.Part]:
    """Parts with iptables' extensions opened."""
    found: list[seen.Part] = []
    for part in parts:
        if isinstance(part, seen.Xt):
            found += flat(part.does)
        else:
            found.append(part)
    return found


def _words(verdict: object) -> str:
    if verdict is None:
        return "continue"
    if isinstance(verdict, (Jump, Goto)):
        return f"{type(verdict).__name__.lower()} {verdict.chain}"
    return verdict if isinstance(verdict, str) else type(verdict).__name__.lower()


# ------------------------------------------------------------------ statements


def _nothing(_: Any, view: View) -> list[Result]:
    return [Result(True, view.packet)]


def _verdict(part: Any, view: View) -> list[Result]:
    return [Result(True, view.packet, part)]


def _assign(part: seen.Assign, view: View) -> list[Result]:
    found = [Result(True, packet, None, doubt, bool(doubt)) for packet, doubt in assigned(part, view)]
    return found or [Result(False, view.packet)]


def _rewrite(part: seen.Rewrite, view: View) -> list[Result]:
    sources = [one for one in (part.address, part.port) if one is not None]
    missing = [MISSING in options for options in (possible(one, view) for one in sources)]
    if part.kind in ("snat", "dnat") and part.family not in ("", view.packet.family):
        # nft_nat_inet_eval: nothing is done, and the rule goes on; but a map without an element ends it before.
        return [Result(not any(missing), view.packet)]
    found = [
        Result(True, packet, "accept", said, bool(doubt)) if packet is not None
        else Result(True, view.packet, "drop", said)
        for packet, said, doubt in rewritten(part, view)
    ]  # fmt: skip
    if not found or any(missing):
        found.append(Result(False, view.packet))
    return found


def _refuse(part: seen.Refuse, view: View) -> list[Result]:
    return [Result(True, view.packet, "reject", f"reject with {refusal(part, view.packet.family)}")]


REFUSALS = {
    "icmp": {0: "net-unreachable", 1: "host-unreachable", 2: "prot-unreachable", 3: "port-unreachable",
             9: "net-prohibited", 10: "host-prohibited", 13: "admin-prohibited"},
    "icmpv6": {0: "no-route", 1: "admin-prohibited", 3: "addr-unreachable", 4: "port-unreachable",
               5: "policy-fail", 6: "reject-route"},
    "icmpx": {0: "no-route", 1: "port-unreachable", 2: "host-unreachable", 3: "admin-prohibited"},
}  # fmt: skip
"""What a reject tells the sender, by kind and code (nft(8), REJECT STATEMENT)."""


def refusal(part: seen.Refuse, family: str = "") -> str:
    """``tcp reset``, ``icmp port-unreachable``: icmpx is told as the packet's own family's."""
    if part.kind == "tcp reset":
        return part.kind
    kind = part.kind
    if kind == "icmp" and family == "ip6":
        kind = "icmpv6"
    return f"{kind} {REFUSALS[kind].get(part.code, str(part.code))}"


def _queue(part: seen.ToQueue, view: View) -> list[Result]:
    return [Result(True, view.packet, "queue", part.words or f"queue to {part.number}")]


def _untrack(_: seen.Untrack, view: View) -> list[Result]:
    packet = view.packet
    return [Result(True, packet if packet.tracked else packet.replace(ct=untracked(packet.ct)))]


def _stolen(part: seen.Stolen, view: View) -> list[Result]:
    return [Result(True, view.packet, "stolen", part.what)]


def _tproxy(_: seen.Tproxy, view: View) -> list[Result]:
    answer = view.around.socket(view.packet)
    found = [Result(True, view.packet, None, "tproxy", answer is None)] if answer is not False else []
    return found if answer else [*found, Result(False, view.packet)]


def _remember(part: seen.Remember, view: View) -> list[Result]:
    keys = possible(part.of, view)
    if keys == [MISSING]:
        return [Result(False, view.packet)]
    packet = view.packet
    raw = _bytes(keys)
    if raw is not None:
        data = _bytes(possible(part.data, view)) if part.data is not None else b""
        held = None if part.how == "delete" else data or b""
        packet = packet.replace(
            remembered=(*packet.remembered, (view.table.family, view.table.name, part.set, raw, held))
        )
    holding = ("over" not in part.budget.split()) is not part.negate
    return [Result(holding, packet)]


def _bytes(options: Possible) -> bytes | None:
    """The one value there is, None when there are more or not all of it is known."""
    if len(options) != 1 or options[0] is MISSING:
        return None
    value, known, size = options[0]
    return value.to_bytes(size, "big") if known == ones(size) else None


def _verdict_map(part: seen.VerdictMap, view: View) -> list[Result]:
    keys = possible(part.of, view)
    found = view.look_up(part.set, keys)
    if found is None:
        return [Result(True, view.packet, None, "nobody can say what the map holds", True), Result(False, view.packet)]
    verdicts = list(dict.fromkeys(one.data if one is not None else MISSING for one in found))
    if MISSING in keys and MISSING not in verdicts:
        verdicts.append(MISSING)
    unsure = len(verdicts) > 1
    return [
        Result(True, view.packet, one, "", unsure) if one is not MISSING else Result(False, view.packet)
        for one in verdicts
    ] or [Result(False, view.packet)]


_DOERS: dict[type, Callable[[Any, View], list[Result]]] = {
    Accept: _verdict,
    Drop: _verdict,
    Return: _verdict,
    Jump: _verdict,
    Goto: _verdict,
    seen.Assign: _assign,
    seen.Rewrite: _rewrite,
    seen.Refuse: _refuse,
    seen.ToQueue: _queue,
    seen.Untrack: _untrack,
    seen.Stolen: _stolen,
    seen.Tproxy: _tproxy,
    seen.Remember: _remember,
    seen.VerdictMap: _verdict_map,
}
