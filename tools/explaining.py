"""Write docs/explain.md: what `nsbridge explain` says about networks that were broken by hand, one row each."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "explain.md"
MARK = (
    "| broken | asked: `nsbridge explain` | it says | fix, as printed | stands for |\n| --- | --- | --- | --- | --- |\n"
)


def write() -> int:
    """Break, ask and mend everything in a throwaway host, and put the answers into the page; return how many."""
    sys.path.insert(0, str(ROOT / "tests" / "netns"))
    made: Any = import_module("breakages")
    rows = []
    with made.workshop():
        for one in made.BREAKAGES:
            made.shell(one.how)
            told = made.explained(one.question)
            for fix in told["culprit"]["fix"]:
                made.shell(fix)
            made.put_back(one)
            rows.append(made.row(one, told) + "\n")
    text = PAGE.read_text()
    before, _, after = text.partition(MARK)
    rest = after.splitlines(keepends=True)
    while rest and rest[0].startswith("|"):
        del rest[0]
    PAGE.write_text(before + MARK + "".join(rows) + "".join(rest))
    return len(rows)
