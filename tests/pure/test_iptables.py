"""Laws of the table in iptables' words: what is written can be read back, and fits what iptables takes."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rulesets import PLACE, SKELETON, elements

from nsbridge.desired.ports import Member, SharedPort, turns_things
from nsbridge.firewall import iptables as words
from nsbridge.firewall import iptables_read as text
from nsbridge.firewall.expressions import Accept, InSet, Jump, Match, Opaque
from nsbridge.firewall.iptables import KIND, PREFIX, Lowered
from nsbridge.firewall.iptables_lower import lower
from nsbridge.firewall.iptables_told import commands, element_commands
from nsbridge.firewall.ruleset import Chain, Element, Rule, Set, Span, Table

pytestmark = pytest.mark.proves("row 59")

LOWERED = tuple(lower(SKELETON, version) for version in (4, 6))


def saved(one: Lowered, held: list[Element]) -> str:
    """What iptables-save would print."""
    rules: dict[tuple[str, str], list[str]] = {(chain.table, chain.name): [] for chain in one.chains}
    groups: dict[tuple[str, str], list[Element]] = {}
    for element in held:
        if text.is_turn(element.set):
            groups.setdefault(text.place_of(element), []).append(element)
        else:
            for rule in words.placed(one, element):
                rules[rule.table, rule.chain].append(text.line(rule.words))
    for group in groups.values():
        for rule in words.turns(one, group):
            rules[rule.table, rule.chain].append(text.line(rule.words))
    for chain in one.chains:
        rules[chain.table, chain.name] += [text.line(fixed.words) for fixed in chain.fixed]
    for table, builtin, call in text.hooks(one):
        rules.setdefault((table, builtin), []).append(text.line(call))
    rows = []
    for table in dict.fromkeys(place[0] for place in rules):
        mine = {name: lines for (where, name), lines in rules.items() if where == table}
        rows += [f"*{table}", *[f":{name} - [0:0]" for name in mine]]
        rows += [f"-A {name} {line}" for name, lines in mine.items() for line in lines]
        rows.append("COMMIT")
    return "\n".join(rows)


@settings(deadline=None, max_examples=40)
@given(elements())
def test_what_is_written_is_read_back(held: list[Element]) -> None:
    there = {one.version: text.parse(saved(one, held)) for one in LOWERED}
    assert all(text.is_there(one, there[one.version]) for one in LOWERED)
    expected = {one for one in held if text.is_turn(one.set) or any(words.placed(each, one) for each in LOWERED)}
    assert set(text.read(SKELETON, there)) == expected


@settings(deadline=None, max_examples=20)
@given(st.data())
def test_a_missing_rule_is_noticed(data: st.DataObject) -> None:
    one = data.draw(st.sampled_from(LOWERED))
    rows = saved(one, []).splitlines()
    places = [place for place, row in enumerate(rows) if row.startswith(("-A", ":NSB"))]
    gone = data.draw(st.sampled_from(places))
    name = rows[gone].split()[0].lstrip(":") if rows[gone].startswith(":") else ""
    left = [row for place, row in enumerate(rows) if place != gone and not (name and row.startswith(f"-A {name} "))]
    assert not text.is_there(one, text.parse("\n".join(left)))
    assert text.is_there(one, text.parse("\n".join(rows)))


def test_every_set_has_its_place_in_some_chain() -> None:
    used = {chain.slot.set.name for one in LOWERED for chain in one.chains if chain.slot}
    assert used == {one.name for one in SKELETON.sets} | {KIND.name}


def test_names_and_comments_fit() -> None:
    for one in LOWERED:
        assert len({chain.name for chain in one.chains}) == len(one.chains)
        for chain in one.chains:
            assert chain.name.startswith(PREFIX)
            assert len(chain.name) <= 28
            assert all(len(fixed.why.encode()) <= words.COMMENT for fixed in chain.fixed)
        longest = Element(PLACE, "out6_1", (ip_network("ffff:" * 7 + "fff0/124"),) * 2 + ("icmpv6", Span(10000, 65535)),
                          ("goto refuse_log",))  # fmt: skip
        for rule in words.placed(one, longest):
            assert len(rule.comment.encode()) <= words.COMMENT
            assert text.held(SKELETON, [text.Found(6, "mangle", rule.chain, text.SavedRule("", rule.comment))]) == [
                longest
            ]


def test_no_way_through_our_chains_is_longer_than_nf_tables_follows() -> None:
    """Sixteen in a row, gotos included (NFT_JUMP_STACK_SIZE), of which the built-in chain is one."""
    for one in LOWERED:
        leads: dict[str, set[str]] = {}
        for chain in one.chains:
            targets = [fixed.target for fixed in chain.fixed] + ([chain.slot.target] if chain.slot else [])
            leads[chain.name] = {target[1] for target in targets if target and target[1].startswith(PREFIX)}
            if chain.slot is not None and chain.slot.data == "verdict":
                leads[chain.name] |= {f"{PREFIX}{verdict}" for verdict in ("allow_log", "deny_log", "refuse_log")}

        def depth(name: str, leads: dict[str, set[str]] = leads) -> int:
            return 1 + max(map(depth, leads[name]), default=0)

        assert max(depth(hook.chain) for hook in one.hooks) < 15


@pytest.mark.parametrize("count", [1, 2, 3, 7, 60])
def test_turns_are_dealt_evenly(count: int) -> None:
    """The first rule takes one of n connections, the next one of the n-1 that are left, the last what remains."""
    members = tuple(Member("web", f"e{number}", 80, (ip_address(f"10.0.0.{number + 2}"),)) for number in range(count))
    dealt = turns_things(SharedPort("tcp", 8080, members=members))
    (there, other) = (words.turns(one, dealt) for one in LOWERED)
    assert other == []
    inside = [rule for rule in there if "publish_in" in rule.chain]
    nth = [rule.words[rule.words.index("--every") + 1] if "--every" in rule.words else "1" for rule in inside]
    shares, left = [], 1.0
    for every in map(int, nth):
        shares.append(left / every)
        left -= shares[-1]
    assert left == pytest.approx(0)
    at = {rule.words[-1]: 0.0 for rule in inside}
    for rule, share in zip(inside, shares, strict=True):
        at[rule.words[-1]] += share
    assert len(at) == count
    assert max(at.values()) - min(at.values()) <= 1 / 59


def test_a_turn_that_nobody_takes_goes_on() -> None:
    (one,) = turns_things(SharedPort("tcp", 80, members=(Member("w", "e", 80, (ip_address("10.0.0.2"),)),)))[:1]
    rules = [rule for rule in words.turns(LOWERED[0], [one]) if "publish_in" in rule.chain]
    assert [rule.words[-2:] for rule in rules] == [
        ("--to-destination", "10.0.0.2:80"),
        *[("-j", "RETURN")] * 59,
    ]


def test_whats_beyond_iptables_is_refused() -> None:
    base = Chain("guard", (Rule((Match("turn", 3), Accept())),), "filter", "prerouting", -300)
    with pytest.raises(ValueError, match="no words"):
        lower(Table(*PLACE, (), (base,)), 4)
    with pytest.raises(ValueError, match="no words"):
        lower(Table(*PLACE, (), (base.replace(rules=(Rule((Opaque("x"),)),)),)), 4)


def test_a_chain_that_is_somebody_elses_is_called() -> None:
    base = Chain(
        "forwarding", (Rule((Jump("admin"),)), Rule((InSet(("iifname",), "s"), Accept()))), "filter", "forward"
    )
    one = lower(Table(*PLACE, (Set("s", ("ifname",)),), (Chain("admin", ()), base)), 4)
    first, admin = one.chains[:2]
    assert (first.name, admin.name, admin.fixed) == ("NSB-forwarding", "NSB-admin", ())
    assert [fixed.target for fixed in first.fixed] == [("-j", "NSB-admin"), ("-g", "NSB-forwarding-2")]


def test_it_can_be_told_as_commands() -> None:
    told = commands(SKELETON)
    assert told[0][0][:4] == ("iptables", "-w", "-t", "raw")
    assert {argv[0] for argv, _ in told} == {"iptables", "ip6tables"}
    made = [argv[5] for argv, _ in told if argv[4] == "-N" and argv[0] == "iptables"]
    assert made == list(dict.fromkeys(made))
    for place, (argv, _) in enumerate(told):  # a chain is there before a rule leads to it
        if argv[4] in ("-A", "-I") and argv[-1].startswith(PREFIX):
            assert any(one[0] == argv[0] and one[4:6] == ("-N", argv[-1]) for one, _ in told[:place])
    port = Element(PLACE, "publish4", ("tcp", 8080), (ip_address("10.0.0.2"), 80), why="web's port")
    (inside, outside) = element_commands(SKELETON, [port])
    assert inside == (
        ("iptables", "-w", "-t", "nat", "-I", "NSB-publish_in-4", "-p", "tcp", "-m", "tcp", "--dport", "8080", "-m",
         "comment", "--comment", "[publish4] tcp 8080 -> 10.0.0.2 80; ports published on every address", "-j", "DNAT",
         "--to-destination", "10.0.0.2:80"),
        "web's port",
    )  # fmt: skip
    assert outside[0][5] == "NSB-publish_out-4"
