"""What one endpoint and one port cost doesn't depend on how many others there are.

No clock is read: messages to the kernel, bytes in both directions, calls that touch files and names that are listed are
counted, once with one other endpoint around and once with sixty. A dump of links, a listing of rules, a file that
holds all the others would show.
"""

from __future__ import annotations

import os
from collections import Counter
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import pytest

from nsbridge import wiring
from nsbridge.engine import endpoints, networks
from nsbridge.engine.endpoints import Wish
from nsbridge.kernel import netns
from nsbridge.kernel.linux import LinuxKernel
from nsbridge.kernel.netlink import NetlinkSocket
from nsbridge.model.endpoint import PublishedPort
from nsbridge.model.network import Network, Subnet
from nsbridge.model.service import Attachment

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab import FreshHost

    from nsbridge.engine.host import Host

pytestmark = pytest.mark.netns

OTHERS = 60
FILE_CALLS = ("open", "read", "write", "listdir", "link", "rename", "unlink", "stat")
SLACK = 64
"""Bytes by which numbers with more digits may differ."""


class Counting:
    """A socket that counts what goes through it."""

    def __init__(self, sock: Any, seen: Counter[str]) -> None:
        self._sock = sock
        self._seen = seen

    def send(self, data: bytes) -> int:
        self._seen["sends"] += 1
        self._seen["bytes sent"] += len(data)
        at = 0
        while at < len(data):
            self._seen["messages"] += 1
            at += int.from_bytes(data[at : at + 4], "little") + 3 & ~3
        return int(self._sock.send(data))

    def recv(self, *args: int) -> bytes:
        data: bytes = self._sock.recv(*args)
        self._seen["bytes received"] += len(data)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """What has been counted up to now."""
    counted: Counter[str] = Counter()
    opened = NetlinkSocket.__init__

    def counting_socket(self: NetlinkSocket, protocol: int) -> None:
        opened(self, protocol)
        counted["sockets"] += 1
        self._socket = Counting(self._socket, counted)  # type: ignore[assignment]

    def counting(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counts(*args: Any, **named: Any) -> Any:
            result = call(*args, **named)
            counted[name] += 1
            if name == "listdir":
                counted["names listed"] += len(result)
            elif name == "read":
                counted["bytes read"] += len(result)
            elif name == "write":
                counted["bytes written"] += len(args[1])
            return result

        return counts

    monkeypatch.setattr(NetlinkSocket, "__init__", counting_socket)
    # It asks until the link carries packets: how often is a matter of time, and of no other endpoint.
    monkeypatch.setattr(LinuxKernel, "await_link", lambda self, name: None)
    for name in FILE_CALLS:
        monkeypatch.setattr(os, name, counting(name, getattr(os, name)))
    return counted


def attach(host: Host, number: int) -> None:
    name = f"e{number:03}"
    netns.create(f"/run/netns/{name}")
    port = PublishedPort(80, 20000 + number)
    endpoints.connect(host, Wish(name, f"/run/netns/{name}", Attachment("net"), ports=(port,)))


def one_more(host: Host, seen: Counter[str], number: int) -> dict[str, Counter[str]]:
    """Attach, publish, unpublish and detach one more; return what each of these cost."""
    name = f"e{number:03}"
    netns.create(f"/run/netns/{name}")
    port = PublishedPort(80, 20000 + number)
    more = (PublishedPort(81, 30000 + number),)
    wish = Wish(name, f"/run/netns/{name}", Attachment("net"), ports=(port,))
    found = {}
    for what, action in (
        ("connect", lambda: endpoints.connect(host, wish)),
        ("publish", lambda: endpoints.publish(host, name, more, "net")),
        ("unpublish", lambda: endpoints.unpublish(host, name, more, "net")),
        ("disconnect", lambda: endpoints.disconnect(host, "net", name)),
    ):
        seen.clear()
        action()
        found[what] = Counter(seen)
    netns.remove(f"/run/netns/{name}")
    return found


@pytest.mark.parametrize("ephemeral", [False, True], ids=["a network", "one that goes with its last endpoint"])
def test_cost_does_not_grow_with_the_others(host: FreshHost, seen: Counter[str], ephemeral: bool) -> None:
    opened = wiring.open_host()
    networks.create(opened, Network("net", (Subnet(ip_network("172.29.0.0/16")),), ephemeral=ephemeral))
    attach(opened, 100)
    one_more(opened, seen, 101)  # opens sockets and makes folders
    few = one_more(opened, seen, 102)
    for number in range(103, 103 + OTHERS):
        attach(opened, number)
    many = one_more(opened, seen, 103 + OTHERS)
    for what, cost in few.items():
        assert cost["messages"] > 0
        assert cost["open"] > 0
        for name in cost | many[what]:
            slack = SLACK if name.startswith("bytes") else 0
            assert abs(cost[name] - many[what][name]) <= slack, (what, name, cost[name], many[what][name])
    endpoints.disconnect_all(opened, "net", [f"e{number}" for number in (100, *range(103, 103 + OTHERS))])
    assert not opened.store.endpoints("net")
    for number in (100, *range(103, 103 + OTHERS)):
        netns.remove(f"/run/netns/e{number}")
    if not ephemeral:
        networks.remove(opened, "net")
    assert not opened.store.networks()


def test_many_are_taken_away_by_one_deletion(host: FreshHost, seen: Counter[str]) -> None:
    """Each synchronous deletion of a link waits some 20 ms for RCU, so there is one for all of them."""
    opened = wiring.open_host()
    networks.create(opened, Network("net", (Subnet(ip_network("172.29.0.0/16")),)))
    names = [f"e{number}" for number in range(100, 120)]
    for number in range(100, 120):
        attach(opened, number)
    deletions = []
    transact = NetlinkSocket.transact

    def watched(self: NetlinkSocket, messages: Any, **named: Any) -> None:
        deletions.extend(one for one in messages if self._protocol == 0 and one[4:6] == (17).to_bytes(2, "little"))
        transact(self, messages, **named)

    NetlinkSocket.transact = watched  # type: ignore[method-assign]
    try:
        gone = endpoints.disconnect_all(opened, "net", names)
    finally:
        NetlinkSocket.transact = transact  # type: ignore[method-assign]
    assert [endpoint.name for endpoint in gone] == names
    assert len(deletions) == 1
    networks.remove(opened, "net")
    for name in names:
        netns.remove(f"/run/netns/{name}")
