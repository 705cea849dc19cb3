"""A packet as the rules of one table see it at one hook, and what their sets hold for it."""

from __future__ import annotations

from nsbridge.firewall import octets
from nsbridge.firewall.seen import SeenElement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from nsbridge.firewall.packet import Packet
    from nsbridge.firewall.seen import Contents, SeenSet, SeenTable
    from nsbridge.firewall.surroundings import Surroundings

    Bits: TypeAlias = tuple[int, int, int]
    """Value, known bits, size in bytes; both numbers big-endian, so that they order as memcmp(3) orders bytes."""
    Possible: TypeAlias = list[Bits | None]

MISSING = None
"""Nothing to read: the kernel's NFT_BREAK."""
MOST = 256
"""Possible values that are told apart; of more, nothing is known."""


class View:
    """A packet as rules of one table see it at one hook."""

    def __init__(
        self, packet: Packet, hook: str, table: SeenTable, contents: Contents | None, around: Surroundings
    ) -> None:
        self.packet = packet
        self.hook = hook
        self.table = table
        self.contents = contents
        self.around = around
        self.sets = {one.name: one for one in table.sets}
        self.iif: str = "" if hook == "output" else packet.iif
        self.oif: str = "" if hook in ("prerouting", "input", "ingress") else packet.oif
        self._layouts: dict[str, octets.Layout | None] = {}

    def of(self, packet: Packet) -> View:
        """The same of another packet."""
        return View(packet, self.hook, self.table, self.contents, self.around)

    def header(self, base: str) -> octets.Layout | None:
        """A header of it, None when it has none."""
        if base not in self._layouts:
            self._layouts[base] = LAYOUTS[base](self.packet)
        return self._layouts[base]

    # ------------------------------------------------------------ elements

    def look_up(self, name: str, keys: Possible) -> list[SeenElement | None] | None:
        """The elements that these keys may fall under, None among them for none; None alone when nobody can say."""
        if self.contents is None:
            return None
        found: list[SeenElement | None] = []
        for key in keys:
            if key is MISSING:
                continue
            more = self._candidates(name, key)
            if more is None:
                return None
            found += [one for one in more if one not in found]
        return found

    def _candidates(self, name: str, key: Bits) -> list[SeenElement | None] | None:
        assert self.contents is not None
        value, known, size = key
        place = (self.table.family, self.table.name, name)
        try:
            if known == ones(size):
                raw = value.to_bytes(size, "big")
                for *where, written, data in reversed(self.packet.remembered):
                    if (*where, written) == (*place, raw):
                        return [SeenElement(raw, raw, data or None) if data is not None else None]
                return [self.contents.find(*place, raw)]
            if (one := self.sets.get(name)) is None:
                return None
            found: list[SeenElement | None] = [
                element for element in self.contents.all(*place) if _may_be(element, one, value, known, size)
            ]
        except LookupError:
            return None
        return [*found, None] if len(found) <= MOST else None


LAYOUTS: dict[str, Callable[[Packet], octets.Layout | None]] = {
    "network": octets.network,
    "transport": octets.transport,
    "link": octets.link,
}


def ones(size: int) -> int:
    """All bits of so many bytes."""
    return (1 << 8 * size) - 1


def _may_be(element: SeenElement, one: SeenSet, value: int, known: int, size: int) -> bool:
    """Tell whether a key of which only some bits are known may fall under an element."""
    if element.catchall:
        return True
    offset = 0
    for width in [(one + 3) & ~3 for one in one.widths] or [size]:
        shift = 8 * (size - offset - width)
        bits = ones(width)
        mask = known >> shift & bits
        part = value >> shift & mask
        first = int.from_bytes(element.first[offset : offset + width], "big")
        last = int.from_bytes(element.last[offset : offset + width], "big")
        # The least and the greatest value with these known bits.
        if part > last or part | bits & ~mask < first:
            return False
        if first == last and first & mask != part:
            return False
        offset += width
    return True
