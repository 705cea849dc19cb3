"""Tables, elements and accepts in other people's chains as commands of nft(8): the style of transcripts that we apply.

Another style (iptables) is another function of the same form: it is given the tables and elements of one step, or of
a whole script, and answers with commands.
"""

from __future__ import annotations

from nsbridge.desired import senders, sets
from nsbridge.explain.command import Command, quoted
from nsbridge.firewall.expressions import Accept, Match
from nsbridge.firewall.nftables import element_text, render, rule_text
from nsbridge.firewall.ruleset import Element, Rule, Table
from nsbridge.model.names import ADMIN, ALIAS, BRIDGE_TABLE, MARK_BIT, TABLE
from nsbridge.state.things import ForeignAccept

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nsbridge.firewall.ruleset import Set
    from nsbridge.plan.step import Verb
    from nsbridge.state.things import Thing

AT_ONCE = 60
"""How many elements one command adds: what a shared port takes."""

SETS: dict[tuple[tuple[str, str], str], Set] = {
    **{(TABLE, one.name): one for one in sets.SETS},
    **{(BRIDGE_TABLE, one.name): one for one in senders.SETS},
}

_OURS = Rule((Match("mark", (MARK_BIT, MARK_BIT)), Accept()), why=ALIAS)
_IPTABLES = f"-m mark --mark {MARK_BIT:#x}/{MARK_BIT:#x} -m comment --comment {ALIAS} -j ACCEPT"


def firewall(verb: Verb, things: Iterable[Thing], before: Iterable[Thing] = ()) -> list[Command]:
    """Return the commands about what of these things is firewall, in the order of apply.py. before: of a swap."""
    if verb == "swap":
        return _swapped(tuple(before), tuple(things))
    things = tuple(things)
    tables = [thing for thing in things if isinstance(thing, Table)]
    elements = [thing for thing in things if isinstance(thing, Element)]
    accepts = [thing for thing in things if isinstance(thing, ForeignAccept)]
    if verb == "remove":
        doomed = {(table.family, table.name) for table in tables}
        left = [one for one in elements if one.table not in doomed]
        gone = [Command(f"nft delete table {one.family} {one.name}", _about(one)) for one in tables]
        return [*map(_withdrawn, accepts), *_elements("delete", left), *gone]
    if verb == "change":
        return [*map(_rewritten, tables), *_changed(elements), *map(_accepted, accepts)]
    return [*map(_written, tables), *_elements("add", elements), *map(_accepted, accepts)]


def _about(table: Table) -> str:
    names = {"inet": "what may pass, and what is rewritten", "bridge": "nobody sends in another's name"}
    return f"our table {table.family} {table.name}: {names.get(table.family, 'rules')}"


def _heredoc(text: str) -> str:
    return f"nft -f - <<'END'\n{text}END"


TARGET = "icmpv6 taddr"
"""The target of a neighbour advertisement. nft 1.0.6 has no name for it, and compares its bits with no set."""

_BITS = "@th,64,128"


def typed(table: Table) -> str:
    """Return a table as a person types it: as `render` has it, but for what nft can list and not read again."""
    return render(table, stateless=True, explicit=table.family == "bridge").replace(_BITS, TARGET)


def _written(table: Table) -> Command:
    return Command(_heredoc(typed(table)), _about(table))


def _rewritten(table: Table) -> Command:
    """All chains anew but the administrator's; sets and their elements stay."""
    chains = [chain for chain in table.chains if chain.name != ADMIN]
    flushed = "".join(f"flush chain {table.family} {table.name} {chain.name}\n" for chain in chains)
    return Command(_heredoc(flushed + typed(table)), _about(table))


def _elements(verb: str, elements: Sequence[Element]) -> list[Command]:
    """Elements of one set together, so many at once."""
    groups: dict[tuple[tuple[str, str], str], list[Element]] = {}
    for one in elements:
        groups.setdefault((one.table, one.set), []).append(one)
    found = []
    for (table, name), members in groups.items():
        for first in range(0, len(members), AT_ONCE):
            some = members[first : first + AT_ONCE]
            said = _element_words(verb, table, name, some)
            found.append(Command(f"nft {said}", _reasons(some)))
    return found


def _element_words(verb: str, table: tuple[str, str], name: str, members: Sequence[Element]) -> str:
    one = SETS[table, name]
    if verb == "delete":  # by their keys; nft takes data along for maps of intervals only
        members = [each.replace(data=()) for each in members]
        one = one.replace(data=())
    text = ", ".join(element_text(one, each) for each in members)
    return f"{verb} element {' '.join(table)} {name} {quoted(f'{{ {text} }}')}"


def _reasons(members: Sequence[Element]) -> str:
    whys = list(dict.fromkeys(one.why for one in members if one.why))
    return "; ".join(whys[:3]) + (f"; and {len(whys) - 3} more" if len(whys) > 3 else "")


def _changed(elements: Sequence[Element]) -> list[Command]:
    """In one transaction, so that no packet meets the map without them."""
    found = []
    groups: dict[tuple[tuple[str, str], str], list[Element]] = {}
    for one in elements:
        groups.setdefault((one.table, one.set), []).append(one)
    for (table, name), members in groups.items():
        lines = [_element_words(verb, table, name, members).replace("'", "") for verb in ("delete", "add")]
        found.append(Command(_heredoc("".join(f"{line}\n" for line in lines)), _reasons(members)))
    return found


def _swapped(gone: Iterable[Thing], come: Iterable[Thing]) -> list[Command]:
    """In one transaction, so that no packet meets a moment in between."""
    lines = []
    for verb, things in (("delete", gone), ("add", come)):
        groups: dict[tuple[tuple[str, str], str], list[Element]] = {}
        for one in things:
            if isinstance(one, Element):
                groups.setdefault((one.table, one.set), []).append(one)
        for (table, name), members in groups.items():
            lines.append(_element_words(verb, table, name, members).replace("'", "") + "\n")
    return [Command(_heredoc("".join(lines)), _reasons([one for one in come if isinstance(one, Element)]))]


def _accepted(thing: ForeignAccept) -> Command:
    if thing.where != "nft":
        return Command(f"{thing.where} -w -I FORWARD {_IPTABLES}", thing.why)
    where = f"{thing.family} {thing.table} {thing.chain}"
    return Command(f"nft insert rule {where} {quoted(rule_text(_OURS))}", thing.why)


def _withdrawn(thing: ForeignAccept) -> Command:
    if thing.where != "nft":
        return Command(f"{thing.where} -w -D FORWARD {_IPTABLES}", thing.why)
    where = f"{thing.family} {thing.table} {thing.chain}"
    handle = f"$(nft -a list chain {where} | sed -n 's/.* comment \"{ALIAS}\" # handle //p')"
    return Command(f"nft delete rule {where} handle {handle}", thing.why)
