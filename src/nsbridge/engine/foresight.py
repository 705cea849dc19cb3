"""What a service that doesn't exist yet will hold, told before anything is done."""

from __future__ import annotations

from ipaddress import ip_interface

from nsbridge.desired.endpoint import endpoint_things, ports_things
from nsbridge.engine import services
from nsbridge.model.endpoint import Endpoint
from nsbridge.model.names import mac_for
from nsbridge.state.things import Netns
from nsbridge.store import leases

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.engine.host import Host
    from nsbridge.model.network import Network, Subnet
    from nsbridge.model.service import Service
    from nsbridge.state.things import Address_, Thing


def foreseen(host: Host, service: Service, known: dict[str, Network], promised: set[Address_]) -> tuple[Thing, ...]:
    """Return what a service that doesn't exist yet will hold, with the addresses it would get now.

    promised: addresses that services before it would get; its own come to them.
    """
    found: list[Thing] = [Netns(service.netns)] if service.mode in ("", "none") else []
    names = services.ifnames(service)
    for place, attachment in enumerate(service.attachments):
        network = known.get(attachment.network)
        if network is None:
            continue
        asked = {4: attachment.ipv4, 6: attachment.ipv6}
        addresses = []
        for subnet in network.subnets:
            address = asked[subnet.network.version] or _next(host, network, subnet, promised, service.name)
            promised.add(address)
            addresses.append(ip_interface(f"{address}/{subnet.network.prefixlen}"))
        first = str(addresses[0].ip) if addresses else ""
        endpoint = Endpoint(
            network.name,
            service.name,
            service.netns,
            ifname=names[place],
            addresses=tuple(addresses),
            mac=attachment.mac or mac_for(network.name, service.name, first),
            ports=service.ports if place == service.main else (),
            gateway=place == service.main,
            host_name=attachment.host_ifname,
            limits=attachment.limits,
        )
        index = host.kernel.link_index(network.ifname)
        found += endpoint_things(network, endpoint, mtu=network.mtu, bridge_index=index)
        found += ports_things(network, endpoint)
    return tuple(found)


def _next(host: Host, network: Network, subnet: Subnet, promised: set[Address_], name: str) -> Address_:
    had = leases.hinted(host.store.root, network, subnet, name)
    if had is not None:
        return had
    found = leases.peek(host.store.root, network, subnet, len(promised) + 1)
    return next((address for address in found if address not in promised), subnet.network.network_address)
