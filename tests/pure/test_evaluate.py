"""Packets followed through rules that only exist as values: what is open, what is assumed, what conntrack does."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from nsbridge.desired.ruleset import skeleton
from nsbridge.firewall.evaluate import hook
from nsbridge.firewall.expressions import Accept, Drop, Goto, Jump, Return
from nsbridge.firewall.fields import ORDER
from nsbridge.firewall.packet import Ct, Packet
from nsbridge.firewall.planned import firewall_of
from nsbridge.firewall.reads import Conn, Fixed, HeaderBytes, Meta, Turn
from nsbridge.firewall.ruleset import Element
from nsbridge.firewall.seen import (
    Assign,
    Chance,
    Compare,
    Firewall,
    Limited,
    Refuse,
    Rewrite,
    SeenChain,
    SeenRule,
    SeenTable,
    Strange,
    VerdictMap,
    Xt,
)
from nsbridge.firewall.surroundings import Surroundings
from nsbridge.model.names import TABLE
from nsbridge.state.kernel_state import KernelState

if TYPE_CHECKING:
    from nsbridge.firewall.packet import Address
    from nsbridge.firewall.seen import Part, SeenElement

WEB = Compare(HeaderBytes("transport", 2, 2), "==", (80).to_bytes(2, "big"))
TTL = Compare(HeaderBytes("network", 8, 1), "<", b"\x05")
STRANGE = Strange("match of another world")
PACKET = Packet("ip", ip_address("10.1.0.2"), ip_address("10.2.0.2"), sport=40000, dport=80, iif="l0", oif="r0")


def rules(*lines: tuple[Part, ...]) -> tuple[SeenRule, ...]:
    return tuple(SeenRule(parts, index, index + 1) for index, parts in enumerate(lines))


def table(
    *lines: tuple[Part, ...], hook_name: str = "forward", kind: str = "filter", policy: str = "accept",
    priority: int = 0, **chains: tuple[tuple[Part, ...], ...],
) -> SeenTable:  # fmt: skip
    base = SeenChain("base", rules(*lines), kind, hook_name, priority, policy)
    others = [SeenChain(name, rules(*found)) for name, found in chains.items()]
    return SeenTable("inet", "t", (base, *others))


def verdict(*lines: tuple[Part, ...], packet: Packet = PACKET, policy: str = "accept", **chains: object) -> str:
    found = table(*lines, policy=policy, **chains)  # type: ignore[arg-type]
    return hook(Firewall((found,)), "forward", packet, Surroundings()).verdict


class Place(Surroundings):
    """A host whose bridge is `br` and whose own address is 198.51.100.1."""

    def addrtype(self, address: Address, ifname: str = "") -> str | None:
        return "local" if str(address) == "198.51.100.1" else "unicast"

    def kind(self, ifname: str) -> str | None:
        return "bridge" if ifname == "br" else ""

    def source_for(self, oif: str, daddr: Address) -> Address | None:
        return ip_address("198.51.100.1")


def test_an_unknown_match_is_followed_both_ways() -> None:
    assert verdict((STRANGE, Drop())) == "open"
    assert verdict((STRANGE, Accept())) == "accept", "both ways end alike"
    assert verdict((STRANGE, Accept()), policy="drop") == "open"
    assert verdict((STRANGE, Drop()), (WEB, Drop())) == "drop"
    assert verdict((WEB, STRANGE, Drop()), packet=PACKET.replace(dport=81)) == "accept", "never asked"


def test_what_is_open_is_named() -> None:
    found = hook(Firewall((table((WEB, STRANGE, Drop())),)), "forward", PACKET, Surroundings())
    assert {way.verdict for way in found.ways} == {"drop", "accept"}
    assert len(found.opaque) == 1
    assert "match of another world" in found.opaque[0]
    assert any(met.open for way in found.ways for met in way.met)


def test_fields_that_are_not_known_are_open() -> None:
    assert verdict((TTL, Drop())) == "open"
    assert verdict((TTL, Drop()), packet=PACKET.replace(ttl=4)) == "drop"
    assert verdict((TTL, Drop()), packet=PACKET.replace(ttl=64)) == "accept"
    assert verdict((Compare(Meta("mark", 4), "==", bytes(4)), Drop()), packet=PACKET.replace(mark=None)) == "open"


def test_many_open_rules_cost_each_its_own() -> None:
    lines = [(Strange(f"number {number}"), Assign(Meta("priority", 4), Fixed(bytes(4)))) for number in range(300)]
    found = hook(Firewall((table(*lines),)), "forward", PACKET, Surroundings())
    assert found.verdict == "accept"
    assert len(found.ways) == 1


def test_a_budget_is_taken_to_be_unspent_and_said_so() -> None:
    found = hook(
        Firewall((table((Limited("limit rate 3/minute"), Accept()), policy="drop"),)), "forward", PACKET, Surroundings()
    )
    assert (found.verdict, len(found.assumed)) == ("accept", 1)
    assert "limit rate 3/minute" in found.assumed[0]
    assert verdict((Limited("limit rate over 3/minute", over=True), Drop())) == "accept"
    assert verdict((Chance("-m statistic"), Drop())) == "open"


def test_jump_goto_and_return() -> None:
    assert verdict((Jump("side"),), (Drop(),), side=((WEB, Return()), (Accept(),))) == "drop"
    assert verdict((Goto("side"),), (Drop(),), side=((WEB, Return()), (Drop(),))) == "accept", "policy, not the rest"
    assert verdict((Jump("side"),), side=((Goto("end"),),), end=()) == "accept"
    assert verdict((Jump("a"),), a=((Jump("b"),),), b=((Refuse("icmp", 3),),)) == "reject"
    deep = {f"c{number}": ((Jump(f"c{number + 1}"),),) for number in range(20)}
    assert verdict((Jump("c0"),), c20=(), **deep) == "drop", "sixteen are the most"


def test_an_accept_ends_one_chain_and_a_drop_all() -> None:
    first, second = table((Accept(),), priority=-10), table((Drop(),), priority=5).replace(name="u")
    for order in ((first, second), (second, first)):
        found = hook(Firewall(order), "forward", PACKET, Surroundings())
        assert (found.verdict, [met.priority for met in found.met]) == ("drop", [-10, 5])


def test_of_one_priority_the_younger_is_first() -> None:
    first, second = table((Drop(),)), table((Drop(),)).replace(name="younger")
    assert [met.table for met in hook(Firewall((first, second)), "forward", PACKET, Surroundings()).met] == ["younger"]


def test_ct_is_invalid_before_conntrack() -> None:
    new = Compare(Conn("state", 4), "==", (8).to_bytes(4, ORDER))
    early = table((new, Drop()), hook_name="prerouting", priority=-300)
    late = table((new, Drop()), hook_name="prerouting", priority=-150)
    assert hook(Firewall((early,)), "prerouting", PACKET, Surroundings()).verdict == "accept"
    assert hook(Firewall((late,)), "prerouting", PACKET, Surroundings()).verdict == "drop"
    assert hook(Firewall((late,), tracks=()), "prerouting", PACKET, Surroundings()).verdict == "accept", "nobody tracks"


def test_the_first_that_rewrites_ends_the_question_and_the_answer_comes_back() -> None:
    def dnat(address: str) -> Rewrite:
        return Rewrite("dnat", "ip", Fixed(ip_address(address).packed), None, Fixed((8080).to_bytes(2, "big")))

    one = table((WEB, dnat("10.2.0.9")), hook_name="prerouting", kind="nat", priority=-100)
    two = table((WEB, dnat("10.2.0.8")), hook_name="prerouting", kind="nat", priority=-90).replace(name="u")
    masquerade = table((Rewrite("masquerade"),), hook_name="postrouting", kind="nat", priority=100).replace(name="v")
    firewall = Firewall((one, two, masquerade))
    there = hook(firewall, "prerouting", PACKET, Place())
    assert there.packet.to == "10.2.0.9:8080"
    assert [met.table for met in there.met] == ["t"]
    away = hook(firewall, "postrouting", there.packet, Place()).packet
    assert (away.of, away.to) == ("198.51.100.1:40000", "10.2.0.9:8080")
    assert {"dnat", "snat"} <= set(away.ct.status)

    answer = away.replace(
        saddr=away.daddr, daddr=away.saddr, sport=away.dport, dport=away.sport, iif="r0", oif="",
        ct=away.ct.replace(state="established", reply=True), tracked=False,
    )  # fmt: skip
    back = hook(firewall, "prerouting", answer, Place())
    assert (back.packet.to, back.met) == ("10.1.0.2:40000", ())
    last = hook(firewall, "postrouting", back.packet.replace(oif="l0"), Place()).packet
    assert (last.of, last.to) == ("10.2.0.2:80", "10.1.0.2:40000")


def test_a_turn_is_every_target_it_can_be() -> None:
    class Held:
        def find(self, family: str, table: str, name: str, key: bytes) -> SeenElement | None:
            from nsbridge.firewall.seen import SeenElement

            return SeenElement(key, key, Drop() if key[0] else Accept())

        def all(self, family: str, table: str, name: str) -> tuple[SeenElement, ...]:
            raise LookupError

        def link(self, index: int) -> str:
            return ""

    chosen = table((VerdictMap(Turn("inc", 3), "m"),))
    found = hook(Firewall((chosen,), ("ip",), Held()), "forward", PACKET, Surroundings())
    assert (found.verdict, {way.verdict for way in found.ways}) == ("open", {"accept", "drop"})


def test_a_published_port_of_a_plan() -> None:
    elements = [
        Element(TABLE, "bridges", ("br",)),
        Element(TABLE, "publish4", ("tcp", 8080), (ip_address("10.7.0.2"), 80)),
        Element(TABLE, "subnets4", (ip_network("10.7.0.0/24"),)),
        Element(TABLE, "hidden4", (ip_network("10.7.0.0/24"),)),
        Element(TABLE, "home4", ("br", ip_network("10.7.0.0/24"))),
    ]
    firewall = firewall_of(KernelState([skeleton(), *elements]))
    packet = PACKET.replace(
        saddr=ip_address("198.51.100.2"), daddr=ip_address("198.51.100.1"), dport=8080, iif="up0", oif=""
    )
    came = hook(firewall, "prerouting", packet, Place())
    assert came.packet.to == "10.7.0.2:80"
    through = hook(firewall, "forward", came.packet.replace(oif="br"), Place())
    assert through.verdict == "accept"
    assert through.met[-1].why
    unpublished = packet.replace(daddr=ip_address("10.7.0.2"), dport=81, ct=Ct())
    hidden = hook(firewall, "prerouting", unpublished, Place())
    assert "drop" in (hidden.verdict, hook(firewall, "forward", hidden.packet.replace(oif="br"), Place()).verdict)


def test_extensions_of_iptables_are_what_they_amount_to() -> None:
    web = Xt("tcp", "-m tcp --dport 80", (WEB,))
    assert verdict((web, Xt("REJECT", "-j REJECT --reject-with tcp-reset", (Refuse("tcp reset"),)))) == "reject"
    assert verdict((web, Drop()), packet=PACKET.replace(proto="udp", dport=53)) == "accept"
