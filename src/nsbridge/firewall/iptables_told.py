"""The same as commands that a person could type: for transcripts and lessons. Nothing here is run."""

from __future__ import annotations

from nsbridge.firewall import iptables as words
from nsbridge.firewall import iptables_read as text
from nsbridge.firewall.iptables import KIND, OTHERS
from nsbridge.firewall.iptables_lower import lower
from nsbridge.firewall.ruleset import Element

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias

    from nsbridge.firewall.iptables import Lowered, Placed, Words
    from nsbridge.firewall.ruleset import Table

    Told: TypeAlias = tuple[tuple[str, ...], str]
    """A command's words, and why."""

_ORDER = ("raw", "mangle", "security", "filter", "nat")


def _command(version: int, table: str, *rest: str) -> Words:
    return ("iptables" if version == 4 else "ip6tables", "-w", "-t", table, *rest)


def commands(table: Table, versions: Iterable[int] = (4, 6), bridges: Iterable[str] = ()) -> list[Told]:
    """Return what makes the table without elements. bridges: those of others on the host."""
    found: list[Told] = []
    for version in versions:
        one = lower(table, version)
        for name in _ORDER:
            chains = [chain for chain in one.chains if chain.table == name]
            found += [(_command(version, name, "-N", chain.name), "") for chain in chains]
            found += [
                (_command(version, name, "-A", chain.name, *fixed.words), fixed.why)
                for chain in chains
                for fixed in chain.fixed
            ]
        kinds = [Element((table.family, table.name), KIND.name, (each,), why=KIND.why) for each in (*OTHERS, *bridges)]
        found += [told for each in kinds for told in _placed(one, words.placed(one, each), each.why)]
        whys = {hook.chain: hook.why for hook in one.hooks}
        found += [
            (_command(version, place, "-I", builtin, *call), whys[call[-1]]) for place, builtin, call in text.hooks(one)
        ]
    return found


def element_commands(table: Table, elements: Iterable[Element], versions: Iterable[int] = (4, 6)) -> list[Told]:
    """Return what adds elements; the turns of a shared port have to be told all at once."""
    found: list[Told] = []
    lowered = [lower(table, version) for version in versions]
    groups: dict[tuple[str, str], list[Element]] = {}
    for element in elements:
        if text.is_turn(element.set):
            groups.setdefault(text.place_of(element), []).append(element)
            continue
        for one in lowered:
            found += _placed(one, words.placed(one, element), element.why)
    for group in groups.values():
        for one in lowered:
            found += _placed(one, reversed(words.turns(one, group)), group[0].why)
    return found


def _placed(lowered: Lowered, rules: Iterable[Placed], why: str) -> list[Told]:
    return [(_command(lowered.version, rule.table, "-I", rule.chain, *rule.words), why) for rule in rules]
