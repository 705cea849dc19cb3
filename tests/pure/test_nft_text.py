"""Rules as nft(8) prints them; that nft agrees is tested where there is a kernel."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from rulesets import PLACE, SKELETON

from nsbridge.firewall.expressions import Accept, Counter, Drop, Jump, Match
from nsbridge.firewall.nftables import element_text, render, rule_text
from nsbridge.firewall.ruleset import Chain, Element, Rule, Table


@pytest.mark.parametrize(
    ("expressions", "text"),
    [
        ((Match("iifname", "lo", negate=True), Drop()), 'iifname != "lo" drop'),
        ((Match("l4proto", "tcp"), Match("th dport", 80), Counter(), Accept()), "tcp dport 80 counter accept"),
        ((Match("l4proto", "tcp", negate=True), Match("th dport", 80)), "meta l4proto != tcp th dport 80"),
        ((Match("ct state", ("established", "related")), Jump("x")), "ct state established,related jump x"),
        ((Match("ct status", ("dnat",), negate=True), Accept()), "ct status ! dnat accept"),
        ((Match("mark", (0x4000000, 0)), Accept()), "meta mark & 0x04000000 == 0x00000000 accept"),
        ((Match("ip6 daddr", ip_network("fd00::/64")), Accept()), "ip6 daddr fd00::/64 accept"),
    ],
)
def test_rules_read_as_nft_writes_them(expressions, text: str) -> None:
    assert rule_text(Rule(expressions), stateless=True) == text


@pytest.mark.parametrize(
    ("hook", "priority", "text"),
    [
        ("forward", -10, "filter - 10"), ("forward", 5, "filter + 5"), ("prerouting", -300, "raw"),
        ("prerouting", -100, "dstnat"), ("output", -100, "-100"), ("postrouting", 100, "srcnat"),
        ("forward", 100, "100"), ("input", -139, "-139"),
    ],
)  # fmt: skip
def test_priorities_have_the_names_their_hook_knows(hook: str, priority: int, text: str) -> None:
    table = Table("inet", "t", (), (Chain("c", (), "filter", hook, priority),))
    assert f"type filter hook {hook} priority {text}; policy accept;" in render(table)


def test_elements() -> None:
    one = SKELETON.set("bound4")
    element = Element(PLACE, "bound4", (ip_address("127.0.0.1"), "tcp", 81), (ip_address("10.0.0.2"), 80))
    assert element_text(one, element) == "127.0.0.1 . tcp . 81 : 10.0.0.2 . 80"
    home = Element(PLACE, "home4", ("br0", ip_network("10.0.0.1/32")))
    assert element_text(SKELETON.set("home4"), home) == '"br0" . 10.0.0.1'


def test_an_empty_table() -> None:
    assert render(Table("inet", "t", (), ())) == "table inet t {\n}\n"
