"""Our nftables table in the kernel: written, changed and read back by netlink, without nft(8).

What one call asks for is one nfnetlink batch: the kernel takes all of it or none. Thousands of elements can be
more than one send() may carry (only outside the first user namespace, where net.core.wmem_max caps it); then
they follow in batches of their own, and a refusal in one takes back those before it.

To encode an element one must know its set's type. That comes from a `Table` seen in `apply`, else from the
kernel, once a set. Reading tells a torn picture by the ruleset's generation, which every commit raises.
"""

from __future__ import annotations

import errno

from nsbridge.errors import KernelError, NoPermission
from nsbridge.firewall.ruleset import Chain, Element, Rule, Set, Table
from nsbridge.kernel import nftdecode, nftencode
from nsbridge.kernel import nftschema as nf
from nsbridge.kernel.netlink import (
    ACK,
    CREATE,
    EXCL,
    NETFILTER,
    NetlinkSocket,
    Refused,
    as_be32,
    attributes,
    nested,
    text,
)
from nsbridge.kernel.netlink import message as pack_message
from nsbridge.model.names import TABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, Literal, TypeAlias

    Part: TypeAlias = tuple[bytes, Sequence[Table | Element]]
    """A message and the things it is about."""

_SMALL = 150_000
"""Bytes of a batch that any socket can send: net.core.wmem_default is 212,992."""

_TRIES = 8


class Nft:
    """A nf_tables socket of the constructing thread's network namespace. Threads may share it.

    Keep it open between operations: closing one that deleted rules waits for the kernel's garbage collection.
    """

    def __init__(self, table: tuple[str, str] = TABLE) -> None:
        """Open it for our table; OSError when the kernel has no netfilter netlink."""
        self.table = table
        self._socket = NetlinkSocket(NETFILTER)
        self._sets: dict[tuple[str, str, str], Set] = {}

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    # ---------------------------------------------------------------- writing

    def apply(self, verb: Literal["add", "remove", "change"], things: Iterable[Table | Element]) -> None:
        """Add, remove or change tables and elements, all of them or none.

        Adding what is there fails with EEXIST and names it; removing what is gone is success; changing a map
        element replaces its data at once, changing a table replaces its chains and keeps what its sets hold.
        Errors: `KernelError` with errno and thing, `NoPermission`.
        """
        tables = [thing for thing in things if type(thing) is Table]
        elements = [thing for thing in things if type(thing) is Element]
        if verb == "change" and tables:
            for table in tables:
                self._replace(table)
            tables = []
        if not tables and not elements:
            return
        if verb == "add":
            self._add(tables, elements)
        elif verb == "remove":
            self._remove(tables, elements)
        else:
            self._change(elements)

    def _add(self, tables: Sequence[Table], elements: Sequence[Element]) -> None:
        parts: list[Part] = []
        for table in tables:
            self._learn(table)
            parts += [(one, (table,)) for one in nftencode.add_table(table)]
        try:
            parts += self._about(nf.NEWSETELEM, CREATE | EXCL, elements)
            self._commit(parts)
        except Refused as err:
            for table in tables:
                self._forget(table)
            raise self._refusal("add", err, parts) from err

    def _remove(self, tables: Sequence[Table], elements: Sequence[Element]) -> None:
        doomed = {(table.family, table.name): table for table in tables}
        elements = [one for one in elements if one.table not in doomed]
        for _ in range(_TRIES):
            parts: list[Part] = []
            try:
                parts += self._about(nf.DELSETELEM, 0, elements)
                parts += [(nftencode.remove_table(table), (table,)) for table in doomed.values()]
                if parts:
                    self._commit(parts)
                break
            except Refused as err:
                if err.errno != errno.ENOENT:
                    raise self._refusal("remove", err, parts) from err
                # Something is gone already. (Kernels from 6.3 on have messages that don't mind; Debian 12 is older.)
                gone = self._missing(parts, err)
                elements = [one for one in elements if one not in gone]
                doomed = {name: table for name, table in doomed.items() if table not in gone}
        else:
            raise KernelError("elements kept vanishing while they were removed", errno=errno.EAGAIN)
        for table in tables:
            self._forget(table)

    def _change(self, elements: Sequence[Element]) -> None:
        there = list(elements)
        for _ in range(_TRIES):
            parts = self._about(nf.DELSETELEM, 0, there) + self._about(nf.NEWSETELEM, CREATE | EXCL, elements)
            try:
                return self._commit(parts)
            except Refused as err:
                if err.errno != errno.ENOENT:
                    raise self._refusal("change", err, parts) from err
                gone = self._missing(parts, err)
                there = [one for one in there if one not in gone]
        raise KernelError("elements kept vanishing while they were changed", errno=errno.EAGAIN)

    def _missing(self, parts: Sequence[Part], err: Refused) -> set[Table | Element]:
        """Return what the refused messages were about and the kernel doesn't have."""
        suspects = [
            thing for index, code, _ in err.refusals if code == errno.ENOENT for thing in self._owners(parts, index)
        ]
        missing = {thing for thing in suspects if not self._exists(thing)}
        if not missing:
            missing = set(suspects[:0])
        return missing

    def _replace(self, table: Table) -> None:
        """Write a table's chains anew, and those of its sets that differ, in one batch; others keep their elements."""
        for _ in range(_TRIES):
            generation = self.generation()
            try:
                there = self._read(table.family, table.name)
                if there is None:
                    return self._add([table], [])
                sets = {one.name: one for one in there.sets}
                new = [one for one in table.sets if sets.get(one.name) != one]
                kept = {one.name for one in table.sets} - {one.name for one in new}
                old = [name for name in sets if name not in kept]
                chains = [chain.name for chain in there.chains]
                messages = nftencode.remove_chains(table, chains, old)
                messages += nftencode.add_sets(table, new) + nftencode.add_chains(table)
                parts: list[Part] = [(one, (table,)) for one in messages]
                self._commit(parts, generation)
                return self._learn(table)
            except Refused as err:
                if err.errno not in (errno.ERESTART, errno.ENOENT):
                    raise self._refusal("change", err, parts) from err
        raise KernelError("the ruleset kept changing while our table was rewritten", errno=errno.EAGAIN, thing=table)

    def _about(self, kind: int, flags: int, elements: Sequence[Element]) -> list[Part]:
        """Messages about elements, those of one set together."""
        groups: dict[tuple[tuple[str, str], str], list[Element]] = {}
        for one in elements:
            groups.setdefault((one.table, one.set), []).append(one)
        parts: list[Part] = []
        for (table, name), members in groups.items():
            found = self._set(table, name)
            if found is None:
                if kind == nf.DELSETELEM:
                    continue
                raise KernelError(
                    f"there is no set {name!r} in table {' '.join(table)}", errno=errno.ENOENT, thing=members[0]
                )
            parts += nftencode.element_messages(kind, flags, table, found, members)
        return parts

    def _commit(self, parts: Sequence[Part], generation: int | None = None) -> None:
        """Send as one batch, or as several when that is too much for one send(). `Refused` has the part as index."""
        if not parts:
            return
        try:
            return self._transact([data for data, _ in parts], generation, 0)
        except OSError as err:
            if isinstance(err, Refused) or err.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
        done: list[Part] = []
        for first, last in _runs(parts):
            try:
                self._transact([data for data, _ in parts[first:last]], generation, first)
            except Refused:
                self._take_back(done)
                raise
            done += parts[first:last]

    def _transact(self, messages: list[bytes], generation: int | None, first: int) -> None:
        # The kernel reports failures unasked; one ACK, on the last message, proves that it got so far.
        last = bytearray(messages[-1])
        last[6:8] = (int.from_bytes(last[6:8], nf.ORDER) | ACK).to_bytes(2, nf.ORDER)
        messages[-1] = bytes(last)
        try:
            self._socket.transact(nftencode.batch(messages, generation))
        except Refused as err:
            # A refusal of the batch's first message is one of the whole.
            moved = [(index - 1 + first if index else -1, code, said) for index, code, said in err.refusals]
            raise Refused(moved) from err

    def _take_back(self, parts: Sequence[Part]) -> None:
        """Undo batches that were committed before one that was refused."""
        things = [thing for _, owners in parts for thing in owners]
        tables = list(dict.fromkeys(thing for thing in things if type(thing) is Table))
        self._remove(tables, [thing for thing in things if type(thing) is Element])

    def _owners(self, parts: Sequence[Part], index: int) -> Sequence[Table | Element]:
        return parts[index][1] if 0 <= index < len(parts) else ()

    def _refusal(self, verb: str, err: Refused, parts: Sequence[Part]) -> KernelError | NoPermission:
        """Say what was refused: of a message about many elements, the first that explains the errno."""
        if err.errno in (errno.EPERM, errno.EACCES):
            return NoPermission("the kernel lets this process change no nftables rules", fix="run it as root")
        owners = self._owners(parts, err.index)
        thing = owners[0] if owners else None
        if len(owners) > 1 and err.errno in (errno.EEXIST, errno.ENOENT):
            wanted = err.errno == errno.EEXIST
            thing = next((one for one in owners if self._exists(one) is wanted), thing)
        what = _shown(thing) if thing is not None else "the whole batch"
        if err.errno == errno.EEXIST:
            return KernelError(f"{what} is there already", errno=err.errno, thing=thing)
        return KernelError(f"the kernel refused to {verb} {what}: {err.text}", errno=err.errno, thing=thing)

    # ---------------------------------------------------------------- reading

    def find(self, things: Iterable[Table | Element]) -> tuple[Table | Element, ...]:
        """Return the elements that are there with equal data, and the tables of which there is one of that name."""
        return tuple(
            [
                thing
                for thing in things
                if (self._has_table(thing) if type(thing) is Table else self._same(thing))  # type: ignore[arg-type]
            ]
        )

    def element_data(self, table: tuple[str, str], name: str, key: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Return the data of a map element, () for one of a set, None without such an element."""
        found = self._get(Element(table, name, key))
        return found.data if found is not None else None

    def observe(self) -> tuple[Table | Element, ...]:
        """Read our table and every element in it; () when there is none.

        What we have no word for comes as `Opaque` in its rule. Costs a dump of the table.
        """
        family, name = self.table
        for _ in range(_TRIES):
            generation = self.generation()
            found: list[Table | Element] = []
            try:
                table = self._read(family, name)
                if table is not None:
                    found.append(table)
                    for one in table.sets:
                        found += self._elements(one)
            except Refused as err:
                if err.errno != errno.ENOENT:
                    raise self._refusal("read", err, ()) from err
                continue
            if self.generation() == generation:
                return tuple(found)
        raise KernelError("the ruleset kept changing while it was read", errno=errno.EAGAIN)

    def generation(self) -> int:
        """Return the number of the ruleset's last commit in this namespace."""
        _, body = self.request(nf.GETGEN, nftencode.header(""))[0]
        return as_be32(attributes(body, 4)[1])

    def request(self, kind: int, body: bytes) -> list[tuple[int, bytes]]:
        """Ask for one object; `Refused` when there is none."""
        return self._socket.request(pack_message(kind, 0, body))

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """Ask for a list of objects, whole and of one piece."""
        return [found for _, found in self._socket.dump(pack_message(kind, 0, body))]

    def write(self, messages: Sequence[bytes]) -> None:
        """Commit messages as one batch; `Refused` has the index of the first that failed, -1 for the whole."""
        self._transact(list(messages), None, 0)

    def _read(self, family: str, name: str) -> Table | None:
        head = nftencode.header(family) + text(1, name)
        try:
            _, body = self.request(nf.GETTABLE, head)[0]
        except Refused as err:
            if err.errno == errno.ENOENT:
                return None
            raise
        found = attributes(body, 4)
        sets = {one.name: one for one in map(nftdecode.set_of, self.dump(nf.GETSET, head))}
        chains: dict[str, Chain] = {}
        for data in self.dump(nf.GETCHAIN, nftencode.header(family)):
            owner, chain, drops = nftdecode.chain_of(data)
            if owner == name:
                # Policies of ours are accept; one that drops is told by a kind that no chain of ours has.
                chains[chain.name] = chain.replace(kind=f"{chain.kind} policy drop") if drops else chain
        rules: dict[str, list[Rule]] = {chain: [] for chain in chains}
        for data in self.dump(nf.GETRULE, head):
            chain_name, rule = nftdecode.rule_of(data, sets)
            rules.setdefault(chain_name, []).append(rule)
        whole = tuple([chain.replace(rules=tuple(rules[chain.name])) for chain in chains.values()])
        shown = [one for one in sets.values() if not one.name.startswith("__")]
        return Table(family, name, tuple(shown), whole, why=nftdecode.comment(found.get(6, b"")))

    def _elements(self, one: Set) -> list[Element]:
        if not nftdecode.known(one):
            return []
        body = nftencode.header(self.table[0]) + text(1, self.table[1]) + text(2, one.name)
        for _ in range(_TRIES):
            found = nftdecode.elements(self.table, one, self.dump(nf.GETSETELEM, body))
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
        head = nftencode.header(element.table[0]) + text(1, element.table[1]) + text(2, one.name)
        return nftdecode.probed(one, element, [self._ask(head, item) for item in nftencode.probes(one, element)])

    def _ask(self, head: bytes, item: bytes) -> bytes | None:
        try:
            return self.request(nf.GETSETELEM, head + nested(3, item))[0][1]
        except Refused as err:
            if err.errno == errno.ENOENT:
                return None
            raise self._refusal("read", err, ()) from err

    def _same(self, element: Element) -> bool:
        found = self._get(element)
        return found is not None and found.data == element.data

    def _exists(self, thing: Table | Element) -> bool:
        return self._has_table(thing) if type(thing) is Table else self._get(thing) is not None  # type: ignore[arg-type]

    def _has_table(self, table: Table) -> bool:
        try:
            self.request(nf.GETTABLE, nftencode.header(table.family) + text(1, table.name))
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
                body = nftencode.header(table[0]) + text(1, table[1]) + text(2, name)
                self._sets[place] = nftdecode.set_of(self.request(nf.GETSET, body)[0][1])
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


def _runs(parts: Sequence[Part]) -> list[tuple[int, int]]:
    """Cut into runs that any socket can send. Everything that isn't an element stays in the first."""
    runs = []
    first = size = 0
    for position, (data, owners) in enumerate(parts):
        if size and size + len(data) > _SMALL and type(owners[0]) is Element:
            runs.append((first, position))
            first, size = position, 0
        size += len(data)
    runs.append((first, len(parts)))
    return runs


def _shown(thing: Table | Element) -> str:
    if type(thing) is Table:
        return f"table {thing.family} {thing.name}"
    data = " : " + " . ".join(map(str, thing.data)) if thing.data else ""  # type: ignore[union-attr]
    key = " . ".join(map(str, thing.key))  # type: ignore[union-attr]
    return f"element {key}{data} of {thing.set}"  # type: ignore[union-attr]
