"""Laws of diff and simulate, over drawn worlds."""

from __future__ import annotations

from functools import reduce
from ipaddress import ip_address, ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import states

from nsbridge import codec
from nsbridge.errors import KernelError
from nsbridge.firewall.ruleset import Element, Table
from nsbridge.plan.diff import PUBLISH, adding, diff, phase, removing
from nsbridge.plan.exchange import exchange
from nsbridge.state.kernel_state import KernelState
from nsbridge.state.simulate import simulate
from nsbridge.state.things import Address, Route


@pytest.mark.proves("row 91")
@given(states(), states())
def test_a_plan_leads_where_it_should(before: KernelState, after: KernelState) -> None:
    assert reduce(simulate, diff(before, after).steps, before) == after


@given(states())
def test_between_equal_states_there_is_nothing_to_do(state: KernelState) -> None:
    assert not diff(state, state)


@pytest.mark.proves("row 82")
@given(states(), states(), st.data())
def test_any_half_done_plan_can_be_walked_back(before: KernelState, after: KernelState, data: st.DataObject) -> None:
    steps = diff(before, after).steps
    done = steps[: data.draw(st.integers(0, len(steps)))]
    half = reduce(simulate, done, before)
    assert reduce(simulate, (step.undo() for step in reversed(done)), half) == before


@given(states(), states())
def test_no_step_is_refused(before: KernelState, after: KernelState) -> None:
    state = before
    for step in diff(before, after).steps:
        state = simulate(state, step)


@given(states(), states())
def test_a_plan_survives_json(before: KernelState, after: KernelState) -> None:
    plan = diff(before, after)
    assert codec.loads(codec.dumps(plan)) == plan


@given(states(), states())
def test_the_same_inputs_give_the_same_plan_byte_for_byte(before: KernelState, after: KernelState) -> None:
    shuffled = KernelState(reversed(tuple(before)))
    assert codec.dumps(diff(before, after)) == codec.dumps(diff(before, after))
    assert {s.verb for s in diff(shuffled, after).steps} == {s.verb for s in diff(before, after).steps}


@given(states())
def test_applying_twice_is_refused_and_removing_twice_is_not(state: KernelState) -> None:
    built = reduce(simulate, adding(state), KernelState())
    for step in adding(state):
        with pytest.raises(KernelError):
            simulate(built, step)
    gone = reduce(simulate, removing(state), built)
    assert gone == KernelState()
    assert reduce(simulate, removing(state), gone) == KernelState()


@given(states())
def test_ports_are_published_last_and_withdrawn_first(state: KernelState) -> None:
    for steps, place in ((adding(state), -1), (removing(state), 0)):
        kinds = [{phase(thing) for thing in step.things} for step in steps]
        if any(PUBLISH in kind for kind in kinds):
            assert kinds[place] == {PUBLISH}


@given(states())
def test_every_thing_says_why(state: KernelState) -> None:
    assert all(thing.why for thing in state)


def test_a_route_comes_again_with_another_address_of_its_link() -> None:
    # The kernel drops the routes of a link with its last address, so a route that both states have must be added anew.
    route = Route("/run/netns/a", ip_network("0.0.0.0/0"), "eth0", ip_address("10.0.0.1"), why="the way out")

    def state(address: str) -> KernelState:
        return KernelState((Address("/run/netns/a", "eth0", ip_interface(address), why="its address"), route))

    steps = diff(state("10.0.0.2/24"), state("10.0.0.3/24")).steps
    assert [(step.verb, route in step.things) for step in steps] == [("remove", True), ("add", True)]


@given(states(), states())
def test_elements_are_exchanged_in_steps_that_can_be_taken_back(before: KernelState, after: KernelState) -> None:
    tables = KernelState(thing for state in (before, after) for thing in state if isinstance(thing, Table))
    old, new = (KernelState(thing for thing in state if isinstance(thing, Element)) for state in (before, after))
    steps = exchange(old, new)
    there = reduce(simulate, steps, tables | old)
    assert there == tables | new
    assert reduce(simulate, (step.undo() for step in reversed(steps)), there) == tables | old
    assert codec.loads(codec.dumps(steps)) == steps
