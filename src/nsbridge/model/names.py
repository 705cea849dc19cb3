"""Names and marks: what the kernel allows, and how we know our own things again.

A link of ours carries our number in IFLA_GROUP from the very message that creates it; its name prefix and
its alias say the same to people. A rule or element of ours lives in our table.
"""

from __future__ import annotations

from nsbridge.errors import InvalidIntent

IFNAMSIZ = 16
"""Bytes of an interface name including the closing NUL, so 15 to use. netdevice(7), <linux/if.h>."""

TABLE = ("inet", "nsbridge")
"""Our nftables table in a host namespace: what may pass, and how it is rewritten."""

BRIDGE_TABLE = ("bridge", "nsbridge")
"""Our second one, for frames between ports of a bridge: nobody sends in another's name."""

ADMIN = "admin"
"""The chain of our table whose rules are the administrator's: made empty, never written or cleared by us."""

MARK_BIT = 0x4000000
"""The bit of the packet mark that says: nsbridge allows this packet to be forwarded."""

ALIAS = "nsbridge"
"""How the alias of each of our links begins: ``nsbridge: …``."""

NETNS_ALIAS = f"{ALIAS}: a namespace of ours"
"""The alias of the loopback in a namespace that we made."""

BRIDGE_GROUP = 0x6E736200
"""IFLA_GROUP of our bridges: "nsb" and a zero."""

PORT_GROUP = 0x6E000000
"""IFLA_GROUP of the ports of one network: this and the ifindex of its bridge, so one message removes them all."""

ROUTE_TABLE = 0x6E0000
"""The first of our routing tables inside namespaces; the number of each is this and 16 bits of its interface's name."""

ROUTE_PROTOCOL = 0x6E
"""Our number as a routing protocol (RTPROT): routes of ours carry it. Free in iproute2's rt_protos."""

RULE_PRIORITY = 0x6E00
"""Of our policy routing rules: before the main table's (32766)."""

DEFAULT_NETWORK = "default"
"""The network that exists without being made."""

_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


def is_ours(group: int) -> bool:
    """Tell whether a link of this IFLA_GROUP is ours."""
    return group == BRIDGE_GROUP or PORT_GROUP < group < PORT_GROUP + 0x700000


def check_name(what: str, name: str, *, longest: int = 63) -> str:
    """Return the name if it is fit for a file, a host name and a rule: letters, digits, ``_ . -``; else InvalidIntent.

    longest: bytes; 63 is what a DNS label takes (RFC 1035 §2.3.4). A name begins with a letter or digit, so it
    is never taken for an option or a hidden file.
    """
    if not name:
        raise InvalidIntent(f"a {what} needs a name", fix="give one")
    if not _SAFE.issuperset(name) or not name[0].isalnum():
        bad = sorted(set(name) - _SAFE)
        shown = " ".join(repr(c) for c in bad) or repr(name[0])
        raise InvalidIntent(
            f"{what} name {name!r} has {shown} where only letters, digits, '_', '.' and '-' may stand"
            + ("" if bad else " (and first only a letter or digit)"),
            fix="choose another name",
        )
    if len(name) > longest:
        raise InvalidIntent(f"{what} name {name!r} is {len(name)} bytes long", fix=f"use at most {longest}")
    return name


def check_vlan(number: int) -> int:
    """Return the number of a VLAN, 0 for none. InvalidIntent for what can't be one (IEEE 802.1Q: 1 to 4094)."""
    if not 0 <= number <= 4094:
        raise InvalidIntent(f"VLAN is {number}", fix="use 1 to 4094")
    return number


def check_ifname(name: str) -> str:
    """Return the name if the kernel takes it for an interface, else InvalidIntent. dev_valid_name(), net/core/dev.c."""
    check_name("interface", name, longest=IFNAMSIZ - 1)
    if name in (".", "..", "all", "default", "lo"):
        raise InvalidIntent(f"interface name {name!r} means something else to the kernel", fix="choose another name")
    return name


def route_table(ifname: str) -> int:
    """The routing table for what leaves with an address of this interface."""
    return ROUTE_TABLE + int(_digest(ifname)[:4], 16)


def netns_path(text: str) -> str:
    """Return the path that opens a namespace named as people do: a name of `ip netns`, a path, or a PID.

    Digits alone are a PID, as with `nsenter`; a namespace called so is named by its path.
    """
    if "/" in text:
        return text
    if text.isascii() and text.isdecimal():
        return f"/proc/{int(text)}/ns/net"
    return f"/run/netns/{check_name('namespace', text, longest=255)}"


def netns_name(path: str) -> str:
    """Return what to call the endpoint of a namespace that somebody else made: its name, or ``pid-`` and the PID."""
    parts = path.rstrip("/").split("/")
    if len(parts) > 2 and parts[1] == "proc" and parts[2].isdecimal():
        return f"pid-{parts[2]}"
    return check_name("endpoint", parts[-1])


def _digest(text: str) -> str:
    """Twelve hex digits of BLAKE2s, stable for one text."""
    # Not from hashlib, which costs 3 ms of import.
    from _blake2 import blake2s

    return blake2s(text.encode(), digest_size=6).hexdigest()


def host_ifname(network: str, endpoint: str) -> str:
    """``nsb`` and 12 hex digits: 15 bytes, the longest the kernel takes, stable for one endpoint."""
    return "nsb" + _digest(f"{network}/{endpoint}")


def bridge_ifname(network: str) -> str:
    """``nsb-`` and the network's name if that fits, else ``nsb-`` and 11 hex digits."""
    return name if len(name := f"nsb-{network}") < IFNAMSIZ else "nsb-" + _digest(network)[:11]


def wire_group(network: str, endpoint: str) -> int:
    """IFLA_GROUP of an endpoint's link that has no other end on the host: inside it is all that says whose it is."""
    return PORT_GROUP + 1 + int(_digest(f"{network}/{endpoint}")[:12], 16) % 0x6FFFFE


def mac_for(network: str, endpoint: str, address: str) -> str:
    """A locally administered MAC, stable for one address, so that neighbours' ARP entries outlive a reused address."""
    tail = _digest(address or f"{network}/{endpoint}")[:10]
    return "02:" + ":".join(tail[i : i + 2] for i in range(0, 10, 2))
