"""nf_tables rules of any kind as values: a decompiler for its register machine.

A rule's expressions are walked in order. Registers of four bytes remember which source was loaded into them; an
expression that reads some gets the source, a part of one, or several in a row as a concatenation, and becomes a test
or a statement. The road not taken: to extend nftdecode.py, which reads our own table back into a closed vocabulary
and is on the hot path. Numbers are those of <linux/netfilter/nf_tables.h>.
"""

from __future__ import annotations

from nsbridge.firewall import reads, seen
from nsbridge.firewall.expressions import Accept, Drop, Goto, Jump, Return
from nsbridge.firewall.fields import BASES, CONN, FIB_RESULTS, META, size_of
from nsbridge.kernel import fwstatements as says
from nsbridge.kernel.netlink import as_be32, as_text, attribute_list, attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeAlias

    Item: TypeAlias = dict[int, bytes]
    Foreign: TypeAlias = Callable[[str, str, int, bytes, str], seen.Part]
    """Reads an extension of iptables: ``match`` or ``target``, its name, revision, structure, family."""

_NONE = bytes(4)
_COMPARE = ("==", "!=", "<", "<=", ">", ">=")
_BITS = {3: "&", 4: "|", 5: "^"}
_OPTIONS = ("exthdr", "tcp option", "ip option", "sctp chunk", "dccp option")
_FIB = ((1, "saddr"), (2, "daddr"), (4, "mark"), (8, "iif"), (16, "oif"))
_FIB_PRESENT = 32
_RT = (("classid", 4), ("ip nexthop", 4), ("ip6 nexthop", 16), ("mtu", 2), ("ipsec", 1))
_SOCKET = (("transparent", 1), ("mark", 4), ("wildcard", 1), ("cgroupv2", 8))
_NAT_FLAGS = ((4, "random"), (8, "persistent"), (16, "fully-random"))
_NETMAP = 64
_HOW = ("add", "update", "delete")


def parts_of(data: bytes, family: str, sets: Mapping[str, tuple[int, int]], xt: Foreign) -> tuple[seen.Part, ...]:
    """What the expressions of a rule (NFTA_RULE_EXPRESSIONS) say.

    sets: of the same table by name, bytes of key and data. xt: reads what a ``match`` or ``target`` of iptables holds.
    """
    machine = Machine(family, sets, xt)
    for _, item in attribute_list(data):
        found = attributes(item)
        machine.read(as_text(found[1]), attributes(found.get(2, b"")))
    return tuple(_ranges(machine.found))


def _ranges(found: list[seen.Part]) -> list[seen.Part]:
    """Two comparisons of one source with the ends of a range, as nft 1.0.6 writes it, are one test."""
    whole: list[seen.Part] = []
    for part in found:
        before = whole[-1] if whole else None
        ends = isinstance(part, seen.Compare) and isinstance(before, seen.Compare) and part.of == before.of
        if ends and (before.op, part.op) == (">=", "<="):  # type: ignore[union-attr]
            whole[-1] = seen.Within(part.of, before.raw, part.raw)  # type: ignore[union-attr]
            continue
        whole.append(part)
    return whole


def verdict_of(data: bytes) -> seen.Verdict | None:
    """A verdict (NFTA_DATA_VERDICT), None for one that only goes on."""
    found = attributes(data)
    code = int.from_bytes(found[1], "big", signed=True)
    if code in (-3, -4):
        chain = as_text(found[2])
        return Jump(chain) if code == -3 else Goto(chain)
    plain: dict[int, seen.Verdict] = {0: Drop(), 1: Accept(), -5: Return()}
    return plain.get(code)


class Machine:
    """The registers, and what the rule has said so far."""

    def __init__(self, family: str, sets: Mapping[str, tuple[int, int]], xt: Foreign) -> None:
        self.family = family
        self.sets = sets
        self.xt = xt
        self.registers: dict[int, tuple[reads.Source, int]] = {}  # by register: a source, and which of its bytes
        self.found: list[seen.Part] = []

    def read(self, name: str, item: Item) -> None:
        """Take one expression."""
        try:
            reader = _READERS.get(name)
            part = reader(self, item) if reader is not None else seen.Strange(name)
        except (KeyError, IndexError, ValueError):
            part = seen.Strange(name)
        if part is not None:
            self.found.append(part)

    # ------------------------------------------------------------ registers

    def put(self, raw: bytes, source: reads.Source) -> None:
        """Remember what a register, and those after it, hold."""
        first = _number(raw)
        for step in range(size_of(source) + 3 >> 2):
            self.registers[first + step] = (source, 4 * step)

    def get(self, raw: bytes, size: int = 0) -> reads.Source:
        """What a register holds, `size` bytes of it: several sources in a row are a concatenation."""
        register = _number(raw)
        source, offset = self.registers[register]
        have = size_of(source)
        size = size or have - offset
        if offset == 0 and have <= size <= (have + 3) & ~3:
            return source
        if offset + size <= have or size < 4:
            return reads.Slice(source, offset, size)
        parts: list[reads.Source] = []
        while size > 0:
            source, offset = self.registers[register]
            own = size_of(source) - offset
            own = min(own, size) if own > 4 else own
            parts.append(source if not offset and own == size_of(source) else reads.Slice(source, offset, own))
            register += own + 3 >> 2
            size -= own + 3 & ~3
        return reads.Joined(tuple(parts))

    # ------------------------------------------------------------ loads

    def load(self, item: Item, dreg: int, source: reads.Source) -> None:
        """Load a source into the register of that attribute."""
        self.put(item[dreg], source)

    def meta(self, item: Item) -> seen.Part | None:
        """Load something about the packet, or set it."""
        number = as_be32(item[2])
        name, size, _ = META[number] if number < len(META) else (f"meta {number}", 4, "")
        what = reads.Meta(name, size)
        if 3 in item:
            return seen.Assign(what, self.get(item[3], size))
        self.load(item, 1, what)
        return None

    def conn(self, item: Item) -> seen.Part | None:
        """Load something of the conntrack entry, or set it."""
        name, size, _ = CONN[as_be32(item[2])]
        if name in ("saddr", "daddr") and self.family == "ip":
            size = 4
        direction = ("original", "reply")[item[3][0]] if 3 in item else ""
        what = reads.Conn(name, size, direction)
        if 4 in item:
            return seen.Assign(what, self.get(item[4], size))
        self.load(item, 1, what)
        return None

    def payload(self, item: Item) -> seen.Part | None:
        """Load bytes of a header, or write them."""
        what = reads.HeaderBytes(BASES[as_be32(item[2])], as_be32(item[3]), as_be32(item[4]))
        if 5 in item:
            return seen.Assign(what, self.get(item[5], what.size))
        self.load(item, 1, what)
        return None

    def option(self, item: Item) -> seen.Part | None:
        """Load bytes of an option or extension header, or write them."""
        header = _OPTIONS[as_be32(item.get(6, _NONE))]
        present = bool(as_be32(item.get(5, _NONE)) & 1)
        what = reads.Option(header, item[2][0], as_be32(item[3]), 1 if present else as_be32(item[4]), present)
        if 7 in item:
            return seen.Assign(what, self.get(item[7], what.size))
        if 1 not in item:
            return seen.Strange(f"reset {header} {what.number}", harmless=True)
        self.load(item, 1, what)
        return None

    def fib(self, item: Item) -> None:
        """Load an answer of the routes."""
        flags = as_be32(item[3])
        result = ("", "oif", "oifname", "type")[as_be32(item[2])]
        names = tuple([name for bit, name in _FIB if flags & bit])
        present = bool(flags & _FIB_PRESENT)
        self.load(item, 1, reads.Fib(names, result, 1 if present else FIB_RESULTS[result][0], present))

    def numgen(self, item: Item) -> None:
        """Load the next number."""
        kind = ("inc", "random")[as_be32(item[3])]
        self.load(item, 1, reads.Turn(kind, as_be32(item[2]), as_be32(item.get(4, _NONE))))

    def hash(self, item: Item) -> None:
        """Load a hash."""
        kind = ("jhash", "symhash")[as_be32(item.get(7, _NONE))]
        of = self.get(item[1], as_be32(item[3])) if 1 in item else None
        seed = as_be32(item[5]) if 5 in item else None
        self.load(item, 2, reads.Turn(kind, as_be32(item[4]), as_be32(item.get(6, _NONE)), of, seed))

    def route(self, item: Item) -> None:
        """Load something of the route."""
        self.load(item, 1, reads.RouteKey(*_RT[as_be32(item[2])]))

    def socket(self, item: Item) -> None:
        """Load something of the socket that would take it."""
        self.load(item, 2, reads.OwnSocket(*_SOCKET[as_be32(item[1])], as_be32(item.get(3, _NONE))))

    def strange(self, item: Item, name: str, dreg: int, size: int) -> None:
        """Load something there is no word for."""
        self.load(item, dreg, reads.StrangeSource(name, size))

    def immediate(self, item: Item) -> seen.Part | None:
        """Load a constant, or end with a verdict."""
        data = attributes(item[2])
        if as_be32(item[1]) == 0:
            verdict = verdict_of(data[2])
            return verdict if verdict is not None else seen.Always()
        self.load(item, 1, reads.Fixed(data[1]))
        return None

    # ------------------------------------------------------------ arithmetic

    def bitwise(self, item: Item) -> None:
        """Mask, combine or shift a register."""
        size, operation = as_be32(item[3]), as_be32(item.get(6, _NONE))
        of = self.get(item[1], size)
        if operation == 0:
            source: reads.Source = reads.Masked(of, _raw(item, 4), _raw(item, 5))
        elif operation in (1, 2):
            bits = int.from_bytes(_raw(item, 7), "little")
            bits = bits if bits < 256 else int.from_bytes(_raw(item, 7), "big")
            source = reads.Shifted(of, bits if operation == 1 else -bits)
        else:
            other = self.get(item[8], size) if 8 in item else reads.Fixed(_raw(item, 7))
            source = reads.Mixed(of, _BITS[operation], other)
        self.load(item, 2, source)

    def byteorder(self, item: Item) -> None:
        """Turn bytes round; one byte stays what it is."""
        of, unit = self.get(item[1], as_be32(item[4])), as_be32(item[5])
        self.load(item, 2, of if as_be32(item[4]) == 1 else reads.Swapped(of, unit))

    # ------------------------------------------------------------ tests

    def compare(self, item: Item) -> seen.Part:
        """Compare (cmp) as many bytes as the constant has."""
        raw = _raw(item, 3)
        register = _number(item[1])
        source, offset = self.registers[register]
        of = source if not offset and len(raw) < size_of(source) else self.get(item[1], len(raw))
        return seen.Compare(of, _COMPARE[as_be32(item[2])], raw)

    def within(self, item: Item) -> seen.Part:
        """Compare (range) with two ends."""
        first, last = _raw(item, 3), _raw(item, 4)
        return seen.Within(self.get(item[1], len(first)), first, last, bool(as_be32(item[2])))

    def look_up(self, item: Item) -> seen.Part | None:
        """Look up (lookup) in a set; in a map, load what it holds."""
        name, of = as_text(item[1]), self.key(item[1], item[2])
        if 3 not in item:
            return seen.Among(of, name, bool(as_be32(item.get(5, _NONE)) & 1))
        if as_be32(item[3]) == 0:
            return seen.VerdictMap(of, name)
        self.load(item, 3, reads.Mapped(of, name, self.data_size(name)))
        return None

    def remember(self, item: Item) -> seen.Part:
        """Write (dynset) an element."""
        name = as_text(item[1])
        of = self.key(item[1], item[4])
        data = self.get(item[5], self.data_size(name)) if 5 in item else None
        budgets = [item[7]] if 7 in item else [one for _, one in attribute_list(item.get(10, b""))]
        inner = Machine(self.family, self.sets, self.xt)
        for one in budgets:
            found = attributes(one)
            inner.read(as_text(found[1]), attributes(found.get(2, b"")))
        limits = [one.what for one in inner.found if isinstance(one, seen.Limited)]
        negate = bool(as_be32(item.get(9, _NONE)) & 1)
        return seen.Remember(_HOW[as_be32(item[3])], name, of, data, " ".join(limits), negate)

    def key(self, name: bytes, register: bytes) -> reads.Source:
        """The key that a lookup in that set reads."""
        size = self.sets.get(as_text(name), (0, 0))[0]
        return self.get(register, size)

    def data_size(self, name: str) -> int:
        """The bytes a map's data has."""
        return self.sets.get(name, (0, 4))[1]

    # ------------------------------------------------------------ statements

    def rewrite(self, item: Item) -> seen.Part:
        """Take snat and dnat to what is in registers."""
        flags = as_be32(item.get(7, _NONE))
        family = {2: "ip", 10: "ip6"}[as_be32(item[2])]
        size = 4 if family == "ip" else 16
        kind = ("snat", "dnat")[as_be32(item[1])]
        ends = [self.end(item, 3, size), self.end(item, 4, size), self.end(item, 5, 2), self.end(item, 6, 2)]
        names = tuple([name for bit, name in _NAT_FLAGS if flags & bit])
        address, last, port, last_port = _ends(ends)
        return seen.Rewrite(kind, family, address, last, port, last_port, names, bool(flags & _NETMAP))

    def masquerade(self, item: Item) -> seen.Part:
        """Take masquerade."""
        flags = as_be32(item.get(1, _NONE))
        return self.to_port("masquerade", [self.end(item, 2, 2), self.end(item, 3, 2)], flags)

    def redirect(self, item: Item) -> seen.Part:
        """Take redirect."""
        flags = as_be32(item.get(3, _NONE))
        return self.to_port("redirect", [self.end(item, 1, 2), self.end(item, 2, 2)], flags)

    def to_port(self, kind: str, ends: list[Any], flags: int) -> seen.Part:
        """A rewrite that names ports alone."""
        names = tuple([name for bit, name in _NAT_FLAGS if flags & bit])
        _, _, port, last_port = _ends([None, None, *ends])
        return seen.Rewrite(kind, "", None, None, port, last_port, names)

    def end(self, item: Item, number: int, size: int) -> reads.Source | None:
        """What the register of that attribute holds, None without the attribute."""
        return self.get(item[number], size) if number in item else None

    def target(self, kind: str, item: Item) -> seen.Part:
        """Take an extension of iptables."""
        return self.xt(kind, as_text(item[1]), as_be32(item.get(2, _NONE)), item.get(3, b""), self.family)

    def transparent(self, item: Item) -> seen.Part:
        """Take tproxy."""
        family = {2: "ip", 10: "ip6"}.get(as_be32(item.get(1, _NONE)), "")
        return seen.Tproxy(family, self.end(item, 2, 16 if family == "ip6" else 4), self.end(item, 3, 2))


def _ends(four: list[Any]) -> list[Any]:
    """Ranges whose ends are one and the same have only the first."""
    return [four[0], four[1] if four[1] != four[0] else None, four[2], four[3] if four[3] != four[2] else None]


def _raw(item: Item, number: int) -> bytes:
    """The bytes in a data attribute (NFTA_DATA_VALUE)."""
    return attributes(item[number])[1]


def _number(raw: bytes) -> int:
    """A register as one of four bytes."""
    number = as_be32(raw)
    return 4 + 4 * number if 1 <= number <= 4 else number


_READERS: dict[str, Callable[[Machine, Item], seen.Part | None]] = {
    "meta": Machine.meta,
    "ct": Machine.conn,
    "payload": Machine.payload,
    "exthdr": Machine.option,
    "fib": Machine.fib,
    "numgen": Machine.numgen,
    "hash": Machine.hash,
    "rt": Machine.route,
    "socket": Machine.socket,
    "osf": lambda machine, item: machine.strange(item, "osf name", 1, 16),
    "xfrm": lambda machine, item: machine.strange(item, "ipsec", 1, 16),
    "tunnel": lambda machine, item: machine.strange(item, "tunnel", 2, 4),
    "immediate": Machine.immediate,
    "bitwise": Machine.bitwise,
    "byteorder": Machine.byteorder,
    "cmp": Machine.compare,
    "range": Machine.within,
    "lookup": Machine.look_up,
    "dynset": Machine.remember,
    "nat": Machine.rewrite,
    "masq": Machine.masquerade,
    "redir": Machine.redirect,
    "reject": lambda machine, item: says.refuse(item, machine.family),
    "log": lambda _, item: says.log(item),
    "queue": lambda machine, item: says.queue(item, machine.get(item[4]) if 4 in item else None),
    "match": lambda machine, item: machine.target("match", item),
    "target": lambda machine, item: machine.target("target", item),
    "tproxy": Machine.transparent,
    "synproxy": lambda _, item: says.synproxy(item),
    "objref": lambda _, item: says.named(item),
    "limit": lambda _, item: says.limit(item),
    "quota": lambda _, item: says.quota(item),
    "connlimit": lambda _, item: says.connlimit(item),
    "counter": lambda _, item: says.counter(item),
    "notrack": lambda *_: seen.Untrack(),
    "flow_offload": lambda _, item: seen.Strange(f"flow add @{as_text(item.get(1, b''))}", harmless=True),
    "last": lambda *_: seen.Strange("last used", harmless=True),
    "dup": lambda *_: seen.Strange("dup", harmless=True),
    "fwd": lambda *_: seen.Stolen("fwd"),
}
