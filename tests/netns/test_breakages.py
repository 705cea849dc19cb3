"""Networks broken by hand: `nsbridge explain` names the cause, its fix is run as printed, and a real packet arrives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from breakages import (
    BREAKAGES,
    ROOT,
    Breakage,
    answered,
    asked_too,
    disagreement,
    explained,
    put_back,
    row,
    shell,
    workshop,
)
from lab import Lab, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.netns


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """One lab for all of them: each is mended before the next one."""
    with workshop() as found:
        yield found


@pytest.mark.parametrize("one", BREAKAGES, ids=[one.name for one in BREAKAGES])
def test_the_cause_is_named_and_the_fix_mends_it(lab: Lab, one: Breakage) -> None:
    shell(one.how)
    try:
        assert not answered(lab, one.probe), "nothing is broken"
        told = explained(one.question)
        culprit = told["culprit"]
        assert culprit is not None, told["says"]
        assert one.culprit in culprit["thing"], told
        assert any(one.fix in fix for fix in culprit["fix"]), told
        wrong = [text for asked in asked_too(one) if (text := disagreement(lab, asked))]
        assert not wrong, "\n".join(wrong)
        for fix in culprit["fix"]:
            shell(fix)
        assert eventually(lambda: answered(lab, one.probe, 1.0)), f"{told}\ndidn't help"
        assert row(one, told) in (ROOT / "docs/explain.md").read_text(), "run: make docs"
    finally:
        put_back(one)


def test_there_are_enough_of_them() -> None:
    assert len(BREAKAGES) >= 40
    assert len({one.name for one in BREAKAGES}) == len(BREAKAGES)
