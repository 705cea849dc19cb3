"""Tables and elements as commands of iptables(8) and ip6tables(8), for those who think in these: another style.

What makes them is told by firewall/iptables_told.py; here is what takes them away again: the same commands in their
opposites. Step by step these are the backend's, which changes element by element; a whole script (`whole`) knows all
elements and is written shorter (firewall/iptables_short.py). Frames between ports of a bridge are told with nft in this
style as well, since ebtables has no word for what they are asked.
"""

from __future__ import annotations

from nsbridge.desired.ruleset import skeleton
from nsbridge.explain import nft
from nsbridge.explain.command import Command, quoted
from nsbridge.firewall.iptables import PREFIX
from nsbridge.firewall.iptables_short import short
from nsbridge.firewall.iptables_told import commands, element_commands
from nsbridge.firewall.ruleset import Element, Table
from nsbridge.model.names import ADMIN, TABLE
from nsbridge.plan.diff import phase
from nsbridge.state.things import HOST, ForeignAccept, Netns, Sysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nsbridge.explain.command import Firewall
    from nsbridge.firewall.iptables_short import Short
    from nsbridge.firewall.iptables_told import Told
    from nsbridge.plan.step import Verb
    from nsbridge.state.things import Thing

_VERB = 4
"""Where ``-A`` and its like stand among a command's words."""


def firewall(
    verb: Verb, things: Iterable[Thing], before: Iterable[Thing] = (), bridges: Iterable[str] = ()
) -> list[Command]:
    """Return the commands about what of these things is firewall.

    before: for a change, the same as they were. bridges: those of others on the host, which have to be named.
    """
    things = tuple(things)
    tables = [thing for thing in things if isinstance(thing, Table) and (thing.family, thing.name) == TABLE]
    elements = [thing for thing in things if isinstance(thing, Element) and thing.table == TABLE]
    accepts = [thing for thing in things if isinstance(thing, ForeignAccept)]
    frames = [thing for thing in things if thing not in (*tables, *elements, *accepts)]
    if verb == "remove":
        gone = [one for table in tables for one in _dismantled(table)] or _deleted(elements)
        return [*nft.firewall(verb, accepts), *gone, *nft.firewall(verb, frames)]
    if verb == "swap":
        old = [thing for thing in before if isinstance(thing, Element)]
        if all(thing.table == TABLE for thing in (*old, *elements)):
            return [*_deleted(old), *_added(elements)]
        return nft.firewall(verb, things, before)
    if verb == "change":
        old = [thing for thing in before if isinstance(thing, Element) and thing.table == TABLE]
        anew = [one for table in tables for one in _rewritten(table, bridges)]
        return [*anew, *_deleted(old), *_added(elements), *nft.firewall(verb, (*frames, *accepts))]
    made = _typed([told for table in tables for told in commands(table, bridges=bridges)])
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


def _rewritten(table: Table, bridges: Iterable[str]) -> list[Command]:
    """What our chains hold always, anew; all but the administrator's. Elements have to be told after it."""
    made = commands(table, bridges=bridges)
    chains = [(words, "our chains") for words, _ in made if words[_VERB] == "-N" and words[-1] != PREFIX + ADMIN]
    rules = [told for told in made if told[0][_VERB] == "-A" or told[0][_VERB + 1].startswith(PREFIX)]
    return _typed([*[_with(one, "-F") for one in chains], *[told for told in rules if told[0][_VERB] != "-N"]])


# ------------------------------------------------------------------ a whole script

ABOUT = {
    "Rules": "Chains of ours decide what may pass between the bridges and the world. They hang in mangle, not filter:\n"
    "what is dropped there, nobody else's rule can accept. Frames between the ports of a bridge are for nft to check:\n"
    "iptables never sees them. Nothing is plugged in yet, so there is no moment without all this.",
    "Published ports": "Last, when everything behind them is complete: rules that lead a port of the host inside.",
}
"""What a reader should know before a chapter, where it is another thing in this style."""


def whole(things: Iterable[Thing], bridges: Iterable[str]) -> Firewall:
    """Return the style for a script that builds all of these things, or takes all of them away.

    bridges: those of others on the host, whose packets are theirs to decide.
    """
    things, bridges = tuple(things), tuple(bridges)
    elements = [thing for thing in things if isinstance(thing, Element) and thing.table == TABLE]
    late = [one for one in elements if phase(one) > phase(Netns(""))]
    early = [one for one in elements if one not in late]
    table = next((one for one in things if isinstance(one, Table) and (one.family, one.name) == TABLE), skeleton())
    shorts = [short(table, early, late, version, bridges) for version in _versions(things, early)]

    def told(verb: Verb, some: Iterable[Thing], before: Iterable[Thing] = ()) -> list[Command]:
        some = tuple(some)
        mine = [one for one in some if isinstance(one, Table | Element) and _place(one) == TABLE]
        rest = nft.firewall(verb, [one for one in some if one not in mine], before)
        made = _taken if verb == "remove" else _built
        tables = [command for one in shorts for command in made(one)] if table in mine else []
        ports = _ports(shorts, verb, [one for one in mine if isinstance(one, Element)])
        return [*ports, *rest, *tables] if verb == "remove" else [*rest, *tables, *ports]

    return told


def _place(one: Table | Element) -> tuple[str, str]:
    return one.table if isinstance(one, Element) else (one.family, one.name)


def _versions(things: Sequence[Thing], elements: Iterable[Element]) -> tuple[int, ...]:
    """Both families, but for IPv6 where every bridge of ours has it turned off."""
    bridges = {f"net/ipv6/conf/{one.key[0]}/disable_ipv6" for one in elements if one.set == "bridges"}
    off = {one.key for one in things if isinstance(one, Sysctl) and one.netns == HOST and one.value == "1"}
    return (4,) if bridges and bridges <= off else (4, 6)


def _run(version: int, table: str, *rest: str) -> str:
    program = "iptables" if version == 4 else "ip6tables"
    return " ".join((f"{program} -w", *(("-t", table) if table != "filter" else ()), *map(quoted, rest)))


def _built(one: Short) -> list[Command]:
    """Chain by chain in the order in which a packet comes to them: their names, their rules, who calls them."""
    found: list[Command] = []
    told: set[str] = set()
    for hook in one.hooks:
        mine = [chain for chain in one.chains if chain[0] in one.below(hook.chain) and chain[0] not in told]
        told |= {name for name, _, _ in mine}
        family = "" if one.version == 4 else ", IPv6"
        found += [Command(_run(one.version, table, "-N", name), f"{hook.why}{family}") for name, table, _ in mine]
        for name, table, lines in mine:
            found += [
                Command(_run(one.version, table, "-A", name, *line.words), line.why) for line in lines if not line.of
            ]
        call = _run(one.version, hook.table, "-I", hook.builtin, "-j", hook.chain)
        found.append(Command(call, f"from now on, {hook.builtin} asks these"))
    return found


def _taken(one: Short) -> list[Command]:
    found = [
        Command(_run(one.version, hook.table, "-D", hook.builtin, "-j", hook.chain), hook.why) for hook in one.hooks
    ]
    for verb in ("-F", "-X"):
        found += [Command(_run(one.version, table, verb, name), "our chains") for name, table, _ in one.chains]
    return found


def _ports(shorts: Iterable[Short], verb: Verb, elements: Sequence[Element]) -> list[Command]:
    """The rules that come last, each where its chain has to have it."""
    found = []
    for one in shorts:
        for name, table, lines in one.chains:
            for place, line in enumerate(lines, 1):
                if line.of is None or line.of not in elements:
                    continue
                at = ("-A", name) if all(after.of for after in lines[place:]) else ("-I", name, str(place))
                at = ("-D", name) if verb == "remove" else at
                found.append(Command(_run(one.version, table, *at, *line.words), line.of.why or line.why))
    return found
