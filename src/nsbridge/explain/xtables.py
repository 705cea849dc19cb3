"""Tables and elements as commands of iptables(8) and ip6tables(8), for those who think in these: another style.

What makes them is told by firewall/iptables_told.py; here is what takes them away again: the same commands in their
opposites. Frames between ports of a bridge are told with nft in this style as well, since ebtables has no word for what
they are asked.
"""

from __future__ import annotations

from nsbridge.desired.ruleset import skeleton
from nsbridge.explain import nft
from nsbridge.explain.command import Command, quoted
from nsbridge.firewall.iptables import PREFIX
from nsbridge.firewall.iptables_told import commands, element_commands
from nsbridge.firewall.ruleset import Element, Table
from nsbridge.model.names import ADMIN, TABLE
from nsbridge.state.things import ForeignAccept

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nsbridge.firewall.iptables_told import Told
    from nsbridge.plan.step import Verb
    from nsbridge.state.things import Thing

_VERB = 4
"""Where ``-A`` and its like stand among a command's words."""


def firewall(verb: Verb, things: Iterable[Thing], before: Iterable[Thing] = ()) -> list[Command]:
    """Return the commands about what of these things is firewall. before: for a change, the same as they were."""
    things = tuple(things)
    tables = [thing for thing in things if isinstance(thing, Table) and (thing.family, thing.name) == TABLE]
    elements = [thing for thing in things if isinstance(thing, Element) and thing.table == TABLE]
    accepts = [thing for thing in things if isinstance(thing, ForeignAccept)]
    frames = [thing for thing in things if thing not in (*tables, *elements, *accepts)]
    if verb == "remove":
        gone = [one for table in tables for one in _dismantled(table)] or _deleted(elements)
        return [*nft.firewall(verb, accepts), *gone, *nft.firewall(verb, frames)]
    if verb == "change":
        old = [thing for thing in before if isinstance(thing, Element) and thing.table == TABLE]
        anew = [one for table in tables for one in _rewritten(table)]
        return [*anew, *_deleted(old), *_added(elements), *nft.firewall(verb, (*frames, *accepts))]
    made = _typed([told for table in tables for told in commands(table)])
    return [*nft.firewall(verb, frames), *made, *_added(elements), *nft.firewall(verb, accepts)]


def _typed(found: Iterable[Told]) -> list[Command]:
    return [Command(" ".join(map(quoted, words)), why) for words, why in found]


def _with(told: Told, verb: str, *, whole: bool = True) -> Told:
    """The same command with another verb; without what comes after the chain unless it is to be whole."""
    words, why = told
    return (*words[:_VERB], verb, *(words[_VERB + 1 :] if whole else words[_VERB + 1 : _VERB + 2])), why


def _added(elements: Sequence[Element]) -> list[Command]:
    return _typed(element_commands(skeleton(), elements))


def _deleted(elements: Sequence[Element]) -> list[Command]:
    return _typed(_with(told, "-D") for told in element_commands(skeleton(), elements))


def _dismantled(table: Table) -> list[Command]:
    """Nobody calls us any more; then the chains are emptied, and go."""
    made = commands(table)
    calls = [told for told in made if told[0][_VERB] == "-I" and not told[0][_VERB + 1].startswith(PREFIX)]
    chains = [(words, "our chains") for words, _ in made if words[_VERB] == "-N"]
    found = [_with(told, "-D") for told in calls]
    return _typed([*found, *[_with(one, "-F", whole=False) for one in chains], *[_with(one, "-X") for one in chains]])


def _rewritten(table: Table) -> list[Command]:
    """What our chains hold always, anew; all but the administrator's. Elements have to be told after it."""
    made = commands(table)
    chains = [(words, "our chains") for words, _ in made if words[_VERB] == "-N" and words[-1] != PREFIX + ADMIN]
    rules = [told for told in made if told[0][_VERB] == "-A" or told[0][_VERB + 1].startswith(PREFIX)]
    return _typed([*[_with(one, "-F") for one in chains], *[told for told in rules if told[0][_VERB] != "-N"]])
