"""The skeleton of our nftables table: written once with the first network, removed with the last.

Networks are set elements and ports are map elements, so no rule is ever added, and the cost of a packet
doesn't grow with what is published. How a packet meets the chains:

- ``guard`` (raw): what claims an address of the host's loopback, or of an endpoint, and can't have it, ends here.
- ``publish_in`` and ``publish_out``: a packet to a published port gets its endpoint as destination, before the
  host decides where it goes; what the host itself sends never passes prerouting and meets the same maps in output.
- ``gateway``: a gateway's address answers its own network and the host, nobody else; and the host answers nobody
  on an internal network.
- ``forwarding``, before everybody's filter chains: what is ours to allow is accepted and marked, so that one static
  rule in a foreign chain which drops can let it pass; what isn't allowed is dropped. An accept ends only this
  base chain, a drop ends the packet.
- ``admin``: rules of the administrator's, the first that traffic of our networks meets. We never write here.
- ``policy_out``, ``policy_in`` and ``policy_host``: what files allow, deny and reject (desired/policy.py), level by
  level, for new connections that endpoints begin, that come from outside, and that endpoints begin with the host.
- ``sources``: the way out and hairpin need another source, or the answer takes a road past conntrack.
"""

from __future__ import annotations

from nsbridge.desired.sets import SETS
from nsbridge.firewall.expressions import (
    Accept,
    Counter,
    Dnat,
    Drop,
    Goto,
    InSet,
    Jump,
    Limit,
    Log,
    Masquerade,
    Match,
    Reject,
    Return,
    SetMarkBits,
    Snat,
    Vmap,
)
from nsbridge.firewall.ruleset import Chain, Rule, Table
from nsbridge.model.names import ADMIN, MARK_BIT, TABLE
from nsbridge.model.policy import LEVELS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipaddress import IPv6Address

    from nsbridge.firewall.expressions import Expression, Family, Field


def _loopback() -> tuple[object, IPv6Address]:
    from ipaddress import IPv6Address, ip_network

    return ip_network("127.0.0.0/8"), IPv6Address("::1")


def _link_local() -> object:
    from ipaddress import ip_network

    return ip_network("fe80::/10")


def rule(*expressions: Expression, why: str) -> Rule:
    """Write a rule as its expressions and its reason."""
    return Rule(expressions, why=why)


_OURS_IN = InSet(("iifname",), "bridges")
_OURS_OUT = InSet(("oifname",), "bridges")
_NOT_IN = InSet(("iifname",), "bridges", negate=True)
_NOT_OUT = InSet(("oifname",), "bridges", negate=True)
_FAMILIES = (("4", "ip"), ("6", "ip6"))


def _guard() -> Chain:
    # Every packet of the host meets this, ours or not: one question for what is none of our business, not one a rule.
    loopback, loopback6 = _loopback()
    rules = [
        rule(Match("iifname", "lo"), Return(), why="what the host tells itself"),
        rule(Match("ip daddr", loopback), Counter(), Drop(), why="S1: loopback addresses never come by wire"),
        rule(Match("ip saddr", loopback), Counter(), Drop(), why="S1: nor does anything sent from one"),
        # The kernel itself drops these (ip6_rcv_core), but only after br_netfilter has shown them to the NAT rules.
        rule(Match("ip6 daddr", loopback6), Counter(), Drop(), why="S1: nor to [::1] by way of br_netfilter"),
        rule(Match("ip6 saddr", loopback6), Counter(), Drop(), why="S1: nor from there"),
    ]
    for digit, ip in _FAMILIES:
        saddr: Field = "ip saddr" if ip == "ip" else "ip6 saddr"
        rules.append(
            rule(
                InSet((saddr,), f"subnets{digit}"),
                InSet(("iifname", saddr), f"home{digit}", negate=True),
                Counter(),
                Drop(),
                why="an endpoint's source address comes only from its own bridge",
            )
        )
    return Chain("guard", tuple(rules), "filter", "prerouting", -300, why="what can't be true ends before conntrack")


AFTER_OTHERS = -99
"""S7: one later than where everybody translates destinations (-100, NF_IP_PRI_NAT_DST). The first translation counts
(nf_nat_inet_fn), and among equals the kernel asks whoever came last first: we would take a port that others publish."""


def _publish(name: str, hook: str) -> Chain:
    rules: list[Rule] = [
        rule(
            Match("fib daddr type", "local", negate=True),
            Return(),
            why="S6: only what is meant for an address of the host itself",
        )
    ]
    for digit, ip in _FAMILIES:
        family: Family = "ip" if ip == "ip" else "ip6"
        daddr: Field = "ip daddr" if ip == "ip" else "ip6 daddr"
        if ip == "ip6":
            rules.append(_left_alone(hook))
        one: tuple[Field, ...] = (daddr, "l4proto", "th dport")
        this = Match("nfproto", f"ipv{digit}")
        face = rule(
            this,
            Dnat(family, ("iifname", "l4proto", "th dport"), f"face{digit}"),
            why="ports published on one interface",
        )
        own = rule(Dnat(family, one, f"own{digit}"), why="ports published on one interface, by its addresses")
        rules += [
            rule(Dnat(family, one, f"bound{digit}"), why=f"ports published on one IPv{digit} address"),
            own if hook == "output" else face,
            rule(
                this, Dnat(family, ("l4proto", "th dport"), f"publish{digit}"), why="ports published on every address"
            ),
            rule(
                this,
                Dnat(family, ("l4proto", "th dport", "turn"), f"turns{digit}"),
                why="ports shared by several endpoints: each new connection goes to the next one",
            ),
            rule(Dnat(family, one, f"ranges{digit}", port=False), why="ranges: the address changes, the port stays"),
        ]
    said = "what comes in" if hook == "prerouting" else "what the host itself sends, to 127.0.0.1 too"
    return Chain(name, tuple(rules), "nat", hook, AFTER_OTHERS, why=f"published ports, for {said}")


def _left_alone(hook: str) -> Rule:
    """What the kernel would not route once its destination is rewritten: better left to a socket of the host."""
    if hook == "output":
        # There is no route_localnet for IPv6: a rewritten [::1] is dropped on its way back. That sockets on [::1]
        # answer is the resident proxy's work.
        return rule(Match("ip6 daddr", _loopback()[1]), Return(), why="[::1] can't leave the host: a proxy's work")
    return rule(
        Match("ip6 saddr", _link_local()), Return(), why="S20: link-local clients aren't forwarded: a proxy's work"
    )


def _gateway() -> Chain:
    # As in the guard, most packets are asked once.
    rules: list[Rule] = [
        # Answers too: the host may have asked one network with the address it has on another.
        rule(Match("ct state", ("established", "related")), Return(), why="what was let in before, and answers"),
        rule(Match("iifname", "lo"), Return(), why="the host itself"),
    ]
    for digit, ip in _FAMILIES:
        daddr: Field = "ip daddr" if ip == "ip" else "ip6 daddr"
        rules.append(
            rule(
                InSet((daddr,), f"subnets{digit}"),
                InSet(("iifname", daddr), f"home{digit}", negate=True),
                Counter(),
                Drop(),
                why="S4: a gateway answers only its own network and the host",
            )
        )
    rules.append(
        rule(
            _OURS_IN,
            Match("ct state", ("new",)),
            Jump("policy_host"),
            why="what files say about the host's own services",
        )
    )
    rules.append(
        rule(
            InSet(("iifname",), "internal"),
            Match("ct state", ("new",)),
            Counter(),
            Drop(),
            why="S10: a gateway is no bridge to the host's services",
        )
    )
    return Chain("gateway", tuple(rules), "filter", "input", -10, why="the gateways' own addresses")


def _forwarding() -> Chain:
    neighbours = InSet(("iifname", "oifname"), "icc")
    elsewhere = InSet(("iifname", "oifname"), "icc", negate=True)
    return Chain(
        "forwarding",
        (
            rule(_NOT_IN, _NOT_OUT, Goto("strangers"), why="neither from nor to us"),
            rule(Jump(ADMIN), why="what the administrator says comes first"),
            rule(Match("ct state", ("established", "related")), Goto("allow"), why="answers, and errors about them"),
            rule(Match("ct state", ("invalid",)), Counter(), Drop(), why="S14: packets of no known connection"),
            rule(neighbours, Match("ct state", ("untracked",)), Goto("allow"), why="neighbours finding one another"),
            rule(
                InSet(("iifname",), "internal"),
                elsewhere,
                Counter(),
                Drop(),
                why="S10: no way out of an internal network",
            ),
            rule(
                InSet(("oifname",), "internal"),
                elsewhere,
                Counter(),
                Drop(),
                why="S10: no way into an internal network",
            ),
            rule(_OURS_IN, Jump("policy_out"), why="what files say about connections that endpoints begin"),
            rule(_NOT_IN, Jump("policy_in"), why="and about those from outside"),
            rule(neighbours, Goto("allow"), why="neighbours on one network"),
            rule(_OURS_OUT, Match("ct status", ("dnat",)), Goto("allow"), why="published ports"),
            *_direct(),
            rule(_OURS_OUT, Counter(), Drop(), why="S3, S9: unpublished ports, and other networks"),
            # The mark overrules the host's drops, so it is not for the way into somebody else's bridge, where
            # it would open what Docker or libvirt keep closed: there their own rules decide.
            rule(Match("oifkind", "bridge"), Accept(), why="into somebody else's bridge: theirs to decide"),
            rule(Goto("allow"), why="the way out"),
        ),
        "filter",
        "forward",
        -10,
        why="what may pass between networks, before everybody's filter",
    )


def _direct() -> list[Rule]:
    """S5: the ways by which endpoints may be reached at their own addresses, each asked for."""
    found = [rule(InSet(("iifname", "oifname"), "trusted"), Goto("allow"), why="from a trusted interface")]
    routed = InSet(("oifname", "nfproto"), "routed")
    for digit, ip in _FAMILIES:
        daddr: Field = "ip daddr" if ip == "ip" else "ip6 daddr"
        # With icc off neighbours stay apart, also where br_netfilter shows their frames to this chain.
        elsewhere = InSet(("iifname", daddr), f"home{digit}", negate=True)
        door = InSet((daddr, "l4proto", "th dport"), f"routed{digit}")
        icmp = Match("l4proto", "icmp" if ip == "ip" else "icmpv6")
        found.append(rule(elsewhere, door, Goto("allow"), why="published, without NAT"))
        found.append(rule(elsewhere, routed, icmp, Goto("allow"), why="a routed network answers to ping"))
    unprotected = InSet(("oifname", "nfproto"), "unprotected")
    found.append(rule(_NOT_IN, unprotected, Goto("allow"), why="gateway mode nat-unprotected"))
    return found


def _policies() -> tuple[Chain, ...]:
    """New connections meet the levels in order; the first element that holds them decides."""
    rules: dict[str, list[Rule]] = {way: [] for way in LEVELS}
    for way, levels in LEVELS.items():
        for level in range(1, levels + 1):
            for digit, ip in _FAMILIES:
                saddr: Field = "ip saddr" if ip == "ip" else "ip6 saddr"
                daddr: Field = "ip daddr" if ip == "ip" else "ip6 daddr"
                places = (saddr,) if way == "host" else (saddr, daddr)
                fields: tuple[Field, ...] = (*places, "l4proto", "th dport")
                rules[way].append(rule(Vmap(fields, f"{way}{digit}_{level}"), why=f"level {level}, IPv{digit}"))
    rules["out"].append(rule(Vmap(("iifname",), "defaults"), why="what a network lets its endpoints begin otherwise"))
    return (
        Chain("policy_out", tuple(rules["out"]), why="connections that endpoints begin"),
        Chain("policy_in", tuple(rules["in"]), why="connections from outside"),
        Chain("policy_host", tuple(rules["host"]), why="connections that endpoints begin with the host itself"),
    )


DENY_PREFIX, ALLOW_PREFIX = "nsbridge deny: ", "nsbridge allow: "
"""How lines in the kernel's log begin."""
LOGGED = Limit(10, 50)
"""How many lines each of these chains may write: an endpoint must not fill the host's disk."""


def _logged(prefix: str, chain: str) -> tuple[Rule, ...]:
    return rule(LOGGED, Log(prefix), why="not more than the log can take"), rule(Goto(chain), why="")


def _verdicts() -> tuple[Chain, ...]:
    """Where elements of a policy lead."""
    return (
        Chain("allow_log", _logged(ALLOW_PREFIX, "allow"), why="allowed, and logged"),
        Chain("deny", (rule(Counter(), Drop(), why=""),), why="denied without a word"),
        Chain("deny_log", _logged(DENY_PREFIX, "deny"), why="denied, and logged"),
        Chain("refuse", (rule(Counter(), Reject(), why=""),), why="denied, and the sender is told"),
        Chain("refuse_log", _logged(DENY_PREFIX, "refuse"), why="denied, told and logged"),
    )


def _strangers() -> Chain:
    others_in = (Match("iifkind", "bridge"), InSet(("iifname",), "closed", negate=True))
    others_out = (Match("oifkind", "bridge"), InSet(("oifname",), "closed", negate=True))
    return Chain(
        "strangers",
        (
            rule(InSet(("nfproto",), "raised", negate=True), Return(), why="forwarding was on before us"),
            rule(InSet(("iifname", "oifname"), "same"), Return(), why="frames that stay on a bridge aren't forwarded"),
            # Docker or libvirt started after us find forwarding on and count on it.
            rule(*others_in, Return(), why="from a bridge that somebody made since: theirs to decide"),
            rule(*others_out, Match("ct state", ("established", "related")), Return(), why="answers to it"),
            rule(*others_out, Match("ct status", ("dnat",)), Return(), why="ports that they publish"),
            rule(Counter(), Drop(), why="S13: we turned forwarding on, so the host stays no router for others"),
        ),
        why="traffic that isn't ours",
    )


def _allow() -> Chain:
    return Chain(
        "allow",
        (rule(SetMarkBits(MARK_BIT), Accept(), why="marked, so that a foreign chain that drops can let it pass"),),
        why="ours to allow",
    )


def _sources() -> Chain:
    loopback, _ = _loopback()
    rules = [
        rule(
            Match("oifname", "lo"), Return(), why="what the host tells itself, from a gateway's address say, stays so"
        ),
        rule(_OURS_OUT, Match("ip saddr", loopback), Masquerade(), why="127.0.0.1 of the host becomes the gateway's"),
    ]
    for digit, ip in _FAMILIES:
        saddr: Field = "ip saddr" if ip == "ip" else "ip6 saddr"
        rules.append(
            rule(
                InSet(("oifname", saddr), f"home{digit}"),
                Match("ct status", ("dnat",)),
                Masquerade(),
                why="hairpin: back to its own network by a published port",
            )
        )
        rules.append(
            rule(
                _NOT_OUT,
                Snat("ip" if ip == "ip" else "ip6", (saddr,), f"source{digit}"),
                why="the way out, with the address chosen for the network",
            )
        )
        rules.append(
            rule(_NOT_OUT, InSet((saddr,), f"hidden{digit}"), Masquerade(), why="the way out, as the host itself")
        )
    return Chain("sources", tuple(rules), "nat", "postrouting", 100, why="whose address a packet leaves with")


def skeleton() -> Table:
    """Return the whole table without elements; the same value every time."""
    chains = (
        _allow(),
        *_verdicts(),
        Chain(ADMIN, (), why="your own rules: nft add rule inet nsbridge admin ...; nsbridge never changes them"),
        *_policies(),
        _strangers(),
        _guard(),
        _publish("publish_in", "prerouting"),
        _publish("publish_out", "output"),
        _gateway(),
        _forwarding(),
        _sources(),
    )
    return Table(*TABLE, SETS, chains, why="nsbridge")
