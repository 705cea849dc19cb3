"""The skeleton and real packets: two networks built with iproute2, elements of ours, requests from everywhere.

        a1 10.1.0.2   a2 10.1.0.3        b1 10.2.0.2
           └── nsb-a 10.1.0.1 ──┘           └── nsb-b 10.2.0.1        host ── up0 ── outside

IPv6 likewise with fd01:: and fd02::. Ports 8080 (every address) and 8081 (127.0.0.1 only) go to a1, 8082 to b1.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

import pytest
from lab import HOST4, HOST6, OUTSIDE, OUTSIDE4, OUTSIDE6, POLICIES, Lab, eventually

from nsbridge.desired.ruleset import skeleton
from nsbridge.firewall.ruleset import Element
from nsbridge.kernel import foreign
from nsbridge.kernel.nftnetlink import Nft
from nsbridge.model.names import TABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.netns

NETWORKS = {"a": (1, ("a1", "a2")), "b": (2, ("b1",))}


def one(name: str, *key: Any, data: tuple[Any, ...] = ()) -> Element:
    return Element(TABLE, name, key, data)


def elements() -> Iterator[Element]:
    for letter, (number, _) in NETWORKS.items():
        bridge = f"nsb-{letter}"
        yield from (one("bridges", bridge), one("icc", bridge, bridge))
        for digit, text in (("4", f"10.{number}.0.0/24"), ("6", f"fd0{number}::/64")):
            net = ip_network(text)
            yield from (
                one(f"home{digit}", bridge, net),
                one(f"subnets{digit}", net),
                one(f"hidden{digit}", net),
            )
    for proto in ("tcp", "udp"):
        yield one("publish4", proto, 8080, data=(ip_address("10.1.0.2"), 80))
        yield one("publish6", proto, 8080, data=(ip_address("fd01::2"), 80))
    yield one("publish4", "tcp", 8082, data=(ip_address("10.2.0.2"), 80))
    yield one("bound4", ip_address("127.0.0.1"), "tcp", 8081, data=(ip_address("10.1.0.2"), 80))


def build(lab: Lab) -> None:
    lab.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv6.conf.default.dad_transmits=0")
    for letter, (number, members) in NETWORKS.items():
        br = f"nsb-{letter}"
        lab.sh(
            f"ip link add {br} type bridge && ip addr add 10.{number}.0.1/24 dev {br} &&"
            f"ip addr add fd0{number}::1/64 dev {br} nodad && ip link set {br} up &&"
            f"sysctl -qw net.ipv4.conf.{br}.route_localnet=1"
        )
        for last, name in enumerate(members, 2):
            lab.ns(name)
            # A tentative link-local address, for two seconds, would keep neighbours from being asked for.
            lab.sh("sysctl -qw net.ipv6.conf.default.dad_transmits=0", name)
            lab.sh(
                f"ip link add {name} type veth peer name eth0 netns {name} && ip link set {name} master {br} up &&"
                f"ip link set {name} type bridge_slave hairpin on && ip -n {name} link set eth0 up &&"
                f"ip -n {name} addr add 10.{number}.0.{last}/24 dev eth0 &&"
                f"ip -n {name} addr add fd0{number}::{last}/64 dev eth0 nodad &&"
                f"ip -n {name} route add default via 10.{number}.0.1 &&"
                f"ip -n {name} -6 route add default via fd0{number}::1"
            )
            lab.serve(name, "http:80", "udp:80", ns=name)
    # Neighbour discovery loses its first packets while links come up: wait until every endpoint has answered.
    for number, members in NETWORKS.values():
        for last, _ in enumerate(members, 2):
            ping = f"ping -c1 -W1 10.{number}.0.{last} && ping -c1 -W1 fd0{number}::{last}"
            assert eventually(lambda ping=ping: lab.sh(ping, check=False).status == 0)
    assert eventually(lambda: lab.sh(f"ping -c1 -W1 {OUTSIDE4} && ping -c1 -W1 {OUTSIDE6}", check=False).status == 0)
    lab.serve("host", "http:9000")
    lab.serve("outside", "http:80", ns=OUTSIDE)


@pytest.fixture
def nft(lab: Lab, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nft]:
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "lock"))
    build(lab)
    found = Nft()
    found.apply("add", [skeleton(), *elements()])
    for thing in foreign.droppers(found):
        foreign.accept(thing, found)
    yield found
    found.close()


def server(lab: Lab, address: str, port: int, ns: str | None = None, timeout_s: float = 1.0) -> tuple[str, str]:
    """Who answered, and whom it saw asking."""
    host = f"[{address}]" if ":" in address else address
    reply = lab.get(f"http://{host}:{port}/", ns, timeout_s=timeout_s)
    return reply.server, reply.source


def blocked(lab: Lab, address: str, port: int, ns: str | None = None) -> bool:
    return server(lab, address, port, ns, 0.25) == ("", "")


@pytest.mark.proves("S29", "row 32", "row 40", "row 42", "row 43", "row 44", "row 58")
@pytest.mark.parametrize("lab", POLICIES, indirect=True)
def test_what_is_allowed_passes_whatever_the_host_drops(lab: Lab, nft: Nft) -> None:
    for address, far in ((HOST4, OUTSIDE4), (HOST6, OUTSIDE6)):
        assert server(lab, address, 8080, OUTSIDE) == ("a1", far)  # published, from outside
        assert lab.udp(address, 8080, OUTSIDE).server == "a1"
        assert server(lab, address, 8080)[0] == "a1"  # from the host, on its own address
        assert server(lab, address, 8080, "b1")[0] == "a1"  # from another network
        assert server(lab, address, 8080, "a2")[0] == "a1"  # from a neighbour
    assert server(lab, HOST4, 8082, "a1")[0] == "b1"
    assert server(lab, "127.0.0.1", 8080) == ("a1", "10.1.0.1")  # the host's loopback
    assert server(lab, "127.0.0.1", 8081) == ("a1", "10.1.0.1")
    assert server(lab, "10.1.0.1", 8080)[0] == "a1"  # the gateway's address
    assert server(lab, HOST4, 8080, "a1") == ("a1", "10.1.0.1")  # hairpin: to itself
    assert server(lab, HOST6, 8080, "a1") == ("a1", "fd01::1")
    assert server(lab, "10.1.0.3", 80, "a1") == ("a2", "10.1.0.2")  # neighbours, directly
    assert server(lab, "fd01::3", 80, "a1") == ("a2", "fd01::2")
    assert server(lab, OUTSIDE4, 80, "a1") == ("outside", HOST4)  # the way out
    assert server(lab, OUTSIDE6, 80, "a1") == ("outside", HOST6)
    assert server(lab, "10.1.0.1", 9000, "a1")[0] == "host"  # a service of the host, on the own gateway


@pytest.mark.proves("S2", "S3", "S4", "S9", "row 50", "row 55")
@pytest.mark.parametrize("lab", ["none", POLICIES[-1]], indirect=True)
def test_what_isnt_allowed_is_dropped(lab: Lab, nft: Nft) -> None:
    lab.sh(f"ip route add 10.1.0.0/16 via {HOST4} && ip -6 route add fd01::/32 via {HOST6}", OUTSIDE)
    assert blocked(lab, "10.1.0.2", 80, "b1")  # another network
    assert blocked(lab, "fd01::2", 80, "b1")
    assert blocked(lab, "10.1.0.2", 80, OUTSIDE)  # a neighbour of the host that routes straight to an endpoint
    assert blocked(lab, "fd01::2", 80, OUTSIDE)
    assert blocked(lab, "10.1.0.1", 9000, OUTSIDE)  # the gateway's address answers its own network only
    assert blocked(lab, "10.1.0.1", 9000, "b1")
    assert blocked(lab, "fd01::1", 9000, "b1")
    assert blocked(lab, HOST4, 8081, OUTSIDE)  # published on the loopback only
    assert blocked(lab, HOST4, 8081, "b1")
    assert server(lab, HOST4, 9000, OUTSIDE)[0] == "host"  # the host's own services are as before
    if lab.policy == "none":  # the paths exist: without our table every one is open
        nft.apply("remove", [skeleton()])
        for address, port, ns in (
            ("10.1.0.2", 80, "b1"), ("fd01::2", 80, "b1"), ("10.1.0.2", 80, OUTSIDE), ("fd01::2", 80, OUTSIDE),
            ("10.1.0.1", 9000, OUTSIDE), ("10.1.0.1", 9000, "b1"), ("fd01::1", 9000, "b1"),
        ):  # fmt: skip
            assert server(lab, address, port, ns)[0] == ("a1" if port == 80 else "host")


@pytest.mark.proves("S1")
@pytest.mark.parametrize("lab", ["none"], indirect=True)
def test_the_hosts_loopback_cant_be_reached_from_a_network(lab: Lab, nft: Nft) -> None:
    """CVE-2020-8558: with route_localnet on the bridge, and the sender's own loopback out of the way."""
    reach = (
        "ip route del local 127.0.0.0/8 dev lo table local; ip route del local 127.0.0.1 dev lo table local;"
        "ip addr flush dev lo; ip route add 127.0.0.1/32 via 10.1.0.1; sysctl -qw net.ipv4.conf.eth0.route_localnet=1"
    )
    lab.sh(reach, "a2", check=False)
    lab.sh("nft add element inet nsbridge bridges '{ nothing }'")
    assert blocked(lab, "127.0.0.1", 9000, "a2")
    lab.sh("nft flush chain inet nsbridge guard")
    assert server(lab, "127.0.0.1", 9000, "a2")[0] == "host"  # so it was the guard that kept it out


@pytest.mark.parametrize("lab", ["none"], indirect=True)
def test_an_endpoints_address_is_believed_only_from_its_own_bridge(lab: Lab, nft: Nft) -> None:
    lab.sh("ip addr add 10.1.0.9/32 dev lo", "b1")
    lab.sh("nft add table inet x; nft 'add chain inet x c { type filter hook input priority 0; }'")
    lab.sh("nft add rule inet x c ip saddr 10.1.0.9 counter accept")
    lab.sh("ping -c1 -W1 -I 10.1.0.9 10.2.0.1", "b1", check=False)
    assert "counter packets 0" in lab.sh("nft list chain inet x c").out


@pytest.mark.proves("S13")
@pytest.mark.parametrize("lab", ["none"], indirect=True)
def test_a_host_that_we_made_forward_is_no_router_for_strangers(lab: Lab, nft: Nft) -> None:
    lab.ns("other")
    lab.sh(
        "ip link add oth0 type veth peer name eth0 netns other; ip addr add 10.9.0.1/24 dev oth0; ip link set oth0 up;"
        "ip -n other addr add 10.9.0.2/24 dev eth0; ip -n other link set eth0 up;"
        f"ip -n other route add default via 10.9.0.1; ip -n {OUTSIDE} route add 10.9.0.0/24 via {HOST4}"
    )
    assert server(lab, OUTSIDE4, 80, "other") == ("outside", "10.9.0.2")
    nft.apply("add", [one("raised", "ipv4")])
    assert blocked(lab, OUTSIDE4, 80, "other")
    assert server(lab, HOST4, 8080, "other")[0] == "a1"  # what is published is for everybody


@pytest.mark.proves("S10", "row 29")
@pytest.mark.parametrize("lab", ["none"], indirect=True)
def test_an_internal_network_has_no_way_in_or_out(lab: Lab, nft: Nft) -> None:
    nft.apply("add", [one("internal", "nsb-a")])
    assert server(lab, "10.1.0.3", 80, "a1")[0] == "a2"
    assert blocked(lab, OUTSIDE4, 80, "a1")
    assert blocked(lab, HOST4, 8080, OUTSIDE)
    nft.apply("remove", [one("icc", "nsb-b", "nsb-b")])
    assert server(lab, OUTSIDE4, 80, "b1") == ("outside", HOST4)
