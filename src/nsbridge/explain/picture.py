"""What a picture shows: the world, the host's uplinks, bridges, namespaces, and who is plugged in where.

The same values for what is up and for a file that isn't; renderers (svg, graphs, tree) read nothing else. A way is
drawn on top: the stops of one packet, made from the hops of a path (explain/path.py) or by whoever knows it.
"""

from __future__ import annotations

from nsbridge.explain.command import space
from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsbridge.model.endpoint import Endpoint, PublishedPort
    from nsbridge.model.network import Network
    from nsbridge.state.things import Interface_

WORLD = "world"
"""Where a stop is that is outside of all we see."""


class Uplink(Value):
    """A link of the host that leads to the world, with its addresses."""

    name: str
    addresses: tuple[Interface_, ...] = ()


class Stop(Value):
    """Where a packet is. at: a namespace (path), "" for the host, or `WORLD`.

    said: what it looks like there, or ends as. why: what made it so. link: the interface of that namespace by which it
    leaves or came.
    """

    at: str
    said: str
    why: str = ""
    link: str = ""

    @property
    def text(self) -> str:
        """Both in a line."""
        return f"{self.said} ({self.why})" if self.why else self.said


class Picture(Value):
    """What there is to draw. way: the stops of a packet in their order."""

    title: str
    uplinks: tuple[Uplink, ...]
    networks: tuple[Network, ...]
    endpoints: tuple[Endpoint, ...]
    way: tuple[Stop, ...] = ()

    @property
    def spaces(self) -> tuple[str, ...]:
        """Namespaces (paths), those that share networks side by side."""
        order = [network.name for network in self.networks]
        places: dict[str, list[int]] = {}
        for endpoint in self.endpoints:
            places.setdefault(endpoint.netns, []).append(order.index(endpoint.network))
        return tuple(sorted(places, key=lambda path: sum(places[path]) / len(places[path])))

    def along(self, way: Iterable[Stop]) -> Picture:
        """Return the picture with a way on it; a namespace that isn't drawn is of the world."""
        drawn = {"", *self.spaces}
        return self.replace(way=tuple(one if one.at in drawn else one.replace(at=WORLD) for one in way))

    def within(self, path: str) -> tuple[Endpoint, ...]:
        """Return the endpoints of a namespace in the order of their networks."""
        order = [network.name for network in self.networks]
        mine = [endpoint for endpoint in self.endpoints if endpoint.netns == path]
        return tuple(sorted(mine, key=lambda endpoint: order.index(endpoint.network)))

    def on(self, network: Network) -> tuple[Endpoint, ...]:
        """Return the endpoints of a network in the order of their namespaces."""
        spaces = self.spaces
        mine = [endpoint for endpoint in self.endpoints if endpoint.network == network.name]
        return tuple(sorted(mine, key=lambda endpoint: spaces.index(endpoint.netns)))

    def name_of(self, path: str) -> str:
        """Return what to call a namespace: its endpoint's name, as long as all of them agree."""
        names = {endpoint.name for endpoint in self.endpoints if endpoint.netns == path}
        return names.pop() if len(names) == 1 else space(path)


def port_text(port: PublishedPort) -> str:
    """``8088 → 80``, ``127.0.0.1:53 → 53/udp``, ``up0:3000-3005``: as short as it can be and still be told apart."""
    numbers = port.host_text.rpartition(":")
    where = "" if port.host_ip is None and not port.interface else f"{numbers[0]}:"
    inner = "" if numbers[2] == port.target_text else f" → {port.target_text}"
    proto = "" if port.proto == "tcp" else f"/{port.proto}"
    return f"{where}{numbers[2]}{inner}{proto}" + (", shared" if port.share else "")


def ports_of(endpoints: Iterable[Endpoint]) -> tuple[PublishedPort, ...]:
    """Return all published ports of some endpoints."""
    return tuple([port for endpoint in endpoints for port in endpoint.ports])


def way_out(network: Network) -> str:
    """Say in a word how packets of a network leave the host; empty when they don't."""
    if network.internal:
        return ""
    if network.driver != "bridge":
        return network.driver
    if network.unmanaged:
        return "as its owner has it"
    hides = network.masquerade and any(
        network.gateway_mode(one.network.version) in ("nat", "nat-unprotected") for one in network
    )
    return "NAT" if hides else "routed"


def nature(network: Network) -> str:
    """Say in a few words what is special about a network."""
    said = []
    if network.driver != "bridge":
        said.append(f"{network.driver} on {network.ifname}")
    elif network.unmanaged:
        said.append("somebody else's bridge")
    if network.internal:
        said.append("internal")
    if not network.icc:
        said.append("no talk between neighbours")
    if network.policy != "allow":
        said.append(f"policy: {network.policy}")
    return ", ".join(said)


def gateways(network: Network) -> tuple[str, ...]:
    """Return the addresses of a network's bridge, or its subnets where the bridge has none."""
    if network.unmanaged and network.driver != "bridge":
        return tuple(str(one.network) for one in network)
    return tuple(
        str(one.gateway_interface if network.has_gateway(one.network.version) else one.network) for one in network
    )
