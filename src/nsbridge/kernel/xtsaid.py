"""What readers of iptables' structures share: their words, and tests in the machine's order of bytes."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from nsbridge.firewall.fields import ORDER
from nsbridge.firewall.reads import HeaderBytes, Masked
from nsbridge.firewall.seen import Not, Within

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from nsbridge.firewall.reads import Source
    from nsbridge.firewall.seen import Part, Test

    Said: TypeAlias = tuple[str, Sequence[Part]]
    """Words after the name, and what they amount to."""
    Reader: TypeAlias = Callable[[bytes, int, str], Said | None]

ALIAS = "\0"
"""Words that begin so begin with the name by which iptables-save calls it now, instead of the structure's own."""

_PLAIN = frozenset("_-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
SOURCE_PORT, TARGET_PORT = HeaderBytes("transport", 0, 2), HeaderBytes("transport", 2, 2)


def quoted(text: str) -> str:
    """A string as iptables-save writes it (xtables_save_string)."""
    if text and not set(text) - _PLAIN:
        return text
    return '"' + "".join(["\\" + one if one in "\"\\'" else one for one in text]) + '"'


def unless(test: Test, negate: object) -> Test:
    """The test, or its contrary."""
    return Not(test) if negate else test


def no(negate: object) -> str:
    """`` !`` before an option that is negated."""
    return " !" if negate else ""


def native(number: int, size: int = 4) -> bytes:
    """A number as registers have it."""
    return number.to_bytes(size, ORDER)


def hex_mask(value: int, mask: int) -> str:
    """``0x1/0xff``, without a mask that takes all bits."""
    return f"0x{value:x}" if mask == 0xFFFFFFFF else f"0x{value:x}/0x{mask:x}"


def masked(of: Source, mask: int, size: int = 4) -> Source:
    """The source with these bits of a number in the machine's order."""
    return Masked(of, native(mask, size), bytes(size))


def address(raw: bytes, family: str) -> IPv4Address | IPv6Address:
    """The address that a structure begins with."""
    return IPv6Address(raw[:16]) if family == "ip6" else IPv4Address(raw[:4])


def port_range(first: int, last: int) -> str:
    """``80`` or ``80:90``."""
    return str(first) if first == last else f"{first}:{last}"


def in_ports(of: Source, first: int, last: int) -> Test:
    """The port lies there."""
    return Within(of, first.to_bytes(2, "big"), last.to_bytes(2, "big"))
