"""Write docs/proofs.md: each item of claims.py with the tests that prove it (`make docs` does it, too).

Which tests those are is read from their source, from the marks ``@pytest.mark.proves("S3", "row 13")`` on functions and
in ``pytestmark``; no test is run or imported.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import NamedTuple

from tools.claims import FEATURES, KERNEL, SECURITY, YES, Claim

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "proofs.md"

HEAD = """\
# What is proved, and by which test

Two lists of what a bridge driver of today owes its users, gathered from Docker, netavark, the CNI plugins, Incus and
their users' complaints: how it must not be fooled, and what it should offer. Each item names the tests that prove it;
the tests say themselves what they prove (`@pytest.mark.proves`). The page is generated from them (`make docs`). A test
fails when it differs, when something is said to be there and no test proves it, or when a test proves what is said to
be missing.

Tests in `tests/netns` send real packets through a real kernel (`make test-netns`). For security they reproduce the
attack, see it fail, take the guard away and see it succeed.
"""


class Mark(NamedTuple):
    """One thing that one test says it proves. item: as written, ``S3`` or ``row 13``."""

    file: str
    test: str
    item: str


def _items(node: ast.expr) -> list[str]:
    """Return what ``pytest.mark.proves(...)`` names; nothing for any other expression."""
    if isinstance(node, ast.List | ast.Tuple):
        return [item for each in node.elts for item in _items(each)]
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "proves"):
        return []
    return [str(ast.literal_eval(each)) for each in node.args]


def marks_in(file: str, source: str) -> tuple[Mark, ...]:
    """Return the marks of one file of tests, those of the module for each of its tests."""
    tree = ast.parse(source)
    whole: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(
            isinstance(to, ast.Name) and to.id == "pytestmark" for to in node.targets
        ):
            whole += _items(node.value)
    found = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            own = [item for each in node.decorator_list for item in _items(each)]
            found += [Mark(file, node.name, item) for item in (*whole, *own)]
    return tuple(found)


def marks() -> tuple[Mark, ...]:
    """Return every mark of every test, in the order of files and lines."""
    files = sorted(ROOT.glob("tests/*/test_*.py"))
    return tuple(mark for path in files for mark in marks_in(str(path.relative_to(ROOT)), path.read_text()))


def faults(found: tuple[Mark, ...], security: tuple[Claim, ...], features: tuple[Claim, ...]) -> list[str]:
    """Say where marks and claims don't fit."""
    claims = {claim.name: claim for claim in security} | {f"row {claim.name}": claim for claim in features}
    said = [f"{mark.file}::{mark.test} proves {mark.item!r}, which nobody knows" for mark in found
            if mark.item not in claims]  # fmt: skip
    for item, claim in claims.items():
        proofs = [mark for mark in found if mark.item == item]
        there = claim.state in (YES, KERNEL)
        if there and not proofs:
            said.append(f"{item} is said to be there, and no test proves it: {claim.what}")
        if not there and not claim.reason:
            said.append(f"{item} isn't there, and nobody says why: {claim.what}")
        if not there:
            said += [f"{item} is said to be missing, and {mark.file}::{mark.test} proves it" for mark in proofs]
    return said


def _row(item: str, claim: Claim, found: tuple[Mark, ...]) -> str:
    tests: dict[str, list[str]] = {}
    for mark in found:
        if mark.item == item:
            tests.setdefault(mark.file, []).append(mark.test.removeprefix("test_"))
    proofs = [
        f"[{Path(file).stem}](../{file}): {', '.join(f'`{name}`' for name in dict.fromkeys(names))}"
        for file, names in tests.items()
    ]
    state = claim.state + (f": {claim.reason}" if claim.reason else "")
    return f"| {claim.name} | {claim.what} | {state} | {'<br>'.join(proofs)} |\n"


def page() -> str:
    """Return the page as it should be now."""
    found = marks()
    parts = [HEAD]
    for title, what, claims, prefix in (
        ("Security", "what holds", SECURITY, ""),
        ("Features", "what there is", FEATURES, "row "),
    ):
        parts.append(f"\n## {title}\n\n| | {what} | | proved by |\n| --- | --- | --- | --- |\n")
        parts += [_row(prefix + claim.name, claim, found) for claim in claims]
    return "".join(parts)


def main() -> None:
    """Rewrite the page."""
    PAGE.write_text(page())
    print(f"{PAGE.relative_to(ROOT)}: {len(marks())} proofs")


if __name__ == "__main__":
    main()
