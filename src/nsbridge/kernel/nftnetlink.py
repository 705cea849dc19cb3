"""Our nftables table in the kernel: written, changed and read back by netlink, without nft(8).

What one call asks for is one nfnetlink batch: the kernel takes all of it or none. Thousands of elements can be
more than one send() may carry (only outside the first user namespace, where net.core.wmem_max caps it); then
they follow in batches of their own, and a refusal in one takes back those before it. Rules and tables have an encoder
of their own (`nftencode`), which is imported when there is one to write: hot verbs write elements.
"""

from __future__ import annotations

import errno

from nsbridge.errors import KernelError
from nsbridge.firewall.ruleset import Element, Table
from nsbridge.kernel import nftelements, nftmessage
from nsbridge.kernel import nftschema as nf
from nsbridge.kernel.netlink import CREATE, EXCL, Refused, acknowledged
from nsbridge.kernel.nftread import FLAGS, TRIES, NftReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nsbridge.kernel.nftread import Part

_SMALL = 150_000
"""Bytes of a batch that any socket can send: net.core.wmem_default is 212,992."""


class Nft(NftReader):
    """A nf_tables socket that also writes.

    Keep it open between operations: closing one that deleted rules waits for the kernel's garbage collection.
    """

    def apply(self, verb: str, things: Iterable[Table | Element]) -> None:
        """``add``, ``remove`` or ``change`` tables and elements, all of them or none.

        Adding what is there fails with EEXIST and names it; removing what is gone is success; changing a map
        element replaces its data at once, changing a table replaces its chains and keeps what its sets hold. The
        administrator's chain is never written, and while there are rules in it, its table isn't removed but emptied.
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
            self.swap(elements, elements)

    def _add(self, tables: Sequence[Table], elements: Sequence[Element]) -> None:
        parts: list[Part] = []
        if tables:
            from nsbridge.kernel import nftencode

            for table in tables:
                self._learn(table)
                parts += [(one, (table,)) for one in nftencode.add_table(table)]
        try:
            parts += self._about(nf.NEWSETELEM, CREATE | EXCL, elements)
            self._commit(parts, take_back=True)
        except Refused as err:
            for table in tables:
                self._forget(table)
            raise self._refusal("add", err, parts) from err

    def _remove(self, tables: Sequence[Table], elements: Sequence[Element]) -> None:
        doomed = {(table.family, table.name): table for table in tables}
        elements = [one for one in elements if one.table not in doomed]
        for _ in range(TRIES):
            parts: list[Part] = []
            try:
                parts += self._about(nf.DELSETELEM, 0, elements)
                for place, table in doomed.items():
                    from nsbridge.kernel import nftencode

                    kept = self.admin_rules(place)
                    going = nftencode.empty_sets(table) if kept else [nftencode.remove_table(table)]
                    parts += [(one, (table,)) for one in going]
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

    def swap(self, gone: Sequence[Element], come: Sequence[Element]) -> None:
        """Have some elements go and others come in one batch. Those that are gone already don't matter."""
        there = list(gone)
        for _ in range(TRIES):
            parts = self._about(nf.DELSETELEM, 0, there) + self._about(nf.NEWSETELEM, CREATE | EXCL, come)
            try:
                self._commit(parts)
                return
            except Refused as err:
                if err.errno != errno.ENOENT:
                    raise self._refusal("change", err, parts) from err
                missing = self._missing(parts, err)
                there = [one for one in there if one not in missing]
        raise KernelError("elements kept vanishing while they were changed", errno=errno.EAGAIN)

    def _missing(self, parts: Sequence[Part], err: Refused) -> set[Table | Element]:
        """Return what the refused messages were about and the kernel doesn't have."""
        suspects = [
            thing for index, code, _ in err.refusals if code == errno.ENOENT for thing in self._owners(parts, index)
        ]
        return {thing for thing in suspects if not self._exists(thing)}

    def _replace(self, table: Table) -> None:
        """Write a table's chains anew, and those of its sets that differ, in one batch; others keep their elements."""
        from nsbridge.kernel import nftencode

        for _ in range(TRIES):
            parts: list[Part] = []
            try:
                generation = self.generation()
                there = self._read(table.family, table.name)
                if there is None:
                    self._add([table], [])
                    return
                if any(chain.name.startswith(FLAGS) for chain in there.chains):
                    self.write([nftencode.wake_table(table)])  # somebody made it dormant
                    continue
                if there.sets == table.sets and _places(there) == _places(table):
                    parts += [(one, (table,)) for one in nftencode.replace_rules(table)]
                elif self.admin_rules((table.family, table.name)):
                    parts += [(one, (table,)) for one in nftencode.replace_around_admin(there, table)]
                else:
                    parts += self._anew(there, table)
                self._transact([one for one, _ in parts], generation, 0)
                self._learn(table)
                return
            except Refused as err:
                if err.errno not in (errno.ERESTART, errno.ENOENT):
                    raise self._refusal("change", err, parts) from err
        raise KernelError("the ruleset kept changing while our table was rewritten", errno=errno.EAGAIN, thing=table)

    def _anew(self, there: Table, table: Table) -> list[Part]:
        """Replace everything, because a set is new or another, and sets keep the order they were made in.

        Elements move over into the sets that still take them.
        """
        from nsbridge.kernel import nftencode

        messages = [nftencode.remove_table(table), *nftencode.add_table(table)]
        parts: list[Part] = [(one, (table,)) for one in messages]
        place = (table.family, table.name)
        for one in there.sets:
            if one in table.sets and (held := self._elements(one, place)):
                parts += nftelements.messages(nf.NEWSETELEM, CREATE | EXCL, place, one, held)
        return parts

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
            parts += nftelements.messages(kind, flags, table, found, members)
        return parts

    def _commit(self, parts: Sequence[Part], *, take_back: bool = False) -> None:
        """Send as one batch, or as several when that is too much for one send(). `Refused` has the part as index.

        take_back: what earlier batches added goes again when a later one is refused. (A removal is tried again
        instead; that of a change whose half was refused is left to the caller.)
        """
        try:
            self._transact([data for data, _ in parts], None, 0)
            return
        except OSError as err:
            if isinstance(err, Refused) or err.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
        done: list[Part] = []
        for first, last in _runs(parts):
            try:
                self._transact([data for data, _ in parts[first:last]], None, first)
            except Refused:
                if take_back:
                    self._take_back(done)
                raise
            done += parts[first:last]

    def _transact(self, messages: list[bytes], generation: int | None, first: int) -> None:
        # The kernel reports failures unasked; one ACK, on the last message, proves that it got so far.
        messages[-1] = acknowledged(messages[-1])
        try:
            self._socket.transact(nftmessage.batch(messages, generation))
        except Refused as err:
            # A refusal of the batch's first message is one of the whole.
            moved = [(index - 1 + first if index else -1, code, said) for index, code, said in err.refusals]
            raise Refused(moved) from err

    def _take_back(self, parts: Sequence[Part]) -> None:
        """Undo batches that were committed before one that was refused."""
        things = [thing for _, owners in parts for thing in owners]
        tables = list(dict.fromkeys(thing for thing in things if type(thing) is Table))
        self._remove(tables, [thing for thing in things if type(thing) is Element])

    def write(self, messages: Sequence[bytes]) -> None:
        """Commit messages as one batch; `Refused` has the index of the first that failed, -1 for the whole."""
        self._transact(list(messages), None, 0)


def _places(table: Table) -> list[tuple[str, str, str, int]]:
    """Its chains and where they hook in, a policy that drops left aside."""
    return [(one.name, one.kind.removesuffix(" policy drop"), one.hook, one.priority) for one in table.chains]


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
