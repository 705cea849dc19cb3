"""What one endpoint, and each of its published ports, should hold in the kernel: a fragment, whatever else is there."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

from nsbridge.desired.guard import guard_elements
from nsbridge.errors import InvalidIntent
from nsbridge.firewall.ruleset import Element
from nsbridge.model.names import ALIAS, PORT_GROUP, TABLE
from nsbridge.state.things import HOST, Address, Link, Route, Sysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.model.endpoint import Endpoint, PublishedPort
    from nsbridge.model.network import Network
    from nsbridge.state.things import Address_, Network_, Thing

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


def endpoint_things(network: Network, endpoint: Endpoint, *, mtu: int, bridge_index: int) -> tuple[Thing, ...]:
    """Return the pair, the addresses, the routes and the settings of one endpoint, without its ports.

    mtu: bytes. bridge_index: the ifindex of the network's bridge, which names the link group of its ports.
    """
    netns, name = endpoint.netns, endpoint.ifname
    settings = f"net/ipv6/conf/{name}/"
    found: list[Thing] = [*guard_elements(network, endpoint), *_pair(network, endpoint, mtu, bridge_index)]
    if network.subnet(6) is None:
        found.append(
            Sysctl(netns, settings + "disable_ipv6", "1", why="an IPv4 network: no autoconf floods the bridge")
        )
    else:
        found.append(Sysctl(netns, settings + "accept_ra", "0", why="addresses are given, not advertised"))
        found.append(Sysctl(netns, settings + "accept_dad", "0", why="a lease is exclusive: usable at once"))
    if not endpoint.gateway and network.subnet(4) is not None:
        # The default route is elsewhere, so a strict filter would refuse what comes here from afar.
        found.append(Sysctl(netns, f"net/ipv4/conf/{name}/rp_filter", "2", why="S23: several networks, loose filter"))
    for address in endpoint.addresses:
        found.append(Address(netns, name, address, why=f"address of {endpoint.name!r} on {network.name!r}"))
        subnet = network.subnet(address.version)
        if endpoint.gateway and not network.internal and subnet is not None:
            found.append(
                Route(
                    netns,
                    EVERYWHERE[address.version],
                    name,
                    via=subnet.gateway_address,
                    why=f"the way out of {network.name!r}",
                )
            )
    return tuple(found)


def _target(endpoint: Endpoint, version: int) -> Address_ | None:
    address = endpoint.address(version)
    return None if address is None else address.ip


def port_things(network: Network, endpoint: Endpoint, port: PublishedPort) -> tuple[Element, ...]:
    """Return the map elements of one published port: one a family, or one for the address it is bound to.

    InvalidIntent when the network is internal, or when the endpoint has no address of that family.
    """
    if network.internal:
        raise InvalidIntent(
            f"port {port.target} of {endpoint.name!r} can't be published: network {network.name!r} is internal",
            fix="publish it on a network that isn't, or make this one not internal",
        )
    found: list[Element] = []
    for version in (4, 6):
        bound = port.host_ip
        if bound is not None and bound.version != version:
            continue
        target = _target(endpoint, version)
        if target is None:
            continue
        if network.gateway_mode(version) == "routed":
            # Reached at its own address, so the host's port and address don't matter (as with Docker).
            said = f"{port.target}/{port.proto} of {endpoint.name!r}, without NAT"
            found.append(Element(TABLE, f"routed{version}", (target, port.proto, port.target), why=said))
            continue
        everywhere = bound is None or bound.is_unspecified
        key = (port.proto, port.host_port) if everywhere else (bound, port.proto, port.host_port)
        name = f"publish{version}" if everywhere else f"bound{version}"
        found.append(Element(TABLE, name, key, (target, port.target), why=f"{port} of {endpoint.name!r}"))
    if not found:
        raise InvalidIntent(
            f"port {port} of {endpoint.name!r} can't be published: it has no IPv{port.host_ip.version} address"
            if port.host_ip is not None
            else f"port {port} of {endpoint.name!r} can't be published: it has no address",
            fix="give the network a subnet of that family, or publish on an address of the other",
        )
    return tuple(found)


def ports_things(network: Network, endpoint: Endpoint) -> tuple[Element, ...]:
    """Return the map elements of all the endpoint's published ports."""
    return tuple([element for port in endpoint.ports for element in port_things(network, endpoint, port)])
