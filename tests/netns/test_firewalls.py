"""Other people's firewalls beside ours: before us, after us, one and several; we work, they work, nobody loses a rule.

Their rules (rulesets/) are written after what Docker, ufw, firewalld and libvirt load. Their network is bridge theirs0,
172.17.0.0/24, with c1 (.2, port 80 published at 7000 where they publish) and c2 (.3).
"""

from __future__ import annotations

from pathlib import Path

import pytest
import rules
from frames import EAR, town, up
from lab import HOST4, OUTSIDE, OUTSIDE4, Lab, sh
from test_policies import tell

from nsbridge.engine import doctor, topology
from nsbridge.firewall.ruleset import Element
from nsbridge.kernel import foreign
from nsbridge.kernel.linux import LinuxKernel
from nsbridge.kernel.nftnetlink import Nft
from nsbridge.model.endpoint import PublishedPort
from nsbridge.model.names import TABLE
from nsbridge.plan.step import Step
from nsbridge.state.things import ForeignAccept

pytestmark = pytest.mark.netns

RULESETS = Path(__file__).parent / "rulesets"
BOTH = (
    "docker.iptables",
    "docker.nft",
    "ufw.iptables",
    "strict.iptables",
    "firewalld.nft",
    "libvirt.nft",
    "docker.iptables firewalld.nft",
    "legacy:ufw.iptables docker.nft libvirt.nft",
)
NAT = ("docker", "firewalld", "libvirt")
TOWN = town("db", "web", ports={"web": (PublishedPort(EAR, 9100, "udp"),)})
CALLS = "net.bridge.bridge-nf-call-iptables={0} net.bridge.bridge-nf-call-ip6tables={0}"


def their_network(lab: Lab) -> None:
    sh("ip link add theirs0 type bridge && ip address add 172.17.0.1/24 dev theirs0 && ip link set dev theirs0 up")
    for last, name in ((2, "c1"), (3, "c2")):
        lab.ns(name)
        sh(
            f"ip link add v{name} type veth peer name eth0 netns {name} && ip link set dev v{name} master theirs0 up &&"
            f"ip -n {name} address add 172.17.0.{last}/24 dev eth0 && ip -n {name} link set dev eth0 up &&"
            f"ip -n {name} route add default via 172.17.0.1"
        )
    lab.serve("c1", "tcp:80", ns="c1")


def their_rules(names: str) -> None:
    for name in names.split():
        kind, _, file = name.rpartition(":")
        if file.endswith(".nft"):
            sh(f"nft -f {RULESETS / file}")
        else:
            sh(f"iptables-{kind or 'nft'}-restore < {RULESETS / file}")
    sh("sysctl -qw net.ipv4.ip_forward=1")


def ours_work(lab: Lab) -> list[str]:
    paths = {
        "published, from outside": (OUTSIDE, HOST4, "web", 9100),
        "published, from the host": (None, "127.0.0.1", "web", 9100),
        "published, from a neighbour": ("db", HOST4, "web", 9100),
        "the way out": ("db", OUTSIDE4, OUTSIDE, EAR),
        "neighbours": ("db", "10.7.0.11", "web", EAR),
        "not: unpublished": (OUTSIDE, "10.7.0.11", "web", EAR),
    }
    sh("ip route replace 10.7.0.0/24 via 198.51.100.1", lab.ns(OUTSIDE))
    return [what for what, path in paths.items() if tell(lab, *path) is what.startswith("not")]


def theirs_work(lab: Lab, names: str) -> list[str]:
    wrong = [] if tell(lab, "c2", "172.17.0.2", "c1") else ["their neighbours"]
    if any(one in names for one in NAT) and not tell(lab, "c1", OUTSIDE4, OUTSIDE):
        wrong.append("their way out")
    if "docker" in names and lab.tcp(HOST4, 7000, OUTSIDE, timeout_s=0.5).server != "c1":
        wrong.append("their published port")
    sh("ip route replace 172.17.0.0/24 via 198.51.100.1", lab.ns(OUTSIDE))
    if any(one in names for one in NAT) and tell(lab, OUTSIDE, "172.17.0.3", "c2"):
        wrong.append("what they keep closed is open")
    if any(one in names for one in NAT) and tell(lab, "db", "172.17.0.3", "c2"):
        wrong.append("what they keep closed is open to our endpoints")
    return wrong


@pytest.mark.proves("S28", "S29", "row 54", "row 60", "row 61")
@pytest.mark.parametrize("names", BOTH)
def test_they_were_there_before_us(lab: Lab, names: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "lock"))
    their_network(lab)
    their_rules(names)
    before = rules.theirs()
    alone = theirs_work(lab, names)
    assert alone == (["their published port"] if "ufw" in names and "docker" in names else [])
    with up(TOWN):
        for call in (0, 1):
            sh("sysctl -qw " + CALLS.format(call))
            assert (ours_work(lab), theirs_work(lab, names)) == ([], alone), call
        assert rules.theirs() == before
    sh("sysctl -qw " + CALLS.format(0))
    assert rules.theirs() == before
    assert "nsbridge" not in sh("nft list ruleset; iptables-legacy-save").out


@pytest.mark.proves("S13", "S28", "S29", "row 54", "row 60")
@pytest.mark.parametrize("names", BOTH[:1] + BOTH[2:6] + BOTH[7:])
def test_they_come_after_us(lab: Lab, names: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they drop, doctor names, and the next command puts right; what they forward isn't ours to stop (S13)."""
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "lock"))
    with up(TOWN) as host:
        ours = rules.listed()
        their_network(lab)
        their_rules(names)
        before = rules.theirs()
        broken = [finding for finding in doctor.examine(host) if finding.level == "error"]
        if rules.backend() != "nftables":  # which has to be told of a bridge of theirs, and doctor says so
            broken = [finding for finding in broken if "a bridge" not in finding.why]
            assert topology.up(host, TOWN).changes[0].kind == "host"
        else:
            assert bool(broken) is bool(ours_work(lab)) is (not names.startswith(("docker.nft", "libvirt")))
        assert all("drops what is forwarded" in finding.what and "nsbridge up" in finding.fix for finding in broken)
        if broken and rules.backend() == "nftables":
            assert topology.up(host, TOWN).changes[0].kind == "host"
        assert ours_work(lab) == []
        beside = theirs_work(lab, names)
        assert not [finding for finding in doctor.examine(host) if finding.level == "error"]
        assert rules.theirs() == before
        assert rules.listed() == ours
    assert rules.theirs() == before
    assert theirs_work(lab, names) == beside


@pytest.mark.proves("S29")
def test_chains_that_stop_everything_are_recognised(lab: Lab) -> None:
    """By what they do, wherever it stands; a rule that asks something doesn't count."""
    nft = Nft()

    def found(*rules: str, policy: str = "accept") -> bool:
        sh("nft 'add table inet t; delete table inet t; add table inet t; add chain inet t side; add chain inet t end'")
        sh(f"nft 'add chain inet t fwd1 {{ type filter hook forward priority 0; policy {policy}; }}'")
        for rule in rules:
            chain, _, text = rule.partition(": ")
            sh(f"nft 'add rule inet t {chain} {text}'")
        return foreign.droppers(nft) == (ForeignAccept("nft", "inet", "t", "fwd1"),)

    assert not found()
    assert found(policy="drop")
    assert found("fwd1: ct state established accept", "fwd1: counter drop")
    assert found("fwd1: counter jump side", "side: ip saddr 10.0.0.1 accept", 'side: log prefix "x" reject')
    assert found("fwd1: goto side", "side: jump end", "end: drop")
    assert not found("fwd1: accept", "fwd1: drop")
    assert not found("fwd1: jump side", "side: return", "side: drop")
    assert not found("fwd1: jump side", "side: accept", "fwd1: drop", policy="drop")
    assert not found('fwd1: iifname "eth9" drop')
    assert not found('fwd1: iifname "eth9" jump side', "side: drop")
    assert not found("fwd1: goto side", "side: accept", policy="drop")
    assert found("fwd1: goto side", "fwd1: accept", policy="drop")
    nft.close()


@pytest.mark.proves("S13")
def test_a_bridge_that_was_there_unforwarded_stays_so(lab: Lab) -> None:
    """Of others' bridges only later ones may count on the forwarding that we turned on; frames of all of them pass."""
    their_network(lab)
    with up(TOWN) as host:
        sh("nft add table ip x; nft 'add chain ip x p { type nat hook postrouting priority 100; }'")
        sh("nft add rule ip x p ip saddr 172.17.0.0/24 masquerade")
        sh("sysctl -qw " + CALLS.format(1))
        assert tell(lab, "c2", "172.17.0.2", "c1")
        assert not tell(lab, "c1", OUTSIDE4, OUTSIDE)
        rules.forget(host, "closed")
        assert tell(lab, "c1", OUTSIDE4, OUTSIDE)
        rules.forget(host, "same")
        host.kernel.do(Step("add", (Element(TABLE, "closed", ("theirs0",)),)))
        assert not tell(lab, "c2", "172.17.0.2", "c1")
        sh("sysctl -qw " + CALLS.format(0))
        sh("nft delete table ip x")


def test_a_kernel_is_asked_whether_it_filters_bridges(lab: Lab) -> None:
    before = sh("nft list ruleset").out
    assert LinuxKernel().facts().bridge_filter
    assert sh("nft list ruleset").out == before
