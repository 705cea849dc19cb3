"""Policies of files, the administrator's own chain, and gateway modes, under real packets."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
import rules
from frames import EAR, Ear, path, town, up
from lab import HOST4, OUTSIDE, OUTSIDE4, OUTSIDE6, Lab, inside
from reach import GATEWAY

from nsbridge.engine import endpoints, topology
from nsbridge.errors import InvalidIntent
from nsbridge.files.reader import read
from nsbridge.model.endpoint import PublishedPort

if TYPE_CHECKING:
    from pathlib import Path

    from nsbridge.model.service import Topology

pytestmark = pytest.mark.netns

FILE = """
name: town
services:
  db: { networks: { town: { ipv4_address: 10.7.0.10, ipv6_address: "fd07::10" } } }
  web:
    networks: { town: { ipv4_address: 10.7.0.11, ipv6_address: "fd07::11" } }
    ports: ["9100:9000/udp"]
  mallory: { networks: { town: { ipv4_address: 10.7.0.12, ipv6_address: "fd07::12" } } }
  far: { networks: { there: { ipv4_address: 10.8.0.10 } } }
networks:
  town:
    name: town
    policy: POLICY
    ipam: { config: [{ subnet: 10.7.0.0/24 }, { subnet: "fd07::/64" }] }
  there: { ipam: { config: [{ subnet: 10.8.0.0/24 }] } }
policy:
"""


def ruled(folder: Path, *lines: str, policy: str = "deny") -> Topology:
    file = folder / "nsbridge.yaml"
    file.write_text(FILE.replace("POLICY", policy) + "".join(f"  - {{ {line} }}\n" for line in lines))
    return read(file)


def tell(lab: Lab, start: str | None, to: str, hearer: str | None, port: int = EAR) -> bool:
    """Tell whether a datagram from one namespace to an address is heard in another."""

    def say() -> None:
        with socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"boo", (to, port))

    with Ear(hearer) as ear, suppress(OSError):
        inside(path(start), say)
        return ear.hears(b"boo")
    return False


@pytest.mark.proves("row 30", "row 56", "row 62")
def test_what_a_file_allows_passes_and_nothing_else(lab: Lab, tmp_path: Path) -> None:
    told = ruled(
        tmp_path,
        "allow: 'web -> db:9000/udp'",
        f"allow: 'web -> {OUTSIDE4}/32:9000'",
        "reject: 'web -> *', log: true",
        "allow: 'mallory -> far:9000/udp'",
        f"deny: '{OUTSIDE4} -> web'",
    )
    with up(told) as host:
        assert tell(lab, "web", "10.7.0.10", "db")
        assert tell(lab, "web", "fd07::10", "db")
        assert not tell(lab, "mallory", "10.7.0.10", "db")
        assert not tell(lab, "mallory", "fd07::10", "db")
        assert not tell(lab, "db", "10.7.0.11", "web")
        assert tell(lab, "web", OUTSIDE4, OUTSIDE)
        assert not tell(lab, "web", OUTSIDE6, OUTSIDE)
        assert not tell(lab, "mallory", OUTSIDE4, OUTSIDE)
        assert tell(lab, "mallory", "10.8.0.10", "far")  # another network, since it is allowed
        assert not tell(lab, "web", "10.8.0.10", "far")
        assert not tell(lab, OUTSIDE, HOST4, "web", 9100)  # published, and denied to this one
        assert tell(lab, None, HOST4, "web", 9100)
        assert tell(lab, "far", HOST4, "web", 9100)
        refused = lab.tcp("10.7.0.10", 80, "web", timeout_s=0.5)
        assert refused.error == "Connection refused"  # rejected: told at once
        assert lab.tcp("10.7.0.10", 80, "mallory", timeout_s=0.3).error == "no answer"  # denied: without a word
        assert rules.counted("refuse")
        assert any("goto refuse_log" in one for one in rules.elements("out4_3"))
        assert topology.decide(host, told).changes == ()
        # An answer passes, whoever may begin nothing.
        lab.serve("db", "tcp:9000", ns="db")
        assert topology.up(host, ruled(tmp_path, "allow: 'web -> db:9000'")).changes[0].kind == "policy"
        assert lab.tcp("10.7.0.10", 9000, "web").server == "db"
        assert not tell(lab, "mallory", "10.8.0.10", "far")
        # Without rules and with policy: allow again, everything is as without a policy.
        topology.up(host, ruled(tmp_path, policy="allow").replace(policy=()))
        assert host.store.policies() == ()
        assert rules.elements("out4_1") == []
        assert tell(lab, "mallory", "10.7.0.10", "db")


@pytest.mark.proves("row 56")
def test_rules_follow_services_that_come_and_go(lab: Lab, tmp_path: Path) -> None:
    told = ruled(tmp_path, "allow: 'web -> db:9000/udp'", "deny: 'web -> *'", policy="allow")
    with up(told) as host:
        assert "10.7.0.11 . 10.7.0.10 . udp . 9000 : goto allow" in rules.elements("out4_1")
        endpoints.disconnect(host, "town", "db")
        assert "10.7.0.10" not in str(rules.elements("out4_1"))
        wish = endpoints.Wish(
            "db", "/run/netns/db", told.services[0].attachments[0].replace(ipv4=ip_address("10.7.0.77"))
        )
        endpoints.connect(host, wish)
        assert "10.7.0.11 . 10.7.0.77 . udp . 9000 : goto allow" in rules.elements("out4_1")
        assert tell(lab, "web", "10.7.0.77", "db")
        assert not tell(lab, "web", "10.7.0.12", "mallory")
        rules.flush()
        topology.up(host, told)
        assert "10.7.0.11 . 10.7.0.77 . udp . 9000 : goto allow" in rules.elements("out4_1")
        assert not tell(lab, "web", "10.7.0.12", "mallory")


@pytest.mark.proves("row 30", "row 56")
def test_a_policy_changes_in_one_moment(lab: Lab, tmp_path: Path) -> None:
    """A deny that moves to another map, since an exception comes before it, is open at no time, even in a flood."""
    alone = ruled(tmp_path, "deny: 'mallory -> db'", policy="allow")
    behind = ruled(tmp_path, "allow: 'mallory -> db:9999/udp'", "deny: 'mallory -> db'", policy="allow")
    stop = threading.Event()

    def flood() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            while not stop.is_set():
                with suppress(OSError):
                    sock.sendto(b"boo", ("10.7.0.10", EAR))

    with up(alone) as host, Ear("db") as ear:
        flooding = threading.Thread(target=inside, args=(path("mallory"), flood))
        flooding.start()
        try:
            for _ in range(4):
                for rules, verbs in ((behind, ["add", "swap"]), (alone, ["swap", "remove"])):
                    (change,) = topology.up(host, rules).changes
                    assert [step.verb for step in change.steps] == verbs
        finally:
            stop.set()
            flooding.join()
        assert not ear.hears(b"boo")
        assert "counter packets 0" not in lab.sh("nft list chain inet nsbridge deny").out


@pytest.mark.proves("row 56", "row 62")
def test_the_host_is_a_target(lab: Lab, tmp_path: Path) -> None:
    lab.serve("host", "tcp:5432", "tcp:5433")
    rules = ruled(
        tmp_path, "allow: 'web -> host:5432'", "reject: 'town -> host'", "deny: 'far -> host:5433/tcp'", policy="allow"
    )
    with up(rules) as host:
        lab.serve("web", "udp:9000", ns="web")
        lab.sh("ip neigh flush all; ip -6 neigh flush all", "web")
        for address in ("10.7.0.1", "fd07::1", HOST4):
            assert lab.tcp(address, 5432, "web").server == "host"
            # Told at once, but a connect() that is still under way hears it only when it asks again, after a second.
            assert lab.tcp(address, 5433, "web", timeout_s=1.6).error == "Connection refused"
            assert not lab.tcp(address, 5432, "mallory", timeout_s=0.3)
        assert lab.sh("ping -c1 -W1 10.7.0.1", "mallory", check=False).status
        assert lab.tcp("10.8.0.1", 5432, "far").server == "host"
        assert lab.tcp("10.8.0.1", 5433, "far", timeout_s=0.3).error == "no answer"
        # It is about sockets of the host: ports it publishes for others are theirs.
        assert lab.udp(HOST4, 9100, "mallory").server == "web"
        assert lab.tcp("10.7.0.1", 5432).server == "host"
        assert topology.decide(host, rules).changes == ()
        endpoints.disconnect(host, "town", "web")
        assert "10.7.0.11" not in lab.sh("nft list map inet nsbridge host4_1").out
        topology.up(host, ruled(tmp_path, policy="allow").replace(policy=()))
        assert lab.tcp("10.7.0.1", 5432, "mallory").server == "host"


@pytest.mark.proves("row 56", "S10")
def test_an_internal_network_reaches_of_the_host_what_a_rule_names(lab: Lab, tmp_path: Path) -> None:
    lab.serve("host", "tcp:5432", "tcp:5433")
    file = tmp_path / "nsbridge.yaml"
    file.write_text(
        "name: shut\nservices: { db: { networks: [shut] } }\n"
        "networks: { shut: { internal: true, ipam: { config: [{ subnet: 10.7.0.0/24 }] } } }\n"
        "policy: [ { allow: 'db -> host:5432' } ]\n"
    )
    with up(read(file)):
        assert lab.tcp("10.7.0.1", 5432, "db").server == "host"
        assert lab.tcp("10.7.0.1", 5433, "db", timeout_s=0.3).error == "no answer"


@pytest.mark.proves("row 62")
def test_the_log_is_not_flooded(lab: Lab, tmp_path: Path) -> None:
    rules = ruled(tmp_path, "deny: 'mallory -> db', log: true", policy="allow")
    with up(rules):
        listed = lab.sh("nft -a list chain inet nsbridge deny_log").out
        (text, handle) = re.findall(
            r"(limit rate 10/second burst 50 packets log prefix .*) comment .* # handle (\d+)", listed
        )[0]
        counting = text.replace(" log ", " counter log ")
        lab.sh(["nft", f"replace rule inet nsbridge deny_log handle {handle} {counting}"])

        def flood() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                for _ in range(300):
                    sock.sendto(b"boo", ("10.7.0.10", EAR))

        inside(path("mallory"), flood)
        logged = int(re.findall(r"counter packets (\d+)", lab.sh("nft list chain inet nsbridge deny_log").out)[0])
        denied = int(re.findall(r"counter packets (\d+)", lab.sh("nft list chain inet nsbridge deny").out)[0])
        assert denied >= 300
        assert 50 <= logged <= 60


@pytest.mark.proves("row 57", "S28")
def test_the_administrators_rules_survive_us(lab: Lab) -> None:
    ports = {"web": (PublishedPort(EAR, 9100, "udp"),)}
    one = town("db", "web", ports=ports)
    with up(one) as host:
        assert tell(lab, OUTSIDE, HOST4, "web", 9100)
        lab.sh(f"nft 'add rule inet nsbridge admin ip saddr {{ {OUTSIDE4}, 192.0.2.1 }} drop comment \"mine\"'")
        lab.sh("nft 'add rule inet nsbridge admin iifname @bridges udp dport 9999 accept'")
        mine = lab.sh("nft list chain inet nsbridge admin").out
        assert mine.count("\n") > 4
        assert not tell(lab, OUTSIDE, HOST4, "web", 9100)
        endpoints.disconnect(host, "town", "db")
        endpoints.unpublish(host, "web", (PublishedPort(EAR, 9100, "udp"),))
        topology.up(host, one)
        assert lab.sh("nft list chain inet nsbridge admin").out == mine
        lab.sh(
            "nft delete rule inet nsbridge forwarding handle "
            + re.findall(r"handle (\d+)", lab.sh("nft -a list chain inet nsbridge forwarding").out)[-1]
        )
        from nsbridge.desired.ruleset import skeleton
        from nsbridge.plan.step import Step

        host.kernel.do(Step("change", (skeleton(),)))
        assert lab.sh("nft list chain inet nsbridge admin").out == mine
        topology.down(host, "town", grace_s=0.2)
        assert lab.sh("nft list chain inet nsbridge admin").out == mine
        assert "elements" not in lab.sh("nft list table inet nsbridge").out
        from nsbridge.engine import gc

        assert gc.collect(host) == ()
        topology.up(host, one)
        assert lab.sh("nft list chain inet nsbridge admin").out == mine
        assert not tell(lab, OUTSIDE, HOST4, "web", 9100)
        lab.sh("nft flush chain inet nsbridge admin")
        assert tell(lab, OUTSIDE, HOST4, "web", 9100)
    assert "table inet nsbridge" not in lab.sh("nft list tables").out


def ways_in(lab: Lab) -> dict[str, bool]:
    """Who reaches what of web, which publishes 9000 at 9100: at its own address, from outside and the host."""
    lab.sh("ip route replace 10.7.0.0/24 via 198.51.100.1; ip -6 route replace fd07::/64 via 2001:db8:1::1", OUTSIDE)
    return {
        "published": tell(lab, OUTSIDE, HOST4, "web", 9100),
        "direct": tell(lab, OUTSIDE, "10.7.0.11", "web"),
        "direct6": tell(lab, OUTSIDE, "fd07::11", "web"),
        "unpublished": tell(lab, OUTSIDE, "10.7.0.10", "db"),
        "ping": not lab.sh("ping -c1 -W1 10.7.0.10", OUTSIDE, check=False).status,
    }


@pytest.mark.proves("S3", "S5", "row 28", "row 49", "row 50", "row 51")
@pytest.mark.parametrize("lab", ["none", "nft"], indirect=True)
def test_gateway_modes_and_trusted_interfaces(lab: Lab) -> None:
    ports = {"web": (PublishedPort(EAR, 9100, "udp"),)}
    nothing = {"direct": False, "direct6": False, "unpublished": False, "ping": False}
    for wishes, expected in (
        ({}, {"published": True, **nothing}),
        (
            {"gateway_mode4": "nat-unprotected"},
            {"published": True, "direct": True, "direct6": False, "unpublished": True, "ping": True},
        ),
        (
            {"gateway_mode4": "routed", "gateway_mode6": "routed"},
            {"published": False, "direct": True, "direct6": True, "unpublished": False, "ping": True},
        ),
        (
            {"trusted": ("up0",)},
            {"published": True, "direct": True, "direct6": True, "unpublished": True, "ping": True},
        ),
        ({"trusted": ("other0",)}, {"published": True, **nothing}),
    ):
        with up(town("db", "web", ports=ports, **wishes)):
            assert ways_in(lab) == expected, wishes
            lab.sh("nft add table inet x; nft 'add chain inet x c { type filter hook input priority 0; }'", OUTSIDE)
            lab.sh("nft 'add rule inet x c ip saddr 10.7.0.10 counter'", OUTSIDE)
            lab.sh(f"ping -c1 -W1 {OUTSIDE4}", "db", check=False)
            own = "packets 0" not in lab.sh("nft list table inet x; nft delete table inet x", OUTSIDE).out
            assert own is (wishes.get("gateway_mode4") == "routed")  # it leaves with its own address


@pytest.mark.proves("S16", "row 13", "row 49")
@pytest.mark.parametrize("call", [0, 1])
def test_neighbours_stay_apart_on_a_routed_network_too(lab: Lab, call: int) -> None:
    """What is published there is open at the endpoint's own address, but not to those who may not talk to it."""
    ports = {"web": (PublishedPort(EAR, 9100, "udp"),)}
    with up(town("db", "web", ports=ports, icc=False, gateway_mode4="routed", gateway_mode6="routed")):
        lab.sh(f"sysctl -qw net.bridge.bridge-nf-call-iptables={call} net.bridge.bridge-nf-call-ip6tables={call}")
        assert ways_in(lab)["direct"]
        assert ways_in(lab)["direct6"]
        for address in ("10.7.0.11", "fd07::11"):
            assert not tell(lab, "db", address, "web")
            assert lab.sh(f"ping -c1 -W1 {address}", "db", check=False).status
        lab.sh("sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0")


@pytest.mark.proves("S10", "row 29", "row 49")
def test_an_internal_networks_gateway_is_no_bridge_to_the_host(lab: Lab) -> None:
    with up(town("db", "web", internal=True)):
        lab.sh("ip route add default via 10.7.0.1", "db")
        lab.serve("host", "tcp:9001")
        lab.serve("web", "tcp:9001", ns="web")
        assert lab.tcp("10.7.0.11", 9001).server == "web"  # the host reaches its endpoints
        assert lab.tcp("10.7.0.11", 9001, "db").server == "web"
        for address in ("10.7.0.1", "fd07::1", HOST4):
            assert lab.tcp(address, 9001, "db", timeout_s=0.2).error == "no answer"
        rules.remove(GATEWAY, "S10: a gateway is no bridge to the host's services")
        assert [lab.tcp(address, 9001, "db").server for address in ("10.7.0.1", "fd07::1", HOST4)] == ["host"] * 3
    with up(town("db", "web", internal=True, gateway_mode4="isolated", gateway_mode6="isolated")):
        assert lab.sh("ip -j -br address show dev nsb-town").out.count("local") == 0
        assert tell(lab, "web", "10.7.0.10", "db")
        assert tell(lab, "web", "fd07::10", "db")
        assert lab.sh("ping -c1 -W1 10.7.0.1", "db", check=False).status


def test_isolated_needs_internal() -> None:
    with pytest.raises(InvalidIntent, match="isn't internal"):
        town("db", gateway_mode4="isolated")
