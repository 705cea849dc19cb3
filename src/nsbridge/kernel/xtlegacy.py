"""iptables-legacy's tables: blobs of the kernel's older filter, read by getsockopt(2) as iptables itself reads them.

A blob is entries one behind the other: an address part, matches, a target. A built-in chain begins where the table
says that its hook does, one of a user at an entry that names it; a verdict is a number, or how far into the blob to
jump. `/proc/net/ip_tables_names` tells which tables there are: asking for another would load it.
(<linux/netfilter_ipv4/ip_tables.h>, ip6_tables.h, x_tables.h.)
"""

from __future__ import annotations

import _socket
import errno
from _struct import Struct, unpack_from

from nsbridge.errors import unpermitted
from nsbridge.firewall import seen
from nsbridge.firewall.expressions import Accept, Drop, Goto, Jump, Return
from nsbridge.firewall.reads import HeaderBytes, Masked, Meta
from nsbridge.kernel import libc
from nsbridge.kernel.netlink import as_text
from nsbridge.kernel.xtread import comment, extension

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.firewall.seen import Part, SeenChain, SeenRule, SeenTable

_INFO, _ENTRIES = 64, 65
_HOOKS = ("prerouting", "input", "forward", "output", "postrouting")
_PRIORITIES = {"raw": -300, "mangle": -150, "filter": 0, "security": 50}
_ACCEPT, _DROP, _QUEUE, _RETURN = -2, -1, -4, -5


class _Layout:
    """Where an entry has what: IPv4 and IPv6 differ."""

    def __init__(self, family: str) -> None:
        self.family = family
        four = family == "ip"
        self.level = 0 if four else 41
        self.socket = _socket.AF_INET if four else _socket.AF_INET6
        self.names = f"/proc/thread-self/net/{'ip' if four else 'ip6'}_tables_names"
        self.address = 4 if four else 16
        self.links = 4 * self.address
        self.proto = self.links + 64
        self.inverted = self.proto + (3 if four else 4)
        self.flags = self.inverted - 1
        self.offsets = Struct("=HH"), 88 if four else 140
        self.counters = 96 if four else 152
        self.size = 112 if four else 168
        self.places = (12, 16) if four else (8, 24)


def legacy_tables() -> list[SeenTable]:
    """Every table of iptables-legacy that is loaded in the calling thread's network namespace."""
    found: list[SeenTable] = []
    for family in ("ip", "ip6"):
        layout = _Layout(family)
        names = _loaded(layout)
        if names:
            with _socket_of(layout) as opened:
                found += [_Table(layout, name, opened.fileno()).read() for name in names]
    return found


def _loaded(layout: _Layout) -> list[str]:
    try:
        with open(layout.names, encoding="ascii") as names:
            return names.read().split()
    except FileNotFoundError:
        return []
    except PermissionError as err:
        raise unpermitted("the names of iptables' tables can't be read") from err


class _socket_of:
    """A raw socket for questions to iptables, for the time of a block."""

    def __init__(self, layout: _Layout) -> None:
        try:
            self._socket = _socket.socket(layout.socket, _socket.SOCK_RAW, _socket.IPPROTO_RAW)
        except PermissionError as err:
            raise unpermitted("iptables' tables can't be read") from err

    def __enter__(self) -> _socket.socket:
        return self._socket

    def __exit__(self, *_: object) -> None:
        self._socket.close()


class _Table:
    """One blob."""

    def __init__(self, layout: _Layout, name: str, fd: int) -> None:
        self.layout = layout
        self.name = name
        asked = name.encode().ljust(32, b"\0")
        for _ in range(8):
            info = libc.getsockopt(fd, layout.level, _INFO, asked, 84)
            self.valid, *numbers = unpack_from("=I12I", info, 32)
            self.entries, self.policies, (_, size) = numbers[:5], numbers[5:10], numbers[10:]
            try:
                blob = libc.getsockopt(fd, layout.level, _ENTRIES, asked + size.to_bytes(4, "little"), 40 + size)
            except OSError as err:
                if err.errno != errno.EAGAIN:
                    raise
                continue
            self.blob = blob[40:]
            return
        raise OSError(errno.EAGAIN, "iptables' rules kept changing while they were read")

    def read(self) -> SeenTable:
        """Its chains, their rules and policies."""
        hooks = {self.entries[number]: number for number in range(5) if self.valid & 1 << number}
        starts: dict[int, str] = {}  # where a chain's first rule is
        order: list[tuple[str, int | None]] = []
        at = 0
        while at < len(self.blob):
            target = self._target(at)
            if at in hooks:
                starts[at] = _HOOKS[hooks[at]].upper()
                order.append((starts[at], hooks[at]))
            if self._name(target) == "ERROR":
                chain = as_text(self.blob[target + 32 : target + 64])
                after = self._next(at)
                if after < len(self.blob):
                    starts[after] = chain
                    order.append((chain, None))
            at = self._next(at)
        places = {name: at for at, name in starts.items()}
        chains = [self._chain(name, places[name], hook, starts) for name, hook in order]
        return seen.SeenTable(self.layout.family, self.name, tuple(chains), backend="iptables-legacy", owner="iptables")

    def _chain(self, name: str, at: int, hook: int | None, starts: dict[int, str]) -> SeenChain:
        rules: list[SeenRule] = []
        while True:
            target = self._target(at)
            last = self._next(at)
            ends = last >= len(self.blob) or self._name(self._target(last)) == "ERROR"
            if (hook is not None and at == self.policies[hook]) or (hook is None and ends):
                break  # the policy, or the return that ends every chain
            rules.append(self._rule(at, target, len(rules), starts))
            at = last
        chain = seen.SeenChain(name, tuple(rules))
        if hook is None:
            return chain
        policy = "drop" if unpack_from("=i", self.blob, target + 32)[0] == _DROP else "accept"
        base = _HOOKS[hook]
        if self.name == "nat":
            return chain.replace(
                kind="nat", hook=base, priority=-100 if base in ("prerouting", "output") else 100, policy=policy
            )
        kind = "route" if (self.name, base) == ("mangle", "output") else "filter"
        return chain.replace(kind=kind, hook=base, priority=_PRIORITIES.get(self.name, 0), policy=policy)

    # ------------------------------------------------------------ entries

    def _target(self, at: int) -> int:
        form, place = self.layout.offsets
        return int(at + form.unpack_from(self.blob, at + place)[0])

    def _next(self, at: int) -> int:
        form, place = self.layout.offsets
        return int(at + form.unpack_from(self.blob, at + place)[1])

    def _name(self, at: int) -> str:
        return as_text(self.blob[at + 2 : at + 31])

    def _rule(self, at: int, target: int, index: int, starts: dict[int, str]) -> SeenRule:
        parts: list[Part] = self._address_part(at)
        place = at + self.layout.size
        while place < target:
            size = unpack_from("=H", self.blob, place)[0]
            raw = self.blob[place + 32 : place + size]
            parts.append(extension("match", self._name(place), self.blob[place + 31], raw, self.layout.family))
            place += size
        packets, volume = unpack_from("=2Q", self.blob, at + self.layout.counters)
        parts.append(seen.Count(packets, volume))
        parts += self._verdict(at, target, starts)
        return seen.SeenRule(tuple(parts), index, 0, comment(tuple(parts)), packets, volume)

    def _verdict(self, at: int, target: int, starts: dict[int, str]) -> list[Part]:
        name = self._name(target)
        if name:
            size = unpack_from("=H", self.blob, target)[0]
            raw = self.blob[target + 32 : target + size]
            return [extension("target", name, self.blob[target + 31], raw, self.layout.family)]
        code = unpack_from("=i", self.blob, target + 32)[0]
        if code >= 0:
            if code == self._next(at):
                return []
            goto = self.blob[at + self.layout.flags] & (2 if self.layout.family == "ip" else 4)
            return [Goto(starts[code]) if goto else Jump(starts[code])]
        plain: dict[int, Part] = {_ACCEPT: Accept(), _DROP: Drop(), _RETURN: Return()}
        return [plain.get(code, seen.ToQueue(0, False, "-j QUEUE"))]

    def _address_part(self, at: int) -> list[Part]:
        """Addresses, interfaces, protocol: what stands before the matches."""
        layout, blob = self.layout, self.blob
        size = layout.address
        inv = blob[at + layout.inverted]
        parts: list[Part] = []
        for number, bit in ((0, 8), (1, 16)):
            raw = blob[at + number * size : at + (number + 1) * size]
            mask = blob[at + (number + 2) * size : at + (number + 3) * size]
            if any(mask) or inv & bit:
                of = Masked(HeaderBytes("network", layout.places[number], size), mask, bytes(size))
                parts.append(seen.Compare(of, _op(inv & bit), raw))
        for key, place, bit in (("iifname", 0, 1), ("oifname", 16, 2)):
            name = blob[at + layout.links + place : at + layout.links + place + 16]
            mask = blob[at + layout.links + 32 + place : at + layout.links + 48 + place]
            length = len(mask.rstrip(b"\0"))
            if length:
                parts.append(seen.Compare(Meta(key, 16), _op(inv & bit), name[:length]))
        proto = unpack_from("=H", blob, at + layout.proto)[0]
        if proto:
            parts.append(seen.Compare(Meta("l4proto", 1), _op(inv & 64), bytes((proto & 255,))))
        if layout.family == "ip" and blob[at + layout.flags] & 1:
            of = Masked(HeaderBytes("network", 6, 2), b"\x1f\xff", b"\0\0")
            parts.append(seen.Compare(of, "==" if inv & 32 else "!=", b"\0\0"))
        return parts


def _op(negate: int) -> str:
    return "!=" if negate else "=="
