"""Statements and simple sources in the words of nft(8): the part of `nftwords` that needs no context."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from nsbridge.firewall import seen
from nsbridge.firewall.datawords import text
from nsbridge.firewall.expressions import Accept, Drop, Goto, Jump, Return
from nsbridge.firewall.reads import Fixed, Mapped, Option, OwnSocket, RouteKey, Slice, StrangeSource, Turn
from nsbridge.firewall.walk import REFUSALS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from nsbridge.firewall.reads import Source
    from nsbridge.firewall.seen import Part

    Words: TypeAlias = Callable[[Source], str]


def verdict(part: object) -> str:
    """A verdict."""
    if isinstance(part, (Jump, Goto)):
        return f"{type(part).__name__.lower()} {part.chain}"
    return type(part).__name__.lower() if isinstance(part, (Accept, Drop, Return)) else "continue"


def simple(of: Source, words: Words) -> str:
    """A source that isn't part of a header."""
    if isinstance(of, Turn):
        offset = f" offset {of.offset}" if of.offset else ""
        if of.kind in ("inc", "random"):
            return f"numgen {of.kind} mod {of.modulus}{offset}"
        hashed = f" {words(of.of)}" if of.of is not None else ""
        seed = f" seed 0x{of.seed:x}" if of.seed is not None else ""
        return f"{of.kind}{hashed} mod {of.modulus}{seed}{offset}"
    if isinstance(of, OwnSocket):
        return f"socket {of.key}"
    if isinstance(of, RouteKey):
        return f"rt {of.key}"
    if isinstance(of, Option):
        return f"{of.header} {of.number}" + ("" if of.present else f" @{8 * of.offset},{8 * of.size}")
    return of.what if isinstance(of, StrangeSource) else "?"


def statement(part: Part, words: Words, kind: Callable[[Source], str], family: str) -> str:
    """A statement or verdict."""
    if isinstance(part, seen.Count):
        return f"counter packets {part.packets} bytes {part.bytes}"
    if isinstance(part, seen.Logged):
        return f"log {part.words}".strip()
    if isinstance(part, seen.Assign):
        held = text(kind(part.to), part.of.raw) if isinstance(part.of, Fixed) else words(part.of)
        return f"{words(part.to)} set {held}"
    if isinstance(part, seen.Rewrite):
        return rewrite(part, words, family)
    if isinstance(part, seen.Refuse):
        return refuse(part)
    if isinstance(part, seen.ToQueue):
        return part.words
    if isinstance(part, seen.Untrack):
        return "notrack"
    if isinstance(part, seen.Tproxy):
        where = " ".join([word for word in ("tproxy", part.family if family == "inet" else "", "to") if word])
        return f"{where} {_target(part.address, part.port, words)}"
    if isinstance(part, (seen.Limited, seen.Strange, seen.Stolen, seen.Chance)):
        return part.what
    if isinstance(part, seen.Xt):
        return f"# {part.words}"
    return "" if isinstance(part, seen.Always) else verdict(part)


def refuse(part: seen.Refuse) -> str:
    """A reject; that a port is unreachable goes without saying."""
    if part.kind == "tcp reset":
        return "reject with tcp reset"
    what = REFUSALS[part.kind].get(part.code, str(part.code))
    return "reject" if what == "port-unreachable" else f"reject with {part.kind} {what}"


def rewrite(part: seen.Rewrite, words: Words, family: str) -> str:
    """A NAT statement."""
    said = part.kind
    if part.address is not None or part.port is not None:
        shown_family = f" {part.family}" if family == "inet" and part.family and part.address is not None else ""
        mapped = isinstance(part.address, Mapped) or (isinstance(part.address, Slice) and part.address.offset == 0)
        said += shown_family
        if part.prefix:
            said += " prefix"
        if mapped and part.address is not None:
            said += f" to {words(part.address)}"
        else:
            ends = _ends(part.address, part.address_last, words)
            if ":" in ends and part.port is not None:
                ends = f"[{ends}]"
            ports = _ends(part.port, part.port_last, words)
            said += f" to {ends}{':' + ports if ports else ''}"
    return " ".join([said, ",".join(part.flags)]).strip()


def _ends(first: Source | None, last: Source | None, words: Words) -> str:
    if first is None:
        return ""
    shown = _value(first, words)
    return f"{shown}-{_value(last, words)}" if last is not None else shown


def _value(of: Source, words: Words) -> str:
    """Bytes of a rule by their number: an address or a port."""
    if not isinstance(of, Fixed):
        return words(of)
    if len(of.raw) == 2:
        return str(int.from_bytes(of.raw, "big"))
    return str(IPv6Address(of.raw) if len(of.raw) == 16 else IPv4Address(of.raw))


def _target(address: Source | None, port: Source | None, words: Words) -> str:
    shown = _ends(address, None, words)
    return f"{shown}:{_ends(port, None, words)}" if port is not None else shown
