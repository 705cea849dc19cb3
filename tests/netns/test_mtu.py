"""How large packets may be: taken from the uplink, and found out on the way where it gets narrower.

endpoint ── host ── up0 1400 ── outside ── 1300 (1500 the other way) ── far
"""

from __future__ import annotations

import socket
import threading
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
from lab import HOST4, HOST6, OUTSIDE, eventually, hears, inside
from test_state_links import NET4, NET6, ip, join, made

from nsbridge.engine import endpoints, networks
from nsbridge.model.endpoint import PublishedPort
from nsbridge.model.network import Network
from nsbridge.wiring import open_host

if TYPE_CHECKING:
    from lab import Lab

pytestmark = pytest.mark.netns

FAR = {4: "203.0.113.2", 6: "2001:db8:2::2"}
SIZE = 300_000


@pytest.fixture
def narrow(lab: Lab) -> Lab:
    """A lab whose uplink takes 1400 bytes, and the way to `far` 1300."""
    lab.ns("far")
    lab.sh("ip link set up0 mtu 1400")
    lab.sh(
        """set -e
        ip link set eth0 mtu 1400
        ip link add far0 type veth peer name eth0 netns far
        sysctl -qw net.ipv6.conf.far0.accept_dad=0  # while it checks its own address, a router asks for no other
        ip address add 203.0.113.1/24 dev far0
        ip address add 2001:db8:2::1/64 dev far0 nodad
        ip link set far0 mtu 1300 up
        sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1""",
        OUTSIDE,
    )
    lab.sh(
        """set -e
        sysctl -qw net.ipv6.conf.eth0.accept_dad=0
        ip address add 203.0.113.2/24 dev eth0
        ip address add 2001:db8:2::2/64 dev eth0 nodad
        ip link set eth0 up
        ip route add default via 203.0.113.1
        ip -6 route add default via 2001:db8:2::1""",
        "far",
    )
    assert eventually(lambda: hears("far0", lab.ns(OUTSIDE)) and hears("eth0", lab.ns("far")))
    return lab


def downloaded(lab: Lab, server: str, address: str, client: str) -> int:
    """Fetch SIZE bytes from port 80 of a namespace, published at 8080 of an address; return how many came in 3 s."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = inside(
        lab.ns(server), lambda: socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True)
    )

    def serve() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.sendall(b"x" * SIZE)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()

    def fetch() -> int:
        total = 0
        with socket.socket(family) as sock:
            sock.settimeout(3)
            sock.connect((address, 8080))
            try:
                while part := sock.recv(1 << 16):
                    total += len(part)
            except TimeoutError:
                pass
        return total

    found = inside(lab.ns(client), fetch)
    listener.close()
    thread.join(3)
    return found


@pytest.mark.proves("row 12")
@pytest.mark.parametrize("lab", ["none", "nft"], indirect=True)
def test_the_mtu_is_the_uplinks_and_errors_about_it_get_back(narrow: Lab) -> None:
    host = made()
    assert host.store.network("net").mtu == 1400
    one = join(host, narrow, "one")
    host_end = ip(narrow, f"link show {one.host_ifname}")[0]
    assert (host_end["mtu"], ip(narrow, "link show eth0", "one")[0]["mtu"]) == (1400, 1400)
    assert ip(narrow, "link show nsb-net")[0]["mtu"] == 1400
    for version, overhead in ((4, 28), (6, 48)):
        ping = f"ping -{version} -M do -c1 -W1"
        assert narrow.sh(f"{ping} -s {1300 - overhead} {FAR[version]}", "one").status == 0
        # The router outside says that it is too large, and says it to the host, whose address the packet had.
        assert narrow.sh(f"{ping} -s {1400 - overhead} {FAR[version]}", "one", check=False).status == 1
        known = narrow.sh(f"ip -{version} route get {FAR[version]}", "one").out
        assert "mtu 1300" in known, known
        assert narrow.sh(f"{ping} -s {1300 - overhead} {FAR[version]}", "one").status == 0


@pytest.mark.proves("row 12")
@pytest.mark.parametrize("lab", ["none", "nft"], indirect=True)
def test_answers_of_published_ports_find_the_way_that_gets_narrower(narrow: Lab) -> None:
    """A server's large answers: the error about them comes to the host's address and has to reach the endpoint."""
    host = made()
    join(host, narrow, "one")
    endpoints.publish(host, "one", (PublishedPort(80, 8080),))
    assert downloaded(narrow, "one", HOST4, "far") == SIZE
    assert downloaded(narrow, "one", HOST6, "far") == SIZE


@pytest.mark.proves("row 12")
def test_a_network_wider_than_its_uplink_is_told_so_by_the_host(narrow: Lab) -> None:
    host = open_host()
    networks.create(host, Network("net", (NET4, NET6), mtu=1500))
    join(host, narrow, "one", ipv4=ip_address("10.9.0.5"))
    for version, overhead in ((4, 28), (6, 48)):
        ping = f"ping -{version} -M do -c1 -W1 -s {1500 - overhead} {FAR[version]}"
        said = narrow.sh(f"{ping} 2>&1", "one", check=False).out
        assert "mtu = 1400" in said or "mtu=1400" in said, said
