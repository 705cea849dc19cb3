"""iptables does what every Kernel must: the suite of tests/pure/conformance.py, over both variants."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import test_linux_kernel
from conformance import KernelConformance

from nsbridge.kernel.linux import LinuxKernel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

pytestmark = [pytest.mark.netns, pytest.mark.proves("row 59")]

ALL = bool(os.environ.get("NSBRIDGE_TEST_ALL"))
EXAMPLES = 25 if ALL else 3


def in_iptables(variant: str) -> Callable[[], AbstractContextManager[LinuxKernel]]:
    @contextmanager
    def fresh() -> Iterator[LinuxKernel]:
        with test_linux_kernel.fresh():
            yield LinuxKernel(lambda: variant)

    return fresh


class TestNft(KernelConformance):
    fresh = staticmethod(in_iptables("iptables-nft"))
    examples = EXAMPLES

    if not ALL:  # each kind of refusal with one of them is enough
        test_what_cant_be_is_refused_alike_and_walked_back = None  # type: ignore[assignment]


class TestLegacy(KernelConformance):
    fresh = staticmethod(in_iptables("iptables-legacy"))
    examples = EXAMPLES
