"""What is said to be there is proved by a test, what is proved is said, and the page shows both."""

from __future__ import annotations

import difflib
import sys

from source import ROOT

sys.path.append(str(ROOT))
from tools import claims, proofs
from tools.claims import LATER, YES, Claim
from tools.proofs import Mark


def test_claims_and_tests_fit() -> None:
    assert proofs.faults(proofs.marks(), claims.SECURITY, claims.FEATURES) == []


def test_the_page_is_what_the_tests_say() -> None:
    kept, fresh = proofs.PAGE.read_text().splitlines(), proofs.page().splitlines()
    changed = list(difflib.unified_diff(kept, fresh, "docs/proofs.md", "the tests now", lineterm=""))
    assert not changed, "\n".join([*changed, "", "`make docs` rewrites it (or `python -m tools.proofs`)."])


def test_every_item_is_there_once() -> None:
    assert [claim.name for claim in claims.SECURITY] == [f"S{number}" for number in range(1, 30)]
    rows = [int(claim.name) for claim in claims.FEATURES]
    assert rows[:62] == list(range(1, 63))
    assert rows == sorted(set(rows))


def test_faults_are_found() -> None:
    source = (
        'pytestmark = [pytest.mark.netns, pytest.mark.proves("S1")]\n'
        '@pytest.mark.parametrize("x", [1])\n@pytest.mark.proves("row 1", "row 3")\ndef test_a(): pass\n'
        "def helper(): pass\n@pytest.mark.proves('row 9')\ndef test_b(): pass\n"
    )
    found = proofs.marks_in("tests/netns/test_x.py", source)
    assert [(mark.test, mark.item) for mark in found] == [
        ("test_a", "S1"), ("test_a", "row 1"), ("test_a", "row 3"), ("test_b", "S1"), ("test_b", "row 9"),
    ]  # fmt: skip
    said = proofs.faults(
        found, (Claim("S1", "one"), Claim("S2", "two")), (Claim("1", "a", LATER, "why"), Claim("3", "c", LATER))
    )
    assert [text.split(",")[0] for text in said] == [
        "tests/netns/test_x.py::test_b proves 'row 9'",
        "S2 is said to be there",
        "row 1 is said to be missing",
        "row 3 isn't there",
        "row 3 is said to be missing",
    ]
    assert proofs.faults((Mark("f", "t", "S1"),), (Claim("S1", "one", YES),), ()) == []
