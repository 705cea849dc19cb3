"""The engine over the fake kernel and real files: what is asked for is there, and what fails leaves nothing."""

from __future__ import annotations

import os
from functools import reduce
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsbridge.engine import doctor, endpoints, gc, networks, services, topology
from nsbridge.engine.endpoints import Wish
from nsbridge.engine.host import Host
from nsbridge.errors import Exhausted, InUse, InvalidIntent, NotFound, PortTaken, Taken
from nsbridge.firewall.ruleset import Element
from nsbridge.kernel.fake import FakeKernel
from nsbridge.kernel.interface import HostFacts
from nsbridge.model.endpoint import PublishedPort
from nsbridge.model.network import Network, Subnet
from nsbridge.model.service import Attachment, Service, Topology
from nsbridge.plan.diff import adding
from nsbridge.state.kernel_state import KernelState
from nsbridge.state.simulate import simulate
from nsbridge.state.things import Address, Netns, Sysctl
from nsbridge.store.store import Store

SPACES = tuple(f"/run/netns/n{number}" for number in range(9))
EMPTY = KernelState(Netns(path) for path in SPACES)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    said: list[str] = []
    found = Host(FakeKernel(namespaces=SPACES), Store(str(tmp_path)), said.append)
    found.said = said  # type: ignore[attr-defined]
    found.open()
    # Namespaces that somebody else made are simply there.
    return found


def files_of(host: Host) -> set[str]:
    root = host.store.root
    found = {os.path.relpath(os.path.join(at, name), root) for at, _, names in os.walk(root) for name in names}
    return {name for name in found if not name.endswith((".lock", "lock", "boot")) and "/.next" not in name}


def wish(name: str, network: str, number: int = 0, **more: object) -> Wish:
    return Wish(name, SPACES[number], Attachment(network), **more)


def test_a_network_brings_what_it_needs_and_takes_it_away(host: Host) -> None:
    made = networks.create(host, Network("web", (Subnet(ip_network("10.9.0.0/24")),)))
    assert made.mtu == 1500
    assert Sysctl("", "net/ipv4/ip_forward", "1") in host.kernel.state
    assert any("net.ipv4.ip_forward=1 (was 0)" in text for text in host.said)
    networks.remove(host, "web")
    assert host.kernel.state == EMPTY
    assert files_of(host) == set()


@pytest.mark.proves("row 15", "row 20")
def test_automatic_subnets_avoid_routes_and_one_another(host: Host) -> None:
    host.kernel.known = HostFacts(routes=((ip_network("10.201.0.0/23"), "tun0"),))
    first = networks.create(host, Network("a"))
    second = networks.create(host, Network("b", ipv6=True))
    assert str(first.subnets[0].network) == "10.201.2.0/24"
    assert str(second.subnets[0].network) == "10.201.3.0/24"
    assert second.subnets[1].network.prefixlen == 64


@pytest.mark.proves("row 20")
def test_an_overlap_names_the_culprit(host: Host) -> None:
    host.kernel.known = HostFacts(routes=((ip_network("10.0.0.0/8"), "tun0"),))
    with pytest.raises(Taken, match=r"overlaps 10\.0\.0\.0/8, which is a route of the host by tun0"):
        networks.create(host, Network("a", (Subnet(ip_network("10.1.0.0/24")),)))
    assert files_of(host) == set()


def test_connect_and_disconnect_leave_nothing(host: Host) -> None:
    networks.create(host, Network("web", (Subnet(ip_network("10.9.0.0/24")),)))
    before, kept = host.kernel.state, files_of(host)
    made = endpoints.connect(host, wish("a", "web", ports=(PublishedPort(80, 8080),)))
    assert str(made.addresses[0]) == "10.9.0.2/24"
    assert len(host.kernel.state) > len(before)
    endpoints.disconnect(host, "web", "a")
    assert host.kernel.state == before
    assert files_of(host) == kept


@pytest.mark.proves("row 82")
@pytest.mark.parametrize(
    ("second", "error", "text"),
    [
        (wish("a", "web", 1), Taken, "there is an endpoint 'a' on network 'web' already"),
        (Wish("b", SPACES[1], Attachment("web", ip_address("10.9.0.2"))), Taken, "belongs to endpoint 'a'"),
        (Wish("b", SPACES[1], Attachment("web", ip_address("10.9.0.1"))), InvalidIntent, "is its gateway"),
        (Wish("b", SPACES[1], Attachment("web", ip_address("10.8.0.2"))), InvalidIntent, "is outside network 'web'"),
        (wish("b", "web", 1, ports=(PublishedPort(80, 8080),)), PortTaken, "already goes to endpoint 'a'"),
        (wish("b", "web", 1, ports=(PublishedPort(80, 22),)), PortTaken, "already listens on 0.0.0.0:22/tcp"),
        (Wish("b", "/run/netns/none", Attachment("web")), NotFound, "no network namespace at /run/netns/none"),
        (wish("b", "nowhere", 1), NotFound, "there is no network 'nowhere'"),
    ],
)
def test_what_fails_half_way_is_walked_back(host: Host, second: Wish, error: type, text: str) -> None:
    networks.create(host, Network("web", (Subnet(ip_network("10.9.0.0/24")),)))
    host.kernel.listening = frozenset({("tcp", 22)})
    endpoints.connect(host, wish("a", "web", ports=(PublishedPort(80, 8080),)))
    before, kept = host.kernel.state, files_of(host)
    with pytest.raises(error, match=text):
        endpoints.connect(host, second)
    assert host.kernel.state == before
    assert files_of(host) == kept


def test_a_full_subnet_says_so(host: Host) -> None:
    networks.create(host, Network("tiny", (Subnet(ip_network("10.9.0.0/30")),)))
    endpoints.connect(host, wish("a", "tiny"))
    with pytest.raises(Exhausted, match=r"no free address left in 10\.9\.0\.0/30"):
        endpoints.connect(host, wish("b", "tiny", 1))


def test_a_network_in_use_stays(host: Host) -> None:
    networks.create(host, Network("web"))
    endpoints.connect(host, wish("a", "web"))
    with pytest.raises(InUse, match="has 1 endpoint "):
        networks.remove(host, "web")


def test_the_default_network_comes_and_goes_by_itself(host: Host) -> None:
    endpoints.connect(host, wish("a", "default"))
    assert host.store.network("default").ephemeral
    endpoints.disconnect(host, "default", "a")
    assert host.kernel.state == EMPTY
    assert files_of(host) == set()


@pytest.mark.proves("row 52")
def test_publish_and_unpublish_of_a_live_endpoint(host: Host) -> None:
    networks.create(host, Network("web"))
    endpoints.connect(host, wish("a", "web"))
    before = host.kernel.state
    with_ports = endpoints.publish(host, "a", (PublishedPort(80, 8080), PublishedPort(53, 0, "udp")))
    assert with_ports.ports[1].host_port >= 49152
    assert host.store.endpoint("web", "a") == with_ports
    assert endpoints.unpublish(host, "a", (PublishedPort(80), PublishedPort(53, 0, "udp"))).ports == ()
    assert host.kernel.state == before
    with pytest.raises(NotFound, match="isn't published"):
        endpoints.unpublish(host, "a", (PublishedPort(80),))


def test_gc_takes_strays_and_nothing_else(host: Host) -> None:
    networks.create(host, Network("web"))
    endpoints.connect(host, wish("a", "web"))
    endpoints.connect(host, wish("b", "web", 1))
    before = host.kernel.state
    assert gc.collect(host) == ()
    host.store.root, root = host.store.root, host.store.root
    os.unlink(f"{root}/endpoints/web/b.json")
    told = gc.collect(host, dry_run=True)
    assert len(told) == 2
    assert host.kernel.state == before
    assert gc.collect(host) == told
    assert gc.collect(host) == ()
    assert len(host.store.endpoints()) == 1


LAB = Topology(
    "lab",
    (Network("lab_default", (Subnet(ip_network("10.7.0.0/24")),), project="lab"),),
    (
        Service("db", attachments=(Attachment("lab_default"),), project="lab"),
        Service(
            "web",
            attachments=(Attachment("lab_default"),),
            ports=(PublishedPort(80, 8080),),
            after=("db",),
            project="lab",
        ),
    ),
)


@pytest.mark.proves("row 90")
def test_up_twice_changes_nothing_the_second_time(host: Host) -> None:
    first = topology.up(host, LAB)
    assert [change.name for change in first.changes] == ["lab_default", "db", "web"]
    state = host.kernel.state
    assert topology.up(host, LAB).changes == ()
    assert host.kernel.state == state
    topology.down(host, "lab")
    assert host.kernel.state == EMPTY
    assert files_of(host) == set()


def test_a_service_is_known_by_its_namespace(host: Host) -> None:
    topology.up(host, LAB)
    before = host.kernel.state
    web, inner = "/run/netns/web", Network("inner", (Subnet(ip_network("10.6.0.0/24")),))
    networks.create(host, inner)
    alone = files_of(host)
    made = endpoints.connect(host, Wish("web", web, Attachment("inner", ifname="eth1")))
    assert (made.owned, made.service, made.project, made.ports) == (True, "web", "lab", ())
    assert host.store.service("web").networks == ("lab_default", "inner")
    with pytest.raises(InvalidIntent, match="is that of service 'web'") as refused:
        endpoints.connect(host, Wish("other", web, Attachment("inner")))
    assert "--alias other" in refused.value.fix
    # A namespace that is only called like a service is somebody else's.
    assert not endpoints.connect(host, wish("db", "inner")).service
    endpoints.disconnect(host, "inner", "db")
    endpoints.disconnect(host, "inner", "web")
    assert {name for name in files_of(host) if not name.startswith("hosts/")} == alone
    networks.remove(host, "inner")
    assert host.kernel.state == before


def test_ports_come_back_with_their_network(host: Host) -> None:
    topology.up(host, LAB)
    before = host.store.endpoint("lab_default", "web")
    web = Wish("web", "/run/netns/web", Attachment("lab_default", ip_address("10.7.0.3")))
    endpoints.disconnect(host, "lab_default", "web")
    assert endpoints.connect(host, web) == before
    endpoints.disconnect(host, "lab_default", "web")
    # Published elsewhere meanwhile, they would be taken.
    elsewhere = endpoints.connect(
        host, web.replace(to=Attachment("default", ifname="eth1"), ports=(PublishedPort(80, 8080),))
    )
    assert elsewhere.gateway
    back = endpoints.connect(host, web)
    assert (back.ports, back.gateway) == ((), (4,))
    assert not host.store.endpoint("default", "web").gateway
    topology.down(host, "lab")
    assert host.kernel.state == EMPTY
    assert files_of(host) == set()


def test_up_brings_a_service_back_to_its_networks(host: Host) -> None:
    web = LAB.services[1].replace(attachments=(Attachment("lab_default", ip_address("10.7.0.9")),))
    lab = LAB.replace(services=(LAB.services[0], web))
    topology.up(host, lab)
    state = host.kernel.state
    endpoints.disconnect(host, "lab_default", "web")
    (change,) = topology.decide(host, lab).changes
    assert (change.name, change.what, change.why) == ("web", "mend", "it isn't on network lab_default")
    planned = {thing.identity for step in change.steps for thing in step.things}
    assert planned == {thing.identity for thing in state} - {thing.identity for thing in host.kernel.state}
    topology.up(host, lab)
    assert host.kernel.state == state
    assert topology.up(host, lab).changes == ()


def test_a_network_made_anew_takes_along_who_was_connected_to_it(host: Host) -> None:
    more = Network("lab_more", (Subnet(ip_network("10.6.0.0/24")),), project="lab")
    wide = LAB.replace(networks=(*LAB.networks, more))
    topology.up(host, wide)
    endpoints.connect(host, Wish("web", "/run/netns/web", Attachment("lab_more", ifname="eth1")))
    assert topology.up(host, wide).changes == ()
    other = more.replace(subnets=(Subnet(ip_network("10.5.0.0/24")),))
    changes = topology.up(host, wide.replace(networks=(*LAB.networks, other))).changes
    assert [(change.name, change.what) for change in changes] == [("lab_more", "recreate"), ("web", "recreate")]


@pytest.mark.proves("row 91")
def test_what_is_foreseen_is_what_comes(host: Host) -> None:
    foreseen = topology.decide(host, LAB)
    state = KernelState()
    seen: set[tuple[str, ...]] = set()
    for change in foreseen.changes:
        for step in change.steps:
            seen |= {thing.identity for thing in step.things}
    topology.up(host, LAB)
    links = {thing.identity for thing in host.kernel.state if thing.identity[0] in ("link", "address", "table")}
    assert {each for each in links if each[0] == "link"} <= seen
    assert state == KernelState()


def test_further_addresses_are_foreseen_too(host: Host) -> None:
    also = tuple(map(ip_address, ("10.7.0.40", "169.254.7.7")))
    service = Service("many", attachments=(Attachment("lab_default", also=also),), project="lab")
    many = LAB.replace(services=(service,))
    steps = [step for change in topology.decide(host, many).changes for step in change.steps]
    seen = {thing.identity for step in steps for thing in step.things}
    topology.up(host, many)
    assert {thing.identity for thing in host.kernel.state.of(Address)} <= seen
    assert {("address", service.netns, "eth0", one) for one in ("10.7.0.40/24", "169.254.7.7/16")} <= seen


@pytest.mark.proves("row 49")
def test_a_port_without_nat_takes_none_of_the_hosts(host: Host) -> None:
    host.kernel.listening = frozenset([("tcp", 8080)])
    routed = LAB.networks[0].replace(gateway_mode4="routed")
    services = tuple(one.replace(ports=(PublishedPort(80, 8080),)) for one in LAB.services)
    topology.up(host, LAB.replace(networks=(routed,), services=services))
    doors = {thing.key for thing in host.kernel.state.of(Element) if thing.set == "routed4"}
    assert {(port, proto) for _, proto, port in doors} == {(80, "tcp")}
    assert len(doors) == 2
    assert not [found for found in doctor.examine(host) if "listens" in found.what]
    nat = LAB.replace(services=(services[0],))
    topology.down(host, "lab")
    with pytest.raises(PortTaken):
        topology.up(host, nat)
    # Where one family has NAT, its port is one of the host's.
    six = routed.replace(gateway_mode4="nat", gateway_mode6="routed", ipv6=True)
    with pytest.raises(PortTaken):
        topology.up(host, nat.replace(networks=(six,)))


@pytest.mark.proves("row 90")
def test_an_edit_touches_only_what_differs(host: Host) -> None:
    topology.up(host, LAB)
    db, web = LAB.services
    edited = LAB.replace(services=(db, web.replace(ports=(PublishedPort(80, 9090), PublishedPort(443, 0)))))
    assert [(c.name, c.what) for c in topology.up(host, edited).changes] == [("web", "ports")]
    ports = host.store.endpoint("lab_default", "web").ports
    assert ports[0] == PublishedPort(80, 9090)
    assert topology.up(host, edited).changes == ()
    moved = edited.replace(
        services=(db.replace(attachments=(Attachment("lab_default", ip_address("10.7.0.77")),)), edited.services[1])
    )
    assert [(c.name, c.what) for c in topology.up(host, moved).changes] == [("db", "recreate")]
    gone = moved.replace(services=moved.services[:1])
    assert topology.decide(host, gone).remarks
    assert [(c.name, c.what) for c in topology.up(host, gone, remove_orphans=True).changes] == [("web", "remove")]


@pytest.mark.proves("row 78")
def test_drift_is_mended(host: Host) -> None:
    topology.up(host, LAB)
    state = host.kernel.state
    flushed = state - [thing for thing in state if thing.identity[0] in ("table", "element")]
    host.kernel.state = flushed
    assert [change.what for change in topology.decide(host, LAB).changes] == ["mend"] * 4
    topology.up(host, LAB)
    assert host.kernel.state == state


def test_a_network_that_changes_takes_its_services_along(host: Host) -> None:
    topology.up(host, LAB)
    other = LAB.networks[0].replace(subnets=(Subnet(ip_network("10.8.0.0/24")),))
    done = topology.up(host, LAB.replace(networks=(other,)))
    assert {(c.name, c.what) for c in done.changes} == {
        ("lab_default", "recreate"), ("db", "recreate"), ("web", "recreate"),
    }  # fmt: skip
    assert str(host.store.endpoint("lab_default", "db").addresses[0]) == "10.8.0.2/24"


@pytest.mark.proves("row 23")
@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("+-"), st.integers(0, 8)), max_size=30))
def test_no_address_is_ever_given_twice(tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[str, int]]) -> None:
    host = Host(FakeKernel(namespaces=SPACES), Store(str(tmp_path_factory.mktemp("store"))))
    host.open()
    networks.create(host, Network("web", (Subnet(ip_network("10.9.0.0/28")),)))
    there: set[int] = set()
    for sign, number in moves:
        if sign == "+" and number not in there:
            endpoints.connect(host, wish(f"e{number}", "web", number))
            there.add(number)
        elif sign == "-" and number in there:
            endpoints.disconnect(host, "web", f"e{number}")
            there.discard(number)
        held = [endpoint.addresses[0].ip for endpoint in host.store.endpoints("web")]
        assert len(held) == len(set(held)) == len(there)
        assert not {str(ip) for ip in held} & {"10.9.0.0", "10.9.0.1", "10.9.0.15"}


def test_a_reboot_keeps_networks_and_forgets_the_rest(host: Host) -> None:
    networks.create(host, Network("web"))
    endpoints.connect(host, wish("a", "web"))
    Path(host.store.root, "boot").write_text("another boot")
    host.kernel.state = EMPTY
    host.open()
    assert host.store.endpoints() == ()
    assert [network.name for network in host.store.networks()] == ["web"]
    made = endpoints.connect(host, wish("a", "web"))
    assert made.addresses
    assert reduce(simulate, adding(host.kernel.state), KernelState()) == host.kernel.state


def test_services_share_a_namespace_only_while_it_is_there(host: Host) -> None:
    services.start(host, Service("a", mode="none"))
    with pytest.raises(Taken, match="the name 'a' belongs to a service"):
        services.start(host, Service("a", mode="none"))
    with pytest.raises(NotFound, match="shares the namespace of 'z'"):
        services.start(host, Service("b", mode="service:z"))
    services.start(host, Service("b", mode="service:a"))
    with pytest.raises(InUse, match="is shared by b"):
        services.remove(host, "a")
    services.remove(host, "b")
    services.remove(host, "a")
    assert host.kernel.state == EMPTY
