"""What published ports hold, who is in whose way, whose turn it is, and what is left to a proxy."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsbridge import files
from nsbridge.desired.network import network_elements
from nsbridge.desired.ports import (
    Member,
    SharedPort,
    bound_by_default,
    clash,
    port_things,
    turns_things,
)
from nsbridge.desired.proxy import proxy_sockets
from nsbridge.engine import endpoints, networks, ports, shared, topology
from nsbridge.engine.endpoints import Wish
from nsbridge.engine.host import Host
from nsbridge.errors import Exhausted, InvalidFile, InvalidIntent, PortTaken
from nsbridge.files.parts import short_ports
from nsbridge.firewall.ruleset import TURNS, Span
from nsbridge.kernel.fake import FakeKernel
from nsbridge.model.endpoint import Endpoint, PublishedPort
from nsbridge.model.network import Network, Subnet
from nsbridge.model.service import Attachment
from nsbridge.store.store import Store

WEB = Network("web", (Subnet(ip_network("10.1.0.0/24")), Subnet(ip_network("fd01::/64"))))
A = Endpoint("web", "a", "/run/netns/a", addresses=(ip_interface("10.1.0.2/24"), ip_interface("fd01::2/64")))
ONLY4, ONLY6 = A.replace(addresses=A.addresses[:1]), A.replace(addresses=A.addresses[1:])


def held(text: str, endpoint: Endpoint = A) -> set[tuple[object, ...]]:
    return {(one.set, *one.key, *one.data) for port in short_ports(text) for one in port_things(WEB, endpoint, port)}


V4, V6 = ip_address("10.1.0.2"), ip_address("fd01::2")
ALL4, ALL6 = ip_network("0.0.0.0/0"), ip_network("::/0")


@pytest.mark.parametrize(
    ("text", "elements"),
    [
        ("8080:80", {("publish4", "tcp", 8080, V4, 80), ("publish6", "tcp", 8080, V6, 80)}),
        ("0.0.0.0:8080:80", {("publish4", "tcp", 8080, V4, 80)}),
        ("[::]:8080:80", {("publish6", "tcp", 8080, V6, 80)}),
        ("127.0.0.1:53:53/udp", {("bound4", ip_address("127.0.0.1"), "udp", 53, V4, 53)}),
        ("eth0:80:81", {("face4", "eth0", "tcp", 80, V4, 81), ("face6", "eth0", "tcp", 80, V6, 81)}),
        ("1-60000:1-60000/udp",
         {("ranges4", ALL4, "udp", Span(1, 60000), V4), ("ranges6", ALL6, "udp", Span(1, 60000), V6)}),
        ("127.0.0.1:8-9:8-9", {("ranges4", ip_network("127.0.0.1/32"), "tcp", Span(8, 9), V4)}),
        ("0.0.0.0:8-9:10-11", {("publish4", "tcp", 8, V4, 10), ("publish4", "tcp", 9, V4, 11)}),
    ],
)  # fmt: skip
def test_what_a_port_holds(text: str, elements: set[tuple[object, ...]]) -> None:
    assert held(text) == elements


PLACES = st.sampled_from(["", "127.0.0.1:", "127.0.0.2:", "eth0:", "wg0:", "0.0.0.0:"])


@st.composite
def written(draw: st.DrawFn) -> str:
    first, more, shift = draw(st.integers(1, 12)), draw(st.integers(0, 4)), draw(st.sampled_from([0, 100]))
    host, inside = (f"{n}-{n + more}" if more else str(n) for n in (first, first + shift))
    return f"{draw(PLACES)}{host}:{inside}/{draw(st.sampled_from(['tcp', 'udp']))}"


def meets(one: PublishedPort, two: PublishedPort) -> bool:
    """Who is in whose way, said the slow way."""
    numbers = [set(range(port.host_port, port.host_port + port.count)) for port in (one, two)]
    if one.proto != two.proto or not numbers[0] & numbers[1]:
        return False
    places = [
        port.interface or ("" if port.host_ip in (None, ip_address("0.0.0.0")) else port.host_ip) for port in (one, two)
    ]
    return "" in places or places[0] == places[1]


@given(written(), written())
def test_who_is_in_whose_way(one: str, two: str) -> None:
    (first,), (second,) = short_ports(one), short_ports(two)
    there, wanted = port_things(WEB, ONLY4, first), port_things(WEB, ONLY4, second)
    assert (clash(wanted, there) is not None) is meets(first, second)
    assert (clash(there, wanted) is not None) is meets(first, second)


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": 0}, {"count": 2, "host_port": 65535}, {"count": 2}, {"choices": 3}, {"share": True},
        {"host_port": 1, "count": 2, "choices": 2}, {"host_port": 1, "share": True, "count": 2},
        {"host_port": 1, "share": True, "host_ip": ip_address("127.0.0.1")},
        {"host_port": 1, "share": True, "interface": "eth0"}, {"interface": "no way"},
        {"interface": "eth0", "host_ip": ip_address("127.0.0.1")}, {"host_port": 65000, "choices": 1000},
    ],
)  # fmt: skip
def test_what_cant_be_published(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidIntent):
        PublishedPort(**{"target": 80, **wrong})


def test_ports_in_words() -> None:
    assert str(PublishedPort(3000, 3000, count=6)) == "0.0.0.0:3000-3005->3000-3005/tcp"
    assert str(PublishedPort(80, 8000, choices=101)) == "0.0.0.0:8000-8100->80/tcp"
    assert str(PublishedPort(80, 8000, "udp", interface="eth0")) == "eth0:8000->80/udp"


# ------------------------------------------------------------------ turns


@given(st.integers(1, 30), st.sets(st.integers(0, 29)))
def test_turns_are_dealt_out_evenly_to_those_who_are_in(count: int, out: set[int]) -> None:
    members = tuple(
        Member("web", f"e{number}", 80, (ip_address(f"10.1.0.{number + 2}"),), number in out) for number in range(count)
    )
    elements = turns_things(SharedPort("tcp", 80, members=members))
    ready = count - len([number for number in out if number < count])
    assert len(elements) == (TURNS if ready else 0)
    each = {address: 0 for member in members if not member.out for address in member.addresses}
    for element in elements:
        each[element.data[0]] += 1
    assert not each or max(each.values()) - min(each.values()) <= 1


@pytest.fixture
def host(tmp_path) -> Host:
    kernel = FakeKernel(namespaces=("/run/netns/a", "/run/netns/b"))
    found = Host(kernel, Store(str(tmp_path)))
    found.open()
    networks.create(found, WEB)
    for name in ("a", "b"):
        endpoints.connect(found, Wish(name, f"/run/netns/{name}", Attachment("web")))
    return found


def test_sharing_leaving_and_nothing_left(host: Host) -> None:
    before = host.kernel.state
    port = (PublishedPort(80, 8080, share=True),)
    for name in ("a", "b"):
        endpoints.publish(host, name, port)
    assert {one.data[0] for one in host.kernel.elements(("inet", "nsbridge"), "turns4")} == {V4, ip_address("10.1.0.3")}
    shared.turn_out(host, host.store.endpoint("web", "a"), port[0], True)
    assert {one.data[0] for one in host.kernel.elements(("inet", "nsbridge"), "turns4")} == {ip_address("10.1.0.3")}
    with pytest.raises(PortTaken, match="shared on all addresses already"):
        endpoints.publish(host, "a", (PublishedPort(80, 8080, host_ip=ip_address("::"), share=True),))
    for name in ("a", "b"):
        endpoints.unpublish(host, name, port)
    assert host.kernel.state == before
    assert shared.records(host.store) == ()


def test_one_of_several_is_found_again(host: Host) -> None:
    (asked,) = short_ports("8000-8001:80")
    one = endpoints.publish(host, "a", (asked,)).ports[0]
    assert one == PublishedPort(80, 8000)
    assert ports.differing(WEB, (asked,), (one,)) == ([], [])
    assert endpoints.publish(host, "b", (asked,)).ports[0].host_port == 8001
    with pytest.raises(Exhausted):
        endpoints.publish(host, "b", (asked,))


# ------------------------------------------------------------------ routed networks


def doors(host: Host) -> set[tuple[object, ...]]:
    return {one.key for digit in "46" for one in host.kernel.elements(("inet", "nsbridge"), f"routed{digit}")}


def test_two_ports_may_open_one_door(host: Host) -> None:
    networks.create(host, Network("far", (Subnet(ip_network("10.2.0.0/24")),), gateway_mode4="routed"))
    endpoints.connect(host, Wish("r", "/run/netns/a", Attachment("far", ifname="eth1")))
    door = (ip_address("10.2.0.2"), "tcp", 80)
    first, second, third = short_ports("8080:80")[0], short_ports("8081:80")[0], short_ports("80")[0]
    endpoints.publish(host, "r", (first, second))
    endpoints.publish(host, "r", (third,))
    assert doors(host) == {door}
    endpoints.unpublish(host, "r", (first,))
    assert doors(host) == {door}
    endpoints.unpublish(host, "r", (PublishedPort(80),))
    assert doors(host) == set()
    endpoints.publish(host, "r", (second, *short_ports("8082-8083:81")))
    assert doors(host) == {door, (ip_address("10.2.0.2"), "tcp", 81)}
    endpoints.disconnect(host, "far", "r")
    assert doors(host) == set()


def test_what_a_door_cant_say() -> None:
    """A port for one interface would be open to all; one for this host alone, that reaches the endpoint anyway, too."""
    routed = WEB.replace(gateway_mode4="routed", gateway_mode6="routed")
    assert port_things(routed, A, short_ports("127.0.0.1:8080:80")[0]) == ()
    with pytest.raises(InvalidIntent, match="can't be for eth0 alone: its network is routed"):
        port_things(routed, A, short_ports("eth0:8080:80")[0])


def test_a_shared_port_is_translated_where_there_is_nat(host: Host) -> None:
    modes = Network(
        "half", (Subnet(ip_network("10.2.0.0/24")), Subnet(ip_network("fd02::/64"))), gateway_mode6="routed"
    )
    networks.create(host, modes)
    more = Attachment("half", ifname="eth1", also=(ip_address("10.2.0.9"), ip_address("169.254.7.7")))
    endpoints.connect(host, Wish("r", "/run/netns/a", more))
    endpoints.publish(host, "r", (PublishedPort(80, 8080, share=True),), "half")
    endpoints.publish(host, "b", (PublishedPort(80, 8080, share=True),))
    turns = [one.data[0] for one in host.kernel.elements(("inet", "nsbridge"), "turns4")]
    assert turns.count(ip_address("10.2.0.2")) == turns.count(ip_address("10.1.0.3")) == TURNS / 2
    assert {one.data[0] for one in host.kernel.elements(("inet", "nsbridge"), "turns6")} == {ip_address("fd01::3")}
    assert {key[0] for key in doors(host)} == {ip_address("fd02::2")}


# ------------------------------------------------------------------ networks


def test_a_default_binding_and_a_fixed_source() -> None:
    home = ip_address("127.0.0.1")
    dev = WEB.replace(host_binding=home, sources=(ip_address("192.0.2.1"),))
    assert bound_by_default(dev, PublishedPort(80, 8080)).host_ip == home
    for port in (PublishedPort(80, 8080, host_ip=ip_address("::")), PublishedPort(80, 8080, interface="eth0")):
        assert bound_by_default(dev, port) == port
    sources = [(one.set, *one.key, *one.data) for one in network_elements(dev) if one.set.startswith("source")]
    assert sources == [("source4", ip_network("10.1.0.0/24"), ip_address("192.0.2.1"))]
    for wrong in ({"internal": True}, {"masquerade": False}, {"sources": (home, home)}):
        with pytest.raises(InvalidIntent):
            dev.replace(**wrong)


FILE = """\
services:
  one:
    ports: [{target: 80, published: 8080, share: true}, "wg0:8081:80", "9000-9005:9000-9005"]
  two:
    ports: [{target: 80, published: 8080, share: true}, "127.0.0.1:8081:80", {target: 5, published: 5, interface: wg1}]
networks:
  default:
    driver_opts:
      com.docker.network.host_ipv4: 192.0.2.1
      com.docker.network.host_ipv6: 2001:db8::1
      com.docker.network.bridge.host_binding_ipv4: 127.0.0.1
"""


def test_a_file_says_all_of_it(tmp_path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(FILE)
    found = files.read(path, environ={})
    one, two = found.services
    assert one.ports == (
        PublishedPort(80, 8080, share=True),
        PublishedPort(80, 8081, interface="wg0"),
        PublishedPort(9000, 9000, count=6),
    )
    assert two.ports[2] == PublishedPort(5, 5, interface="wg1")
    (network,) = found.networks
    assert network.sources == (ip_address("192.0.2.1"), ip_address("2001:db8::1"))
    assert network.host_binding == ip_address("127.0.0.1")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('a: {ports: ["80-90:80-90"]}, b: {ports: ["85:1"]}', "host port 85/tcp goes to service 'a' already"),
        ('a: {ports: ["eth0:80:80"]}, b: {ports: ["80:1"]}', "host port 80/tcp goes to service 'a' already"),
        ('a: {ports: [{target: 1, published: 80, share: true}]}, b: {ports: ["80:1"]}', "goes to service 'a' already"),
        ("a: {ports: [{target: 1, share: true}]}", "a range or a shared port needs a host port"),
        (
            "a: {ports: [{target: 1, published: 1, host_ip: 127.0.0.1, interface: lo1}]}",
            "to an address or to an interface",
        ),
    ],
)
def test_faults_of_a_file(tmp_path, text: str, said: str) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(f"services: {{{text}}}\n")
    with pytest.raises(InvalidFile) as caught:
        files.read(path, environ={})
    assert said in str(caught.value.faults[0])


def test_a_topology_that_shares_is_up_once(host: Host, tmp_path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("name: p\nservices: {one: {ports: [{target: 80, published: 8080, share: true}, '8000-8009:80']},\n"
                    "  two: {ports: [{target: 80, published: 8080, share: true}]}}\n")  # fmt: skip
    wanted = files.read(path, environ={})
    topology.up(host, wanted)
    assert len(host.kernel.elements(("inet", "nsbridge"), "turns4")) == TURNS
    assert topology.decide(host, wanted).changes == ()


# ------------------------------------------------------------------ what is left to a proxy


@pytest.mark.parametrize(
    ("endpoint", "text", "sockets"),
    [
        (A, "8080:80", ["[::]:8080/tcp fd01::2:80"]),
        (ONLY4, "8080:80", ["[::]:8080/tcp 10.1.0.2:80"]),
        (ONLY6, "8080:80/udp", ["0.0.0.0:8080/udp fd01::2:80", "[::]:8080/udp fd01::2:80"]),
        (A, "[::1]:8080:80", ["[::1]:8080/tcp fd01::2:80"]),
        (A, "[::]:80-90:80-90", ["[::]:80-90/tcp fd01::2:80"]),
        (A, "0.0.0.0:8080:80", []),
        (A, "127.0.0.1:8080:80", []),
        (A, "eth0:8080:80", []),
    ],
)
def test_what_is_left_to_a_proxy(endpoint: Endpoint, text: str, sockets: list[str]) -> None:
    found = proxy_sockets(endpoint.replace(ports=short_ports(text)))
    assert [f"{one} {one.target}:{one.target_port}" for one in found] == sockets
