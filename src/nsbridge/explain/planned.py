"""A world that doesn't exist yet: what a plan would add, on top of the host as it is (`Source` of world.py).

Namespaces that the plan makes have loopback and what the plan gives them, and nothing of anybody else's. The host keeps
its links, routes and foreign rules and gets what the plan adds, our accept rules in chains that drop among it. What
nobody can know before it runs is assumed, and said to be: that a server listens wherever a packet arrives.
"""

from __future__ import annotations

from nsbridge.explain.world import LOCAL, MAIN, Listener, SeenAddress, SeenLink, SeenPolicy, SeenRoute, Space
from nsbridge.firewall.expressions import Accept, Match
from nsbridge.firewall.planned import firewall_of
from nsbridge.firewall.ruleset import Chain, Rule, Table
from nsbridge.firewall.seen import Firewall
from nsbridge.model.names import MARK_BIT
from nsbridge.state.kernel_state import KernelState
from nsbridge.state.things import HOST, Address, ForeignAccept, Link, Netns, Route, RoutingRule, Sysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nsbridge.explain.world import Source
    from nsbridge.firewall.seen import SeenElement, SeenTable
    from nsbridge.state.things import Address_

ASSUMED = "a server listens on every port of what the file brings up"
_FIRST = 10_000
"""Index of the first planned link: above those of links that exist."""


class _Both:
    """What sets hold: of planned tables by the plan, of others by the kernel."""

    def __init__(self, planned: Firewall, there: Firewall) -> None:
        self._ours = {(table.family, table.name) for table in planned.tables}
        self._planned, self._there = planned.contents, there.contents

    def find(self, family: str, table: str, name: str, key: bytes) -> SeenElement | None:
        """The element that a key falls under."""
        source = self._planned if (family, table) in self._ours else self._there
        if source is None:
            raise LookupError(name)
        return source.find(family, table, name, key)

    def all(self, family: str, table: str, name: str) -> tuple[SeenElement, ...]:
        """Every element."""
        source = self._planned if (family, table) in self._ours else self._there
        if source is None:
            raise LookupError(name)
        return source.all(family, table, name)


class PlannedSource:
    """The host as `base` shows it, with what `state` adds."""

    def __init__(self, state: KernelState, base: Source) -> None:
        self.state = state
        self.base = base
        self.spaces = {one.path for one in state.of(Netns)}
        self._links: dict[str, list[SeenLink]] = {}
        self._peers: dict[tuple[str, str], tuple[str, str]] = {}
        for number, link in enumerate(state.of(Link), _FIRST):
            self._links.setdefault(link.netns, []).append(_link(link, number))
            if link.peer_name:
                here, there = (link.netns, link.name), (link.peer_netns, link.peer_name)
                self._peers |= {here: there, there: here}
        self._settings = {(one.netns, one.key): one.value for one in state.of(Sysctl)}

    def space(self, path: str) -> Space | None:
        """Return a namespace of the plan, the host with what the plan adds, or one that exists."""
        base = self.base.space(path) if path not in self.spaces else None
        if path not in self.spaces and path != HOST:
            return base
        links, routes = list(self._links.get(path, ())), list(self._routes(path))
        addresses = [SeenAddress(one.link, one.address) for one in self.state.of(Address) if one.netns == path]
        if base is not None:
            policies = tuple(base.policies)
            known = {link.name for link in links}
            links = [*(link for link in base.links.values() if link.name not in known), *links]
            addresses = [*base.addresses, *addresses]
            routes = [*(route for table in base.routes.values() for route in table), *routes]
        else:
            policies = tuple(
                SeenPolicy(version, priority, table=table)
                for version in (4, 6)
                for priority, table in ((0, LOCAL), (32766, MAIN))
            )
            policies += tuple(
                SeenPolicy(one.src.version, 100, table=one.table, src=one.src)
                for one in self.state.of(RoutingRule)
                if one.netns == path
            )
            links.insert(0, SeenLink(1, "lo", mtu=65536, loopback=True))
            routes += _loopback()
        return Space(path, tuple(links), tuple(addresses), tuple(routes), policies)

    def _routes(self, path: str) -> list[SeenRoute]:
        from ipaddress import ip_network

        found = []
        for one in self.state.of(Address):
            if one.netns == path:
                own, way = one.address, ((one.link, None),)
                found.append(SeenRoute(LOCAL, ip_network(own.ip), "local", way))
                found.append(SeenRoute(MAIN, own.network, ways=way, source=own.ip if own.version == 4 else None))
        for route in self.state.of(Route):
            if route.netns == path:
                ways = ((route.link, route.via),) if route.link else ()
                found.append(SeenRoute(route.table or MAIN, route.dst, route.kind, ways, route.metric))
        return found

    def setting(self, path: str, key: str) -> str:
        """Return what the plan sets, what follows from it, or what is there; new links start as ``default`` says."""
        if (path, key) in self._settings:
            return self._settings[path, key]
        parts = key.split("/")
        if len(parts) == 5 and parts[2] == "conf" and parts[4] == "forwarding" and path == HOST:
            whole = "net/ipv4/ip_forward" if parts[1] == "ipv4" else "net/ipv6/conf/all/forwarding"
            if (path, whole) in self._settings:
                return self._settings[path, whole]
        if len(parts) == 5 and parts[2] == "conf" and any(one.name == parts[3] for one in self._links.get(path, ())):
            parts[3] = "default"
        if path in self.spaces:
            return self.base.setting(HOST, "/".join(parts)) if parts[-1] in ("rp_filter", "disable_ipv6") else "0"
        return self.base.setting(path, "/".join(parts))

    def firewall(self, path: str) -> Firewall:
        """Return the rules that would be there."""
        if path in self.spaces:
            return Firewall()
        there: Firewall = self.base.firewall(path)
        if path != HOST:
            return there
        planned = firewall_of(self.state)
        others = [table for table in there.tables if table.owner != "nsbridge"]
        for accept in self.state.of(ForeignAccept):
            others = [_with_accept(table, accept) for table in others]
        return there.replace(
            tables=(*others, *planned.tables),
            tracks=tuple(dict.fromkeys((*there.tracks, *planned.tracks))),
            contents=_Both(planned, there),
        )

    def listeners(self, path: str, proto: str, port: int) -> tuple[Listener, ...]:
        """Assume a server in what is planned; elsewhere those that are there."""
        if path not in self.spaces:
            return self.base.listeners(path, proto, port)
        from ipaddress import IPv6Address

        return (Listener(proto, IPv6Address(0), port, both=True, owner="its server"),)

    def ports(self, path: str, proto: str) -> tuple[Listener, ...]:
        """Return what listens where there is something already."""
        return () if path in self.spaces else self.base.ports(path, proto)

    def peer(self, path: str, link: SeenLink) -> tuple[str, str] | None:
        """Return the other end of a pair."""
        return self._peers.get((path, link.name)) or (None if path in self.spaces else self.base.peer(path, link))

    def holder(self, address: Address_) -> str | None:
        """Return the planned namespace that will have an address."""
        for one in self.state.of(Address):
            if one.address.ip == address and one.netns != HOST:
                return one.netns
        return self.base.holder(address)


def _loopback() -> list[SeenRoute]:
    from ipaddress import ip_network

    way = (("lo", None),)
    return [SeenRoute(LOCAL, ip_network(net), "local", way) for net in ("127.0.0.0/8", "::1/128")]


def _link(link: Link, number: int) -> SeenLink:
    """A planned link; the kernel would choose a MAC for one that names none."""
    return SeenLink(
        number,
        link.name,
        link.kind,
        link.up,
        link.up,
        link.mtu or 1500,
        link.mac or f"02:00:00:00:{number >> 8 & 255:02x}:{number & 255:02x}",
        link.master,
        number if link.kind == "veth" else 0,
        hairpin=link.hairpin,
        isolated=link.isolated,
        options=link.options,
        group=link.group,
    )


def _with_accept(table: SeenTable, accept: ForeignAccept) -> SeenTable:
    """A table of somebody else's with our one rule in its chain, if it is that table."""
    if accept.where == "nft":
        here, name = (table.family, table.name) == (accept.family, accept.table), accept.chain
    else:
        family = "ip6" if accept.where.startswith("ip6") else "ip"
        backend = "iptables" + accept.where[accept.where.index("-") :]
        here, name = (table.family, table.name, table.backend) == (family, "filter", backend), "FORWARD"
    if not here:
        return table
    rule: Any = Rule((Match("mark", (MARK_BIT, MARK_BIT)), Accept()), why="nsbridge: what carries our mark")
    made = firewall_of(KernelState([Table("inet", "x", (), (Chain("c", (rule,)),))])).tables[0].chains[0].rules
    return table.replace(
        chains=tuple(
            chain.replace(rules=(*made, *chain.rules)) if chain.name == name else chain for chain in table.chains
        )
    )
