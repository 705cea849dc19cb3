"""Write docs/explain.md: what `nsbridge explain` says about networks that were broken by hand, one row each."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "explain.md"
MARK = "| broken | asked: `nsbridge explain` | it says | fix, as printed | stands for |\n| --- | --- | --- | --- | --- |\n"


def write() -> int:
    """Break, ask and mend everything in a throwaway host, and put the answers into the page; return how many."""
    sys.path.insert(0, str(ROOT / "tests" / "netns"))
    from breakages import BREAKAGES, explained, put_back, row, shell, workshop

    rows = []
    with workshop():
        for one in BREAKAGES:
            shell(one.how)
            told = explained(one.question)
            for fix in told["culprit"]["fix"]:
                shell(fix)
            put_back(one)
            rows.append(row(one, told) + "\n")
    text = PAGE.read_text()
    before, _, after = text.partition(MARK)
    rest = after.splitlines(keepends=True)
    while rest and rest[0].startswith("|"):
        del rest[0]
    PAGE.write_text(before + MARK + "".join(rows) + "".join(rest))
    return len(rows)
