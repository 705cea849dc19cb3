"""Tests of the kernel run only inside a throwaway host; elsewhere they are left out and say how to run them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nsbridge.kernel.sandbox import in_sandbox

if TYPE_CHECKING:
    from collections.abc import Iterable

COMMAND = "make test-netns"


def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    if in_sandbox():
        return
    outside = pytest.mark.skip(reason=f"needs a throwaway host: `{COMMAND}`")
    for item in items:
        if item.get_closest_marker("netns"):
            item.add_marker(outside)
