"""Tests of the kernel run only inside a throwaway host; elsewhere they are left out and say how to run them.

What tests draw is the same in every run of one tree, so that what fails fails again, and nobody's change is held up by
what somebody else's draw found. To look further: ``pytest --hypothesis-profile=anew``, ``make fuzz-explain``.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from nsbridge.kernel.sandbox import in_sandbox

if TYPE_CHECKING:
    from collections.abc import Iterable

for number in (signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(number) == signal.SIG_IGN:  # `make test &` in a script; what tests start would be as deaf
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

settings.register_profile("anew", deadline=None)
settings.register_profile("same", deadline=None, derandomize=True)
settings.load_profile("same")

COMMAND = "make test-netns"


def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    if in_sandbox():
        return
    outside = pytest.mark.skip(reason=f"needs a throwaway host: `{COMMAND}`")
    for item in items:
        if item.get_closest_marker("netns"):
            item.add_marker(outside)
