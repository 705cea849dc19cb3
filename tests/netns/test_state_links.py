"""Addresses, names, routes and limits of endpoints: what the kernel then holds, and what packets do."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from commands import settled
from lab import HOST4, HOST6, OUTSIDE, OUTSIDE4, OUTSIDE6, Lab, eventually, inside

from nsbridge.desired.endpoint import endpoint_things
from nsbridge.engine import addresses, endpoints, networks, services, topology
from nsbridge.engine.endpoints import Wish
from nsbridge.errors import InvalidIntent, KernelError, NotFound, Taken, Unsupported
from nsbridge.files import parts
from nsbridge.model.endpoint import Endpoint, PublishedPort
from nsbridge.model.limits import Limits
from nsbridge.model.network import Network, StaticRoute, Subnet
from nsbridge.model.service import Attachment, Service, Topology
from nsbridge.plan.diff import adding
from nsbridge.wiring import open_host

if TYPE_CHECKING:
    from nsbridge.engine.host import Host

pytestmark = pytest.mark.netns

NET4, NET6 = Subnet(ip_network("10.9.0.0/24")), Subnet(ip_network("fd09::/64"))


def made(*nets: Network) -> Host:
    host = open_host()
    for net in nets or (Network("net", (NET4, NET6)),):
        networks.create(host, net)
    return host


def join(host: Host, lab: Lab, name: str, network: str = "net", **more: Any) -> Endpoint:
    return endpoints.connect(host, Wish(name, lab.ns(name), Attachment(network, **more)))


def still() -> list[str]:
    """The host's snapshot, without the namespaces that the test itself made."""
    return [line for line in settled().splitlines() if not line.startswith("netns|")]


def ip(lab: Lab, arguments: str, ns: str | None = None) -> Any:
    return json.loads(lab.sh(f"ip -j {arguments}", ns).out or "[]")


# ------------------------------------------------------------------ addresses


@pytest.mark.proves("row 24")
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("announced", [True, False])
def test_a_reused_address_answers_at_once(
    lab: Lab, version: int, announced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The neighbour keeps the old MAC for a minute unless it is told; so it stays in vain without."""
    host = made()
    join(host, lab, "neighbour")
    wanted: dict[str, Any] = {"ipv4": ip_address("10.9.0.7"), "ipv6": ip_address("fd09::7")}
    address = str(wanted[f"ipv{version}"])
    join(host, lab, "old", **wanted, mac="02:00:00:00:00:07")
    assert lab.sh(f"ping -c1 -W1 {address}", "neighbour").status == 0
    endpoints.disconnect(host, "net", "old")
    if not announced:
        monkeypatch.setattr(type(host.kernel), "announce", lambda self, endpoint: None)
    join(host, lab, "new", **wanted)
    alive = lab.sh(f"ping -c1 -W1 {address}", "neighbour", check=False).status == 0
    assert alive == announced


@pytest.mark.proves("row 24")
def test_a_mac_made_from_the_address_needs_no_announcement(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    host = made()
    told: list[Endpoint] = []
    monkeypatch.setattr(type(host.kernel), "announce", lambda self, endpoint: told.append(endpoint))
    join(host, lab, "neighbour")
    first = join(host, lab, "old", ipv4=ip_address("10.9.0.7"))
    assert lab.sh("ping -c1 -W1 10.9.0.7", "neighbour").status == 0
    endpoints.disconnect(host, "net", "old")
    assert join(host, lab, "new", ipv4=ip_address("10.9.0.7")).mac == first.mac
    assert lab.sh("ping -c1 -W1 10.9.0.7", "neighbour").status == 0
    assert not told


@pytest.mark.proves("row 24")
@pytest.mark.parametrize("address", ["10.9.0.66", "fd09::66"])
def test_a_conflict_names_the_mac_that_answered(lab: Lab, address: str) -> None:
    # Guards would keep the squatter quiet: it has an address that isn't its own.
    host = made(Network("net", (NET4, NET6), ipv4_filtering=False, ipv6_filtering=False))
    squatter = join(host, lab, "squatter")
    lab.sh(f"ip address add {address}/{24 if '.' in address else 64} dev eth0", "squatter")
    assert eventually(lambda: "tentative" not in lab.sh("ip address", "squatter").out)
    field = "ipv4" if "." in address else "ipv6"
    wish = {field: ip_address(address), "check_address": True}
    with pytest.raises(Taken, match=f"{address} is in use on 'nsb-net' by {squatter.mac}"):
        join(host, lab, "late", **wish)
    assert host.store.endpoint("net", "late") is None
    assert ip(lab, "link", "late") == ip(lab, "link show lo", "late")
    lab.sh(f"ip address del {address}/{24 if '.' in address else 64} dev eth0", "squatter")
    join(host, lab, "late", **wish)


@pytest.mark.proves("row 18")
def test_several_addresses_link_local_ones_too(lab: Lab) -> None:
    host = made()
    join(host, lab, "neighbour")
    also = tuple(map(ip_address, ("10.9.0.30", "10.9.0.31", "fd09::30", "169.254.7.7")))
    endpoint = join(host, lab, "many", ipv4=ip_address("10.9.0.9"), also=also)
    assert [str(one) for one in endpoint.addresses][:1] == ["10.9.0.9/24"]
    for address in also[:3]:
        assert lab.sh(f"ping -c1 -W1 {address}", "neighbour").status == 0
    shown = {one["local"] for one in ip(lab, "address show eth0", "many")[0]["addr_info"]}
    assert {str(one) for one in also} <= shown
    with pytest.raises(Taken, match="belongs to endpoint 'many'"):
        join(host, lab, "other", ipv4=also[0])
    endpoints.disconnect(host, "net", "many")
    assert str(join(host, lab, "other", ipv4=also[0]).addresses[0].ip) == "10.9.0.30"


@pytest.mark.proves("row 10")
def test_a_static_mac(lab: Lab) -> None:
    host = made()
    join(host, lab, "fixed", mac="02:aa:00:00:00:01")
    assert ip(lab, "link show eth0", "fixed")[0]["address"] == "02:aa:00:00:00:01"


# ------------------------------------------------------------------ links


@pytest.mark.proves("row 4")
def test_somebody_elses_bridge_is_used_and_left(lab: Lab) -> None:
    lab.sh("ip link add br7 type bridge && ip address add 10.7.0.1/24 dev br7 && ip link set br7 mtu 1400 up")
    lab.ns("theirs")
    lab.sh("ip link add t0 master br7 type veth peer name eth0 netns theirs && ip link set t0 up")
    lab.sh("ip addr add 10.7.0.9/24 dev eth0 && ip link set eth0 up", "theirs")
    before = still()
    host = made(Network("lan", bridge="br7", unmanaged=True))
    net = host.store.network("lan")
    assert (str(net.subnets[0].network), str(net.subnets[0].gateway), net.mtu) == ("10.7.0.0/24", "10.7.0.1", 1400)
    endpoint = join(host, lab, "one", "lan", ipv4=ip_address("10.7.0.20"))
    assert ip(lab, "link show eth0", "one")[0]["mtu"] == 1400
    assert ip(lab, "route show default", "one")[0]["gateway"] == "10.7.0.1"
    assert eventually(lambda: lab.sh("ping -c1 -W1 10.7.0.9", "one", check=False).status == 0)
    assert lab.sh("nft list tables").out == ""
    with pytest.raises(InvalidIntent, match="somebody else's"):
        endpoints.publish(host, endpoint.name, (PublishedPort(80, 8080),))
    with pytest.raises(Taken, match=r"10\.7\.0\.9 is in use"):
        join(host, lab, "two", "lan", ipv4=ip_address("10.7.0.9"), check_address=True)
    endpoints.disconnect(host, "lan", "one")
    networks.remove(host, "lan")
    assert still() == before
    with pytest.raises(NotFound, match="there is no interface"):
        networks.create(host, Network("lan", bridge="br8", unmanaged=True))


@pytest.mark.proves("row 9")
def test_names_inside_and_on_the_host(lab: Lab) -> None:
    host = made()
    endpoint = join(host, lab, "one", ifname="lan0", host_ifname="one-port")
    assert ip(lab, "link show lan0", "one")[0]["operstate"] == "UP"
    assert ip(lab, "link show one-port")[0]["master"] == "nsb-net"
    with pytest.raises(Taken, match="one-port"):
        join(host, lab, "two", host_ifname="one-port")
    with pytest.raises(Taken, match="up0"):
        join(host, lab, "two", host_ifname="up0")
    assert ip(lab, "link show one-port")[0]["master"] == "nsb-net"
    endpoints.disconnect(host, "net", endpoint.name)
    assert lab.sh("ip link show one-port", check=False).status != 0


def two_networks(lab: Lab, v6: bool = False, **second: Any) -> tuple[Host, Service]:
    nets = [
        (ip_network(f"10.{number}.0.0/24"), *([ip_network(f"fd0{number}::/64")] if v6 else [])) for number in (1, 2)
    ]
    host = made(
        *[Network(name, tuple(map(Subnet, net)), ipv6=v6) for name, net in zip(("front", "back"), nets, strict=True)]
    )
    places = (Attachment("front"), Attachment("back", **second))
    service = Service("both", attachments=places, ports=(PublishedPort(80, 8080),))
    services.start(host, service)
    lab.host.registered.add(service.netns)
    lab.serve("both", "http:80", "udp:53", ns=service.netns)
    return host, service


@pytest.mark.proves("row 11")
def test_the_default_gateway_is_chosen_and_ports_follow(lab: Lab) -> None:
    _, service = two_networks(lab, priority=1)
    assert ip(lab, "route show default", service.netns)[0]["gateway"] == "10.2.0.1"
    assert [one["ifname"] for one in ip(lab, "address", service.netns)] == ["lo", "eth0", "eth1"]
    assert lab.get(f"http://{HOST4}:8080/", ns=OUTSIDE).source == OUTSIDE4


@pytest.mark.proves("row 11", "S23")
def test_a_port_on_the_other_network_answers_by_its_own_way(lab: Lab) -> None:
    """With strict reverse path filtering, and a policy route; without that the answer leaves by the wrong bridge."""
    lab.sh("sysctl -qw net.ipv4.conf.default.rp_filter=1 net.ipv4.conf.all.rp_filter=1")
    host, service = two_networks(lab)
    lab.sh("sysctl -qw net.ipv4.conf.all.rp_filter=1", service.netns)
    assert lab.sh("sysctl -n net.ipv4.conf.eth1.rp_filter", service.netns).out.strip() == "2"
    endpoints.publish(host, "both", (PublishedPort(80, 8081),), "back")
    assert lab.get(f"http://{HOST4}:8081/", ns=OUTSIDE).source == OUTSIDE4
    assert lab.get(f"http://{HOST4}:8080/", ns=OUTSIDE).source == OUTSIDE4
    (found,) = [one for one in ip(lab, "rule", service.netns) if one.get("src") == "10.2.0.2"]
    lab.sh(f"ip rule del from 10.2.0.2 table {found['table']}", service.netns)
    assert not lab.get(f"http://{HOST4}:8081/", ns=OUTSIDE)


def defaults(lab: Lab, netns: str) -> list[str]:
    return sorted(one["gateway"] for v in ("", "-6 ") for one in ip(lab, f"{v}route show default", netns))


@pytest.mark.proves("row 11", "row 52")
def test_the_default_route_goes_on_to_another_network_and_comes_back(lab: Lab) -> None:
    lab.serve("outside", "udp:53", ns=OUTSIDE)
    host, service = two_networks(lab, v6=True)
    assert defaults(lab, service.netns) == ["10.1.0.1", "fd01::1"]
    for network in ("front", "back"):
        assert lab.get(f"http://10.{1 + (network == 'back')}.0.2/").status == 200
    assert endpoints.disconnect(host, "front", "both").gateway == (4, 6)
    (left,) = host.store.endpoints(name="both")
    assert (left.network, left.gateway) == ("back", (4, 6))
    assert defaults(lab, service.netns) == ["10.2.0.1", "fd02::1"]
    assert not [one for one in ip(lab, "rule", service.netns) if one.get("src") == "10.2.0.2"]
    assert lab.udp(OUTSIDE4, 53, service.netns).source == HOST4
    assert lab.udp(OUTSIDE6, 53, service.netns).source == HOST6

    again = endpoints.connect(host, Wish("both", service.netns, Attachment("front")))
    assert (again.gateway, [port.host_port for port in again.ports]) == ((4, 6), [8080])
    assert not host.store.endpoint("back", "both").gateway
    assert defaults(lab, service.netns) == ["10.1.0.1", "fd01::1"]
    assert [one for one in ip(lab, "rule", service.netns) if one.get("src") == "10.2.0.2"]
    endpoints.publish(host, "both", (PublishedPort(80, 8081),), "back")
    for port in (8080, 8081):
        assert lab.get(f"http://{HOST4}:{port}/", ns=OUTSIDE).source == OUTSIDE4
    assert lab.udp(OUTSIDE4, 53, service.netns).source == HOST4


@pytest.mark.proves("row 11")
def test_the_first_network_of_a_namespace_of_others_isnt_special(lab: Lab) -> None:
    host, nets = made(*[Network(one, (Subnet(ip_network(f"10.{n}.0.0/24")),)) for n, one in enumerate("abc", 1)]), "abc"
    netns = lab.ns("theirs")
    for name in reversed(nets):
        endpoints.connect(host, Wish("theirs", netns, Attachment(name)))
    assert defaults(lab, netns) == ["10.3.0.1"]
    endpoints.disconnect_all(host, "c", ["theirs"])
    assert defaults(lab, netns) == ["10.1.0.1"]  # by name
    endpoints.connect(host, Wish("theirs", netns, Attachment("c")))
    assert defaults(lab, netns) == ["10.1.0.1"]
    lab.sh("ip route replace default via 10.2.0.9", netns)  # somebody's own
    endpoints.disconnect(host, "a", "theirs")
    assert defaults(lab, netns) == ["10.2.0.9"]
    assert not any(one.gateway for one in host.store.endpoints(name="theirs"))
    assert [one for one in ip(lab, "rule", netns) if one.get("src") == "10.2.0.2"]
    endpoints.disconnect(host, "b", "theirs")
    endpoints.disconnect(host, "c", "theirs")
    assert defaults(lab, netns) == []


@pytest.mark.proves("row 11")
def test_each_family_has_its_default_route(lab: Lab) -> None:
    """Who has IPv6 alone goes on holding that, whoever holds IPv4; a namespace that is gone is in nobody's way."""
    four = [Network(one, (Subnet(ip_network(f"10.{n}.0.0/24")),)) for n, one in enumerate("ac", 1)]
    host = made(*four, Network("b", (Subnet(ip_network("fd02::/64")),)))
    service = Service("main", attachments=(Attachment("a"),))
    services.start(host, service)
    lab.host.registered.add(service.netns)
    for name in "bc":
        endpoints.connect(host, Wish("main", service.netns, Attachment(name)))
    assert defaults(lab, service.netns) == ["10.1.0.1", "fd02::1"]
    endpoints.disconnect(host, "a", "main")
    assert defaults(lab, service.netns) == ["10.2.0.1", "fd02::1"]
    endpoints.connect(host, Wish("main", service.netns, Attachment("a")))
    assert defaults(lab, service.netns) == ["10.1.0.1", "fd02::1"]

    for name in "ac":
        endpoints.connect(host, Wish("gone", lab.ns("gone"), Attachment(name)))
    lab.sh("ip netns del gone")
    endpoints.disconnect(host, "a", "gone")
    endpoints.disconnect(host, "c", "gone")
    assert host.store.endpoints(name="gone") == ()


@pytest.mark.proves("row 11")
def test_a_service_leaves_by_the_first_network_that_leads_out(lab: Lab) -> None:
    """In each IP version; its main network has no IPv6 here, or is internal."""
    lab.serve("outside", "udp:53", ns=OUTSIDE)
    dual = (Subnet(ip_network("10.2.0.0/24")), Subnet(ip_network("fd02::/64")))
    four, both = Network("four", (Subnet(ip_network("10.1.0.0/24")),)), Network("both", dual)
    host = made(four, both, Network("inner", (Subnet(ip_network("10.3.0.0/24")),), internal=True))
    for name, nets in (("a", ("four", "both")), ("b", ("inner", "four", "both"))):
        service = Service(name, attachments=tuple(map(Attachment, nets)))
        services.start(host, service)
        lab.host.registered.add(service.netns)
        assert defaults(lab, service.netns) == ["10.1.0.1", "fd02::1"]
        assert lab.udp(OUTSIDE4, 53, service.netns).source == HOST4
        assert lab.udp(OUTSIDE6, 53, service.netns).source == HOST6
        endpoints.disconnect(host, "four", name)
        assert defaults(lab, service.netns) == ["10.2.0.1", "fd02::1"]
        endpoints.connect(host, Wish(name, service.netns, Attachment("four")))
    assert defaults(lab, "/run/netns/a") == ["10.1.0.1", "fd02::1"]  # its main network is back
    assert defaults(lab, "/run/netns/b") == ["10.2.0.1", "fd02::1"]  # one of its others, and somebody leads already


@pytest.mark.proves("row 12")
def test_packets_are_as_long_as_the_uplink_takes(lab: Lab) -> None:
    """And when a path further away takes less, its router's word comes back to the endpoint (RFC 1191, RFC 8201)."""
    lab.sh("ip link set up0 mtu 1400")
    lab.sh("ip link set eth0 mtu 1400", OUTSIDE)
    join(made(), lab, "one")
    assert {one["mtu"] for one in (*ip(lab, "link show nsb-net"), *ip(lab, "link show eth0", "one"))} == {1400}
    for address, head in ((OUTSIDE4, 28), (OUTSIDE6, 48)):
        assert lab.sh(f"ping -n -c1 -W2 -M do -s {1400 - head} {address}", "one").status == 0
        assert "too long" in (lab.sh(f"ping -n -c1 -W1 -M do -s {1401 - head} {address} 2>&1", "one", check=False).out)
    lab.ns("far")
    lab.sh("ip link add far0 mtu 1300 type veth peer name eth0 mtu 1300 netns far && ip link set far0 up", OUTSIDE)
    lab.sh("ip addr add 10.77.0.1/24 dev far0 && ip addr add fd77::1/64 dev far0 nodad", OUTSIDE)
    lab.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1", OUTSIDE)
    lab.sh("ip addr add 10.77.0.2/24 dev eth0 && ip addr add fd77::2/64 dev eth0 nodad && ip link set eth0 up", "far")
    lab.sh("ip route add default via 10.77.0.1 && ip -6 route add default via fd77::1", "far")
    for address in ("10.77.0.2", "fd77::2"):
        assert eventually(lambda to=address: lab.sh(f"ping -n -c1 -W1 {to}", "one", check=False).status == 0)
        lab.sh(f"ping -n -c1 -W1 -M do -s 1340 {address}", "one", check=False)
        learnt = ip(lab, f"route get {address}", "one")[0]["metrics"][0]["mtu"]
        assert learnt == 1300


@pytest.mark.proves("row 17")
def test_a_network_of_ipv6_alone(lab: Lab) -> None:
    host = made(Network("net", (NET6,)))
    join(host, lab, "neighbour")
    endpoint = join(host, lab, "one")
    assert [one.version for one in endpoint.addresses] == [6]
    assert lab.sh("sysctl -n net.ipv4.ip_forward net.ipv6.conf.all.forwarding").out.split() == ["0", "1"]
    endpoints.publish(host, "one", (PublishedPort(80, 8080),))
    lab.serve("one", "tcp:80", ns="one")
    lab.serve("outside", "tcp:80", ns=OUTSIDE)
    assert lab.tcp(HOST6, 8080, OUTSIDE).source == OUTSIDE6
    assert lab.tcp(HOST6, 8080, "neighbour").server == "one"
    assert lab.tcp(str(endpoint.addresses[0].ip), 80, "neighbour").server == "one"
    assert lab.tcp(OUTSIDE6, 80, "one").source == HOST6
    assert not lab.tcp(HOST4, 8080, OUTSIDE, timeout_s=0.3)


@pytest.mark.proves("row 25")
def test_routes_of_a_network(lab: Lab) -> None:
    routes = (
        StaticRoute(ip_network("10.50.0.0/16"), ip_address("10.9.0.254"), 7),
        StaticRoute(ip_network("10.51.0.0/16"), kind="blackhole"),
        StaticRoute(ip_network("fd50::/64"), ip_address("fd09::254")),
        StaticRoute(ip_network("fd51::/64"), kind="unreachable"),
        StaticRoute(ip_network("10.52.0.0/16")),
    )
    host = made(Network("net", (NET4, NET6), routes=routes))
    before = ip(lab, "route", lab.ns("one")), ip(lab, "-6 route", "one")
    endpoint = join(host, lab, "one")
    shown = {one["dst"]: one for one in (*ip(lab, "route", "one"), *ip(lab, "-6 route", "one"))}
    assert (shown["10.50.0.0/16"]["gateway"], shown["10.50.0.0/16"]["metric"]) == ("10.9.0.254", 7)
    assert shown["10.52.0.0/16"]["gateway"] == "10.9.0.1"
    assert shown["fd50::/64"]["gateway"] == "fd09::254"
    assert (shown["10.51.0.0/16"]["type"], shown["fd51::/64"]["type"]) == ("blackhole", "unreachable")
    assert lab.sh("ping -c1 -W1 10.51.0.1", "one", check=False).status == 2
    things = networks.things_of(host, host.store.network("net"), endpoint)
    assert set(host.kernel.find(things)) == set(things)
    observed = host.kernel.observe([endpoint.netns])
    assert not [thing for thing in things if thing.identity[0] in ("route", "rule") and thing not in observed]
    endpoints.disconnect(host, "net", "one")
    assert (ip(lab, "route", "one"), ip(lab, "-6 route", "one")) == before


# ------------------------------------------------------------------ limits


def throughput(lab: Lab, server: str, address: str, client: str | None) -> float:
    """Send for half a second over TCP; return what arrived, in bits per second."""
    listener = inside(lab.ns(server), lambda: socket.create_server(("0.0.0.0", 0)))
    port = listener.getsockname()[1]
    got = [0.0, 0.0]

    def receive() -> None:
        peer, _ = listener.accept()
        begun, total = 0.0, 0
        while part := peer.recv(1 << 16):
            begun = begun or time.perf_counter()
            total += len(part)
        got[0], got[1] = total * 8, time.perf_counter() - begun

    def send() -> None:
        with socket.create_connection((address, port)) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
            until = time.perf_counter() + 0.8
            while time.perf_counter() < until:
                sock.send(b"x" * 16384)

    thread = threading.Thread(target=receive)
    thread.start()
    inside(client and lab.ns(client), send)
    thread.join()
    listener.close()
    return got[0] / got[1]


@pytest.mark.proves("row 97")
def test_bandwidth_is_bounded_both_ways_and_only_there(lab: Lab) -> None:
    host = made()
    slow = join(host, lab, "slow", limits=Limits(ingress=20_000_000, egress=8_000_000))
    free = join(host, lab, "free")
    ways = {20e6: throughput(lab, "slow", str(slow.addresses[0].ip), "free")}
    ways[8e6] = throughput(lab, "free", str(free.addresses[0].ip), "slow")
    for limit, seen in ways.items():
        assert 0.7 * limit < seen < 1.3 * limit, f"{seen / 1e6:.1f} of {limit / 1e6} Mbit/s"
    join(host, lab, "other")
    assert throughput(lab, "free", str(free.addresses[0].ip), "other") > 200e6
    things = networks.things_of(host, host.store.network("net"), slow)
    assert set(host.kernel.find(things)) == set(things)
    assert not [one for one in things if one.identity[0] == "shaper" and one not in host.kernel.observe([slow.netns])]
    assert "rate 20Mbit" in lab.sh(f"tc qdisc show dev {slow.host_ifname}").out


@pytest.mark.proves("row 98")
def test_delay_is_there_or_refused_before_anything_is_changed(lab: Lab) -> None:
    host = made()
    before = still()
    late = Limits(delay=parts.duration("30ms"), loss=parts.share("0%"))
    try:
        host.kernel.require("netem")
    except Unsupported:
        with pytest.raises(Unsupported, match="no netem, so no delay"):
            join(host, lab, "late", limits=late)
        service = Service("late", attachments=(Attachment("new", limits=late),), project="p")
        with pytest.raises(Unsupported, match="no netem"):
            topology.up(host, Topology("p", (Network("new", project="p"),), (service,)))
        assert still() == before
        pytest.skip("this kernel has no netem: only the refusal was tested")
    endpoint = join(host, lab, "late", limits=late)
    begun = time.perf_counter()
    assert lab.sh(f"ping -c1 -W1 {endpoint.addresses[0].ip}").status == 0
    assert time.perf_counter() - begun > 0.03


def test_an_endpoint_with_a_mac_of_its_own_is_known_as_such(lab: Lab) -> None:
    host = made()
    assert addresses.has_own_mac(join(host, lab, "own", mac="02:aa:00:00:00:01"))
    assert not addresses.has_own_mac(join(host, lab, "derived"))


# ------------------------------------------------------------------ on somebody else's wire


def wire(lab: Lab, driver: str, **more: Any) -> Host:
    host = open_host()
    subnets = (Subnet(ip_network("198.51.100.0/24"), gateway=ip_address(OUTSIDE4), ip_range=RANGE),)
    networks.create(host, Network("wire", subnets, bridge="up0", unmanaged=True, driver=driver, **more))
    return host


RANGE = ip_network("198.51.100.128/25")


@pytest.mark.proves("row 5")
def test_macvlan_endpoints_are_on_the_wire(lab: Lab) -> None:
    lab.sh("ip link set up0 promisc on")  # a veth takes frames for other MACs only so
    before = still()
    host = wire(lab, "macvlan")
    one, two = (join(host, lab, name, "wire") for name in ("one", "two"))
    lab.serve("one", "http:80", ns="one")
    assert lab.sh(f"ping -c1 -W1 {OUTSIDE4}", "one").status == 0
    assert lab.sh(f"ping -c1 -W1 {one.addresses[0].ip}", "two").status == 0
    assert lab.get(f"http://{one.addresses[0].ip}/", ns=OUTSIDE).source == OUTSIDE4
    shown = ip(lab, "-d link show eth0", "one")[0]
    assert (shown["linkinfo"]["info_kind"], shown["linkinfo"]["info_data"]["mode"]) == ("macvlan", "bridge")
    things = networks.things_of(host, host.store.network("wire"), one)
    assert set(host.kernel.find(things)) == set(things)
    endpoints.disconnect(host, "wire", "one")
    assert [link["ifname"] for link in ip(lab, "link", "one")] == ["lo"]
    endpoints.disconnect(host, "wire", two.name)
    networks.remove(host, "wire")
    assert still() == before


@pytest.mark.proves("row 5")
def test_private_macvlan_endpoints_do_not_meet(lab: Lab) -> None:
    lab.sh("ip link set up0 promisc on")
    host = wire(lab, "macvlan", mode="private")
    one, _ = (join(host, lab, name, "wire") for name in ("one", "two"))
    assert lab.sh(f"ping -c1 -W1 {OUTSIDE4}", "one").status == 0
    assert lab.sh(f"ping -c1 -W1 {one.addresses[0].ip}", "two", check=False).status != 0
    with pytest.raises(InvalidIntent, match="no end on the host"):
        join(host, lab, "three", "wire", limits=Limits(ingress=10**6))
    with pytest.raises(KernelError, match="'eth0' in /run/netns/one: File exists"):
        endpoints.connect(host, Wish("four", lab.ns("one"), Attachment("wire", ifname="eth0")))
    assert lab.sh(f"ping -c1 -W1 {OUTSIDE4}", "one").status == 0


@pytest.mark.proves("row 5")
def test_ipvlan_where_the_kernel_has_it(lab: Lab) -> None:
    try:
        host = wire(lab, "ipvlan")
    except Unsupported:
        pytest.skip("this kernel has no ipvlan: only the refusal was tested")
    join(host, lab, "one", "wire")
    assert lab.sh(f"ping -c1 -W1 {OUTSIDE4}", "one").status == 0


@pytest.mark.proves("row 5")
def test_a_killed_command_takes_nobody_elses_link_along(lab: Lab) -> None:
    """Two want the same name in one namespace; the one who is refused dies before it writes that down."""
    lab.sh("ip link set up0 promisc on")
    host = wire(lab, "macvlan")
    join(host, lab, "one", "wire", ifname="eth0")
    network = host.store.network("wire")
    before = lab.sh("ip -4 -o address; ip route", "one").out
    late = Endpoint(
        "wire", "late", lab.ns("one"), addresses=(ip_interface("198.51.100.200/24"),), mac="02:00:00:00:00:99"
    )
    index = host.kernel.link_index("up0")
    op = host.operation("connect late to wire").__enter__()
    (step,) = adding(endpoint_things(network, late, mtu=1500, bridge_index=index))
    with pytest.raises(KernelError, match="File exists"):
        op.step(step)
    os.close(op._fd)  # what a kill does: the journal says that the step was begun, and nobody holds it
    host.open()
    assert not list((Path(host.store.root) / "journal").iterdir())
    assert lab.sh("ip -4 -o address; ip route", "one").out == before
    assert lab.sh(f"ping -c1 -W1 {OUTSIDE4}", "one").status == 0
    endpoints.disconnect(host, "wire", "one")
    assert [link["ifname"] for link in ip(lab, "link", "one")] == ["lo"]
