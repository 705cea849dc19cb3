"""Trace one flow in several network namespaces: a table of our own in each, which goes when its owner does.

The table belongs to the netlink socket that makes it (NFT_TABLE_F_OWNER, Linux 5.12): nobody else can change it, and
the kernel removes it when that socket is closed, by us or by the end of our process, SIGKILL included. Its chains stand
before all others where packets come in or are sent, and begin the trace there, and after all others where they are
delivered or leave; what arrives at these has passed everybody's rules, iptables-legacy's too, which tell nothing.

A packet that crosses a veth pair loses its trace, so each namespace has rules of its own. A frame that only passes
between ports of a bridge is seen by a table of family bridge; one that meets rules at a link, by one of family netdev.
"""

from __future__ import annotations

import errno
import os
from select import poll

from nsbridge.errors import KernelError, NoPermission, Unsupported
from nsbridge.firewall.expressions import Match
from nsbridge.firewall.ruleset import Rule
from nsbridge.firewall.tracing import FIRST, LAST, NAME, Blind, Event, headers
from nsbridge.kernel import netns
from nsbridge.kernel import nftschema as nf
from nsbridge.kernel.netlink import (
    APPEND,
    CREATE,
    EXCL,
    NETFILTER,
    NetlinkSocket,
    Refused,
    acknowledged,
    attr,
    be32,
    message,
    nested,
    text,
)
from nsbridge.kernel.nftencode import expression, expressions
from nsbridge.kernel.nftmessage import batch, header
from nsbridge.kernel.nfttrace import Traces
from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nsbridge.firewall.tracing import Headers, Watch
    from nsbridge.kernel.nfttrace import Traced

_OWNER = 2  # NFT_TABLE_F_OWNER
_NFTRACE = 12  # NFT_META_NFTRACE
_FIRST, _LAST = -(1 << 31) + 1, (1 << 31) - 2
_INGRESS = 0  # NF_NETDEV_INGRESS


class Post(Value):
    """A namespace to be watched. netns: path, "" for the caller's own. devices: links whose ingress hook has rules."""

    netns: str
    watches: tuple[Watch, ...]
    devices: tuple[str, ...] = ()


class Tracer:
    """Traces what is watched for, from when it is made until it is closed. Use it in a ``with``."""

    _made = 0

    def __init__(self, posts: Iterable[Post]) -> None:
        """Begin. NoPermission, Unsupported (before Linux 5.12), KernelError; nothing is left then."""
        Tracer._made += 1
        self.name = f"{NAME}_{os.getpid()}_{Tracer._made}"
        self.blind: list[Blind] = []
        """What can't be seen."""
        self._ears: list[_Ear] = []
        self._poll = poll()
        try:
            for post in posts:
                ear = self._placed(post)
                self._ears.append(ear)
                self._poll.register(ear.traces.fileno(), 1)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Tracer:
        """Return itself; leaving the block closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the tables away."""
        for ear in self._ears:
            ear.close()
        self._ears.clear()

    def _placed(self, post: Post) -> _Ear:
        try:
            return netns.inside(post.netns, lambda: _Ear(post, self.name, self.blind))
        except Refused as err:
            if err.errno in (errno.EPERM, errno.EACCES):
                raise NoPermission("not permitted to trace packets", errno=err.errno, fix="run as root") from err
            if err.errno in (errno.EINVAL, errno.EOPNOTSUPP):
                raise Unsupported(
                    f"this kernel has no tables that go with their owner: {err.text}", fix="use Linux 5.12 or newer"
                ) from err
            raise KernelError(f"packets can't be traced: {err.text}", errno=err.errno or 0) from err
        except OSError as err:
            raise KernelError(
                f"can't trace packets in {post.netns or 'this namespace'}: {err.strerror}", errno=err.errno or 0
            ) from err

    def read(self, wait_s: float, other: tuple[int, int] | None = None) -> list[Event]:
        """Return what the kernel told meanwhile, after waiting at most so many seconds for the first of it.

        other: a file descriptor, and the event of poll(2) by which it ends the waiting, too.
        """
        if other is not None:
            self._poll.register(*other)
        try:
            self._poll.poll(wait_s * 1000)
        finally:
            if other is not None:
                self._poll.unregister(other[0])
        return [event for ear in self._ears for event in ear.events()]


class _Ear:
    """The tables of one namespace, and what is heard there. Made by a thread that is in it."""

    def __init__(self, post: Post, name: str, blind: list[Blind]) -> None:
        self.netns = post.netns
        self._begun: dict[tuple[int, str, str], tuple[Headers, str, int]] = {}
        self._runs = 0
        self.traces = Traces()
        self._owner = NetlinkSocket(NETFILTER)
        try:
            family = "ip6" if any(_version(one) == 6 for one in post.watches) else "ip"
            self._owner.transact(_batch(_ip_table(name, family, post.watches)))
            self._more(post, name, blind)
        except BaseException:
            self.close()
            raise

    def _more(self, post: Post, name: str, blind: list[Blind]) -> None:
        """The tables that not every kernel has."""
        kinds = [("bridge", _bridge_table(name, post.watches))]
        if post.devices:
            kinds.append(("netdev", _netdev_table(name, post.watches, post.devices)))
        for family, messages in kinds:
            try:
                self._owner.transact(_batch(messages))
            except Refused as err:
                blind.append(Blind(post.netns, family, err.text))

    def close(self) -> None:
        """Close both sockets; the kernel takes the tables away."""
        self.traces.close()
        self._owner.close()

    def events(self) -> list[Event]:
        """What was told since the last time. The headers come with the first event of each base chain."""
        found = []
        for one in self.traces.read():
            run = (one.packet, one.family, one.table)
            seen = headers(one.network, one.transport) if one.network else None
            if seen is not None:
                self._runs += 1
                self._begun[run] = (seen, one.chain, self._runs)
            elif one.network:
                self._begun.pop(run, None)
            if run in self._begun:
                found.append(_event(self.netns, one, *self._begun[run]))
        return found


def _event(where: str, one: Traced, seen: Headers, base: str, run: int) -> Event:
    return Event(
        where, one.family, one.table, one.chain, base, one.kind, one.verdict, one.handle, seen.saddr, seen.daddr,
        seen.proto, seen.sport, seen.dport, seen.flags, one.iif, one.oif, run,
    )  # fmt: skip


# ------------------------------------------------------------------ the tables


def _version(watch: Watch) -> int:
    address = watch.saddr or watch.daddr
    return address.version if address is not None else 0


def _batch(messages: Sequence[bytes]) -> list[bytes]:
    """One transaction; its last message asks for an acknowledgement."""
    return batch([*messages[:-1], acknowledged(messages[-1])])


def _table(name: str, family: str) -> bytes:
    return message(nf.NEWTABLE, CREATE | EXCL, header(family) + text(1, name) + be32(2, _OWNER))


def _chain(name: str, family: str, chain: str, hook: int, priority: int, device: str = "") -> bytes:
    place = [be32(1, hook), be32(2, priority), *([text(3, device)] if device else [])]
    body = text(1, name) + text(3, chain) + nested(4, *place) + be32(5, nf.ACCEPT) + text(7, "filter")
    return message(nf.NEWCHAIN, CREATE | EXCL, header(family) + body)


def _ip_table(name: str, family: str, watches: Sequence[Watch]) -> list[bytes]:
    found = [_table(name, family)]
    found += [_chain(name, family, hook, nf.HOOKS[hook], _FIRST) for hook in FIRST]
    found += [_chain(name, family, hook, nf.HOOKS[hook], _LAST) for hook in LAST]
    return found + [_rule(name, family, hook, one) for hook in FIRST for one in watches]


def _bridge_table(name: str, watches: Sequence[Watch]) -> list[bytes]:
    found = [_table(name, "bridge")]
    found.append(_chain(name, "bridge", "prerouting", nf.HOOKS["prerouting"], _FIRST))
    found.append(_chain(name, "bridge", "postrouting", nf.HOOKS["postrouting"], _LAST))
    return found + [_rule(name, "bridge", "prerouting", one) for one in watches]


def _netdev_table(name: str, watches: Sequence[Watch], devices: Sequence[str]) -> list[bytes]:
    found = [_table(name, "netdev")]
    for number, device in enumerate(devices):
        found.append(_chain(name, "netdev", f"ingress{number}", _INGRESS, _FIRST, device))
        found += [_rule(name, "netdev", f"ingress{number}", one) for one in watches]
    return found


def _rule(name: str, family: str, chain: str, watch: Watch) -> bytes:
    kind = "ip6" if _version(watch) == 6 else "ip"
    matches = [Match("protocol", kind)] if family in ("bridge", "netdev") else []
    matches.append(Match("l4proto", watch.proto))
    if watch.saddr is not None:
        matches.append(Match("ip6 saddr" if kind == "ip6" else "ip saddr", watch.saddr))
    if watch.daddr is not None:
        matches.append(Match("ip6 daddr" if kind == "ip6" else "ip daddr", watch.daddr))
    found = expressions(Rule(tuple(matches)), family)
    # Of an echo the type is the first byte, and its id the third pair of bytes.
    places = ((4, 2), (0, 1)) if watch.proto in ("icmp", "icmpv6") else ((0, 2), (2, 2))
    if watch.proto == "tcp":
        found += _BEGINS
    for (offset, size), number in zip(places, (watch.sport, watch.dport), strict=True):
        if number is not None:
            found += [_load(offset, size), _equals(number.to_bytes(size, "big"))]
    found.append(expression("immediate", be32(1, 1), nested(2, attr(1, b"\1"))))
    found.append(expression("meta", be32(2, _NFTRACE), be32(3, 1)))
    body = header(family) + text(1, name) + text(2, chain) + nested(4, *found)
    return message(nf.NEWRULE, CREATE | APPEND, body)


def _load(offset: int, size: int) -> bytes:
    place = (be32(2, nf.TRANSPORT_HEADER), be32(3, offset), be32(4, size))
    return expression("payload", be32(1, 1), *place)


def _equals(raw: bytes) -> bytes:
    return expression("cmp", be32(1, 1), be32(2, 0), nested(3, attr(1, raw)))


# SYN or RST among the flags of TCP. What a connection carries meets other rules, and could be more than we can hear.
_BEGINS = (
    _load(13, 1),
    expression("bitwise", be32(1, 1), be32(2, 1), be32(3, 1), nested(4, attr(1, b"\6")), nested(5, attr(1, b"\0"))),
    expression("cmp", be32(1, 1), be32(2, 1), nested(3, attr(1, b"\0"))),
)
