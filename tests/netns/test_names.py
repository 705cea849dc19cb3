"""What a service sees as /etc/hosts: its neighbours' names and aliases, kept right while endpoints come and go.

Read through /proc/PID/root, so in the mount namespace of a process that has been running all the time.
"""

from __future__ import annotations

import threading
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lab import sh

from nsbridge import files
from nsbridge.engine import endpoints, services, topology
from nsbridge.engine.endpoints import Wish
from nsbridge.model.network import Network, Subnet
from nsbridge.model.service import Attachment, Service, Topology
from nsbridge.wiring import open_host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab import FreshHost

    from nsbridge.engine.host import Host

pytestmark = pytest.mark.netns
EXAMPLES = Path(__file__).parents[2] / "examples"
SLEEP = ("sleep", "1000")


class Names:
    """A host on which topologies are brought up, and what its services see."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def up(self, wanted: Topology) -> None:
        topology.up(self.host, wanted, remove_orphans=True)

    def root(self, service: str) -> Path:
        return Path(f"/proc/{self.host.store.service(service).pid}/root")

    def seen(self, service: str) -> dict[str, set[str]]:
        """Return the names in a service's /etc/hosts with their addresses, localhost's left out."""
        found: dict[str, set[str]] = {}
        for row in (self.root(service) / "etc/hosts").read_text().splitlines():
            address, *names = row.split() or [""]
            for name in names:
                if not ip_address(address).is_loopback:
                    found.setdefault(name, set()).add(address)
        return found

    def looked_up(self, service: str, name: str, family: str = "hosts") -> str:
        """Ask the C library in the service's own view; "" without an answer."""
        pid = self.host.store.service(service).pid
        return sh(f"nsenter -t {pid} -m -n getent -s files {family} {name}", check=False).out.partition(" ")[0]


@pytest.fixture
def names(host: FreshHost) -> Iterator[Names]:
    opened = open_host()
    yield Names(opened)
    for project in topology.projects(opened):
        topology.down(opened, project, grace_s=0.5)


def service(name: str, *attachments: Attachment, **more: object) -> Service:
    return Service(name, SLEEP, attachments=attachments, project="lab", **more)


NET = Network("net", (Subnet(ip_network("10.20.0.0/24")), Subnet(ip_network("fd00:20::/64"))), project="lab")
FIRST = service("first", Attachment("net", aliases=("one", "uno")))
SECOND = service("second", Attachment("net", ip_address("10.20.0.22"), aliases=("two",)), hostname="deux")


def lab(*found: Service) -> Topology:
    return Topology("lab", (NET,), found)


@pytest.mark.proves("row 63", "row 64")
def test_neighbours_are_known_by_name_host_name_and_alias(names: Names) -> None:
    names.up(lab(FIRST, SECOND))
    for who in ("first", "second"):
        seen = names.seen(who)
        assert set(seen) == {"first", "one", "uno", "second", "deux", "two"}
        assert seen["first"] == seen["one"] == seen["uno"] == {"10.20.0.2", "fd00:20::2"}
        assert seen["second"] == seen["deux"] == seen["two"] == {"10.20.0.22", "fd00:20::3"}
        assert "127.0.0.1 localhost" in (names.root(who) / "etc/hosts").read_text()
    assert names.looked_up("first", "deux", "ahostsv4") == "10.20.0.22"
    assert names.looked_up("first", "second", "ahostsv6") == "fd00:20::3"
    assert names.looked_up("first", "localhost", "ahostsv4") == "127.0.0.1"
    assert names.looked_up("first", "third") == ""


@pytest.mark.proves("row 63", "row 64")
def test_who_comes_is_seen_and_who_goes_is_not(names: Names) -> None:
    names.up(lab(FIRST, SECOND))
    started = names.root("first")
    names.up(lab(FIRST, SECOND, service("third", Attachment("net", aliases=("three",)))))
    assert names.root("first") == started
    assert names.looked_up("first", "three", "ahostsv4") == "10.20.0.3"
    names.up(lab(FIRST, service("third", Attachment("net", aliases=("three",)))))
    assert names.root("first") == started
    assert set(names.seen("first")) == {"first", "one", "uno", "third", "three"}
    names.up(lab(FIRST, service("third", Attachment("net", ip_address("10.20.0.77")))))
    assert names.looked_up("first", "third", "ahostsv4") == "10.20.0.77"
    assert names.looked_up("first", "three") == ""
    names.up(lab(FIRST))
    assert set(names.seen("first")) == {"first", "one", "uno"}


@pytest.mark.proves("row 63")
def test_a_service_on_two_networks_sees_both_and_the_others_only_their_own(names: Names) -> None:
    found = files.read(EXAMPLES / "two-networks.yaml")
    names.up(found.replace(services=tuple(one.replace(command=SLEEP) for one in found.services)))
    seen = {who: names.seen(who) for who in ("web", "app", "db")}
    assert {who: set(what) for who, what in seen.items()} == {
        "web": {"web", "app", "api"}, "app": {"web", "app", "api", "db"}, "db": {"app", "db"},
    }  # fmt: skip
    (front,) = seen["web"]["app"]
    (back,) = seen["db"]["app"]
    assert front.startswith("172.30.1.")
    assert back.startswith("172.30.2.")
    assert seen["app"]["app"] == {front, back}


def test_a_namespace_that_somebody_else_made_is_known_too(names: Names, host: FreshHost) -> None:
    names.up(lab(FIRST))
    made = endpoints.connect(
        names.host, Wish("guest", host.netns("guest"), Attachment("net", aliases=("printer",)), hostname="lp")
    )
    seen = names.seen("first")
    assert seen["guest"] == seen["printer"] == seen["lp"] == {str(address.ip) for address in made.addresses}
    endpoints.disconnect(names.host, "net", "guest")
    assert set(names.seen("first")) == {"first", "one", "uno"}


def test_a_command_in_a_service_sees_what_it_sees(names: Names, tmp_path: Path) -> None:
    names.up(lab(FIRST, SECOND))
    assert services.execute(names.host, "first", ("cp", "/etc/hosts", str(tmp_path / "seen"))) == 0
    assert (tmp_path / "seen").read_text() == (names.root("first") / "etc/hosts").read_text()


def test_the_hosts_own_file_is_left_alone(names: Names) -> None:
    before = Path("/etc/hosts").read_bytes()
    names.up(lab(FIRST, SECOND))
    assert Path("/etc/hosts").read_bytes() == before


def test_many_at_once_are_all_seen_and_all_gone(names: Names, host: FreshHost) -> None:
    names.up(lab(FIRST))
    crowd = [f"g{number}" for number in range(12)]
    for name in crowd:
        host.netns(name)
    failed: list[BaseException] = []

    def come_and_go(name: str) -> None:
        try:
            for stays in (False, True):
                endpoints.connect(
                    names.host, Wish(name, f"/run/netns/{name}", Attachment("net", aliases=(f"a-{name}",)))
                )
                if not stays:
                    endpoints.disconnect(names.host, "net", name)
        except BaseException as err:
            failed.append(err)

    for work in (come_and_go, lambda name: endpoints.disconnect(names.host, "net", name)):
        threads = [threading.Thread(target=work, args=(name,)) for name in crowd]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed
        there = {one.name: {str(address.ip) for address in one.addresses} for one in names.host.store.endpoints("net")}
        seen = names.seen("first")
        assert {name: addresses for name, addresses in seen.items() if name in there} == there
        assert {name for name in seen if name.startswith("a-")} == {f"a-{name}" for name in there if name in crowd}


def test_a_service_that_joins_a_second_network_sees_its_names_at_once(names: Names) -> None:
    other = Network("other", (Subnet(ip_network("10.21.0.0/24")),), project="lab")
    beside = service("beside", Attachment("other", aliases=("there",)))
    names.up(Topology("lab", (NET, other), (FIRST, beside)))
    assert "beside" not in names.seen("first")
    endpoints.connect(names.host, Wish("first", FIRST.netns, Attachment("other")))
    seen = names.seen("first")
    assert {"beside", "there"} <= set(seen)
    assert seen["first"] == {"10.20.0.2", "fd00:20::2", "10.21.0.3"}
    assert names.seen("beside")["first"] == {"10.21.0.3"}
    endpoints.disconnect(names.host, "other", "first")
    assert set(names.seen("first")) == {"first", "one", "uno"}
