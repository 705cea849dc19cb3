"""Short chains of iptables do with every packet what long ones do: both are walked, with elements drawn at random."""

from __future__ import annotations

from copy import copy
from ipaddress import ip_address, ip_network
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rulesets import PLACE, SKELETON

from nsbridge.firewall.iptables_lower import lower
from nsbridge.firewall.iptables_short import _lines, short
from nsbridge.firewall.ruleset import Element

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nsbridge.firewall.iptables import Words
    from nsbridge.firewall.iptables_short import Line

pytestmark = pytest.mark.proves("row 59")


HOSTS = {
    4: [ip_address(one) for one in ("10.1.0.2", "10.2.0.2", "192.0.2.1", "127.0.0.1")],
    6: [ip_address(one) for one in ("fd00:1::2", "fd00:2::2", "2001:db8::1", "::1")],
}
LINKS = ["b1", "b2", "eth0", "lo"]
NETS = {
    4: [ip_network("10.1.0.0/24"), ip_network("10.2.0.0/24")],
    6: [ip_network("fd00:1::/64"), ip_network("fd00:2::/64")],
}
PARTS: dict[str, Sequence[Any]] = {
    "ifname": LINKS[:3],
    "ipv4_addr": HOSTS[4],
    "ipv6_addr": HOSTS[6],
    "inet_proto": ("tcp", "udp"),
    "inet_service": (80, 8080),
    "nf_proto": ("ipv4", "ipv6"),
    "turn": (0, 1, 2),
    "verdict": ("goto allow", "goto deny", "goto refuse_log"),
}


def elements(dice: Random) -> list[Element]:
    """Few elements about few things, so that rules of several sets are about the same packets."""
    found: list[Element] = []
    for one in SKELETON.sets:
        kinds = {**PARTS, **({f"ipv{version}_addr": NETS[version] for version in (4, 6)} if one.interval else {})}
        for _ in range(dice.choice((0, 0, 1, 2))):
            key = tuple([dice.choice(kinds[kind]) for kind in one.key])
            data = tuple([dice.choice(PARTS[kind]) for kind in one.data])
            if not any((other.set, other.key) == (one.name, key) for other in found):
                found.append(Element(PLACE, one.name, key, data))
    return found


class Packet:
    """Answers to what rules ask; its mark changes on its way. What goes by turns or limits is thrown as well."""

    def __init__(self, dice: Random, version: int) -> None:
        states = ["NEW", "NEW", "ESTABLISHED", "RELATED", "INVALID", "UNTRACKED", "NEW,DNAT"]
        asked: dict[str, Sequence[Any]] = {
            "-i": LINKS,
            "-o": LINKS,
            "-s": HOSTS[version],
            "-d": HOSTS[version],
            "-p": ["tcp", "udp", "icmp" if version == 4 else "ipv6-icmp"],
            "--dport": [80, 8080, 9],
            "--ctstate": states,
            "--dst-type": ["LOCAL", "UNICAST"],
        }
        self.said = {word: dice.choice(answers) for word, answers in asked.items()}
        self.mark = dice.choice([0, 0, 0x4000000, 0x8000000, 1])
        self.by_chance = dice.random() < 0.5

    def meets(self, words: Words) -> bool:
        """Whether a rule's matches hold for it."""
        at, no = 0, False
        while at < len(words):
            word = words[at]
            if word == "!":
                no, at = True, at + 1
                continue
            if word == "-m":
                at += 2
                if words[at - 1] in ("limit", "statistic"):
                    return self.by_chance
                continue
            if self._holds(word, words[at + 1]) is no:
                return False
            at, no = at + 2, False
        return True

    def _holds(self, word: str, value: str) -> bool:
        if word == "--mark":
            wanted, mask = (int(part, 16) for part in value.split("/"))
            return self.mark & mask == wanted
        mine = self.said[word]
        if word in ("-i", "-o"):
            return mine.startswith(value[:-1]) if value.endswith("+") else mine == value
        if word in ("-s", "-d"):
            return mine in ip_network(value)
        if word == "--dport":
            first, _, last = value.partition(":")
            return int(first) <= mine <= int(last or first)
        return bool(set(mine.split(",")) & set(value.split(",")))


def walk(chains: Mapping[str, Sequence[Line]], name: str, packet: Packet) -> list[Words]:
    """Return the targets that a packet meets in a chain, to the one that ends its way if there is any."""
    met: list[Words] = []
    for line in chains[name]:
        if not packet.meets(line.matches):
            continue
        how, target, *rest = line.target
        if target in chains:
            met += walk(chains, target, packet)
            if how == "-g" or (met and met[-1][0] in _ENDS):
                return met
        elif target == "RETURN":
            return met
        elif target == "MARK":
            bits, mask = (int(part, 16) for part in rest[1].split("/"))
            packet.mark = packet.mark & ~mask ^ bits
        else:
            met.append((target, *rest))
            if target in _ENDS:
                return met
    return met


_ENDS = ("DROP", "REJECT", "DNAT", "SNAT", "MASQUERADE")


LOWERED = {version: lower(SKELETON, version) for version in (4, 6)}
WAYS = {
    "through": (
        ("raw", "PREROUTING"),
        ("nat", "PREROUTING"),
        ("mangle", "FORWARD"),
        ("filter", "FORWARD"),
        ("mangle", "POSTROUTING"),
        ("nat", "POSTROUTING"),
    ),
    "to the host": (
        ("raw", "PREROUTING"),
        ("nat", "PREROUTING"),
        ("mangle", "INPUT"),
        ("filter", "INPUT"),
        ("security", "INPUT"),
    ),
    "from the host": (("nat", "OUTPUT"), ("mangle", "POSTROUTING"), ("nat", "POSTROUTING")),
}
"""Whose hooks a packet comes to."""


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([4, 6]))
def test_packets_fare_alike(seed: int, version: int) -> None:
    dice = Random(seed)
    held = elements(dice)
    long = _lines(LOWERED[version], held, frozenset())
    found = short(SKELETON, held, (), version)
    brief = {name: lines for name, _, lines in found.chains}
    for way, packet in [(way, Packet(dice, version)) for way in WAYS for _ in range(15)]:
        packet.mark &= 1 if way == "from the host" else -1  # no rule of ours has written it before these hooks
        other = copy(packet)
        for place in WAYS[way]:
            (was,) = [hook.chain for hook in LOWERED[version].hooks if (hook.table, hook.builtin) == place]
            now = [hook.chain for hook in found.hooks if (hook.table, hook.builtin) == place]
            met = walk(long, was, packet)
            assert [target for name in now for target in walk(brief, name, other)] == met, (place, packet.said)
            if met and met[-1][0] in ("DROP", "REJECT"):
                break
            assert packet.mark == other.mark or place != ("mangle", "FORWARD")


def test_nothing_stays_of_a_table_without_elements_but_guards() -> None:
    for version in (4, 6):
        found = short(SKELETON, (), (), version)
        assert len(found.chains) <= 4
        assert len({name for name, _, _ in found.chains}) == len(found.chains)
