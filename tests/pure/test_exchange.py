"""While rules of a policy come, go and move, every packet meets what held before or what holds after."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING

from hypothesis import assume, given
from hypothesis import strategies as st

from nsbridge.desired.policy import policy_elements
from nsbridge.errors import InvalidIntent
from nsbridge.firewall.ruleset import Span
from nsbridge.model.policy import Party, PolicyRule
from nsbridge.plan.exchange import exchange
from nsbridge.state.kernel_state import KernelState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsbridge.firewall.ruleset import Element

WEB, DB = Party("service", "web"), Party("service", "db")
PORTS = range(1, 9)
WHERE = {"web": (ip_network("10.7.0.11/32"),), "db": (ip_network("10.7.0.10/32"),)}

spans = st.tuples(st.sampled_from(PORTS), st.sampled_from(PORTS)).map(lambda pair: (min(pair), max(pair)))
rules = st.builds(
    lambda verdict, span: PolicyRule(verdict, WEB, DB, "udp", (span,)), st.sampled_from(["allow", "deny"]), spans
)
policies = st.lists(rules, max_size=4, unique_by=lambda rule: rule.ports)


def loaded(policy: Sequence[PolicyRule]) -> KernelState:
    try:
        return KernelState(policy_elements(policy, lambda party: WHERE[party.name]))
    except InvalidIntent:  # more that overlap than there are levels
        assume(False)
        raise


def fates(elements: KernelState) -> list[str]:
    """What becomes of a packet to each port: the first map that holds it decides."""

    def holds(element: Element, port: int) -> bool:
        told = element.key[3]
        return told.first <= port <= told.last if isinstance(told, Span) else bool(told == port)

    ordered = sorted(elements, key=lambda element: element.set)  # type: ignore[union-attr]
    return [next((one.data[0] for one in ordered if holds(one, port)), "default") for port in PORTS]  # type: ignore[arg-type, union-attr]


@given(policies, st.data())
def test_a_rule_that_comes_or_goes_opens_and_shuts_nothing_else(policy: list[PolicyRule], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(policy)))
    more = [*policy[:place], data.draw(rules), *policy[place:]]
    assume(len({rule.ports for rule in more}) == len(more))
    for before, after in ((loaded(policy), loaded(more)), (loaded(more), loaded(policy))):
        now, old, new = before, fates(before), fates(after)
        for step in exchange(before, after):
            gone = step.things if step.verb == "remove" else step.before
            now = (now - gone) | (step.things if step.verb != "remove" else ())
            for met, was, will in zip(fates(now), old, new, strict=True):
                assert met in (was, will)
        assert now == after


def test_rules_that_change_places_do_so_in_one_batch() -> None:
    both = PolicyRule("deny", WEB, DB, "udp", ((1, 6),)), PolicyRule("allow", WEB, DB, "udp", ((4, 8),))
    (step,) = exchange(loaded(both), loaded(both[::-1]))
    assert (step.verb, len(step.things), len(step.before)) == ("swap", 2, 2)
