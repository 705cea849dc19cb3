"""A fresh host for every test of the kernel, and a laboratory around it.

`host` is an empty network namespace with its own /run; `lab` adds a client outside and a firewall that stands in
the way. Both check afterwards that the test left no process and no mounted namespace of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from commands import Command
from lab import FreshHost, Lab

from nsbridge.kernel.sandbox import in_sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def never_on_the_machine() -> None:
    assert in_sandbox(), "a test of the kernel must not run in the machine's own network namespace"


@pytest.fixture
def host() -> Iterator[FreshHost]:
    with FreshHost() as fresh:
        yield fresh


@pytest.fixture
def lab(host: FreshHost, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """The host with a client `outside`. Parametrize indirectly with one of lab.POLICIES for a firewall that drops."""
    with Lab(host, getattr(request, "param", "none")) as laboratory:
        yield laboratory


@pytest.fixture
def nb(host: FreshHost) -> Iterator[Command]:
    """The command `nsbridge`; what it brought up is taken away afterwards."""
    with Command() as command:
        yield command
