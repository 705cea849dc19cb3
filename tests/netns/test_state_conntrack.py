"""What conntrack remembers of a port or endpoint that changed is forgotten, and nothing else; with real clients."""

from __future__ import annotations

import socket
import time
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lab import HOST4, HOST6, OUTSIDE, Lab, inside

from nsbridge.engine import endpoints, networks
from nsbridge.engine.endpoints import Wish
from nsbridge.firewall.ruleset import Element, Span
from nsbridge.kernel import conntrack, ctproc, sysctl
from nsbridge.kernel.conntrack import COUNT
from nsbridge.kernel.netlink import NETFILTER, NetlinkSocket
from nsbridge.model.endpoint import PublishedPort
from nsbridge.model.names import TABLE
from nsbridge.model.network import Network, Subnet
from nsbridge.model.service import Attachment
from nsbridge.wiring import open_host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsbridge.engine.host import Host
    from nsbridge.kernel.conntrack import Entry

pytestmark = [pytest.mark.netns, pytest.mark.proves("S15", "row 53")]

HOSTS = {4: HOST4, 6: HOST6}


@pytest.fixture(params=["by file", "by netlink"], autouse=True)
def source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few connections are read from a file, many by netlink."""
    if request.param == "by netlink":
        monkeypatch.setattr(conntrack, "_FEW", -1)


@pytest.fixture
def ours(lab: Lab) -> Iterator[Host]:
    host = open_host()
    networks.create(host, Network("net", (Subnet(ip_network("10.9.0.0/24")), Subnet(ip_network("fd09::/64")))))
    for name in ("one", "two"):
        endpoints.connect(host, Wish(name, lab.ns(name), Attachment("net")))
        lab.serve(name, "udp:53", "tcp:80", ns=name)
    return host


class Client:
    """A socket outside that keeps its port, as a long-lived client does."""

    def __init__(self, version: int, port: int, kind: int = socket.SOCK_DGRAM) -> None:
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        self.sock = inside(f"/run/netns/{OUTSIDE}", lambda: socket.socket(family, kind))
        self.sock.settimeout(0.1)
        self.sock.connect((HOSTS[version], port))

    def __call__(self) -> str:
        """Say something; return the name of the server that answers, "" without an answer."""
        try:
            self.sock.send(b"hello")
            answer = self.sock.recv(4096).decode()
        except OSError:
            return ""
        return answer.split('"')[3] if answer else ""


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("flushed", [True, False])
def test_a_udp_client_that_goes_on_finds_the_port_where_it_is_now(
    ours: Host, version: int, flushed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not flushed:  # the black hole that the flush is for
        monkeypatch.setattr(conntrack, "_delete", lambda sock, stale: 0)
    early = Client(version, 5353)
    assert early() == ""
    endpoints.publish(ours, "one", (PublishedPort(53, 5353, "udp"),))
    assert early() == ("one" if flushed else "")
    client, other = Client(version, 5353), Client(version, 5354)
    endpoints.publish(ours, "one", (PublishedPort(53, 5354, "udp"),))
    assert (client(), other()) == ("one", "one")
    endpoints.unpublish(ours, "one", (PublishedPort(53, 5353, "udp"),))
    assert client() == ("" if flushed else "one")
    endpoints.publish(ours, "two", (PublishedPort(53, 5353, "udp"),))
    assert client() == ("two" if flushed else "one")
    assert other() == "one"


@pytest.mark.parametrize("version", [4, 6])
def test_an_endpoint_that_goes_takes_its_connections_along(ours: Host, lab: Lab, version: int) -> None:
    endpoints.publish(ours, "one", (PublishedPort(53, 5353, "udp"), PublishedPort(80, 8080)))
    endpoints.publish(ours, "two", (PublishedPort(80, 8081),))
    moved, cut = Client(version, 5353), Client(version, 8080, socket.SOCK_STREAM)
    kept = Client(version, 8081, socket.SOCK_STREAM)
    assert (moved(), cut(), kept()) == ("one", "one", "two")
    lab.serve("far", "udp:99", ns=OUTSIDE)
    there = {4: "198.51.100.2", 6: "2001:db8:1::2"}[version]
    assert lab.udp(there, 99, ns="one").server == "far"  # a connection of its own, with the host's address
    gone = endpoints.disconnect(ours, "net", "one")
    with NetlinkSocket(NETFILTER) as sock:
        left = conntrack.entries(sock, conntrack._request(conntrack._GET, 0, b""))
    was = {address.ip for address in gone.addresses}
    assert not [one for one in left if was & {one.orig.src, one.orig.dst, one.reply.src}]
    assert cut() == ""
    assert kept() == "two"
    endpoints.publish(ours, "two", (PublishedPort(53, 5353, "udp"),))
    assert moved() == "two"


def test_a_port_moved_in_one_step_and_ports_bound_to_an_address(ours: Host) -> None:
    on_one = PublishedPort(53, 5353, "udp", ip_address(HOST4))
    early = Client(4, 5353)
    assert early() == ""
    endpoints.publish(ours, "one", (on_one,))
    assert early() == "one"
    endpoints.unpublish(ours, "one", (on_one,))
    endpoints.publish(ours, "two", (on_one.replace(host_port=0),))
    assert early() == ""
    endpoints.publish(ours, "two", (on_one,))
    assert early() == "two"


def test_somebody_elses_connections_to_that_port_number_stay(ours: Host, lab: Lab) -> None:
    lab.serve("far", "udp:5353", ns=OUTSIDE)
    assert lab.udp("198.51.100.2", 5353, ns="two").server == "far"
    with NetlinkSocket(NETFILTER) as sock:
        every = conntrack._request(conntrack._GET, 0, b"")
        before = {one.name for one in conntrack.entries(sock, every)}
        endpoints.publish(ours, "one", (PublishedPort(53, 5353, "udp"),))
        assert before <= {one.name for one in conntrack.entries(sock, every)}


def test_many_ports_are_one_listing(ours: Host) -> None:
    clients = [Client(4, 6000 + number) for number in range(6)]
    assert {client() for client in clients} == {""}
    ports = tuple(PublishedPort(53, 6000 + number, "udp") for number in range(6))
    endpoints.publish(ours, "one", ports)
    assert {client() for client in clients} == {"one"}
    endpoints.unpublish(ours, "one", ports)
    assert {client() for client in clients} == {""}


def test_fifty_thousand_connections_of_others_stay_as_they_are(ours: Host, lab: Lab) -> None:
    def flood() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for number in range(50_000):
                try:
                    sock.sendto(b"x", ("198.51.100.1", 10_000 + number % 50_000))
                except OSError:
                    continue

    inside(f"/run/netns/{OUTSIDE}", flood)
    count = int(sysctl.read(COUNT))
    assert count > 40_000
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        endpoints.publish(ours, "one", (PublishedPort(53, 5353, "udp"),))
        between = time.perf_counter()
        endpoints.unpublish(ours, "one", (PublishedPort(53, 5353, "udp"),))
        times.append((between - begun, time.perf_counter() - between))
    print(
        f"{count} connections: publish {min(a for a, _ in times) * 1e3:.1f} ms, "
        f"unpublish {min(b for _, b in times) * 1e3:.1f} ms"
    )
    # Copying all of them would take fourteen times as long as the walk does; bench/ measures it.
    assert int(sysctl.read(COUNT)) > 40_000


def test_ranges_and_interfaces_are_ports_like_others(ours: Host) -> None:
    early = [Client(4, 7005), Client(6, 7005), Client(4, 7100)]
    assert [client() for client in early] == ["", "", ""]
    endpoints.publish(ours, "one", (PublishedPort(53, 7100, "udp", interface="up0"),))
    assert early[2]() == "one"
    endpoints.unpublish(ours, "one", (PublishedPort(53, 7100, "udp", interface="up0"),))
    assert early[2]() == ""
    many = PublishedPort(7000, 7000, "udp", count=100)
    gone = Element(TABLE, "ranges4", (ip_network("0.0.0.0/0"), "udp", Span(7000, 7099)), (ip_address("10.9.0.2"),))
    assert [conntrack._port(gone)] == [conntrack._Port(17, 7000, 7099, ip_address("10.9.0.2"), at=gone.key[0])]
    endpoints.publish(ours, "one", (many,))
    with NetlinkSocket(NETFILTER) as sock:
        every = conntrack._request(conntrack._GET, 0, b"")
        assert not [one for one in conntrack.entries(sock, every) if one.orig.dst_port == 7005]
        early[0](), early[1]()  # refused by the endpoint, which has no server there: but by it
        rewritten = {str(one.reply.src) for one in conntrack.entries(sock, every) if one.orig.dst_port == 7005}
        assert rewritten == {"10.9.0.2", "fd09::2"}
        endpoints.unpublish(ours, "one", (many,))
        assert not [one for one in conntrack.entries(sock, every) if one.orig.dst_port == 7005]


def test_the_file_tells_what_netlink_tells(ours: Host, lab: Lab) -> None:
    if not Path(ctproc.PATH).exists():
        pytest.skip("this kernel has no /proc/net/nf_conntrack (CONFIG_NF_CONNTRACK_PROCFS)")
    endpoints.publish(ours, "one", (PublishedPort(53, 5353, "udp"), PublishedPort(80, 8080)))
    for version in (4, 6):
        assert Client(version, 5353)() == "one"
        held = Client(version, 8080, socket.SOCK_STREAM)
        held.sock.close()
        lab.sh(f"ping -c1 -W1 {HOSTS[version]}", OUTSIDE)
        Client(version, 5399)()  # nobody answers: unreplied

    def key(entry: Entry) -> tuple[object, ...]:
        return (str(entry.orig), str(entry.reply), entry.status & conntrack.DST_NAT)

    sock = NetlinkSocket(NETFILTER)
    told = conntrack.entries(sock, conntrack._request(conntrack._GET, 0, b""))
    known = [entry for entry in told if entry.orig.proto in ctproc._FIELDS]
    if len(known) == len(told):
        found = ctproc.entries()
        assert found is not None
        assert sorted(map(key, found)) == sorted(map(key, told))
    (web,) = (one.addresses[0].ip for one in ours.store.endpoints("net", "one"))
    some = ctproc.entries([f"={web.exploded} "])
    assert some
    assert sorted(map(key, some)) == sorted(
        key(one) for one in told if web in (one.reply.src, one.orig.dst, one.orig.src)
    )
    # The names are good to delete by.
    assert conntrack._delete(sock, some) == len(some)
    assert not ctproc.entries([f"={web.exploded} "])
