"""Reading nf_tables by netlink: one object by its name, or a whole table as values.

To encode an element one must know its set's type. That comes from a table that was just written, else from
the kernel, once a set. Reading a table takes several dumps; the ruleset's generation, which every commit
raises, tells whether they belong together.
"""

from __future__ import annotations

import errno

from nsbridge.errors import KernelError, NoPermission, unpermitted
from nsbridge.firewall.ruleset import Chain, Element, Rule, Set, Table
from nsbridge.kernel import nftelements, nftmessage
from nsbridge.kernel import nftschema as nf
from nsbridge.kernel.netlink import (
    CREATE,
    NETFILTER,
    NetlinkSocket,
    Refused,
    as_be32,
    as_text,
    attributes,
    be32,
    message,
    nested,
    text,
)
from nsbridge.kernel.nftmessage import header
from nsbridge.model.names import ADMIN, BRIDGE_TABLE, TABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, TypeAlias

    from nsbridge.state.things import Thing

    Part: TypeAlias = tuple[bytes, Sequence[Table | Element]]
    """A message and the things it is about."""

FLAGS = "flags "
"""How a chain begins that isn't there: it stands for table flags that ours never has (dormant, owned)."""

MANY = 64
"""So many elements are found sooner in a list of all that their set holds."""

TRIES = 20
"""How often something that others kept changing is tried again."""


class NftReader:
    """A nf_tables socket of the constructing thread's network namespace. Threads may share it."""

    def __init__(self, table: tuple[str, str] = TABLE) -> None:
        """Open it for our tables; OSError when the kernel has no netfilter netlink."""
        self.table = table
        self.tables = (table, BRIDGE_TABLE) if table == TABLE else (table,)
        self._socket = NetlinkSocket(NETFILTER)
        self._sets: dict[tuple[str, str, str], Set] = {}

    @property
    def socket(self) -> NetlinkSocket:
        """Its socket, for the other subsystems of netfilter."""
        return self._socket

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def find(self, things: Iterable[Thing]) -> tuple[Thing, ...]:
        """Return the elements that are there with equal data, and the tables of which there is one of that name.

        Where many elements of a set are asked for, all that it holds are read at once.
        """
        asked = tuple(things)
        by_set: dict[tuple[tuple[str, str], str], list[Element]] = {}
        for thing in asked:
            if isinstance(thing, Element):
                by_set.setdefault((thing.table, thing.set), []).append(thing)
        listed: set[Thing] = set()
        for place, elements in by_set.items():
            if len(elements) > MANY:
                listed.update(self.elements(*place))
        # What isn't in a list is asked for all the same: there a range, or one address of it, may have another form.
        return tuple([thing for thing in asked if thing in listed or self._same(thing)])

    def element_data(self, table: tuple[str, str], name: str, key: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Return the data of a map element, () for one of a set, None without such an element."""
        found = self._get(Element(table, name, key))
        return found.data if found is not None else None

    def elements(self, table: tuple[str, str], name: str) -> tuple[Element, ...]:
        """Return all elements of a set of our table, none when there is no such set."""
        one = self._set(table, name)
        try:
            return tuple(self._elements(one, table)) if one is not None else ()
        except Refused as err:
            if err.errno == errno.ENOENT:
                return ()
            raise self._refusal("read", err, ()) from err

    def observe(self) -> tuple[Table | Element, ...]:
        """Read our tables and every element in them; () when there is none.

        What we have no word for comes as `Opaque` in its rule. Costs a dump of the tables.
        """
        for _ in range(TRIES):
            generation = self.generation()
            found: list[Table | Element] = []
            try:
                for family, name in self.tables:
                    table = self._read(family, name)
                    if table is not None:
                        found.append(table)
                        for one in table.sets:
                            found += self._elements(one, (family, name))
            except Refused as err:
                if err.errno != errno.ENOENT:
                    raise self._refusal("read", err, ()) from err
                continue
            if self.generation() == generation:
                return tuple(found)
        raise KernelError("the ruleset kept changing while it was read", errno=errno.EAGAIN)

    def filters_bridges(self) -> bool:
        """Tell whether nf_tables filters between the ports of a bridge (CONFIG_NF_TABLES_BRIDGE).

        Asked by a batch that ends in a mistake, so that nothing comes of it.
        """
        family, name = BRIDGE_TABLE
        head = header(family)
        if self._has_table(Table(family, name, (), ())):
            return True
        probe = text(1, f"{name}-probe")
        hook = nested(4, be32(1, nf.HOOKS["prerouting"]), be32(2, 0))
        messages = [
            message(nf.NEWTABLE, CREATE, head + probe),
            message(nf.NEWCHAIN, CREATE, head + probe + text(3, "probe") + hook + text(7, "filter")),
            message(nf.DELCHAIN, 0, head + probe + text(3, "no such chain")),
        ]
        try:
            self._socket.transact(nftmessage.batch(messages))
        except Refused as err:
            return all(code in (errno.ENOENT, errno.EPERM) and index != 2 for index, code, _ in err.refusals)
        return True

    def admin_rules(self, table: tuple[str, str]) -> int:
        """Count the rules in the administrator's chain of a table; 0 without one."""
        body = header(table[0]) + text(1, table[1]) + text(2, ADMIN)
        try:
            rules = [attributes(data, 4) for data in self.dump(nf.GETRULE, body)]
        except Refused as err:
            if err.errno == errno.ENOENT:
                return 0
            raise self._refusal("read", err, ()) from err
        # A kernel may answer with more than was asked for.
        return sum(as_text(rule[1]) == table[1] and as_text(rule[2]) == ADMIN for rule in rules)

    def generation(self) -> int:
        """Return the number of the ruleset's last commit in this namespace."""
        _, body = self.request(nf.GETGEN, header(""))[0]
        return as_be32(attributes(body, 4)[1])

    def request(self, kind: int, body: bytes) -> list[tuple[int, bytes]]:
        """Ask for one object; `Refused` when there is none."""
        return self._socket.request(message(kind, 0, body))

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """Ask for a list of objects, whole and of one piece."""
        return [found for _, found in self._socket.dump(message(kind, 0, body))]

    def _read(self, family: str, name: str) -> Table | None:
        from nsbridge.kernel import nftdecode  # hot verbs read no rules

        head = header(family) + text(1, name)
        try:
            _, body = self.request(nf.GETTABLE, head)[0]
        except Refused as err:
            if err.errno == errno.ENOENT:
                return None
            raise
        found = attributes(body, 4)
        sets = {one.name: one for one in map(nftmessage.set_of, self.dump(nf.GETSET, head))}
        chains: dict[str, Chain] = {}
        for data in self.dump(nf.GETCHAIN, header(family)):
            owner, chain, drops = nftdecode.chain_of(data)
            if owner == name:
                # Policies of ours are accept; one that drops is told by a kind that no chain of ours has.
                chains[chain.name] = chain.replace(kind=f"{chain.kind} policy drop") if drops else chain
        rules: dict[str, list[Rule]] = {chain: [] for chain in chains}
        for data in self.dump(nf.GETRULE, head):
            chain_name, rule = nftdecode.rule_of(data, sets)
            if chain_name != ADMIN:  # not ours to compare
                rules.setdefault(chain_name, []).append(rule)
        whole = tuple([chain.replace(rules=tuple(rules[chain.name])) for chain in chains.values()])
        if flags := as_be32(found.get(2, bytes(4))):
            whole += (Chain(f"{FLAGS}{flags:#x}", ()),)
        shown = [one for one in sets.values() if not one.name.startswith("__")]
        return Table(family, name, tuple(shown), whole, why=nftmessage.comment(found.get(6, b"")))

    def _elements(self, one: Set, place: tuple[str, str]) -> list[Element]:
        if not nftmessage.known(one):
            return []
        body = header(place[0]) + text(1, place[1]) + text(2, one.name)
        for _ in range(TRIES):
            found = nftelements.read(place, one, self.dump(nf.GETSETELEM, body))
            # A hash that is still growing after many insertions moves elements under the kernel's walk: then
            # some come twice, and as many not at all (seen on 6.18), in nft(8) too.
            if len({element.key for element in found}) == len(found):
                return found
        raise KernelError(f"set {one.name!r} kept changing while it was read", errno=errno.EAGAIN)

    def _get(self, element: Element) -> Element | None:
        """Ask for this one element by its key, and return what the kernel has under it."""
        one = self._set(element.table, element.set)
        if one is None:
            return None
        head = header(element.table[0]) + text(1, element.table[1]) + text(2, one.name)
        return nftelements.probed(one, element, [self._ask(head, item) for item in nftelements.probes(one, element)])

    def _ask(self, head: bytes, item: bytes) -> bytes | None:
        try:
            return self.request(nf.GETSETELEM, head + nested(3, item))[0][1]
        except Refused as err:
            if err.errno == errno.ENOENT:
                return None
            raise self._refusal("read", err, ()) from err

    def _same(self, thing: Thing) -> bool:
        if isinstance(thing, Element):
            found = self._get(thing)
            return found is not None and found.data == thing.data
        return isinstance(thing, Table) and self._has_table(thing)

    def _exists(self, thing: Table | Element) -> bool:
        return self._has_table(thing) if isinstance(thing, Table) else self._get(thing) is not None

    def _has_table(self, table: Table) -> bool:
        try:
            self.request(nf.GETTABLE, header(table.family) + text(1, table.name))
        except Refused as err:
            if err.errno == errno.ENOENT:
                return False
            raise self._refusal("read", err, ()) from err
        return True

    # ---------------------------------------------------------------- what we know of sets

    def _set(self, table: tuple[str, str], name: str) -> Set | None:
        """Return the set, asking the kernel the first time; None without one."""
        place = (*table, name)
        if place not in self._sets:
            try:
                body = header(table[0]) + text(1, table[1]) + text(2, name)
                self._sets[place] = nftmessage.set_of(self.request(nf.GETSET, body)[0][1])
            except Refused as err:
                if err.errno == errno.ENOENT:
                    return None
                raise self._refusal("read", err, ()) from err
        return self._sets[place]

    def _learn(self, table: Table) -> None:
        self._sets |= {(table.family, table.name, one.name): one for one in table.sets}

    def _forget(self, table: Table) -> None:
        for place in [place for place in self._sets if place[:2] == (table.family, table.name)]:
            del self._sets[place]

    # ---------------------------------------------------------------- what was refused

    def _owners(self, parts: Sequence[Part], index: int) -> Sequence[Table | Element]:
        return parts[index][1] if 0 <= index < len(parts) else ()

    def _refusal(self, verb: str, err: Refused, parts: Sequence[Part]) -> KernelError | NoPermission:
        """Say what was refused: of a message about many elements, the first that explains the errno."""
        if err.errno in (errno.EPERM, errno.EACCES):
            return unpermitted("the kernel lets this process change no nftables rules")
        owners = self._owners(parts, err.index)
        thing = owners[0] if owners else None
        if len(owners) > 1 and err.errno in (errno.EEXIST, errno.ENOENT):
            wanted = err.errno == errno.EEXIST
            thing = next((one for one in owners if self._exists(one) is wanted), thing)
        what = _shown(thing) if thing is not None else "the whole batch"
        if err.errno == errno.EEXIST:
            return KernelError(f"{what} is there already", errno=err.errno or 0, thing=thing)
        return KernelError(f"the kernel refused to {verb} {what}: {err.text}", errno=err.errno or 0, thing=thing)


def _shown(thing: Table | Element) -> str:
    if isinstance(thing, Table):
        return f"table {thing.family} {thing.name}"
    data = " : " + " . ".join(map(str, thing.data)) if thing.data else ""
    return f"element {' . '.join(map(str, thing.key))}{data} of {thing.set}"
