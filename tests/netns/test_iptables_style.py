"""Scripts in the style of iptables: what they build lets through, rewrites and drops what nsbridge does.

They are written shorter than what nsbridge itself writes into iptables (firewall/iptables_short.py), so rules can't be
compared: packets are. The matrix of reach.py, every path and every attack, is sent through a host that sh(1) has built
with all its networks; and for each topology of test_transcript.py everybody tries to reach everybody, once through what
nsbridge builds (of nftables) and once through what its script does. With NSBRIDGE_TEST_ALL all of them, on both kinds
of iptables.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from commands import settled
from fates import fates
from lab import OUTSIDE, eventually, sh
from reach import DOCKER, DUAL, EXAMPLES, MORE, SIDES, Ears, around, attacks
from test_reach import BRIDGED, arrived, unpinged, unreached
from test_transcript import TOPOLOGIES, run, wish

from nsbridge.engine import layout, topology
from nsbridge.explain import transcript
from nsbridge.wiring import open_host

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from commands import Command
    from lab import Lab

    from nsbridge.engine.host import Host
    from nsbridge.engine.layout import Layout

pytestmark = pytest.mark.netns

ALL = bool(os.environ.get("NSBRIDGE_TEST_ALL"))
VARIANTS = ("iptables-nft", "iptables-legacy")
SOME = ("a policy, refusing by default",)
CASES = [(name, variant) for name in TOPOLOGIES for variant in VARIANTS if ALL or (name in SOME and "nft" in variant)]
EVERYBODY = DOCKER.replace(
    networks=(*DOCKER.networks, *DUAL.networks, *MORE.networks),
    services=tuple(one.replace(command=()) for each in (DOCKER, DUAL, MORE) for one in each.services),
)


@pytest.fixture
def commands(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let `iptables` and `ip6tables` be a variant's."""
    for name in ("iptables", "ip6tables"):
        file = tmp_path / name
        file.write_text(f'#!/bin/sh\nexec {request.param.replace("iptables", name)} "$@"\n')
        file.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "lock"))
    return str(request.param)


@contextmanager
def typed(host: Host, found: Layout, name: str) -> Iterator[None]:
    """Let sh(1) build a layout, and take it away."""
    bridges = host.kernel.facts().bridges
    run(transcript.script(transcript.lesson(found.things, "iptables", bridges), name, "a test"))
    try:
        yield
    finally:
        run(transcript.script(transcript.backwards(found.things, "iptables", bridges), name, "a test"))


def left() -> str:
    """What there is, without tables of iptables in which nothing is: it leaves them behind."""
    for family in ("ip", "ip6"):
        for table in ("raw", "mangle", "security", "filter", "nat"):
            sh(f"nft delete table {family} {table}", check=False)
    return "\n".join(row for row in settled().splitlines() if not row.startswith("iptables"))


@pytest.mark.proves("S1", "S3", "S4", "S6", "S9", "S10", "S13")
@pytest.mark.parametrize("commands", VARIANTS if ALL else VARIANTS[:1], indirect=True)
@pytest.mark.parametrize("lab", ["none", "iptables-nft+iptables-legacy+nft"] if ALL else ["none"], indirect=True)
def test_every_path_and_no_attack(lab: Lab, commands: str) -> None:
    around(lab)
    ports = [f"{proto}:{side.port}" for side in SIDES[:2] for proto in ("http", "udp")]
    lab.serve("outside", "http:80", "udp:53", *ports, ns=OUTSIDE)
    host = open_host()
    with typed(host, layout.planned(host, EVERYBODY), "everything"):
        for service in EVERYBODY.services:
            lab.serve(service.name, "http:80", "udp:53", ns=service.name)
            assert eventually(lambda name=service.name: lab.get("http://127.0.0.1:80/", name))
        with Ears(lab) as ears:
            for bridged in (0, 1):
                sh("sysctl -qw " + BRIDGED.format(bridged))
                assert unreached(lab) == []
                assert unpinged(lab) == []
                assert arrived(ears, attacks()) == {}
            if lab.policy == "none":  # else the host's own chains drop these packets as well
                sh("iptables -t mangle -D FORWARD -j NSB-forwarding; ip6tables -t mangle -D FORWARD -j NSB-forwarding")
                assert arrived(ears, attacks()) != {}
                sh("iptables -t mangle -I FORWARD -j NSB-forwarding; ip6tables -t mangle -I FORWARD -j NSB-forwarding")
    assert "NSB-" not in sh("iptables-save; ip6tables-save").out


@pytest.mark.parametrize(("name", "commands"), CASES, indirect=["commands"])
def test_the_same_fate(name: str, commands: str, lab: Lab, tmp_path: Path) -> None:
    with wish(name, tmp_path) as (host, wanted):
        empty = left()
        found = layout.planned(host, wanted)
        topology.up(host, wanted)
        try:
            ours = fates(lab, found)
        finally:
            topology.down(host, wanted.project, 0)
        with typed(host, found, name):
            theirs = fates(lab, found)
        assert theirs == ours
        assert any("heard" in one for one in ours.values())
        assert left() == empty


def test_commands_follow_the_hosts_firewall(nb: Command, lab: Lab) -> None:
    """What is shown is in the words of the firewall that holds the rules, unless others are asked for."""
    example = str(EXAMPLES / "docker-bridge.yaml")
    assert "iptables -w" not in nb("script", example).out
    assert (
        "iptables -w -t nat -I NSB-publish_in"
        in nb("plan", "--show-commands", "--style", "iptables", "-f", example).out
    )
    done = nb("network", "create", "--firewall", "iptables-nft", "--show-commands", "web")
    assert "iptables -w -t mangle -I NSB-forwarding-1 -i nsb-web" in done.err
    assert "nft add element inet" not in done.err
    assert "iptables -w -t nat -N NSB-sources" in nb("script").out
    assert "add table inet nsbridge" not in nb("script").out
    assert "table inet nsbridge" in nb("script", "--style", "nft").out
    assert "iptables -w -t mangle -X NSB-allow" in nb("network", "rm", "--show-commands", "web").err
