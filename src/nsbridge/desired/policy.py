"""From rules of a file to elements of our table: where each stands, and what it holds.

A verdict map whose keys are ranges may not hold two that overlap, so rules that may fit one connection stand in maps
of different levels, and the levels are asked in order. A rule's level follows from the rules alone, never from
addresses: so endpoints that come and go add and take their own elements and move nobody else's.
"""

from __future__ import annotations

from nsbridge.errors import InvalidIntent
from nsbridge.firewall.ruleset import Element, Span
from nsbridge.model.names import TABLE
from nsbridge.model.policy import LEVELS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeAlias

    from nsbridge.model.policy import Party, PolicyRule
    from nsbridge.state.things import Network_

    Resolve: TypeAlias = Callable[[Party], Iterable[Network_]]
    """The addresses of a party at present, as networks."""

_CHAINS = {"allow": "allow", "deny": "deny", "reject": "refuse"}


def levels(rules: Sequence[PolicyRule]) -> tuple[int, ...]:
    """Return the level of each rule, from 1: behind every earlier one that it may meet.

    InvalidIntent, naming the rule, when more rules overlap than there are levels.
    """
    found: list[int] = []
    for place, rule in enumerate(rules):
        level = 1 + max((found[i] for i in range(place) if rules[i].meets(rule)), default=0)
        if level > LEVELS[rule.way]:
            raise InvalidIntent(
                f"rule '{rule}' overlaps {LEVELS[rule.way]} others that overlap one another",
                fix="make rules of equal verdict one, or narrow some so that they no longer meet",
            )
        found.append(level)
    return tuple(found)


def rule_elements(
    rule: PolicyRule, level: int, source: Iterable[Network_], target: Iterable[Network_]
) -> list[Element]:
    """Return the elements of one rule between these addresses; of the host's none matters."""
    verdict = (f"goto {_CHAINS[rule.verdict]}{'_log' if rule.log else ''}",)
    targets, found = tuple(target), []
    for start in source:
        if rule.way == "host":
            places: list[tuple[Network_, ...]] = [(start,)]
        else:
            places = [(start, end) for end in targets if end.version == start.version]
        name = f"{rule.way}{start.version}_{level}"
        for place in places:
            for proto in rule.protocols:
                kind = "icmpv6" if proto == "icmp" and start.version == 6 else proto
                for first, last in rule.ports:
                    port = Span(first, last) if first != last else first
                    found.append(Element(TABLE, name, (*place, kind, port), verdict, why=str(rule)))
    return found


def policy_elements(rules: Sequence[PolicyRule], resolve: Resolve) -> tuple[Element, ...]:
    """Return the elements of all rules of one project."""
    found: list[Element] = []
    for rule, level in zip(rules, levels(rules), strict=True):
        found += rule_elements(rule, level, resolve(rule.source), resolve(rule.target))
    return tuple({element.identity: element for element in found}.values())
