"""FakeKernel behaves as Linux does: the suite that tests/netns/test_linux_kernel.py runs over the real one."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from conformance import SPACE, KernelConformance
from worlds import FACTS

from nsbridge.kernel.fake import FakeKernel

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def fresh() -> Iterator[FakeKernel]:
    yield FakeKernel(facts=FACTS, listening=[("tcp", 22)], namespaces=[SPACE])


class TestFakeKernel(KernelConformance):
    fresh = staticmethod(fresh)
