"""nf_tables messages read back as chains and rules: the other direction of `nftencode`.

A rule's expressions are walked in order while the registers remember which field was loaded into them; each
comparison, lookup or translation then becomes one value. What our vocabulary has no word for becomes `Opaque`
with the kernel's name for it, so a strange rule in our table is a difference and never a guess.
"""

from __future__ import annotations

from nsbridge.firewall.expressions import (
    Accept,
    Counter,
    Dnat,
    Drop,
    Goto,
    InSet,
    Jump,
    Limit,
    Log,
    Masquerade,
    Match,
    Opaque,
    Reject,
    Return,
    SetMarkBits,
    Snat,
    Vmap,
)
from nsbridge.firewall.ruleset import Chain, Rule, Set
from nsbridge.kernel import nftschema as nf
from nsbridge.kernel.netlink import as_be32, as_text, attribute_list, attributes
from nsbridge.kernel.nftmessage import comment, known

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, TypeAlias

    from nsbridge.firewall.expressions import Expression

    Attributes: TypeAlias = dict[int, bytes]

_HOOK_NAMES = {number: name for name, number in nf.HOOKS.items()}
_NO_BYTES = b"\0\0\0\0"


def chain_of(body: bytes) -> tuple[str, Chain, bool]:
    """Its table, the chain without rules, and whether its policy is drop."""
    found = attributes(body, 4)
    name, why = as_text(found[3]), comment(found.get(12, b""))
    if 4 not in found:
        return as_text(found[1]), Chain(name, (), why=why), False
    hook = attributes(found[4])
    number = as_be32(hook[1])
    priority = int.from_bytes(hook[2], "big", signed=True)
    kind = as_text(found.get(7, b""))
    base = Chain(name, (), kind, _HOOK_NAMES.get(number, f"hook {number}"), priority, why=why)
    return as_text(found[1]), base, as_be32(found.get(5, b"\0\0\0\1")) == nf.DROP


def rule_of(body: bytes, sets: Mapping[str, Set]) -> tuple[str, Rule]:
    """Its chain and the rule."""
    found = attributes(body, 4)
    reader = _Reader(sets)
    for _, data in attribute_list(found.get(4, b"")):
        item = attributes(data)
        reader.read(as_text(item[1]), attributes(item.get(2, b"")))
    return as_text(found[2]), Rule(reader.finish(), why=comment(found.get(7, b"")))


class _Reader:
    """Walks the expressions of one rule."""

    def __init__(self, sets: Mapping[str, Set]) -> None:
        self.sets = sets
        self.registers: dict[int, tuple[str, int]] = {}  # what was loaded: field and bytes
        self.mask: tuple[bytes, bytes] | None = None  # of the bitwise expression just before
        self.pending: Match | None = None  # a protocol test that may be nft's hidden one
        self.lookup: tuple[str, tuple[str, ...]] | None = None  # a map whose data nobody used yet
        self.found: list[Expression] = []
        self.known = ""  # the family that a field before said the packet is of
        self.carried = ""  # what a test before said the packet is

    def read(self, name: str, item: Attributes) -> None:
        """Take one expression."""
        reader = _READERS.get(name)
        if reader is None or not reader(self, item):
            self.emit(Opaque(name))
            self.registers.clear()
            self.mask = self.lookup = None

    def finish(self) -> tuple[Expression, ...]:
        """Return what the rule says."""
        if self.lookup:
            self.emit(Opaque(f"lookup in map {self.lookup[0]} that leads nowhere"))
        self.flush()
        return tuple(self.found)

    def flush(self) -> None:
        """Keep a protocol test that turned out not to belong to the next field."""
        if self.pending is not None:
            self.found.append(self.pending)
            self.pending = None

    def emit(self, one: Expression, fields: Sequence[str] = ()) -> None:
        """Add a value that reads these fields."""
        family = next(filter(None, map(nf.family_of, fields)), "")
        if self.pending is not None and family != self.known and self.pending.value == nf.FAMILY_TEST.get(family):
            self.pending = None  # the writer's own: it stands once for all fields of its family that follow
        self.known = family or self.known
        self.flush()
        if type(one) is Match and one.field in ("protocol", "l4proto") and not one.negate:
            self.carried = one.value
        if type(one) is Match and one.field == "nfproto" and not one.negate:
            self.pending = one
        else:
            self.found.append(one)

    def load(self, name: str, item: Attributes) -> bool:
        """Load a field, by meta, payload, ct, fib or numgen, into a register."""
        if 1 not in item:
            return name == "meta" and self.set_mark(item)
        last = {"meta": 3, "ct": 3, "numgen": 5}.get(name, 4)
        numbers = [as_be32(item[kind]) for kind in range(2, last) if kind in item]
        field = nf.FIELD_BEHIND.get(self.carried, {}).get((name, tuple(numbers)))
        field = field or nf.FIELD_OF_LOAD.get((name, tuple(numbers)))
        if field is None or (name == "ct" and 3 in item):
            return False
        size = as_be32(item[4]) if name == "payload" else nf.LENGTH[nf.FIELDS[field][2]]
        if size > nf.LENGTH[nf.FIELDS[field][2]]:
            return False
        self.registers[_number(item[1])] = (field, size)
        self.mask = None
        return True

    def set_mark(self, item: Attributes) -> bool:
        """Set the mark, to that the mark with some bits on."""
        loaded = self.registers.get(_number(item[3])) if 3 in item else None
        if as_be32(item[2]) != 3 or self.mask is None or loaded is None or loaded[0] != "mark":
            return False
        keep, bits = (nf.from_native(raw) for raw in self.mask)
        if keep | bits != 0xFFFFFFFF or keep & bits:
            return False
        self.emit(SetMarkBits(bits))
        self.mask = None
        return True

    def bitwise(self, item: Attributes) -> bool:
        """Mask a register in place."""
        if as_be32(item.get(6, _NO_BYTES)) or item[1] != item[2]:
            return False
        self.mask = (value(item, 4), value(item, 5))
        return _number(item[1]) in self.registers

    def compare(self, item: Attributes) -> bool:
        """Compare (cmp): a field, maybe masked, equals or doesn't equal a constant."""
        operation = as_be32(item[2])
        loaded = self.registers.get(_number(item[1]))
        if loaded is None or operation > 1:
            return False
        field, size = loaded
        kind = nf.FIELDS[field][2]
        mask, self.mask = self.mask, None
        if mask is not None and any(mask[1]):
            return False
        match = _compared(field, kind, size, mask[0] if mask else None, value(item, 3), bool(operation))
        if match is None:
            return False
        self.emit(match, (field,))
        return True

    def look_up(self, item: Attributes) -> bool:
        """Look up (lookup) in a set, or in a map for the nat that follows."""
        one = self.sets.get(as_text(item[1]))
        fields = self.concatenation(_number(item[2]), one) if one is not None and known(one) else None
        if one is None or fields is None:
            return False
        if 3 in item and not as_be32(item[3]):
            self.emit(Vmap(fields, one.name), fields)  # type: ignore[arg-type]
            return True
        if 3 in item:
            self.lookup = (one.name, fields)
            self.registers.clear()
            return _number(item[3]) == nf.FIRST_REGISTER
        self.emit(InSet(fields, one.name, bool(as_be32(item.get(5, _NO_BYTES)) & 1)), fields)  # type: ignore[arg-type]
        return True

    def concatenation(self, register: int, one: Set) -> tuple[str, ...] | None:
        """The fields in the registers from there on that make up the set's key."""
        fields = []
        for kind in one.key:
            loaded = self.registers.get(register)
            if loaded is None or nf.FIELDS[loaded[0]][2] != kind or loaded[1] != nf.LENGTH[kind]:
                return None
            fields.append(loaded[0])
            register += nf.words(kind)
        return tuple(fields)

    def translate(self, item: Attributes) -> bool:
        """Translate (nat) to what the lookup before it found."""
        name = {nf.FAMILIES["ip"]: "ip", nf.FAMILIES["ip6"]: "ip6"}.get(as_be32(item[2]))
        lookup, self.lookup = self.lookup, None
        kind = as_be32(item[1])
        if lookup is None or name is None or kind not in (nf.SNAT, nf.DNAT) or (kind == nf.SNAT and 5 in item):
            return False
        port = nf.FIRST_REGISTER + (1 if name == "ip" else 4)
        if _number(item[3]) != nf.FIRST_REGISTER or item.get(4, item[3]) != item[3]:
            return False
        if 5 in item and (_number(item[5]) != port or item.get(6, item[5]) != item[5]):
            return False
        # Kernels add the flags that follow from the registers: addresses (1) and ports (2) are given.
        if as_be32(item.get(7, _NO_BYTES)) & ~3:
            return False
        fields: Any = lookup[1]
        if kind == nf.SNAT:
            self.emit(Snat(name, fields, lookup[0]), fields)  # type: ignore[arg-type]
        else:
            self.emit(Dnat(name, fields, lookup[0], 5 in item), fields)  # type: ignore[arg-type]
        return True

    def immediate(self, item: Attributes) -> bool:
        """A verdict."""
        verdict = attributes(attributes(item.get(2, b"")).get(2, b""))
        if as_be32(item[1]) or 1 not in verdict:
            return False
        code = int.from_bytes(verdict[1], "big", signed=True)
        if code in (nf.JUMP, nf.GOTO):
            chain = as_text(verdict[2])
            self.emit(Jump(chain) if code == nf.JUMP else Goto(chain))
            return True
        plain: dict[int, Expression] = {nf.ACCEPT: Accept(), nf.DROP: Drop(), nf.RETURN: Return()}
        if code not in plain:
            return False
        self.emit(plain[code])
        return True

    def byteorder(self, item: Attributes) -> bool:
        """Take what nft 1.0.6 writes behind a protocol in an interval key: the order of the bytes of one byte."""
        return item[1] == item[2] and as_be32(item[4]) == 1 and _number(item[1]) in self.registers

    def limit(self, item: Attributes) -> bool:
        """Take a limit of packets a second."""
        if int.from_bytes(item[2], "big") != 1 or as_be32(item.get(4, _NO_BYTES)) or as_be32(item.get(5, _NO_BYTES)):
            return False
        self.emit(Limit(int.from_bytes(item[1], "big"), as_be32(item[3])))
        return True

    def log(self, item: Attributes) -> bool:
        """Take a log with a prefix and nothing else."""
        level = as_be32(item.get(5, b"\0\0\0\4"))
        if 2 not in item or level != 4 or not set(item) <= {2, 5, 6} or as_be32(item.get(6, _NO_BYTES)):
            return False
        self.emit(Log(as_text(item[2])))
        return True

    def reject(self, item: Attributes) -> bool:
        """Take a reject that says port unreachable in either family."""
        if as_be32(item[1]) != 2 or item.get(2) != b"\1":
            return False
        self.emit(Reject())
        return True

    def plain(self, one: Expression, item: Attributes, allowed: Sequence[int]) -> bool:
        """Take counter and masq, when they carry nothing special."""
        if any(kind not in allowed for kind in item):
            return False
        self.emit(one)
        return True


def value(item: Attributes, kind: int) -> bytes:
    """The raw bytes in a data attribute, empty without one."""
    return attributes(item.get(kind, b"")).get(1, b"")


def _number(raw: bytes) -> int:
    """A register as one of four bytes."""
    number = as_be32(raw)
    return 4 + 4 * number if 1 <= number <= 4 else number


def _compared(field: str, kind: str, size: int, mask: bytes | None, raw: bytes, negate: bool) -> Match | None:
    """A comparison as a value, None for one we have no word for."""
    if kind in ("ct_state", "ct_status"):
        # nft writes "any of" as: what is left after masking isn't zero.
        if mask is None or any(raw):
            return None
        return Match(field, nf.bit_names(kind, nf.from_native(mask)), not negate)  # type: ignore[arg-type]
    if kind == "mark":
        masked = nf.from_native(mask) if mask is not None else 0xFFFFFFFF
        return Match(field, (masked, nf.from_native(raw)), negate)  # type: ignore[arg-type]
    if kind in ("ipv4_addr", "ipv6_addr"):
        full = nf.LENGTH[kind]
        if len(raw) != size or (mask is not None and size != full):
            return None
        if mask is not None:
            ones = format(int.from_bytes(mask, "big"), f"0{8 * full}b").rstrip("0")
            if "0" in ones:
                return None
            return Match(field, nf.network(kind, raw, len(ones)), negate)  # type: ignore[arg-type]
        if size < full:
            return Match(field, nf.network(kind, raw.ljust(full, b"\0"), 8 * size), negate)  # type: ignore[arg-type]
    elif mask is not None or len(raw) != size:
        return None
    return Match(field, nf.unpack_value(kind, raw), negate)  # type: ignore[arg-type]


_READERS: dict[str, Callable[[_Reader, Attributes], bool]] = {
    "meta": lambda reader, item: reader.load("meta", item),
    "payload": lambda reader, item: reader.load("payload", item),
    "ct": lambda reader, item: reader.load("ct", item),
    "fib": lambda reader, item: reader.load("fib", item),
    "numgen": lambda reader, item: reader.load("numgen", item),
    "bitwise": _Reader.bitwise,
    "cmp": _Reader.compare,
    "lookup": _Reader.look_up,
    "nat": _Reader.translate,
    "immediate": _Reader.immediate,
    "byteorder": _Reader.byteorder,
    "limit": _Reader.limit,
    "log": _Reader.log,
    "reject": _Reader.reject,
    "counter": lambda reader, item: reader.plain(Counter(), item, (1, 2, 3)),
    "masq": lambda reader, item: reader.plain(Masquerade(), item, ()),
}
