"""What rules read: where the bytes come from that a test compares or a statement uses.

Part of the open vocabulary of firewall/seen.py, which says how it is meant.
"""

from __future__ import annotations

from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias


class Meta(Value):
    """Something about the packet that isn't in it: ``iifname``, ``mark``, ``l4proto``, ``skuid`` (nft(8), META)."""

    key: str
    size: int


class Conn(Value):
    """Something of its conntrack entry: ``state``, ``mark`` …; direction ``original`` or ``reply`` where it has one."""

    key: str
    size: int
    direction: str = ""


class HeaderBytes(Value):
    """Bytes of the packet from `offset` of a header on: base ``link``, ``network``, ``transport`` or ``inner``."""

    base: str
    offset: int
    size: int


class Option(Value):
    """Bytes of an IPv6 extension header, IP or TCP option; present: only whether it is there."""

    header: str
    number: int
    offset: int
    size: int
    present: bool = False


class Fib(Value):
    """A question to the routes. result: ``type``, ``oif``, ``oifname``; flags: ``saddr``/``daddr``, mark, iif, oif."""

    flags: tuple[str, ...]
    result: str
    size: int
    present: bool = False


class Turn(Value):
    """A number from 0 to modulus - 1, plus offset: incremented (``inc``), drawn (``random``) or of a hash (``jhash``).

    of: what is hashed.
    """

    kind: str
    modulus: int
    offset: int = 0
    of: Source | None = None
    seed: int | None = None


class RouteKey(Value):
    """Something of the route it takes (``rt``)."""

    key: str
    size: int


class OwnSocket(Value):
    """Something of the socket that would take it: ``transparent``, ``mark``, ``wildcard``, ``cgroupv2``."""

    key: str
    size: int
    level: int = 0


class Fixed(Value):
    """Bytes that are in the rule."""

    raw: bytes


class Mapped(Value):
    """What a map holds for `of`; without an element the rule ends."""

    of: Source
    set: str
    size: int = 0


class Slice(Value):
    """`size` bytes of another source, from `offset` on: the port behind the address that a map holds."""

    of: Source
    offset: int
    size: int


class Masked(Value):
    """``(of & mask) ^ flip``."""

    of: Source
    mask: bytes
    flip: bytes


class Mixed(Value):
    """Two sources combined bit by bit: how is ``&``, ``|`` or ``^``."""

    of: Source
    how: str
    other: Source


class Shifted(Value):
    """Shifted by `bits`, to the left when positive."""

    of: Source
    bits: int


class Swapped(Value):
    """Each `unit` bytes turned round, between the machine's order and the network's."""

    of: Source
    unit: int


class Joined(Value):
    """A concatenation; each part is padded to four bytes."""

    parts: tuple[Source, ...]


class StrangeSource(Value):
    """Bytes that there is no word for."""

    what: str
    size: int


if TYPE_CHECKING:
    Source: TypeAlias = (
        Meta | Conn | HeaderBytes | Option | Fib | Turn | RouteKey | OwnSocket | Fixed | Mapped | Slice | Masked
        | Mixed | Shifted | Swapped | Joined | StrangeSource
    )  # fmt: skip
