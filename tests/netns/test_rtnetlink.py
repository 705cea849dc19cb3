"""Steps on a running kernel: `ip -j -d`, pyroute2 and ping judge what was sent and what is read back."""

from __future__ import annotations

import _socket
import errno
import json
import os
import subprocess
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from nsbridge.desired.ruleset import skeleton
from nsbridge.errors import KernelError
from nsbridge.firewall.ruleset import Element
from nsbridge.kernel import libc, netns, observe, rtnetlink, sysctl
from nsbridge.kernel.linux import LinuxKernel, host_facts
from nsbridge.kernel.netlink import ROUTE, NetlinkSocket, Refused
from nsbridge.model.names import BRIDGE_GROUP, PORT_GROUP, TABLE
from nsbridge.plan.step import Step
from nsbridge.state.kernel_state import KernelState
from nsbridge.state.things import Address, ForeignAccept, Link, Netns, Route, Sysctl

pytestmark = pytest.mark.netns
GROUP = PORT_GROUP + 7
BRIDGE = Link(
    "", "nsb-web", "bridge", group=BRIDGE_GROUP, mac="02:42:00:00:00:01", mtu=1400, autoconf=False,
    options=(("forward_delay", 0), ("multicast_snooping", 0), ("stp_state", 0)), alias="nsbridge: network web",
)  # fmt: skip
HOST_THINGS = (
    BRIDGE,
    Address("", "nsb-web", ip_interface("10.9.0.1/24")),
    Address("", "nsb-web", ip_interface("fd00:9::1/64")),
    Sysctl("", "net/ipv4/conf/nsb-web/route_localnet", "1"),
)


def endpoint(number, path, mtu=1400):
    mac = f"02:42:00:00:01:{number:02x}"
    outer = Link(
        "", f"nsbport{number}", "veth", group=GROUP, master="nsb-web", mac=f"02:42:00:00:02:{number:02x}", mtu=mtu,
        peer_netns=path, peer_name="eth0", hairpin=True, autoconf=False, alias=f"nsbridge: web/e{number}",
    )  # fmt: skip
    return (
        Netns(path),
        outer,
        Link(path, "eth0", "veth", mac=mac, mtu=mtu, autoconf=False, alias="nsbridge: inner"),
        Address(path, "eth0", ip_interface(f"10.9.0.{number}/24")),
        Address(path, "eth0", ip_interface(f"fd00:9::{number}/64")),
        Route(path, ip_network("0.0.0.0/0"), "eth0", ip_address("10.9.0.1")),
        Route(path, ip_network("::/0"), "eth0", ip_address("fd00:9::1")),
        Route(path, ip_network("192.0.2.0/24"), "eth0", None, 50),
    )


def ip(*words, path=""):
    enter = ["nsenter", f"--net={path}"] if path else []
    return json.loads(subprocess.check_output([*enter, "ip", "-j", "-d", *words]) or "[]")


def link_of(name, path=""):
    return ip("link", "show", name, path=path)[0]


def listing():
    return subprocess.check_output("ip -d link; ip addr; ip route; ip -6 route; ls /run/netns", shell=True)


def ping(path, address, *words):
    done = subprocess.run(["nsenter", f"--net={path}", "ping", "-c1", "-W2", *words, address], capture_output=True)
    return done.returncode == 0


@pytest.fixture
def kernel():
    """A fresh host namespace for the test's own thread, and its kernel."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    os.makedirs("/run/netns", exist_ok=True)
    libc.unshare()
    subprocess.check_call(["ip", "link", "set", "lo", "up"])
    kernel = LinuxKernel()
    yield kernel
    kernel.route.close()
    libc.setns(home)
    os.close(home)


@pytest.fixture
def paths():
    found = [f"/run/netns/rt{os.getpid()}-{number}" for number in (2, 3)]
    yield found
    for path in found:
        netns.remove(path)


def look(kernel, namespaces=(), settings=()):
    return observe.observe(kernel.route, namespaces, settings)


def test_a_network_of_two_endpoints_reads_back_as_it_was_added(kernel, paths):
    steps = [Step("add", HOST_THINGS), *(Step("add", endpoint(n, path)) for n, path in zip((2, 3), paths, strict=True))]
    for step in steps:
        kernel.do(step)
    assert look(kernel, paths) == KernelState(thing for step in steps for thing in step.things)
    everything = tuple(thing for step in steps for thing in step.things)
    assert kernel.find(everything) == everything


def test_endpoints_reach_the_gateway_and_each_other(kernel, paths):
    kernel.do(Step("add", HOST_THINGS))
    kernel.do(Step("add", endpoint(2, paths[0]) + endpoint(3, paths[1])))
    for target in ("10.9.0.1", "10.9.0.3", "fd00:9::1", "fd00:9::3"):
        assert ping(paths[0], target), target
    assert ping(paths[0], "10.9.0.3", "-s", "1372", "-M", "do")
    assert not ping(paths[0], "10.9.0.3", "-s", "1373", "-M", "do")


def test_ip_sees_the_bridge_as_meant(kernel):
    kernel.do(Step("add", HOST_THINGS))
    shown = link_of("nsb-web")
    data = shown["linkinfo"]["info_data"]
    assert (data["forward_delay"], data["mcast_snooping"], data["stp_state"]) == (0, 0, 0)
    assert (shown["ifalias"], shown["mtu"], shown["address"]) == ("nsbridge: network web", 1400, BRIDGE.mac)
    assert shown["inet6_addr_gen_mode"] == "none"
    assert shown["group"] == hex(BRIDGE_GROUP)[2:] or int(shown["group"], 0) == BRIDGE_GROUP
    assert "UP" in shown["flags"]
    addresses = ip("addr", "show", "nsb-web")[0]["addr_info"]
    assert [(a["local"], a["prefixlen"]) for a in addresses] == [("10.9.0.1", 24), ("fd00:9::1", 64)]
    assert "broadcast" not in addresses[0]
    assert addresses[1]["nodad"] is True
    assert sysctl.read("net/ipv4/conf/nsb-web/route_localnet") == "1"


def test_ip_sees_the_pair_as_meant(kernel, paths):
    kernel.do(Step("add", HOST_THINGS + endpoint(2, paths[0])))
    outer, inner = link_of("nsbport2"), link_of("eth0", paths[0])
    assert outer["master"] == "nsb-web"
    assert outer["linkinfo"]["info_slave_data"]["hairpin"] is True
    assert (outer["mtu"], outer["inet6_addr_gen_mode"], outer["num_tx_queues"]) == (1400, "none", 1)
    assert (outer["link_index"], inner["link_index"]) == (inner["ifindex"], outer["ifindex"])
    assert (inner["address"], inner["mtu"], inner["num_rx_queues"]) == ("02:42:00:00:01:02", 1400, 1)
    assert (inner["operstate"], outer["operstate"]) == ("UP", "UP")
    for path, name in (("", "nsbport2"), (paths[0], "eth0"), ("", "nsb-web")):
        scopes = [a["scope"] for a in ip("addr", "show", name, path=path)[0]["addr_info"]]
        assert "link" not in scopes, f"{name} made itself a link-local address"
    routes = ip("route", path=paths[0]) + ip("-6", "route", path=paths[0])
    ours = {r["dst"]: r for r in routes if r["protocol"] == "110"}
    assert ours["192.0.2.0/24"]["scope"] == "link"
    assert [r.get("gateway") for r in routes if r["dst"] == "default"] == ["10.9.0.1", "fd00:9::1"]


def test_pyroute2_and_we_read_the_same(kernel, paths):
    from pyroute2 import IPRoute

    kernel.do(Step("add", HOST_THINGS + endpoint(2, paths[0])))
    ours = {one.link.name: one for one in observe._read_links(kernel.route, "")}
    with IPRoute() as oracle:
        for theirs in oracle.get_links():
            one = ours[theirs.get_attr("IFLA_IFNAME")]
            assert one.index == theirs["index"]
            assert one.link.mtu == theirs.get_attr("IFLA_MTU")
            assert one.link.mac == (theirs.get_attr("IFLA_ADDRESS") or "")
            assert one.link.group == (theirs.get_attr("IFLA_GROUP") or 0)
            assert one.master_index == (theirs.get_attr("IFLA_MASTER") or 0)
            assert one.link.alias == (theirs.get_attr("IFLA_IFALIAS") or "")
            assert one.link.up == bool(theirs["flags"] & 1)


def test_removal_leaves_the_listing_as_it_was(kernel, paths):
    before = listing()
    things = HOST_THINGS + endpoint(2, paths[0]) + endpoint(3, paths[1])
    kernel.do(Step("add", things))
    assert listing() != before
    kernel.do(Step("add", things).undo())
    assert listing() == before
    assert look(kernel, paths) == KernelState()


def test_removing_step_by_step_leaves_the_listing_as_it_was(kernel, paths):
    before = listing()
    things = HOST_THINGS + endpoint(2, paths[0])
    for thing in (*HOST_THINGS, *endpoint(2, paths[0])):
        kernel.do(Step("add", (thing,)))
    assert look(kernel, paths[:1]) == KernelState(things)
    for thing in reversed(things):
        kernel.do(Step("add", (thing,)).undo())
        assert thing.identity[0] in ("sysctl", "link") or not kernel.find((thing,)), thing
    assert listing() == before


def test_removing_what_is_gone_is_success(kernel, paths):
    things = HOST_THINGS + endpoint(2, paths[0])
    kernel.do(Step("remove", things))
    kernel.do(Step("add", things))
    netns.remove(paths[0])
    kernel.do(Step("remove", (*things[5:], *HOST_THINGS[1:])))
    kernel.do(Step("remove", things))
    kernel.do(Step("remove", things))
    for thing in things:
        kernel.do(Step("remove", (thing,)))
    assert look(kernel, paths) == KernelState()


def test_a_link_of_somebody_else_is_never_removed(kernel):
    subprocess.check_call(["ip", "link", "add", "nsb-web", "type", "bridge"])
    with pytest.raises(KernelError, match="isn't ours") as caught:
        kernel.do(Step("remove", HOST_THINGS))
    assert caught.value.thing == BRIDGE
    assert link_of("nsb-web")["linkinfo"]["info_kind"] == "bridge"
    assert kernel.find((BRIDGE,)) == ()


def test_a_taken_name_is_refused_with_what_was_done_before(kernel, paths):
    kernel.do(Step("add", HOST_THINGS))
    subprocess.check_call(["ip", "link", "add", "nsbport3", "type", "veth", "peer", "name", "other"])
    theirs = link_of("nsbport3")
    second = endpoint(3, paths[1])
    with pytest.raises(KernelError) as caught:
        kernel.do(Step("add", endpoint(2, paths[0]) + second))
    error = caught.value
    assert error.thing == second[1]
    assert error.errno == errno.EEXIST
    assert error.fix
    assert set(error.done) == {Netns(paths[0]), Netns(paths[1]), endpoint(2, paths[0])[1]}
    kernel.do(Step("remove", error.done))
    assert look(kernel, paths) == KernelState(HOST_THINGS)
    assert link_of("nsbport3") == theirs


def test_a_taken_name_inside_is_named_and_the_link_that_has_it_left_alone(kernel, paths):
    kernel.do(Step("add", (*HOST_THINGS, Netns(paths[0]))))
    inside = ["nsenter", f"--net={paths[0]}", "ip", "link"]
    subprocess.check_call([*inside, "add", "eth0", "type", "veth", "peer", "name", "other"])
    subprocess.check_call([*inside, "set", "eth0", "up"])
    theirs = link_of("eth0", paths[0])
    things = endpoint(2, paths[0])[1:]
    with pytest.raises(KernelError, match=f"{paths[0]} already has a link 'eth0'"):
        kernel.do(Step("add", things))
    assert kernel.find(things) == ()
    kernel.do(Step("remove", things))
    kernel.do(Step("remove", things[1:]))
    assert link_of("eth0", paths[0]) == theirs


def test_the_firewall_is_part_of_a_step(kernel, paths):
    table = skeleton()
    element = Element(TABLE, "publish4", ("tcp", 8080), (ip_address("10.9.0.2"), 80))
    things = (*HOST_THINGS, *endpoint(2, paths[0]), table, element)
    step = Step("add", things)
    kernel.do(step)
    assert kernel.observe(paths) == KernelState(things)
    assert kernel.find(things) == things
    assert kernel.element_data(TABLE, "publish4", ("tcp", 8080)) == (ip_address("10.9.0.2"), 80)
    assert "8080" in subprocess.check_output(["nft", "list", "map", *TABLE, "publish4"], text=True)
    second = endpoint(3, paths[1])
    with pytest.raises(KernelError) as caught:
        kernel.do(Step("add", (*second, element)))
    assert caught.value.thing == element
    assert caught.value.errno == errno.EEXIST
    assert set(caught.value.done) == set(second)
    kernel.do(Step("remove", caught.value.done))
    kernel.do(step.undo())
    assert kernel.observe(paths) == KernelState()
    assert subprocess.check_output(["nft", "list", "ruleset"]) == b""


def test_the_accept_in_a_chain_that_drops_is_part_of_a_step(kernel):
    rules = "table inet theirs { chain fwd0 { type filter hook forward priority 0; policy drop; }; }"
    subprocess.run(["nft", "-f", "-"], input=rules.encode(), check=True)
    before = subprocess.check_output(["nft", "list", "ruleset"])
    accepts = kernel.facts().droppers
    assert [one.identity for one in accepts] == [("foreign", "nft", "inet", "theirs", "fwd0")]
    kernel.do(Step("add", accepts))
    assert kernel.find(accepts) == accepts
    assert kernel.observe(()).of(ForeignAccept) == accepts
    kernel.do(Step("remove", accepts))
    assert kernel.find(accepts) == ()
    assert subprocess.check_output(["nft", "list", "ruleset"]) == before


def test_the_kernels_own_words_reach_the_error(kernel, paths):
    kernel.do(Step("add", HOST_THINGS + endpoint(2, paths[0])))
    away = Route(paths[0], ip_network("203.0.113.0/24"), "eth0", ip_address("198.51.100.1"))
    with pytest.raises(KernelError, match="Nexthop has invalid gateway") as caught:
        kernel.do(Step("add", (away,)))
    assert caught.value.thing == away


def test_a_namespace_that_is_gone_is_named(kernel, paths):
    kernel.do(Step("add", HOST_THINGS))
    with pytest.raises(KernelError, match=paths[0]) as caught:
        kernel.do(Step("add", endpoint(2, paths[0])[1:]))
    assert caught.value.errno == errno.ENOENT
    assert caught.value.fix
    assert not kernel.find((endpoint(2, paths[0])[1],))


def test_changes_are_applied_and_undone(kernel, paths):
    kernel.do(Step("add", HOST_THINGS + endpoint(2, paths[0])))
    path = paths[0]
    before = (BRIDGE, *endpoint(2, path)[1:3], endpoint(2, path)[5], HOST_THINGS[3])
    after = (
        BRIDGE.replace(mtu=1300, options=(("ageing_time", 100), ("forward_delay", 0)), alias="nsbridge: other"),
        before[1].replace(hairpin=False, mtu=1300, autoconf=True, alias=""),
        before[2].replace(mac="02:42:00:00:01:ff", mtu=1300, alias=""),
        before[3].replace(via=ip_address("10.9.0.254")),
        HOST_THINGS[3].replace(value="0"),
    )
    step = Step("change", after, before)
    kernel.do(step)
    settings = [("", HOST_THINGS[3].key)]
    found = look(kernel, paths, settings)
    wanted = after[0].replace(
        options=(("ageing_time", 100), ("forward_delay", 0), ("multicast_snooping", 0), ("stp_state", 0))
    )
    assert [found.find(thing.identity) for thing in after] == [wanted, *after[1:]]
    kernel.do(step.undo())
    state = look(kernel, paths, settings)
    assert [state.find(thing.identity) for thing in before[1:]] == [*before[1:]]


def test_a_setting_is_given_back_only_while_it_is_ours(kernel):
    key = "net/ipv4/conf/lo/forwarding"
    mine = Sysctl("", key, "1", was="0")
    sysctl.write(key, "0")
    kernel.do(Step("add", (mine,)))
    assert kernel.find((mine,)) == (mine,)
    kernel.do(Step("remove", (mine,)))
    assert sysctl.read(key) == "0"
    other = Sysctl("", "net/ipv4/conf/lo/rp_filter", "1", was="2")
    kernel.do(Step("add", (other,)))
    sysctl.write(other.key, "0")
    kernel.do(Step("remove", (other,)))
    assert sysctl.read(other.key) == "0"


def test_a_link_below_1280_bytes_needs_no_word_about_ipv6(kernel, paths):
    kernel.do(Step("add", (BRIDGE.replace(mtu=576),)))
    things = tuple(t for t in endpoint(2, paths[0], mtu=576) if "fd00" not in str(t) and "::" not in str(t))
    kernel.do(Step("add", things))
    assert link_of("eth0", paths[0])["mtu"] == 576


def test_many_endpoints_go_in_one_wait(kernel, paths):
    things = [*HOST_THINGS, Netns(paths[0])]
    for number in range(150):
        things.append(Link("", f"nsbp{number}", "veth", group=GROUP, master="nsb-web", autoconf=False,
                           peer_netns=paths[0], peer_name=f"e{number}"))  # fmt: skip
        things.append(Link(paths[0], f"e{number}", "veth", autoconf=False))
    kernel.do(Step("add", tuple(things)))
    assert len(ip("link", path=paths[0])) == 151
    subprocess.check_call(["ip", "link", "add", "mine", "type", "veth", "peer", "name", "mine2"])
    kernel.do(Step("remove", tuple(things)))
    assert {one["ifname"] for one in ip("link")} == {"lo", "mine", "mine2"}


def test_a_whole_batch_reports_each_refusal(kernel):
    good, other = (rtnetlink.create_link(Link("", name, "bridge")) for name in "ab")
    with pytest.raises(Refused) as caught:
        kernel.route.transact([good, good, rtnetlink.delete_link(9999), other])
    assert [(index, code) for index, code, _ in caught.value.refusals] == [(1, errno.EEXIST), (2, errno.ENODEV)]
    assert caught.value.done == (0, 3)


def test_a_pair_with_both_ends_on_the_host(kernel):
    before = listing()
    outer = Link("", "up0", "veth", group=GROUP, mac="02:00:00:00:00:01", mtu=1500, autoconf=False, peer_name="up1")
    inner = Link("", "up1", "veth", group=GROUP, mac="02:00:00:00:00:02", mtu=1500, autoconf=False)
    kernel.do(Step("add", (outer, inner, Address("", "up1", ip_interface("10.1.0.1/24")))))
    assert link_of("up1")["operstate"] == "UP"
    kernel.do(Step("remove", (outer, inner, Address("", "up1", ip_interface("10.1.0.1/24")))))
    assert listing() == before


def test_facts_of_a_host_with_an_uplink(kernel):
    assert host_facts(kernel.route).mtu == 1500
    for line in (
        "link add up0 mtu 1450 type veth peer name up1", "link set up0 up", "link set up1 up",
        "addr add 192.0.2.2/24 dev up0", "route add default via 192.0.2.1", "-6 addr add fd01::2/64 dev up0 nodad",
        "-6 route add default via fd01::1", "route add 10.200.0.0/16 via 192.0.2.9",
    ):  # fmt: skip
        subprocess.check_call(["ip", *line.split()])
    facts = host_facts(kernel.route)
    assert facts.mtu == 1450
    assert set(facts.routes) == {
        (ip_network("192.0.2.0/24"), "up0"), (ip_network("10.200.0.0/16"), "up0"), (ip_network("fd01::/64"), "up0"),
    }  # fmt: skip
    assert facts.sysctl("net/ipv4/ip_forward") == sysctl.read("net/ipv4/ip_forward")
    assert facts.sysctl("net/ipv6/conf/up0/accept_ra") == "1"


@pytest.mark.parametrize("proto", ["tcp", "udp"])
def test_a_listener_is_noticed_and_a_closed_connection_isnt(kernel, proto):
    kind = _socket.SOCK_STREAM if proto == "tcp" else _socket.SOCK_DGRAM
    sock = _socket.socket(_socket.AF_INET, kind)
    sock.bind(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    if proto == "tcp":
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)  # as every server does
        sock.listen(1)
    assert kernel.busy_port(proto, None, port, port)
    assert kernel.busy_port(proto, ip_address("127.0.0.1"), port, port)
    assert not kernel.busy_port(proto, ip_address("127.0.0.2"), port, port)
    assert not kernel.busy_port(proto, ip_address("::1"), port, port)
    if proto == "tcp":
        client = _socket.socket(_socket.AF_INET, kind)
        client.connect(("127.0.0.1", port))
        fd, _ = sock._accept()
        os.close(fd)  # our side closes first, so it is ours that lingers in TIME_WAIT
        client.close()
        sock.close()
        shown = subprocess.check_output(["ss", "-tan", "sport", "=", f":{port}"], text=True)
        assert "TIME-WAIT" in shown
    sock.close()
    assert not kernel.busy_port(proto, None, port, port)


def test_a_socket_survives_hundreds_of_messages_and_long_dumps(kernel):
    links = [Link("", f"b{number}", "bridge", group=BRIDGE_GROUP, up=False) for number in range(300)]
    kernel.do(Step("add", tuple(links)))
    assert len(kernel.route.dump(rtnetlink.get_links())) == 301
    assert kernel.link_index("b299") > kernel.link_index("b0") > 1
    assert kernel.link_index("none") == 0
    kernel.do(Step("remove", tuple(links)))
    with NetlinkSocket(ROUTE) as sock:
        assert len(sock.dump(rtnetlink.get_links())) == 1
