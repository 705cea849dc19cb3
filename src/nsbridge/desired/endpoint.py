"""What one endpoint should hold in the kernel: a fragment, whatever else is there. Its ports are in `ports`."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

from nsbridge.desired.guard import guard_elements
from nsbridge.model.names import ALIAS, PORT_GROUP
from nsbridge.state.things import HOST, Address, Link, Route, Sysctl

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
