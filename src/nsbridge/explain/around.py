"""What rules ask of the namespace around them, answered from its picture."""

from __future__ import annotations

from nsbridge.explain.routing import choose_source, lookup
from nsbridge.explain.world import LOCAL
from nsbridge.firewall.surroundings import Surroundings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.explain.world import Space, World
    from nsbridge.firewall.packet import Packet
    from nsbridge.state.things import Address_

_ETHERNET, _LOOPBACK = 1, 772


class Around(Surroundings):
    """One namespace, as its rules see it."""

    def __init__(self, world: World, space: Space) -> None:
        self.world = world
        self.space = space

    def kind(self, ifname: str) -> str | None:
        """IFLA_INFO_KIND, empty for a link without one."""
        link = self.space.links.get(ifname)
        return link.kind if link is not None else None

    def index(self, ifname: str) -> int | None:
        """Its number."""
        link = self.space.links.get(ifname)
        return link.index if link is not None else None

    def group(self, ifname: str) -> int | None:
        """IFLA_GROUP."""
        link = self.space.links.get(ifname)
        return link.group if link is not None else None

    def arphrd(self, ifname: str) -> int | None:
        """Its type; of what isn't loopback we know ethernet alone."""
        link = self.space.links.get(ifname)
        if link is None:
            return None
        return _LOOPBACK if link.loopback else _ETHERNET if link.mac else None

    def master(self, ifname: str) -> str | None:
        """The bridge it is a port of."""
        link = self.space.links.get(ifname)
        return link.master if link is not None else None

    def addrtype(self, address: Address_, ifname: str = "") -> str | None:
        """As inet_dev_addr_type() tells (net/ipv4/fib_frontend.c), and its like for IPv6 (net/ipv6/netfilter)."""
        if address.is_multicast:
            return "multicast"
        if address.version == 4 and (int(address) == 0 or int(address) == 0xFFFFFFFF):
            return "broadcast"
        for route in self.space.routes.get((address.version, LOCAL), ()):
            if address in route.dst and (not ifname or any(link == ifname for link, _ in route.ways)):
                return route.kind
        if address.version == 6:
            found = lookup(self.space, address)
            return "unreachable" if found.kind in ("none", "unreachable") else found.kind
        return "unicast"

    def route(
        self, daddr: Address_, saddr: Address_ | None = None, *, iif: str = "", oif: str = "", mark: int = 0
    ) -> str | None:
        """The link that a route leaves by."""
        found = lookup(self.space, daddr, src=saddr, mark=mark, iif=iif or "lo", oif=oif)
        return found.link if found.kind in ("unicast", "local", "broadcast") else ""

    def source_for(self, oif: str, daddr: Address_) -> Address_ | None:
        """What masquerade takes (nf_nat_masquerade.c): never 127.0.0.1, rather an address of another link."""
        found = lookup(self.space, daddr, oif=oif)
        source = choose_source(self.space, daddr, oif, found.via)
        if source is None or not source.is_loopback or daddr.version == 6:
            return source
        mine = (one.address.ip for one in self.space.addresses)
        return next((one for one in mine if one.version == 4 and not one.is_loopback), None)

    def primary(self, ifname: str, version: int) -> Address_ | None:
        """The first address of a link (nf_nat_redirect.c)."""
        return next((one.address.ip for one in self.space.addresses_on(ifname, version)), None)

    def socket(self, packet: Packet) -> bool | None:
        """Tell whether a local socket would take it."""
        from nsbridge.explain.receiving import takers

        if packet.dport is None:
            return False
        return bool(takers(self.world, self.space.path, packet))
