"""The evaluator beside the kernel: random rules, random packets, and nftrace tells which rules each really met."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from crossing import TRACER, Crossing, first, foreseen, rules_met, rules_told
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lab import HERE as DIRECTORY
from lab import sh

from nsbridge.kernel.fwread import read_firewall

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab import FreshHost

    from nsbridge.firewall.packet import Packet
    from nsbridge.firewall.seen import Firewall

pytestmark = pytest.mark.netns

RULESETS = DIRECTORY / "rulesets"

DRAWN = int(os.environ.get("NSBRIDGE_FUZZ_EVALUATE", "50"))
"""How many rulesets are drawn; `NSBRIDGE_FUZZ_EVALUATE=2000` for a longer look."""

MATCHES = (
    "", "", 'iifname "l0"', 'iifname "l*"', 'iifname != { "r0", "lo" }', 'oifname "r0"', 'iif "l0"',
    "meta iifkind veth", "ip saddr 10.1.0.0/24", "ip daddr 10.2.0.2", "ip daddr != 10.2.0.0/24",
    "ip saddr { 10.1.0.2, 10.1.0.9 }", "ip daddr @nets", "ip daddr != @nets", "ip6 daddr fd02::2",
    "ip6 saddr fd01::/64", "ip6 daddr @nets6", "meta nfproto ipv4", "meta nfproto ipv6",
    "meta l4proto { tcp, udp }", "meta l4proto != tcp", "ip protocol udp", "tcp dport 80", "udp dport 53",
    "meta l4proto { tcp, udp } th dport 50-90", "tcp dport { 22, 80, 443 }", "tcp dport != { 22, 100-200 }",
    "tcp sport >= 30000", "tcp flags syn", "tcp flags & (fin | syn | rst | ack) == syn", "tcp flags != syn",
    "icmp type echo-request", "icmpv6 type { echo-request, echo-reply }", "ct state new",
    "ct state established,related", "ct state invalid", "ct state != new", "ct state { new, untracked }",
    "ct status dnat", "ct status ! snat", "ct mark 1", "ct mark != 1", "ct original ip daddr 10.1.0.1",
    "ct direction original", "ct original proto-dst 80", "meta mark 1", "meta mark & 3 == 1", "meta mark != 2",
    "meta mark >= 2", "fib daddr type local", "fib daddr type != local", "fib saddr . iif oif exists",
    "fib saddr . iif oif missing", "fib daddr . iif type local", "ip ttl < 64", "ip ttl 60-70", "ip6 hoplimit 64",
    "ip length 20-60", "meta length > 40", "meta pkttype host", "iifgroup 0", "ether saddr 02:00:00:00:00:02",
    "ip saddr . tcp dport @pairs", "ip daddr . tcp dport @spans", "meta l4proto . th dport @services",
    "tcp dport @gone", "meta l4proto tcp @th,16,16 80", "ip daddr & 255.0.0.3 == 10.0.0.2",
    "ip saddr . ip daddr { 10.1.0.2 . 10.2.0.2 }", "ct state . meta mark { new . 1, new . 0 }",
    "limit rate 1000/second", "meta skuid 0", "socket transparent 1", "meta ibrname br0", "rt classid 7",
)  # fmt: skip
ENDS = (
    "accept", "drop", "counter", "meta mark set 1", "meta mark set meta mark | 2", "meta mark set ct mark",
    "ct mark set 1", "ct mark set meta mark", "jump side", "jump other", "goto side", "return", "reject",
    "reject with icmpx admin-prohibited", "tcp dport vmap @gates", "meta mark vmap { 1 : drop, 2 : jump other }",
    "tcp dport vmap { 1-100 : jump side, 443 : return }", "update @gone { tcp dport }",
    "meta mark set ip ttl map { 64 : 3 }", "ip ttl set 63", "meta mark set 1 tcp dport 80 drop",
    "update @gone { tcp dport } ct state established accept", "delete @gone { tcp dport }",
)  # fmt: skip
NAT = {
    "prerouting": (
        "dnat ip to 10.2.0.2:81", "dnat ip to 10.1.0.1", "dnat ip6 to [fd02::2]:81", "redirect to :82",
        "dnat ip to tcp dport map @servers", "dnat ip to ip daddr . tcp dport map { 10.2.0.2 . 80 : 10.2.0.9 . 8080 }",
        "dnat ip prefix to 10.2.0.0/28", "accept", "drop", "return",
    ),
    "postrouting": (
        "masquerade", "snat ip to 10.2.0.9", "masquerade to :1024-65535", "snat ip6 to fd02::9", "accept", "return",
    ),
    "input": ("snat ip to 10.1.0.77", "accept"),
}  # fmt: skip
HEAD = """
set nets { type ipv4_addr; flags interval; elements = { 10.2.0.0/25, 10.9.0.0/16 }; }
set nets6 { type ipv6_addr; flags interval; elements = { fd02::/64 }; }
set pairs { type ipv4_addr . inet_service; elements = { 10.1.0.2 . 80, 10.1.0.2 . 53 }; }
set spans { type ipv4_addr . inet_service; flags interval; elements = { 10.2.0.0/24 . 50-100, 10.1.0.1 . 443 }; }
set services { type inet_proto . inet_service; elements = { tcp . 443, udp . 53 }; }
set gone { type inet_service; size 100; flags dynamic, timeout; timeout 1h; }
map gates { type inet_service : verdict; elements = { 80 : jump other, 443 : drop, 22 : accept }; }
map servers { type inet_service : ipv4_addr . inet_service; elements = { 80 : 10.2.0.2 . 8080, 443 : 10.1.0.1 . 22 }; }
chain other { }
chain side { }
""".strip().replace("\n", "; ")
BASES = (
    ("filter", "prerouting", -300), ("filter", "prerouting", -150), ("filter", "prerouting", 0),
    ("nat", "prerouting", -100), ("nat", "prerouting", -90), ("filter", "input", 0), ("nat", "input", 100),
    ("filter", "forward", 0), ("filter", "forward", 10), ("filter", "postrouting", -150), ("nat", "postrouting", 100),
    ("filter", "postrouting", 200),
)  # fmt: skip


@st.composite
def rules(draw: st.DrawFn, ends: tuple[str, ...] = ENDS, most: int = 4) -> str:
    lines = []
    for _ in range(draw(st.integers(1, most))):
        matches = draw(st.lists(st.sampled_from(MATCHES), max_size=2))
        lines.append(" ".join([*matches, draw(st.sampled_from(ends))]))
    return "; ".join([*lines, ""])


@st.composite
def tables(draw: st.DrawFn) -> list[str]:
    """One or two tables, as commands of which each may be refused alone: not every match fits every chain."""
    found = []
    plain = tuple(one for one in ENDS if not one.startswith(("jump", "goto", "tcp dport vmap", "meta mark vmap")))
    for number in range(draw(st.integers(1, 2))):
        name = f"t{number}"
        lines = [f"table inet {name} {{ {HEAD}; }}"]
        lines += [f"add rule inet {name} other {rule}" for rule in _lines(draw(rules(plain, 2)))]
        sides = tuple(one for one in ENDS if "side" not in one and one != "tcp dport vmap @gates")
        lines += [f"add rule inet {name} side {rule}" for rule in _lines(draw(rules(sides, 3)))]
        for kind, hook, priority in draw(st.lists(st.sampled_from(BASES), min_size=1, max_size=5, unique=True)):
            chain = f"c_{kind}_{hook}_{priority + 1000}"
            policy = draw(st.sampled_from(("accept", "accept", "accept", "drop")))
            lines.append(
                f"add chain inet {name} {chain} {{ type {kind} hook {hook} priority {priority}; policy {policy}; }}"
            )
            ends = NAT[hook] if kind == "nat" else ENDS
            lines += [f"add rule inet {name} {chain} {rule}" for rule in _lines(draw(rules(ends)))]
        found.append(lines)
    return [line for lines in found for line in lines]


def _lines(text: str) -> list[str]:
    return [one for one in text.split("; ") if one.strip()]


packets = st.builds(
    first,
    family=st.just("ip"),
    proto=st.sampled_from(("tcp", "tcp", "udp", "icmp")),
    daddr=st.sampled_from(("10.2.0.2", "10.1.0.1", "10.2.0.1", "10.9.0.7", "10.2.0.200")).map(lambda one: _ip(one)),
    dport=st.sampled_from((22, 53, 80, 81, 443, 1000)),
    flags=st.sampled_from((("syn",), ("syn",), ("ack",))),
    ttl=st.sampled_from((64, 10)),
) | st.builds(
    first,
    family=st.just("ip6"),
    proto=st.sampled_from(("tcp", "udp", "icmpv6")),
    daddr=st.sampled_from(("fd02::2", "fd01::1", "fd02::77")).map(lambda one: _ip(one)),
    dport=st.sampled_from((22, 80, 443)),
)


def _ip(text: str) -> object:
    from ipaddress import ip_address

    return ip_address(text)


@pytest.fixture
def crossing(host: FreshHost) -> Iterator[Crossing]:
    built = Crossing(host)
    yield built
    built.close()


class Tally:
    """How many answers were open, of how many."""

    packets = open = met = 0


def load(lines: list[str]) -> list[str]:
    """Load line by line in one run; lines that this kernel refuses are left out."""
    from subprocess import run

    sh("nft flush ruleset; nft -f - <<'E'\n" + TRACER + "\nE")
    kept = lines
    for _ in range(12):
        done = run(["nft", "-f", "-"], input="\n".join(kept), capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return kept
        wrong = {int(line.split(":")[1]) for line in done.stderr.splitlines() if line.startswith("/dev/stdin:")}
        kept = [line for number, line in enumerate(kept, 1) if number not in wrong]
    raise AssertionError(done.stderr)


def ask(crossing: Crossing, packet: Packet) -> None:
    """Foresee, send, compare: rules met in order, fate, and what arrives."""
    outcomes = foreseen(read_firewall(legacy=False), packet)
    events, arrived = crossing.send(packet)
    Tally.packets += 1
    Tally.met += len([one for one in events if one.kind == "rule"])
    if any(one.opaque for one in outcomes):
        Tally.open += 1
        return
    assert rules_met(outcomes) == rules_told(events)
    last = outcomes[-1]
    goes_right = last.verdict == "accept" and len(outcomes) == 3 and str(last.packet.daddr) in ("10.2.0.2", "fd02::2")
    if goes_right and last.packet.oif == "r0":
        assert arrived
        after = last.packet
        saddr, daddr = (arrived[8:24], arrived[24:40]) if packet.family == "ip6" else (arrived[12:16], arrived[16:20])
        assert (saddr, daddr) == (after.saddr.packed, after.daddr.packed)
        if packet.proto in ("tcp", "udp"):
            begin = 40 if packet.family == "ip6" else 20
            assert int.from_bytes(arrived[begin + 2 : begin + 4], "big") == after.dport
    elif last.verdict != "accept":
        assert not arrived


@settings(
    max_examples=DRAWN,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(tables(), st.lists(packets, min_size=3, max_size=6))
def _drawn(crossing: Crossing, lines: list[str], sent: list[Packet]) -> None:
    load(lines)
    for packet in sent:
        ask(crossing, packet)


def test_drawn_rules_are_met_as_foreseen(crossing: Crossing) -> None:
    Tally.packets = Tally.open = Tally.met = 0
    _drawn(crossing)
    print(f"{Tally.packets} packets met {Tally.met} rules; {Tally.open} answers were open")
    assert Tally.met * 2 > Tally.packets, "the rules are drawn so that none applies"
    assert Tally.open * 20 < Tally.packets, "rules are drawn from all that there is, realms and owners too"


def test_what_rules_before_conntrack_say_of_the_connection_is_lost(crossing: Crossing) -> None:
    """There is no connection yet that could have a mark; a zone is for that moment, and later nobody changes it."""
    for zone in ("", "ct zone set 5"):
        rules = [
            "table inet t",
            "add chain inet t early { type filter hook prerouting priority -300; }",
            f"add rule inet t early ct mark set 1 {zone}",
            "add rule inet t early ct mark 1 drop",
            "add chain inet t late { type filter hook prerouting priority -150; }",
            "add rule inet t late meta mark set ct mark",
            "add rule inet t late meta mark 1 drop",
            "add rule inet t late ct zone set 9",
            "add rule inet t late ct zone 9 drop",
            "add rule inet t late ct zone 5 counter",
            "add rule inet t late ct mark set 2",
            "add rule inet t late ct mark 2 drop",
        ]
        assert len(load(rules)) > len(rules) - 4
        for packet in (first(dport=80), first(family="ip6", proto="udp", dport=80)):
            ask(crossing, packet)


LIKE_THEIRS = (
    "docker.iptables", "docker.nft", "ufw.iptables", "ufw_full.iptables", "firewalld.nft", "firewalld_full.nft",
    "libvirt.nft", "libvirt.iptables", "kube.iptables", "strict.iptables", "ufw_full.iptables docker.iptables",
    "firewalld_full.nft docker.nft", "firewalld_full.nft libvirt.iptables", "many.nft", "many.iptables",
)  # fmt: skip
"""Rulesets as other programs lay them out, and a person's own."""

HERE = {"theirs0": "r0", "theirs1": "r1", "up0": "l0", "172.17.0.0/24": "10.2.0.0/24", "172.17.0.": "10.2.0.",
        "--limit 3/min --limit-burst 10": "--limit 1000/sec --limit-burst 1000",
        "limit rate 5/second burst 5 packets": "limit rate 1000/second burst 1000 packets"}  # fmt: skip


def laid_out(names: str, legacy: bool = False) -> None:
    """Load them, their bridge being our right and their uplink our left.

    Budgets are raised: the evaluator takes them as unspent, and a quick machine sends the whole matrix in no time.
    """
    sh("nft flush ruleset; nft -f - <<'E'\n" + TRACER + "\nE")
    for name in names.split():
        text = (RULESETS / name).read_text()
        for theirs, ours in HERE.items():
            text = text.replace(theirs, ours)
        program = "nft -f -" if name.endswith(".nft") else f"iptables-{'legacy' if legacy else 'nft'}-restore --noflush"
        sh(f"{program} <<'E'\n{text}\nE")


def matrix() -> list[Packet]:
    """Packets of all kinds: forwarded and for the host, IPv4 and IPv6."""
    found = []
    for daddr in ("10.2.0.2", "10.2.0.3", "10.1.0.1", "10.96.0.10", "10.96.0.20", "10.96.0.30"):
        for proto, dport in (("tcp", 80), ("tcp", 7000), ("tcp", 22), ("tcp", 443), ("udp", 53), ("icmp", 0)):
            found.append(first(daddr=_ip(daddr), proto=proto, dport=dport))
    found += [first(daddr=_ip("10.2.0.2"), dport=80, flags=("ack",)), first(daddr=_ip("10.1.0.1"), dport=7002)]
    for daddr in ("fd02::2", "fd01::1"):
        found += [first(family="ip6", daddr=_ip(daddr), proto=proto, dport=22) for proto in ("tcp", "udp", "icmpv6")]
    return found


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "lock"))


def test_rules_as_others_lay_them_out(crossing: Crossing, lock: None) -> None:
    total = opened = 0
    for names in LIKE_THEIRS:
        laid_out(names)
        Tally.packets = Tally.open = Tally.met = 0
        for packet in matrix():
            try:
                ask(crossing, packet)
            except AssertionError as err:
                raise AssertionError(f"{names}: {packet.proto} to {packet.to}: {err}") from err
        if not names.startswith("many"):
            total, opened = total + Tally.packets, opened + Tally.open
    print(f"{opened} of {total} answers were open")
    assert opened * 50 < total


def test_iptables_legacy_counts_what_was_foreseen(crossing: Crossing, lock: None) -> None:
    """Nothing traces legacy rules, but each counts the packets that it applied to."""
    laid_out("ufw_full.iptables docker.iptables kube.iptables", legacy=True)
    for packet in matrix():
        before = read_firewall()
        outcomes = foreseen(before, packet)
        crossing.send(packet)
        wanted = sorted(
            f"{met.table} {met.chain} {met.index}" for one in outcomes for met in one.met if met.backend != "nft"
        )
        counts = _counts(before)
        met = sorted(place for place, number in _counts(read_firewall()).items() if number != counts[place])
        assert [one for one in wanted if not one.endswith("-1")] == met


def _counts(firewall: Firewall) -> dict[str, int]:
    return {
        f"{table.name} {chain.name} {rule.index}": rule.packets or 0
        for table in firewall.tables
        for chain in table.chains
        for rule in chain.rules
        if table.backend == "iptables-legacy" and table.family == "ip"
    }
