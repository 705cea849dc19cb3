"""The main job with real packets: what must arrive does, with the right source; what must not doesn't.

One host a FORWARD policy, with four networks on it (reach.py); every path and every attack is tried on it with
br_netfilter off and on. Then each rule that guards is taken out of the live table, and the attack it stops succeeds.
"""

from __future__ import annotations

import re
import socket
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import rules
from lab import HOST4, HOST6, OUTSIDE, OUTSIDE4, OUTSIDE6, Lab, eventually, inside, sh
from reach import DOCKER, DUAL, MORE, SIDES, Attack, Ears, around, attacks, paths, request, world
from rules import without

from nsbridge.engine import services

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsbridge.engine.host import Host

pytestmark = pytest.mark.netns

DROPPING = (
    "none",
    "iptables-nft",
    "iptables-legacy",
    "ip6tables-nft",
    "ip6tables-legacy",
    "nft",
    "iptables-nft+iptables-legacy",
    "iptables-nft+iptables-legacy+nft",
)
S6 = "S6: only what is meant for an address of the host itself"
MASQUERADE = "the way out, as the host itself"
HAIRPIN = "hairpin: back to its own network by a published port"
LOOPBACK = "127.0.0.1 of the host becomes the gateway's"
BRIDGED = "net.bridge.bridge-nf-call-iptables={0} net.bridge.bridge-nf-call-ip6tables={0}"


def without_store(snapshot: str) -> str:
    return "\n".join(row for row in snapshot.splitlines() if not row.startswith("/run/nsbridge/"))


def unreached(lab: Lab) -> list[str]:
    """Try every path by TCP and UDP; say what didn't come out as it should."""
    wrong = []
    for side in SIDES:
        for proto in ("tcp", "udp"):
            for path in paths(side):
                reply = request(lab, proto, path)
                if (reply.server, reply.source) != (path.server, path.source):
                    got = f"{reply.server} saw {reply.source}" if reply else reply.error
                    wrong.append(f"{side.network}/{side.version} {proto} {path.what}: {path}: {got}")
    return wrong


def unpinged(lab: Lab) -> list[str]:
    wrong = []
    for side in SIDES:
        for to in (side.gateway, side.two[1], side.outside):
            if lab.sh(f"ping -n -c 1 -W 2 {to}", side.one[0], check=False).status:
                wrong.append(f"{side.one[0]} can't ping {to}")
    return wrong


def by_name(host: Host, service: str, other: str, folder: Path) -> str:
    """Ask a neighbour by its name, as a program in the service's own view of the system does."""
    answer = folder / f"{service}-{other}"
    program = "import sys, urllib.request as r; open(sys.argv[2], 'wb').write(r.urlopen(sys.argv[1], timeout=3).read())"
    command = (sys.executable, "-I", "-c", program, f"http://{other}/", str(answer))
    assert services.execute(host, service, command) == 0
    return answer.read_text()


def arrived(ears: Ears, sent: Iterable[Attack]) -> dict[str, str]:
    return {what: f"{where} heard {source}" for what, (where, source) in ears.arriving(sent).items()}


@pytest.mark.proves("S2", "S9", "S28", "S29", "row 1", "row 17", "row 26", "row 32", "row 40", "row 42", "row 43")
@pytest.mark.proves("row 44", "row 45", "row 46", "row 50", "row 55", "row 58", "row 61", "row 63")
@pytest.mark.parametrize("lab", DROPPING, indirect=True)
def test_every_path_under_every_forward_policy(lab: Lab, tmp_path: Path) -> None:
    around(lab)
    before, others = rules.unloaded(lab.snapshot()), rules.theirs()
    with world(lab, DOCKER, DUAL, MORE) as host, Ears(lab) as ears:
        assert rules.theirs() == others
        for bridged in (0, 1):
            sh("sysctl -qw " + BRIDGED.format(bridged))
            assert unreached(lab) == []
            assert unpinged(lab) == []
            assert arrived(ears, attacks()) == {}
            assert '"server": "ns2", "source": "175.18.0.2"' in by_name(host, "ns1", "ns2", tmp_path)
            assert '"server": "six", "source": "fd00:30:3::2"' in by_name(host, "client", "six", tmp_path)
        assert rules.theirs() == others
    assert without_store(rules.unloaded(lab.snapshot())) == without_store(before)
    assert not [*host.store.networks(), *host.store.endpoints(), *host.store.services()]


# ------------------------------------------------------------------ every guard matters


@pytest.mark.proves("S1", "S2", "S3", "S4", "S9", "S10", "S13", "row 29", "row 50", "row 55")
def test_each_guard_matters(lab: Lab) -> None:
    around(lab)
    with world(lab, DOCKER, DUAL, MORE), Ears(lab) as ears:
        sh("nft flush chain bridge nsbridge senders")  # stops forged sources before the rules that are tested here
        listed = rules.listed()
        assert arrived(ears, attacks()) == {}
        for whys in sorted({attack.rules for attack in attacks() if attack.rules}):
            mine = [attack for attack in attacks() if attack.rules == whys]
            with without(*whys):
                assert {what: where for what, (where, _) in ears.arriving(mine, expected=len(mine)).items()} == {
                    attack.what: attack.heard for attack in mine
                }, whys
            assert rules.listed() == listed
        assert arrived(ears, attacks()) == {}


@pytest.mark.proves("S6", "row 26", "row 40", "row 43")
def test_each_translation_matters(lab: Lab) -> None:
    """The rules that rewrite, one by one: without it the path doesn't work, or shows another source."""
    with world(lab, DOCKER):
        (side,) = SIDES[:1]
        by = {path.what: path for path in paths(side)}

        def seen(what: str) -> tuple[str, str]:
            reply = request(lab, "udp", by[what], timeout_s=0.4)
            return reply.server, reply.source

        sh("sysctl -qw " + BRIDGED.format(0))
        hijack = by["S6: another host's port of the same number"]
        assert seen(hijack.what) == ("outside", HOST4)
        with without(S6):
            assert seen(hijack.what)[0] == "ns1"
        with without(MASQUERADE):
            assert not seen("the way out")[0]
        with without(HAIRPIN):
            assert not seen("neighbour's published port by the host's address")[0]
        with without(LOOPBACK):
            assert not seen("published, from the host by 127.0.0.1")[0]


# ------------------------------------------------------------------ forwarding and sysctls of the host


def between_strangers(lab: Lab) -> list[bool]:
    return [bool(lab.udp(to, 53, "beyond", timeout_s=0.4)) for to in (OUTSIDE4, OUTSIDE6)]


@pytest.mark.proves("S13")
@pytest.mark.parametrize("on", ["", "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"])
def test_a_host_that_was_a_router_stays_one_and_no_other_becomes_one(lab: Lab, on: str) -> None:
    around(lab)
    if on:
        sh(f"sysctl -qw {on}=1")
    before = rules.unloaded(lab.snapshot())
    with world(lab, DUAL) as host:
        assert between_strangers(lab) == ["ipv4" in on, "ipv6" in on]
        rules.forget(host, "raised")
        assert between_strangers(lab) == [True, True]
    assert without_store(rules.unloaded(lab.snapshot())) == without_store(before)
    assert between_strangers(lab) == ["ipv4" in on, "ipv6" in on]


def test_settings_that_hang_on_forwarding_are_given_back(lab: Lab) -> None:
    """Lowering ip_forward turns accept_redirects on (inet_forward_change), which a careful host had turned off."""
    sh("sysctl -qw net.ipv4.conf.all.accept_redirects=0")
    before = rules.unloaded(lab.snapshot())
    with world(lab, DOCKER):
        pass
    assert without_store(rules.unloaded(lab.snapshot())) == without_store(before)


def advertise_router() -> None:
    """Send a router advertisement, good for half an hour (RFC 4861 §4.2). The kernel fills in the checksum."""
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        said = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)
        sock.sendto(said, ("ff02::1", 0, 0, socket.if_nametoindex("eth0")))


@pytest.mark.proves("S12")
def test_the_uplinks_own_advertised_route_stays(lab: Lab) -> None:
    """S12: a router takes no advertisements, and becoming one drops what it had from them."""
    sh("ip -6 route del default; echo 1 > /proc/sys/net/ipv6/conf/up0/accept_ra")
    link_local = "inet6 fe80::.* scope link(?! tentative)"
    assert eventually(lambda: re.search(link_local, sh("ip address show dev eth0", lab.ns(OUTSIDE)).out))

    def routed() -> bool:
        inside(lab.ns(OUTSIDE), advertise_router)
        return bool(eventually(lambda: "default via fe80" in sh("ip -6 route show proto ra").out, timeout_s=0.5))

    assert eventually(routed)
    before = rules.unloaded(lab.snapshot())
    with world(lab, DUAL):
        assert "default via fe80" in sh("ip -6 route show proto ra").out
        assert lab.get(f"http://[{OUTSIDE6}]:80/", "six").source == HOST6
        sh("ip -6 route flush proto ra")
        assert eventually(routed)
    assert without_store(rules.unloaded(lab.snapshot())) == without_store(before)


@pytest.mark.proves("S11")
def test_an_endpoint_cant_reroute_the_host(lab: Lab) -> None:
    """S11: a router advertisement from inside changes nothing; with the bridge's setting undone it would."""
    with world(lab, DUAL):
        (bridge,) = (network.ifname for network in DUAL.networks)
        routed = f"ip -6 route show default dev {bridge}"
        for accepts in ("0", "2"):
            if accepts != "0":
                sh(f"echo {accepts} > /proc/sys/net/ipv6/conf/{bridge}/accept_ra")
                sh("nft flush chain bridge nsbridge senders")
            inside(lab.ns("six"), advertise_router)
            found = eventually(lambda: sh(routed).out, timeout_s=2 if accepts != "0" else 0.3)
            assert bool(found) is (accepts != "0")


@pytest.mark.proves("S16", "row 13")
def test_endpoints_that_may_not_talk_to_one_another(lab: Lab) -> None:
    """S16: neither with br_netfilter, by the rules, nor without it, by those of the second table.

    By each other's published ports they may, also when br_netfilter shows bridged packets to NAT.
    """
    (bridge,) = DOCKER.networks
    with world(lab, DOCKER.replace(networks=(bridge.replace(icc=False),))):
        for bridged in (0, 1):
            sh("sysctl -qw " + BRIDGED.format(bridged))
            for path in paths(SIDES[0]):
                back = path.start in ("ns1", "ns2") and path.server in ("ns1", "ns2")
                if path.start == "elsewhere":
                    continue
                closed = back and not path.port
                reply = request(lab, "udp", path, timeout_s=0.4 if closed else 3)
                assert (reply.server, reply.source) == (("", "") if closed else (path.server, path.source)), path
        sh("sysctl -qw " + BRIDGED.format(0))
        neighbour = next(paths(SIDES[0]))
        sh("nft flush chain bridge nsbridge between")
        assert request(lab, "udp", neighbour).source == neighbour.source
