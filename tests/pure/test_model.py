"""Intents are checked where they are born; names fit the kernel."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface, ip_network
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nsbridge.errors import InvalidIntent
from nsbridge.model.endpoint import Endpoint, PublishedPort
from nsbridge.model.names import (
    BRIDGE_GROUP,
    IFNAMSIZ,
    PORT_GROUP,
    bridge_ifname,
    check_ifname,
    check_name,
    host_ifname,
    is_ours,
    mac_for,
)
from nsbridge.model.network import Network, Subnet
from nsbridge.model.service import Attachment, Service, Topology

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
names = st.builds(str.__add__, st.sampled_from(LETTERS), st.text(LETTERS + "_.-", max_size=62))
NET = ip_network("175.18.0.0/24")


def networks(version: int) -> st.SearchStrategy[Any]:
    width = 32 if version == 4 else 128
    kind: Any = IPv4Network if version == 4 else IPv6Network
    return st.builds(
        lambda base, bits: kind((base >> (width - bits) << (width - bits), bits)),
        st.integers(0, 2**width - 1),
        st.integers(1, width - 2),
    )


any_network = networks(4) | networks(6)


# --- names


@given(names)
def test_good_names_pass_unchanged(name: str) -> None:
    assert check_name("network", name) == name


@given(st.text(max_size=70))
def test_a_name_is_taken_only_if_it_fits_everywhere(name: str) -> None:
    """Whatever passes is a file name, an option-proof word, a DNS label and plain ASCII."""
    try:
        check_name("network", name)
    except InvalidIntent:
        return
    assert name.isascii()
    assert name[0].isalnum()
    assert 1 <= len(name) <= 63
    assert not set(name) & set("/ \n\t\0:'\"$`\\")


@pytest.mark.parametrize("name", ["", "-x", ".hidden", "_x", "a b", "a/b", "ä", "a\n", "a\0", "x" * 64, "٣"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidIntent):
        check_name("network", name)


@pytest.mark.parametrize("name", ["all", "default", "lo", ".", "..", "x" * IFNAMSIZ, "a:1", "a/b"])
def test_names_the_kernel_keeps_for_itself(name: str) -> None:
    """``net.ipv4.conf.all`` would be the sysctls of every link."""
    with pytest.raises(InvalidIntent):
        check_ifname(name)


@given(names, names)
def test_interface_names_fit_and_are_stable(network: str, endpoint: str) -> None:
    for name in (host_ifname(network, endpoint), bridge_ifname(network)):
        assert len(name.encode()) < IFNAMSIZ
        assert check_ifname(name) == name
        assert name.startswith("nsb")
    assert host_ifname(network, endpoint) == host_ifname(network, endpoint)


@given(st.lists(st.tuples(names, names), max_size=50, unique=True))
def test_interface_names_are_distinct(pairs: list[tuple[str, str]]) -> None:
    ports = {host_ifname(network, endpoint) for network, endpoint in pairs}
    assert len(ports) == len(pairs)
    wanted = {network for network, _ in pairs}
    bridges = {bridge_ifname(network) for network in wanted}
    assert len(bridges) == len(wanted)
    assert not ports & bridges


def test_long_names_that_begin_alike_differ() -> None:
    names_ = [f"{'long' * 10}-{number}" for number in range(1000)]
    assert len({bridge_ifname(name) for name in names_}) == 1000
    assert len({host_ifname("web", name) for name in names_}) == 1000


def test_a_slash_cannot_move_between_network_and_endpoint() -> None:
    """The digest joins both with a slash, which no name may contain."""
    with pytest.raises(InvalidIntent):
        Endpoint("a", "b/c", "/run/netns/x")


@given(names, names, st.ip_addresses())
def test_macs_are_local_unicast_and_follow_the_address(network: str, endpoint: str, address: Any) -> None:
    mac = mac_for(network, endpoint, str(address))
    octets = [int(part, 16) for part in mac.split(":")]
    assert len(octets) == 6
    assert octets[0] & 0b11 == 0b10, "locally administered, not a group address (IEEE 802)"
    assert mac == mac.lower()
    assert mac == mac_for(network, "another", str(address))


def test_groups_that_are_ours() -> None:
    assert is_ours(BRIDGE_GROUP)
    assert is_ours(PORT_GROUP + 1)
    assert is_ours(PORT_GROUP + 4711)
    assert not is_ours(0)
    assert not is_ours(1)
    assert not is_ours(PORT_GROUP)
    assert BRIDGE_GROUP < 2**31, "IFLA_GROUP is unsigned, but ip(8) reads a signed number"


# --- ports


@pytest.mark.parametrize(
    "wrong",
    [{"target": 0}, {"target": 65536}, {"target": -1}, {"host_port": -1}, {"host_port": 70000}, {"proto": "icmp"}],
    ids=str,
)
def test_a_port_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidIntent) as caught:
        PublishedPort(**{"target": 80, **wrong})
    assert str(next(iter(wrong.values()))) in caught.value.message
    assert caught.value.fix


@pytest.mark.parametrize(
    ("port", "text"),
    [
        (PublishedPort(80, 8088), "0.0.0.0:8088->80/tcp"),
        (PublishedPort(53, 53, "udp", ip_address("127.0.0.1")), "127.0.0.1:53->53/udp"),
        (PublishedPort(80, 8088, host_ip=ip_address("::1")), "[::1]:8088->80/tcp"),
    ],
)
def test_ports_read_as_docker_shows_them(port: PublishedPort, text: str) -> None:
    assert str(port) == text


# --- subnets


@pytest.mark.parametrize(
    "wrong",
    [
        {"network": ip_network("10.0.0.0/31")},
        {"network": ip_network("10.0.0.0/32")},
        {"network": ip_network("fd00::/127")},
        {"gateway": ip_address("175.18.1.1")},
        {"gateway": ip_address("175.18.0.0")},
        {"gateway": ip_address("175.18.0.255")},
        {"gateway": ip_address("fd00::1")},
        {"ip_range": ip_network("175.18.0.0/23")},
        {"ip_range": ip_network("175.19.0.0/25")},
        {"ip_range": ip_network("fd00::/120")},
        {"reserved": (("printer", ip_address("10.0.0.1")),)},
    ],
    ids=str,
)
def test_a_subnet_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidIntent) as caught:
        Subnet(**{"network": NET, **wrong})
    assert caught.value.fix


@given(any_network)
def test_the_gateway_is_the_first_address_unless_chosen(net: Any) -> None:
    assert Subnet(net).gateway_interface == ip_interface(f"{net[1]}/{net.prefixlen}")
    assert Subnet(net, gateway=net[2]).gateway_interface == ip_interface(f"{net[2]}/{net.prefixlen}")


@given(any_network, st.data())
def test_what_is_usable(net: Any, data: st.DataObject) -> None:
    """Never the network, the broadcast address, the gateway, a reserved one or one outside."""
    index = st.integers(0, net.num_addresses - 1)
    reserved = net[data.draw(index)]
    subnet = Subnet(net, reserved=(("printer", reserved),))
    address = net[data.draw(index)]
    taken = {net.network_address, subnet.gateway_interface.ip, reserved}
    if net.version == 4:
        taken.add(net.broadcast_address)
    assert subnet.usable(address) == (address not in taken)
    for never in taken:
        assert not subnet.usable(never)


@given(any_network, any_network)
def test_nothing_outside_is_usable(net: Any, elsewhere: Any) -> None:
    assume(net.version != elsewhere.version or not net.overlaps(elsewhere))
    assert not Subnet(net).usable(elsewhere[1])


@given(any_network, st.data())
def test_the_pool_is_the_range_if_there_is_one(net: Any, data: st.DataObject) -> None:
    assert Subnet(net).pool() == (int(net[0]), int(net[-1]))
    bits = data.draw(st.integers(net.prefixlen, net.max_prefixlen))
    part = type(net)((net[data.draw(st.integers(0, net.num_addresses - 1))], bits), strict=False)
    first, last = Subnet(net, ip_range=part).pool()
    assert (first, last) == (int(part[0]), int(part[-1]))
    assert int(net[0]) <= first <= last <= int(net[-1])


# --- networks


def test_a_network_has_one_subnet_a_family() -> None:
    both = Network("web", (Subnet(NET), Subnet(ip_network("fd00::/64"))))
    assert both.subnet(4) == Subnet(NET)
    assert both.subnet(6) == Subnet(ip_network("fd00::/64"))
    assert Network("web").subnet(4) is None
    assert list(both) == list(both.subnets)
    with pytest.raises(InvalidIntent, match="two subnets of one family"):
        Network("web", (Subnet(NET), Subnet(ip_network("10.0.0.0/24"))))


@pytest.mark.parametrize(
    "wrong", [{"name": "a b"}, {"bridge": "x" * 16}, {"bridge": "lo"}, {"mtu": 67}, {"mtu": 65536}], ids=str
)
def test_a_network_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidIntent):
        Network(**{"name": "web", **wrong})


@pytest.mark.parametrize("wish", [{"internal": True}, {"masquerade": False}, {"gateway_mode4": "routed"}], ids=str)
def test_a_source_address_needs_nat(wish: dict[str, Any]) -> None:
    source = (ip_address("192.0.2.1"),)
    assert Network("web", sources=source, gateway_mode6="routed").sources == source
    with pytest.raises(InvalidIntent, match=r"can't leave with 192\.0\.2\.1: "):
        Network("web", sources=source, **wish)


def test_ipv6_needs_a_wider_link() -> None:
    six = (Subnet(ip_network("fd00::/64")),)
    assert Network("web", six, mtu=1280).mtu == 1280
    assert Network("web", mtu=576).mtu == 576
    with pytest.raises(InvalidIntent, match="MTU"):
        Network("web", six, mtu=576)


def test_the_bridge_may_be_named() -> None:
    assert Network("web", bridge="ns_br").ifname == "ns_br"
    assert Network("web").ifname == "nsb-web"


# --- endpoints and services


@pytest.mark.parametrize(
    "wrong", [{"name": ""}, {"ifname": "x" * 16}, {"ifname": "all"}, {"aliases": ("good", "not good")}], ids=str
)
def test_an_endpoint_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidIntent):
        Endpoint(**{"network": "web", "name": "ns1", "netns": "/run/netns/ns1", **wrong})


def test_an_endpoint_knows_its_names_and_addresses() -> None:
    addresses = (ip_interface("175.18.0.2/24"), ip_interface("fd00::2/64"))
    one = Endpoint(
        "web", "ns1", "/run/netns/ns1", addresses=addresses, aliases=("db", "ns1", "cache"), hostname="alpha"
    )
    assert one.names == ("ns1", "alpha", "db", "cache")
    assert one.address(4) == addresses[0]
    assert one.address(6) == addresses[1]
    assert Endpoint("web", "ns1", "x").address(4) is None
    assert one.host_ifname == host_ifname("web", "ns1")


def test_published_ports_need_a_network() -> None:
    with pytest.raises(InvalidIntent, match="on no network"):
        Service("ns1", ports=(PublishedPort(80, 8088),))
    assert Service("ns1", ports=(PublishedPort(80, 8088),), attachments=(Attachment("web"),)).ports


@pytest.mark.parametrize(
    ("mode", "netns"),
    [("", "/run/netns/ns1"), ("host", ""), ("none", "/run/netns/ns1"), ("service:db", "/run/netns/db")],
)
def test_the_namespace_of_a_service(mode: str, netns: str) -> None:
    assert Service("ns1", mode=mode).netns == netns


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=12))
def test_services_start_after_what_they_need(needs: list[tuple[int, int]]) -> None:
    """Edges that point to smaller numbers have no circle, so an order exists, and every edge is respected."""
    after: dict[int, tuple[str, ...]] = {}
    for one, other in needs:
        if one != other:
            after[max(one, other)] = (*after.get(max(one, other), ()), f"s{min(one, other)}")
    services = tuple(Service(f"s{number}", after=after.get(number, ())) for number in reversed(range(8)))
    order = [service.name for service in Topology("lab", services=services).started_order()]
    assert sorted(order) == sorted(service.name for service in services)
    for service in services:
        for earlier in service.after:
            assert order.index(earlier) < order.index(service.name)


def test_a_circle_is_named() -> None:
    services = (Service("a", after=("b",)), Service("b", mode="service:c"), Service("c", after=("a",)))
    with pytest.raises(InvalidIntent, match="a -> b -> c -> a") as caught:
        Topology("lab", services=services).started_order()
    assert "depends_on" in caught.value.fix
