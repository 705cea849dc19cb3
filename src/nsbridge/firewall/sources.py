"""What a source gives for a packet: every value it may have.

A value is a number of so many bytes with a mask of known bits beside it, so that a test of what is known has its
answer although the rest isn't. Some sources have a few possible values (a turn of ``numgen``, a map looked up by one);
they are kept apart, and a test holds when it holds for each. `MISSING` is the kernel's NFT_BREAK: there is nothing to
read, and the rule ends there.
"""

from __future__ import annotations

from itertools import product

from nsbridge.firewall.fields import CONN_BY_NAME, ORDER, size_of
from nsbridge.firewall.metas import conn, fib, meta
from nsbridge.firewall.reads import (
    Conn,
    Fib,
    Fixed,
    HeaderBytes,
    Joined,
    Mapped,
    Masked,
    Meta,
    Mixed,
    OwnSocket,
    RouteKey,
    Shifted,
    Slice,
    Swapped,
    Turn,
)
from nsbridge.firewall.view import LAYOUTS, MISSING, MOST, ones

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from nsbridge.firewall.reads import Source
    from nsbridge.firewall.view import Bits, Possible, View


def possible(of: Source, view: View) -> Possible:
    """Every value that a source may have for this packet; `MISSING` where there is none."""
    reader = _READERS.get(type(of))
    return reader(of, view) if reader is not None else [_unknown(size_of(of))]


def _unknown(size: int) -> Bits:
    return 0, 0, size


def _exact(raw: bytes) -> Bits:
    return int.from_bytes(raw, "big"), ones(len(raw)), len(raw)


def _each(options: Possible, function: Callable[[Bits], Bits | None]) -> Possible:
    return [function(one) if one is not MISSING else MISSING for one in options]


def _header(of: HeaderBytes, view: View) -> Possible:
    if of.base not in LAYOUTS:
        return [_unknown(of.size)]
    layout = view.header(of.base)
    return [(*layout.part(of.offset, of.size), of.size)] if layout is not None else [MISSING]


def _turn(of: Turn, view: View) -> Possible:
    if of.modulus > MOST:
        return [_unknown(4)]
    if of.of is not None and possible(of.of, view) == [MISSING]:
        return [MISSING]
    return [_exact((number + of.offset).to_bytes(4, ORDER)) for number in range(of.modulus)]


def _socket(of: OwnSocket, view: View) -> Possible:
    if view.around.socket(view.packet) is False:
        return [MISSING]
    return [_unknown(of.size)]


def _mapped(of: Mapped, view: View) -> Possible:
    keys = possible(of.of, view)
    found = view.look_up(of.set, keys)
    if found is None:
        return [_unknown(of.size)]
    missing: Possible = [MISSING] if MISSING in keys else []
    return missing + [_exact(one.data) if one and isinstance(one.data, bytes) else MISSING for one in found]


def _slice(of: Slice, view: View) -> Possible:
    shift = 8 * (size_of(of.of) - of.offset - of.size)
    all_ = ones(of.size)
    return _each(possible(of.of, view), lambda one: (one[0] >> shift & all_, one[1] >> shift & all_, of.size))


def _masked(of: Masked, view: View) -> Possible:
    mask, flip = int.from_bytes(of.mask, "big"), int.from_bytes(of.flip, "big")

    def work(one: Bits) -> Bits:
        value, known, size = one
        # A bit that the mask takes off is known to be zero, whatever it was.
        known |= ones(size) & ~mask
        return ((value & mask) ^ flip) & known, known, size

    return _each(possible(of.of, view), work)


def _mixed(of: Mixed, view: View) -> Possible:
    found: Possible = []
    for left, right in product(possible(of.of, view), possible(of.other, view)):
        if left is MISSING or right is MISSING:
            found.append(MISSING)
            continue
        (one, known, size), (other, also, _) = left, right
        if of.how == "&":
            value, sure = one & other, known & also | known & ~one | also & ~other
        elif of.how == "|":
            value, sure = one | other, known & also | known & one | also & other
        else:
            value, sure = one ^ other, known & also
        found.append((value & sure, sure, size))
    return found


def _shifted(of: Shifted, view: View) -> Possible:
    def work(one: Bits) -> Bits:
        # Shifts are of numbers in the machine's order; nft(8) turns others round before.
        value, known, size = (_turned(one[0], one[2], one[2]), _turned(one[1], one[2], one[2]), one[2])
        whole = ones(size)
        if of.bits >= 0:
            value, known = value << of.bits & whole, (known << of.bits | (1 << of.bits) - 1) & whole
        else:
            value, known = value >> -of.bits, known >> -of.bits | whole & ~(whole >> -of.bits)
        return _turned(value, size, size), _turned(known, size, size), size

    return _each(possible(of.of, view), work)


def _turned(number: int, size: int, unit: int) -> int:
    raw = number.to_bytes(size, "big")
    if ORDER == "big":
        return number
    return int.from_bytes(b"".join([raw[at : at + unit][::-1] for at in range(0, size, unit)]), "big")


def _swapped(of: Swapped, view: View) -> Possible:
    return _each(
        possible(of.of, view),
        lambda one: (_turned(one[0], one[2], of.unit), _turned(one[1], one[2], of.unit), one[2]),
    )


def _joined(of: Joined, view: View) -> Possible:
    options = [possible(part, view) for part in of.parts]
    count = 1
    for one in options:
        count *= len(one)
    if count > MOST:
        return [_unknown(size_of(of))]
    return [_concatenation(parts) for parts in product(*options)]


def _concatenation(parts: Sequence[Bits | None]) -> Bits | None:
    value = known = size = 0
    for part in parts:
        if part is MISSING:
            return MISSING
        pad = -part[2] & 3
        width = 8 * (part[2] + pad)
        value = value << width | part[0] << 8 * pad
        known = known << width | part[1] << 8 * pad | (1 << 8 * pad) - 1
        size += part[2] + pad
    return value, known, size


def _answered(answer: bytes | bool | None, size: int) -> Possible:
    """What `metas` answers: bytes, None for unknown, False for nothing to read."""
    if answer is None:
        return [_unknown(size)]
    return [MISSING] if isinstance(answer, bool) else [_exact(answer)]


_READERS: dict[type, Callable[[Any, View], Possible]] = {
    Fixed: lambda of, _: [_exact(of.raw)],
    Meta: lambda of, view: _answered(meta(of.key, view), of.size),
    Conn: lambda of, view: _answered(conn(of, view), of.size or CONN_BY_NAME[of.key][0]),
    Fib: lambda of, view: _answered(fib(of, view), of.size),
    HeaderBytes: _header,
    Turn: _turn,
    OwnSocket: _socket,
    # A packet has no route yet in prerouting.
    RouteKey: lambda of, view: [MISSING if view.hook == "prerouting" else _unknown(of.size)],
    Mapped: _mapped,
    Slice: _slice,
    Masked: _masked,
    Mixed: _mixed,
    Shifted: _shifted,
    Swapped: _swapped,
    Joined: _joined,
}
