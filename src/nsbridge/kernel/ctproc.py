"""Connections as /proc/net/nf_conntrack lists them (nf_conntrack_standalone.c): a walk without locks.

Listing by netlink takes a lock for each bucket, 5 to 7 ms for the usual 262,144 whatever is in them; this takes 0.4. A
connection is a line of text, 2 µs, and can't be chosen by a filter, so it is for hosts with few of them. Kernels built
without CONFIG_NF_CONNTRACK_PROCFS have no such file.
"""

from __future__ import annotations

from ipaddress import ip_address

from nsbridge.kernel import conntrack as ct
from nsbridge.kernel import sockets
from nsbridge.kernel.netlink import attr, be16, nested, u8

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

PATH = "/proc/thread-self/net/nf_conntrack"

_PORTS = {"sport": (2, 16), "dport": (3, 16)}
_ICMP = {"id": (4, 16), "type": (5, 8), "code": (6, 8)}
_ICMPV6 = {"id": (7, 16), "type": (8, 8), "code": (9, 8)}
_FIELDS = {6: _PORTS, 17: _PORTS, 132: _PORTS, 136: _PORTS, 33: _PORTS, 1: _ICMP, 58: _ICMPV6}
"""By protocol, what a tuple says beyond its addresses: CTA_PROTO_… and bits (nfnetlink_conntrack.h)."""


def entries(needles: Collection[str] = ()) -> list[ct.Entry] | None:
    """List connections, of whose line one of these texts is a part (all without any).

    None where it has to be asked by netlink: no such file, or one of them is of a kind that has no name here.
    """
    told = sockets.lines(PATH)
    if told is None:
        return None
    found = [_entry(line.split()) for line in told if not needles or any(one in line for one in needles)]
    known = [entry for entry in found if entry is not None]
    return known if len(known) == len(found) else None


def _entry(words: list[str]) -> ct.Entry | None:
    """Read a line: ``ipv4 2 udp 17 30 src=… dst=… sport=… dport=… [UNREPLIED] src=… … mark=0 zone=0 use=2``."""
    number = int(words[3])
    pairs = [word.partition("=")[::2] for word in words[4:] if "=" in word]
    starts = [place for place, (name, _) in enumerate(pairs) if name == "src"]
    first, second = dict(pairs[starts[0] : starts[1]]), dict(pairs[starts[1] :])
    fields = _FIELDS.get(number)
    if fields is None or not fields.keys() <= first.keys() or "zone-orig" in first or "zone-reply" in second:
        return None
    orig, reply = _tuple(number, first), _tuple(number, second)
    moved = (reply.src, reply.src_port) != (orig.dst, orig.dst_port)
    name = nested(ct.TUPLE_ORIG, _addresses(orig), _protocol(number, first))
    if zone := int(second.get("zone", "0")):
        name += be16(ct.ZONE, zone)
    return ct.Entry(orig, reply, ct.DST_NAT if moved else 0, name)


def _tuple(number: int, said: dict[str, str]) -> ct.Tuple:
    ports = (int(said.get("sport", "0")), int(said.get("dport", "0")))
    return ct.Tuple(number, ip_address(said["src"]), ip_address(said["dst"]), *ports)


def _addresses(one: ct.Tuple) -> bytes:
    kinds = (1, 2) if one.src.version == 4 else (3, 4)
    return nested(ct.IP, attr(kinds[0], one.src.packed), attr(kinds[1], one.dst.packed))


def _protocol(number: int, said: dict[str, str]) -> bytes:
    fields = [(u8 if bits == 8 else be16)(kind, int(said[name])) for name, (kind, bits) in _FIELDS[number].items()]
    return nested(ct.PROTO, u8(1, number), *fields)
