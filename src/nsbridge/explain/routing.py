"""Where a packet goes next, as fib_rules and the routing tables say (ip-rule(8), ip-route(8); RFC 6724 for sources)."""

from __future__ import annotations

from nsbridge.explain.world import SeenPolicy, SeenRoute
from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.explain.world import Space
    from nsbridge.state.things import Address_, Network_

NOWHERE = ("blackhole", "unreachable", "prohibit")
LOOPBACK = "lo"
"""What is sent by the namespace itself counts as come in by it."""


class Lookup(Value):
    """What the tables say. kind: of the route, ``none`` without one. source: what the kernel would send from.

    policy: the rule that led to its table. skipped: rules that ask for what isn't known here, so this may be wrong.
    """

    kind: str
    link: str = ""
    via: Address_ | None = None
    source: Address_ | None = None
    route: SeenRoute | None = None
    policy: SeenPolicy | None = None
    skipped: tuple[str, ...] = ()

    @property
    def thing(self) -> str:
        """The route in ip(8)'s words, or the rule that decided without one."""
        if self.route is not None:
            return str(self.route)
        return str(self.policy) if self.policy is not None else "no route"


def _fits(one: SeenPolicy, dst: Address_, src: Address_ | None, mark: int, iif: str, oif: str) -> bool:
    def within(net: Network_ | None, address: Address_ | None) -> bool:
        return net is None or (address is not None and address.version == net.version and address in net)

    value, mask = one.mark
    fits = (
        within(one.dst, dst)
        and within(one.src, src)
        and mark & mask == value & mask
        and (not one.iif or one.iif == iif)
        and (not one.oif or one.oif == oif)
    )
    return fits != one.negate


def _in_table(space: Space, table: int, dst: Address_, oif: str, least: int) -> SeenRoute | None:
    """The longest prefix, then the lowest metric, among routes that can be used."""
    for route in space.routes.get((dst.version, table), ()):
        if route.dead or route.dst.prefixlen <= least or dst not in route.dst:
            continue
        if oif and route.ways and all(link != oif for link, _ in route.ways):
            continue
        return route
    return None


def lookup(
    space: Space,
    dst: Address_,
    *,
    src: Address_ | None = None,
    mark: int = 0,
    iif: str = LOOPBACK,
    oif: str = "",
) -> Lookup:
    """Ask the rules and tables of a namespace. iif: by which link it came; oif: the only link it may leave by."""
    skipped: list[str] = []
    for policy in space.policies:
        if policy.version != dst.version or not _fits(policy, dst, src, mark, iif, oif):
            continue
        if policy.unknown or policy.action not in ("lookup", *NOWHERE):
            skipped.append(str(policy))
            continue
        if policy.action in NOWHERE:
            return Lookup(policy.action, policy=policy, skipped=tuple(skipped))
        route = _in_table(space, policy.table, dst, oif, policy.suppress)
        if route is None or route.kind == "throw":
            continue
        link, via = next((way for way in route.ways if not oif or way[0] == oif), ("", None))
        source = src or route.source or choose_source(space, dst, link, via)
        if route.kind == "local":
            link = LOOPBACK
            source = src or route.source or _to_itself(dst)
        return Lookup(route.kind, link, via, source, route, policy, tuple(skipped))
    return Lookup("none", skipped=tuple(skipped))


def _to_itself(dst: Address_) -> Address_:
    """A local destination is talked to from itself, whichever of the addresses it is (fib_select_default, RFC 6724)."""
    return dst


def choose_source(space: Space, dst: Address_, link: str, via: Address_ | None) -> Address_ | None:
    """Return the address that the kernel sends from out of a link (inet_select_addr; RFC 6724 rules 1, 2, 6 and 8)."""
    there = [one for one in space.addresses_on(link, dst.version) if one.usable]
    if dst.version == 4:
        near = via if via is not None and via.version == 4 else dst
        fitting = [one for one in there if near in one.address.network and not one.secondary]
        scoped = [one for one in fitting or there if not one.address.ip.is_loopback] or there
        if scoped:
            return scoped[0].address.ip
        others = [one for one in space.addresses if one.address.version == 4 and not one.address.ip.is_loopback]
        return others[0].address.ip if others else None
    if (own := space.owner(dst)) is not None and own.usable:
        return dst
    if dst.is_link_local:
        return next((one.address.ip for one in there if one.address.ip.is_link_local), None)
    wide = [one for one in there if not one.address.ip.is_link_local]
    wide = wide or [
        one
        for one in space.addresses
        if one.address.version == 6
        and one.usable
        and not one.address.ip.is_link_local
        and not one.address.ip.is_loopback
    ]
    if wide:
        return max(wide, key=lambda one: _common(one.address.ip, dst)).address.ip
    return next((one.address.ip for one in there), None)


def _common(one: Address_, other: Address_) -> int:
    """How many leading bits two addresses share."""
    return one.max_prefixlen - (int(one) ^ int(other)).bit_length()
