"""nf_tables messages without a kernel: what is packed can be unpacked, and two messages byte for byte."""

from __future__ import annotations

from errno import EINVAL
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from rulesets import PLACE, SKELETON, elements, tables

from nsbridge.errors import KernelError
from nsbridge.firewall.expressions import Accept, Match, Opaque
from nsbridge.firewall.ruleset import Element, Rule
from nsbridge.kernel import nftdecode, nftelements, nftencode, nftmessage
from nsbridge.kernel import nftschema as nf
from nsbridge.kernel.netlink import CREATE, EXCL, attr, attribute_list, attributes, be32, nested, text

SETS = {one.name: one for one in SKELETON.sets}


def read_back(rule: Rule) -> Rule:
    message = nftencode.add_rule("inet", "nsbridge", "c", rule, CREATE)
    chain, found = nftdecode.rule_of(message[16:], SETS)
    assert chain == "c"
    return found


@given(tables())
def test_rules_are_read_back(table) -> None:
    for chain in (*SKELETON.chains, *table.chains):
        for rule in chain.rules:
            assert read_back(rule) == rule


def test_sets_and_chains_are_read_back() -> None:
    sets = [nftmessage.set_of(message[16:]) for message in nftencode.add_sets(SKELETON, SKELETON.sets)]
    assert tuple(sets) == SKELETON.sets
    assert [one.why for one in sets] == [one.why for one in SKELETON.sets]
    count = len(SKELETON.chains)
    for message, chain in zip(nftencode.add_chains(SKELETON)[:count], SKELETON.chains, strict=True):
        assert nftdecode.chain_of(message[16:]) == ("nsbridge", chain.replace(rules=()), False)


@given(elements())
def test_elements_are_read_back(drawn: list[Element]) -> None:
    for name, one in SETS.items():
        mine = [element for element in drawn if element.set == name]
        messages = nftelements.messages(nf.NEWSETELEM, 0, PLACE, one, mine)
        found = nftelements.read(PLACE, one, [message[16:] for message, _ in messages])
        assert set(found) == set(mine)
        assert [element for _, part in messages for element in part] == mine


@given(elements())
def test_an_element_alone_is_packed_as_among_others(drawn: list[Element]) -> None:
    for name, one in SETS.items():
        mine = [element for element in drawn if element.set == name]
        together = b"".join(items for items, _ in nftelements.packed(one, mine, data=True))
        assert b"".join(nftelements.packed(one, [each], data=True)[0][0] for each in mine) == together


@pytest.mark.parametrize(
    ("key", "data"),
    [
        (("tcp", 65536), (ip_address("10.0.0.2"), 80)),
        (("tcp", 80), (ip_address("fd00::2"), 80)),
        (("tcp", 80), (ip_address("10.0.0.2"),)),
        (("quic", 80), (ip_address("10.0.0.2"), 80)),
    ],
)
def test_an_element_that_does_not_fit_its_set_is_named_alone_or_among_others(key: tuple, data: tuple) -> None:
    good = Element(PLACE, "publish4", ("tcp", 81), (ip_address("10.0.0.2"), 80))
    bad = Element(PLACE, "publish4", key, data)
    for mine in ([bad], [good, bad]):
        with pytest.raises(KernelError, match="doesn't fit") as caught:
            nftelements.packed(SETS["publish4"], mine, data=True)
        assert caught.value.thing == bad
        assert caught.value.errno == EINVAL


def test_many_elements_are_split_into_messages_that_fit() -> None:
    one = SETS["publish4"]
    many = [Element(PLACE, "publish4", ("tcp", port), (ip_address("10.0.0.2"), port)) for port in range(20_000)]
    messages = nftelements.messages(nf.NEWSETELEM, 0, PLACE, one, many)
    assert len(messages) == 13
    assert all(len(message) < 65_536 for message, _ in messages)
    assert nftelements.read(PLACE, one, [message[16:] for message, _ in messages]) == many


def test_a_map_element_byte_for_byte() -> None:
    """The message that nft 1.0.6 sends for it (nft --debug=mnl), but for the nested flag, which it sets."""
    element = Element(("inet", "t"), "p6", (ip_address("::1"), "tcp", 80), (ip_address("::2"), 90))
    one = SETS["bound6"].replace(name="p6")
    ((message, _),) = nftelements.messages(nf.NEWSETELEM, CREATE | EXCL, element.table, one, [element])
    body = message[16:]
    assert body[:4].hex() == "01000000"
    found = attributes(body, 4)
    assert (found[1], found[2]) == (b"t\0", b"p6\0")
    ((kind, item),) = attribute_list(found[3])
    parts = dict(attribute_list(item))
    assert kind == 1
    assert attributes(parts[1])[1].hex() == "00" * 15 + "01" + "06000000" + "00500000"
    assert attributes(parts[2])[1].hex() == "00" * 15 + "02" + "005a0000"


@pytest.mark.parametrize(
    ("text_", "first", "last"),
    [
        ("10.0.0.0/24", "0a000000", "0a000100"),
        ("255.0.0.0/8", "ff000000", None),
        ("10.0.0.1/32", "0a000001", "0a000002"),
    ],
)
def test_a_network_is_a_start_and_the_address_behind_it(text_: str, first: str, last: str | None) -> None:
    element = Element(PLACE, "subnets4", (ip_network(text_),))
    ((items, _),) = nftelements.packed(SETS["subnets4"], [element], data=False)
    marks = [attributes(data) for _, data in attribute_list(items)]
    assert [attributes(mark[1])[1].hex() for mark in marks] == [first, *([last] if last else [])]
    assert [3 in mark for mark in marks] == [False, True][: len(marks)]


def test_what_has_no_word_is_opaque() -> None:
    strange = [
        nested(1, text(1, "quota"), nested(2, be32(1, 7))),
        nested(1, text(1, "meta"), nested(2, be32(1, 1), be32(2, 10))),  # skuid
        nested(1, text(1, "cmp"), nested(2, be32(1, 1), be32(2, 0), nested(3, attr(1, bytes(4))))),
        *nftencode.expressions(Rule((Match("th dport", 80), Accept())), "inet"),
    ]
    body = nftmessage.header("inet") + text(1, "t") + text(2, "c") + nested(4, *strange)
    _, rule = nftdecode.rule_of(body, SETS)
    assert rule.expressions == (Opaque("quota"), Opaque("meta"), Opaque("cmp"), Match("th dport", 80), Accept())
    with pytest.raises(KernelError, match="can't be written"):
        read_back(rule)


def test_comments_are_cut_between_characters_and_lose_double_quotes() -> None:
    rule = read_back(Rule((Accept(),), why='say "hi" ' + "ä" * 100))
    assert rule.why == "say 'hi' " + "ä" * 59
    assert len(rule.why.encode()) == 127
