"""From some elements of our tables to others, while packets pass: each meets the old rules or the new ones.

One batch would be simpler, and is not enough. The kernel takes a batch's maps into use one after another, and a packet
asks the maps of a policy one after another too (``out4_1``, ``out4_2`` …): a rule that moves from one to the other can
be gone from the first and not be in the second yet. So a map that only gains comes first, one that only loses comes
last, and of the others that one first in which everything that leaves already stands elsewhere. Each is a step of its
own, and whoever takes them waits between two until the packets under way are through (`Kernel.settle`).

What remains: rules that overlap and change places wait for each other, so they move in one batch after all; and where
a whole policy is written anew, a packet may in between meet a rule of it that isn't the first one to hold it.
"""

from __future__ import annotations

from nsbridge.plan.diff import WORDS, adding, phase, removing
from nsbridge.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from nsbridge.firewall.ruleset import Element
    from nsbridge.state.kernel_state import KernelState

    Twin = tuple[Any, ...]


def exchange(before: KernelState, after: KernelState) -> tuple[Step, ...]:
    """Return the steps from some elements to others, in an order that opens nothing for a moment."""
    gone = _by_map(thing for thing in before if thing not in after)
    come = _by_map(thing for thing in after if thing not in before)
    steps: list[Step] = []
    for names in _by_level(come.keys() - gone.keys()):
        steps += adding(element for name in names for element in come[name])
    for names in _swaps(gone, come):
        arriving = tuple([element for name in names for element in come[name]])
        leaving = tuple([element for name in names for element in gone[name]])
        steps.append(Step("swap", arriving, leaving, why=WORDS[phase(arriving[0])]))
    for names in reversed(_by_level(gone.keys() - come.keys())):
        steps += removing(element for name in names for element in gone[name])
    return tuple(steps)


def _by_map(elements: Any) -> dict[str, list[Element]]:
    found: dict[str, list[Element]] = {}
    for element in elements:
        found.setdefault(element.set, []).append(element)
    return found


def _level(name: str) -> str:
    return name.rpartition("_")[2]


def _by_level(names: Iterable[str]) -> list[list[str]]:
    """Group maps: no packet asks two of one level, which differ in family or direction."""
    found: dict[str, list[str]] = {}
    for name in sorted(names, key=lambda name: (_level(name), name)):
        found.setdefault(_level(name), []).append(name)
    return list(found.values())


def _twin(element: Element) -> Twin:
    """What elements of one rule at different levels have in common."""
    return (element.set.rpartition("_")[0], element.key, element.data)


def _swaps(gone: dict[str, list[Element]], come: dict[str, list[Element]]) -> list[list[str]]:
    """Return the maps that lose and gain: first those whose losses no other gains, a circle at once."""
    left = gone.keys() & come.keys()
    ordered: list[list[str]] = []
    while left:
        awaited = {name: {_twin(element) for element in come[name]} for name in left}
        free = [
            name
            for name in left
            if not any(_twin(element) in awaited[other] for element in gone[name] for other in left - {name})
        ]
        ordered.append(_by_level(free)[0] if free else sorted(left))
        left = left - set(ordered[-1])
    return ordered
