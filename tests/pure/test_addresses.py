"""Addresses given out and remembered, prefixes by chance, and what files and options say of an endpoint's link."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest

from nsbridge import files
from nsbridge.engine import endpoints, networks, topology
from nsbridge.engine.endpoints import Wish
from nsbridge.engine.host import Host
from nsbridge.errors import Exhausted, InvalidFile, InvalidIntent, NotFound, Taken, Unsupported
from nsbridge.files import parts
from nsbridge.files.faults import Wrong
from nsbridge.kernel.fake import FakeKernel
from nsbridge.kernel.interface import LinkFacts
from nsbridge.model.endpoint import Endpoint
from nsbridge.model.limits import Limits
from nsbridge.model.network import Network, StaticRoute, Subnet
from nsbridge.model.service import Attachment, Service, Topology
from nsbridge.state.things import Route, RoutingRule, Shaper
from nsbridge.store.store import Store

SPACES = tuple(f"/run/netns/n{number}" for number in range(9))
NET4 = Subnet(ip_network("10.9.0.0/24"))


def opened(root: Path) -> Host:
    host = Host(FakeKernel(namespaces=SPACES), Store(str(root)))
    host.open()
    return host


def join(host: Host, name: str, number: int = 0, network: str = "net", **more: Any) -> Endpoint:
    return endpoints.connect(host, Wish(name, SPACES[number], Attachment(network, **more)))


@pytest.mark.proves("row 16")
def test_each_host_has_a_prefix_of_its_own_and_keeps_it(tmp_path: Path) -> None:
    """RFC 4193 §3.2.1: fd00::/8 and 40 bits that no other host has chosen."""
    first, other = opened(tmp_path / "a"), opened(tmp_path / "b")
    nets = [networks.create(host, Network("net", ipv6=True)).subnet(6) for host in (first, other)]
    prefixes = [one.network.supernet(new_prefix=48) for one in nets if one]
    assert prefixes[0] != prefixes[1]
    assert all(prefix.subnet_of(ip_network("fd00::/8")) for prefix in prefixes)
    networks.remove(first, "net")
    assert networks.create(opened(tmp_path / "a"), Network("net", ipv6=True)).subnet(6) == nets[0]


def reboot(root: Path) -> Host:
    boot = root / "boot"
    boot.write_text("another boot\n" + boot.read_text().partition("\n")[2])
    return opened(root)


@pytest.mark.proves("row 23")
def test_after_a_reboot_everybody_gets_the_address_he_had(tmp_path: Path) -> None:
    host = opened(tmp_path)
    networks.create(host, Network("net", (NET4,), ipv6=True))
    had = {name: join(host, name, number).addresses for number, name in enumerate("abc")}
    seed = host.store.seed()
    again = reboot(tmp_path)
    assert again.store.seed() == seed
    assert again.store.endpoints() == ()
    new = join(again, "new", 7)
    assert new.addresses[0] not in {one[0] for one in had.values()}
    for number, name in enumerate("cab"):
        assert join(again, name, number).addresses == had[name]


@pytest.mark.proves("row 23")
def test_addresses_kept_for_somebody_are_given_out_at_last(tmp_path: Path) -> None:
    host = opened(tmp_path)
    networks.create(host, Network("net", (Subnet(ip_network("10.9.0.0/29")),)))
    for number in range(5):
        join(host, f"old{number}", number)
    again = reboot(tmp_path)
    found = {str(join(again, f"new{number}", number).addresses[0].ip) for number in range(5)}
    assert len(found) == 5
    with pytest.raises(Exhausted):
        join(again, "old0", 6)


@pytest.mark.proves("row 19")
def test_ranges_and_reserved_addresses(tmp_path: Path) -> None:
    host = opened(tmp_path)
    reserved = (("printer", ip_address("10.9.0.129")),)
    subnet = Subnet(ip_network("10.9.0.0/24"), ip_range=ip_network("10.9.0.128/30"), reserved=reserved)
    networks.create(host, Network("net", (subnet,)))
    found = [str(join(host, f"e{number}", number).addresses[0].ip) for number in range(3)]
    assert found == ["10.9.0.128", "10.9.0.130", "10.9.0.131"]
    with pytest.raises(Exhausted, match=r"10\.9\.0\.128/30"):
        join(host, "more", 4)
    with pytest.raises(InvalidIntent, match="reserved"):
        join(host, "more", 4, ipv4=ip_address("10.9.0.129"))
    assert str(join(host, "more", 4, ipv4=ip_address("10.9.0.7")).addresses[0].ip) == "10.9.0.7"


@pytest.mark.proves("row 24")
def test_a_conflict_leaves_nothing(tmp_path: Path) -> None:
    host = opened(tmp_path)
    networks.create(host, Network("net", (NET4,)))
    host.kernel.strangers[ip_address("10.9.0.2")] = "02:00:00:00:00:99"
    before = host.kernel.state
    with pytest.raises(Taken, match=r"10\.9\.0\.2 is in use on 'nsb-net' by 02:00:00:00:00:99"):
        join(host, "a", check_address=True)
    assert host.kernel.state == before
    assert host.store.endpoints() == ()


def test_an_unmanaged_network_takes_what_the_bridge_says(tmp_path: Path) -> None:
    host = opened(tmp_path)
    host.kernel.links["br7"] = LinkFacts("bridge", 1400, "", (ip_interface("10.7.0.254/24"),))
    wanted = Network("lan", bridge="br7", unmanaged=True, project="p")
    assert topology.up(host, Topology("p", (wanted,))).changes
    assert topology.up(host, Topology("p", (wanted,))).changes == ()
    net = host.store.network("lan")
    assert (net.mtu, str(net.subnets[0].gateway)) == (1400, "10.7.0.254")
    host.kernel.links["up0"] = LinkFacts("veth", 1500, "")
    with pytest.raises(NotFound, match="a veth and no bridge"):
        networks.create(host, Network("other", bridge="up0", unmanaged=True))


# ------------------------------------------------------------------ in files

FILE = """\
networks:
  front:
    ipam:
      config: [{subnet: 10.9.0.0/24}]
      routes:
        - {dst: 10.50.0.0/16, gw: 10.9.0.254, metric: 7}
        - {dst: 10.51.0.0/16, type: blackhole}
  back:
  lan:
    driver_opts: {com.docker.network.bridge.name: br7, mode: unmanaged}
services:
  web:
    networks:
      front:
        interface_name: lan0
        link_local_ips: [169.254.7.7]
        driver_opts: {limits.ingress: 10Mbit, limits.egress: 500kbit, host_interface_name: web0, check_address: true}
      back: {gw_priority: 1}
"""


def read(tmp_path: Path, text: str) -> Topology:
    path = tmp_path / "lab.yaml"
    path.write_text(text)
    return files.read(path)


def test_a_file_says_all_of_it(tmp_path: Path) -> None:
    found = read(tmp_path, FILE)
    front, _, lan = found.networks
    assert front.routes == (
        StaticRoute(ip_network("10.50.0.0/16"), ip_address("10.9.0.254"), 7),
        StaticRoute(ip_network("10.51.0.0/16"), kind="blackhole"),
    )
    assert (lan.bridge, lan.unmanaged) == ("br7", True)
    (web,) = found.services
    assert web.main == 1
    assert web.attachments[0] == Attachment(
        front.name,
        also=(ip_address("169.254.7.7"),),
        ifname="lan0",
        host_ifname="web0",
        limits=Limits(10_000_000, 500_000),
        check_address=True,
    )


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("10Mbit", "fast", "is no rate: 'fast'"),
        ("500kbit", "1bit", "limit egress is 1 bit/s"),
        ("lan0", "a/b", "interface name 'a/b' has '/'"),
        ("169.254.7.7", "10.9.0.3", "is no link-local address"),
        ("blackhole", "hole", "is 'hole'"),
        ("gw: 10.9.0.254", "gw: fd00::1", "can't go by fd00::1"),
        ("com.docker.network.bridge.name: br7, mode", "mode", "names no bridge"),
        ("  back:\n", "  back: {driver: macvlan}\n", "without a parent"),
        ("  back:\n", "  back: {driver: macvlan, driver_opts: {parent: up0, macvlan_mode: l2}}\n", "has mode 'l2'"),
    ],
)
def test_faults_are_told(tmp_path: Path, old: str, new: str, text: str) -> None:
    with pytest.raises(InvalidFile, match=text):
        read(tmp_path, FILE.replace(old, new))


def test_what_this_kernel_lacks_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    host = opened(tmp_path)
    before = host.kernel.state
    found = read(tmp_path, FILE.replace("limits.ingress: 10Mbit", "delay: 20ms, jitter: 5ms"))
    assert found.services[0].attachments[0].limits == Limits(0, 500_000, 20_000, 5_000)
    with pytest.raises(Unsupported, match="netem"):
        topology.up(host, found)
    assert host.kernel.state == before


def test_a_network_on_the_wire(tmp_path: Path) -> None:
    found = read(tmp_path, FILE.replace("  back:\n", "  back: {driver: macvlan, driver_opts: {parent: up0}}\n", 1))
    back = found.networks[1]
    assert (back.driver, back.bridge, back.unmanaged, back.mode) == ("macvlan", "up0", True, "")


def test_small_values() -> None:
    assert (parts.rate("1.5 Gbit"), parts.duration("1.5s"), parts.share("0.5%")) == (1_500_000_000, 1_500_000, 5_000)
    assert parts.duration("1m30s") == 90_000_000
    assert parts.static_route("10.5.0.0/16,10.9.0.254,3") == StaticRoute(
        ip_network("10.5.0.0/16"), ip_address("10.9.0.254"), 3
    )
    assert parts.static_route("10.5.0.0/16,blackhole").kind == "blackhole"
    for parse, text in ((parts.rate, "10"), (parts.duration, "3x"), (parts.share, "3"), (parts.static_route, "x")):
        with pytest.raises(Wrong):
            parse(text)


def test_things_of_an_endpoint_that_does_not_hold_the_default_route(tmp_path: Path) -> None:
    host = opened(tmp_path)
    networks.create(host, Network("net", (NET4,)))
    networks.create(host, Network("more", (Subnet(ip_network("10.8.0.0/24")),)))
    places = (Attachment("net", limits=Limits(egress=10**6)), Attachment("more", priority=5))
    wanted = Topology("p", services=(Service("web", attachments=places, project="p"),), external=("net", "more"))
    topology.up(host, wanted)
    state = host.kernel.state
    assert [str(rule.src) for rule in state.of(RoutingRule)] == ["10.9.0.2/32"]
    assert [str(one.via) for one in state.of(Route) if not one.table] == ["10.8.0.1"]
    assert [one.rate for one in state.of(Shaper)] == [10**6]
    assert topology.up(host, wanted).changes == ()


# ------------------------------------------------------------------ names

EVIL = (
    "a; reboot",
    "a b",
    "../../etc/passwd",
    "a/b",
    '"; drop',
    "a\nb",
    "$(id)",
    "`id`",
    "-rf",
    ".hidden",
    "a\0b",
    "*",
    "a{}",
    "é",
    "",
)
FIELDS = {
    "network": lambda text: Network(text or "/"),
    "bridge": lambda text: Network("net", bridge=text or "/"),
    "endpoint": lambda text: Endpoint("net", text or "/", "/run/netns/x"),
    "interface": lambda text: Endpoint("net", "x", "/run/netns/x", ifname=text or "/"),
    "host interface": lambda text: Endpoint("net", "x", "/run/netns/x", host_name=text or "/"),
    "alias": lambda text: Endpoint("net", "x", "/run/netns/x", aliases=(text,)),
    "service": lambda text: Service(text),
    "hostname": lambda text: Service("x", hostname=text or "/"),
    "interface name": lambda text: Attachment("net", ifname=text or "/"),
    "host interface name": lambda text: Attachment("net", host_ifname=text or "/"),
}


@pytest.mark.proves("S25")
@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("text", EVIL)
def test_no_name_carries_anything_into_a_rule_a_path_or_a_line(field: str, text: str) -> None:
    with pytest.raises(InvalidIntent):
        FIELDS[field](text)
