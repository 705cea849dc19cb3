"""`nsbridge explain` and real packets: who gets them, from whom they seem to come, and which rule stops them."""

from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING

import pytest
from breakages import BREAKAGES, PUBLISHED, Breakage, answered, explained, put_back, shell, workshop
from lab import OUTSIDE, Lab, eventually
from reach import (
    DOCKER,
    DUAL,
    MORE,
    SIDES,
    Attack,
    Ears,
    around,
    attacks,
    paths,
    request,
    world,
)

import nsbridge
from nsbridge.engine import topology
from nsbridge.engine.explain import explain, world_of
from nsbridge.explain.path import Path as Way
from nsbridge.explain.path import Question, walk
from nsbridge.explain.planned import ASSUMED
from nsbridge.firewall.packet import Packet
from nsbridge.wiring import open_host

if TYPE_CHECKING:
    from nsbridge.engine.host import Host

pytestmark = [pytest.mark.netns, pytest.mark.proves("row 76")]


def asked(host: Host, proto: str, start: str | None, to: str, port: int) -> Way:
    shown = f"[{to}]" if ":" in to else to
    return explain(host, start or "host", f"{shown}:{port}/{'tcp' if proto == 'http' else 'udp'}").path


@pytest.mark.parametrize(("lab", "calls"), [("none", 0), ("iptables-nft+iptables-legacy+nft", 1)], indirect=["lab"])
def test_every_path_is_foreseen(lab: Lab, calls: int) -> None:
    """Who answers, and as whom the client is seen, as the server itself tells. calls: of br_netfilter."""
    for name in ("iptables", "ip6tables"):
        lab.sh(f"sysctl -qw net.bridge.bridge-nf-call-{name}={calls}")
    wrong = []
    with world(lab, DOCKER, DUAL, MORE) as host:
        for side in SIDES:
            for path in paths(side):
                for proto in ("http", "udp"):
                    port = path.port or (80 if proto == "http" else 53)
                    real = request(lab, proto, path)
                    told = asked(host, proto, path.start, path.to, port)
                    seen = (told.out.netns.removeprefix("/run/netns/"), str(told.out.packet.saddr))
                    if not real or told.fate != "answered" or seen != (real.server, real.source):
                        wrong.append((path.what, side, proto, real, told.fate, seen, told.culprit, told.opaque))
    assert not wrong, "\n".join(map(str, wrong))


def test_a_plan_is_explained_as_it_turns_out(lab: Lab) -> None:
    """Before anything exists; afterwards real requests tell."""
    side = SIDES[1]
    known = (OUTSIDE, None, side.one[0], side.two[0])
    host = open_host()
    lab.serve("outside", "http:80", "udp:53", f"http:{side.port}", ns=OUTSIDE)
    told = {}
    for path in paths(side):
        if path.start in known:
            shown = f"{path.to}:{path.port or 80}"
            told[path] = explain(host, path.start or "host", shown, planned=DUAL).path
            assert ASSUMED in told[path].assumed
    assert not host.store.networks()
    assert not list(Path(gettempdir()).glob("nsbridge-*/networks"))
    topology.up(host, DUAL)
    try:
        for name, _ in (side.one, side.two):
            assert eventually(lambda name=name: lab.get("http://127.0.0.1:80/", name))
        for path, found in told.items():
            real = request(lab, "http", path)
            seen = (found.out.netns.removeprefix("/run/netns/"), str(found.out.packet.saddr))
            assert (real.server, real.source, found.fate) == (*seen, "answered"), path
    finally:
        topology.down(host, DUAL.project, grace_s=0.5)


def question(host: Host, attack: Attack) -> Question:
    """The attack's packet as it comes out of its sender's link, for the host's MAC."""
    looked = world_of(host)
    space = looked.space(f"/run/netns/{attack.start}")
    assert space is not None
    peer = looked.peer(space.path, space.links["eth0"])
    assert peer is not None
    source, to = ip_address(attack.source), ip_address(attack.to)
    packet = Packet("ip" if to.version == 4 else "ip6", source, to, "udp", 20001, attack.port, flags=())
    return Question(peer[0], packet.replace(ether_saddr=space.links["eth0"].mac), peer[1].name)


def test_every_attack_is_foreseen(lab: Lab) -> None:
    """What must not arrive: the rule that stops it is one of those that are there for it."""
    around(lab)
    wrong = []
    with world(lab, DOCKER, DUAL, MORE) as host, Ears(lab) as ears:
        every = list(attacks())
        heard = ears.arriving(every)
        for attack in every:
            told = walk(world_of(host), question(host, attack))
            blamed = told.culprit.why if told.culprit is not None else ""
            arrives = told.out.fate == "delivered"
            if arrives != (attack.what in heard) or (attack.rules and blamed not in (*attack.rules, SPOOFED)):
                wrong.append((attack.what, told.fate, blamed, told.opaque))
    assert not wrong, "\n".join(map(str, wrong))


SPOOFED = "S16: another's address, or a protocol that could carry one"
"""Of packets that a neighbour sends in another's name: they end at its port, before the rules meant for them."""


def test_json_is_stable(lab: Lab, nb: object) -> None:
    from commands import Command

    assert isinstance(nb, Command)
    done = nb("explain", "outside", "host:81", "--json", check=False)
    assert done.status == 1
    told = json.loads(done.out)
    assert list(told) == [
        "says", "arrives", "fate", "asked", "culprit", "way", "back", "opaque", "assumed", "notes",
    ]  # fmt: skip
    assert (told["arrives"], told["fate"], told["culprit"]["kind"]) == (False, "refused", "listener")
    assert (
        told["says"]
        == "A tcp connection from outside to 198.51.100.1:81 is refused: nobody listens on port 81/tcp on the host."
    )
    assert told["way"]["hops"][0]["netns"] == f"/run/netns/{OUTSIDE}"


def test_the_python_of_it(lab: Lab) -> None:
    told = nsbridge.explained("outside", "host:81")
    assert not told
    assert str(told).endswith("is refused: nobody listens on port 81/tcp on the host.")
    assert told.fix == ()
    assert told.record()["fate"] == told.path.fate == "refused"
    lab.serve("host", "http:81")
    assert nsbridge.explained("outside", "host:81")
    # A path leads anywhere: here into a namespace that knows nothing of us.
    assert nsbridge.explained("/run/netns/outside", "198.51.100.1").path.out.packet.saddr == ip_address("198.51.100.2")


def test_what_follows_the_first_answer_is_followed_too(lab: Lab) -> None:
    lab.serve("host", "tcp:81")
    assert nsbridge.explained("outside", "host:81")
    lab.sh(
        "nft 'table inet theirs { chain c { type filter hook prerouting priority -150; ct state established drop; }; }'"
    )
    told = nsbridge.explained("outside", "host:81")
    assert told.path.fate == "no answer"
    assert told.path.then is not None
    assert "is answered, but what follows doesn't get through" in str(told)
    assert "inet theirs c" in told.path.culprit.thing
    assert lab.tcp("198.51.100.1", 81, OUTSIDE, timeout_s=0.3).error
    lab.sh("nft delete table inet theirs")
    assert lab.tcp("198.51.100.1", 81, OUTSIDE).server == "host"


def test_names_that_nobody_has(lab: Lab, nb: object) -> None:
    from commands import Command

    assert isinstance(nb, Command)
    assert "did you mean outside?" in nb.fails(4, "explain", "host", "outsid")
    assert "has 'http' where a port belongs" in nb.fails(2, "explain", "host", "outside:http")
    assert "icmp has no ports" in nb.fails(2, "explain", "host", "outside:80/icmp")


def test_an_uplink_that_is_called_as_the_interface_inside(lab: Lab) -> None:
    lab.sh("ip link set up0 down && ip link set up0 name eth0 && ip link set eth0 up")
    lab.sh("ip route add default via 198.51.100.2")
    lab.sh("ip address add 198.51.100.9/24 dev eth0", OUTSIDE)
    with world(lab, DOCKER) as host:
        told = explain(host, "outside=198.51.100.7", "198.51.100.1:8088").path
        assert told.back is not None
        assert (told.out.netns, told.back.fate) == ("/run/netns/ns1", "left"), told.culprit


ADMINS = Breakage(
    "the administrator's own rule in our chain", "iptables -t mangle -I NSB-admin -d 10.77.0.2 -j DROP",
    "outside host:8080", "-t mangle NSB-admin: -A NSB-admin -d 10.77.0.2/32 -j DROP",
    "nft delete rule ip mangle NSB-admin", PUBLISHED,
)  # fmt: skip


def test_our_rules_in_iptables_are_known_as_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NSBRIDGE_FIREWALL", "iptables-nft")
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "lock"))
    with workshop() as lab:
        for one in (*[one for one in BREAKAGES if one.how == "true"], ADMINS):
            shell(one.how)
            assert not answered(lab, one.probe), one.name
            culprit = explained(one.question)["culprit"]
            assert one.culprit in culprit["thing"], culprit
            assert any(one.fix in fix for fix in culprit["fix"]), culprit
            for fix in culprit["fix"]:
                shell(fix)
            assert eventually(lambda probe=one.probe: answered(lab, probe, 1.0)), culprit
            put_back(one)
