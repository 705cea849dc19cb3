"""Many commands at once, each a process of its own: no address twice, what is remembered is there, nothing is left."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import rules
from crash import begin, child, picture, root, wait
from lab import FreshHost, eventually, sh

from nsbridge.engine import endpoints, gc, networks, services, topology
from nsbridge.engine.endpoints import Wish
from nsbridge.kernel import libc
from nsbridge.model.endpoint import PublishedPort
from nsbridge.model.network import Network, Subnet
from nsbridge.model.service import Attachment, Service, Topology
from nsbridge.state.things import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from crash import Ended

    from nsbridge.engine.host import Host
    from nsbridge.plan.step import Step

    Command = Callable[[Host], object]

pytestmark = pytest.mark.netns

MANY = 40
WEB = Network("web", (Subnet(ip_network("10.9.0.0/24")), Subnet(ip_network("fd09::/64"))), ipv6=True)


def all_at_once(commands: Iterable[Command]) -> list[Ended]:
    return [wait(one) for one in [begin(command) for command in commands]]


def connect(number: int, network: str = "web") -> Command:
    ports = (PublishedPort(80, 8000 + number), PublishedPort(53, proto="udp"))
    wish = Wish(f"c{number}", f"/run/netns/g{number}", Attachment(network), ports=ports)
    return lambda host: endpoints.connect(host, wish)


def disconnect(number: int, network: str = "web") -> Command:
    return lambda host: endpoints.disconnect(host, network, f"c{number}")


def guests(host: FreshHost, count: int) -> None:
    for number in range(count):
        host.netns(f"g{number}")


def records(network: str = "web") -> dict[str, dict[str, object]]:
    return {path.stem: json.loads(path.read_text()) for path in (root() / "endpoints" / network).glob("*.json")}


def addresses(network: str = "web") -> list[str]:
    return [one["if"] for record in records(network).values() for one in record["addresses"]]  # type: ignore[attr-defined,index]


def bridge_ports() -> int:
    return sum(link["ifname"].startswith("nsb") for link in json.loads(sh("ip -j link show type veth").out))


def check_consistent(network: str, subnet: str) -> None:
    """Records, leases, hosts lines, links, addresses inside and published ports tell one story."""
    there = records(network)
    given = addresses(network)
    assert len(set(given)) == len(given), "an address was given twice"
    plain = sorted(each.split("/")[0] for each in given)
    assert sorted(path.name for path in (root() / "leases" / network).iterdir() if path.name[0] != ".") == plain
    assert bridge_ports() == len(there)
    for name, record in there.items():
        inside = sh(f"ip -j -n g{name[1:]} address show dev eth0").out
        found = {one["local"] for one in json.loads(inside)[0]["addr_info"] if one["scope"] == "global"}
        assert found == {one["if"].split("/")[0] for one in record["addresses"]}  # type: ignore[attr-defined]
    ports = {port["host_port"]: name for name, record in there.items() for port in record.get("ports", ())}  # type: ignore[attr-defined]
    listed = [one.replace(" : ", " . ").split(" . ") for one in rules.elements("publish4")]
    assert {int(port) for _, port, _, _ in listed} == set(ports)
    for _, _, target, _ in listed:
        assert ip_address(target) in ip_network(subnet)
    assert not list((root() / "journal").iterdir())
    assert child(lambda host: host.say(str(gc.collect(host, dry_run=True)))).said == "()"


@pytest.mark.proves("row 23", "row 88")
def test_forty_connects_then_forty_changes(host: FreshHost) -> None:
    guests(host, MANY + 20)
    child(lambda host: networks.create(host, WEB))
    child(lambda host: networks.remove(host, "web"))
    start = picture()
    child(lambda host: networks.create(host, WEB))
    empty = picture()
    for ended in all_at_once(connect(number) for number in range(MANY)):
        assert not ended.error
    assert len(records()) == MANY
    check_consistent("web", "10.9.0.0/24")
    shown = (root() / "hosts").exists()
    assert not shown, "nobody reads a hosts file yet"
    # Twenty go, twenty come, and twenty are published anew, all at once.
    mixed = [disconnect(number) for number in range(20)]
    mixed += [connect(number) for number in range(MANY, MANY + 20)]
    mixed += [
        lambda host, number=number: endpoints.publish(host, f"c{number}", (PublishedPort(81, 9000 + number),))
        for number in range(20, 40)
    ]
    for ended in all_at_once(mixed):
        assert not ended.error
    assert len(records()) == MANY
    check_consistent("web", "10.9.0.0/24")
    for ended in all_at_once(disconnect(number) for number in range(20, 60)):
        assert not ended.error
    assert picture() == empty
    child(lambda host: networks.remove(host, "web"))
    assert picture() == start


@pytest.mark.proves("row 23", "row 88")
def test_one_name_one_port_one_address_for_many(host: FreshHost) -> None:
    """Ten want the same: one gets it, nine are told who has it, and nothing of theirs stays."""
    guests(host, 30)
    child(lambda host: networks.create(host, WEB))
    wishes = [
        *[Wish("same", f"/run/netns/g{number}", Attachment("web")) for number in range(10)],
        *[
            Wish(f"p{number}", f"/run/netns/g{number}", Attachment("web"), ports=(PublishedPort(80, 7777),))
            for number in range(10, 20)
        ],
        *[
            Wish(f"a{number}", f"/run/netns/g{number}", Attachment("web", ip_address("10.9.0.77")))
            for number in range(20, 30)
        ],
    ]
    ended = all_at_once(lambda host, wish=wish: endpoints.connect(host, wish) for wish in wishes)
    for first, word in ((0, "Taken: "), (10, "PortTaken: "), (20, "Taken: ")):
        errors = [one.error for one in ended[first : first + 10] if one.error]
        assert len(errors) == 9
        assert all(error.startswith(word) for error in errors), errors
    assert len(records()) == 3
    assert (
        len([link for link in json.loads(sh("ip -j link show type veth").out) if link["ifname"].startswith("nsb")]) == 3
    )
    assert child(lambda host: host.say(str(gc.collect(host, dry_run=True)))).said == "()"


def test_hosts_files_show_each_neighbour_once(host: FreshHost) -> None:
    """The file is made by the first service while others come and go."""
    guests(host, 20)
    child(lambda host: networks.create(host, WEB))
    job = Service("job", ("sleep", "1000"), attachments=(Attachment("web"),))
    ended = all_at_once([lambda host: services.start(host, job), *[connect(number) for number in range(20)]])
    assert not [one.error for one in ended if one.error]
    text = (root() / "hosts" / "web").read_text()
    named = sorted(row.split()[1] for row in text.splitlines()[2:])
    assert named == sorted([*[f"c{number}" for number in range(20)], "job"] * 2)
    ended = all_at_once([disconnect(number) for number in range(20)])
    named = [row.split()[1] for row in (root() / "hosts" / "web").read_text().splitlines()[2:] if row.strip()]
    assert named == ["job", "job"]
    assert not child(lambda host: services.remove(host, "job", force=True)).error


def test_a_service_goes_while_it_is_connected(host: FreshHost) -> None:
    """Its new endpoint goes with it, or was never there."""
    child(lambda host: networks.create(host, WEB))
    child(lambda host: networks.create(host, Network("other")))
    before = picture()
    ports = (PublishedPort(80, 8000),)
    job = Service("job", attachments=(Attachment("web"),))
    wish = Wish("job", job.netns, Attachment("other"), ports=ports)
    for _ in range(8):
        assert not child(lambda host: services.start(host, job)).error
        connected, removed = all_at_once(
            [lambda host: endpoints.connect(host, wish), lambda host: services.remove(host, "job")]
        )
        assert not removed.error
        assert not connected.error or connected.error.startswith("NotFound: ") or "gone" in connected.error
        assert picture() == before, connected.error
        assert not records("other")


def test_a_namespace_loses_its_name_while_it_is_connected(host: FreshHost) -> None:
    """Between the unmount and the unlink of `ip netns del` its path opens a plain file: EINVAL, says the kernel."""
    child(lambda host: networks.create(host, WEB))
    before = picture()
    host.netns("g1")

    def connect_late(late: Host) -> object:
        do = late.kernel.do

        def unmounted(step: Step, forget: Iterable[Step] | None = None) -> None:
            if any(isinstance(thing, Address) for thing in step.things):
                libc.umount("/run/netns/g1")
            do(step, forget)

        late.kernel.do = unmounted  # type: ignore[method-assign]
        return connect(1)(late)

    error = child(connect_late).error
    assert error.startswith("NotFound: there is no network namespace at /run/netns/g1"), error
    Path("/run/netns/g1").unlink()
    assert picture() == before
    assert not records()


@pytest.mark.proves("row 88")
def test_two_ups_of_one_file(host: FreshHost) -> None:
    wanted = Topology(
        "twice",
        (Network("net", (Subnet(ip_network("10.8.0.0/24")),), project="twice"),),
        tuple(
            Service(f"s{number}", ("sleep", "1000"), attachments=(Attachment("net"),), project="twice")
            for number in range(3)
        ),
    )
    ended = all_at_once([lambda host: topology.up(host, wanted)] * 3)
    assert not [one.error for one in ended if one.error]
    assert sorted(records("net")) == ["s0", "s1", "s2"]
    assert len(set(addresses("net"))) == 3
    ended = all_at_once([lambda host: topology.up(host, wanted), *[lambda host: topology.down(host, "twice", 1.0)] * 2])
    for one in ended:
        assert not one.error or one.error.startswith("NotFound: project 'twice' isn't up")
    child(lambda host: topology.down(host, "twice", 1.0))
    assert not sh("nft list tables").out
    assert not list(Path("/run/netns").iterdir())


@pytest.mark.proves("row 88")
def test_a_network_goes_while_others_come(host: FreshHost) -> None:
    guests(host, 10)
    for _ in range(3):
        child(lambda host: networks.create(host, WEB))
        ended = all_at_once([*[connect(number) for number in range(10)], lambda host: networks.remove(host, "web")])
        for one in ended:
            assert not one.error or one.error.startswith(("NotFound: there is no network", "InUse: network 'web' has"))
        if (root() / "networks" / "web.json").exists():
            check_consistent("web", "10.9.0.0/24")
            all_at_once(disconnect(int(name[1:])) for name in records())
            assert not child(lambda host: networks.remove(host, "web")).error
        assert "nsbridge" not in sh("nft list tables").out
        assert not rules.listed()
        assert "nsb" not in sh("ip link").out


@pytest.mark.proves("row 88")
def test_the_default_network_comes_and_goes_under_its_users(host: FreshHost) -> None:
    guests(host, 8)

    def visit(number: int) -> Command:
        def command(host: Host) -> None:
            for _ in range(4):
                connect(number, "default")(host)
                disconnect(number, "default")(host)

        return command

    def job(number: int) -> Command:
        service = Service(f"job{number}", ("true",), attachments=(Attachment("default"),), foreground=True)
        return lambda host: services.run(host, service)

    ended = all_at_once([*[visit(number) for number in range(8)], *[job(number) for number in range(6)]])
    assert not [one.error for one in ended if one.error]
    assert not sh("nft list tables").out
    assert "nsb" not in sh("ip link").out
    assert eventually(lambda: not list((root() / "networks").iterdir()))
    assert not list((root() / "journal").iterdir())
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == "0\n"
