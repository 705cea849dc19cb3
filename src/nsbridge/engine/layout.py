"""A whole topology as values: what stands on this host now, or what a file would make of it.

For those who tell and draw: transcripts, scripts, pictures. `up` decides by itself (topology.py), because it is about
what differs; here everything is there, as if the host had none of it.
"""

from __future__ import annotations

from nsbridge.desired.endpoint import endpoint_things
from nsbridge.desired.network import host_things, network_things
from nsbridge.desired.policy import policy_elements
from nsbridge.desired.ports import Member, SharedPort, bound_by_default, ports_things, turns_things
from nsbridge.engine import networks, policies, shared
from nsbridge.engine.foreseen import Promised, foreseen_endpoints
from nsbridge.explain.picture import Uplink
from nsbridge.model.names import PORT_GROUP, is_ours
from nsbridge.state.things import Link, Netns
from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsbridge.engine.host import Host
    from nsbridge.kernel.interface import HostFacts
    from nsbridge.model.endpoint import Endpoint, PublishedPort
    from nsbridge.model.network import Network
    from nsbridge.model.policy import Party
    from nsbridge.model.service import Service, Topology
    from nsbridge.state.things import Network_, Thing


class Layout(Value):
    """Networks, endpoints, and everything they hold in the kernel.

    made: namespaces (paths) that are ours to make; endpoints may be in others, too.
    """

    networks: tuple[Network, ...]
    endpoints: tuple[Endpoint, ...]
    made: tuple[str, ...]
    things: tuple[Thing, ...]

    @property
    def strange(self) -> tuple[str, ...]:
        """Namespaces (paths) of others."""
        paths = dict.fromkeys(endpoint.netns for endpoint in self.endpoints)
        return tuple(path for path in paths if path not in self.made)


def standing(host: Host) -> Layout:
    """Return what is up on this host, of all projects and of none."""
    known = host.store.networks()
    endpoints = host.store.endpoints()
    services = [record.service for record in host.store.services()]
    made = _own_namespaces(services)
    things = [*_shared_by_all(host, known, host.kernel.facts())]
    things += _all_things(known, endpoints, made)
    things += shared.things(host.store)
    things += policies.elements(host)
    return Layout(known, endpoints, made, _without_indexes(things))


def planned(host: Host, topology: Topology) -> Layout:
    """Return what a file describes, whether it is up or not: what is, keeps the addresses that it has.

    NotFound for an external network that isn't there; Taken and Exhausted as `up` would raise them.
    """
    facts = host.kernel.facts()
    known: dict[str, Network] = {}
    for wanted in topology.networks:
        have = host.store.network_or_none(wanted.name)
        same = have is not None and networks.filled(wanted, have) == have
        known[wanted.name] = have if same and have else networks.chosen(host, wanted, facts, known.values())
    known |= {name: host.store.network(name) for name in topology.external}
    services = topology.started_order()
    endpoints = _endpoints(host, services, known)
    made = _own_namespaces(services)
    mine = tuple(known.values())
    things = [*_shared_by_all(host, mine, facts), *_all_things(mine, endpoints, made)]
    things += [element for one in _shares(endpoints) for element in turns_things(one)]
    things += policy_elements(topology.policy, lambda party: _addresses(party, known, endpoints))
    return Layout(mine, endpoints, made, _without_indexes(things))


def uplinks(host: Host) -> tuple[Uplink, ...]:
    """Return the links by which this host reaches the world."""
    found = []
    for name in host.kernel.facts().uplinks:
        link = host.kernel.link_facts(name)
        addresses = link.addresses if link is not None else ()
        found.append(Uplink(name, tuple(one for one in addresses if not one.is_link_local)))
    return tuple(found)


def _own_namespaces(services: Iterable[Service]) -> tuple[str, ...]:
    return tuple([service.netns for service in services if service.mode in ("", "none")])


def _shared_by_all(host: Host, known: tuple[Network, ...], facts: HostFacts) -> tuple[Thing, ...]:
    return host_things(known, facts, host.store.host().things)


def _all_things(known: Iterable[Network], endpoints: Iterable[Endpoint], made: Iterable[str]) -> list[Thing]:
    found: list[Thing] = [Netns(path) for path in made]
    by_name = {network.name: network for network in known}
    for network in known:
        found += network_things(network, network.mtu)
    for endpoint in endpoints:
        network = by_name[endpoint.network]
        found += endpoint_things(network, endpoint, mtu=network.mtu, bridge_index=0)
        found += ports_things(network, endpoint)
    return found


def _without_indexes(things: Iterable[Thing]) -> tuple[Thing, ...]:
    """Return things with groups that count from no index: a bridge has another one wherever it is made."""
    return tuple(
        [
            thing.replace(group=PORT_GROUP)
            if isinstance(thing, Link) and is_ours(thing.group) and thing.master
            else thing
            for thing in things
        ]
    )


# ------------------------------------------------------------------ what isn't up yet


def _endpoints(host: Host, services: Iterable[Service], known: dict[str, Network]) -> tuple[Endpoint, ...]:
    """Return the endpoints there are, and those that there would be, with the ports that the file gives them."""
    promised = Promised(host)
    found: list[Endpoint] = []
    for service in services:
        record = host.store.service_or_none(service.name)
        there = record is not None and record.service.replace(ports=service.ports) == service
        mine = host.store.endpoints(name=service.name) if there else foreseen_endpoints(host, service, known, promised)
        order = [attachment.network for attachment in service.attachments]
        for endpoint in sorted(mine, key=lambda one: order.index(one.network)):
            network = known[endpoint.network]
            kept = {_asked(port): port for port in endpoint.ports} if there else {}
            main = endpoint.network == service.main_network
            ports = [bound_by_default(network, port) for port in service.ports] if main else []
            chosen = [kept.get(_asked(port)) or _settled(host, port) for port in ports]
            found.append(endpoint.replace(ports=tuple(chosen)))
    return tuple(found)


def _asked(port: PublishedPort) -> tuple[object, ...]:
    return port.proto, port.target, port.count, port.host_ip, port.interface, port.share


def _settled(host: Host, port: PublishedPort) -> PublishedPort:
    """The port with what `up` would choose for it now."""
    number = port.host_port or host.kernel.free_port(port.proto)
    own = host.kernel.addresses_of(port.interface) if port.interface else ()
    return port.replace(host_port=number, choices=1, own=own)


def _shares(endpoints: Iterable[Endpoint]) -> list[SharedPort]:
    found: dict[tuple[str, int], SharedPort] = {}
    for endpoint in endpoints:
        for port in endpoint.ports:
            if not port.share:
                continue
            have = found.get((port.proto, port.host_port)) or SharedPort(port.proto, port.host_port, port.host_ip)
            addresses = tuple(address.ip for address in endpoint.addresses)
            member = Member(endpoint.network, endpoint.name, port.target, addresses)
            found[port.proto, port.host_port] = have.replace(members=(*have.members, member))
    return list(found.values())


def _addresses(party: Party, known: dict[str, Network], endpoints: Iterable[Endpoint]) -> tuple[Network_, ...]:
    """As policies.py resolves a party, of a topology that may not be up."""
    if party.kind == "address":
        return party.nets
    if party.kind == "network":
        network = known.get(party.name)
        return tuple([subnet.network for subnet in network.subnets]) if network else ()
    mine = [endpoint for endpoint in endpoints if endpoint.name == party.name]
    return tuple([net for endpoint in mine for net in policies.addresses_of(endpoint)])
