"""What isn't in a packet but goes with it: its interfaces, its marks, its connection, the routes.

Answers are bytes as the kernel keeps them in a register; None when nobody can say; False when there is nothing to
read (no interface, no socket, no connection), which ends the rule. Written after net/netfilter/nft_meta.c, nft_ct.c
and nft_fib.c of Linux 6.12.
"""

from __future__ import annotations

from nsbridge.firewall.fields import (
    CT_STATES,
    CT_STATUSES,
    ETHERTYPES,
    FIB_TYPES,
    NFPROTOS,
    ORDER,
    PKT_TYPES,
)
from nsbridge.firewall.packet import proto_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from nsbridge.firewall.packet import Address, Flow
    from nsbridge.firewall.reads import Conn, Fib
    from nsbridge.firewall.view import View

    Answer: TypeAlias = bytes | bool | None

_LOOPBACK = "lo"


def meta(key: str, view: View) -> Answer:
    """Answer ``meta key``."""
    reader = _META.get(key)
    return reader(view) if reader is not None else None


def _native(number: int | None, size: int = 4) -> bytes | None:
    return number.to_bytes(size, ORDER) if number is not None else None


def _name(text: str | None) -> bytes | None:
    return text.encode().ljust(16, b"\0")[:16] if text is not None else None


def _index(view: View, ifname: str) -> Answer:
    return _native(view.around.index(ifname)) if ifname else bytes(4)


def _kind(view: View, ifname: str) -> Answer:
    if not ifname:
        return False
    kind = view.around.kind(ifname)
    return False if kind == "" else _name(kind)


def _of_link(ifname: str, number: int | None, size: int) -> Answer:
    return _native(number, size) if ifname else False


def _owner(view: View, number: int | None) -> Answer:
    return _native(number) if view.packet.local else False


def _l4proto(view: View) -> Answer:
    packet = view.packet
    return bytes((proto_number(packet.proto),)) if packet.family in ("ip", "ip6") else False


def _bridge(view: View, ifname: str) -> Answer:
    if not ifname:
        return False
    master = view.around.master(ifname)
    return False if master == "" else _name(master)


_META: dict[str, Callable[[View], Answer]] = {
    "length": lambda view: _native(view.packet.length),
    "protocol": lambda view: ETHERTYPES[view.packet.family].to_bytes(2, "big"),
    "priority": lambda view: _native(view.packet.priority),
    "mark": lambda view: _native(view.packet.mark),
    "iif": lambda view: _index(view, view.iif),
    "oif": lambda view: _index(view, view.oif),
    "iifname": lambda view: _name(view.iif),
    "oifname": lambda view: _name(view.oif),
    "iiftype": lambda view: _of_link(view.iif, view.around.arphrd(view.iif), 2),
    "oiftype": lambda view: _of_link(view.oif, view.around.arphrd(view.oif), 2),
    "iifgroup": lambda view: _of_link(view.iif, view.around.group(view.iif), 4),
    "oifgroup": lambda view: _of_link(view.oif, view.around.group(view.oif), 4),
    "iifkind": lambda view: _kind(view, view.iif),
    "oifkind": lambda view: _kind(view, view.oif),
    "ibrname": lambda view: _bridge(view, view.iif),
    "obrname": lambda view: _bridge(view, view.oif),
    "skuid": lambda view: _owner(view, view.packet.uid),
    "skgid": lambda view: _owner(view, view.packet.gid),
    "nfproto": lambda view: bytes((NFPROTOS[view.packet.family],)),
    "l4proto": _l4proto,
    "pkttype": lambda view: bytes((PKT_TYPES[view.packet.pkttype],)),
    "ipsec": lambda view: bytes((view.packet.ipsec,)),
    "nftrace": lambda _: b"\0",
    "physin": lambda view: _name(view.packet.iif_port),
    "physout": lambda view: _name(view.packet.oif_port),
}
"""By key. physin and physout are xt_physdev's, which has no name in nf_tables."""


# ------------------------------------------------------------------ the connection


def conn(of: Conn, view: View) -> Answer:
    """Answer ``ct key``; before conntrack has seen the packet there is only a state, ``invalid``."""
    packet = view.packet
    ct = packet.ct
    if of.key == "state":
        return _native(CT_STATES[ct.state if packet.tracked or ct.state == "untracked" else "invalid"])
    if not packet.connected:
        return False
    if of.direction:
        return _direction(of, view)
    if of.key == "status":
        return _native(sum([CT_STATUSES[name] for name in ct.status if name in CT_STATUSES]))
    if of.key == "mark":
        return _native(ct.mark)
    if of.key == "direction":
        return bytes((ct.reply,))
    if of.key == "l3proto":
        return bytes((NFPROTOS[packet.family],))
    if of.key == "protocol":
        return bytes((proto_number(packet.proto),))
    if of.key == "helper":
        return _name(ct.helper) if ct.helper else False
    return _native(ct.zone, 2) if of.key == "zone" else None


def _direction(of: Conn, view: View) -> Answer:
    ct = view.packet.ct
    flow = ct.origin if of.direction == "original" else ct.answer
    if flow is None:
        return None
    if of.key.endswith("addr"):
        address: Address = flow.saddr if of.key.endswith("saddr") else flow.daddr
        if (of.key.startswith("ip ") and address.version != 4) or (of.key.startswith("ip6 ") and address.version != 6):
            return False
        return address.packed.ljust(of.size, b"\0")
    return _port(of.key, flow)


def _port(key: str, flow: Flow) -> Answer:
    if key not in ("proto-src", "proto-dst"):
        return None
    port = flow.sport if key == "proto-src" else flow.dport
    return port.to_bytes(2, "big") if port is not None else None


# ------------------------------------------------------------------ the routes


def fib(of: Fib, view: View) -> Answer:
    """Answer ``fib``: what the routes say of one of its addresses."""
    packet = view.packet
    if packet.family not in ("ip", "ip6"):
        return False
    address = packet.daddr if "daddr" in of.flags else packet.saddr
    link = view.iif if "iif" in of.flags else view.oif if "oif" in of.flags else ""
    if of.result == "type":
        kind = view.around.addrtype(address, link)
        return _native(FIB_TYPES[kind]) if kind is not None else None
    found = _leaves_by(of, view, link)
    if found is None:
        return None
    if of.present:
        return bytes((bool(found),))
    return _name(found) if of.result == "oifname" else _index(view, found)


def _leaves_by(of: Fib, view: View, link: str) -> str | None:
    """The link that a route to that address leaves by, empty without one."""
    packet = view.packet
    if view.hook in ("prerouting", "input") and view.iif == _LOOPBACK:
        return view.iif
    to, back = (packet.daddr, packet.saddr) if "daddr" in of.flags else (packet.saddr, packet.daddr)
    mark = packet.mark or 0 if "mark" in of.flags else 0
    found = view.around.route(to, back, oif=link, mark=mark)
    if found is None:
        return None
    if found == _LOOPBACK and packet.family == "ip":
        return ""
    return found if not link or found == link else ""
