"""Options of networks by Docker's names: what they change in the kernel and for packets."""

from __future__ import annotations

import socket
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
from lab import HOST4, HOST6, OUTSIDE, OUTSIDE4, inside
from test_state_links import NET4, NET6, ip, join, made, still

from nsbridge.engine import doctor, endpoints, networks
from nsbridge.errors import InvalidIntent
from nsbridge.model.endpoint import PublishedPort
from nsbridge.model.network import Network

if TYPE_CHECKING:
    from lab import Lab

pytestmark = pytest.mark.netns
ARP, IPV6 = 0x0806, 0x86DD


@pytest.mark.proves("row 4")
def test_a_bridge_without_an_address_until_somebody_gives_it_one(lab: Lab) -> None:
    before = still()
    host = made(Network("net", (NET4, NET6), inhibit_ipv4=True))
    assert {one["family"] for one in ip(lab, "address show nsb-net")[0]["addr_info"]} == {"inet6"}
    one = join(host, lab, "one")
    two = join(host, lab, "two")
    assert lab.sh(f"ping -c1 -W1 {two.addresses[0].ip}", "one").status == 0
    assert lab.sh("ping -c1 -W1 fd09::1", "one").status == 0
    assert ip(lab, "route show default", "one")[0]["gateway"] == "10.9.0.1"
    assert lab.sh("ping -c1 -W1 10.9.0.1", "one", check=False).status == 1
    lab.serve("one", "http:80", ns="one")
    endpoints.publish(host, one.name, (PublishedPort(80, 8080),))
    assert not lab.get(f"http://{HOST4}:8080/", ns=OUTSIDE, timeout_s=0.3)
    lab.sh("ip address add 10.9.0.1/24 dev nsb-net")
    assert lab.get(f"http://{HOST4}:8080/", ns=OUTSIDE).source == OUTSIDE4
    assert lab.get("http://127.0.0.1:8080/").server == "one"
    assert networks.mend(host, host.store.network("net")) == ()
    assert not [found for found in doctor.examine(host) if found.level in ("warning", "error")]
    for name in ("one", "two"):
        endpoints.disconnect(host, "net", name)
    networks.remove(host, "net")
    assert still() == before


def heard(kind: int, address: str, sock: socket.socket) -> int:
    """How many gratuitous ARPs, or unsolicited advertisements, of an address have come."""
    count, packed = 0, ip_address(address).packed
    sock.settimeout(0.1)
    try:
        while frame := sock.recv(2048):
            gratuitous = kind == ARP and frame[28:32] == frame[38:42] == packed
            unsolicited = kind == IPV6 and frame[20] == 58 and frame[54] == 136 and frame[62:78] == packed
            count += gratuitous or (unsolicited and not frame[58] & 0x40)
    except TimeoutError:
        return count


@pytest.mark.proves("row 24")
def test_addresses_are_advertised_as_often_as_asked(lab: Lab) -> None:
    host = made(Network("net", (NET4, NET6), advertise=3, advertise_ms=100))
    join(host, lab, "neighbour")

    def listen(kind: int) -> socket.socket:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(kind))
        sock.bind(("eth0", kind))
        return sock

    neighbour = lab.ns("neighbour")
    with inside(neighbour, lambda: listen(ARP)) as arp, inside(neighbour, lambda: listen(IPV6)) as ipv6:
        begun = time.monotonic()
        join(host, lab, "new", ipv4=ip_address("10.9.0.7"))
        assert time.monotonic() - begun > 0.2
        assert heard(ARP, "10.9.0.7", arp) == 3
        assert heard(IPV6, "fd09::3", ipv6) == 3


@pytest.mark.proves("row 24")
def test_nothing_is_advertised_if_asked_so(lab: Lab) -> None:
    host = made(Network("net", (NET4, NET6), advertise=0))
    join(host, lab, "neighbour")
    join(host, lab, "old", ipv4=ip_address("10.9.0.7"), mac="02:00:00:00:00:07")
    assert lab.sh("ping -c1 -W1 10.9.0.7", "neighbour").status == 0
    endpoints.disconnect(host, "net", "old")
    join(host, lab, "new", ipv4=ip_address("10.9.0.7"))
    assert lab.sh("ping -c1 -W1 10.9.0.7", "neighbour", check=False).status != 0  # it still knows the old MAC


def test_bounds_are_dockers() -> None:
    with pytest.raises(InvalidIntent, match="4 times"):
        Network("net", advertise=4)
    with pytest.raises(InvalidIntent, match="every 50 ms"):
        Network("net", advertise_ms=50)


@pytest.mark.proves("row 28")
def test_a_link_that_somebody_took_out_of_forwarding_is_named(lab: Lab) -> None:
    host = made()
    join(host, lab, "one")
    lab.serve("one", "http:80", ns="one")
    endpoints.publish(host, "one", (PublishedPort(80, 8080),))
    assert lab.get(f"http://{HOST4}:8080/", ns=OUTSIDE)

    def named() -> list[tuple[str, str]]:
        return [(one.level, one.what) for one in doctor.examine(host) if "aren't forwarded" in one.what]

    assert named() == []
    lab.sh("sysctl -qw net.ipv4.conf.up0.forwarding=0")
    assert not lab.get(f"http://{HOST4}:8080/", ns=OUTSIDE, timeout_s=0.3)
    assert named() == [
        ("warning", "net/ipv4/conf/up0/forwarding is 0: IPv4 packets that come in by up0 aren't forwarded")
    ]
    lab.sh("sysctl -qw net.ipv4.conf.up0.forwarding=1 net.ipv4.conf.nsb-net.forwarding=0")
    assert lab.sh(f"ping -c1 -W1 {OUTSIDE4}", "one", check=False).status
    assert [level for level, _ in named()] == ["error"]
    lab.sh("sysctl -qw net.ipv4.conf.nsb-net.forwarding=1")
    # The same setting of IPv6 says who is a router, not what is forwarded.
    lab.sh("sysctl -qw net.ipv6.conf.up0.forwarding=0 net.ipv6.conf.nsb-net.forwarding=0")
    assert lab.get(f"http://[{HOST6}]:8080/", ns=OUTSIDE)
    assert named() == []
