"""What a prediction needs to know of the namespaces a packet passes: frozen values, read by kernel/world.py.

`KernelState` holds what is ours; a packet meets what is everybody's. So this is a wider picture, of reading only: every
link with what it does as a bridge port, every routing table and rule, neighbours, sockets that listen. A `World` asks
its source for a namespace when the packet gets there and not before, so a host of a thousand endpoints costs what the
two or three namespaces on the way cost.
"""

from __future__ import annotations

from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Protocol

    from nsbridge.state.things import Address_, Interface_, Network_

MAIN, LOCAL = 254, 255
"""Numbers of the routing tables that every namespace has. <linux/rtnetlink.h>."""


class SeenLink(Value):
    """An interface as the kernel shows it.

    up: the administrator wants it up; running: it carries packets (IF_OPER_UP, or unknown, as loopback's is). master:
    the bridge it is a port of. peer_index, peer_nsid: the other end of a veth pair, by index in the namespace of that
    id (-1 for its own). parent_index: of a macvlan or vlan. hairpin, isolated, forwarding: of a bridge port; a port in
    another STP state passes no frames. options: of a bridge, those that aren't the kernel's default. group: IFLA_GROUP.
    xdp: a program looks at what comes in before anybody else. queue: the discipline by which it sends (tc(8)).
    """

    index: int
    name: str
    kind: str = ""
    up: bool = True
    running: bool = True
    mtu: int = 1500
    mac: str = ""
    master: str = ""
    peer_index: int = 0
    peer_nsid: int = -1
    hairpin: bool = False
    isolated: bool = False
    forwarding: bool = True
    options: tuple[tuple[str, int], ...] = ()
    group: int = 0
    loopback: bool = False
    xdp: bool = False
    queue: str = ""

    def option(self, name: str) -> int:
        """Return a bridge option that isn't at its default, 0 otherwise."""
        return dict(self.options).get(name, 0)


class SeenAddress(Value):
    """An address of a link. usable: not tentative, and its duplicate address detection didn't fail."""

    link: str
    address: Interface_
    usable: bool = True
    secondary: bool = False


class SeenRoute(Value):
    """A route of any table. kind: ``unicast``, ``local``, ``broadcast``, ``multicast``, or one that leads nowhere.

    ways: (link, gateway or None) of each next hop. source: what the kernel prefers to send from, None to choose.
    dead: a link of it is down, and the kernel doesn't use it.
    """

    table: int
    dst: Network_
    kind: str = "unicast"
    ways: tuple[tuple[str, Address_ | None], ...] = ()
    metric: int = 0
    source: Address_ | None = None
    dead: bool = False
    mtu: int = 0

    def __str__(self) -> str:
        """As ip(8) writes it."""
        to = "default" if not self.dst.prefixlen else str(self.dst)
        words = [to] if self.kind == "unicast" else [self.kind, to]
        for link, via in self.ways[:1]:
            words += [f"via {via}"] if via is not None else []
            words += [f"dev {link}"] if link else []
        words += [f"table {self.table}"] if self.table not in (MAIN, LOCAL) else []
        words += (
            [f"metric {self.metric}"] if self.metric and not (self.dst.version == 6 and self.metric == 1024) else []
        )
        return " ".join(words)


class SeenPolicy(Value):
    """A policy routing rule (ip-rule(8)). action: ``lookup``, or ``blackhole``, ``unreachable``, ``prohibit``.

    mark: (value, mask). suppress: routes no longer than that many bits don't count (-1: all do). unknown: words of what
    else it asks for and we don't know; such a rule may fit or not.
    """

    version: int
    priority: int
    action: str = "lookup"
    table: int = MAIN
    src: Network_ | None = None
    dst: Network_ | None = None
    iif: str = ""
    oif: str = ""
    mark: tuple[int, int] = (0, 0)
    negate: bool = False
    suppress: int = -1
    unknown: str = ""

    def __str__(self) -> str:
        """As ip(8) writes it."""
        words = [f"{self.priority}:", "not" if self.negate else "", f"from {self.src or 'all'}"]
        words += [f"to {self.dst}"] if self.dst is not None else []
        words += [f"fwmark {self.mark[0]:#x}/{self.mark[1]:#x}"] if self.mark != (0, 0) else []
        words += [f"iif {self.iif}"] if self.iif else []
        words += [f"oif {self.oif}"] if self.oif else []
        words.append(f"lookup {self.table}" if self.action == "lookup" else self.action)
        return " ".join(filter(None, words))


class SeenNeighbour(Value):
    """What a namespace believes of a neighbour's MAC. state: ``permanent``, ``reachable``, ``stale``, ``failed`` …."""

    link: str
    address: Address_
    mac: str
    state: str


class Listener(Value):
    """A socket that waits for anybody. address: what it is bound to, unspecified for any. both: a [::] for IPv4 too.

    owner: ``name (pid)`` if it could be seen. device: the only link it listens on. peer: of a connected datagram
    socket, which hears nobody else.
    """

    proto: str
    address: Address_
    port: int
    both: bool = False
    owner: str = ""
    device: str = ""

    def __str__(self) -> str:
        """``0.0.0.0:80/tcp``."""
        shown = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{shown}:{self.port}/{self.proto}"


class Space:
    """One namespace: what is small enough to be read whole. path: how it is opened, "" for the host."""

    def __init__(
        self,
        path: str,
        links: tuple[SeenLink, ...],
        addresses: tuple[SeenAddress, ...],
        routes: tuple[SeenRoute, ...],
        policies: tuple[SeenPolicy, ...],
        neighbours: tuple[SeenNeighbour, ...] = (),
    ) -> None:
        self.path = path
        self.links = {link.name: link for link in links}
        self.by_index = {link.index: link for link in links}
        self.addresses = addresses
        self.routes: dict[tuple[int, int], list[SeenRoute]] = {}
        for route in routes:
            self.routes.setdefault((route.dst.version, route.table), []).append(route)
        for table in self.routes.values():
            table.sort(key=lambda route: (-route.dst.prefixlen, route.metric))
        self.policies = sorted(policies, key=lambda policy: policy.priority)
        self.neighbours = {(one.link, one.address): one for one in neighbours}
        self._own = {one.address.ip: one for one in reversed(addresses)}

    def owner(self, address: Address_) -> SeenAddress | None:
        """Return where an address of this namespace is, None when it isn't one of its own."""
        return self._own.get(address)

    def addresses_on(self, link: str, version: int) -> Iterator[SeenAddress]:
        """Iterate over the addresses of a link, of one IP version, in the kernel's order."""
        return (one for one in self.addresses if one.link == link and one.address.version == version)

    def ports_of(self, bridge: str) -> Iterator[SeenLink]:
        """Iterate over the ports of a bridge."""
        return (link for link in self.links.values() if link.master == bridge)


if TYPE_CHECKING:

    class Source(Protocol):
        """Where a world comes from: a kernel, or a plan."""

        def space(self, path: str) -> Space | None:
            """Read a namespace, None when it can't be opened."""

        def setting(self, path: str, key: str) -> str:
            """Return a setting of a namespace, its path under /proc/sys, "" without one."""

        def firewall(self, path: str) -> Any:
            """Read every base chain of every table there."""

        def listeners(self, path: str, proto: str, port: int) -> tuple[Listener, ...]:
            """Return the sockets of a namespace that wait on a port, with what its owner is called if that is seen."""

        def peer(self, path: str, link: SeenLink) -> tuple[str, str] | None:
            """Return namespace and name of the other end of a pair, None when it can't be found."""

        def holder(self, address: Address_) -> str | None:
            """Return the namespace that an address belongs to by our records, None when they don't say."""

        def ports(self, path: str, proto: str) -> tuple[Listener, ...]:
            """Return all sockets of a namespace that wait, for hints."""


class World:
    """Namespaces by their paths, each read when it is first asked for."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._spaces: dict[str, Space | None] = {}
        self._firewalls: dict[str, Any] = {}
        self._settings: dict[tuple[str, str], str] = {}

    def space(self, path: str) -> Space | None:
        """Return a namespace, None when it can't be opened."""
        if path not in self._spaces:
            self._spaces[path] = self.source.space(path)
        return self._spaces[path]

    def firewall(self, path: str) -> Any:
        """Return the rules of a namespace."""
        if path not in self._firewalls:
            self._firewalls[path] = self.source.firewall(path)
        return self._firewalls[path]

    def setting(self, path: str, key: str) -> str:
        """Return a setting, "" when that kernel has none of the name."""
        where = path, key
        if where not in self._settings:
            self._settings[where] = self.source.setting(path, key)
        return self._settings[where]

    def number(self, path: str, key: str, default: int = 0) -> int:
        """Return a setting that is a number."""
        text = self.setting(path, key)
        return int(text) if text.lstrip("-").isdigit() else default

    def conf(self, path: str, version: int, link: str, name: str) -> int:
        """Return what of ``net/ipvN/conf/{all,LINK}/NAME`` is in force for IPv4 settings where the greater one wins."""
        keys = [f"net/ipv{version}/conf/{one}/{name}" for one in ("all", link)]
        return max(self.number(path, key) for key in keys)

    def peer(self, path: str, link: SeenLink) -> tuple[str, SeenLink] | None:
        """Return where the other end of a pair is, None when that namespace can't be read."""
        found = self.source.peer(path, link)
        space = self.space(found[0]) if found is not None else None
        if found is None or space is None or found[1] not in space.links:
            return None
        return found[0], space.links[found[1]]
