"""Explaining without a kernel: routes, questions, what records know better, and how it is told."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from typing import TYPE_CHECKING, Any

import pytest

from nsbridge.engine import endpoints, networks
from nsbridge.engine.asking import Asked, Place, split
from nsbridge.engine.endpoints import Wish
from nsbridge.engine.explain import predict
from nsbridge.engine.host import Host
from nsbridge.errors import InvalidIntent
from nsbridge.explain import cures, tell
from nsbridge.explain.intents import Records, better
from nsbridge.explain.path import Culprit, Leg, Path, Question, answer_to, walk
from nsbridge.explain.routing import choose_source, lookup
from nsbridge.explain.world import (
    LOCAL,
    MAIN,
    Listener,
    SeenAddress,
    SeenLink,
    SeenNeighbour,
    SeenPolicy,
    SeenRoute,
    Space,
    World,
)
from nsbridge.firewall.packet import Packet
from nsbridge.firewall.reads import Fixed, HeaderBytes
from nsbridge.firewall.seen import Assign, Compare, Firewall, Refuse, SeenChain, SeenRule, SeenTable
from nsbridge.kernel.fake import FakeKernel
from nsbridge.model.endpoint import Endpoint, PublishedPort
from nsbridge.model.network import Network, Subnet
from nsbridge.model.policy import Party, Policy, PolicyRule
from nsbridge.model.service import Attachment
from nsbridge.state.things import Address
from nsbridge.store.store import Store

if TYPE_CHECKING:
    import pathlib

    from nsbridge.firewall.seen import Part

POLICIES = tuple(
    SeenPolicy(version, priority, table=table)
    for version in (4, 6)
    for priority, table in ((0, LOCAL), (32766, MAIN), (32767, 253))
)


def space(path: str, own: dict[str, str], *routes: SeenRoute, policies: tuple[SeenPolicy, ...] = ()) -> Space:
    """A namespace with pairs to its neighbours: by link, the address on it."""
    links = [SeenLink(1, "lo", loopback=True, mtu=65536)]
    addresses = [SeenAddress("lo", ip_interface("127.0.0.1/8"))]
    found = [SeenRoute(LOCAL, ip_network("127.0.0.0/8"), "local", (("lo", None),))]
    for index, (name, text) in enumerate(own.items(), 2):
        address = ip_interface(text)
        links.append(SeenLink(index, name, "veth", mac=f"02:00:00:00:00:{index:02}", peer_index=index))
        addresses.append(SeenAddress(name, address))
        found.append(SeenRoute(LOCAL, ip_network(address.ip), "local", ((name, None),)))
        found.append(SeenRoute(MAIN, address.network, ways=((name, None),)))
    return Space(path, tuple(links), tuple(addresses), (*found, *routes), (*POLICIES, *policies))


class Made:
    """A world that is a value."""

    def __init__(self, *spaces: Space, peers: dict[tuple[str, str], tuple[str, str]], **settings: str) -> None:
        self.spaces = {one.path: one for one in spaces}
        self.peers = peers | {there: here for here, there in peers.items()}
        self.settings = {key.replace("__", "/"): value for key, value in settings.items()}
        self.heard: list[Listener] = []
        self.records: dict[str, str] = {}
        self.rules: dict[str, Firewall] = {}

    def space(self, path: str) -> Space | None:
        return self.spaces.get(path)

    def setting(self, path: str, key: str) -> str:
        return self.settings.get(key, "")

    def firewall(self, path: str) -> Firewall:
        return self.rules.get(path, Firewall())

    def listeners(self, path: str, proto: str, port: int) -> tuple[Listener, ...]:
        return tuple(one for one in self.heard if (one.proto, one.port) == (proto, port))

    def ports(self, path: str, proto: str) -> tuple[Listener, ...]:
        return tuple(one for one in self.heard if one.proto == proto)

    def peer(self, path: str, link: SeenLink) -> tuple[str, str] | None:
        return self.peers.get((path, link.name))

    def holder(self, address: Any) -> str | None:
        return self.records.get(str(address))


def pair(**settings: str) -> Made:
    a, b = space("a", {"one": "10.0.0.1/24"}), space("b", {"two": "10.0.0.2/24"})
    return Made(a, b, peers={("a", "one"): ("b", "two")}, **settings)


def asked(to: str = "10.0.0.2", proto: str = "tcp", **more: Any) -> Question:
    nobody = ip_address("0.0.0.0")
    return Question("a", Packet("ip", nobody, ip_address(to), proto, 40000, 80, **more))


def test_a_packet_crosses_a_pair_and_is_answered() -> None:
    made = pair()
    made.heard.append(Listener("tcp", ip_address("0.0.0.0"), 80, owner="web (7)"))
    path = walk(World(made), asked())
    assert (path.fate, path.arrives, path.out.netns, path.out.to) == ("answered", True, "b", "web (7)")
    assert [hop.stage for hop in path.out.hops] == ["route", "neighbour", "veth", "route", "socket"]
    assert path.back is not None
    assert path.back.packet.to == "10.0.0.1:40000"


def test_without_a_listener_it_is_refused() -> None:
    made = pair()
    made.heard.append(Listener("udp", ip_address("0.0.0.0"), 80))
    path = walk(World(made), asked())
    assert path.culprit is not None
    assert (path.fate, path.culprit.kind, path.culprit.advice) == ("refused", "protocol", "ask by udp")
    made.heard[:] = [Listener("tcp", ip_address("127.0.0.1"), 80, owner="web (7)")]
    path = walk(World(made), asked())
    assert path.culprit is not None
    assert "listens on 127.0.0.1:80/tcp (web (7)) alone" in path.culprit.why


def test_a_full_conntrack_table_drops_what_is_new() -> None:
    full = {"net__netfilter__nf_conntrack_max": "1000", "net__netfilter__nf_conntrack_count": "1000"}
    path = walk(World(pair(**full)), asked())
    assert path.culprit is not None
    assert (path.fate, path.culprit.kind) == ("dropped", "conntrack")
    assert path.culprit.fix == ("sysctl -w net.netfilter.nf_conntrack_max=2000",)


def test_a_wrong_neighbour_is_noticed_unless_it_is_stale_news() -> None:
    made = pair()
    wrong = SeenNeighbour("one", ip_address("10.0.0.2"), "02:00:00:00:00:99", "permanent")
    made.spaces["a"].neighbours["one", ip_address("10.0.0.2")] = wrong
    path = walk(World(made), asked())
    assert path.culprit is not None
    assert path.culprit.fix == ("ip netns exec a ip neigh del 10.0.0.2 dev one",)
    made.spaces["a"].neighbours["one", ip_address("10.0.0.2")] = wrong.replace(state="failed")
    assert walk(World(made), asked()).fate == "refused"


def test_who_believes_in_another_asker_tells_that_one() -> None:
    a, b = space("a", {"one": "fd00::1/64"}), space("b", {"two": "fd00::2/64"})
    made = Made(a, b, peers={("a", "one"): ("b", "two")})
    packet = Packet("ip6", ip_address("fd00::1"), ip_address("fd00::2"), "tcp", 40000, 80)
    wrong = SeenNeighbour("two", ip_address("fd00::1"), "02:00:00:00:00:99", "permanent")
    b.neighbours["two", wrong.address] = wrong
    path = walk(World(made), Question("a", packet))
    assert path.culprit is not None
    assert (path.fate, path.culprit.netns) == ("lost", "b")
    assert path.culprit.fix == ("ip netns exec b ip neigh del fd00::1 dev two",)
    b.neighbours["two", wrong.address] = wrong.replace(state="stale")  # the question itself corrects that
    assert walk(World(made), Question("a", packet)).fate == "refused"


def test_an_own_ipv6_address_is_talked_to_from_itself() -> None:
    # By whatever route: RFC 6724, rule 1, comes before all that prefers an address of the link.
    made = space("a", {"one": "fd00::1/64"})
    assert choose_source(made, ip_address("fd00::1"), "lo", None) == ip_address("fd00::1")
    assert choose_source(made, ip_address("fd00::2"), "one", None) == ip_address("fd00::1")


def test_what_is_too_long_for_the_other_end_vanishes() -> None:
    made = pair()
    two = made.spaces["b"].links["two"].replace(mtu=1300)
    made.spaces["b"].links["two"] = two
    path = walk(World(made), asked(length=1400))
    assert path.culprit is not None
    assert (path.fate, path.culprit.kind) == ("lost", "mtu")
    short = walk(World(made), asked())
    assert short.notes == ("packets of more than 1300 bytes vanish between one (MTU 1500) and two (MTU 1300)",)


def test_a_loop_ends() -> None:
    """Two namespaces that send a packet back and forth."""
    far = SeenRoute(MAIN, ip_network("192.0.2.0/24"), ways=(("one", ip_address("10.0.0.2")),))
    back = SeenRoute(MAIN, ip_network("192.0.2.0/24"), ways=(("two", ip_address("10.0.0.1")),))
    a, b = space("a", {"one": "10.0.0.1/24"}, far), space("b", {"two": "10.0.0.2/24"}, back)
    on = {
        "net__ipv4__ip_forward": "1",
        "net__ipv4__conf__one__forwarding": "1",
        "net__ipv4__conf__two__forwarding": "1",
    }
    on |= {"net__ipv4__conf__one__accept_local": "1"}
    path = walk(World(Made(a, b, peers={("a", "one"): ("b", "two")}, **on)), asked("192.0.2.9"))
    assert path.culprit is not None
    assert path.culprit.thing == "a routing loop"


@pytest.mark.parametrize("to", ["127.0.0.1", "127.0.0.9"])
def test_what_is_for_loopback_and_leaves_is_lost(to: str) -> None:
    made = Made(space("a", {"one": "10.0.0.1/24"}), peers={})
    a = made.spaces["a"]
    del a.routes[4, LOCAL][:]
    path = walk(World(made), asked(to))
    assert path.culprit is not None
    assert (path.fate, path.culprit.why) == ("unsent", "a has no local route for 127.0.0.0/8")
    whole = "local {} dev lo table local proto kernel scope host src 127.0.0.1"
    fixes = tuple(f"ip netns exec a ip route add {whole.format(one)}" for one in ("127.0.0.1", "127.0.0.0/8"))
    assert path.culprit.fix == fixes
    a.routes[4, MAIN].append(SeenRoute(MAIN, ip_network("0.0.0.0/0"), ways=(("one", ip_address("10.0.0.2")),)))
    path = walk(World(made), asked(to))
    assert path.culprit is not None
    assert (path.fate, path.culprit.fix) == ("lost", fixes)
    assert path.culprit.why.endswith(f"so what goes to {to} leaves by one")


def prerouting(*rules: tuple[Part, ...]) -> Firewall:
    """A table of somebody's with one chain, where a namespace's packets come in."""
    seen = tuple(SeenRule(parts, number, number + 10) for number, parts in enumerate(rules))
    chain = SeenChain("p", seen, "filter", "prerouting", -150, "accept")
    return Firewall((SeenTable("ip", "theirs", (chain,)),))


LOWERED = Assign(HeaderBytes("network", 8, 1), Fixed(b"\1"))
LOOKS = Compare(HeaderBytes("network", 8, 1), "<=", b"\x40")


def test_blamed_is_the_rule_that_lowered_the_ttl_not_one_that_speaks_of_it() -> None:
    far = SeenRoute(MAIN, ip_network("192.0.2.0/24"), ways=(("one", ip_address("10.0.0.2")),))
    on = {"net__ipv4__ip_forward": "1", "net__ipv4__conf__two__forwarding": "1"}
    a, b = space("a", {"one": "10.0.0.1/24"}, far), space("b", {"two": "10.0.0.2/24", "out": "192.0.2.1/24"})
    made = Made(a, b, peers={("a", "one"): ("b", "two")}, **on)
    made.rules["b"] = prerouting((LOOKS,), (LOWERED,), (LOOKS,))
    path = walk(World(made), asked("192.0.2.9", ttl=64))
    assert path.culprit is not None
    assert path.culprit.fix[0].startswith("ip netns exec b nft insert rule ip theirs p handle 11 ")
    assert [hop.verdict for hop in path.out.hops if hop.stage == "prerouting"] == ["TTL 1"]
    told = "\n".join(tell.lines(path.out, 60)).splitlines()
    assert max(map(len, told)) <= 60
    assert told[-4:] == [
        "  prerouting         ip theirs p: ip ttl set 1 → TTL 1",
        "  route              192.0.2.0/24 dev out",
        "  forward            TTL 1 → drop  # its TTL has run out: b",
        "                       forwards it no more",
    ]


def test_a_destination_written_past_nat_is_told_and_its_rule_blamed() -> None:
    made = pair()
    made.rules["b"] = prerouting((Assign(HeaderBytes("network", 16, 4), Fixed(ip_address("10.0.0.77").packed)),))
    path = walk(World(made), asked())
    assert path.culprit is not None
    assert "10.0.0.1:40000 → 10.0.0.77:80" in [hop.verdict for hop in path.out.hops]


def off_the_bridge(**settings: str) -> Made:
    """`a` has 10.0.0.1 behind `port`, which has left `br`, the link with the gateway's address."""
    host = space("", {"port": "192.0.2.1/32", "br": "10.0.0.254/24"})
    host.links["br"] = host.links["br"].replace(kind="bridge")
    made = Made(space("a", {"one": "10.0.0.1/24"}), host, peers={("a", "one"): ("", "port")}, **settings)
    made.heard.append(Listener("tcp", ip_address("0.0.0.0"), 80))
    return made


def test_who_knows_the_mac_needs_no_answer_whatever_link_the_address_is_on() -> None:
    made = off_the_bridge(net__ipv4__conf__all__arp_ignore="1")
    path = walk(World(made), asked("10.0.0.254"))
    assert (path.fate, path.out.hops[-1].stage) == ("lost", "neighbour")
    port = SeenNeighbour("one", ip_address("10.0.0.254"), made.spaces[""].links["port"].mac, "stale")
    made.spaces["a"].neighbours["one", ip_address("10.0.0.254")] = port
    path = walk(World(made), asked("10.0.0.254"))
    assert (path.out.fate, path.out.netns) == ("delivered", "")


def test_who_is_not_believed_is_told_no_mac() -> None:
    made = off_the_bridge(net__ipv4__conf__port__rp_filter="1")
    made.rules[""] = prerouting((LOOKS,))
    path = walk(World(made), asked("10.0.0.254"))
    assert path.culprit is not None
    assert (path.fate, path.out.hops[-1].stage) == ("lost", "source")
    assert [one.netns for one in path.out.passings] == ["a", "a"]
    assert path.culprit.fix == ("sysctl -w net.ipv4.conf.port.rp_filter=0",)
    assert path.culprit.why.startswith("the host doesn't tell 10.0.0.1 who has 10.0.0.254: it came in by port")
    made.records["10.0.0.1"] = "a"
    path = walk(World(made), asked("10.0.0.254"))
    assert path.culprit is not None
    assert path.culprit.fix == ("ip link set port master br",)


@pytest.mark.parametrize(("addressed", "fate"), [(True, "delivered"), (False, "lost")])
def test_a_loose_reverse_path_filter_is_strict_where_the_link_has_no_address(addressed: bool, fate: str) -> None:
    made = off_the_bridge(net__ipv4__conf__all__rp_filter="2")
    if not addressed:
        made.spaces[""].addresses = tuple(one for one in made.spaces[""].addresses if one.link != "port")
    assert walk(World(made), asked("10.0.0.254")).out.fate == fate


@pytest.mark.parametrize("hook", ["prerouting", "input"])
def test_a_question_for_a_mac_meets_the_rules_of_the_bridge_itself(hook: str) -> None:
    made = off_the_bridge()
    made.spaces[""].links["port"] = made.spaces[""].links["port"].replace(master="br")
    assert walk(World(made), asked("10.0.0.254")).out.fate == "delivered"
    made.rules[""] = Firewall((SeenTable("bridge", "own", (SeenChain("c", (), "filter", hook, 0, "drop"),)),))
    path = walk(World(made), asked("10.0.0.254"))
    assert (path.fate, path.out.packet.family) == ("dropped", "arp")
    assert [one.netns for one in path.out.passings] == ["a", "a"]


def test_a_refused_question_for_a_mac_is_no_refusal() -> None:
    a, b = space("a", {"one": "fd00::1/64"}), space("b", {"two": "fd00::2/64"})
    made = Made(a, b, peers={("a", "one"): ("b", "two")})
    says = SeenRule((Refuse("icmpx", 3),), 0, 10)
    made.rules["b"] = Firewall((SeenTable("inet", "own", (SeenChain("i", (says,), "filter", "input", 0, "accept"),)),))
    made.heard.append(Listener("tcp", ip_address("::"), 80))
    packet = Packet("ip6", ip_address("::"), ip_address("fd00::2"), "tcp", 40000, 80)
    path = walk(World(made), Question("a", packet))
    assert (path.fate, path.out.said) == ("dropped", "")
    known = SeenNeighbour("one", ip_address("fd00::2"), b.links["two"].mac, "reachable")
    a.neighbours["one", ip_address("fd00::2")] = known
    path = walk(World(made), Question("a", packet))
    assert path.fate == "refused"


def test_loopback_is_raised_before_what_is_ours_is_mended(tmp_path: pathlib.Path) -> None:
    netns = "/run/netns/web"
    host = Host(FakeKernel(namespaces=(netns,)), Store(str(tmp_path)), lambda text: None)
    host.open()
    networks.create(host, FRONT)
    endpoints.connect(host, Wish("web", netns, Attachment("front")))
    made = Made(space(netns, {}), peers={})
    made.spaces[netns].links["lo"] = made.spaces[netns].links["lo"].replace(up=False)
    packet = Packet("ip", ip_address("0.0.0.0"), ip_address("127.0.0.1"), "tcp", 40000, 80)
    question = Asked(
        Place("netns", "web", netns), Place("address", "127.0.0.1", netns), Question(netns, packet), 80, "tcp"
    )
    raised = "ip netns exec web ip link set lo up"
    found = predict(host, World(made), question).culprit
    assert found is not None
    assert found.fix == (raised,)
    host.kernel.state -= [one for one in host.kernel.state.of(Address) if one.netns == netns]
    found = predict(host, World(made), question).culprit
    assert found is not None
    assert found.fix == (raised, "nsbridge mend")


# routes


def test_rules_and_tables() -> None:
    other = SeenRoute(7, ip_network("0.0.0.0/0"), ways=(("two", None),))
    marked = SeenPolicy(4, 100, table=7, mark=(1, 1))
    found = space("", {"one": "10.0.0.1/24", "two": "10.1.0.1/24"}, other, policies=(marked,))
    far = ip_address("10.0.0.9")
    assert lookup(found, far).link == "one"
    assert lookup(found, far, mark=1).link == "two"
    assert lookup(found, ip_address("10.0.0.1")).kind == "local"
    assert lookup(found, ip_address("192.0.2.1")).kind == "none"


@pytest.mark.parametrize("action", ["blackhole", "unreachable", "prohibit"])
def test_rules_that_lead_nowhere(action: str) -> None:
    found = space("", {"one": "10.0.0.1/24"}, policies=(SeenPolicy(4, 5, action, src=ip_network("10.0.0.1")),))
    assert lookup(found, ip_address("10.0.0.9"), src=ip_address("10.0.0.1")).kind == action
    assert lookup(found, ip_address("10.0.0.9")).kind == "unicast"


def test_longest_prefix_then_metric() -> None:
    routes = (
        SeenRoute(MAIN, ip_network("0.0.0.0/0"), ways=(("one", None),), metric=20),
        SeenRoute(MAIN, ip_network("0.0.0.0/0"), ways=(("two", None),), metric=10),
        SeenRoute(MAIN, ip_network("192.0.2.0/24"), ways=(("one", None),), metric=99),
    )
    found = space("", {"one": "10.0.0.1/24", "two": "10.1.0.1/24"}, *routes)
    assert lookup(found, ip_address("9.9.9.9")).link == "two"
    assert lookup(found, ip_address("9.9.9.9")).source == ip_address("10.1.0.1")
    assert lookup(found, ip_address("192.0.2.1")).link == "one"
    assert lookup(found, ip_address("192.0.2.1"), oif="two").link == "two"


def test_a_rule_that_asks_for_the_unknown_is_skipped_and_said() -> None:
    odd = SeenPolicy(4, 5, table=7, unknown="uidrange")
    assert lookup(space("", {"one": "10.0.0.1/24"}, policies=(odd,)), ip_address("10.0.0.9")).skipped


# questions


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("web", ("web", None, "icmp")),
        ("web:80", ("web", 80, "tcp")),
        ("web:53/udp", ("web", 53, "udp")),
        ("web/icmp", ("web", None, "icmp")),
        ("fd00::2", ("fd00::2", None, "icmp")),
        ("[fd00::2]:80", ("fd00::2", 80, "tcp")),
        ("[::1]:53/udp", ("::1", 53, "udp")),
        ("outside=1.1.1.1:53/udp", ("outside=1.1.1.1", 53, "udp")),
        ("/run/netns/a:80", ("/run/netns/a", 80, "tcp")),
    ],
)
def test_targets(text: str, parts: tuple[str, int | None, str]) -> None:
    assert split(text) == parts


@pytest.mark.parametrize("text", ["web:http", "web:0", "web:70000", ":80", "web:80/icmp", "web/udp"])
def test_targets_that_cannot_be(text: str) -> None:
    with pytest.raises(InvalidIntent) as caught:
        split(text)
    assert caught.value.fix


# what records know better

FRONT = Network("front", (Subnet(ip_network("10.7.0.0/24")),))
WEB = Endpoint(
    "front",
    "web",
    "/run/netns/web",
    addresses=(ip_interface("10.7.0.2/24"),),
    ports=(
        PublishedPort(80, 8080),
        PublishedPort(81, 8081, host_ip=ip_address("127.0.0.1")),
        PublishedPort(53, 53, "udp"),
    ),
)


def refused(port: int, proto: str = "tcp", to: str = "198.51.100.1") -> Path:
    packet = Packet("ip6" if ":" in to else "ip", ip_address(to), ip_address(to), proto, 40000, port)
    culprit = Culprit("listener", "", f"{to}:{port}/{proto}", "nobody listens")
    return Path(Question("", packet), Leg("refused", (), "", packet), culprit=culprit)


@pytest.mark.parametrize(
    ("path", "why", "fix"),
    [
        (refused(8081), "is published on 127.0.0.1 only", "nsbridge publish web 198.51.100.1:8081:81/tcp"),
        (refused(53), "is published as udp; asked was tcp", "nsbridge publish web 53:53/tcp"),
        (refused(80), "on the host it is published as 8080", "nsbridge publish web 80:80/tcp"),
        (refused(8080), "our rules have lost it", "nsbridge mend"),
        (refused(8080, to="::1"), "without a proxy", ""),
    ],
)
def test_a_published_port_was_meant(path: Path, why: str, fix: str) -> None:
    found = better(path, Records((FRONT,), (WEB,)))
    assert found is not None
    assert why in found.why
    assert found.fix == ((fix,) if fix else ())


def test_a_line_of_the_policy_is_named() -> None:
    rule = PolicyRule("deny", Party("network", "front"), Party("address", nets=(ip_network("0.0.0.0/0"),)), "tcp")
    packet = Packet("ip", ip_address("10.7.0.2"), ip_address("9.9.9.9"), "tcp", 40000, 443)
    culprit = Culprit("ours", "", "inet nsbridge deny: counter drop", "")
    path = Path(Question("/run/netns/web", packet), Leg("dropped", (), "", packet), culprit=culprit)
    found = better(path, Records((FRONT,), (WEB,), (Policy("shop", (rule,)),)))
    assert found is not None
    assert found.why == "rule 1 of the policy of project 'shop' says: deny: front -> */tcp"
    closed = FRONT.replace(policy="deny")
    found = better(path, Records((closed,), (WEB,)))
    assert found is not None
    assert "lets its endpoints begin nothing" in found.why


# telling


def test_an_opaque_answer_says_what_it_depends_on() -> None:
    packet = asked().packet
    path = Path(asked(), Leg("delivered", (), "b", packet), opaque=("inet x y: meta cgroup 7 drop",), doubt=True)
    assert path.arrives is None
    assert not tell.arrived(path)
    assert tell.sentence(path, "a") == (
        "Nobody can say whether a tcp connection from a to 10.0.0.2:80 arrives: "
        "it depends on inet x y: meta cgroup 7 drop."
    )


def test_what_leaves_is_not_called_arrived() -> None:
    packet = asked().packet.replace(saddr=ip_address("198.51.100.1"))
    path = Path(asked(), Leg("left", (), "", packet, to="eth0 leads out of this host"))
    assert path.arrives is None
    assert tell.sentence(path, "web").endswith("What becomes of it there can't be seen from here.")


def test_answers_are_turned_round() -> None:
    ping = Packet("ip", ip_address("10.0.0.1"), ip_address("10.0.0.2"), "icmp", 1, icmp_type=8, flags=())
    assert answer_to(ping).icmp_type == 0
    assert answer_to(answer_to(ping)).icmp_type == 8
    assert answer_to(asked().packet).flags == ("syn", "ack")


def test_commands_reach_other_namespaces() -> None:
    assert cures.within("", "ip link") == "ip link"
    assert cures.within("/run/netns/a", "ip link") == "ip netns exec a ip link"
    assert cures.within("/proc/7/ns/net", "ip link") == "nsenter --net=/proc/7/ns/net ip link"
    assert cures.dotted("net/ipv4/conf/eth0.1/forwarding") == "net.ipv4.conf.eth0/1.forwarding"
