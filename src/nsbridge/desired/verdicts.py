"""The part of the skeleton that holds policies: maps in levels, the chains that ask them, and where elements lead.

Within a map no two ranges may overlap, so what may overlap stands in another level (desired/policy.py); the levels
are asked in order.
"""

from __future__ import annotations

from nsbridge.firewall.ruleset import Chain, Counter, Drop, Goto, Log, Reject, Rule, Set, Vmap
from nsbridge.model.policy import IN_LEVELS, OUT_LEVELS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.firewall.ruleset import Expression, Field


def _rule(*expressions: Expression, why: str) -> Rule:
    return Rule(expressions, why=why)


def policy_sets() -> tuple[Set, ...]:
    """Levels of a policy: within one no two elements overlap, an earlier one decides."""
    found = [Set("defaults", ("ifname",), ("verdict",), why="networks whose endpoints begin nothing unless allowed")]
    for way, levels in (("out", OUT_LEVELS), ("in", IN_LEVELS)):
        for digit in ("4", "6"):
            kind = f"ipv{digit}_addr"
            key = (kind, kind, "inet_proto", "inet_service")
            for level in range(1, levels + 1):
                found.append(Set(f"{way}{digit}_{level}", key, ("verdict",), interval=True))
    return tuple(found)


def policy_chains() -> tuple[Chain, Chain]:
    """New connections meet the levels in order; the first element that holds them decides."""
    rules: dict[str, list[Rule]] = {"out": [], "in": []}
    for way, levels in (("out", OUT_LEVELS), ("in", IN_LEVELS)):
        for level in range(1, levels + 1):
            for digit, ip in (("4", "ip"), ("6", "ip6")):
                fields: tuple[Field, ...] = (
                    ("ip saddr", "ip daddr", "l4proto", "th dport")
                    if ip == "ip"
                    else ("ip6 saddr", "ip6 daddr", "l4proto", "th dport")
                )
                rules[way].append(_rule(Vmap(fields, f"{way}{digit}_{level}"), why=f"level {level}, IPv{digit}"))
    rules["out"].append(_rule(Vmap(("iifname",), "defaults"), why="what a network lets its endpoints begin otherwise"))
    return (
        Chain("policy_out", tuple(rules["out"]), why="connections that endpoints begin"),
        Chain("policy_in", tuple(rules["in"]), why="connections from outside"),
    )


DENY_PREFIX, ALLOW_PREFIX = "nsbridge deny: ", "nsbridge allow: "
"""How lines in the kernel's log begin."""


def verdict_chains() -> tuple[Chain, ...]:
    """Where elements of a policy lead."""
    return (
        Chain("allow_log", (_rule(Log(ALLOW_PREFIX), Goto("allow"), why=""),), why="allowed, and logged"),
        Chain("deny", (_rule(Counter(), Drop(), why=""),), why="denied without a word"),
        Chain("deny_log", (_rule(Log(DENY_PREFIX), Goto("deny"), why=""),), why="denied, and logged"),
        Chain("refuse", (_rule(Counter(), Reject(), why=""),), why="denied, and the sender is told"),
        Chain("refuse_log", (_rule(Log(DENY_PREFIX), Goto("refuse"), why=""),), why="denied, told and logged"),
    )
