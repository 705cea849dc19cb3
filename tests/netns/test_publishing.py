"""Ways to publish, with real packets: ranges, addresses, interfaces, choices, shared ports; whose source is seen.

outside ── up0 ┐        ┌ web    10.50.0.0/24 fd00:50::/64     a 10.50.0.2   b 10.50.0.3
               host ────┤
                        └ other  10.51.0.0/24 fd00:51::/64     c 10.51.0.2
"""

from __future__ import annotations

import re
import subprocess
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import rules
from commands import NSBRIDGE, settled
from lab import HOST4, HOST6, OUTSIDE, OUTSIDE4, OUTSIDE6, Lab, eventually, sh
from reach import DIRECT

from nsbridge.desired.ports import SPECIAL
from nsbridge.engine import doctor, endpoints, networks, shared
from nsbridge.engine.endpoints import Wish
from nsbridge.errors import Exhausted, InvalidIntent, PortTaken, Unsupported
from nsbridge.files.parts import short_ports
from nsbridge.model.endpoint import PublishedPort
from nsbridge.model.network import Network, Subnet
from nsbridge.model.service import Attachment
from nsbridge.wiring import open_host

if TYPE_CHECKING:
    from lab import Reply

    from nsbridge.engine.host import Host
    from nsbridge.model.endpoint import Endpoint

pytestmark = pytest.mark.netns

PAGE = Path(__file__).parents[2] / "docs" / "publishing.md"
A, B, C = ("10.50.0.2", "fd00:50::2"), ("10.50.0.3", "fd00:50::3"), ("10.51.0.2", "fd00:51::2")
GATEWAY, GATEWAY_C = ("10.50.0.1", "fd00:50::1"), ("10.51.0.1", "fd00:51::1")
SECOND4, SECOND6 = "198.51.100.77", "2001:db8:1::77"


def subnets(number: int) -> tuple[Subnet, ...]:
    return Subnet(ip_network(f"10.{number}.0.0/24")), Subnet(ip_network(f"fd00:{number}::/64"))


def put(lab: Lab, ours: Host, name: str, network: str, *servers: str) -> Endpoint:
    path = lab.ns(name)
    if servers:
        lab.serve(name, *servers, ns=name)
    return endpoints.connect(ours, Wish(name, path, Attachment(network)))


def reachable(lab: Lab) -> None:
    """Wait until neighbour discovery has found everybody once."""
    for address in (*A, *B, *C):
        assert eventually(lambda address=address: lab.sh(f"ping -c1 -W1 {address}", check=False).status == 0)


@pytest.fixture
def ours(lab: Lab) -> Host:
    sh(f"ip addr add {SECOND4}/24 dev up0; ip addr add {SECOND6}/64 dev up0 nodad preferred_lft 0")
    found = open_host()
    for name, number in (("web", 50), ("other", 51)):
        networks.create(found, Network(name, subnets=subnets(number)))
    put(lab, found, "a", "web", "tcp:80", "udp:80", "tcp:3003", "udp:40000", "tcp:5001")
    put(lab, found, "b", "web", "tcp:80", "udp:80")
    put(lab, found, "c", "other", "tcp:80")
    reachable(lab)
    return found


def publish(ours: Host, name: str, *texts: str, **changes: object) -> Endpoint:
    ports = tuple(port.replace(**changes) for text in texts for port in short_ports(text))
    return endpoints.publish(ours, name, ports)


def unpublish(ours: Host, name: str, *texts: str) -> Endpoint:
    return endpoints.unpublish(ours, name, tuple(port for text in texts for port in short_ports(text)))


def seen(reply: Reply) -> tuple[str, str]:
    return reply.server, reply.source


def refused(lab: Lab, address: str, port: int, ns: str | None = None) -> bool:
    return not lab.tcp(address, port, ns, timeout_s=0.3)


def elements() -> int:
    return len(rules.elements(*[f"{name}{version}" for name in ("publish", *SPECIAL) for version in (4, 6)]))


# ------------------------------------------------------------------ ranges


@pytest.mark.proves("row 32", "row 36", "row 37", "row 40", "row 42", "row 43", "row 44", "row 46")
def test_a_range_is_one_element_and_answers_everywhere(lab: Lab, ours: Host) -> None:
    before = elements()
    publish(ours, "a", "3000-3005:3000-3005", "1-60000:1-60000/udp")
    assert elements() - before == 4  # two ranges in two families
    starts = (OUTSIDE, None, "c", "b", "a")
    for ns, address in ((None, "127.0.0.1"), *((ns, address) for ns in starts for address in (HOST4, HOST6))):
        assert lab.tcp(address, 3003, ns).server == "a", (ns, address)
        assert lab.udp(address, 40000, ns).server == "a", (ns, address)
    assert refused(lab, HOST4, 3006, OUTSIDE)
    publish(ours, "a", "4000-4002:5000-5002")
    assert elements() - before == 10  # nft can't shift a range
    assert seen(lab.tcp(HOST4, 4001, OUTSIDE)) == ("a", OUTSIDE4)
    assert seen(lab.tcp(HOST6, 4001, OUTSIDE)) == ("a", OUTSIDE6)
    unpublish(ours, "a", "3000-3005:3000-3005", "1-60000:1-60000/udp", "4000-4002:5000-5002")
    assert elements() == before
    assert refused(lab, HOST4, 3003, OUTSIDE)


CONFLICTS = [
    # there, wanted by another endpoint, taken?
    ("8080:80", "8080:80", True),
    ("8080:80", "127.0.0.1:8080:80", True),
    ("127.0.0.1:8080:80", "8080:80", True),
    ("127.0.0.1:8080:80", "127.0.0.1:8080:80", True),
    ("127.0.0.1:8080:80", "127.0.0.2:8080:80", False),
    (f"{HOST4}:8080:80", f"{SECOND4}:8080:80", False),
    (f"[{HOST6}]:8080:80", "8080:80", True),
    ("0.0.0.0:8080:80", "[::]:8080:80", False),
    ("0.0.0.0:8080:80", "8080:80", True),
    ("8080:80", "8080:80/udp", False),
    ("up0:8080:80", "8080:80", True),
    ("8080:80", "up0:8080:80", True),
    ("up0:8080:80", "up0:8080:80", True),
    ("up0:8080:80", "wg0:8080:80", False),
    ("up0:8080:80", "127.0.0.1:8080:80", False),
    ("8000-8100:8000-8100", "8080:80", True),
    ("8080:80", "8000-8100:8000-8100", True),
    ("8000-8100:8000-8100", "8100-8200:8100-8200", True),
    ("8000-8100:8000-8100", "8101-8200:8101-8200", False),
    ("8000-8100:8000-8100", "127.0.0.1:8080:80", True),
    ("127.0.0.1:8080:80", "8000-8100:8000-8100", True),
    ("127.0.0.1:8000-8100:8000-8100", "8080:80", True),
    ("127.0.0.1:8000-8100:8000-8100", "127.0.0.1:8080:80", True),
    ("127.0.0.1:8000-8100:8000-8100", "127.0.0.2:8080:80", False),
    ("up0:8080:80", "8000-8100:8000-8100", True),
    ("8000-8100:8000-8100", "up0:8080:80", True),
    ("8000-8100:9000-9100", "8080-8081:8080-8081", True),
]  # fmt: skip


@pytest.mark.proves("row 34", "row 36")
def test_who_is_in_whose_way(lab: Lab, ours: Host) -> None:
    for there, wanted, taken in CONFLICTS:
        publish(ours, "a", there)
        if taken:
            with pytest.raises(PortTaken, match=r"^host ports? .* already goe?s? to endpoint 'a' of network 'web'"):
                publish(ours, "b", wanted)
            assert ours.store.endpoint("web", "b").ports == (), (there, wanted)
        else:
            publish(ours, "b", wanted)
            unpublish(ours, "b", wanted)
        unpublish(ours, "a", there)


@pytest.mark.proves("row 36")
def test_a_process_of_the_host_in_a_range(lab: Lab, ours: Host) -> None:
    lab.serve("mine", "tcp:8050", "udp:8051")
    for text, busy in (("8000-8100:8000-8100", 8050), ("127.0.0.1:8000-8100:8000-8100/udp", 8051),
                       ("up0:8050:80", 8050), ("8045-8050:80-85", 8050)):  # fmt: skip
        with pytest.raises(PortTaken, match=f"a process on this host already listens on .*:{busy}/"):
            publish(ours, "a", text)
    publish(ours, "a", "8051-8100:8051-8100")


@pytest.mark.proves("row 88")
def test_one_of_two_that_want_the_same_at_once(lab: Lab, ours: Host) -> None:
    """A lock on the port's number serialises them: without it both could look first and both be right."""
    for there, wanted in (("3000-3100:3000-3100", "3050:80"), ("127.0.0.1:3050:80", "3050:80")):
        for _ in range(4):
            both = [
                subprocess.Popen([*NSBRIDGE, "publish", name, text], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                for name, text in (("a", there), ("b", wanted))
            ]
            said = [process.communicate()[1].decode() for process in both]
            assert sorted(process.returncode for process in both) == [0, 5], said
            for name in ("a", "b"):
                if ports := ours.store.endpoint("web", name).ports:
                    endpoints.unpublish(ours, name, ports)


# ------------------------------------------------------------------ addresses and interfaces


@pytest.mark.proves("row 34", "row 40")
def test_bound_to_addresses(lab: Lab, ours: Host) -> None:
    publish(ours, "a", "8001:80", "0.0.0.0:8002:80", "[::]:8003:80", f"{HOST4}:8004:80", f"[{HOST6}]:8005:80",
            "127.0.0.1:8006:80", "127.0.0.2:8007:80")  # fmt: skip
    publish(ours, "b", "127.0.0.3:8007:80")
    table = {  # port: the addresses of the host it answers on, for the host itself
        8001: {HOST4, HOST6, SECOND4, "127.0.0.1", "10.50.0.1"}, 8002: {HOST4, SECOND4, "127.0.0.1", "10.50.0.1"},
        8003: {HOST6}, 8004: {HOST4}, 8005: {HOST6}, 8006: {"127.0.0.1"},
    }  # fmt: skip
    everything = table[8001]
    for port, wanted in table.items():
        assert {address for address in everything if not refused(lab, address, port)} == wanted, port
        for address in (HOST4, HOST6):
            assert refused(lab, address, port, OUTSIDE) is (address not in wanted), port
    assert lab.tcp("127.0.0.2", 8007).server == "a"
    assert lab.tcp("127.0.0.3", 8007).server == "b"
    with pytest.raises(InvalidIntent, match=r"192\.0\.2\.1 is no address of this host"):
        publish(ours, "a", "192.0.2.1:8009:80")


@pytest.mark.proves("S2")
def test_a_loopback_port_is_unreachable_by_the_endpoints_address_too(lab: Lab, ours: Host) -> None:
    publish(ours, "a", "127.0.0.1:8006:80")
    sh(f"ip route add 10.50.0.0/24 via {HOST4}; ip route add 127.0.0.0/8 via {HOST4} table 7", f"/run/netns/{OUTSIDE}")
    assert refused(lab, A[0], 80, OUTSIDE)
    assert refused(lab, HOST4, 8006, OUTSIDE)
    rules.remove(DIRECT)
    assert lab.tcp(A[0], 80, OUTSIDE).server == "a"  # so it was that rule which kept it out


@pytest.mark.proves("row 35")
def test_on_an_interface_by_its_name(lab: Lab, ours: Host) -> None:
    lab.ns("lan")
    sh(
        "ip link add lan0 type veth peer name eth0 netns lan; ip addr add 10.8.0.1/24 dev lan0; ip link set lan0 up;"
        "ip -n lan addr add 10.8.0.2/24 dev eth0; ip -n lan link set eth0 up; ip -n lan route add default via 10.8.0.1"
    )
    publish(ours, "a", "up0:8080:80")
    publish(ours, "b", "lan0:8080:80")
    assert seen(lab.tcp(HOST4, 8080, OUTSIDE)) == ("a", OUTSIDE4)
    assert seen(lab.tcp(HOST6, 8080, OUTSIDE)) == ("a", OUTSIDE6)
    assert seen(lab.tcp("10.8.0.1", 8080, "lan")) == ("b", "10.8.0.2")
    assert seen(lab.tcp(HOST4, 8080, "lan")) == ("b", "10.8.0.2")  # it is the way in that counts
    assert lab.tcp(HOST4, 8080).server == "a"  # the host itself, by the interface's address
    assert lab.tcp(SECOND4, 8080).server == "a"
    assert lab.tcp(HOST6, 8080).server == "a"
    assert lab.tcp("10.8.0.1", 8080).server == "b"
    assert refused(lab, "127.0.0.1", 8080)
    assert refused(lab, HOST4, 8080, "c")  # comes in by another interface
    sh("ip addr add 10.8.0.7/24 dev lan0")
    assert lab.tcp("10.8.0.7", 8080, "lan").server == "b"  # a new address needs nothing
    (note,) = [one.what for one in doctor.examine(ours) if "other addresses" in one.what]
    assert note.startswith("lan0 has other addresses than when lan0:8080->80/tcp of 'b' was published")
    told: list[str] = []
    ours.say = told.append
    publish(ours, "b", "wg7:8081:80")
    assert told == ["there is no interface 'wg7' yet: port wg7:8081->80/tcp answers once there is"]


@pytest.mark.proves("row 39")
def test_a_network_may_say_where_ports_are_published(lab: Lab, ours: Host) -> None:
    networks.create(ours, Network("dev", subnets=(subnets(52)[0],), host_binding=ip_address("127.0.0.1")))
    made = put(lab, ours, "d", "dev", "tcp:80")
    assert made.addresses
    publish(ours, "d", "8080:80", f"{HOST4}:8081:80")
    assert lab.tcp("127.0.0.1", 8080).server == "d"
    assert refused(lab, HOST4, 8080, OUTSIDE)
    assert lab.tcp(HOST4, 8081, OUTSIDE).server == "d"
    unpublish(ours, "d", "8080:80")
    assert refused(lab, "127.0.0.1", 8080)
    with pytest.raises(InvalidIntent, match="is no address of this host"):
        networks.create(ours, Network("far", host_binding=ip_address("192.0.2.1")))


@pytest.mark.proves("row 38")
def test_one_host_port_of_several(lab: Lab, ours: Host) -> None:
    lab.serve("mine", "tcp:8000")
    publish(ours, "b", "127.0.0.1:8001:80")
    first, second = (publish(ours, "a", "8000-8003:80").ports[-1].host_port for _ in range(2))
    assert (first, second) == (8002, 8003)  # a process has 8000, and 8001 goes elsewhere
    assert lab.tcp(HOST4, 8003, OUTSIDE).server == "a"
    with pytest.raises(Exhausted, match=r"no host port of 0\.0\.0\.0:8000-8003/tcp is free"):
        publish(ours, "a", "8000-8003:80")
    chosen = publish(ours, "a", "80").ports[-1].host_port
    assert lab.tcp(HOST4, chosen, OUTSIDE).server == "a"


@pytest.mark.proves("row 33")
def test_sctp_is_refused_before_anything_changes_where_the_kernel_has_none(lab: Lab, ours: Host) -> None:
    if ours.kernel.supports("sctp"):
        pytest.skip("this kernel has SCTP")
    before = settled()
    with pytest.raises(Unsupported, match="this kernel has no SCTP"):
        publish(ours, "a", "7:7/sctp")
    with pytest.raises(Unsupported):
        endpoints.connect(ours, Wish("e", lab.ns("a"), Attachment("other"), ports=short_ports("7:7/sctp")))
    assert settled() == before


# ------------------------------------------------------------------ shared ports


@pytest.mark.proves("row 71", "row 86")
def test_several_endpoints_share_a_port(lab: Lab, ours: Host) -> None:
    for name in ("a", "b", "c"):
        publish(ours, name, "8080:80", share=True)
    for ns, address in ((OUTSIDE, HOST4), (OUTSIDE, HOST6), (None, "127.0.0.1"), (None, HOST6), ("c", HOST4)):
        answers = [lab.tcp(address, 8080, ns).server for _ in range(6)]
        assert sorted(answers) == ["a", "a", "b", "b", "c", "c"], (ns, address)
    assert {seen(lab.tcp(HOST4, 8080, OUTSIDE))[1] for _ in range(3)} == {OUTSIDE4}
    with pytest.raises(PortTaken, match="is shared by other endpoints"):
        publish(ours, "a", "8080:80")
    with pytest.raises(PortTaken):
        publish(ours, "a", "8000-8100:8000-8100")
    assert all(not steps for steps in (networks.mend(ours, ours.store.network(name)) for name in ("web", "other")))
    # Out of turn, and in again.
    (port,) = ours.store.endpoint("web", "b").ports
    shared.turn_out(ours, ours.store.endpoint("web", "b"), port, True)
    assert {lab.tcp(HOST4, 8080, OUTSIDE).server for _ in range(6)} == {"a", "c"}
    shared.turn_out(ours, ours.store.endpoint("web", "b"), port, False)
    assert {lab.tcp(HOST4, 8080, OUTSIDE).server for _ in range(6)} == {"a", "b", "c"}
    # Who goes is left out, and the last one frees the port.
    endpoints.disconnect(ours, "other", "c")
    assert {lab.tcp(HOST4, 8080, OUTSIDE).server for _ in range(6)} == {"a", "b"}
    rules.flush()
    with ours.store.lock(), ours.operation("mend") as op:  # as any command does that misses the table
        if networks.settle(ours, op, ours.store.networks(), ours.kernel.facts()):
            networks.restore_elements(ours, op)
    assert {lab.tcp(HOST4, 8080, OUTSIDE).server for _ in range(6)} == {"a", "b"}
    unpublish(ours, "a", "8080:80")
    assert {lab.tcp(HOST4, 8080, OUTSIDE).server for _ in range(3)} == {"b"}
    unpublish(ours, "b", "8080:80")
    assert refused(lab, HOST4, 8080, OUTSIDE)
    assert rules.elements("turns4", "turns6") == []
    assert shared.records(ours.store) == ()
    publish(ours, "a", "8080:80")
    with pytest.raises(PortTaken, match="goes to endpoint 'a'"):
        publish(ours, "b", "8080:80", share=True)
    assert shared.records(ours.store) == ()


# ------------------------------------------------------------------ the way out


@pytest.mark.proves("row 26", "row 27", "row 28")
def test_whose_address_leaves(lab: Lab, ours: Host) -> None:
    lab.serve("outside", "tcp:80", ns=OUTSIDE)
    sources = (ip_address(SECOND4), ip_address(SECOND6))
    networks.create(ours, Network("fixed", subnets=subnets(53), sources=sources))
    networks.create(ours, Network("plain", subnets=subnets(54), masquerade=False))
    put(lab, ours, "f", "fixed", "tcp:80")
    put(lab, ours, "p", "plain", "tcp:80")
    sh(f"ip route add 10.54.0.0/24 via {HOST4}; ip -6 route add fd00:54::/64 via {HOST6}", f"/run/netns/{OUTSIDE}")
    for ns, wanted4, wanted6 in (("a", HOST4, HOST6), ("f", SECOND4, SECOND6), ("p", "10.54.0.2", "fd00:54::2")):
        for address, wanted in ((OUTSIDE4, wanted4), (OUTSIDE6, wanted6)):
            reply = eventually(lambda ns=ns, address=address: lab.tcp(address, 80, ns))
            assert seen(reply) == ("outside", wanted), ns
    lab.serve("host", "tcp:7070")
    for gateway in GATEWAY:  # what the host tells itself doesn't leave
        assert seen(lab.tcp(gateway, 7070)) == ("host", gateway)
    publish(ours, "f", "8080:80")
    assert seen(lab.tcp(HOST4, 8080, OUTSIDE)) == ("f", OUTSIDE4)  # the way in stays as it is
    assert seen(lab.tcp(HOST4, 8080, "f")) == ("f", "10.53.0.1")
    with pytest.raises(InvalidIntent, match=r"can't use 192\.0\.2\.9: it is no address of this host"):
        networks.create(ours, Network("far", sources=(ip_address("192.0.2.9"),)))


# ------------------------------------------------------------------ whose address is seen


def table() -> list[tuple[str, str, str]]:
    section = PAGE.read_text().split("<!-- table: sources -->")[1].split("<!-- end -->")[0]
    rows = [row.strip("| ").split(" | ") for row in section.strip().splitlines()[2:]]
    return [(row[0].strip(), row[1].strip(), row[2].strip()) for row in rows]


STARTS = {"another machine": OUTSIDE, "the host": None, "another network": "c", "a neighbour": "b", "itself": "a"}
TARGETS = {
    "the host's address": (HOST4, HOST6),
    "`127.0.0.1`": ("127.0.0.1", ""),
    "`[::1]`": ("", "::1"),
    "the gateway's address": GATEWAY,
    "its own gateway's address": GATEWAY_C,
    "another network's gateway's address": GATEWAY_C,
    "the endpoint's address, port 80": A,
}
SOURCES = {
    "its own address": {OUTSIDE: (OUTSIDE4, OUTSIDE6), "c": C, "b": B, "a": A, None: (HOST4, HOST6)},
    "the gateway's address": dict.fromkeys((OUTSIDE, "c", "b", "a", None), GATEWAY),
    "the address it asked": {None: GATEWAY_C},
    "no answer": dict.fromkeys((OUTSIDE, "c", "b", "a", None), ("", "")),
}


@pytest.mark.proves("S3", "S9", "S17", "row 40", "row 42", "row 43", "row 44", "row 45")
def test_the_sources_that_the_page_promises(lab: Lab, ours: Host) -> None:
    publish(ours, "a", "8080:80", "8080:80/udp")
    sh(f"ip route add 10.50.0.0/24 via {HOST4}; ip -6 route add fd00:50::/64 via {HOST6}", f"/run/netns/{OUTSIDE}")
    rows = table()
    assert len(rows) > 10
    for start, target, promised in rows:
        ns = STARTS[start]
        for address, wanted in zip(TARGETS[target], SOURCES[promised][ns], strict=True):
            if not address:
                continue
            port = 80 if "port 80" in target else 8080
            for reply in (lab.tcp(address, port, ns, timeout_s=0.4), lab.udp(address, port, ns, timeout_s=0.4)):
                assert seen(reply) == ("a" if wanted else "", wanted), (start, target, address)


@pytest.mark.proves("S17")
def test_a_remote_client_is_seen_as_itself_because_nothing_masquerades_the_way_in(lab: Lab, ours: Host) -> None:
    """CVE-2021-20199: with a rule that hides who comes in, an application takes everybody for a local user."""
    publish(ours, "a", "8080:80")
    assert seen(lab.tcp(HOST4, 8080, OUTSIDE)) == ("a", OUTSIDE4)
    rules.hide_who_comes_in("nsb-web")
    assert seen(lab.tcp(HOST4, 8080, OUTSIDE)) == ("a", GATEWAY[0])


@pytest.mark.proves("S20")
def test_link_local_clients_are_left_to_a_socket_of_the_host(lab: Lab, ours: Host) -> None:
    """No router forwards their packets, so rewriting them would swallow what a proxy could serve."""
    publish(ours, "a", "8080:80")
    lab.serve("proxy", "tcp:8080")
    link_local = re.search(r"inet6 (fe80\S+)/", sh("ip -6 addr show dev up0 scope link").out)
    assert link_local is not None
    ask = (
        "import socket; s = socket.socket(socket.AF_INET6); s.settimeout(0.5);"
        f"s.connect(('{link_local[1]}', 8080, 0, socket.if_nametoindex('eth0')));"
        "s.sendall(b'x'); print(s.recv(999).decode())"
    )

    def asked() -> str:
        return lab.sh(["python3", "-c", ask], OUTSIDE, check=False).out

    assert eventually(lambda: '"server": "proxy"' in asked())
    assert '"server": "proxy"' in lab.tcp("::1", 8080).body
    rules.remove("S20: link-local clients aren't forwarded: a proxy's work")
    assert asked() == ""
    assert any("no proxy serves [::]:8080/tcp" in one.what for one in doctor.examine(ours))


def test_ports_as_the_command_prints_them(lab: Lab, ours: Host) -> None:
    publish(ours, "a", "3000-3005:3000-3005", "up0:8080:80", "127.0.0.1:8081:80")
    said = subprocess.run([*NSBRIDGE, "port", "a"], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == [
        "3000-3005/tcp -> 0.0.0.0:3000-3005",
        "3000-3005/tcp -> [::]:3000-3005",
        "80/tcp -> up0:8080",
        "80/tcp -> 127.0.0.1:8081",
    ]
    assert PublishedPort(80, 8080, interface="up0") in ours.store.endpoint("web", "a").ports
