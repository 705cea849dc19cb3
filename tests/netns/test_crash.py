"""SIGKILL at every effect of every command: the next command finishes it or undoes it, and nothing is lost or left.

For each case the effects are counted first. Then, for each of them: the command is killed there, the next command
recovers, and what there is must be what there was before the command or what there is after it; the same command
again must work, and what takes it back must give the first picture again, byte for byte.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from crash import Ended, child, no_strangers, picture, recover, root
from lab import FreshHost, drop_forwarded, processes, sh

from nsbridge import files
from nsbridge.engine import endpoints, gc, networks, services, topology
from nsbridge.engine.endpoints import Wish
from nsbridge.model.endpoint import PublishedPort
from nsbridge.model.network import Network, Subnet
from nsbridge.model.service import Attachment, Service, Topology

if TYPE_CHECKING:
    from collections.abc import Callable

    from nsbridge.engine.host import Host

    Command = Callable[[Host], object]

pytestmark = pytest.mark.netns

EXAMPLES = Path(__file__).parents[2] / "examples"
WEB = Network("web", (Subnet(ip_network("10.9.0.0/24")), Subnet(ip_network("fd09::/64"))), ipv6=True, bridge="web")
FIXED = Attachment("web", ip_address("10.9.0.7"), ip_address("fd09::7"), aliases=("www",))
PORTS = (PublishedPort(80, 8080), PublishedPort(53, 5353, "udp", ip_address("127.0.0.1")))
MORE = (PublishedPort(81, 8081), PublishedPort(82, 8082, "tcp", ip_address("::1")))


def connect(host: Host) -> object:
    return endpoints.connect(host, Wish("guest", "/run/netns/guest", FIXED, ports=PORTS))


def disconnect(host: Host) -> object:
    return endpoints.disconnect(host, "web", "guest")


@dataclass(frozen=True)
class Case:
    """A command, what must be there before it, and what takes it back.

    whole: it is one operation, so it is there in full or not at all. least: how many effects it has at least.
    """

    command: Command
    back: Command
    before: tuple[Command, ...] = ()
    whole: bool = True
    least: int = 10
    shell: str = ""


def every_point(case: Case, host: FreshHost) -> None:
    known = set(processes())
    host.netns("guest")
    sh(case.shell)
    for command in (*case.before, case.command, case.back):  # leaves empty folders, resolv.conf and cursors behind
        assert not (done := child(command)).error, done.error
    start = picture("guest")
    counted = child(case.command)
    assert not counted.error, counted.error
    end = picture("guest")
    known |= set(processes())  # commands of the services
    child(case.back)
    assert picture("guest") == start
    assert len(counted.seen) >= case.least
    began = time.monotonic()
    for at, point in enumerate(counted.seen):
        where = f"killed before {at}, {point}"
        assert child(case.command, at).killed, where
        said = recover().said
        found = picture("guest")
        if case.whole:
            assert found in (start, end), f"{where}; {said}\n" + difference(start, found)
        again = child(case.command)
        if found == start or not case.whole:
            assert not again.error, f"{where}; {said}; {again.error}"
        assert picture("guest") == end, f"{where}; {said}\n" + difference(end, picture("guest"))
        back = child(case.back)
        assert not back.error, f"{where}; {said}; {back.error}"
        found = picture("guest")
        assert found == start, f"{where}; {said}\n" + difference(start, found)
        assert not list((root() / "journal").iterdir()), where
        assert not (left := no_strangers(known)), f"{where}: {left}"
    print(f"{len(counted.seen)} points in {time.monotonic() - began:.1f} s")


def difference(expected: str, found: str) -> str:
    one, two = set(expected.splitlines()), set(found.splitlines())
    return "\n".join([f"- {row}" for row in sorted(one - two)] + [f"+ {row}" for row in sorted(two - one)])


def create(host: Host) -> object:
    return networks.create(host, WEB)


def remove(host: Host) -> object:
    return networks.remove(host, "web")


def publish(host: Host) -> object:
    return endpoints.publish(host, "guest", MORE)


def unpublish(host: Host) -> object:
    return endpoints.unpublish(host, "guest", MORE)


def connect_default(host: Host) -> object:
    return endpoints.connect(host, Wish("guest", "/run/netns/guest", Attachment("default", ip_address("10.201.0.9"))))


def disconnect_default(host: Host) -> object:
    return endpoints.disconnect(host, "default", "guest")


CASES = {
    "network create": Case(create, remove, least=30),
    "network rm": Case(remove, create, (create,), least=15),
    "connect": Case(connect, disconnect, (create,), least=40),
    "disconnect": Case(disconnect, connect, (create, connect), least=15),
    "publish": Case(publish, unpublish, (create, connect), least=8),
    "unpublish": Case(unpublish, publish, (create, connect, publish), least=8),
    "connect to the default network": Case(connect_default, disconnect_default, whole=False, least=60),
    "disconnect from the default network": Case(
        disconnect_default, connect_default, (connect_default,), whole=False, least=30
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_killed_at_every_point(host: FreshHost, name: str) -> None:
    every_point(CASES[name], host)
