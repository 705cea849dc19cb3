"""The verb `rules`: what decides about packets, by chain or as commands, with reasons and live counters."""

from __future__ import annotations

import sys
import textwrap

from nsbridge.engine.rules import look
from nsbridge.frontends.cli import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from nsbridge.engine.host import Host
    from nsbridge.explain.rules import ToldChain, ToldElement, ToldRule, ToldRules

WIDTH = 118
MARGIN = 21
"""Columns of the two counters, and what stands before a reason."""


def rules(host: Host, args: Any) -> None:
    """Print rules."""
    found = look(host, args.subject)
    if args.json:
        output.as_json(_records(found))
    elif args.commands:
        _as_commands(found)
    else:
        _by_chain(found)


def _dim(text: str) -> str:
    return output.paint(sys.stdout, output.DIM, text)


# ------------------------------------------------------------------ by chain


def _by_chain(found: ToldRules) -> None:
    for chain in found.chains:
        _chain(chain)
    if found.hidden:
        output.line(_dim(f"({found.hidden} rules of ours that are about others, or about everybody alike)\n"))
    _elements(found.elements)
    if found.foreign:
        output.line("Rules of others at the same hooks, in the order in which a packet meets them:\n")
        for chain in found.foreign:
            _chain(chain)


def _chain(chain: ToldChain) -> None:
    head = f"{chain.family} {chain.table} {chain.name}"
    place = f": {chain.hook}, priority {chain.priority}" if chain.hook else ""
    policy = f", policy {chain.policy}" if chain.policy not in ("", "accept") else ""
    owner = f" ({chain.owner})" if chain.foreign else ""
    why = _dim(f"  # {chain.why}") if chain.why else ""
    output.line(f"{head}{place}{policy}{owner}{why}")
    if not chain.rules:
        output.line(_dim(f"{'':{MARGIN}}no rules"))
    for rule in chain.rules:
        _rule(rule)
    output.line("")


def _rule(rule: ToldRule) -> None:
    counted = f"{_short(rule.packets):>9} {_short(rule.bytes):>9}"
    first, *more = textwrap.wrap(rule.text, WIDTH - MARGIN, break_long_words=False, break_on_hyphens=False) or [""]
    output.line(f"{counted}  {first}")
    for line in more:
        output.line(f"{'':{MARGIN}}  {line}")
    if rule.why:
        output.line(_dim(f"{'':{MARGIN}}# {rule.why}"))


def _short(number: int | None) -> str:
    """A count in at most six characters; ``-`` where nothing counts."""
    if number is None:
        return "-"
    for unit in ("", "k", "M", "G", "T"):
        if number < 10_000:
            return f"{number}{unit}"
        number //= 1000
    return f"{number}P"


def _elements(elements: Iterable[ToldElement]) -> None:
    by_set: dict[tuple[str, str, str], list[ToldElement]] = {}
    for one in elements:
        by_set.setdefault((one.family, one.table, one.set), []).append(one)
    if not by_set:
        return
    output.line("What stands in their sets and maps (the kernel counts nothing for an element):\n")
    for (family, _, name), members in by_set.items():
        output.line(f"{family} @{name}")
        for one in members:
            output.line(f"  {one.text}" + (_dim(f"  # {one.why}") if one.why else ""))
    output.line("")


# ------------------------------------------------------------------ as commands, as JSON


def _as_commands(found: ToldRules) -> None:
    for chain in (*found.chains, *found.foreign):
        if chain.rules:
            owner = f" of {chain.owner}" if chain.foreign else ""
            output.line(_dim(f"# chain {chain.family} {chain.table} {chain.name}{owner}"))
        for rule in chain.rules:
            if rule.packets is not None:
                output.line(_dim(f"# {rule.packets} packets, {rule.bytes} bytes"))
            output.line(rule.command)
    for element in found.elements:
        if element.why:
            output.line(_dim(f"# {element.why}"))
        output.line(element.command)


def _records(found: ToldRules) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    for chain in (*found.chains, *found.foreign):
        place: dict[str, Any] = {
            "family": chain.family,
            "table": chain.table,
            "chain": chain.name,
            "hook": chain.hook or None,
        }
        place |= {"priority": chain.priority if chain.hook else None, "policy": chain.policy or None}
        for rule in chain.rules:
            records.append(
                {
                    "kind": "rule",
                    **place,
                    "set": None,
                    "text": rule.text,
                    "why": rule.why,
                    "owner": chain.owner,
                    "packets": rule.packets,
                    "bytes": rule.bytes,
                    "command": rule.command,
                }
            )
    nowhere = dict.fromkeys(("chain", "hook", "priority", "policy"))
    for one in found.elements:
        where = {"family": one.family, "table": one.table, **nowhere, "set": one.set}
        told = {"text": one.text, "why": one.why, "owner": "nsbridge", "packets": None, "bytes": None}
        records.append({"kind": "element", **where, **told, "command": one.command})
    return records
