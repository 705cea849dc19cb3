"""Transcripts as text: in the order and with the reasons of a lesson. That they are right, tests/netns tells."""

from __future__ import annotations

import subprocess
import sys
from ipaddress import ip_interface, ip_network

import pytest

from nsbridge.desired.ruleset import skeleton
from nsbridge.desired.senders import guard_table
from nsbridge.errors import InvalidIntent
from nsbridge.explain import nft, transcript
from nsbridge.explain.command import quoted, space, within
from nsbridge.firewall.ruleset import Element
from nsbridge.model.names import PORT_GROUP, TABLE
from nsbridge.plan.diff import adding
from nsbridge.plan.step import Step
from nsbridge.state.things import HOST, Address, ForeignAccept, Link, Netns, Route, RoutingRule, Shaper, Sysctl

NS = "/run/netns/ns1"
BRIDGE = Link(HOST, "br0", "bridge", group=0x6E736200, options=(("multicast_snooping", 0),), why="bridge of 'web'")
OUTER = Link(HOST, "nsb1", "veth", PORT_GROUP, "br0", peer_netns=NS, peer_name="eth0", hairpin=True, autoconf=False)
INNER = Link(NS, "eth0", "veth", mac="02:00:00:00:00:02", mtu=1400, why="interface of 'ns1'")
ADDRESS = Address(NS, "eth0", ip_interface("fd00::2/64"), why="address of 'ns1'")
ROUTE = Route(NS, ip_network("0.0.0.0/0"), "eth0", ip_interface("10.0.0.1/24").ip, why="the way out")
FORWARD = Sysctl(HOST, "net/ipv4/ip_forward", "1", was="0", why="packets have to pass")
LOCALNET = Sysctl(HOST, "net/ipv4/conf/br0/route_localnet", "1")
PORT = Element(TABLE, "publish4", ("tcp", 8080), (ip_interface("10.0.0.2/24").ip, 80), why="8080 of 'ns1'")
MEMBER = Element(TABLE, "bridges", ("br0",), why="network 'web'")
ALL = (PORT, ROUTE, FORWARD, LOCALNET, ADDRESS, INNER, OUTER, MEMBER, skeleton(), BRIDGE, Netns(NS))


def texts(*things: object, verb: str = "add") -> list[str]:
    step = Step(verb, things)  # type: ignore[arg-type]
    return [command.text for chapter in transcript.told((step,)) for command in chapter.commands]


@pytest.mark.parametrize(
    ("thing", "typed"),
    [
        (Netns(NS), "ip netns add ns1"),
        (ADDRESS, "ip -n ns1 address add fd00::2/64 dev eth0 nodad"),
        (ROUTE, "ip -n ns1 route add default via 10.0.0.1 dev eth0 proto 110"),
        (
            Route(NS, ip_network("fd00:9::/48"), "", metric=7, table=70, kind="blackhole"),
            "ip -n ns1 -6 route add blackhole fd00:9::/48 metric 7 table 70 proto 110",
        ),
        (
            RoutingRule(NS, ip_network("10.0.0.2/32"), 70),
            "ip -n ns1 rule add from 10.0.0.2/32 lookup 70 priority 28160 protocol 110",
        ),
        (
            Shaper(NS, "eth0", 8_000_000),
            "tc -n ns1 qdisc add dev eth0 root tbf rate 8000000bit burst 32768 latency 50ms",
        ),
        (
            Shaper(HOST, "nsb1", 0, 20_000, 5_000, 5_000),
            "tc qdisc add dev nsb1 root netem limit 10000 delay 20000us 5000us loss 0.5%",
        ),
        (FORWARD, "sysctl -qw net.ipv4.ip_forward=1"),
        (
            Sysctl(NS, "net/ipv4/conf/eth0.7/rp_filter", "2"),
            "ip netns exec ns1 sysctl -qw net/ipv4/conf/eth0.7/rp_filter=2",
        ),
        (PORT, "nft add element inet nsbridge publish4 '{ tcp . 8080 : 10.0.0.2 . 80 }'"),
        (
            ForeignAccept("iptables-nft"),
            "iptables-nft -w -I FORWARD -m mark --mark 0x4000000/0x4000000 -m comment --comment nsbridge -j ACCEPT",
        ),
        (
            ForeignAccept("nft", "inet", "theirs", "forward"),
            "nft insert rule inet theirs forward 'meta mark & 0x04000000 == 0x04000000 accept comment \"nsbridge\"'",
        ),
        (
            Link(NS, "eth0", "macvlan", PORT_GROUP + 7, mac="02:00:00:00:00:07", mode="bridge", parent="up0"),
            "ip link add link up0 name eth0 netns ns1 type macvlan mode bridge",
        ),
    ],
)
def test_a_thing_as_a_person_types_it(thing: object, typed: str) -> None:
    assert texts(thing)[0] == typed


def test_a_pair_is_made_told_and_raised() -> None:
    assert texts(OUTER) == [
        "ip link add name nsb1 type veth peer name eth0 netns ns1",
        "ip link set dev nsb1 master br0 addrgenmode none up",
        "bridge link set dev nsb1 hairpin on",
        "ip link set dev nsb1 group $((0x6e000000 + $(ip -o link show dev br0 | cut -d: -f1)))",
    ]
    assert texts(INNER) == [
        "ip -n ns1 link set dev eth0 address 02:00:00:00:00:02 mtu 1400",
        "ip -n ns1 link set dev eth0 up",
    ]


def test_a_port_in_one_vlan_leaves_the_others() -> None:
    assert texts(OUTER.replace(vlan=7))[3:5] == [
        "bridge vlan delete dev nsb1 vid 1-4094",
        "bridge vlan add dev nsb1 vid 7 pvid untagged",
    ]
    assert (
        "vlan_default_pvid 7 vlan_filtering 1"
        in texts(BRIDGE.replace(options=(("vlan_default_pvid", 7), ("vlan_filtering", 1))))[0]
    )


def test_settings_of_a_link_come_before_it_is_raised() -> None:
    typed = texts(INNER, ADDRESS, Sysctl(NS, "net/ipv6/conf/eth0/accept_dad", "0"))
    assert [line.split()[-1] for line in typed] == ["1400", "net.ipv6.conf.eth0.accept_dad=0", "up", "nodad"]


def test_what_goes_along_is_not_said() -> None:
    assert texts(OUTER, INNER, ADDRESS, ROUTE, Netns(NS), verb="remove") == [
        "ip link delete dev nsb1",
        "ip netns delete ns1",
    ]
    assert texts(FORWARD, LOCALNET, verb="remove") == ["sysctl -qw net.ipv4.ip_forward=0"]
    assert texts(skeleton(), MEMBER, PORT, verb="remove") == ["nft delete table inet nsbridge"]
    assert texts(PORT, verb="remove") == ["nft delete element inet nsbridge publish4 '{ tcp . 8080 }'"]


def test_a_change_is_one_transaction() -> None:
    (typed,) = texts(PORT, verb="change")
    assert typed.split("\n")[1:3] == [
        "delete element inet nsbridge publish4 { tcp . 8080 }",
        "add element inet nsbridge publish4 { tcp . 8080 : 10.0.0.2 . 80 }",
    ]
    (typed,) = texts(skeleton(), verb="change")
    assert "flush chain inet nsbridge forwarding\n" in typed
    assert "flush chain inet nsbridge admin\n" not in typed


def test_a_lesson_goes_from_the_namespace_to_the_port_and_its_rules_before_the_cables() -> None:
    chapters = transcript.lesson(ALL)
    assert [chapter.title for chapter in chapters] == [
        "Namespaces",
        "Bridges",
        "Rules",
        "Cables",
        "Inside the namespaces",
        "Forwarding",
        "Published ports",
    ]
    assert all(chapter.about for chapter in chapters)
    forwarding = [command.text for command in chapters[5].commands]
    assert forwarding == ["sysctl -qw net.ipv4.ip_forward=1", "sysctl -qw net.ipv4.conf.br0.route_localnet=1"]
    said = {command.text for chapter in chapters for command in chapter.commands}
    assert said == {command.text for chapter in transcript.told(adding(ALL)) for command in chapter.commands}


def test_a_script_is_one_for_sh() -> None:
    text = transcript.script(transcript.lesson((*ALL, guard_table())), "Project lab", "A test.", ("/proc/7/ns/net",))
    subprocess.run(["sh", "-n"], input=text, text=True, check=True)
    assert text.startswith("#!/bin/sh\n# Project lab\n")
    assert "\nset -eu\n" in text
    assert "have to be there: /proc/7/ns/net" in text
    assert "\n# the way out\nip -n ns1 route add default" in text
    assert text.count("sed '/icmpv6 taddr/d'") == 1
    assert "rules <<'END'\ntable bridge nsbridge {" in text
    assert "nft -f - <<'END'\ntable inet nsbridge {" in text


def test_many_elements_are_several_commands() -> None:
    many = [PORT.replace(key=("tcp", number), why=f"port {number}") for number in range(1, 2 * nft.AT_ONCE + 2)]
    found = nft.firewall("add", many)
    assert len(found) == 3
    assert found[0].why == "port 1; port 2; port 3; and 57 more"


def test_words_and_namespaces() -> None:
    assert [quoted(word) for word in ("a-b.c", "a b", "it's", "")] == ["a-b.c", "'a b'", "'it'\\''s'", "''"]
    assert [space(path) for path in (NS, "/proc/7/ns/net")] == ["ns1", "/proc/7/ns/net"]
    assert within("/proc/7/ns/net", "ip", "link") == "nsenter --net=/proc/7/ns/net ip link"
    with pytest.raises(InvalidIntent, match="no style 'ipchains'"):
        transcript.told((), "ipchains")


def test_showing_commands_reads_no_files() -> None:
    """`connect --show-commands` stays quick: the parsers of files cost ten times as much as all of it."""
    code = "import sys, nsbridge.frontends.cli.telling; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"pydantic", "ruamel.yaml", "argparse"} & set(done.stdout.split())
