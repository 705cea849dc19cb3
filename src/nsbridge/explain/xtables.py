"""Tables and elements as commands of iptables(8) and ip6tables(8), for those who think in these: another style.

The same rules that firewall/iptables.py makes for hosts whose rules are to be in iptables: a chain for each set that a
rule asks, a rule for each element. Chains are filled before anything calls them. Frames between ports of a bridge are
told with nft in this style as well, since ebtables has no word for what they are asked.
"""

from __future__ import annotations

from nsbridge.desired.ruleset import skeleton
from nsbridge.explain import nft
from nsbridge.explain.command import Command, quoted
from nsbridge.firewall import iptables as words
from nsbridge.firewall.iptables_lower import lower
from nsbridge.firewall.iptables_read import hooks, is_turn, place_of
from nsbridge.firewall.ruleset import Element, Table
from nsbridge.model.names import ADMIN, TABLE
from nsbridge.state.things import ForeignAccept

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nsbridge.firewall.iptables import Lowered, Placed, Words
    from nsbridge.plan.step import Verb
    from nsbridge.state.things import Thing

_PROGRAMS = {4: "iptables", 6: "ip6tables"}

_known: dict[Table, tuple[Lowered, ...]] = {}


def _lowered(table: Table) -> tuple[Lowered, ...]:
    """The table for both families; worked out once, for it is always the same."""
    if table not in _known:
        _known[table] = (lower(table, 4), lower(table, 6))
    return _known[table]


def firewall(verb: Verb, things: Iterable[Thing], before: Iterable[Thing] = ()) -> list[Command]:
    """Return the commands about what of these things is firewall. before: for a change, the same as they were."""
    things = tuple(things)
    tables = [thing for thing in things if isinstance(thing, Table) and (thing.family, thing.name) == TABLE]
    elements = [thing for thing in things if isinstance(thing, Element) and thing.table == TABLE]
    accepts = [thing for thing in things if isinstance(thing, ForeignAccept)]
    frames = [thing for thing in things if thing not in (*tables, *elements, *accepts)]
    if verb == "remove":
        gone = [one for table in tables for one in _dismantled(table)]
        rest = _elements("-D", elements) if not tables else []
        return [*nft.firewall(verb, accepts), *rest, *gone, *nft.firewall(verb, frames)]
    if verb == "change":
        old = [thing for thing in before if isinstance(thing, Element) and thing.table == TABLE]
        anew = [one for table in tables for one in _filled(table, "-F")]
        return [*anew, *_elements("-D", old), *_elements("-I", elements), *nft.firewall(verb, (*frames, *accepts))]
    made = [one for table in tables for one in _filled(table, "-N")]
    called = [one for table in tables for one in _called(table, "-I")]
    rules = _elements("-I", elements)
    return [*nft.firewall(verb, frames), *made, *rules, *called, *nft.firewall(verb, accepts)]


def _command(version: int, table: str, what: str, chain: str, rest: Words = (), why: str = "") -> Command:
    said = " ".join(map(quoted, (_PROGRAMS[version], "-w", "-t", table, what, chain, *rest)))
    return Command(said, why)


def _filled(table: Table, how: str) -> list[Command]:
    """Make our chains (``-N``) or empty them (``-F``), and write what is in them always."""
    found = []
    for one in _lowered(table):
        why = f"our chains, IPv{one.version}"
        for chain in one.chains:
            if how == "-N" or chain.name != words.PREFIX + ADMIN:
                found.append(_command(one.version, chain.table, how, chain.name, why=why))
        for chain in one.chains:
            for fixed in chain.fixed:
                why = f"what {chain.name} holds always, IPv{one.version}"
                found.append(_command(one.version, chain.table, "-A", chain.name, fixed.words, why))
        if how == "-N":
            others = [Element(TABLE, words.KIND.name, (name,)) for name in words.OTHERS]
            rules = [rule for other in others for rule in words.placed(one, other)]
            found += [_placed(one, "-I", rule, "bridges of others, by their names") for rule in rules]
    return found


def _called(table: Table, how: str) -> list[Command]:
    """The rules in built-in chains that lead to ours."""
    return [
        _command(one.version, place, how, builtin, call, f"from here packets come to us, IPv{one.version}")
        for one in _lowered(table)
        for place, builtin, call in hooks(one)
    ]


def _dismantled(table: Table) -> list[Command]:
    """Nobody calls us any more; then the chains are emptied, and go."""
    found = _called(table, "-D")
    for how in ("-F", "-X"):
        for one in _lowered(table):
            why = f"our chains, IPv{one.version}"
            found += [_command(one.version, chain.table, how, chain.name, why=why) for chain in one.chains]
    return found


def _placed(lowered: Lowered, how: str, rule: Placed, why: str) -> Command:
    return _command(lowered.version, rule.table, how, rule.chain, rule.words, why)


def _elements(how: str, elements: Sequence[Element]) -> list[Command]:
    """The rules of elements, each put to the front of its chain or taken from it."""
    found = []
    turns: dict[tuple[str, str], list[Element]] = {}
    for one in elements:
        if is_turn(one.set):
            turns.setdefault(place_of(one), []).append(one)
    for lowered in _lowered(skeleton()):
        for one in elements:
            if not is_turn(one.set):
                found += [_placed(lowered, how, rule, one.why) for rule in words.placed(lowered, one)]
        for group in turns.values():
            found += [_placed(lowered, how, rule, group[0].why) for rule in reversed(words.turns(lowered, group))]
    return found
