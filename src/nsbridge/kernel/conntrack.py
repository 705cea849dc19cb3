"""Forget connections that would take the wrong way after a change (ctnetlink, <linux/netfilter/nfnetlink_conntrack.h>).

Conntrack decides a connection's destination with its first packet and remembers it. So three kinds of entries
turn stale, and no others are touched:

- a port was removed or moved: connections whose destination was rewritten to where it pointed;
- an endpoint's address went: every connection from or to it;
- a UDP port was published: whoever kept sending to it before has an entry without a new destination, and as long
  as it sends, that entry lives and its packets end at the host (moby#53384, CNI plugins PR 553). TCP needs nothing
  here: the refusal it got ended the entry.

The kernel walks its whole table for one listing, some nanoseconds for each bucket and connection, but copies only
what a filter lets through (CTA_FILTER, Linux 5.8; older ones copy all, and we choose). Filtered deletion without
a listing came with 6.8 only. An entry is deleted by its tuple and its number, so that a new connection with the
same tuple isn't taken for it. On a host with few connections they are read from a file, which is ten times as fast
and doesn't tell the numbers (`ctproc`): there a connection that begins anew within a millisecond goes too.
"""

from __future__ import annotations

import _socket
import errno
from _struct import Struct
from ipaddress import IPv4Network, IPv6Network, ip_address

from nsbridge.firewall.ruleset import Element
from nsbridge.kernel import sysctl
from nsbridge.kernel.netlink import Refused, as_be32, attr, attributes, be16, message, nested, u8, u32
from nsbridge.state.things import HOST, Address
from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nsbridge.kernel.netlink import NetlinkSocket
    from nsbridge.state.things import Address_, Network_, Thing

_GET, _DELETE = 0x101, 0x102  # NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_…
TUPLE_ORIG, _TUPLE_REPLY, _STATUS, _ID, ZONE, _FILTER = 1, 2, 3, 12, 18, 25
IP, PROTO, _NUMBER, _SRC_PORT, _DST_PORT = 1, 2, 1, 2, 3
_ORIG_FLAGS, _REPLY_FLAGS = 1, 2
_BY_SRC, _BY_NUMBER, _BY_DST_PORT = 1, 8, 32
DST_NAT = 32  # IPS_DST_NAT
_HEADER = Struct("=BBH")
_FAMILY = {4: 2, 6: 10}
NUMBERS = {"tcp": 6, "udp": 17, "sctp": 132}
COUNT = "net/netfilter/nf_conntrack_count"

_CHUNK = 96
"""Deletions in one send(): see netlink._CHUNK."""

_WALK = 1500
"""Connections whose copying costs as much as one walk through the table (5 ms for 262,144 buckets and 3 µs each; a
walk past 50,000 connections that a filter holds back takes 12 ms, copying them all 170)."""


_FEW = 1000
"""Connections that /proc lists sooner than netlink walks past none."""


class Tuple(Value):
    """One direction of a connection."""

    proto: int
    src: Address_
    dst: Address_
    src_port: int = 0
    dst_port: int = 0


class Entry(Value):
    """A connection: its first packet, the answer as it will come, and the bytes that name it."""

    orig: Tuple
    reply: Tuple
    status: int
    name: bytes


def _request(kind: int, version: int, body: bytes) -> bytes:
    return message(kind, 0, _HEADER.pack(_FAMILY.get(version, 0), 0, 0) + body)


def _from(direction: int, address: Address_) -> bytes:
    """Ask for connections with this source in one direction; for IPv6 all connections of that family.

    ctnetlink_filter_match_tuple() takes ipv6_addr_cmp() for a truth value, so an IPv6 address lets through all but
    its own connections (seen in Linux 6.18).
    """
    if address.version == 6:
        return _request(_GET, 6, b"")
    one = nested(direction, nested(IP, attr(1 if address.version == 4 else 3, address.packed)))
    flag = _ORIG_FLAGS if direction == TUPLE_ORIG else _REPLY_FLAGS
    other = _REPLY_FLAGS if direction == TUPLE_ORIG else _ORIG_FLAGS
    return _request(_GET, address.version, one + nested(_FILTER, u32(flag, _BY_SRC), u32(other, 0)))


def _to_port(version: int, proto: int, port: int) -> bytes:
    """Ask for connections that were meant for this port of the host; no filter takes both families at once."""
    one = nested(TUPLE_ORIG, nested(PROTO, u8(_NUMBER, proto), be16(_DST_PORT, port)))
    flags = nested(_FILTER, u32(_ORIG_FLAGS, _BY_NUMBER | _BY_DST_PORT), u32(_REPLY_FLAGS, 0))
    return _request(_GET, version, one + flags)


def _asked_for(ports: Iterable[_Port]) -> list[bytes]:
    """Ask for connections that were meant for these host ports; for ranges no filter is made, so for all."""
    found = {_to_port(one.target.version, one.proto, one.first) for one in ports if one.first == one.last}
    if any(one.first != one.last for one in ports):
        return [_request(_GET, 0, b"")]
    return sorted(found)


def _tuple(data: bytes) -> Tuple | None:
    parts = attributes(data)
    ends, proto = attributes(parts.get(IP, b"")), attributes(parts.get(PROTO, b""))
    src, dst = ends.get(1) or ends.get(3), ends.get(2) or ends.get(4)
    if src is None or dst is None or _NUMBER not in proto:
        return None
    ports = [int.from_bytes(proto[each], "big") if each in proto else 0 for each in (_SRC_PORT, _DST_PORT)]
    return Tuple(proto[_NUMBER][0], ip_address(src), ip_address(dst), *ports)


def decode(body: bytes) -> Entry | None:
    """Read a connection, None when it is of a kind that has no addresses."""
    found = attributes(body, _HEADER.size)
    orig, reply = _tuple(found.get(TUPLE_ORIG, b"")), _tuple(found.get(_TUPLE_REPLY, b""))
    if orig is None or reply is None:
        return None
    name = nested(TUPLE_ORIG, found[TUPLE_ORIG])
    name += b"".join([attr(each, found[each]) for each in (_ID, ZONE) if each in found])
    status = as_be32(found.get(_STATUS, bytes(4)))
    return Entry(orig, reply, status, name)


def entries(sock: NetlinkSocket, asked: bytes) -> list[Entry]:
    """List connections: those that the filter of a request lets through."""
    return [entry for _, body in sock.dump(asked) if (entry := decode(body)) is not None]


def _delete(sock: NetlinkSocket, stale: Iterable[Entry]) -> int:
    messages = [_request(_DELETE, one.orig.src.version, one.name) for one in stale]
    for first in range(0, len(messages), _CHUNK):
        sock.transact(messages[first : first + _CHUNK], tolerate=(errno.ENOENT,))
    return len(messages)


# ------------------------------------------------------------------ what is stale


class _Port(Value):
    """A published port, or range of them, whichever map it stands in.

    at: the host's addresses it is for, None for all. target_port: None when the number is kept.
    """

    proto: int
    first: int
    last: int
    target: Address_
    target_port: int | None = None
    at: Network_ | Address_ | None = None

    def meets(self, one: Tuple) -> bool:
        """Tell whether a connection's first packet was meant for it."""
        if one.proto != self.proto or not self.first <= one.dst_port <= self.last:
            return False
        if self.at is None:
            return one.dst.version == self.target.version
        return one.dst in self.at if isinstance(self.at, IPv4Network | IPv6Network) else one.dst == self.at


def _port(element: Element) -> _Port | None:
    """Read a map element, None for one that publishes nothing."""
    name, key, data = element.set.rstrip("46"), element.key, element.data
    if name == "publish" or name == "turns":
        return _Port(NUMBERS[key[0]], key[1], key[1], *data)
    if name in ("bound", "own", "face"):
        return _Port(NUMBERS[key[1]], key[2], key[2], data[0], data[1], None if name == "face" else key[0])
    if name == "ranges":
        return _Port(NUMBERS[key[1]], key[2].first, key[2].last, data[0], None, key[0])
    return None


def _ports(things: Iterable[Thing]) -> list[_Port]:
    """The published ports among things, each once: those who share one have many elements."""
    found = [_port(one) for one in things if isinstance(one, Element) and one.data]
    return list(dict.fromkeys(one for one in found if one is not None))


class _Stale:
    """The question whether a connection is stale. gone, fresh: ports; addresses: of endpoints that went."""

    def __init__(self, gone: Iterable[_Port], addresses: Iterable[Address_], fresh: Iterable[_Port]) -> None:
        self._addresses = set(addresses)
        self._gone, self._fresh = _by_port(gone), _by_port(fresh)

    def __call__(self, entry: Entry) -> bool:
        orig, reply = entry.orig, entry.reply
        if not self._addresses.isdisjoint((orig.src, reply.src, orig.dst)):
            return True
        if entry.status & DST_NAT:
            return any(
                one.target == reply.src and reply.src_port == (one.target_port or orig.dst_port) and one.meets(orig)
                for one in self._near(self._gone, orig)
            )
        # What only passes through the host to somebody else's port of that number is none of ours.
        return any(one.meets(orig) for one in self._near(self._fresh, orig)) and _local(orig.dst)

    def _near(self, ports: dict[int, list[_Port]], one: Tuple) -> list[_Port]:
        return ports.get(one.dst_port, []) + ports.get(0, [])


def _by_port(ports: Iterable[_Port]) -> dict[int, list[_Port]]:
    """Ports by their number, ranges under 0."""
    found: dict[int, list[_Port]] = {}
    for one in ports:
        found.setdefault(one.first if one.first == one.last else 0, []).append(one)
    return found


def _local(address: Address_) -> bool:
    """Tell whether the host has that address, by binding it."""
    sock = _socket.socket(_socket.AF_INET if address.version == 4 else _socket.AF_INET6, _socket.SOCK_DGRAM)
    try:
        sock.bind((str(address), 0))
    except OSError:
        return False
    finally:
        sock.close()
    return True


def forget(sock: Callable[[], NetlinkSocket], gone: Iterable[Thing] = (), new: Iterable[Thing] = ()) -> int:
    """Delete the connections that the removal of `gone` and the arrival of `new` made stale; return how many.

    sock: opens a netfilter socket, asked only when there is anything to look at. A kernel that doesn't track
    connections, or can't tell of them, has nothing to forget.
    """
    gone = tuple(gone)
    # Turns that are dealt anew leave those alone who are served by an endpoint that still shares the port.
    kept = set(_ports(new))
    ports = [one for one in _ports(gone) if one not in kept]
    addresses = [one.address.ip for one in gone if isinstance(one, Address) and one.netns != HOST]
    fresh = [one for one in kept if one.proto == NUMBERS["udp"]]
    if not (ports or addresses or fresh) or (count := sysctl.read(COUNT)) in ("", "0"):
        return 0
    try:
        return _forget(sock(), int(count), ports, addresses, fresh)
    except Refused as err:
        if err.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.EPROTONOSUPPORT):  # built without ctnetlink
            return 0
        raise


def _forget(sock: NetlinkSocket, count: int, ports: list[_Port], addresses: list[Address_], fresh: list[_Port]) -> int:
    stale = _Stale(ports, addresses, fresh)
    if count <= _FEW:
        from nsbridge.kernel import ctproc

        found = ctproc.entries(_needles([*ports, *fresh], addresses))
        if found is not None:
            return _delete(sock, [entry for entry in found if stale(entry)])
    listings = [_from(direction, each) for each in addresses for direction in (TUPLE_ORIG, _TUPLE_REPLY)]
    listings += _asked_for([*(one for one in ports if one.target not in addresses), *fresh])
    listings = list(dict.fromkeys(listings))
    if count < _WALK * (len(listings) - 1):
        listings = [_request(_GET, 0, b"")]
    return sum(_delete(sock, [x for x in entries(sock, each) if stale(x)]) for each in listings)


def _needles(ports: Iterable[_Port], addresses: Iterable[Address_]) -> list[str]:
    """What is in the line of every connection that may be stale."""
    found = [f"={one.exploded} " for one in addresses]
    return [*found, *{f" dport={one.first} " if one.first == one.last else " dport=" for one in ports}]
