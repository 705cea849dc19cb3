"""Whether a test holds for a packet: yes, no, or nobody can say (None)."""

from __future__ import annotations

from nsbridge.firewall.seen import AllOf, Always, Among, AnyOf, Chance, Compare, Limited, Not, Strange, Within
from nsbridge.firewall.sources import possible
from nsbridge.firewall.view import MISSING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from nsbridge.firewall.seen import Test
    from nsbridge.firewall.view import Bits, View


def holds(test: Test, view: View) -> bool | None:
    """Tell whether it holds; what there is nothing to read for doesn't."""
    return _JUDGES[type(test)](test, view)


def agreed(answers: Iterable[bool | None]) -> bool | None:
    """The answer that all give, None when they differ."""
    found = set(answers)
    return found.pop() if len(found) == 1 else None


def _compare(test: Compare, view: View) -> bool | None:
    wanted, size = int.from_bytes(test.raw, "big"), len(test.raw)

    def one(bits: Bits | None) -> bool | None:
        return False if bits is MISSING else _compared(_fitted(bits, size), test.op, wanted)

    return agreed(map(one, possible(test.of, view)))


def _fitted(bits: Bits, size: int) -> Bits:
    """The first `size` bytes: a register's rest is zero, and what a shorter comparison leaves out doesn't matter."""
    value, known, have = bits
    shift = 8 * abs(size - have)
    if size < have:
        return value >> shift, known >> shift, size
    return value << shift, known << shift | (1 << shift) - 1, size


def _compared(bits: Bits, op: str, wanted: int) -> bool | None:
    value, known, size = bits
    if op in ("==", "!="):
        if (value ^ wanted) & known:
            return op == "!="
        return op == "==" if known == (1 << 8 * size) - 1 else None
    least, greatest = value & known, value & known | ~known & (1 << 8 * size) - 1
    low, high = _ordered(least, op, wanted), _ordered(greatest, op, wanted)
    return low if low == high else None


def _ordered(value: int, op: str, wanted: int) -> bool:
    if op == "<":
        return value < wanted
    if op == "<=":
        return value <= wanted
    return value > wanted if op == ">" else value >= wanted


def _within(test: Within, view: View) -> bool | None:
    first, last, size = int.from_bytes(test.first, "big"), int.from_bytes(test.last, "big"), len(test.first)

    def one(bits: Bits | None) -> bool | None:
        if bits is MISSING:
            return False
        fitted = _fitted(bits, size)
        answers = (_compared(fitted, ">=", first), _compared(fitted, "<=", last))
        inside = False if False in answers else None if None in answers else True
        return inside if inside is None else inside is not test.negate

    return agreed(map(one, possible(test.of, view)))


def _among(test: Among, view: View) -> bool | None:
    keys = possible(test.of, view)
    if keys == [MISSING]:
        return False
    found = view.look_up(test.set, keys)
    if found is None:
        return None
    answers = [(one is not None) is not test.negate for one in found]
    return agreed([False, *answers] if MISSING in keys else answers)


def _all(tests: Iterable[Test], view: View) -> bool | None:
    answer: bool | None = True
    for test in tests:
        one = holds(test, view)
        if one is False:
            return False
        answer = answer and one
    return answer


def _any(tests: Iterable[Test], view: View) -> bool | None:
    answer: bool | None = False
    for test in tests:
        one = holds(test, view)
        if one:
            return True
        answer = None if one is None else answer
    return answer


def _not(test: Not, view: View) -> bool | None:
    inner = holds(test.test, view)
    return None if inner is None else not inner


_JUDGES: dict[type, Callable[[Any, View], bool | None]] = {
    Compare: _compare,
    Within: _within,
    Among: _among,
    AllOf: lambda test, view: _all(test.tests, view),
    AnyOf: lambda test, view: _any(test.tests, view),
    Not: _not,
    Always: lambda test, _: test.holds,
    Limited: lambda test, _: not test.over,
    Chance: lambda *_: None,
    Strange: lambda test, _: True if test.harmless else None,
}
TESTS = frozenset(_JUDGES)
