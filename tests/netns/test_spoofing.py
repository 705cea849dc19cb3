"""S16, S11: nobody sends in another's name. Each attack is sent with the guard and without the rule that stops it."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from frames import (
    ARP,
    EAR,
    IP,
    IP6,
    VLAN,
    Ear,
    arp_reply,
    frame,
    icmp6,
    known,
    mac,
    neighbour,
    path,
    send,
    town,
    udp,
    up,
)
from lab import Lab, eventually, sh

from nsbridge.desired.guard import link_local
from nsbridge.desired.senders import guard_table
from nsbridge.firewall.ruleset import Element
from nsbridge.kernel.nftnetlink import Nft
from nsbridge.model.names import TABLE
from nsbridge.plan.step import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.netns

DB, WEB, MALLORY, GATEWAY = "10.7.0.10", "10.7.0.11", "10.7.0.12", "10.7.0.1"
DB6, WEB6, GATEWAY6 = "fd07::10", "fd07::11", "fd07::1"
TOWN = town("db", "web", "mallory")
LAST = "S16: another's address, or a protocol that could carry one"


@contextmanager
def without(why: str) -> Iterator[None]:
    """Take one rule out of the second table."""
    found = re.search(rf'comment "{re.escape(why)}" # handle (\d+)', sh("nft -a list table bridge nsbridge").out)
    assert found, why
    sh(f"nft delete rule bridge nsbridge senders handle {found[1]}")
    yield
    nft = Nft()
    nft.apply("change", [guard_table()])
    nft.close()


def said(attack: bytes, to: str = "db") -> Callable[[], bool]:
    """A packet with these words, and whether it is heard."""

    def strike() -> bool:
        with Ear(to) as ear:
            send("mallory", attack)
            return ear.hears(b"boo")

    return strike


def stolen_ip() -> Callable[[], bool]:
    return said(frame(mac("db"), mac("mallory"), IP, udp(WEB, DB, b"boo")))


def stolen_ip6() -> Callable[[], bool]:
    return said(frame(mac("db"), mac("mallory"), IP6, udp(WEB6, DB6, b"boo")))


def stolen_mac() -> Callable[[], bool]:
    return said(frame(mac("db"), mac("web"), IP, udp(MALLORY, DB, b"boo")))


def hidden_by_a_tag() -> Callable[[], bool]:
    """Priority-tagged (VLAN 0): receivers take such a frame for an untagged one."""
    return said(frame(mac("db"), mac("mallory"), VLAN, b"\0\0\x08\0" + udp(WEB, DB, b"boo")))


def believing(name: str) -> None:
    """Have it believe what it hears at once, not only a second after it heard something else (arp(7), locktime)."""
    sh("echo 0 > /proc/sys/net/ipv4/neigh/eth0/locktime", path(name))


def poisoned(address: str, body: Callable[[], bytes]) -> Callable[[], bool]:
    """Whether db takes mallory's MAC for that of another."""

    def strike() -> bool:
        believing("db")
        sh(f"ip neigh flush dev eth0; ping -c1 -W2 {address}", path("db"))
        true = neighbour("db", address)
        send("mallory", body())
        false = mac("mallory").hex(":")
        return bool(eventually(lambda: neighbour("db", address) == false != true, timeout_s=0.2))

    return strike


def arp_of_the_gateway() -> Callable[[], bool]:
    me = mac("mallory")
    return poisoned(GATEWAY, lambda: frame(mac("db"), me, ARP, arp_reply(me, GATEWAY, mac("db"), DB)))


def arp_in_anothers_mac() -> Callable[[], bool]:
    """The frame is from mallory's MAC, what it says is about web's: db's traffic to mallory's address goes to web."""

    def strike() -> bool:
        believing("db")
        sh(f"ip neigh flush dev eth0; ping -c1 -W2 {MALLORY}", path("db"))
        send("mallory", frame(mac("db"), mac("mallory"), ARP, arp_reply(mac("web"), MALLORY, mac("db"), DB)))
        wrong = mac("web").hex(":")
        return bool(eventually(lambda: neighbour("db", MALLORY) == wrong, timeout_s=0.2))

    return strike


def advertised_gateway() -> Callable[[], bool]:
    """An unsolicited neighbour advertisement that overrides (RFC 4861, section 4.4)."""
    me = mac("mallory")
    target = bytes.fromhex("fd07000000000000" + "0000000000000001")
    body = b"\x20\0\0\0" + target + b"\2\1" + me
    return poisoned(GATEWAY6, lambda: frame(mac("db"), me, IP6, icmp6("fd07::12", DB6, 136, body)))


def advertised_router() -> Callable[[], bool]:
    """S11: db listens to routers; mallory calls itself one, from an address that it has."""
    me = mac("mallory")
    own = str(link_local(me.hex(":")))
    body = b"\x40\0\x07\x08" + bytes(8)

    def strike() -> bool:
        sh("ip -6 route flush proto ra; echo 2 > /proc/sys/net/ipv6/conf/eth0/accept_ra", path("db"))
        send("mallory", frame(bytes.fromhex("333300000001"), me, IP6, icmp6(own, "ff02::1", 134, body)))
        return bool(eventually(lambda: own in sh("ip -6 route show default", path("db")).out, timeout_s=0.3))

    return strike


ATTACKS = (
    (stolen_ip, LAST),
    (stolen_ip6, LAST),
    (hidden_by_a_tag, LAST),
    (stolen_mac, "S16: another's MAC"),
    (arp_of_the_gateway, LAST),
    (arp_in_anothers_mac, "S16: another's MAC in ARP"),
    (advertised_gateway, "S16: advertises another's address"),
    (advertised_router, "S11: an endpoint is no router"),
)


@pytest.mark.proves("S11", "S16", "row 14")
def test_nobody_sends_in_anothers_name(lab: Lab) -> None:
    with up(TOWN):
        known(lab, "db", WEB, MALLORY, GATEWAY, WEB6, GATEWAY6)
        for attack, why in ATTACKS:
            strike = attack()
            assert not strike(), attack.__name__
            with without(why):
                assert strike(), f"{attack.__name__} without its guard"
            assert not strike(), attack.__name__


@pytest.mark.proves("row 14")
def test_an_honest_neighbour_isnt_disturbed_and_filters_can_be_turned_off(lab: Lab) -> None:
    with up(TOWN):
        known(lab, "mallory", DB, WEB, GATEWAY, DB6, WEB6, GATEWAY6)
        assert said(frame(mac("db"), mac("mallory"), IP, udp(MALLORY, DB, b"boo")))()
        lab.sh("arping -D -c1 -w1 -I eth0 10.7.0.99 || true", "mallory")
        listed = lab.sh("nft list table bridge nsbridge").out
        assert [int(n) for n in re.findall(r"packets (\d+)", listed)] == [0] * listed.count("packets")
    with up(town("db", "web", "mallory", ipv4_filtering=False, ipv6_filtering=False, mac_filtering=False)):
        known(lab, "db", WEB, GATEWAY)
        assert [attack()() for attack, _ in ATTACKS] == [True] * len(ATTACKS)
    with up(town("db", "web", "mallory", ipv4_filtering=False)):
        known(lab, "db", WEB, GATEWAY)
        assert [stolen_ip()(), stolen_ip6()(), stolen_mac()()] == [True, False, False]


@pytest.mark.proves("row 14")
def test_elements_come_and_go_with_the_endpoint(lab: Lab) -> None:
    with up(TOWN):
        for name in ("guarded", "macs", "hosts4", "hosts6"):
            per = 2 if name == "hosts6" else 1
            listed = lab.sh(f"nft list set bridge nsbridge {name}").out
            assert len(re.findall(r'"nsb[0-9a-f]{12}"', listed)) == 3 * per
    assert "nsbridge" not in lab.sh("nft list tables").out


@pytest.mark.proves("S16", "row 13")
@pytest.mark.parametrize("call", [0, 1])
def test_icc_false_keeps_neighbours_apart_but_not_from_published_ports(lab: Lab, call: int) -> None:
    from nsbridge.model.endpoint import PublishedPort

    ports = {"db": (PublishedPort(EAR, 9100, "udp"),)}
    with up(town("db", "web", icc=False, ports=ports)) as host:
        lab.sh(f"sysctl -qw net.bridge.bridge-nf-call-iptables={call} net.bridge.bridge-nf-call-ip6tables={call}")
        ear = Ear("db").__enter__()

        def asked(to: str, port: int = EAR) -> bool:
            program = (
                f"import socket; socket.socket(socket.AF_INET{'6' * (':' in to)}, 2).sendto(b'boo', ('{to}', {port}))"
            )
            lab.sh(["python3", "-c", program], "web", check=False)
            return ear.hears(b"boo")

        lab.sh(f"ip neigh add {DB} lladdr {mac('db').hex(':')} dev eth0", "web")
        lab.sh(f"ip neigh add {DB6} lladdr {mac('db').hex(':')} dev eth0", "web")
        assert not asked(DB)
        assert not asked(DB6)
        assert asked(GATEWAY, 9100)
        assert asked("198.51.100.1", 9100)
        lab.sh("nft flush chain bridge nsbridge between")
        if call:
            host.kernel.do(Step("add", (Element(TABLE, "icc", ("nsb-town", "nsb-town")),)))
        assert asked(DB)
        assert asked(DB6)
        lab.sh("sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0")
