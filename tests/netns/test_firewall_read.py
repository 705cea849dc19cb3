"""Every rule of a namespace, read by netlink and getsockopt: `nft list` and `iptables-save` judge how it is told."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from lab import HERE, sh

from nsbridge.desired.ruleset import skeleton
from nsbridge.desired.senders import guard_table
from nsbridge.firewall.planned import firewall_of
from nsbridge.firewall.seen import Strange, Xt
from nsbridge.firewall.words import rule_words
from nsbridge.kernel.fwread import read_firewall
from nsbridge.kernel.nftnetlink import Nft
from nsbridge.state.kernel_state import KernelState

if TYPE_CHECKING:
    from pathlib import Path

    from lab import FreshHost

    from nsbridge.firewall.seen import Firewall

pytestmark = pytest.mark.netns

RULESETS = HERE / "rulesets"
NFT = sorted(one.name for one in RULESETS.glob("*.nft"))
IPTABLES = sorted(one.name for one in RULESETS.glob("*.iptables"))

TOLD_OTHERWISE = {
    "ip protocol icmp icmp type echo-request limit rate 5/second accept": "the protocol goes without saying",
    "ip6 daddr { ::/96, ::ffff:0.0.0.0/96, 2002:a00::/24 } reject with icmpv6 addr-unreachable": (
        "Python writes mapped addresses without dots"
    ),
    "ip dscp cs1 accept": "its six bits are told as those of ip tos",
    "ether saddr 02:00:00:00:00:01 accept": "the hidden test of the kind of link is told",
    "tcp flags syn / syn,rst tcp option maxseg size set rt mtu": "options are told by their numbers",
}
"""What nft(8) has a shorter word for."""


@pytest.fixture(autouse=True)
def links(host: FreshHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "lock"))
    sh("ip link add theirs0 type bridge")


def told(firewall: Firewall) -> dict[tuple[str, str, str, int], str]:
    """Every rule's words by family, table, chain, and its handle (its place in iptables-legacy)."""
    return {
        (table.family, table.name, chain.name, rule.handle or rule.index): rule_words(
            rule, chain, table, firewall.contents
        )
        for table in firewall.tables
        for chain in table.chains
        for rule in chain.rules
    }


@pytest.mark.parametrize("name", [*NFT, "ours"])
def test_nft_says_the_same(name: str) -> None:
    if name == "ours":
        Nft().apply("add", [skeleton(), guard_table()])
    else:
        sh(f"nft -f {RULESETS / name}")
    listed: dict[int, str] = {}
    wrong = []
    firewall = read_firewall()
    for table in firewall.tables:
        for line in sh(f"nft -a list table {table.family} {table.name}").out.splitlines():
            if found := re.fullmatch(r"\t\t(.*) # handle (\d+)", line):
                listed[int(found[2])] = found[1]
        for place, words in told(firewall).items():
            if place[:2] == (table.family, table.name) and listed[place[3]] != words:
                wrong.append(listed[place[3]])
    assert not [one for one in wrong if one not in TOLD_OTHERWISE]


@pytest.mark.parametrize("kind", ["nft", "legacy"])
@pytest.mark.parametrize("name", IPTABLES)
def test_iptables_says_the_same(kind: str, name: str) -> None:
    sh(f"iptables-{kind}-restore < {RULESETS / name}")
    saved = [line for line in sh(f"iptables-{kind}-save").out.splitlines() if line.startswith("-A")]
    firewall = read_firewall()
    assert {table.backend for table in firewall.tables} == {f"iptables-{kind}"}
    assert sorted(told(firewall).values()) == sorted(saved)
    policies = {
        (table.name, chain.name): chain.policy for table in firewall.tables for chain in table.chains if chain.hook
    }
    current = ""
    for line in sh(f"iptables-{kind}-save").out.splitlines():
        if line.startswith("*"):
            current = line[1:]
        elif (found := re.match(r":(\w+) (ACCEPT|DROP)", line)) and (current, found[1]) in policies:
            assert policies[current, found[1]] == found[2].lower()


def test_ip6tables_of_both_kinds() -> None:
    lines = (
        "*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:side - [0:0]\n"
        "-A INPUT -s fd00::/8 ! -i eth+ -p tcp -m tcp --dport 22 -j ACCEPT\n"
        "-A INPUT -d fd00::5/128 -p ipv6-icmp -m icmp6 --icmpv6-type 135 -j ACCEPT\n"
        "-A INPUT -p udp -m multiport --sports 53,67:68 -g side\n"
        "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"
        "-A INPUT -m hl --hl-eq 255 -j ACCEPT\n"
        "-A side -j REJECT --reject-with icmp6-adm-prohibited\nCOMMIT\n"
        "*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n"
        "-A PREROUTING -p tcp -m tcp --dport 80 -j DNAT --to-destination [fd00::9]:8080\n"
        "-A POSTROUTING -s fd00::/8 ! -o theirs0 -j MASQUERADE\nCOMMIT\n"
    )
    for kind in ("nft", "legacy"):
        sh(f"ip6tables-{kind}-restore <<'E'\n{lines}E")
        found = [words for place, words in told(read_firewall()).items() if place[0] == "ip6"]
        assert sorted(found) == sorted(line for line in lines.splitlines() if line.startswith("-A")), kind
        sh("nft flush ruleset")


def test_little_of_it_is_strange() -> None:
    for name in NFT:
        sh(f"nft -f {RULESETS / name}")
    for name in IPTABLES:
        sh(f"iptables-nft-restore --noflush < {RULESETS / name}")
    rules = [rule for table in read_firewall().tables for chain in table.chains for rule in chain.rules]
    strange = [rule for rule in rules if any(odd(part) for part in rule.parts)]
    print(f"{len(strange)} of {len(rules)} rules have a part that there is no word for")
    assert len(rules) > 150
    assert len(strange) * 50 < len(rules), strange


def odd(part: object) -> bool:
    if isinstance(part, Xt):
        return any(odd(one) for one in part.does)
    return isinstance(part, Strange) and not part.harmless


def test_a_plan_is_what_is_read_once_it_is_applied() -> None:
    tables = [skeleton(), guard_table()]
    Nft().apply("add", tables)
    real, planned = read_firewall(), firewall_of(KernelState(tables))
    assert real.tracks == planned.tracks
    for one, two in zip(real.tables, planned.tables, strict=True):
        assert [one for one in one.sets if not one.anonymous] == list(two.sets)
        for chain, meant in zip(one.chains, two.chains, strict=True):
            assert [rule.parts for rule in chain.rules] == [rule.parts for rule in meant.rules], chain.name
            assert chain.replace(rules=(), handle=0) == meant.replace(rules=())
