"""What a service that doesn't exist yet will hold: what `up` would make, with the addresses it would get."""

from __future__ import annotations

from nsbridge.desired.endpoint import endpoint_things
from nsbridge.desired.ports import ports_things
from nsbridge.engine import services
from nsbridge.model.endpoint import Endpoint
from nsbridge.model.names import mac_for
from nsbridge.model.network import interface
from nsbridge.state.things import Netns
from nsbridge.store import leases

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsbridge.engine.host import Host
    from nsbridge.model.network import Network, Subnet
    from nsbridge.model.service import Service
    from nsbridge.state.things import Address_, Thing


LINK_LOCAL = {4: 16, 6: 64}
"""Prefix lengths of link-local addresses: RFC 3927, RFC 4291 §2.5.6."""


class Promised:
    """The addresses that services which don't exist yet would get, one service after another."""

    def __init__(self, host: Host) -> None:
        self._root = host.store.root
        self._given: set[Address_] = set()
        self._free: dict[tuple[str, int], Iterator[Address_]] = {}

    def take(self, network: Network, subnet: Subnet, asked: Address_ | None, name: str) -> Address_:
        """Promise the address that is asked for, or the next free one; the subnet's own when it is full."""
        asked = asked or leases.hinted(self._root, network, subnet, name)
        key = network.name, subnet.network.version
        if asked is None and key not in self._free:
            self._free[key] = leases.free(self._root, network, subnet)
        free = (address for address in self._free.get(key, ()) if address not in self._given)
        found = asked or next(free, subnet.network.network_address)
        self._given.add(found)
        return found


def foreseen(host: Host, service: Service, known: dict[str, Network], promised: Promised) -> tuple[Thing, ...]:
    """Return what a service that doesn't exist yet will hold, with the addresses it would get now."""
    found: list[Thing] = [Netns(service.netns)] if service.mode in ("", "none") else []
    inside = services.ifnames(service)
    for place, attachment in enumerate(service.attachments):
        network = known.get(attachment.network)
        if network is None:
            continue
        asked = {4: attachment.ipv4, 6: attachment.ipv6}
        addresses = []
        for subnet in network.subnets:
            address = promised.take(network, subnet, asked[subnet.network.version], service.name)
            addresses.append(interface(address, subnet.network.prefixlen))
        for more in attachment.also:
            home = network.subnet(more.version)
            own = LINK_LOCAL[more.version] if more.is_link_local or home is None else home.network.prefixlen
            addresses.append(interface(more, own))
        first = str(addresses[0].ip) if addresses else ""
        endpoint = Endpoint(
            network.name,
            service.name,
            service.netns,
            ifname=inside[place],
            addresses=tuple(addresses),
            mac=attachment.mac or mac_for(network.name, service.name, first),
            ports=service.ports if place == service.main else (),
            gateway=place == service.main,
            host_name=attachment.host_ifname,
            limits=attachment.limits,
            vlan=attachment.vlan,
        )
        index = host.kernel.link_index(network.ifname)
        found += endpoint_things(network, endpoint, mtu=network.mtu, bridge_index=index)
        found += ports_things(network, endpoint)
    return tuple(found)
