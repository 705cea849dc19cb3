"""Drawn tables and elements, for laws of the firewall."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from hypothesis import strategies as st

from nsbridge.desired.ruleset import skeleton
from nsbridge.firewall.expressions import (
    Accept,
    Counter,
    Dnat,
    Drop,
    Goto,
    InSet,
    Jump,
    Limit,
    Masquerade,
    Match,
    Return,
    SetMarkBits,
    Snat,
)
from nsbridge.firewall.ruleset import TURNS, Chain, Element, Rule, Span

SKELETON = skeleton()
PLACE = (SKELETON.family, SKELETON.name)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789_.-", min_size=1, max_size=15)
PORTS = st.integers(0, 65535)
PROTOS = st.sampled_from(["tcp", "udp", "sctp", "icmp"])
ADDRESS4 = st.integers(0, 2**32 - 1).map(IPv4Address)
ADDRESS6 = st.integers(0, 2**126 - 1).map(lambda number: IPv6Address(number | 1 << 125))
"""Global addresses: of ::/96, nft prints the last four bytes as IPv4 (glibc's inet_ntop), Python doesn't."""


def networks(version: int, shortest: int = 3) -> st.SearchStrategy[IPv4Network | IPv6Network]:
    bits = 32 if version == 4 else 128
    cls = IPv4Network if version == 4 else IPv6Network

    def of(pair: tuple[int, int]) -> IPv4Network | IPv6Network:
        number, length = pair
        number |= 1 << 125 if version == 6 else 0
        return cls((number >> (bits - length) << (bits - length), length))

    return st.tuples(st.integers(0, 2**bits - 1), st.integers(shortest, bits)).map(of)


VALUES = {
    "ifname": NAMES,
    "ipv4_addr": ADDRESS4,
    "ipv6_addr": ADDRESS6,
    "inet_proto": PROTOS,
    "inet_service": PORTS,
    "nf_proto": st.sampled_from(["ipv4", "ipv6"]),
    "turn": st.integers(0, TURNS - 1),
    "verdict": st.sampled_from(["goto allow", "goto refuse_log"]),
}
SPANS = st.tuples(PORTS, PORTS).map(sorted).filter(lambda pair: pair[0] < pair[1]).map(lambda pair: Span(*pair))


def _value(kind: str, interval: bool) -> st.SearchStrategy:
    if interval and kind in ("ipv4_addr", "ipv6_addr"):
        return networks(4 if kind == "ipv4_addr" else 6)
    if interval and kind == "inet_service":
        return SPANS | PORTS
    return VALUES[kind]


def _disjoint(elements: list[Element]) -> list[Element]:
    """Drop elements that overlap an earlier one of the same set, as the kernel would refuse them."""
    kept: list[Element] = []
    for one in elements:
        others = [other.key for other in kept if other.set == one.set]
        if not any(all(_meet(a, b) for a, b in zip(one.key, key, strict=True)) for key in others):
            kept.append(one)
    return kept


def _meet(first: object, second: object) -> bool:
    if isinstance(first, (IPv4Network, IPv6Network)):
        return first.overlaps(second)
    if isinstance(first, Span) or isinstance(second, Span):
        (low, high), (least, most) = (
            (one.first, one.last) if isinstance(one, Span) else (one, one) for one in (first, second)
        )
        return low <= most and least <= high
    return first == second


@st.composite
def elements(draw: st.DrawFn) -> list[Element]:
    found = []
    # Of dozens of sets a few at a time: more would be too much to draw.
    chosen = draw(st.lists(st.sampled_from(SKELETON.sets), max_size=8, unique=True))
    for one in chosen:
        key = st.tuples(*[_value(kind, one.interval) for kind in one.key])
        data = st.tuples(*[VALUES[kind] for kind in one.data])
        found += [Element(PLACE, one.name, *pair) for pair in draw(st.lists(st.tuples(key, data), max_size=4))]
    return _disjoint(found)


FIELDS = {
    "iifname": NAMES,
    "oifname": NAMES,
    "iifkind": NAMES,
    "oifkind": NAMES,
    "nfproto": VALUES["nf_proto"],
    "l4proto": PROTOS,
    "ip saddr": ADDRESS4 | networks(4).filter(lambda one: one.prefixlen < 32),
    "ip daddr": ADDRESS4 | networks(4).filter(lambda one: one.prefixlen < 32),
    "ip6 saddr": ADDRESS6 | networks(6).filter(lambda one: one.prefixlen < 128),
    "ip6 daddr": ADDRESS6 | networks(6).filter(lambda one: one.prefixlen < 128),
    "th sport": PORTS,
    "th dport": PORTS,
    "ct state": st.sampled_from([("invalid",), ("established", "related"), ("new",), ("invalid", "new", "untracked")]),
    "ct status": st.sampled_from([("dnat",), ("snat", "dnat"), ("assured",)]),
    "mark": st.integers(1, 2**32 - 1).flatmap(lambda mask: st.tuples(st.just(mask), st.just(mask) | st.just(0))),
    "fib daddr type": st.sampled_from(["local", "unicast", "broadcast", "multicast"]),
}
MATCHES = st.sampled_from(sorted(FIELDS)).flatmap(
    lambda name: st.builds(Match, st.just(name), FIELDS[name], st.booleans())
)
LOOKUPS = st.sampled_from(
    [
        InSet(("iifname",), "bridges"),
        InSet(("oifname",), "internal", negate=True),
        InSet(("iifname", "oifname"), "icc"),
        InSet(("nfproto",), "raised"),
        InSet(("oifname", "ip daddr"), "home4", negate=True),
        InSet(("iifname", "ip6 saddr"), "home6"),
        InSet(("ip saddr",), "subnets4"),
        InSet(("ip6 daddr",), "hidden6", negate=True),
    ]
)
LIMITS = st.builds(Limit, st.integers(1, 10**6), st.integers(1, 2**32 - 1))
ENDS = st.sampled_from([Accept(), Drop(), Return(), Goto("side"), Jump("side")])


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    body = draw(st.lists(MATCHES | LOOKUPS | LIMITS | st.just(Counter()), max_size=5))
    bits = draw(st.lists(st.integers(1, 2**32 - 1).map(SetMarkBits), max_size=1))
    return Rule((*body, *bits, draw(ENDS)), why=draw(st.text(max_size=200).filter(lambda text: "\0" not in text)))


@st.composite
def nat_rules(draw: st.DrawFn) -> Rule:
    body = draw(st.lists(MATCHES, max_size=3))
    family = draw(st.sampled_from(["ip", "ip6"]))
    digit = "4" if family == "ip" else "6"
    one = Dnat(family, ("l4proto", "th dport"), f"publish{digit}")
    bound = Dnat(family, (f"{family} daddr", "l4proto", "th dport"), f"bound{digit}")
    turns = Dnat(family, ("l4proto", "th dport", "turn"), f"turns{digit}")
    ranges = Dnat(family, (f"{family} daddr", "l4proto", "th dport"), f"ranges{digit}", port=False)
    return Rule((*body, draw(st.sampled_from([one, bound, turns, ranges]))))


@st.composite
def tables(draw: st.DrawFn) -> object:
    """The skeleton's sets with drawn chains."""
    chains = (
        Chain("side", (Rule((Match("mark", (1, 1)), Return())),)),
        Chain("drawn", tuple(draw(st.lists(rules(), max_size=4))), "filter", "forward", draw(st.integers(-400, 400))),
        Chain("into", tuple(draw(st.lists(nat_rules(), max_size=2))), "nat", "prerouting", -100),
        Chain(
            "out",
            (
                Rule((*draw(st.lists(MATCHES, max_size=2)), Masquerade())),
                Rule((Counter(), Snat("ip", ("ip saddr",), "source4"))),
            ),
            "nat",
            "postrouting",
            100,
        ),
    )
    return SKELETON.replace(chains=chains)
