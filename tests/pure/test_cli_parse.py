"""From words to values: ports, addresses, pairs, places, and how namespaces are named."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from nsbridge.errors import InvalidIntent
from nsbridge.frontends.cli import networks, parse, services
from nsbridge.frontends.cli.parser import parser_for
from nsbridge.frontends.cli.table import find
from nsbridge.model.endpoint import PublishedPort
from nsbridge.model.names import netns_name, netns_path
from nsbridge.model.service import Attachment, Service, Topology


def parsed(line: str) -> Any:
    words = line.split()
    found = find(words)
    assert found is not None
    return parser_for(found[0]).parse_args(words[found[1] :])


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("80", (PublishedPort(80),)),
        ("8088:80", (PublishedPort(80, 8088),)),
        ("8088:80/udp", (PublishedPort(80, 8088, "udp"),)),
        ("127.0.0.1:8088:80", (PublishedPort(80, 8088, host_ip=ip_address("127.0.0.1")),)),
        ("[::1]:8088:80", (PublishedPort(80, 8088, host_ip=ip_address("::1")),)),
        ("127.0.0.1::80", (PublishedPort(80, 0, host_ip=ip_address("127.0.0.1")),)),
        ("9000-9001:80-81", (PublishedPort(80, 9000, count=2),)),
        ("9000-9001:80", (PublishedPort(80, 9000, choices=2),)),
        ("80-81", (PublishedPort(80), PublishedPort(81))),
        ("eth0:8088:80", (PublishedPort(80, 8088, interface="eth0"),)),
        ("eth0::53/udp", (PublishedPort(53, 0, "udp", interface="eth0"),)),
    ],
)
def test_ports(text: str, ports: tuple[PublishedPort, ...]) -> None:
    assert parse.ports("-p", [text]) == ports


@pytest.mark.parametrize(
    "text", ["x", "70000", "1:2:3", "80:", ":80", "9000-9001:80-82", "80/icmp", "::1:80:80", "0:0", "localhost:80:80"]
)
def test_no_ports(text: str) -> None:
    with pytest.raises(InvalidIntent, match=r"^-p ") as caught:
        parse.ports("-p", [text])
    assert caught.value.exit_code == 2


def test_inner_ports() -> None:
    assert parse.inner_port("80") == (80, "tcp")
    assert parse.inner_port("53/udp") == (53, "udp")
    with pytest.raises(InvalidIntent):
        parse.inner_port("80/")


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIVEN", "yes")
    monkeypatch.delenv("MISSING", raising=False)
    assert parse.environment(["A=1=2", "GIVEN", "MISSING", "EMPTY="]) == (("A", "1=2"), ("GIVEN", "yes"), ("EMPTY", ""))
    with pytest.raises(InvalidIntent, match="-e has no name"):
        parse.environment(["=1"])


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("run -d --name x -- sh -c y", ["sh", "-c", "y"]),
        ("run -it --rm sh -d -p", ["sh", "-d", "-p"]),
        ("run --net a --net b -p 1:2 sh -- x", ["sh", "--", "x"]),
        ("run -d", []),
        ("exec -e A=b web sh -c -- y", ["sh", "-c", "--", "y"]),
        ("exec web -- ls -l", ["ls", "-l"]),
    ],
)
def test_commands_keep_their_own_options(line: str, command: list[str]) -> None:
    assert list(parse.command(parsed(line).command)) == command


@pytest.mark.parametrize(
    ("line", "mode", "attachments"),
    [
        ("run", "", (Attachment("default"),)),
        ("run --net a --net b", "", (Attachment("a"), Attachment("b"))),
        ("run --ip 10.0.0.9 --alias z", "", (Attachment("default", ip_address("10.0.0.9"), aliases=("z",)),)),
        ("run --net none", "none", ()),
        ("run --net host", "host", ()),
        ("run --net container:web", "service:web", ()),
    ],
)
def test_places(line: str, mode: str, attachments: tuple[Attachment, ...]) -> None:
    assert services._places(parsed(line)) == (mode, attachments)


@pytest.mark.parametrize(
    "line", ["run --net none --net a", "run --net host --ip 10.0.0.9", "run --net foo:bar", "run --net service:"]
)
def test_no_places(line: str) -> None:
    with pytest.raises(InvalidIntent, match="--net"):
        services._places(parsed(line))


def test_subnets() -> None:
    line = (
        "network create --subnet 10.9.0.0/24 --subnet fd00:9::/64 --gateway fd00:9::9 --gateway 10.9.0.9"
        " --ip-range 10.9.0.128/25 --aux-address printer=10.9.0.7 lab"
    )
    four, six = networks._subnets(parsed(line))
    assert (four.network, four.gateway) == (ip_network("10.9.0.0/24"), ip_address("10.9.0.9"))
    assert four.ip_range == ip_network("10.9.0.128/25")
    assert four.reserved == (("printer", ip_address("10.9.0.7")),)
    assert (six.gateway, six.ip_range) == (ip_address("fd00:9::9"), None)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("network create --gateway 10.9.0.1 lab", "--gateway 10.9.0.1 is in no --subnet"),
        ("network create --subnet 10.9.0.0/24 --gateway 10.8.0.1 lab", r"is in no --subnet \(not in 10.9.0.0/24\)"),
        ("network create --subnet 10.9.0.1/24 lab", "--subnet has bits beyond its prefix"),
        ("network create --subnet 10.9.0.0/24 --aux-address x lab", "--aux-address has no address"),
        ("network create --subnet 10.9.0.0/24 --ip-range 10.9.1.0/25 lab", "--ip-range 10.9.1.0/25 is in no --subnet"),
    ],
)
def test_no_subnets(line: str, message: str) -> None:
    with pytest.raises(InvalidIntent, match=message):
        networks._subnets(parsed(line))


def test_options_of_docker() -> None:
    prefix = "com.docker.network.bridge"
    found = networks._options(
        [f"{prefix}.name=br9", f"{prefix}.enable_icc=false", "com.docker.network.driver.mtu=1400"]
    )
    assert found == {"bridge": "br9", "icc": False, "mtu": 1400}
    with pytest.raises(InvalidIntent, match="'parent'"):
        networks._options(["parent=eth0"])


@pytest.mark.parametrize(
    ("text", "path", "name"),
    [
        ("ns1", "/run/netns/ns1", "ns1"),
        ("/run/netns/ns1", "/run/netns/ns1", "ns1"),
        ("4711", "/proc/4711/ns/net", "pid-4711"),
        ("/proc/4711/ns/net", "/proc/4711/ns/net", "pid-4711"),
        ("/var/run/docker/netns/abc", "/var/run/docker/netns/abc", "abc"),
    ],
)
def test_how_a_namespace_is_named(text: str, path: str, name: str) -> None:
    assert netns_path(text) == path
    assert netns_name(path) == name


def test_services_bring_what_they_need() -> None:
    made = (
        Service("db"),
        Service("app", after=("db",)),
        Service("side", mode="service:app"),
        Service("other"),
    )
    topology = Topology("lab", services=made)
    assert topology.needed(()) == {"db", "app", "side", "other"}
    assert topology.needed(("side",)) == {"side", "app", "db"}
    assert topology.needed(("db", "other")) == {"db", "other"}
    with pytest.raises(InvalidIntent, match="no service 'nope'"):
        topology.needed(("nope",))
