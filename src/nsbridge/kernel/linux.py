"""The Kernel of a running Linux: one host namespace, that of the thread that first uses it.

Sockets are opened when first needed and kept. Nothing here moves the caller's thread: work in other
namespaces is done by threads of `netns`. Writing is in apply.py, reading everything in observe.py; this
module holds the rest of the interface.
"""

from __future__ import annotations

import _socket
import time

from nsbridge.errors import KernelError
from nsbridge.firewall.ruleset import Element
from nsbridge.kernel import netns, rtnetlink, rtroute, sockets, sysctl
from nsbridge.kernel.interface import HostFacts, LinkFacts
from nsbridge.kernel.netlink import ROUTE, NetlinkSocket, Refused
from nsbridge.model.names import is_ours
from nsbridge.state.things import HOST, Route

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from nsbridge.explain.world import Source
    from nsbridge.firewall.seen import Firewall
    from nsbridge.kernel.iptables import Iptables
    from nsbridge.kernel.nftnetlink import Nft
    from nsbridge.model.endpoint import Endpoint
    from nsbridge.plan.step import Step
    from nsbridge.state.kernel_state import KernelState
    from nsbridge.state.things import Address_, Network_, Thing

FORWARDING = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding")
PATIENCE = 500
"""How often a link is asked whether it carries packets, 0.2 ms apart."""


class LinuxKernel:
    """See kernel/interface.py, which says what each method promises."""

    def __init__(self, firewall: Callable[[], str] = str, before: Callable[[], tuple[str, ...]] = tuple) -> None:
        """firewall: asked at each use which one holds our rules: "" for nf_tables, or a variant of iptables.

        before: the tables and chains of iptables-nft that were there already.
        """
        self._route: NetlinkSocket | None = None
        self._nft: Nft | None = None
        self._chosen = firewall
        self._before = before
        self._iptables: Iptables | None = None
        self._filters_bridges: bool | None = None

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

    @property
    def firewall(self) -> Nft | Iptables:
        """What holds our rules."""
        name = self._chosen()
        if not name:
            return self.nft
        if self._iptables is None or self._iptables.name != name:
            from nsbridge.kernel.iptables import Iptables

            self._iptables = Iptables(name, self.nft, self._bridges, self._before)
        return self._iptables

    def _bridges(self) -> list[str]:
        """Return the names of the host's bridges that aren't ours."""
        found = [rtnetlink.decode_link(HOST, body).link for _, body in self.route.dump(rtnetlink.get_links("bridge"))]
        return [link.name for link in found if link.kind == "bridge" and not is_ours(link.group)]

    def choose_firewall(self, wish: str) -> str:
        """Return what to remember: "" for nf_tables, else which variant of iptables is meant.

        Below it stands what iptables-nft has by now, a line for each table and chain.
        """
        if wish in ("", "nftables"):
            return ""
        from nsbridge.kernel import emptied
        from nsbridge.kernel.iptables import ORDER, choose

        name = choose(wish)
        return "\n".join((name, *(emptied.present(self.nft, ORDER) if name == "iptables-nft" else ())))

    def do(self, step: Step, forget: Iterable[Step] | None = None) -> None:
        """Carry out a step."""
        from nsbridge.kernel.apply import Work

        Work(self, step).run()
        self._forget((step,) if forget is None else forget)

    def _forget(self, steps: Iterable[Step]) -> None:
        """Drop what conntrack remembers of ports and addresses that went, moved or came. Last: so none comes back."""
        gone: list[Thing] = []
        new: list[Thing] = []
        for step in steps:
            if step.verb != "add":
                gone += step.things if step.verb == "remove" else step.before
            if step.verb != "remove":
                new += step.things
        # An endpoint that comes takes nothing from anybody, and a refusal ends what was tried by TCP.
        if gone or any(isinstance(thing, Element) and "udp" in thing.key for thing in new):
            from nsbridge.kernel import conntrack

            # The firewall's socket: closing one of its own would wait for nf_tables' garbage collection.
            conntrack.forget(lambda: self.nft.socket, gone, new)

    def find(self, things: Iterable[Thing]) -> tuple[Thing, ...]:
        """Return those of the things that exist and are ours."""
        from nsbridge.kernel.finding import find

        return find(self, things)

    def observe(self, namespaces: Iterable[str], settings: Iterable[tuple[str, str]] = ()) -> KernelState:
        """Read everything of ours on the host and everything in these namespaces (paths).

        settings: (namespace, key) of further settings to report, whatever their value.
        """
        from nsbridge.kernel import foreign
        from nsbridge.kernel.observe import observe

        accepts = foreign.accepts(self.nft)
        return observe(self.route, namespaces, settings) | self.firewall.observe() | accepts

    def facts(self) -> HostFacts:
        """Read what decisions need: routes, the uplink's MTU, forwarding, other people's chains that drop."""
        from nsbridge.kernel import foreign

        if self._filters_bridges is None:  # the kernel's own, and asking takes 10 ms
            self._filters_bridges = self.nft.filters_bridges()
        return host_facts(self.route).replace(
            droppers=foreign.droppers(self.nft),
            routers=foreign.routers(self.nft),
            bridge_filter=self._filters_bridges,
        )

    def netns_id(self, path: str) -> int:
        """Return the inode of a namespace, 0 when the path opens none."""
        return netns.inode(path)

    def host_id(self) -> str:
        """Name this host namespace: ``host`` for the machine's own, else ``ns-`` and its cookie."""
        return netns.host_id()

    def link_facts(self, name: str) -> LinkFacts | None:
        """Return kind, MTU, MAC and addresses of a link of the host, None without it."""
        try:
            found = rtnetlink.decode_link(HOST, self.route.request(rtnetlink.get_link(name))[0][1])
        except Refused:
            return None
        names = {found.index: name}
        replies = self.route.dump(rtroute.get_addresses(found.index))
        addresses = [rtroute.decode_address(HOST, body, names) for _, body in replies]
        link, master = found.link, ("", "")
        if found.master_index:
            above = rtnetlink.decode_link(HOST, self.route.request(rtnetlink.get_link_at(found.master_index))[0][1])
            master = (above.link.name, above.link.kind)
        own = tuple([one.address for one in addresses if one])
        return LinkFacts(link.kind, link.mtu, link.mac, own, link.options, *master)

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

    def settle(self) -> None:
        """Wait until the packets under way are through the rules: a grace period of RCU, some 10 ms.

        Closing a packet socket waits for one (packet_release, net/packet/af_packet.c). membarrier(2) would do so too,
        by ctypes and not with nohz_full.
        """
        try:
            _socket.socket(_socket.AF_PACKET, _socket.SOCK_DGRAM, 0).close()
        except OSError:
            time.sleep(0.05)  # a kernel without packet sockets, or we may not have one

    def busy_port(self, proto: str, address: Any, first: int, last: int) -> int:
        """Return the first port of a range that a process of the host holds, 0 without one."""
        return sockets.busy_port(proto, address, first, last)

    def supports(self, proto: str) -> bool:
        """Tell whether this kernel has that transport protocol."""
        return sockets.supports(proto)

    def has_address(self, address: Any) -> bool:
        """Tell whether an address is one of the host's own."""
        return sockets.has_address(address)

    def addresses_of(self, link: str) -> tuple[Address_, ...]:
        """Return the addresses of a link of the host, without link-local ones."""
        index = self.link_index(link)
        replies = self.route.dump(rtroute.get_addresses(index)) if index else []
        found = [rtroute.decode_address(HOST, body, {index: link}) for _, body in replies]
        return tuple(one.address.ip for one in found if one is not None and not one.address.ip.is_link_local)

    def free_port(self, proto: str) -> int:
        """Return a port that nobody holds on any address now, as the kernel chooses them (ip_local_port_range)."""
        kind, number = sockets.SOCK_TYPES[proto]
        sock = _socket.socket(_socket.AF_INET, kind, number)
        try:
            sock.bind(("0.0.0.0", 0))
            return int(sock.getsockname()[1])
        finally:
            sock.close()

    def setting(self, key: str) -> str:
        """Return the value of a setting of the host, "" without one."""
        return sysctl.read(key)

    def admin_rules(self, table: tuple[str, str]) -> int:
        """Return how many rules the administrator has in the chain of a table that is theirs."""
        return self.firewall.admin_rules(table)

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
        return self.firewall.element_data(table, name, key)

    def every_rule(self) -> Firewall:
        """Read every rule of the host, whoever made it."""
        from nsbridge.kernel.fwread import read_firewall

        return read_firewall()

    def elements(self, table: tuple[str, str], name: str) -> tuple[Element, ...]:
        """Return all elements of a set, none without it."""
        return self.firewall.elements(table, name)

    def world(self, places: Callable[[], Iterable[str]], holder: Callable[[Address_], str | None]) -> Source:
        """Return what a prediction reads namespaces by."""
        from nsbridge.kernel.fwread import read_firewall
        from nsbridge.kernel.world import LinuxSource

        return LinuxSource(read_firewall, places, holder)


def host_facts(sock: NetlinkSocket) -> HostFacts:
    """Facts from links, routes and settings; `droppers` stays empty."""
    from nsbridge.kernel.glance import Glance

    links = [Glance(body) for _, body in sock.dump(rtnetlink.get_links())]
    names = {link.index: link.name for link in links}
    mtus = {link.name: link.mtu for link in links}
    bridges = [link.name for link in links if not is_ours(link.group) and link.kind == "bridge"]
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
        bridges=tuple(sorted(bridges)),
        uplinks=tuple(uplinks),
        bridge_calls=bool(sysctl.read("net/bridge/bridge-nf-call-iptables")),
    )


def _routes(sock: NetlinkSocket, family: int, names: dict[int, str]) -> list[Route]:
    """Routes of the main table, preferred ones (the lowest metric) first."""
    found = [rtroute.decode_routes(HOST, body, names) for _, body in sock.dump(rtroute.get_routes(family))]
    return sorted([route for routes in found for route, _ in routes], key=lambda route: route.metric)
