"""The firewall that a planned state amounts to, with no kernel behind it.

Our closed vocabulary (firewall/ruleset.py) is told in the open one (firewall/seen.py), so that one evaluator walks a
packet through both. What comes out equals, part by part, what is read back once the plan is applied; a test holds
the two against each other.
"""

from __future__ import annotations

from nsbridge.firewall import seen
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
    Reject,
    Return,
    SetMarkBits,
    Snat,
    Vmap,
)
from nsbridge.firewall.fields import (
    CONN_BY_NAME,
    CT_STATES,
    CT_STATUSES,
    ETHERTYPES,
    FIB_TYPES,
    FIELD_PLACES,
    META_BY_NAME,
    NFPROTOS,
    ORDER,
)
from nsbridge.firewall.owners import owner_of
from nsbridge.firewall.packet import proto_number
from nsbridge.firewall.reads import Conn, Fib, HeaderBytes, Joined, Mapped, Masked, Meta, Slice, Turn
from nsbridge.firewall.ruleset import TURNS, Span, Table
from nsbridge.firewall.ruleset import Element as PlannedElement
from nsbridge.firewall.tracking import tracked_families

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from nsbridge.firewall.expressions import Expression
    from nsbridge.firewall.reads import Source
    from nsbridge.firewall.ruleset import Chain, Rule, Set
    from nsbridge.firewall.seen import Firewall, Part, SeenChain, SeenElement, SeenRule, SeenSet, Verdict
    from nsbridge.state.kernel_state import KernelState

    Place = tuple[str, str, str]

SIZES = {
    "ifname": 16, "ipv4_addr": 4, "ipv6_addr": 16, "inet_proto": 1, "inet_service": 2, "nf_proto": 1,
    "ether_addr": 6, "turn": 4, "verdict": 16,
}  # fmt: skip
_KINDS = {"turn": "integer"}
_PROTOCOL = Meta("nfproto", 1)
_MARK = Meta("mark", 4)
_BURST = 5  # what nft(8) takes for granted


def firewall_of(state: KernelState) -> Firewall:
    """The tables and elements of a state, for the evaluator."""
    tables = [
        seen.SeenTable(
            table.family,
            table.name,
            tuple([_chain(table, chain) for chain in table.chains]),
            tuple([_set(one) for one in table.sets]),
            owner=owner_of(table.family, table.name),
            why=table.why,
        )
        for table in state.of(Table)
    ]
    kinds = {(table.family, table.name, one.name): one for table in state.of(Table) for one in table.sets}
    return seen.Firewall(tuple(tables), tracked_families(tables), PlannedContents(kinds, state.of(PlannedElement)))


def _set(one: Set) -> SeenSet:
    widths = tuple([SIZES[kind] for kind in one.key])
    flags = ("interval",) if one.interval else ()
    return seen.SeenSet(
        one.name,
        tuple([_KINDS.get(kind, kind) for kind in one.key]),
        one.data,
        _width(widths),
        widths if one.interval and len(widths) > 1 else (),
        _width([SIZES[kind] for kind in one.data]),
        one.interval,
        flags=flags,
        why=one.why,
    )


def _width(sizes: Sequence[int]) -> int:
    return sizes[0] if len(sizes) == 1 else sum([(size + 3) & ~3 for size in sizes])


def _chain(table: Table, chain: Chain) -> SeenChain:
    rules = tuple([_rule(table, rule, index) for index, rule in enumerate(chain.rules)])
    policy = "accept" if chain.hook else ""
    return seen.SeenChain(chain.name, rules, chain.kind, chain.hook, chain.priority, policy, why=chain.why)


def _rule(table: Table, rule: Rule, index: int) -> SeenRule:
    parts: list[Part] = []
    known = ""
    for one in rule.expressions:
        reads = _reads(one)
        if table.family == "inet" and reads and reads != known:
            known = reads  # the hidden test that nft(8) writes before fields of one family (kernel/nftencode.py)
            parts.append(seen.Compare(_PROTOCOL, "==", bytes((NFPROTOS[reads],))))
        parts.append(_part(one, table))
    return seen.SeenRule(tuple(parts), index, 0, rule.why)


def _reads(one: Expression) -> str:
    fields = [one.field] if isinstance(one, Match) else getattr(one, "fields", ())
    for field in fields:
        if field.split(" ")[0] in ("ip", "ip6"):
            return str(field.split(" ")[0])
    return ""


# ------------------------------------------------------------------ parts of a rule


def source_of(field: str) -> Source:
    """Where a field of ours is read."""
    if field in ("ct state", "ct status"):
        key = field.split(" ")[1]
        return Conn(key, CONN_BY_NAME[key][0])
    if field == "fib daddr type":
        return Fib(("daddr",), "type", 4)
    if field == "turn":
        return Turn("inc", TURNS)
    if field == "icmpv6 taddr":
        return HeaderBytes("transport", 8, 16)
    if field in META_BY_NAME:
        return Meta(field, META_BY_NAME[field][0])
    base, offset, size, _ = FIELD_PLACES[field]
    return HeaderBytes(base, offset, size)


def _joined(fields: Sequence[str]) -> Source:
    return source_of(fields[0]) if len(fields) == 1 else Joined(tuple([source_of(field) for field in fields]))


def _match(one: Match) -> Part:
    of, value = source_of(one.field), one.value
    op = "!=" if one.negate else "=="
    if one.field in ("ct state", "ct status"):
        names = CT_STATES if one.field == "ct state" else CT_STATUSES
        bits = sum({names[name] for name in value})
        return seen.Compare(_masked(of, bits), "==" if one.negate else "!=", bytes(4))
    if one.field == "mark":
        mask, wanted = value
        return seen.Compare(_masked(of, mask), op, wanted.to_bytes(4, ORDER))
    length = getattr(value, "prefixlen", None)
    if length is not None and isinstance(of, HeaderBytes):
        raw = value.network_address.packed
        if length and length % 8 == 0:
            return seen.Compare(HeaderBytes(of.base, of.offset, length // 8), op, raw[: length // 8])
        return seen.Compare(Masked(of, value.netmask.packed, bytes(len(raw))), op, raw)
    return seen.Compare(of, op, _field_value(one.field, value))


def _masked(of: Source, bits: int) -> Masked:
    return Masked(of, bits.to_bytes(4, ORDER), bytes(4))


def _field_value(field: str, value: Any) -> bytes:
    if field in ("iifname", "oifname", "iifkind", "oifkind"):
        return pack("ifname", value)
    if field == "nfproto":
        return pack("nf_proto", value)
    if field == "protocol":
        return ETHERTYPES[value].to_bytes(2, "big")
    if field == "fib daddr type":
        return FIB_TYPES[value].to_bytes(4, ORDER)
    if field == "icmpv6 type":
        return bytes((value,))
    kinds = {"l4proto": "inet_proto", "turn": "turn", "th sport": "inet_service", "th dport": "inet_service"}
    if field.endswith("ether") or field.startswith("ether"):
        return pack("ether_addr", value)
    return pack(kinds[field], value) if field in kinds else bytes(value.packed)


def _rewrite(one: Dnat | Snat, table: Table) -> Part:
    size = 4 if one.family == "ip" else 16
    held = next((found for found in table.sets if found.name == one.name), None)
    whole = Mapped(_joined(one.fields), one.name, _width([SIZES[kind] for kind in held.data]) if held else size)
    with_port = isinstance(one, Dnat) and one.port
    address: Source = Slice(whole, 0, size) if whole.size != size else whole
    kind = "dnat" if isinstance(one, Dnat) else "snat"
    return seen.Rewrite(kind, one.family, address, None, Slice(whole, size, 2) if with_port else None)


_PARTS: dict[type, Callable[[Any, Table], Part]] = {
    Match: lambda one, _: _match(one),
    InSet: lambda one, _: seen.Among(_joined(one.fields), one.name, one.negate),
    Vmap: lambda one, _: seen.VerdictMap(_joined(one.fields), one.name),
    Dnat: _rewrite,
    Snat: _rewrite,
    Masquerade: lambda *_: seen.Rewrite("masquerade"),
    Counter: lambda *_: seen.Count(),
    SetMarkBits: lambda one, _: seen.Assign(
        _MARK, Masked(_MARK, (~one.bits & 0xFFFFFFFF).to_bytes(4, ORDER), one.bits.to_bytes(4, ORDER))
    ),
    Limit: lambda one, _: seen.Limited(
        f"limit rate {one.rate}/second" + (f" burst {one.burst} packets" if one.burst != _BURST else "")
    ),
    Log: lambda one, _: seen.Logged(one.prefix, None, f'prefix "{one.prefix}"'),
    Reject: lambda *_: seen.Refuse("icmpx", 1),
}


def _part(one: Expression, table: Table) -> Part:
    if isinstance(one, (Accept, Drop, Return, Jump, Goto)):
        return one
    maker = _PARTS.get(type(one))
    return maker(one, table) if maker is not None else seen.Strange(repr(one))


# ------------------------------------------------------------------ elements


def pack(kind: str, value: Any) -> bytes:
    """A value of a set's field as the kernel keeps it."""
    if kind == "ifname":
        return str(value).encode().ljust(16, b"\0")
    if kind == "ether_addr":
        return bytes.fromhex(value.replace(":", ""))
    if kind == "nf_proto":
        return bytes(({"ipv4": 2, "ipv6": 10}[value],))
    if kind == "inet_proto":
        return bytes((proto_number(value),))
    if kind == "inet_service":
        return int(value).to_bytes(2, "big")
    if kind == "turn":
        return int(value).to_bytes(4, ORDER)
    return bytes(value.packed)


def ends(kind: str, value: Any) -> tuple[bytes, bytes]:
    """The first and the last value that an element's field stands for."""
    if isinstance(value, Span):
        return pack(kind, value.first), pack(kind, value.last)
    if kind == "inet_proto" and value == "any":
        return b"\0", b"\xff"
    if hasattr(value, "network_address"):
        return value.network_address.packed, value.broadcast_address.packed
    raw = pack(kind, value)
    return raw, raw


def _key(kinds: Sequence[str], values: Sequence[Any]) -> tuple[bytes, bytes]:
    both = [ends(kind, value) for kind, value in zip(kinds, values, strict=True)]
    if len(both) == 1:
        return both[0]
    low, high = (b"".join([raw + bytes(-len(raw) & 3) for raw in side]) for side in zip(*both, strict=True))
    return low, high


def _verdict(words: str) -> Verdict:
    word, _, chain = words.partition(" ")
    if chain:
        return Jump(chain) if word == "jump" else Goto(chain)
    plain: dict[str, Verdict] = {"accept": Accept(), "drop": Drop()}
    return plain.get(word, Return())


class PlannedContents:
    """What the sets of a plan hold."""

    def __init__(self, kinds: dict[Place, Set], elements: Iterable[PlannedElement]) -> None:
        self._kinds = kinds
        self._exact: dict[Place, dict[bytes, SeenElement]] = {}
        self._ranges: dict[Place, list[SeenElement]] = {}
        for element in elements:
            place = (*element.table, element.set)
            one = kinds.get(place)
            if one is None:
                continue
            low, high = _key(one.key, element.key)
            data: bytes | Verdict | None = None
            if one.data:
                data = _verdict(element.data[0]) if one.data == ("verdict",) else _key(one.data, element.data)[0]
            found = seen.SeenElement(low, high, data, False, element.why)
            if low == high:
                self._exact.setdefault(place, {})[low] = found
            else:
                self._ranges.setdefault(place, []).append(found)

    def find(self, family: str, table: str, name: str, key: bytes) -> SeenElement | None:
        """The element that this key falls under, None without one."""
        place = (family, table, name)
        exact = self._exact.get(place, {}).get(key)
        if exact is not None or place not in self._ranges:
            return exact
        widths = [(SIZES[kind] + 3) & ~3 for kind in self._kinds[place].key]
        widths = widths if len(widths) > 1 else [len(key)]
        return next((one for one in self._ranges[place] if _covers(one, key, widths)), None)

    def all(self, family: str, table: str, name: str) -> tuple[SeenElement, ...]:
        """Every element."""
        place = (family, table, name)
        found = [*self._exact.get(place, {}).values(), *self._ranges.get(place, ())]
        return tuple(sorted(found, key=lambda one: one.first))

    def link(self, index: int) -> str:
        """Nothing: rules of ours name interfaces."""
        return ""


def _covers(one: SeenElement, key: bytes, widths: Sequence[int]) -> bool:
    at = 0
    for width in widths:
        if not one.first[at : at + width] <= key[at : at + width] <= one.last[at : at + width]:
            return False
        at += width
    return True
