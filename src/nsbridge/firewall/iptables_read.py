"""What iptables-save prints, read back as values; and what iptables-restore is told.

Only comments and the order of rules are read: how a match is printed differs from version to version. A comment tells
which element a rule is of, and each rule that calls us from a built-in chain bears a digest of the whole skeleton it
was written with, so that one written by another version of nsbridge is known for such.
"""

from __future__ import annotations

from _blake2 import blake2s
from ipaddress import ip_address, ip_network

from nsbridge.firewall.expressions import Opaque
from nsbridge.firewall.iptables import KIND, PREFIX, cut, named
from nsbridge.firewall.ruleset import TURNS, Chain, Element, Rule, Span
from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, TypeAlias

    from nsbridge.firewall.iptables import Lowered, Words
    from nsbridge.firewall.ruleset import Set, Table

    Tables: TypeAlias = dict[str, dict[str, list["SavedRule"]]]
    """Of one family: chains by table and name, those of ours, and of built-in ones our rules."""

MARK = "nsbridge "
"""How the comment of a rule in a built-in chain begins that calls a chain of ours."""

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.,:/=+![]<>")


class SavedRule(Value):
    """A rule of ours as iptables-save prints it: what comes after ``-A CHAIN``, and its comment."""

    text: str
    comment: str = ""


# ------------------------------------------------------------------ text


def quoted(word: str) -> str:
    """Return a word as iptables-restore reads it."""
    if word and _PLAIN.issuperset(word):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def line(words: Words) -> str:
    """Return words as one line for iptables-restore."""
    return " ".join(map(quoted, words))


def comment_in(text: str) -> str:
    """Return the comment of a rule as iptables-save prints it, "" without one."""
    _, found, rest = text.partition("--comment ")
    if not found:
        return ""
    if not rest.startswith('"'):
        return rest.partition(" ")[0]
    said, place = "", 1
    while place < len(rest) and rest[place] != '"':
        place += rest[place] == "\\"
        said += rest[place : place + 1]
        place += 1
    return said


def parse(text: str) -> Tables:
    """Read what iptables-save printed; nothing but ours is kept."""
    tables: Tables = {}
    chains: dict[str, list[SavedRule]] = {}
    for row in text.splitlines():
        if row.startswith("*"):
            chains = tables.setdefault(row[1:], {})
        elif row.startswith(f":{PREFIX}"):
            chains.setdefault(row[1:].partition(" ")[0], [])
        elif row.startswith("-A "):
            _, name, said = row.split(" ", 2) if row.count(" ") > 1 else (row, "", "")
            if name.startswith(PREFIX):
                chains.setdefault(name, []).append(SavedRule(said, comment_in(said)))
            elif f"-j {PREFIX}" in said and (told := comment_in(said)).startswith(MARK):
                chains.setdefault(name, []).append(SavedRule(said, told))
    return tables


# ------------------------------------------------------------------ the skeleton


def digest(lowered: Lowered) -> str:
    """Eight hex digits for all that is always there."""
    shown = repr([(one.name, one.slot, one.fixed) for one in lowered.chains])
    return blake2s(shown.encode(), digest_size=4).hexdigest()


def hook_comment(lowered: Lowered, why: str) -> str:
    """The comment of the rule in a built-in chain that calls ours."""
    return cut(f"{MARK}{digest(lowered)}: {why}")


def hooks(lowered: Lowered) -> Iterator[tuple[str, str, Words]]:
    """Return table, built-in chain and words of the rules that call us."""
    for one in lowered.hooks:
        said = hook_comment(lowered, one.why)
        yield one.table, one.builtin, ("-m", "comment", "--comment", said, "-j", one.chain)


def is_there(lowered: Lowered, saved: Tables) -> bool:
    """Tell whether the whole skeleton is in place, as we wrote it. Other rules in the administrator's chain are his."""
    sets = {one.name for one in lowered.sets}
    for one in lowered.chains:
        rules = saved.get(one.table, {}).get(one.name)
        if rules is None:
            return False
        fixed = [rule.comment for rule in rules if split(rule.comment)[0] not in sets]
        if (one.fixed or one.slot) and fixed != [each.why for each in one.fixed]:
            return False
    calls = {(table, builtin, words[3]) for table, builtin, words in hooks(lowered)}
    there = [(table, name, rule.comment) for table, name, rule in calling(saved)]
    return len(there) == len(calls) and set(there) == calls


def calling(saved: Tables) -> Iterator[tuple[str, str, SavedRule]]:
    """Return table, built-in chain and rule of what calls us."""
    for table, chains in saved.items():
        for name, rules in chains.items():
            if not name.startswith(PREFIX):
                for rule in rules:
                    yield table, name, rule


def any_there(saved: Tables, admin: str) -> bool:
    """Tell whether any chain of ours is there, beyond the administrator's."""
    return any(name != PREFIX + admin for chains in saved.values() for name in chains)


# ------------------------------------------------------------------ elements


def _value(kind: str, interval: bool, text: str) -> Any:
    if kind.endswith("_addr") and kind.startswith("ipv"):
        return ip_network(text) if interval else ip_address(text)
    if kind == "inet_service":
        first, found, last = text.partition("-")
        return Span(int(first), int(last)) if found else int(text)
    return int(text) if kind == "turn" else text


def _data(one: Set, text: str) -> tuple[Any, ...]:
    if one.data == ("verdict",):
        return (text,)
    return tuple([_value(kind, False, word) for kind, word in zip(one.data, text.split(" "), strict=True)])


def split(comment: str) -> tuple[str, str, str]:
    """Return set, key and data of an element's comment, as text; ("", "", "") for another."""
    name, found, rest = comment.removeprefix("[").partition("] ")
    if not found or not comment.startswith("["):
        return "", "", ""
    key, _, data = rest.partition("; ")[0].partition(" -> ")
    return name, key, data


def elements(table: tuple[str, str], one: Set, key: str, data: str) -> list[Element]:
    """Return the elements that a comment tells of: one, or the turns of a port that are dealt alike. ValueError."""
    *words, last = key.split(" ")
    held = _data(one, data) if data else ()
    if one.key[-1] != "turn":
        parts = zip(one.key, (*words, last), strict=True)
        return [Element(table, one.name, tuple([_value(kind, one.interval, word) for kind, word in parts]), held)]
    if not data:
        return []
    first, period = map(int, last.split("/"))
    front = tuple([_value(kind, False, word) for kind, word in zip(one.key[:-1], words, strict=True)])
    return [Element(table, one.name, (*front, turn), held) for turn in range(first, TURNS, period)]


class Found(Value):
    """A rule of an element: where it stands."""

    version: int
    table: str
    chain: str
    rule: SavedRule


def index(saved: dict[int, Tables]) -> dict[tuple[str, str], list[Found]]:
    """Return the rules of elements by set and key (as text); the turns of one port under the port."""
    found: dict[tuple[str, str], list[Found]] = {}
    for version, tables in saved.items():
        for table, chains in tables.items():
            for chain, rules in chains.items():
                for rule in rules:
                    name, key, _ = split(rule.comment)
                    if name:
                        key = key.rpartition(" ")[0] if is_turn(name) else key
                        found.setdefault((name, key), []).append(Found(version, table, chain, rule))
    return found


def is_turn(name: str) -> bool:
    """Tell whether the elements of a set are turns, of which one rule may stand for several."""
    return name.startswith("turns")


def place_of(element: Element) -> tuple[str, str]:
    """Return where `index` has an element."""
    return element.set, named(element.key[:-1] if is_turn(element.set) else element.key)


def held(table: Table, rules: Iterable[Found]) -> list[Element]:
    """Return the elements whose rules these are. One rule is enough: `is_there` tells whether chains lost any."""
    sets = {one.name: one for one in table.sets}
    made: dict[tuple[str, ...], Element] = {}
    for comment in dict.fromkeys(one.rule.comment for one in rules):
        name, key, data = split(comment)
        try:
            found = elements((table.family, table.name), sets[name], key, data) if name in sets else []
        except ValueError:  # somebody else's words in our chain
            continue
        made |= {element.identity: element for element in found}
    return list(made.values())


def changed(table: Table) -> Table:
    """Return the table as one that isn't as we wrote it."""
    strange = Chain("changed", (Rule((Opaque("rules of ours are missing or changed"),)),))
    return table.replace(chains=(*table.chains, strange))


def read(table: Table, saved: dict[int, Tables]) -> list[Element]:
    """Return the elements that are there."""
    found: list[Element] = []
    for (name, _), rules in index(saved).items():
        if name != KIND.name:
            found += held(table, rules)
    return found
