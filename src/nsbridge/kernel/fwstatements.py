"""Statements of nf_tables that need no registers: the part of `fwdecode` that is plain reading."""

from __future__ import annotations

from nsbridge.firewall import reads, seen
from nsbridge.kernel.netlink import as_be32, as_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Item: TypeAlias = dict[int, bytes]

_NONE = bytes(4)
_BURST = 5  # what nft(8) takes for granted
_REFUSALS = ("icmp", "tcp reset", "icmpx")
_LEVELS = ("emerg", "alert", "crit", "err", "warn", "notice", "info", "debug", "audit")
_LOG_FLAGS = ((1, "tcp sequence"), (2, "tcp options"), (4, "ip options"), (8, "skuid"), (32, "ether"))
_UNITS = {1: "second", 60: "minute", 3600: "hour", 86400: "day", 604800: "week"}


def refuse(item: Item, family: str) -> seen.Part:
    """Take reject; what ICMP says is another number in ICMPv6, and a third for both."""
    kind = _REFUSALS[as_be32(item[1])]
    if kind == "icmp" and family == "ip6":
        kind = "icmpv6"
    return seen.Refuse(kind, item[2][0] if 2 in item else 0)


def log(item: Item) -> seen.Part:
    """Take log."""
    prefix = as_text(item.get(2, b""))
    said = [f'prefix "{prefix}"'] if prefix else []
    group = int.from_bytes(item[1], "big") if 1 in item else None
    if group is not None:
        said.append(f"group {group}")
    if 3 in item and as_be32(item[3]):
        said.append(f"snaplen {as_be32(item[3])}")
    if 4 in item and int.from_bytes(item[4], "big"):
        said.append(f"queue-threshold {int.from_bytes(item[4], 'big')}")
    level, flags = as_be32(item.get(5, b"\0\0\0\4")), as_be32(item.get(6, _NONE))
    if group is None and level != 4:
        said.append(f"level {_LEVELS[level]}")
    if flags & 47 == 47:
        said.append("flags all")
    else:
        said += [f"flags {name}" for bit, name in _LOG_FLAGS if flags & bit]
    return seen.Logged(prefix, group, " ".join(said))


def queue(item: Item, source: reads.Source | None) -> seen.Part:
    """Take queue."""
    flags = int.from_bytes(item.get(3, b""), "big")
    number = source if source is not None else int.from_bytes(item[1], "big")
    total = int.from_bytes(item.get(2, b"\0\1"), "big")
    ways = [name for bit, name in ((1, "bypass"), (2, "fanout")) if flags & bit]
    said = f"flags {','.join(ways)} " if ways else ""
    where = "…"
    if isinstance(number, int):
        where = f"{number}-{number + total - 1}" if total > 1 else str(number)
    return seen.ToQueue(number, bool(flags & 1), f"queue {said}to {where}")


def synproxy(item: Item) -> seen.Part:
    """Take synproxy, which answers for the server."""
    return seen.Stolen(f"synproxy mss {int.from_bytes(item.get(1, b''), 'big')} wscale {item.get(2, _NONE)[0]}")


def named(item: Item) -> seen.Part:
    """Take the use of a named object."""
    if 2 not in item:
        return seen.Strange(f"object of map {as_text(item.get(4, b''))}", harmless=True)
    name, kind = as_text(item[2]), as_be32(item[1])
    what = {1: "counter", 2: "quota", 3: "ct helper set", 4: "limit", 7: "ct timeout set", 8: "secmark"}
    what |= {5: "ct limit", 6: "tunnel", 9: "ct expectation set", 10: "synproxy"}
    said = f'{what.get(kind, f"object {kind}")} name "{name}"'.replace("set name", "set")
    if kind in (2, 4):
        return seen.Limited(said)
    return seen.Stolen(said) if kind == 10 else seen.Strange(said, harmless=kind != 5)


def limit(item: Item) -> seen.Part:
    """Take limit: a rate of packets or bytes."""
    rate, unit = int.from_bytes(item[1], "big"), int.from_bytes(item[2], "big")
    burst, over = as_be32(item.get(3, _NONE)), bool(as_be32(item.get(5, _NONE)) & 1)
    said = f"limit rate {'over ' if over else ''}"
    if as_be32(item.get(4, _NONE)) == 0:
        said += f"{rate}/{_UNITS.get(unit, unit)}" + (f" burst {burst} packets" if burst != _BURST else "")
        return seen.Limited(said, over)
    said += f"{_bytes(rate)}/{_UNITS.get(unit, unit)}" + (f" burst {_bytes(burst)}" if burst else "")
    return seen.Limited(said, over)


def _bytes(number: int) -> str:
    for name, size in (("mbytes", 1 << 20), ("kbytes", 1 << 10)):
        if number and number % size == 0:
            return f"{number // size} {name}"
    return f"{number} bytes"


def quota(item: Item) -> seen.Part:
    """Take quota."""
    over = bool(as_be32(item.get(2, _NONE)) & 1)
    number, used = int.from_bytes(item[1], "big"), int.from_bytes(item.get(4, b""), "big")
    said = f"quota {'over ' if over else ''}{_bytes(number)}" + (f" used {_bytes(used)}" if used else "")
    return seen.Limited(said, over)


def connlimit(item: Item) -> seen.Part:
    """Take ct count."""
    over = bool(as_be32(item.get(2, _NONE)) & 1)
    return seen.Limited(f"ct count {'over ' if over else ''}{as_be32(item[1])}", over)


def counter(item: Item) -> seen.Part:
    """Take counter."""
    return seen.Count(int.from_bytes(item.get(2, b""), "big"), int.from_bytes(item.get(1, b""), "big"))
