"""The launcher's hot verbs find the bodies of what they call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsbridge.frontends.cli import archive
from tools import hot

if TYPE_CHECKING:
    from lab import FreshHost

OTHER_KERNELS = 10
"""Functions that a verb may call more than on the machine where the list was written: another way to ask, a wait."""


def test_hot_verbs_call_what_the_list_says(host: FreshHost) -> None:
    called = archive.called_by_hot_verbs()
    missing = {(module, name) for module, name in hot.all_calls() if name not in called.get(module, ())}
    assert len(missing) <= OTHER_KERNELS, f"`python -m tools.hot` writes the list again: {sorted(missing)}"
