"""Links as rtnetlink messages, and back (rtnetlink(7), <linux/if_link.h>); addresses and routes: rtroute.py.

Pure: values in, bytes out, nothing is sent here. A link takes several messages, because some attributes
are heard only when the link exists: the alias, what a bridge port does, how IPv6 makes addresses.

Three fields may say "don't care" (Link.mtu 0, Link.mac "", Link.vlan 0), and the kernel always has a value there;
`fits` compares a wanted link with a found one. Bridge options that have the kernel's default are left out of what is
decoded, but for the two that every bridge of ours is told.
"""

from __future__ import annotations

from _struct import Struct

from nsbridge.kernel import vlans
from nsbridge.kernel.netlink import (
    CREATE,
    EXCL,
    as_text,
    as_u32,
    attr,
    attribute_list,
    attributes,
    message,
    nested,
    text,
    u8,
    u16,
    u32,
)
from nsbridge.state.things import Link
from nsbridge.values import Value

NEWLINK, DELLINK, GETLINK = 16, 17, 18
GETNSID = 90

INET6 = 10
_UP = 1
IFINFO = Struct("=BxHiII")

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_LINKINFO = 1, 3, 4, 5, 10, 18
IFLA_OPERSTATE, IFLA_IFALIAS, IFLA_AF_SPEC, IFLA_GROUP, IFLA_NET_NS_FD, IFLA_EXT_MASK = 16, 20, 26, 27, 28, 29
IFLA_NUM_TX_QUEUES, IFLA_NUM_RX_QUEUES, IFLA_LINK_NETNSID = 31, 32, 37
INFO_KIND, _DATA, _SLAVE_KIND, _SLAVE_DATA = 1, 2, 4, 5
_VETH_INFO_PEER, _BRPORT_MODE, _BRPORT_ISOLATED, _ADDR_GEN_MODE = 1, 4, 33, 8
_GEN_MODE_EUI64, _GEN_MODE_NONE = 0, 1
_SKIP_STATS = 8

_INET6_CONF = 2

NO_IPV6 = frozenset((97,))
"""EAFNOSUPPORT: the answer to IPv6 settings of a link without IPv6 (MTU below 1280, or a kernel without it).
Whoever sends the messages of this module counts it as success: there is nothing to set."""

BRIDGE_OPTIONS = {
    "forward_delay": (1, 4, 1500),
    "hello_time": (2, 4, 200),
    "max_age": (3, 4, 2000),
    "ageing_time": (4, 4, 30000),
    "stp_state": (5, 4, 0),
    "priority": (6, 2, 32768),
    "vlan_filtering": (7, 1, 0),
    "group_fwd_mask": (9, 2, 0),
    "multicast_router": (22, 1, 1),
    "multicast_snooping": (23, 1, 1),
    "multicast_querier": (25, 1, 0),
    "nf_call_iptables": (36, 1, 0),
    "nf_call_ip6tables": (37, 1, 0),
    "nf_call_arptables": (38, 1, 0),
    "vlan_default_pvid": (39, 2, 1),
}
"""Bridge options by their sysfs names: IFLA_BR_* number, bytes, the kernel's default. Times in 1/100 s."""
_ALWAYS_TOLD = ("multicast_snooping", "stp_state")
_OPTION_OF = {number: (name, default) for name, (number, _, default) in BRIDGE_OPTIONS.items()}
_INT_ATTRIBUTE = {1: u8, 2: u16, 4: u32}


INET6_SETTINGS = {"accept_ra": 3, "disable_ipv6": 26, "accept_dad": 27}
"""Places of settings in IFLA_INET6_CONF (<linux/ipv6.h>, DEVCONF_*), by their names below net/ipv6/conf/LINK."""


class FoundLink(Value):
    """A link as the kernel tells it: our value, and what a value can't say.

    index: its number. master_index: its bridge's, 0 without one. peer_index, peer_nsid: the other end of a
    pair by index and by the id of its namespace as seen from here (-1 for the same namespace). inet6: its IPv6
    settings by number (`INET6_SETTINGS`), empty without IPv6.
    """

    index: int
    link: Link
    master_index: int = 0
    peer_index: int = 0
    peer_nsid: int = -1
    inet6: tuple[int, ...] = ()


# ------------------------------------------------------------------ links, encoded


def _options(link: Link) -> list[bytes]:
    try:
        known = [(BRIDGE_OPTIONS[name], value) for name, value in link.options]
    except KeyError as err:
        raise ValueError(f"bridge option {err} is none of {', '.join(BRIDGE_OPTIONS)}") from None
    return [_INT_ATTRIBUTE[size](number, value) for (number, size, _), value in known]


def _own_attributes(link: Link) -> list[bytes]:
    """What a link is born with, besides its kind."""
    found = [text(IFLA_IFNAME, link.name)]
    if link.group:
        found.append(u32(IFLA_GROUP, link.group))
    if link.mac:
        found.append(attr(IFLA_ADDRESS, bytes.fromhex(link.mac.replace(":", ""))))
    # A bridge born with an MTU forgets it when ports come and go; one told its MTU later keeps it (br_change_mtu).
    if link.mtu and link.kind != "bridge":
        found.append(u32(IFLA_MTU, link.mtu))
    return found


def finish_link(link: Link, index: int) -> list[bytes]:
    """Messages with what a new link listens to only once it exists.

    By index, after `create_link` succeeded: by name in the same send() they would reach, when the name was
    taken, the link of somebody else, for rtnetlink goes on after a refused message.
    """
    target = IFINFO.pack(0, 0, index, 0, 0)
    parts = []
    if link.alias:
        parts.append(attr(IFLA_IFALIAS, link.alias.encode()))
    if link.mtu and link.kind == "bridge":
        parts.append(u32(IFLA_MTU, link.mtu))
    if link.hairpin or link.isolated:
        parts.append(nested(IFLA_LINKINFO, text(_SLAVE_KIND, "bridge"), _port(link)))
    found = [message(NEWLINK, 0, target + b"".join(parts))] if parts else []
    if not link.autoconf:
        found.append(message(NEWLINK, 0, target + _addresses_by(_GEN_MODE_NONE)))
    return [*found, *vlans.give(index, link.vlan)] if link.vlan else found


def _port(link: Link) -> bytes:
    """What a bridge port is told about itself (IFLA_BRPORT_..., <linux/if_link.h>)."""
    return nested(_SLAVE_DATA, u8(_BRPORT_MODE, link.hairpin), u8(_BRPORT_ISOLATED, link.isolated))


def _addresses_by(mode: int) -> bytes:
    """How IPv6 makes addresses. Always in a message of its own: see `NO_IPV6`."""
    return nested(IFLA_AF_SPEC, nested(INET6, u8(_ADDR_GEN_MODE, mode)))


def create_link(link: Link, *, master: int = 0, peer: Link | None = None, peer_fd: int = -1) -> bytes:
    """The message that makes a bridge, or a veth pair whose other end is born in the namespace behind `peer_fd`.

    master: index of the bridge, 0 for none. peer: what the other end is to be; only its name, MAC, MTU and
    group are given here, the rest is told inside. It can't be born up: the kernel answers ENOTCONN.
    """
    flags = _UP if link.up else 0
    parts = _own_attributes(link)
    if master:
        parts.append(u32(IFLA_MASTER, master))
    if link.kind == "veth":
        # One queue: the default is one for each possible CPU, which only costs time to make.
        queues = u32(IFLA_NUM_TX_QUEUES, 1) + u32(IFLA_NUM_RX_QUEUES, 1)
        other = [*_own_attributes(peer or Link(link.peer_netns, link.peer_name, "veth")), queues]
        if peer_fd >= 0:
            other.append(u32(IFLA_NET_NS_FD, peer_fd))
        data = nested(_VETH_INFO_PEER, IFINFO.pack(0, 0, 0, 0, 0), *other)
        parts += [queues, nested(IFLA_LINKINFO, text(INFO_KIND, "veth"), nested(_DATA, data))]
    else:
        parts.append(nested(IFLA_LINKINFO, text(INFO_KIND, link.kind), nested(_DATA, *_options(link))))
    # Born up is early enough to turn IPv6 autoconf off afterwards (finish_link): until the peer is up, or the
    # bridge has a port, there is no carrier, and without one no address is generated.
    return message(NEWLINK, CREATE | EXCL, IFINFO.pack(0, 0, 0, flags, flags) + b"".join(parts))


CHILDREN = {
    "macvlan": (u32, {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}),
    "ipvlan": (u16, {"l2": 0, "l3": 1, "l3s": 2}),
}
"""Links that stand on another one: how their mode is packed (attribute 1 of both), and which there are."""


def create_child(link: Link, parent: int, fd: int) -> bytes:
    """The message that makes a macvlan or ipvlan on the link of index `parent`, in the namespace behind `fd`."""
    pack, modes = CHILDREN[link.kind]
    parts = [*_own_attributes(link), u32(IFLA_LINK, parent), u32(IFLA_NET_NS_FD, fd)]
    parts.append(nested(IFLA_LINKINFO, text(INFO_KIND, link.kind), nested(_DATA, pack(1, modes[link.mode]))))
    return message(NEWLINK, CREATE | EXCL, IFINFO.pack(0, 0, 0, 0, 0) + b"".join(parts))


def _mode(kind: str, data: bytes) -> str:
    if kind not in CHILDREN:
        return ""
    number = int.from_bytes(attributes(data).get(1, b""), "little" if LITTLE else "big")
    return next((name for name, value in CHILDREN[kind][1].items() if value == number), "")


def configure_link(link: Link, index: int, *, born: bool = False) -> list[bytes]:
    """Messages that finish the inner end of a pair and raise it.

    born: the pair was just made with this value, so MAC, MTU and group are right already.
    """
    target = IFINFO.pack(0, 0, index, 0, 0)
    parts = b"" if born else b"".join(_own_attributes(link)[1:])
    found = [message(NEWLINK, 0, target + parts)] if parts else []
    found += finish_link(link, index)
    flags = _UP if link.up else 0
    found.append(message(NEWLINK, 0, IFINFO.pack(0, 0, index, flags, _UP)))
    return found


def change_link(link: Link, index: int, *, master: int) -> list[bytes]:
    """Messages that make an existing link (by index) as described, defaults included; `master` 0 frees a port."""
    parts = _own_attributes(link)[1:]
    if not link.group:
        parts.append(u32(IFLA_GROUP, 0))
    parts.append(attr(IFLA_IFALIAS, link.alias.encode()))
    parts.append(u32(IFLA_MASTER, master))
    if link.mtu and link.kind == "bridge":
        parts.append(u32(IFLA_MTU, link.mtu))
    info = []
    if link.kind == "bridge":
        info = [text(INFO_KIND, "bridge"), nested(_DATA, *_options(link))]
    target = IFINFO.pack(0, 0, index, 0, 0)
    found = [message(NEWLINK, 0, target + b"".join(parts))]
    found.append(message(NEWLINK, 0, target + _addresses_by(_GEN_MODE_EUI64 if link.autoconf else _GEN_MODE_NONE)))
    if master:
        info += [text(_SLAVE_KIND, "bridge"), _port(link)]
    if info:  # of its own: a port isn't one before the message above
        found.append(message(NEWLINK, 0, target + nested(IFLA_LINKINFO, *info)))
    if master and link.vlan:
        found += vlans.give(index, link.vlan)
    flags = _UP if link.up else 0
    found.append(message(NEWLINK, 0, IFINFO.pack(0, 0, index, flags, _UP)))
    return found


def group_link(index: int, group: int) -> bytes:
    """The message that puts a link into a group."""
    return message(NEWLINK, 0, IFINFO.pack(0, 0, index, 0, 0) + u32(IFLA_GROUP, group))


def give_mac(index: int, mac: str) -> bytes:
    """The message that gives a link a MAC, the one it has for instance: its notifiers run all the same."""
    return message(NEWLINK, 0, IFINFO.pack(0, 0, index, 0, 0) + attr(IFLA_ADDRESS, bytes.fromhex(mac.replace(":", ""))))


def delete_link(index: int) -> bytes:
    """The message that deletes one link. The kernel waits for RCU: about 20 ms."""
    return message(DELLINK, 0, IFINFO.pack(0, 0, index, 0, 0))


def delete_group(group: int) -> bytes:
    """The message that deletes every link of a group, waiting only once."""
    return message(DELLINK, 0, IFINFO.pack(0, 0, 0, 0, 0) + u32(IFLA_GROUP, group))


def get_link(name: str) -> bytes:
    """Ask for a link by name (statistics left out)."""
    body = IFINFO.pack(0, 0, 0, 0, 0) + text(IFLA_IFNAME, name) + u32(IFLA_EXT_MASK, _SKIP_STATS)
    return message(GETLINK, 0, body)


def get_link_at(index: int) -> bytes:
    """Ask for a link by index (statistics left out)."""
    return message(GETLINK, 0, IFINFO.pack(0, 0, index, 0, 0) + u32(IFLA_EXT_MASK, _SKIP_STATS))


def get_links(kind: str = "") -> bytes:
    """Ask for all links, or for those of a kind (statistics left out)."""
    only = nested(IFLA_LINKINFO, text(INFO_KIND, kind)) if kind else b""
    return message(GETLINK, 0, IFINFO.pack(0, 0, 0, 0, 0) + only + u32(IFLA_EXT_MASK, _SKIP_STATS))


def get_nsid(fd: int) -> bytes:
    """Ask for the id that the namespace behind `fd` has as seen from the socket's. The answer: `decode_nsid`."""
    return message(GETNSID, 0, b"\0\0\0\0" + u32(3, fd))


# ------------------------------------------------------------------ links, decoded


def bridge_options(data: bytes) -> tuple[tuple[str, int], ...]:
    """Read what of a bridge isn't at the kernel's default, and the two that every bridge of ours is told."""
    found = []
    for number, value in attribute_list(data):
        if number in _OPTION_OF:
            name, default = _OPTION_OF[number]
            size = BRIDGE_OPTIONS[name][1]
            amount = int.from_bytes(value[:size], "little" if LITTLE else "big")
            if amount != default or name in _ALWAYS_TOLD:
                found.append((name, amount))
    return tuple(sorted(found))


LITTLE = Struct("=H").pack(1)[0] == 1


def _autoconf(inet6: dict[int, bytes]) -> bool:
    """Whether IPv6 makes addresses on the link; a link without IPv6 makes none."""
    return bool(inet6) and inet6.get(_ADDR_GEN_MODE, b"\0")[0] != _GEN_MODE_NONE


def inet6_settings(inet6: dict[int, bytes]) -> tuple[int, ...]:
    """The IPv6 settings of a link, by their numbers, from its AF_INET6 attributes."""
    conf = inet6.get(_INET6_CONF, b"")
    count = len(conf) // 4
    return Struct(f"={count}i").unpack_from(conf) if count > max(INET6_SETTINGS.values()) else ()


def decode_link(netns: str, body: bytes) -> FoundLink:
    """Read an RTM_NEWLINK body. Names of master and peer stay empty: they need other links (observe.py)."""
    _, _, index, flags, _ = IFINFO.unpack_from(body)
    found = attributes(body, IFINFO.size)
    info = attributes(found.get(IFLA_LINKINFO, b""))
    inet6 = attributes(attributes(found.get(IFLA_AF_SPEC, b"")).get(INET6, b""))
    kind = as_text(info.get(INFO_KIND, b""))
    slave = attributes(info.get(_SLAVE_DATA, b"")) if as_text(info.get(_SLAVE_KIND, b"")) == "bridge" else {}
    link = Link(
        netns=netns,
        name=as_text(found[IFLA_IFNAME]),
        kind=kind,
        group=as_u32(found[IFLA_GROUP]) if IFLA_GROUP in found else 0,
        mac=found.get(IFLA_ADDRESS, b"").hex(":"),
        mtu=as_u32(found[IFLA_MTU]) if IFLA_MTU in found else 0,
        up=bool(flags & _UP),
        hairpin=slave.get(_BRPORT_MODE, b"\0")[0] == 1,
        isolated=slave.get(_BRPORT_ISOLATED, b"\0")[0] == 1,
        autoconf=_autoconf(inet6),
        options=bridge_options(info.get(_DATA, b"")) if kind == "bridge" else (),
        alias=as_text(found.get(IFLA_IFALIAS, b"")),
        mode=_mode(kind, info.get(_DATA, b"")),
    )
    return FoundLink(
        index=index,
        link=link,
        master_index=as_u32(found[IFLA_MASTER]) if IFLA_MASTER in found else 0,
        peer_index=as_u32(found[IFLA_LINK]) if kind == "veth" and IFLA_LINK in found else 0,
        peer_nsid=as_nsid(found.get(IFLA_LINK_NETNSID)),
        inet6=inet6_settings(inet6),
    )


def is_operational(body: bytes) -> bool:
    """Tell from an RTM_NEWLINK body whether the link carries packets: IF_OPER_UP, RFC 2863 and <linux/if.h>."""
    return attributes(body, IFINFO.size).get(IFLA_OPERSTATE, b"") == b"\6"


def decode_nsid(body: bytes) -> int:
    """Read the answer to `get_nsid`: -1 when the namespace has no id here, so nothing here points into it."""
    return as_nsid(attributes(body, 4).get(1))


def as_nsid(raw: bytes | None) -> int:
    """The number of a namespace, -1 for none."""
    return int.from_bytes(raw, "little" if LITTLE else "big", signed=True) if raw else -1


def fits(wanted: Link, found: Link) -> bool:
    """Tell whether a found link is as wanted, where the wanted one says anything."""
    same = wanted.replace(
        mtu=wanted.mtu or found.mtu,
        mac=wanted.mac or found.mac,
        vlan=wanted.vlan or found.vlan,
        options=found.options,
    )
    return bool(same == found) and _unusual(wanted) == _unusual(found)


def _unusual(link: Link) -> set[tuple[str, int]]:
    """Bridge options that differ from the kernel's default."""
    return {pair for pair in link.options if pair[1] != BRIDGE_OPTIONS[pair[0]][2]}
