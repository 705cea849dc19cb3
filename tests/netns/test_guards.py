"""Attacks on what the host and others rely on, each tried with its guard and then, the guard taken away, once more.

town 10.7.0.0/24 fd07::/64: db .10, web .11 (9000 published at 9100). Somebody else's bridge theirs0: c1 172.17.0.2
"""

from __future__ import annotations

import re
import socket
import threading
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from frames import EAR, IP6, Ear, frame, mac, path, send, tcp_reset, town, up
from lab import HOST4, OUTSIDE, OUTSIDE4, OUTSIDE6, Lab, eventually, inside, sh
from reach import datagram
from test_firewalls import their_network

from nsbridge.desired.ruleset import skeleton
from nsbridge.engine import doctor, endpoints, networks, topology
from nsbridge.engine.endpoints import Wish
from nsbridge.errors import InvalidIntent
from nsbridge.kernel import sysctl
from nsbridge.model import endpoint as endpoint_module
from nsbridge.model.endpoint import PublishedPort
from nsbridge.model.network import Network, Subnet
from nsbridge.model.service import Attachment
from nsbridge.plan.step import Step
from nsbridge.store import hosts
from nsbridge.wiring import open_host

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.netns

DB, WEB, DB6 = "10.7.0.10", "10.7.0.11", "fd07::10"
TOWN = town("db", "web", ports={"web": (PublishedPort(EAR, 9100, "udp"),)})


def listing() -> str:
    """Both tables of ours, elements in order."""
    text = sh("nft --stateless list table inet nsbridge; nft --stateless list table bridge nsbridge").out
    return re.sub(r"= \{ (.*?) \}", lambda found: str(sorted(re.split(r",\s+", found[1]))), text, flags=re.S)


@contextmanager
def rewritten(old: str, new: str) -> Iterator[None]:
    """Load our table with some of its text changed, for the time of a `with`."""
    text = sh("nft list table inet nsbridge").out
    assert old in text
    sh(["nft", "delete table inet nsbridge; " + text.replace(old, new)])
    yield
    sh(["nft", "delete table inet nsbridge; " + text])


# ------------------------------------------------------------------ others' translations


@pytest.mark.proves("S7")
@pytest.mark.parametrize("kind", ["iptables-nft", "iptables-legacy", "nft"])
def test_a_port_that_others_publish_stays_theirs(lab: Lab, kind: str) -> None:
    """CVE-2019-9946: rules that come first took other tools' ports. Theirs, before us or after us, are asked first."""
    their_network(lab)
    to = "172.17.0.2:80"

    def publish() -> None:
        if kind == "nft":
            sh("nft add table ip theirs")
            sh("nft 'add chain ip theirs in { type nat hook prerouting priority dstnat; }'")
            sh("nft 'add chain ip theirs out { type nat hook output priority -100; }'")
            for chain in ("in", "out"):
                sh(f"nft add rule ip theirs {chain} fib daddr type local tcp dport 7000 dnat to {to}")
            return
        for chain in ("PREROUTING", "OUTPUT"):
            sh(f"{kind} -t nat -A {chain} -m addrtype --dst-type LOCAL -p tcp --dport 7000 -j DNAT --to {to}")

    def answer(ns: str | None = OUTSIDE) -> str:
        return lab.tcp(HOST4, 7000, ns, timeout_s=0.5).server

    publish()
    sh("sysctl -qw net.ipv4.ip_forward=1")
    assert answer() == answer(None) == "c1"
    ports = {"web": (PublishedPort(9000, 7000),)}
    with up(town("db", "web", ports=ports)):
        lab.serve("web", "tcp:9000", ns="web")
        assert answer() == answer(None) == "c1"
        with rewritten("priority dstnat + 1", "priority dstnat - 1"):
            assert answer() == "web"
        assert answer() == "c1"
        sh("nft delete table ip theirs" if kind == "nft" else f"{kind} -t nat -F")
        assert answer() == answer(None) == "web"
        publish()
        assert answer() == answer(None) == "c1"


# ------------------------------------------------------------------ the host's loopback


@pytest.mark.proves("S1", "S2")
def test_a_port_on_the_hosts_v6_loopback_answers_no_frame_to_it(lab: Lab) -> None:
    """The kernel takes no packet to [::1] from a wire; br_netfilter has it translated before the kernel looks."""
    ports = {"web": (PublishedPort(EAR, 9100, "udp", ip_address("::1")),)}
    with up(town("db", "web", ports=ports)):
        sh("sysctl -qw net.bridge.bridge-nf-call-ip6tables=1")
        packet = datagram(DB6, "::1", 4444, 9100, b"boo")
        told = frame(mac(None, "nsb-town"), mac("db"), IP6, packet)

        def heard() -> bool:
            with Ear("web") as ear:
                send("db", told)
                return ear.hears(b"boo")

        assert not heard()
        with rewritten("ip6 daddr ::1 counter", "ip6 daddr ::2 counter"):
            assert heard()
        assert not heard()
        sh("sysctl -qw net.bridge.bridge-nf-call-ip6tables=0")


# ------------------------------------------------------------------ no open moment


class Knocking:
    """Datagrams to an endpoint's closed port and its published one, all the time, from outside."""

    def __enter__(self) -> Knocking:
        self.sent, self._end = 0, threading.Event()
        self._ears = [Ear("web"), Ear("db")]
        self._thread = threading.Thread(target=lambda: inside(path(OUTSIDE), self._knock))
        self._thread.start()
        return self

    def _knock(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            while not self._end.is_set():
                for _ in range(20):
                    sock.sendto(b"closed", (DB, EAR))
                    sock.sendto(b"open", (HOST4, 9100))
                    self.sent += 1
                self._end.wait(0.0005)

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def heard(self) -> tuple[bool, bool]:
        """Whether the published port was heard of, and the closed one."""
        found = self._ears[0].hears(b"open"), self._ears[1].hears(b"closed")
        for ear in self._ears:
            ear.sock.close()
        return found


@pytest.mark.proves("S8", "row 86")
def test_rules_are_written_anew_without_an_open_moment(lab: Lab) -> None:
    """CVE-2025-54388, -54410: what a reload brought back bit by bit, or not at all, was open."""
    with up(TOWN) as host:
        lab.sh("ip route add 10.7.0.0/24 via 198.51.100.1", OUTSIDE)
        whole = listing()
        with Knocking() as knocking:
            for _ in range(40):
                host.kernel.do(Step("change", (skeleton(),)))
        assert knocking.sent > 100
        assert knocking.heard() == (True, False)
        assert listing() == whole
        text = sh("nft list table inet nsbridge").out
        with Knocking() as knocking:
            for _ in range(3):
                sh("nft delete table inet nsbridge")
                sh(["nft", text])
        assert knocking.heard() == (True, True)
        # What somebody else's reload throws away is named, and all of it comes back, in both tables.
        sh("nft flush ruleset")
        assert [one for one in doctor.examine(host) if one.level == "error"]
        topology.up(host, TOWN)
        assert listing() == whole


# ------------------------------------------------------------------ packets of no connection


@pytest.mark.proves("S14")
def test_packets_of_no_known_connection_dont_leave(lab: Lab) -> None:
    """NAT leaves them alone, so they would go out with the endpoint's own address, where nothing answers to it."""
    with up(TOWN):
        for source, to, family in ((DB, OUTSIDE4, socket.AF_INET), (DB6, OUTSIDE6, socket.AF_INET6)):
            packet = tcp_reset(source, to, 4444)
            mac = bytes.fromhex(re.findall(r"ether (\S+)", sh("ip link show nsb-town").out)[0].replace(":", ""))

            def leaks(packet: bytes = packet, family: int = family, source: str = source, mac: bytes = mac) -> bool:
                ear = inside(path(OUTSIDE), lambda: socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_TCP))
                ear.settimeout(0.2)

                def out() -> None:
                    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as sock:
                        sock.sendto(packet, ("eth0", 0x0800 if family == socket.AF_INET else 0x86DD, 0, 0, mac))

                with ear:
                    inside(path("db"), out)
                    try:
                        return bool(ear.recvfrom(2048)[1][0] == source)
                    except TimeoutError:
                        return False

            assert not leaks()
            listed = sh("nft -a list chain inet nsbridge forwarding").out
            (handle,) = re.findall(r'comment "S14: .*" # handle (\d+)', listed)
            before = sh("nft list table inet nsbridge").out
            sh(f"nft delete rule inet nsbridge forwarding handle {handle}")
            assert eventually(leaks)
            sh(["nft", "delete table inet nsbridge; " + before])


# ------------------------------------------------------------------ several networks


@pytest.mark.proves("S23", "row 11")
def test_what_comes_by_any_network_is_heard_and_answered_there(lab: Lab) -> None:
    """Strict filters drop what came by another way than the answer takes: so there is a way back, and a loose one."""
    sh("sysctl -qw net.ipv4.conf.default.rp_filter=1 net.ipv4.conf.all.rp_filter=1")
    host = open_host()
    for name, number in (("front", 1), ("back", 2)):
        networks.create(host, Network(name, (Subnet(ip_network(f"10.{number}.0.0/24")),)))
    both = lab.ns("both")
    sh("sysctl -qw net.ipv4.conf.default.rp_filter=1 net.ipv4.conf.all.rp_filter=1", both)
    endpoints.connect(host, Wish("both", both, Attachment("front")))
    on_back = Wish("both", both, Attachment("back"), gateway=())
    endpoints.connect(host, on_back)
    endpoints.publish(host, "both", (PublishedPort(EAR, 9101, "udp"), PublishedPort(80, 8081)), "back")
    lab.serve("both", "tcp:80", ns="both")

    def heard() -> bool:
        with Ear("both") as ear:
            inside(path(OUTSIDE), lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", (HOST4, 9101)))
            return ear.hears(b"x")

    def answered() -> bool:
        return lab.tcp(HOST4, 8081, OUTSIDE, timeout_s=0.3).source == OUTSIDE4

    assert (heard(), answered()) == (True, True)
    (rule,) = re.findall(r"from 10\.2\.0\.2 lookup \d+", sh("ip rule", both).out)
    sh(f"ip rule del {rule}", both)  # somebody's own routing inside: the answer leaves by the wrong bridge
    assert (heard(), answered()) == (True, False)
    sysctl_key = "net.ipv4.conf.eth1.rp_filter"
    assert sh(f"sysctl -n {sysctl_key}", both).out == "2\n"
    sh(f"sysctl -qw {sysctl_key}=1", both)
    assert (heard(), answered()) == (False, False)
    sh(f"ip rule add {rule}", both)
    assert (heard(), answered()) == (True, True)


# ------------------------------------------------------------------ settings


@pytest.mark.proves("S24")
def test_settings_that_somebody_put_back_are_raised_again(lab: Lab) -> None:
    """As `sysctl --system` does with a file that says otherwise: nothing opens, doctor tells, the next `up` mends."""
    keys = {
        "net/ipv4/ip_forward": "0",
        "net/ipv6/conf/all/forwarding": "0",
        "net/ipv4/conf/nsb-town/route_localnet": "0",
        "net/ipv6/conf/nsb-town/accept_ra": "1",
    }
    with up(TOWN) as host:
        ours = {key: sysctl.read(key) for key in keys}
        for key, value in keys.items():
            sysctl.write(key, value)
        errors = [one for one in doctor.examine(host) if one.level == "error"]
        assert errors
        topology.up(host, TOWN)
        assert {key: sysctl.read(key) for key in keys} == ours
        assert not [one for one in doctor.examine(host) if one.level == "error"]


# ------------------------------------------------------------------ names


@pytest.mark.proves("S25")
def test_a_name_that_carries_a_line_or_a_path_is_stopped_where_it_is_born(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = open_host()
    networks.create(host, Network("net", (Subnet(ip_network("10.9.0.0/24")),)))
    line, where = "www\n10.66.6.6 bank", "../../../escaped"

    def evil(name: str, alias: str) -> None:
        attachment = Attachment("net", aliases=(alias,))
        endpoints.connect(host, Wish(name, lab.ns("one"), attachment))

    for name, alias in (("one", line), (where, "www")):
        with pytest.raises(InvalidIntent):
            evil(name, alias)
    monkeypatch.setattr(endpoint_module, "check_name", lambda what, name, **_: name)
    monkeypatch.setattr("nsbridge.model.service.check_name", lambda what, name, **_: name)
    evil("one", line)
    with_line = host.store.endpoint("net", "one")
    assert with_line
    assert "\n10.66.6.6 bank\n" in hosts.line(with_line)
    endpoints.disconnect(host, "net", "one")
    evil(where, "www")
    escaped = Path(host.store.root, host.store.endpoint_path("net", where)).resolve()
    assert escaped.exists()
    assert not escaped.is_relative_to(Path(host.store.root).resolve())
