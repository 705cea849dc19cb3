"""Our table in iptables: the other firewall of a host, behind the same questions as `nftnetlink.Nft` answers.

What is there is read with iptables-save, what changes is told to iptables-restore, both families each time. One run
of iptables-restore takes several tables, each of them whole or not at all: guards first (raw, mangle, filter), what
publishes last (nat); the other way round when something goes. When one is refused, those before it are taken back.
Killed in between, it leaves rules in some tables: each tells what it is of, so the next command undoes or finishes it.

Frames between ports of a bridge stay with nf_tables, in table bridge nsbridge: ebtables has no word for the address
that a neighbour advertisement is about, and decides about forwarded frames before IP rules can have marked them
(docs/adr/0012).
"""

from __future__ import annotations

import errno
import os
from itertools import pairwise

from nsbridge.errors import KernelError, NoPermission, Unsupported, unpermitted
from nsbridge.firewall import iptables as words
from nsbridge.firewall import iptables_read as text
from nsbridge.firewall.iptables import KIND, OTHERS, PREFIX
from nsbridge.firewall.iptables_lower import lower
from nsbridge.firewall.ruleset import Element, Table
from nsbridge.kernel import emptied, programs
from nsbridge.model.names import ADMIN, BRIDGE_TABLE, TABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, TypeAlias

    from nsbridge.firewall.iptables import Lowered, Placed
    from nsbridge.firewall.iptables_read import Found, Tables
    from nsbridge.kernel.nftnetlink import Nft
    from nsbridge.state.things import Thing

    Names: TypeAlias = Callable[[], Iterable[str]]

RUN = 100
"""Rules in one transaction: iptables-nft sends one as a single message, which in a user namespace is bounded by
net.core.wmem_max, 212,992 bytes, and a rule with its comment takes up to a thousand."""

TRIES = 5
"""How often something that others kept changing is tried."""
ORDER = ("raw", "mangle", "security", "filter", "nat")
"""The order in which tables are written; the other way round when something goes."""


def choose(wish: str) -> str:
    """Return the variant for ``iptables`` (whichever the host's own command is), or a named one.

    Unsupported when it isn't installed, or this kernel has none of its tables.
    """
    name = wish
    if wish == "iptables":
        said = programs.run("iptables", "-V", needed="")[1]
        variant = "iptables-nft" if "nf_tables" in said else "iptables-legacy"
        name = variant if programs.find(f"{variant}-restore") else "iptables"
    for each in _names(name):
        code, _, told = programs.run(f"{each}-save", "-t", "filter", needed=f", and --firewall {wish} was asked for")
        if code:
            raise _refused("use", each, told)
    return name


def _names(variant: str) -> tuple[str, ...]:
    """The programs of both families; only one where IPv6 is off."""
    six = os.path.exists("/proc/thread-self/net/if_inet6")
    return (variant, variant.replace("iptables", "ip6tables", 1)) if six else (variant,)


def _refused(verb: str, name: str, told: str, thing: Table | Element | None = None) -> KernelError | NoPermission:
    rows = [row for row in told.splitlines() if row.strip() and not row.startswith(("#", "Error occurred", "Try "))]
    said = "; ".join(rows) or "it gives no reason"
    if "ermission denied" in told or "must be root" in told:
        return unpermitted(f"{name} lets this process change nothing: {said}")
    return KernelError(f"{name} refused to {verb} our rules: {said}", errno=errno.EINVAL, thing=thing)


class _Script:
    """What one family's iptables-restore is told: lines of each table, each with what takes it back."""

    def __init__(self) -> None:
        self.told: dict[str, list[tuple[str, str]]] = {}
        self.keeps = False

    def add(self, table: str, line: str, back: str = "") -> None:
        self.told.setdefault(table, []).append((line, "" if self.keeps else back))

    def insert(self, table: str, chain: str, line: str) -> None:
        self.add(table, f"-I {chain} {line}", f"-D {chain} {line}")

    def delete(self, table: str, chain: str, line: str) -> None:
        self.add(table, f"-D {chain} {line}", f"-I {chain} {line}")

    def runs(self, order: Iterable[str]) -> list[tuple[str, list[tuple[str, str]]]]:
        """Cut into transactions: one a table, but for more rules of elements than any netlink socket can send."""
        found = []
        for table in order:
            lines = self.told.get(table, [])
            others = [place for place, (line, _) in enumerate(lines) if not line.startswith(_OF_ELEMENTS)]
            first = max(others[-1] + 1 if others else 0, RUN)
            places = [0, *range(first, len(lines), RUN), len(lines)]
            found += [(table, lines[a:b]) for a, b in pairwise(places) if a < b]
        return found


_OF_ELEMENTS = (f"-I {PREFIX}", f"-D {PREFIX}")


def _input(table: str, lines: Iterable[str]) -> str:
    return f"*{table}\n" + "".join([f"{line}\n" for line in lines]) + "COMMIT\n"


class Iptables:
    """One variant of iptables. nft: for what stays with nf_tables. bridges: names of those that aren't ours.

    before: what was there when our rules came; what came with them goes with them (emptied.py).
    """

    def __init__(self, name: str, nft: Nft, bridges: Names, before: Names = tuple) -> None:
        self.name = name
        self._nft = nft
        self._bridges = bridges
        self._before = before
        self._lowered: dict[Table, tuple[Lowered, ...]] = {}

    # -------------------------------------------------------------- reading

    @property
    def _table(self) -> Table:
        from nsbridge.desired.ruleset import skeleton

        return skeleton()

    def _lower(self, table: Table) -> tuple[Lowered, ...]:
        if table not in self._lowered:
            versions = (4, 6)[: len(_names(self.name))]
            self._lowered[table] = tuple([lower(table, version) for version in versions])
        return self._lowered[table]

    def _read(self) -> dict[int, Tables]:
        found = {}
        for version, name in zip((4, 6), _names(self.name), strict=False):
            code, told, err = programs.run(f"{name}-save", needed=", but this host's networks have their rules in it")
            if code:
                raise _refused("read", name, err)
            found[version] = text.parse(told)
        return found

    def _whole(self, saved: dict[int, Tables], table: Table) -> bool:
        return all(text.is_there(one, saved[one.version]) for one in self._lower(table))

    def _as_there(self, saved: dict[int, Tables], table: Table) -> Table | None:
        """Our table as it is: another value when rules of it are gone, or a bridge came that it must know of."""
        if not any(text.any_there(one, ADMIN) for one in saved.values()):
            return None
        known = {key for name, key in text.index(saved) if name == KIND.name}
        return table if self._whole(saved, table) and known.issuperset(self._bridges()) else text.changed(table)

    def find(self, things: Iterable[Thing]) -> tuple[Thing, ...]:
        """Return the elements of which there is a rule with equal data, and our table as it is."""
        asked = tuple(things)
        found: list[Thing] = [*self._nft.find([one for one in asked if _is_frames(one)])]
        rest = [one for one in asked if not _is_frames(one)]
        if not rest:
            return tuple(found)
        saved = self._read()
        rules = text.index(saved)
        found += [one for one in rest if isinstance(one, Element) and _same(one, self._held(rules, one))]
        return (*found, *filter(None, [self._as_there(saved, one) for one in rest if isinstance(one, Table)]))

    def _held(self, rules: dict[tuple[str, str], list[Found]], element: Element) -> Element | None:
        """What stands under an element's key."""
        found = text.held(self._table, rules.get(text.place_of(element), ()))
        return next((one for one in found if one.identity == element.identity), None)

    def element_data(self, table: tuple[str, str], name: str, key: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Return the data of a map element, () for one of a set, None without such an element."""
        if table != TABLE:
            return self._nft.element_data(table, name, key)
        found = self._held(text.index(self._read()), Element(table, name, key))
        return found.data if found is not None else None

    def elements(self, table: tuple[str, str], name: str) -> tuple[Element, ...]:
        """Return all elements of a set."""
        if table != TABLE:
            return self._nft.elements(table, name)
        return tuple([one for one in text.read(self._table, self._read()) if one.set == name])

    def observe(self) -> tuple[Table | Element, ...]:
        """Read our tables and every element in them."""
        frames = [one for one in self._nft.observe() if _is_frames(one)]
        saved = self._read()
        table = self._as_there(saved, self._table)
        return (table, *text.read(table, saved), *frames) if table is not None else tuple(frames)

    def admin_rules(self, table: tuple[str, str]) -> int:
        """Count the rules in the administrator's chain."""
        if table != TABLE:
            return 0
        return sum(len(chains.get(PREFIX + ADMIN, ())) for one in self._read().values() for chains in one.values())

    # -------------------------------------------------------------- writing

    def apply(self, verb: str, things: Iterable[Table | Element]) -> None:
        """``add``, ``remove`` or ``change`` tables and elements: see `nftnetlink.Nft.apply`, and the module."""
        asked = tuple(things)
        frames = [one for one in asked if _is_frames(one)]
        rest = [one for one in asked if not _is_frames(one)]
        if verb == "remove" and rest:
            self._apply(verb, rest)
            if self.name == "iptables-nft" and any(isinstance(one, Table) for one in rest):
                emptied.sweep(self._nft, ORDER, frozenset(self._before()))
        self._nft.apply(verb, frames)
        try:
            if verb != "remove" and rest:
                self._apply(verb, rest)
        except (KernelError, NoPermission, Unsupported):
            if verb == "add":
                self._nft.apply("remove", frames)
            raise

    def swap(self, gone: Sequence[Element], come: Sequence[Element]) -> None:
        """Have some elements of our table go and others come."""
        self._apply("swap", come, gone)

    def _apply(self, verb: str, things: Sequence[Table | Element], gone: Sequence[Element] = ()) -> None:
        for left in reversed(range(TRIES)):
            saved = self._read()
            try:
                self._write(verb, things, gone, saved)
                return
            except KernelError as err:
                # What was read is by now not what is there: somebody else writes as well.
                if err.errno != errno.EINVAL or not left or self._read() == saved:
                    raise

    def _write(
        self, verb: str, things: Sequence[Table | Element], gone: Sequence[Element], saved: dict[int, Tables]
    ) -> None:
        tables = [one for one in things if isinstance(one, Table)]
        elements = [one for one in things if isinstance(one, Element)]
        scripts = {version: _Script() for version in saved}
        if verb == "remove":
            for table in tables:
                self._dismantle(scripts, saved, table)
            if not tables:
                self._elements(scripts, saved, elements, ())
        elif tables:
            (table,) = tables
            if verb == "add" and self._as_there(saved, table) == table:
                raise KernelError("our chains are there already", errno=errno.EEXIST, thing=table)
            self._build(scripts, saved, table, elements)
        else:
            leaving = elements if verb == "change" else gone
            if elements:
                self._check(saved, elements, leaving)
            self._elements(scripts, saved, leaving, elements)
        self._restore(verb, scripts, (*things, *gone)[0])

    def _check(self, saved: dict[int, Tables], elements: Sequence[Element], gone: Iterable[Element]) -> None:
        """Refuse what nf_tables would refuse: an element without our chains, or a second one of a key."""
        if not self._whole(saved, self._table):
            raise KernelError("chains of ours are missing", errno=errno.ENOENT, thing=elements[0])
        rules, going = text.index(saved), {one.identity for one in gone}
        for one in elements:
            if one.identity not in going and self._held(rules, one) is not None:
                raise KernelError(f"{one.set} {words.named(one.key)} is there already", errno=errno.EEXIST, thing=one)

    def _build(
        self, scripts: dict[int, _Script], saved: dict[int, Tables], table: Table, elements: Sequence[Element]
    ) -> None:
        """Write all chains anew, with what elements there are; the administrator's is left as it is."""
        rules = text.index(saved)
        kept = {one.identity: one for found in rules.values() for one in text.held(table, found)}
        kept |= {one.identity: one for one in elements}
        for one in self._lower(table):
            script, there = scripts[one.version], saved[one.version]
            script.keeps = text.any_there(there, ADMIN)  # then half of it new is better than none
            for chain in one.chains:
                if chain.fixed or chain.slot or chain.name not in there.get(chain.table, {}):
                    script.add(chain.table, f":{chain.name} - [0:0]", f"-X {chain.name}")
            for chain in one.chains:
                for fixed in chain.fixed:
                    line = text.line(fixed.words)
                    script.add(chain.table, f"-A {chain.name} {line}", f"-D {chain.name} {line}")
            for place, builtin, rule in text.calling(there):
                script.delete(place, builtin, rule.text)
            for place, builtin, call in text.hooks(one):
                script.insert(place, builtin, text.line(call))
            mine = {chain.name for chain in one.chains}
            for place, chains in there.items():
                old = [name for name in chains if name.startswith(PREFIX) and name not in mine]
                for name in [f"-F {name}" for name in old] + [f"-X {name}" for name in old]:
                    script.add(place, name)
            for each in self._rules(one, kept.values()):
                script.insert(each.table, each.chain, text.line(each.words))

    def _dismantle(self, scripts: dict[int, _Script], saved: dict[int, Tables], table: Table) -> None:
        """Take all chains away, but the administrator's if he has rules in it."""
        for version, there in saved.items():
            script = scripts[version]
            for place, builtin, rule in text.calling(there):
                script.delete(place, builtin, rule.text)
            for place, chains in there.items():
                names = [name for name in chains if name.startswith(PREFIX)]
                going = [name for name in names if name != PREFIX + ADMIN or not chains[name]]
                for line in [f"-F {name}" for name in going] + [f"-X {name}" for name in going]:
                    script.add(place, line)

    def _elements(
        self,
        scripts: dict[int, _Script],
        saved: dict[int, Tables],
        gone: Iterable[Element],
        new: Sequence[Element],
    ) -> None:
        """Take elements away and add others, in that order."""
        rules, table = text.index(saved), self._table
        touched: dict[tuple[str, str], dict[tuple[str, ...], Element]] = {}
        for one in (*gone, *new):
            if text.is_turn(one.set):  # the rules of a port are dealt anew, all of them
                place = text.place_of(one)
                touched.setdefault(place, {each.identity: each for each in text.held(table, rules.get(place, ()))})
        for one in gone:
            place = text.place_of(one)
            if place in touched:
                touched[place].pop(one.identity, None)
            else:
                _take(scripts, rules.get(place, ()))
        for place in touched:
            _take(scripts, rules.get(place, ()))
        singles = [one for one in new if not text.is_turn(one.set)]
        for one in new:
            if text.is_turn(one.set):
                touched[text.place_of(one)][one.identity] = one
        dealt = [each for group in touched.values() for each in group.values()]
        for lowered in self._lower(table):
            for each in self._rules(lowered, (*singles, *dealt), kinds=()):
                scripts[lowered.version].insert(each.table, each.chain, text.line(each.words))
        if new:
            self._kinds(scripts, rules)

    def _kinds(self, scripts: dict[int, _Script], rules: dict[tuple[str, str], list[Found]]) -> None:
        """Bring up to date which interfaces are bridges of others."""
        known = {key for name, key in rules if name == KIND.name}
        there = {*OTHERS, *self._bridges()}
        for key in sorted(known - there):
            _take(scripts, rules[KIND.name, key])
        for lowered in self._lower(self._table):
            for each in self._rules(lowered, (), kinds=sorted(there - known)):
                scripts[lowered.version].insert(each.table, each.chain, text.line(each.words))

    def _rules(self, lowered: Lowered, elements: Iterable[Element], kinds: Iterable[str] | None = None) -> list[Placed]:
        """The rules of elements, in the order in which each is to be put to the front."""
        names = kinds if kinds is not None else (*OTHERS, *sorted(self._bridges()))
        found: list[Placed] = []
        groups: dict[tuple[str, str], list[Element]] = {}
        for one in (*elements, *[Element(TABLE, KIND.name, (name,)) for name in names]):
            if text.is_turn(one.set):
                groups.setdefault(text.place_of(one), []).append(one)
            else:
                found += words.placed(lowered, one)
        for group in groups.values():
            found += reversed(words.turns(lowered, group))
        return found

    def _restore(self, verb: str, scripts: dict[int, _Script], thing: Table | Element) -> None:
        order = ORDER[::-1] if verb == "remove" else ORDER
        done: list[tuple[str, str, list[str]]] = []
        for version, name in zip((4, 6), _names(self.name), strict=False):
            runs = scripts[version].runs(order)
            if not runs:
                continue
            done += [(name, table, [back for _, back in reversed(lines) if back]) for table, lines in runs]
            whole = "".join([_input(table, [line for line, _ in lines]) for table, lines in runs])
            code, _, told = programs.run(f"{name}-restore", "-w", "--noflush", said=whole)
            if code:
                for earlier, table, back in reversed(done):  # each alone: what wasn't committed can't be taken back
                    if back:
                        programs.run(f"{earlier}-restore", "-w", "--noflush", said=_input(table, back))
                raise _refused(verb, name, told, thing)


def _take(scripts: dict[int, _Script], rules: Iterable[Found]) -> None:
    for one in rules:
        scripts[one.version].delete(one.table, one.chain, one.rule.text)


def _is_frames(thing: Thing) -> bool:
    if isinstance(thing, Table):
        return (thing.family, thing.name) == BRIDGE_TABLE
    return isinstance(thing, Element) and thing.table == BRIDGE_TABLE


def _same(wanted: Element, found: Element | None) -> bool:
    return found is not None and found.data == wanted.data
