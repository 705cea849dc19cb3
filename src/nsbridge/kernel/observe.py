"""Read the kernel: all of ours in the host namespace, and everything in the namespaces named.

A whole-world read, for `up`, `diff`, `explain` and healing; never on the way of one endpoint. On the host a
link is ours by its group, an address by its link, a route by its protocol number. Inside a namespace all
counts: links but loopback, addresses but link-local ones, the main table but what the kernel put there.
"""

from __future__ import annotations

import os

from nsbridge.kernel import netns, rtnetlink, rtroute, sysctl, tc, vlans
from nsbridge.kernel.netlink import ROUTE, NetlinkSocket, Refused
from nsbridge.model.names import is_ours
from nsbridge.state.kernel_state import KernelState
from nsbridge.state.things import HOST, Address, Link, Netns, Shaper, Sysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsbridge.kernel.rtnetlink import FoundLink
    from nsbridge.state.things import Thing

_FORWARDING = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding")


def observe(sock: NetlinkSocket, namespaces: Iterable[str], settings: Iterable[tuple[str, str]] = ()) -> KernelState:
    """Read links, addresses, routes and settings; the firewall is read elsewhere (nftnetlink.py).

    sock: of the host namespace. A namespace that is gone is left out; each other one whose path isn't under
    /proc gives a `Netns`, whoever made it. Settings: forwarding and route_localnet of our bridges when they
    aren't 0, and each (namespace, key) of `settings` that exists.
    """
    asked: dict[str, list[str]] = {}
    for path, key in settings:
        asked.setdefault(path, []).append(key)
    things: list[Thing] = []
    inner: dict[str, list[FoundLink]] = {}
    for path in dict.fromkeys(namespaces):
        if path == HOST or not netns.inode(path):
            continue
        links, there = netns.inside(path, lambda path=path: _read_inside(path, asked.get(path, ())))  # type: ignore[misc]
        inner[path] = links
        if not path.startswith("/proc/"):
            things.append(Netns(path))
        things += there
    return KernelState((*_read_host(sock, inner, asked.get(HOST, ())), *things))


def _read_links(sock: NetlinkSocket, path: str) -> list[FoundLink]:
    return [rtnetlink.decode_link(path, body) for _, body in sock.dump(rtnetlink.get_links())]


def _read_addresses(sock: NetlinkSocket, path: str, names: dict[int, str]) -> list[Address]:
    found = [rtroute.decode_address(path, body, names) for _, body in sock.dump(rtroute.get_addresses())]
    return [one for one in found if one and not (one.address.version == 6 and one.address.is_link_local)]


def _read_shapers(sock: NetlinkSocket, path: str, names: dict[int, str]) -> list[Shaper]:
    found = [tc.decode_shaper(path, body, names) for _, body in sock.dump(tc.get_shapers())]
    return [one for one in found if one is not None]


def _read_inside(path: str, keys: Iterable[str]) -> tuple[list[FoundLink], list[Thing]]:
    """Read one namespace, in a thread that is in it."""
    with NetlinkSocket(ROUTE) as sock:
        links = [one for one in _read_links(sock, path) if one.link.name != "lo"]
        names = {one.index: one.link.name for one in links}
        things: list[Thing] = [one.link.replace(master=names.get(one.master_index, "")) for one in links]
        things += _read_addresses(sock, path, names)
        for family in (4, 6):
            for _, body in sock.dump(rtroute.get_routes(family, table=0)):
                for route, protocol in rtroute.decode_routes(path, body, names):
                    if protocol != rtroute.PROTO_KERNEL:
                        things.append(route)
            rules = [rtroute.decode_rule(path, body) for _, body in sock.dump(rtroute.get_rules(family))]
            things += [rule for rule in rules if rule is not None]
        things += _read_shapers(sock, path, names)
        things += _read_settings(path, keys, ())
    return links, things


def _read_host(sock: NetlinkSocket, inner: dict[str, list[FoundLink]], keys: Iterable[str]) -> list[Thing]:
    everything = _read_links(sock, HOST)
    names = {one.index: one.link.name for one in everything}
    ours = [one for one in everything if is_ours(one.link.group)]
    peers = {(-1, one.index): (HOST, one.link.name) for one in everything}
    for path, links in inner.items():
        nsid = nsid_of(sock, path)
        if nsid >= 0:
            peers |= {(nsid, one.index): (path, one.link.name) for one in links}
    things: list[Thing] = []
    port_vlans = _read_vlans(sock, everything)
    for one in ours:
        path, name = peers.get((one.peer_nsid, one.peer_index), ("", "")) if one.peer_index else ("", "")
        vlan = port_vlans.get(one.index, 0) if one.master_index else 0
        bridge = names.get(one.master_index, "")
        things.append(one.link.replace(master=bridge, peer_netns=path, peer_name=name, vlan=vlan))
    our_names = {one.index: one.link.name for one in ours}
    things += _read_addresses(sock, HOST, our_names)
    for family in (4, 6):
        for _, body in sock.dump(rtroute.get_routes(family)):
            for route, protocol in rtroute.decode_routes(HOST, body, names):
                if protocol == rtroute.PROTOCOL:
                    things.append(route)
    things += _read_shapers(sock, HOST, our_names)
    bridges = [one.link for one in ours if one.link.kind == "bridge"]
    return things + _read_settings(HOST, keys, bridges)


def _read_vlans(sock: NetlinkSocket, links: list[FoundLink]) -> dict[int, int]:
    """The VLAN of each port, by index; asked for only where a bridge keeps VLANs apart."""
    if not any(("vlan_filtering", 1) in one.link.options for one in links):
        return {}
    return dict(vlans.decode(body) for _, body in sock.dump(vlans.get()))


def nsid_of(sock: NetlinkSocket, path: str) -> int:
    """The number under which the host knows a namespace, -1 when nothing of the host points into it."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return rtnetlink.decode_nsid(sock.request(rtnetlink.get_nsid(fd))[0][1])
    except Refused:
        return -1
    finally:
        os.close(fd)


def _read_settings(path: str, keys: Iterable[str], bridges: Iterable[Link]) -> list[Thing]:
    found: dict[str, str] = {}
    if path == HOST:
        raised = [*_FORWARDING, *(f"net/ipv4/conf/{link.name}/route_localnet" for link in bridges)]
        found = {key: value for key in raised if (value := sysctl.read(key)) not in ("", "0")}
    found |= {key: value for key in keys if (value := sysctl.read(key))}
    return [Sysctl(netns=path, key=key, value=value) for key, value in found.items()]
