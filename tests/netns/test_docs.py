"""The pages of docs/rules are what a kernel holds now, byte for byte, and pictures what is drawn of it."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lab import FreshHost

sys.path.append(str(Path(__file__).parents[2]))
from tools import docs, pictures

pytestmark = pytest.mark.netns


def test_the_pages_of_rules_are_what_a_kernel_holds(host: FreshHost) -> None:
    kept = {path.name: path.read_text() for path in docs.PAGES.glob("*.md")}
    if f"Listed by {docs.version()}." not in kept["README.md"]:
        pytest.skip(f"{docs.version()} isn't the one that listed the pages, and may write the same differently")
    fresh = docs.pages()
    changed = []
    for name in sorted({*fresh, *kept}):
        old, new = kept.get(name, "").splitlines(), fresh.get(name, "").splitlines()
        changed += difflib.unified_diff(old, new, f"docs/rules/{name}", "the kernel now", lineterm="")
    assert not changed, "\n".join([*changed, "", "Meant so? `make docs` rewrites the pages; read the difference."])
    assert len(fresh) > 12


def test_the_pictures_are_what_is_drawn_now(host: FreshHost) -> None:
    changed = []
    for path, text in pictures.drawn().items():
        old = path.read_text() if path.exists() else ""
        changed += difflib.unified_diff(old.splitlines(), text.splitlines(), path.name, "drawn now", lineterm="")
    assert not changed, "\n".join([*changed[:40], "", "Meant so? `make docs` draws them again; look at them."])
