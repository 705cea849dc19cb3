"""Other people's forward chains: which drop, and our one rule in each. Their own programs judge."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from lab import FreshHost, drop_forwarded, sh

from nsbridge.errors import KernelError, Unsupported
from nsbridge.kernel import foreign, programs
from nsbridge.kernel.nftnetlink import Nft
from nsbridge.state.things import ForeignAccept

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.netns

NATIVE = ForeignAccept("nft", "inet", "theirs", "forward")
KINDS = {
    "iptables-nft": (ForeignAccept("iptables-nft"), ForeignAccept("ip6tables-nft")),
    "iptables-legacy": (ForeignAccept("iptables-legacy"), ForeignAccept("ip6tables-legacy")),
    "nft": (NATIVE,),
}


@pytest.fixture
def nft(host: FreshHost, tmp_path, monkeypatch) -> Iterator[Nft]:
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "lock"))
    one = Nft()
    yield one
    one.close()


def listings() -> str:
    return "".join(
        "".join(line for line in sh(command).out.splitlines(True) if not line.startswith("#"))
        for command in ("nft list ruleset", "iptables-nft-save", "ip6tables-nft-save", "iptables-legacy-save")
    )


def load(rules: str) -> None:
    sh(["nft", rules.replace("; ", ";\n").replace("{ ", "{\n").replace("} }", "}\n}")])  # nft 1.0.6 wants lines


@pytest.mark.proves("S28", "S29", "row 61")
@pytest.mark.parametrize("kinds", [c for n in (1, 2, 3) for c in itertools.combinations(KINDS, n)], ids="+".join)
def test_our_rule_goes_in_and_out_and_nothing_else_changes(nft: Nft, kinds: tuple[str, ...]) -> None:
    for kind in kinds:
        drop_forwarded(kind)
        if kind != "nft":
            sh(f"{kind} -A FORWARD -i eth7 -j ACCEPT && {kind} -t nat -A POSTROUTING -o eth7 -j MASQUERADE")
    before = listings()
    wanted = tuple(thing for kind in kinds for thing in KINDS[kind])
    assert set(foreign.droppers(nft)) == set(wanted)
    assert foreign.accepts(nft) == ()
    for thing in wanted:
        assert not foreign.present(thing, nft)
        foreign.accept(thing, nft)
        foreign.accept(thing, nft)  # changes nothing the second time
        assert foreign.present(thing)
        assert foreign.present(thing, nft)
    assert set(foreign.droppers(nft)) == set(wanted)
    assert set(foreign.accepts(nft)) == set(wanted)
    for kind in kinds:
        if kind == "nft":
            rule = 'meta mark & 0x04000000 == 0x04000000 accept comment "nsbridge"'
            assert sh("nft list chain inet theirs forward").out.count(rule) == 1
        else:
            first, second = sh(f"{kind} -S FORWARD").out.splitlines()[1:]
            assert first == "-A FORWARD -m mark --mark 0x4000000/0x4000000 -m comment --comment nsbridge -j ACCEPT"
            assert second == "-A FORWARD -i eth7 -j ACCEPT"
    for thing in wanted:
        foreign.withdraw(thing, nft)
        foreign.withdraw(thing)
        assert not foreign.present(thing, nft)
    assert listings() == before


def test_chains_that_let_everything_pass_are_no_droppers(nft: Nft) -> None:
    load(
        "table inet a { chain f { type filter hook forward priority 0; policy accept; tcp dport 22 drop; } }\n"
        "table ip b { chain f { type filter hook input priority 0; policy drop; } }\n"
        "table ip6 c { chain f { type filter hook forward priority 5; accept; drop; } }\n"
        "table inet nsbridge { chain f { type filter hook forward priority 5; policy drop; } }\n"
    )
    sh("iptables-nft -A FORWARD -s 192.0.2.1 -j REJECT && iptables-legacy -A FORWARD -s 192.0.2.1 -j DROP")
    assert foreign.droppers(nft) == ()


@pytest.mark.proves("S29", "row 60")
@pytest.mark.parametrize(
    "last",
    ["reject with icmpx admin-prohibited", "counter drop", 'log prefix "no" counter reject'],
)
def test_a_chain_that_ends_by_refusing_everything_is_found_like_that_of_firewalld(nft: Nft, last: str) -> None:
    load(
        "table inet firewalld { chain filter_FORWARD { type filter hook forward priority 10; policy accept;"
        f" ct state established,related accept; iifname lo accept; {last}; }} }}"
    )
    assert foreign.droppers(nft) == (ForeignAccept("nft", "inet", "firewalld", "filter_FORWARD"),)


@pytest.mark.parametrize("kind", ["iptables-nft", "iptables-legacy"])
def test_an_iptables_chain_that_ends_by_refusing_everything_is_found(nft: Nft, kind: str) -> None:
    sh(f"{kind} -A FORWARD -i eth0 -j ACCEPT && {kind} -A FORWARD -j REJECT --reject-with icmp-host-prohibited")
    assert foreign.droppers(nft) == (ForeignAccept(kind),)


def test_a_native_chain_with_iptables_own_name_stays_a_native_one(nft: Nft) -> None:
    load("table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; ct state new accept; } }")
    before = listings()
    (found,) = foreign.droppers(nft)
    assert found == ForeignAccept("nft", "ip", "filter", "FORWARD")
    foreign.accept(found, nft)
    assert foreign.droppers(nft) == foreign.accepts(nft) == (found,)
    foreign.withdraw(found, nft)
    assert listings() == before


@pytest.mark.proves("S28")
def test_only_our_rule_is_taken_for_ours(nft: Nft) -> None:
    load(
        "table inet theirs { chain forward { type filter hook forward priority 0; policy drop;"
        ' tcp dport 22 accept comment "nsbridge"; meta mark 7 accept comment "mine";'
        ' meta mark 7 drop comment "nsbridge"; } }'
    )
    before = listings()
    assert not foreign.present(NATIVE, nft)
    foreign.withdraw(NATIVE, nft)
    assert listings() == before


def test_what_is_gone_is_withdrawn_and_cant_be_accepted_in(nft: Nft) -> None:
    for thing in (NATIVE, *KINDS["iptables-nft"], *KINDS["iptables-legacy"]):
        foreign.withdraw(thing, nft)
        assert not foreign.present(thing, nft)
    for thing in (NATIVE, ForeignAccept("iptables-legacy")):
        with pytest.raises(KernelError):
            foreign.accept(thing, nft)
    assert listings() == ""
    # Nothing of iptables' older kind was loaded by asking.
    with open("/proc/thread-self/net/ip_tables_names", encoding="ascii") as names:
        assert "filter" not in names.read()


def test_a_missing_program_says_what_to_install(nft: Nft, monkeypatch) -> None:
    drop_forwarded("iptables-nft")
    monkeypatch.setattr(programs, "find", lambda name: None)
    with pytest.raises(Unsupported) as caught:
        foreign.accept(ForeignAccept("ip6tables-nft"), nft)
    assert caught.value.fix == "install the package iptables"
    assert "ip6tables-nft" in caught.value.message


def test_a_program_is_found_where_a_services_path_doesnt_look(nft: Nft, monkeypatch) -> None:
    drop_forwarded("iptables-nft")
    monkeypatch.setenv("PATH", "/nowhere")
    foreign.accept(ForeignAccept("iptables-nft"), nft)
    assert foreign.present(ForeignAccept("iptables-nft"), nft)
