"""Both YAML parsers read the same tree at the same places; what libyaml refuses is the pure one's to say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsbridge.files import nodes
from nsbridge.files.document import parse
from nsbridge.files.faults import Report

ROOT = Path(__file__).parents[2]
FILES = sorted([*ROOT.glob("examples/**/*.yaml"), *ROOT.glob("src/**/*.yaml")])

PIECES = ["a", "b", "22:22", "no", "1.10", "0o7", "~", "<<", ": ", ":", "- ", "[", "]", "{", "}", ", ", "'", '"', " "]
PIECES += ["\n", "\n  ", "\n    ", "&x ", "*x", "!!str ", "!t ", "|\n ", ">-\n ", "? ", "# c", "\t", "\\", "%", "---\n"]

pytestmark = pytest.mark.skipif(nodes.CParser is None, reason="ruamel.yaml.clib isn't installed")


def _read(text: str, monkeypatch: pytest.MonkeyPatch, *, fast: bool) -> tuple[Any, Any, Any]:
    report = Report("file.yaml")
    with monkeypatch.context() as patch:
        if not fast:
            patch.setattr(nodes, "CParser", None)
        tree = parse(text, report, {})
    return tree, report.where, [repr(fault) for fault in report.faults]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_example_is_read_alike(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = path.read_text()
    assert _read(text, monkeypatch, fast=True) == _read(text, monkeypatch, fast=False)


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_any_text_is_read_alike(text: str) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        tree, where, _ = _read(text, monkeypatch, fast=True)
        wanted, places, faults = _read(text, monkeypatch, fast=False)
    if wanted is not None:
        assert tree == wanted
        assert where == places or "!" in text  # behind a tag the two begin to count elsewhere
    else:
        assert tree is None or faults  # the pure one refuses some that the other reads: a deep line in "|"


def test_nesting_that_would_overrun_a_stack_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("[" * 200_000, "- " * 100_000):
        tree, _, faults = _read(text, monkeypatch, fast=True)
        assert tree is None
        assert len(faults) == 1
