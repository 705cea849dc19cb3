"""The Kernel of a running Linux: one host namespace, that of the thread that first uses it.

Sockets are opened when first needed and kept. Nothing here moves the caller's thread: work in other
namespaces is done by threads of `netns`. Writing is in apply.py, reading everything in observe.py; this
module holds the rest of the interface.
"""

from __future__ import annotations

import _socket
import errno
import time

from nsbridge.errors import KernelError
from nsbridge.firewall.ruleset import Element, Table
from nsbridge.kernel import netns, onlinks, rtnetlink, rtroute, sysctl
from nsbridge.kernel.interface import HostFacts, LinkFacts
from nsbridge.kernel.netlink import ROUTE, NetlinkSocket, Refused
from nsbridge.model.names import is_ours
from nsbridge.state.things import HOST, Address, ForeignAccept, Link, Netns, Route, Sysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from nsbridge.kernel.nftnetlink import Nft
    from nsbridge.kernel.rtnetlink import FoundLink
    from nsbridge.model.endpoint import Endpoint
    from nsbridge.plan.step import Step
    from nsbridge.state.kernel_state import KernelState
    from nsbridge.state.things import Address_, Network_, Thing

FORWARDING = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding")
PATIENCE = 500
"""How often a link is asked whether it carries packets, 0.2 ms apart."""
_SOCK_TYPES = {"tcp": (_socket.SOCK_STREAM, 6), "udp": (_socket.SOCK_DGRAM, 17), "sctp": (_socket.SOCK_STREAM, 132)}


class LinuxKernel:
    """See kernel/interface.py, which says what each method promises."""

    def __init__(self) -> None:
        self._route: NetlinkSocket | None = None
        self._nft: Nft | None = None

    @property
    def route(self) -> NetlinkSocket:
        """The rtnetlink socket of the host namespace."""
        if self._route is None:
            self._route = NetlinkSocket(ROUTE)
        return self._route

    @property
    def nft(self) -> Nft:
        """The firewall of the host namespace."""
        if self._nft is None:
            from nsbridge.kernel.nftnetlink import Nft

            self._nft = Nft()
        return self._nft

    def do(self, step: Step) -> None:
        """Carry out a step."""
        from nsbridge.kernel.apply import Work

        Work(self, step).run()
        self._forget(step)

    def _forget(self, step: Step) -> None:
        """Drop what conntrack remembers of ports and addresses that went, moved or came. Last: so none comes back."""
        gone, new = {"add": ((), step.things), "remove": (step.things, ()), "change": (step.before, step.things)}[
            step.verb
        ]
        if any(isinstance(thing, (Element, Address)) for thing in (*gone, *new)):
            from nsbridge.kernel import conntrack

            # The firewall's socket: closing one of its own would wait for nf_tables' garbage collection.
            conntrack.forget(lambda: self.nft.socket, gone, new)

    def find(self, things: Iterable[Thing]) -> tuple[Thing, ...]:
        """Return those of the things that exist and are ours."""
        asked = tuple(things)
        inner: dict[str, list[Thing]] = {}
        firewall: list[Table | Element] = []
        found: set[tuple[str, ...]] = set()
        for thing in asked:
            if isinstance(thing, (Table, Element)):
                firewall.append(thing)
            elif isinstance(thing, ForeignAccept):
                from nsbridge.kernel import foreign

                if foreign.present(thing, self.nft):
                    found.add(thing.identity)
            elif isinstance(thing, Netns):
                if netns.ours(thing.path):
                    found.add(thing.identity)
            else:
                inner.setdefault(thing.netns, []).append(thing)
        for path, there in inner.items():
            found |= {thing.identity for thing in self._find_there(path, there)}
        if firewall:
            found |= {thing.identity for thing in self.nft.find(tuple(firewall))}
        return tuple([thing for thing in asked if thing.identity in found])

    def _find_there(self, path: str, things: list[Thing]) -> list[Thing]:
        if path == HOST:
            return [thing for thing in things if _exists(self.route, thing)]
        indexes: dict[tuple[str, ...], tuple[int, int]] = {}

        def look() -> list[Thing]:
            with NetlinkSocket(ROUTE) as sock:
                for thing in things:
                    if isinstance(thing, Link) and not thing.parent and (one := _link(sock, path, thing.name)):
                        indexes[thing.identity] = (one.index, one.peer_index)
                return [
                    thing for thing in things if (not isinstance(thing, Link) or thing.parent) and _exists(sock, thing)
                ]

        try:
            found = netns.inside(path, look)
            from nsbridge.kernel.observe import nsid_of

            nsid = nsid_of(self.route, path) if indexes else -1
        except OSError as err:
            if err.errno in (errno.ENOENT, errno.EINVAL, errno.ESRCH):
                return []
            raise KernelError(f"can't look into {path}: {err.strerror}", errno=err.errno or 0) from err
        return found + [thing for thing in things if self._joined(nsid, *indexes.get(thing.identity, (0, 0)))]

    def _joined(self, nsid: int, index: int, peer_index: int) -> bool:
        """Tell whether that link of that namespace is the inner end of a pair whose outer end is ours.

        Inside a namespace links bear no mark of ours, and the name may be somebody else's.
        """
        if nsid < 0 or not peer_index:
            return False
        try:
            body = self.route.request(rtnetlink.get_link_at(peer_index))[0][1]
        except Refused:
            return False
        outer = rtnetlink.decode_link(HOST, body)
        return is_ours(outer.link.group) and (outer.peer_nsid, outer.peer_index) == (nsid, index)

    def observe(self, namespaces: Iterable[str], settings: Iterable[tuple[str, str]] = ()) -> KernelState:
        """Read everything of ours on the host and everything in these namespaces (paths).

        settings: (namespace, key) of further settings to report, whatever their value.
        """
        from nsbridge.kernel import foreign
        from nsbridge.kernel.observe import observe

        accepts = foreign.accepts(self.nft)
        return observe(self.route, namespaces, settings) | self.nft.observe() | accepts

    def facts(self) -> HostFacts:
        """Read what decisions need: routes, the uplink's MTU, forwarding, other people's chains that drop."""
        from nsbridge.kernel import foreign

        return host_facts(self.route).replace(droppers=foreign.droppers(self.nft), routers=foreign.routers(self.nft))

    def netns_id(self, path: str) -> int:
        """Return the inode of a namespace, 0 when the path opens none."""
        return netns.inode(path)

    def host_id(self) -> str:
        """Name this host namespace: ``host`` for the machine's own, else ``ns-`` and its cookie."""
        return netns.host_id()

    def link_facts(self, name: str) -> LinkFacts | None:
        """Return kind, MTU, MAC and addresses of a link of the host, None without it."""
        found = _link(self.route, HOST, name)
        if found is None:
            return None
        names = {found.index: name}
        replies = self.route.dump(rtroute.get_addresses(found.index))
        addresses = [rtroute.decode_address(HOST, body, names) for _, body in replies]
        link = found.link
        return LinkFacts(link.kind, link.mtu, link.mac, tuple([one.address for one in addresses if one]))

    def require(self, feature: str) -> None:
        """Raise Unsupported unless this kernel has it."""
        from nsbridge.kernel.probe import require

        require(feature)

    def link_index(self, name: str) -> int:
        """Return the index of a link of the host, 0 without one; a network's port group is made of its bridge's."""
        from nsbridge.kernel.apply import find_index

        return find_index(self.route, name)

    def await_link(self, name: str) -> None:
        """Wait until the link carries packets, 0.1 s at most.

        A link's carrier reaches its bridge by a queue of the kernel's (net/core/link_watch.c). A packet that is sent
        before is lost, and its sender asks again after a whole second. Asking for the link hurries the queue on.
        """
        for _ in range(PATIENCE):
            try:
                ((_, answer),) = self.route.request(rtnetlink.get_link(name))
            except OSError:
                return
            if rtnetlink.is_operational(answer):
                return
            time.sleep(0.0002)

    def port_listener(self, proto: str, address: Any, port: int) -> bool:
        """Tell whether a process of the host holds that port, by trying to bind it. address: None for any."""
        texts = ["0.0.0.0", "::"] if address is None else [str(address)]
        return any(_held(proto, text, port) for text in texts)

    def free_port(self, proto: str) -> int:
        """Return a port that nobody holds on any address now, as the kernel chooses them (ip_local_port_range)."""
        kind, number = _SOCK_TYPES[proto]
        sock = _socket.socket(_socket.AF_INET, kind, number)
        try:
            sock.bind(("0.0.0.0", 0))
            return int(sock.getsockname()[1])
        finally:
            sock.close()

    def setting(self, key: str) -> str:
        """Return the value of a setting of the host, "" without one."""
        return sysctl.read(key)

    def claimed(self, link: str, addresses: Iterable[Address_]) -> dict[Address_, str]:
        """Return the MAC of each address that somebody on this link has."""
        from nsbridge.kernel import neighbours

        try:
            return neighbours.probe(link, addresses)
        except OSError as err:
            text = f"can't ask on {link} who has an address: {err.strerror}"
            raise KernelError(text, errno=err.errno or 0, fix="run as root, or with CAP_NET_RAW") from err

    def announce(self, endpoint: Endpoint) -> None:
        """Tell the neighbours which MAC its addresses have."""
        from nsbridge.kernel import neighbours

        try:
            neighbours.announce(endpoint.netns, endpoint.ifname, endpoint.mac)
        except OSError as err:
            raise KernelError(f"can't announce the addresses of {endpoint.name!r}: {err.strerror}") from err

    def element_data(self, table: tuple[str, str], name: str, key: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Return the data of a map element, None without one."""
        return self.nft.element_data(table, name, key)


def _link(sock: NetlinkSocket, path: str, name: str) -> FoundLink | None:
    try:
        return rtnetlink.decode_link(path, sock.request(rtnetlink.get_link(name))[0][1])
    except Refused:
        return None


def _exists(sock: NetlinkSocket, thing: Thing) -> bool:
    """Whether a link of ours, an address, a route or a setting is there, in the namespace of socket and thread."""
    if isinstance(thing, Sysctl):
        return sysctl.read(thing.key) == thing.value
    if isinstance(thing, Link):
        link = _link(sock, thing.netns, thing.name)
        return link is not None and is_ours(link.link.group)
    if not isinstance(thing, onlinks.KINDS):
        return False
    name = onlinks.link_of(thing)
    link = _link(sock, thing.netns, name) if name else None
    return (link is not None or not name) and onlinks.exists(sock, thing, link.index if link else 0)


def _held(proto: str, address: str, port: int) -> bool:
    family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
    kind, number = _SOCK_TYPES[proto]
    try:
        sock = _socket.socket(family, kind | _socket.SOCK_CLOEXEC, number)
    except OSError:  # a kernel without that protocol has no listeners for it
        return False
    try:
        if family == _socket.AF_INET6:
            sock.setsockopt(41, 26, 1)  # IPPROTO_IPV6, IPV6_V6ONLY: an IPv4 listener is another question
        if proto == "tcp":
            # With it, connections in TIME_WAIT don't count, while a listener still does. UDP would share.
            sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
    except OSError as err:
        return err.errno == errno.EADDRINUSE
    finally:
        sock.close()
    return False


def host_facts(sock: NetlinkSocket) -> HostFacts:
    """Facts from links, routes and settings; `droppers` stays empty."""
    links = {}
    for _, body in sock.dump(rtnetlink.get_links()):
        one = rtnetlink.decode_link(HOST, body)
        links[one.index] = one.link
    names = {index: link.name for index, link in links.items()}
    mtus = {link.name: link.mtu for link in links.values()}
    routes: list[tuple[Network_, str]] = []
    uplinks: dict[str, int] = {}
    for family in (4, 6):
        for route in _routes(sock, family, names):
            if not route.dst.prefixlen:
                uplinks.setdefault(route.link, mtus[route.link])
            elif not route.dst.is_link_local and not route.dst.is_multicast:
                routes.append((route.dst, route.link))
    keys = [*FORWARDING, "net/ipv4/conf/all/accept_redirects", *(f"net/ipv6/conf/{name}/accept_ra" for name in uplinks)]
    values = [(key, sysctl.read(key)) for key in keys]
    return HostFacts(
        mtu=next(iter(uplinks.values()), 1500),
        routes=tuple(dict.fromkeys(routes)),
        sysctls=tuple([pair for pair in values if pair[1]]),
    )


def _routes(sock: NetlinkSocket, family: int, names: dict[int, str]) -> list[Route]:
    """Routes of the main table, preferred ones (the lowest metric) first."""
    found = [rtroute.decode_routes(HOST, body, names) for _, body in sock.dump(rtroute.get_routes(family))]
    return sorted([route for routes in found for route, _ in routes], key=lambda route: route.metric)
