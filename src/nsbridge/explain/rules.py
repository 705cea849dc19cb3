"""Rules as people look at them: by chain, in the order in which a packet meets them, each with reason, owner, counters.

Ours are told from the values that were written, as long as the kernel holds them still; numbers are the kernel's. What
others hook in at the same places is told apart, in its own tool's words (firewall/words.py).
"""

from __future__ import annotations

from nsbridge.explain.command import quoted
from nsbridge.explain.nft import SETS
from nsbridge.firewall.expressions import Dnat, Goto, InSet, Jump, Snat, Vmap
from nsbridge.firewall.nftables import element_text, rule_text
from nsbridge.firewall.words import rule_words
from nsbridge.model.names import ALIAS, BRIDGE_TABLE, TABLE
from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from nsbridge.firewall.ruleset import Element, Rule, Table
    from nsbridge.firewall.seen import Contents, Firewall, SeenChain, SeenRule, SeenTable

HOOKS = ("prerouting", "input", "forward", "output", "postrouting")
OUR_ACCEPT = "ours: what we allow, and have marked, passes here too"

OURS = (TABLE, BRIDGE_TABLE)

_FAMILIES = ("bridge", "inet", "ip", "ip6")
"""Those whose chains a packet of ours can meet. At prerouting a frame is the bridge's before it is a packet."""


class ToldRule(Value):
    """One rule. text: in its tool's words, without the reason. packets, bytes: None where nothing counts.

    command: what made it, as typed.
    """

    text: str
    why: str
    command: str
    packets: int | None = None
    bytes: int | None = None


class ToldChain(Value):
    """One chain. hook, priority, policy: of a base chain. owner: whose it is. foreign: none of ours."""

    family: str
    table: str
    name: str
    hook: str
    priority: int
    policy: str
    owner: str
    why: str
    rules: tuple[ToldRule, ...]
    foreign: bool


class ToldElement(Value):
    """One element of a set or map of ours. The kernel doesn't count what an element meets."""

    family: str
    table: str
    set: str
    text: str
    why: str
    command: str


class ToldRules(Value):
    """Chains in the order in which a packet meets them, and elements. hidden: rules of ours that concern others."""

    chains: tuple[ToldChain, ...]
    elements: tuple[ToldElement, ...]
    foreign: tuple[ToldChain, ...]
    hidden: int = 0


def _place(chain: SeenChain, family: str) -> tuple[int, int, int]:
    hook = HOOKS.index(chain.hook)
    # A frame leaves by the bridge after IP has done with it.
    first = family == "bridge" if chain.hook == "prerouting" else family != "bridge"
    return hook, 0 if first else 1, chain.priority


def _led_to(chain: SeenChain) -> Iterator[str]:
    for rule in chain.rules:
        pending: list[object] = list(rule.parts)
        while pending:
            part = pending.pop(0)
            if isinstance(part, (Jump, Goto)):
                yield part.chain
            pending += getattr(part, "does", ())


def _ordered(tables: Sequence[SeenTable]) -> list[tuple[SeenTable, SeenChain]]:
    """Base chains in the order in which a packet meets them, each followed by those it leads to for the first time."""
    based = [(table, chain) for table in tables for chain in table.chains if chain.hook in HOOKS]
    based.sort(key=lambda pair: _place(pair[1], pair[0].family))
    found: dict[tuple[str, str, str], tuple[SeenTable, SeenChain]] = {}
    for table, base in based:
        by_name = {chain.name: chain for chain in table.chains}
        pending = [base]
        while pending:
            chain = pending.pop(0)
            key = (table.family, table.name, chain.name)
            if key not in found:
                found[key] = (table, chain)
                pending += [by_name[name] for name in _led_to(chain) if name in by_name]
    for table in filter(_is_ours, tables):  # chains that only elements of a policy lead to
        for chain in table.chains:
            found.setdefault((table.family, table.name, chain.name), (table, chain))
    return list(found.values())


def _is_ours(table: SeenTable) -> bool:
    return (table.family, table.name) in OURS


def concerns(rule: Rule, asked: Callable[[str], bool]) -> bool:
    """Tell whether a rule can be met because of elements in the sets asked about: it asks one of them, and no other."""
    names = {one.name for one in rule.expressions if isinstance(one, InSet | Vmap | Dnat | Snat)}
    absent = {one.name for one in rule.expressions if isinstance(one, InSet) and one.negate}
    return any(map(asked, names)) and all(map(asked, names - absent))


def told(firewall: Firewall, meant: Iterable[Table], elements: Iterable[Element], *, only: bool = False) -> ToldRules:
    """Return everything that decides about packets of ours.

    meant: our tables as they are written. elements: those of the thing asked about. only: just rules that ask a set in
    which one of these elements stands; the others are counted.
    """
    elements = tuple(elements)
    known = {(table.family, table.name, chain.name): chain.rules for table in meant for chain in table.chains}
    asked = {(element.table, element.set) for element in elements}
    ours, foreign, hidden = [], [], 0
    read = [table for table in firewall.tables if table.family in _FAMILIES and not table.dormant]
    for table, chain in _ordered(read):
        if not _is_ours(table):
            if chain.rules or chain.policy == "drop":
                foreign.append(_told_chain(table, chain, _their_rules(table, chain, firewall.contents)))
            continue
        place, rules, left = (table.family, table.name), [], 0
        for one, rule in _paired(chain.rules, known.get((*place, chain.name), ())):
            if only and rule is not None and not concerns(rule, lambda name, of=place: (of, name) in asked):  # type: ignore[misc]
                left += 1
                continue
            rules.append(_our_rule(table, chain, one, rule, firewall.contents))
        hidden += left
        if rules or not only:
            ours.append(_told_chain(table, chain, rules))
    return ToldRules(tuple(ours), tuple(map(_told_element, elements)), tuple(foreign), hidden)


def _paired(there: Sequence[SeenRule], meant: Sequence[Rule]) -> Iterator[tuple[SeenRule, Rule | None]]:
    """Each rule of the kernel with what we mean by it, None where it isn't as we wrote it."""
    same = len(there) == len(meant)
    for place, one in enumerate(there):
        yield one, meant[place] if same and meant[place].why[:100] == one.why[:100].replace("'", "'") else None


def _told_chain(table: SeenTable, chain: SeenChain, rules: Sequence[ToldRule]) -> ToldChain:
    return ToldChain(
        table.family,
        table.name,
        chain.name,
        chain.hook,
        chain.priority,
        chain.policy,
        "nsbridge" if _is_ours(table) else table.owner,
        chain.why,
        tuple(rules),
        not _is_ours(table),
    )


def _our_rule(
    table: SeenTable, chain: SeenChain, one: SeenRule, rule: Rule | None, contents: Contents | None
) -> ToldRule:
    place = f"{table.family} {table.name} {chain.name}"
    if rule is None:
        text = rule_words(one, chain, table, contents)
        return ToldRule(text, one.why, f"nft add rule {place} {quoted(text)}", one.packets, one.bytes)
    text = rule_text(rule.replace(why=""), stateless=True)
    command = f"nft add rule {place} {quoted(rule_text(rule, stateless=True))}"
    return ToldRule(text, rule.why, command, one.packets, one.bytes)


_PROGRAMS = {"ip": "iptables", "ip6": "ip6tables", "bridge": "ebtables", "arp": "arptables"}


def _their_rules(table: SeenTable, chain: SeenChain, contents: Contents | None) -> list[ToldRule]:
    found = []
    for one in chain.rules:
        text = rule_words(one, chain, table, contents)
        if table.backend == "nft":
            command = f"nft add rule {table.family} {table.name} {chain.name} {quoted(text)}"
        else:
            program = _PROGRAMS[table.family] + table.backend.removeprefix("iptables")
            command = f"{program} -t {table.name} {text}"
        why = OUR_ACCEPT if one.why == ALIAS else one.why
        found.append(ToldRule(text, why, command, one.packets, one.bytes))
    return found


def _told_element(element: Element) -> ToldElement:
    one = SETS[element.table, element.set]
    text = element_text(one, element)
    command = f"nft add element {' '.join(element.table)} {element.set} {quoted(f'{{ {text} }}')}"
    return ToldElement(*element.table, element.set, text, element.why, command)
