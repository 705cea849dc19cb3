"""Elements of sets and maps, packed for the kernel and read back.

Elements of a set without intervals share one layout, constant headers around the values. So thousands are
packed, and unpacked, by one compiled `Struct` a message, column by column, in C. A message takes at most
64 KB of them: a list of elements is one attribute, whose length has 16 bits.

In a plain interval set a network is two elements, its start and, flagged as an end, the address behind it; in
one whose keys are concatenated (a pipapo set) it is one element with two keys.
"""

from __future__ import annotations

import errno
from _struct import Struct
from ipaddress import IPv4Address, IPv6Address
from itertools import chain, repeat

from nsbridge.errors import KernelError
from nsbridge.firewall.ruleset import Element, Span
from nsbridge.kernel import nftschema as nf
from nsbridge.kernel.netlink import as_be32, as_text, attr, attribute_list, attributes, be32, message, nested, text
from nsbridge.kernel.nftmessage import header

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeAlias

    from nsbridge.firewall.ruleset import Set

    Attributes: TypeAlias = dict[int, bytes]

_ROOM = 60_000
_NO_BYTES = b"\0\0\0\0"

_FORMATS = {
    "ifname": "16s",
    "ipv4_addr": "I",
    "ipv6_addr": "16s",
    "inet_proto": "s3x",
    "inet_service": "H2x",
    "nf_proto": "s3x",
    "turn": "4s",
    "ether_addr": "6s2x",
}

_SHORT = Struct("=HH").pack


class Layout:
    """How an element of a set without intervals lies in a message: constant headers around the values.

    form: (head, key values…), or (head, key values…, middle, data values…), in the letters of `struct`.
    """

    __slots__ = ("form", "head", "middle", "size", "struct")

    def __init__(self, one: Set, *, data: bool) -> None:
        key_pad, data_pad = (sum([4 * nf.words(kind) for kind in kinds]) for kinds in (one.key, one.data))
        with_data = bool(data and one.data)
        self.size = 4 + 8 + key_pad + (8 + data_pad if with_data else 0)
        self.head = _SHORT(self.size, 1) + _SHORT(8 + key_pad, 1) + _SHORT(4 + nf.type_length(one.key), 1)
        self.middle = b""
        self.form = "12s" + "".join([_FORMATS[kind] for kind in one.key])
        if with_data:
            self.middle = _SHORT(8 + data_pad, 2) + _SHORT(4 + nf.type_length(one.data), 1)
            self.form += "8s" + "".join([_FORMATS[kind] for kind in one.data])
        self.struct = Struct(">" + self.form)

    def pack(self, one: Set, elements: Sequence[Element], step: int) -> list[bytes]:
        """Pack elements, so many in one string."""
        if len(elements) == 1:  # nearly always: an endpoint that comes or goes has one in each of its sets
            fields = [self.head, *_fields(one.key, elements[0].key)]
            if self.middle:
                fields += [self.middle, *_fields(one.data, elements[0].data)]
            return [self.struct.pack(*fields)]
        columns: list[Any] = [repeat(self.head), *_columns(one.key, [element.key for element in elements])]
        if self.middle:
            columns += [repeat(self.middle), *_columns(one.data, [element.data for element in elements])]
        width = len(columns)
        flat = list(chain.from_iterable(zip(*columns, strict=False)))  # the headers repeat without end
        found = []
        struct = Struct(">" + self.form * step) if step > 1 else self.struct
        for first in range(0, len(elements), step):
            count = min(step, len(elements) - first)
            if count < step:
                struct = Struct(">" + self.form * count)
            found.append(struct.pack(*flat[first * width : (first + count) * width]))
        return found


_layouts: dict[tuple[object, ...], Layout] = {}


def _layout(one: Set, *, data: bool) -> Layout:
    """The layout of a set's elements, made once: an endpoint that comes has an element or two in each of five sets."""
    kinds = (one.key, one.data, data)
    return _layouts.get(kinds) or _layouts.setdefault(kinds, Layout(one, data=data))


def _fields(kinds: Sequence[str], values: Sequence[Any]) -> list[Any]:
    """One row's values, as `Struct` takes them."""
    return [_column(kind, (one,))[0] for kind, one in zip(kinds, values, strict=True)]


def _columns(kinds: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> list[Sequence[Any]]:
    """The rows' values field by field, as `Struct` takes them."""
    if set(map(len, rows)) - {len(kinds)}:
        raise ValueError(f"not every one has {len(kinds)} values")
    return [_column(kind, [row[number] for row in rows]) for number, kind in enumerate(kinds)]


def _column(kind: str, values: Sequence[Any]) -> Sequence[Any]:
    if kind == "inet_service":
        if values and not 0 <= min(values) <= max(values) <= 65535:
            raise ValueError("not every port is from 0 to 65535")
        return values
    if kind in ("ipv4_addr", "ipv6_addr"):
        wanted = IPv4Address if kind == "ipv4_addr" else IPv6Address
        if set(map(type, values)) - {wanted}:
            raise ValueError(f"not every address is an {wanted.__name__}")
        return list(map(int, values)) if kind == "ipv4_addr" else [value.packed for value in values]
    known = {value: nf.pack_value(kind, value) for value in set(values)}
    return [known[value] for value in values]


# ------------------------------------------------------------------ packing


def messages(
    kind: int, flags: int, table: tuple[str, str], one: Set, elements: Sequence[Element]
) -> list[tuple[bytes, Sequence[Element]]]:
    """Messages about elements of one set, each with the elements it is about.

    KernelError (EINVAL) when an element doesn't fit its set.
    """
    head = header(table[0]) + text(1, table[1]) + text(2, one.name)
    found = []
    start = 0
    for items, count in packed(one, elements, data=kind == nf.NEWSETELEM):
        found.append((message(kind, flags, head + nested(3, items)), elements[start : start + count]))
        start += count
    return found


def packed(one: Set, elements: Sequence[Element], *, data: bool) -> list[tuple[bytes, int]]:
    """Elements as items of an element list, as many together as fit, each with their number."""
    try:
        if one.interval or one.data == ("verdict",):
            pack = _interval if one.interval else _verdict_item
            items = [pack(one, element, data) for element in elements]
            step = _ROOM // max(map(len, items), default=1)
            lists = [b"".join(items[first : first + step]) for first in range(0, len(items), step)]
        else:
            layout = _layout(one, data=data)
            step = min(_ROOM // layout.size, len(elements))
            lists = layout.pack(one, elements, step) if elements else []
    except (KernelError, ValueError, KeyError, AttributeError, TypeError) as err:
        if len(elements) > 1:  # which one is it?
            for element in elements:
                packed(one, [element], data=data)
        raise KernelError(
            f"an element of set {one.name!r} doesn't fit it: {err}", errno=errno.EINVAL, thing=elements[0]
        ) from err
    return [(items, min(step, len(elements) - number * step)) for number, items in enumerate(lists)]


def _interval(one: Set, element: Element, data: bool) -> bytes:
    bounds = [interval(kind, key) for kind, key in zip(one.key, element.key, strict=True)]
    datum = _datum(one, element) if data and one.data else b""
    if len(one.key) > 1:
        first = b"".join([_padded(low) for low, _ in bounds])
        last = b"".join([_padded(high) for _, high in bounds])
        return nested(1, nested(1, attr(1, first)), datum, nested(10, attr(1, last)))
    low, high = bounds[0]
    start = nested(1, nested(1, attr(1, low)), datum)
    end = _behind(high)
    return start + nested(1, be32(3, nf.ELEMENT_END), nested(1, attr(1, end))) if end else start


def _verdict_item(one: Set, element: Element, data: bool) -> bytes:
    """An element of a verdict map without intervals."""
    return nested(1, nested(1, attr(1, concatenated(one.key, element.key))), _datum(one, element) if data else b"")


def _datum(one: Set, element: Element) -> bytes:
    """What a map holds for a key: a value, or a verdict (``goto CHAIN``)."""
    if one.data != ("verdict",):
        return nested(2, attr(1, concatenated(one.data, element.data)))
    word, _, target = element.data[0].partition(" ")
    if word != "goto" or not target:
        raise ValueError(f"{element.data[0]!r} is no verdict of ours")
    return nested(2, nested(2, be32(1, nf.GOTO), text(2, target)))


def _data(one: Set, item: Attributes) -> tuple[Any, ...]:
    """Read what a map holds."""
    if one.data != ("verdict",):
        return split(one.data, value(item, 2))
    verdict = attributes(attributes(item.get(2, b"")).get(2, b""))
    code = int.from_bytes(verdict.get(1, _NO_BYTES), "big", signed=True)
    return (f"goto {as_text(verdict.get(2, b''))}" if code == nf.GOTO else f"verdict {code}",)


def _behind(high: bytes) -> bytes:
    """The value behind this one; nothing behind the last there is: such an interval stays open."""
    end = int.from_bytes(high, "big") + 1
    return b"" if end >> 8 * len(high) else end.to_bytes(len(high), "big")


def probes(one: Set, element: Element) -> list[bytes]:
    """The list items to ask a set for one element by.

    A plain interval set can't be asked for an end beside which another interval begins, so it is asked for
    the first address, the last, and the one behind it.
    """
    if not one.interval or len(one.key) > 1:
        return [packed(one, [element], data=False)[0][0]]
    low, high = interval(one.key[0], element.key[0])
    return [nested(1, nested(1, attr(1, raw))) for raw in (low, high, _behind(high)) if raw]


def interval(kind: str, key: Any) -> tuple[bytes, bytes]:
    """First and last value of a network or span, or twice the value itself."""
    if type(key) is Span:
        return nf.pack_value(kind, key.first), nf.pack_value(kind, key.last)
    if key == "any" and kind == "inet_proto":
        return b"\0", b"\xff"
    if hasattr(key, "prefixlen"):
        return nf.pack_value(kind, key.network_address), nf.pack_value(kind, key.broadcast_address)
    return (raw := nf.pack_value(kind, key)), raw


def concatenated(kinds: Sequence[str], values: Sequence[Any]) -> bytes:
    """Values as one key or one datum."""
    raws = [nf.pack_value(kind, one) for kind, one in zip(kinds, values, strict=True)]
    return raws[0] if len(raws) == 1 else b"".join(map(_padded, raws))


def _padded(raw: bytes) -> bytes:
    return raw + bytes(-len(raw) & 3)


# ------------------------------------------------------------------ reading


def split(kinds: Sequence[str], raw: bytes) -> tuple[Any, ...]:
    """The values of a key or datum."""
    found = []
    offset = 0
    for kind in kinds:
        found.append(nf.unpack_value(kind, raw[offset : offset + nf.LENGTH[kind]]))
        offset += 4 * nf.words(kind)
    return tuple(found)


def read(table: tuple[str, str], one: Set, bodies: Sequence[bytes]) -> list[Element]:
    """The elements of a set in the kernel's order, of an interval set in that of addresses."""
    lists = [attributes(body, 4).get(3, b"") for body in bodies]
    if not one.interval:
        return [element for items in lists for element in _plain(table, one, items)]
    found = [attributes(data) for items in lists for _, data in attribute_list(items)]
    if len(one.key) > 1:
        return [_box(table, one, item) for item in found]
    return _lines(table, one, found)


def _plain(table: tuple[str, str], one: Set, items: bytes) -> list[Element]:
    """Read elements that all have our layout at one stroke, others one by one."""
    if one.data == ("verdict",):
        return [_single(table, one, attributes(data)) for _, data in attribute_list(items)]
    layout = _layout(one, data=True)
    count = len(one.key)
    if len(items) % layout.size == 0:
        revive = [_revive(kind) for kind in (*one.key, *one.data)]
        found = []
        for fields in layout.struct.iter_unpack(items):
            values = list(fields[1:])
            if fields[0] != layout.head or (layout.middle and values.pop(count) != layout.middle):
                break
            values = [value if form is None else form(value) for form, value in zip(revive, values, strict=True)]
            found.append(Element(table, one.name, tuple(values[:count]), tuple(values[count:])))
        else:
            return found
    return [_single(table, one, attributes(data)) for _, data in attribute_list(items)]


def _revive(kind: str) -> Callable[[Any], Any] | None:
    """What makes a value of what `Layout.struct` unpacks, None when it is one already."""
    if kind == "inet_service":
        return None
    if kind == "ipv4_addr":
        return IPv4Address
    if kind == "ipv6_addr":
        return IPv6Address
    met: dict[bytes, Any] = {}

    def revive(raw: bytes) -> Any:
        if raw not in met:
            met[raw] = nf.unpack_value(kind, raw)
        return met[raw]

    return revive


def _single(table: tuple[str, str], one: Set, item: Attributes) -> Element:
    return Element(table, one.name, split(one.key, value(item, 1)), _data(one, item))


def value(item: Attributes, kind: int) -> bytes:
    """The raw value in a key or data attribute, empty without one."""
    return attributes(item.get(kind, b"")).get(1, b"")


def _box(table: tuple[str, str], one: Set, item: Attributes) -> Element:
    """An element of a concatenated interval set: a range in every field."""
    first, last = value(item, 1), value(item, 10) or value(item, 1)
    key = []
    offset = 0
    for kind in one.key:
        end = offset + nf.LENGTH[kind]
        key.append(span(kind, first[offset:end], last[offset:end]))
        offset += 4 * nf.words(kind)
    return Element(table, one.name, tuple(key), _data(one, item))


def _lines(table: tuple[str, str], one: Set, items: Sequence[Attributes]) -> list[Element]:
    """Elements of a plain interval set: each start with the end that follows, none when it is open."""
    kind = one.key[0]
    size = nf.LENGTH[kind]
    marks = sorted(
        ((value(item, 1), not as_be32(item.get(3, _NO_BYTES)) & nf.ELEMENT_END, item) for item in items),
        key=lambda mark: mark[:2],
    )
    found: list[Element] = []
    for position, (raw, starts, item) in enumerate(marks):
        if not starts:
            continue
        last = b"\xff" * size
        if position + 1 < len(marks):
            last = (int.from_bytes(marks[position + 1][0], "big") - 1).to_bytes(size, "big")
        found.append(Element(table, one.name, (span(kind, raw, last),), split(one.data, value(item, 2))))
    return found


def probed(one: Set, element: Element, replies: Sequence[bytes | None]) -> Element | None:
    """The element the kernel has under the key asked for by `probes`, None when it has another or none."""
    if replies[0] is None:
        return None
    if not one.interval or len(one.key) > 1:
        found = read(element.table, one, [replies[0]])
        # A set of ranges answers with the range that holds the key, which may be a wider one.
        if len(found) != 1 or packed(one, found, data=False) != packed(one, [element], data=False):
            return None
        return found[0]
    items = [attributes(attribute_list(attributes(reply, 4)[3])[0][1]) if reply else {} for reply in replies]
    first, last, *behind = [value(item, 1) for item in items]
    if first != interval(one.key[0], element.key[0])[0] or last != first or first in behind:
        return None
    return element.replace(data=split(one.data, value(items[0], 2)))


def span(kind: str, first: bytes, last: bytes) -> Any:
    """A range of addresses as a network, of ports as a span, one value as itself; text for what is neither."""
    low, high = int.from_bytes(first, "big"), int.from_bytes(last, "big")
    bits = 8 * nf.LENGTH[kind]
    if kind in ("ipv4_addr", "ipv6_addr"):
        width = (low ^ high).bit_length()
        if low & (1 << width) - 1 == 0 and high == low | (1 << width) - 1:
            return nf.network(kind, first, bits - width)
    elif low == high:
        return nf.unpack_value(kind, first)
    elif kind == "inet_service":
        return Span(low, high)
    elif kind == "inet_proto" and (low, high) == (0, 255):
        return "any"
    return f"{nf.unpack_value(kind, first)}-{nf.unpack_value(kind, last)}"
