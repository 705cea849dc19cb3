"""What networks and services that don't exist yet will hold: what `up` would make, with what it would choose."""

from __future__ import annotations

from nsbridge.desired.endpoint import endpoint_things
from nsbridge.desired.leading import shares
from nsbridge.desired.network import network_things
from nsbridge.desired.ports import ports_things
from nsbridge.engine import networks, services
from nsbridge.model.endpoint import Endpoint
from nsbridge.model.names import mac_for
from nsbridge.model.network import interface
from nsbridge.plan.diff import adding
from nsbridge.plan.step import Plan
from nsbridge.state.things import Netns
from nsbridge.store import leases

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsbridge.engine.host import Host
    from nsbridge.model.network import Network, Subnet
    from nsbridge.model.service import Service, Topology
    from nsbridge.plan.step import Step
    from nsbridge.state.things import Address_, Thing


def foreseen_networks(host: Host, topology: Topology) -> dict[str, Network]:
    """Return a file's networks as they are, or as they would be made one after the other."""
    found: dict[str, Network] = {}
    facts = None
    for network in topology.networks:
        have = host.store.network_or_none(network.name)
        if have is None:
            facts = facts or host.kernel.facts()
            have = networks.chosen(host, network, facts, found.values())
        found[network.name] = have
    return found


def network_steps(host: Host, network: Network, before: tuple[Network, ...]) -> tuple[Step, ...]:
    """Return the steps that make a network, and what is to be shared on the host because of it.

    before: networks that are made before this one, and do their part of that.
    """
    facts, there = host.kernel.facts(), host.store.networks()
    _, shared = networks.shared_steps(host, (*there, *before, network), facts)
    _, promised = networks.shared_steps(host, (*there, *before), facts) if before else (None, Plan())
    done = {thing.identity for step in promised.steps for thing in step.things}
    left = [step.replace(things=tuple(one for one in step.things if one.identity not in done)) for step in shared.steps]
    return (*[step for step in left if step.things], *adding(network_things(network, network.mtu)))


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


def foreseen_endpoints(
    host: Host, service: Service, known: dict[str, Network], promised: Promised
) -> tuple[Endpoint, ...]:
    """Return the endpoints of a service that doesn't exist yet, with the addresses they would get now."""
    found: list[Endpoint] = []
    inside = services.ifnames(service)
    on = {one.network: known[one.network] for one in service.attachments if one.network in known}
    gateways = shares(on.values(), service)
    for place, attachment in enumerate(service.attachments):
        network = on.get(attachment.network)
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
            gateway=gateways[network.name],
            service=service.name,
            project=service.project,
            host_name=attachment.host_ifname,
            limits=attachment.limits,
            vlan=attachment.vlan,
        )
        found.append(endpoint)
    return tuple(found)


def foreseen(host: Host, service: Service, known: dict[str, Network], promised: Promised) -> tuple[Thing, ...]:
    """Return what a service that doesn't exist yet will hold."""
    found: list[Thing] = [Netns(service.netns)] if service.mode in ("", "none") else []
    for endpoint in foreseen_endpoints(host, service, known, promised):
        network = known[endpoint.network]
        index = host.kernel.link_index(network.ifname)
        found += endpoint_things(network, endpoint, mtu=network.mtu, bridge_index=index)
        found += ports_things(network, endpoint)
    return tuple(found)
