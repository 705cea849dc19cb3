"""`nsbridge trace`: real packets, the kernel's own trace of them, and the prediction beside it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from breakages import SERVERS, shell
from lab import FreshHost, Lab, eventually

from nsbridge.engine.trace import Trace
from nsbridge.errors import InvalidIntent, NotFound
from nsbridge.explain.compare import EXTRA, MISSING
from nsbridge.frontends.cli.main import main
from nsbridge.wiring import open_host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsbridge.explain.compare import Compared, Comparison

pytestmark = pytest.mark.netns

PLACES = (None, "web", "db", "outside")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Two endpoints on one network, one of them published, one on another; a host outside."""
    with FreshHost() as host, Lab(host) as lab:
        for name in ("web", "db", "other"):
            host.netns(name)
        shell("""set -e
        nsbridge network create front --subnet 10.77.0.0/24 --subnet fd00:77::/64
        nsbridge network create back --subnet 10.78.0.0/24
        nsbridge connect front web --ip 10.77.0.2 --ip6 fd00:77::2 -p 8080:80 -p 5353:53/udp
        nsbridge connect front db --ip 10.77.0.3 --ip6 fd00:77::3
        nsbridge connect back other""")
        for name in ("web", "db", "other"):
            lab.serve(name, *SERVERS[name], ns=name)
        lab.serve("outside", "http:80", "udp:53", ns="outside")
        yield lab
        shell("for name in web db; do nsbridge disconnect front $name; done; nsbridge disconnect back other")
        shell("nsbridge network rm front back")


def rulesets(lab: Lab) -> str:
    """Every rule of every namespace, without counts."""
    return "\n".join(lab.sh("nft --stateless list ruleset", where).out for where in PLACES)


@contextmanager
def nothing_left(lab: Lab) -> Iterator[None]:
    before = rulesets(lab)
    yield
    assert rulesets(lab) == before


def tried(question: str) -> Comparison:
    with Trace(open_host(), *question.split()) as trying:
        return trying.run()


def text(lines: tuple[Compared, ...]) -> str:
    return "\n".join(f"{one.mark} {one.netns} {one.stage} {one.thing} {one.predicted}/{one.kernel}" for one in lines)


@pytest.mark.parametrize(
    ("question", "outcome"),
    [
        ("outside host:8080", "connected"),
        ("outside host:5353/udp", "answered"),
        ("host 198.51.100.1:8080", "connected"),
        ("host 127.0.0.1:8080", "connected"),
        ("web db:80", "connected"),
        ("web db", "answered"),
        ("web outside:80", "connected"),
        ("web outside", "answered"),
        ("outside host:81", "refused"),
        ("outside db:80", "silence"),
        ("web other:80", "silence"),
    ],
)
def test_the_kernel_does_what_was_predicted(lab: Lab, question: str, outcome: str) -> None:
    with nothing_left(lab):
        found = tried(question)
    assert (found.outcome, found.differences) == (outcome, ()), text((*found.out, *found.back))
    assert found.agrees
