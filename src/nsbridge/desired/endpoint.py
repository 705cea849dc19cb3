"""What one endpoint should hold in the kernel: a fragment, whatever else is there. Its ports are in `ports`."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

from nsbridge.desired.guard import guard_elements
from nsbridge.errors import InvalidIntent
from nsbridge.model.names import ALIAS, PORT_GROUP, route_table, wire_group
from nsbridge.model.network import DRIVERS
from nsbridge.state.things import HOST, Address, Link, Route, RoutingRule, Shaper, Sysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.model.endpoint import Endpoint
    from nsbridge.model.network import Network
    from nsbridge.state.things import Network_, Thing

EVERYWHERE: dict[int, Network_] = {4: IPv4Network("0.0.0.0/0"), 6: IPv6Network("::/0")}
"""The destination of a default route, by IP version."""


def _pair(network: Network, endpoint: Endpoint, mtu: int, bridge_index: int) -> tuple[Link, Link]:
    """Both ends of the pair; the host's one creates both."""
    v6 = network.subnet(6) is not None
    outer = Link(
        HOST,
        endpoint.host_ifname,
        "veth",
        group=PORT_GROUP + bridge_index,
        master=network.ifname,
        mtu=mtu,
        peer_netns=endpoint.netns,
        peer_name=endpoint.ifname,
        # Needed for an endpoint's own published port once br_netfilter shows bridged packets to the NAT rules.
        hairpin=True,
        # S16: frames between ports meet our rules only where br_netfilter shows them, so the bridge itself is told.
        # Where our second table can tell what else may pass, it keeps neighbours apart (desired/guard.py).
        isolated=not network.icc and not network.guarded,
        autoconf=False,
        vlan=endpoint.vlan or network.vlan,
        alias=f"{ALIAS}: {endpoint.name} on {network.name}",
        why=f"port of {endpoint.name!r} on the bridge of {network.name!r}",
    )
    inner = Link(
        endpoint.netns,
        endpoint.ifname,
        "veth",
        mac=endpoint.mac,
        mtu=mtu,
        autoconf=v6,
        why=f"interface of {endpoint.name!r} on network {network.name!r}",
    )
    return outer, inner


def _on_the_wire(network: Network, endpoint: Endpoint, mtu: int) -> Link:
    """A link of its own on the host's: no other end on the host, so its mark is inside."""
    if endpoint.limits.ingress:
        raise InvalidIntent(
            f"what {endpoint.name!r} receives can't be bounded: a {network.driver} has no end on the host",
            fix="bound its egress, or use a bridge",
        )
    return Link(
        endpoint.netns,
        endpoint.ifname,
        network.driver,
        group=wire_group(network.name, endpoint.name),
        mac="" if network.driver == "ipvlan" else endpoint.mac,
        mtu=mtu,
        autoconf=network.subnet(6) is not None,
        mode=network.mode or DRIVERS[network.driver][0],
        parent=network.ifname,
        why=f"interface of {endpoint.name!r} on the wire of {network.ifname!r}",
    )


def _settings(network: Network, endpoint: Endpoint) -> list[Sysctl]:
    """What the interface is told before it goes up."""
    netns, settings = endpoint.netns, f"net/ipv6/conf/{endpoint.ifname}/"
    found = []
    if network.subnet(6) is None:
        found.append(
            Sysctl(netns, settings + "disable_ipv6", "1", why="an IPv4 network: no autoconf floods the bridge")
        )
    else:
        found.append(Sysctl(netns, settings + "accept_ra", "0", why="addresses are given, not advertised"))
        found.append(Sysctl(netns, settings + "accept_dad", "0", why="a lease is exclusive: usable at once"))
    if 4 not in endpoint.gateway and network.subnet(4) is not None:
        key = f"net/ipv4/conf/{endpoint.ifname}/rp_filter"
        found.append(Sysctl(netns, key, "2", why="S23: one of several networks, so what comes may come by another way"))
    return found


def _ways(network: Network, endpoint: Endpoint) -> list[Route | RoutingRule]:
    """The default route, or the way back of what came by a network that doesn't hold it; and the network's routes."""
    netns, name = endpoint.netns, endpoint.ifname
    found: list[Route | RoutingRule] = []
    for subnet in () if network.internal else network.subnets:
        version = subnet.network.version
        mine = [each for each in endpoint.addresses if each.version == version and each.ip in subnet.network]
        if not mine:
            continue
        gateway = subnet.gateway_address
        own = 0 if version in endpoint.gateway else route_table(name)
        why = f"the way out of {network.name!r}"
        if own:
            why = f"what has an address of {network.name!r} leaves there, wherever the default route leads"
            found += [
                RoutingRule(netns, (IPv4Network if version == 4 else IPv6Network)(each.ip), own, why=why)
                for each in mine
            ]
            found.append(Route(netns, subnet.network, name, table=own, why=why))
        found.append(Route(netns, EVERYWHERE[version], name, via=gateway, table=own, why=why))
    for route in network.routes:
        subnet_ = network.subnet(route.dst.version)
        if route.kind != "unicast":
            found.append(
                Route(netns, route.dst, "", metric=route.metric, kind=route.kind, why="a route of the network")
            )
        elif subnet_ is not None:
            via = route.via or subnet_.gateway_address
            found.append(Route(netns, route.dst, name, via, route.metric, why=f"a route of network {network.name!r}"))
    return found


def _shapers(endpoint: Endpoint) -> list[Shaper]:
    limits, found = endpoint.limits, []
    if limits.ingress:
        why = f"what {endpoint.name!r} receives"
        found.append(Shaper(HOST, endpoint.host_ifname, limits.ingress, why=why))
    if limits.egress or limits.impairs:
        rates = (limits.egress, limits.delay, limits.jitter, limits.loss)
        found.append(Shaper(endpoint.netns, endpoint.ifname, *rates, why=f"what {endpoint.name!r} sends"))
    return found


def endpoint_things(network: Network, endpoint: Endpoint, *, mtu: int, bridge_index: int) -> tuple[Thing, ...]:
    """Return the pair, the addresses, the routes, the settings and the limits of one endpoint, without its ports.

    mtu: bytes. bridge_index: the ifindex of the network's bridge, which names the link group of its ports.
    """
    found: list[Thing] = list(_settings(network, endpoint))
    if network.driver == "bridge":
        found[:0] = [*guard_elements(network, endpoint), *_pair(network, endpoint, mtu, bridge_index)]
    else:
        found[:0] = [_on_the_wire(network, endpoint, mtu)]
    found += [
        Address(endpoint.netns, endpoint.ifname, address, why=f"address of {endpoint.name!r} on {network.name!r}")
        for address in endpoint.addresses
    ]
    return (*found, *_ways(network, endpoint), *_shapers(endpoint))
