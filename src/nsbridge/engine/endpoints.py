"""Attaching namespaces to networks and publishing their ports: each touches its own fragment and no more."""

from __future__ import annotations

from errno import EEXIST, ENODEV, ENOENT

from nsbridge import codec
from nsbridge.desired.endpoint import endpoint_things
from nsbridge.desired.ports import bound_by_default, held_by_none, ports_things
from nsbridge.engine import addresses, names, networks, policies
from nsbridge.engine.entries import Began, Hidden, Leased, Led, Left, Put, Turned
from nsbridge.engine.ports import check_possible, publish_things
from nsbridge.errors import InUse, InvalidIntent, KernelError, NotFound, Taken
from nsbridge.firewall.ruleset import Element
from nsbridge.model.endpoint import Endpoint
from nsbridge.model.names import mac_for
from nsbridge.model.service import Attachment
from nsbridge.plan.diff import adding, removing
from nsbridge.state.things import Link, Route
from nsbridge.store import hosts
from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsbridge.engine.entries import Entry
    from nsbridge.engine.host import Host
    from nsbridge.engine.journal import Operation
    from nsbridge.model.endpoint import PublishedPort
    from nsbridge.model.network import Network
    from nsbridge.model.service import Service
    from nsbridge.state.things import Thing

LAST_IFNAME = 9
"""Without a name asked for, eth0 to eth9 are tried in turn."""


class Wish(Value):
    """What is asked of a new endpoint; what is None or empty is chosen.

    netns: path of the namespace. gateway: the IP versions whose default route it holds, None for those without one yet.
    The last four say whose it is: a service's namespace of our own, or one that somebody else made. Who connects
    leaves them out: whether the namespace is a service's is looked up (`_of_service`).
    """

    name: str
    netns: str
    to: Attachment
    ifname: str = ""
    ports: tuple[PublishedPort, ...] = ()
    gateway: tuple[int, ...] | None = None
    owned: bool = False
    hostname: str = ""
    service: str = ""
    project: str = ""


def _record(endpoint: Endpoint) -> str:
    return codec.dumps(endpoint) + "\n"


def _netns_id(host: Host, path: str) -> int:
    inode = host.kernel.netns_id(path)
    if not inode:
        raise NotFound(
            f"there is no network namespace at {path}", fix="name one of `ip netns`, a path, or a running PID"
        )
    return inode


def _check_name_free(host: Host, network: Network, name: str) -> None:
    there = host.store.endpoint(network.name, name)
    if there is not None:
        raise Taken(
            f"there is an endpoint {name!r} on network {network.name!r} already (namespace {there.netns})",
            fix=f"choose another --name, or `nsbridge disconnect {network.name} {name}` first",
        )


def _named(wish: Wish, network: Network, inode: int) -> Endpoint:
    return Endpoint(
        network.name,
        wish.name,
        wish.netns,
        netns_id=inode,
        ifname=wish.ifname or wish.to.ifname or "eth0",
        aliases=wish.to.aliases,
        gateway=network.versions if wish.gateway is None else wish.gateway,
        owned=wish.owned,
        hostname=wish.hostname,
        service=wish.service,
        project=wish.project,
        host_name=wish.to.host_ifname,
        limits=wish.to.limits,
        vlan=wish.to.vlan,
    )


def _link_up(host: Host, op: Operation, network: Network, endpoint: Endpoint, wish: Wish) -> Endpoint:
    """Make the pair and configure the namespace; where a name or route was left to us, give way to what is there."""
    if wish.to.host_ifname and host.kernel.link_index(wish.to.host_ifname):
        raise Taken(
            f"there is an interface {wish.to.host_ifname!r} on this host already", fix="choose another --host-ifname"
        )
    index = host.kernel.link_index(network.ifname)
    number = 0
    while True:
        if number:
            endpoint = endpoint.replace(ifname=f"eth{number}")
        things = endpoint_things(network, endpoint, mtu=network.mtu, bridge_index=index)
        done: list[Thing] = []
        try:
            for step in adding(things):
                op.step(step)
                done += step.things
        except KernelError as err:
            if err.errno != EEXIST:
                raise
            if isinstance(err.thing, Link) and not (wish.ifname or wish.to.ifname) and number < LAST_IFNAME:
                number += 1
            elif isinstance(err.thing, Route) and wish.gateway is None and err.thing.dst.version in endpoint.gateway:
                endpoint = endpoint.leading(err.thing.dst.version, leads=False)
            else:
                raise
            for back in removing(host.kernel.find((*done, *err.done))):
                host.kernel.do(back)
        else:
            return endpoint


def attach(host: Host, op: Operation, network: Network, wish: Wish) -> Endpoint:
    """Make an endpoint as part of an operation that is under way. The caller holds the shared lock."""
    endpoint = _named(wish, network, _netns_id(host, wish.netns))
    if wish.to.vlan:
        networks.check_vlan_of(host, network, wish)
    if not op.create(host.store.endpoint_path(network.name, wish.name), _record(endpoint)):
        _check_name_free(host, network, wish.name)
    leased = addresses.lease(host, op, network, wish.to, wish.name)
    if wish.to.check_address:
        addresses.check_unused(host, network, leased)
    mac = wish.to.mac or mac_for(network.name, wish.name, addresses.first(leased))
    endpoint = endpoint.replace(addresses=leased, mac=mac)
    policies.admit(host, op, endpoint)
    endpoint = _link_up(host, op, network, endpoint, wish)
    if wish.ports:
        endpoint = endpoint.replace(ports=publish_things(host, op, network, endpoint, wish.ports))
    with hosts.lock(host.store.root, shared=True):
        op.replace(host.store.endpoint_path(network.name, wish.name), _record(endpoint))
        op.show(network.name, hosts.line(endpoint))
    host.kernel.await_link(endpoint.host_ifname)  # last: by now it is nearly always ready
    addresses.announce(host, network, endpoint)
    return endpoint


def healing(host: Host, network: str, err: KernelError) -> bool:
    """Put our table or bridge back when that is what the kernel missed; tell whether a second try makes sense."""
    lost_table = isinstance(err.thing, Element) and err.errno == ENOENT
    lost_bridge = isinstance(err.thing, Link) and err.errno == ENODEV
    if not (lost_table or lost_bridge):
        return False
    with host.lock(), host.operation(f"mend network {network}") as op:
        networks.settle(host, op, host.store.networks(), host.kernel.facts())
        for one in host.store.networks():
            for step in networks.mend(host, one):
                op.step(step)
    host.say("our rules or bridges had been removed by somebody: put back")
    return True


def _service_in(host: Host, wish: Wish, inode: int) -> Service | None:
    # Its path ends with the service's name, unless it was named by a PID. Most namespaces are no service's: that
    # costs one file that isn't there, two by a PID.
    for name in dict.fromkeys((wish.netns.rpartition("/")[2], wish.name)):
        record = host.store.service_or_none(name)
        if record is not None and record.service.mode in ("", "none"):
            service: Service = record.service
            if host.kernel.netns_id(service.netns) == inode:
                return service
    return None


def _of_service(host: Host, wish: Wish, inode: int) -> Wish:
    """Return the wish as that of the service whose namespace it is, so that the endpoint goes with the service.

    On the network that holds the service's ports they are published again, unless some are elsewhere by now.
    InvalidIntent for another name than the service's: by that nobody would find the endpoint again.
    """
    service = _service_in(host, wish, inode)
    if service is None:
        return wish
    if wish.name != service.name:
        raise InvalidIntent(
            f"namespace {wish.netns} is that of service {service.name!r}, whose endpoints are called like it, "
            f"not {wish.name!r}",
            fix=f"leave the name out; neighbours may know it as --alias {wish.name}",
        )
    ports = wish.ports
    if not ports and wish.to.network == service.main_network:
        ports = () if any(one.ports for one in host.store.endpoints(name=service.name)) else service.ports
    return wish.replace(
        netns=service.netns,
        ports=ports,
        owned=True,
        hostname=service.hostname,
        service=service.name,
        project=service.project,
    )


def _attach(host: Host, op: Operation, network: Network, wish: Wish) -> Endpoint:
    if not wish.service:
        return attach(host, op, network, wish)
    from nsbridge.engine import gateways

    return gateways.attach(host, op, network, wish)


def connect(host: Host, wish: Wish) -> Endpoint:
    """Attach a namespace to a network; return the endpoint with everything chosen.

    NotFound without such a network or namespace; Taken, PortTaken or Exhausted for names, addresses and ports;
    InvalidIntent for a service's namespace under another name.
    """
    wish = _of_service(host, wish, _netns_id(host, wish.netns))  # before a network is made for nothing
    name, to = wish.name, wish.to.network
    addresses.check_features(host, (wish.to,))
    check_possible(host, wish.ports)
    with networks.Use(host, (to,)):
        for last in (False, True):
            try:
                with (
                    networks.Ensured(host, (to,)) as there,
                    host.store.name_lock(f"{to}/{name}"),
                    host.operation(f"connect {name} to {to}") as op,
                ):
                    endpoint = _attach(host, op, there[to], wish)
                    names.refresh(host, op, endpoint, here=True)
            except KernelError as err:
                _netns_id(host, wish.netns)  # NotFound says more than what the kernel says of one that went meanwhile
                if last or not healing(host, to, err):
                    raise
            else:
                addresses.announce_again(host, there[to], endpoint)
                return endpoint
    raise AssertionError("unreachable")


def detach_entries(host: Host, endpoint: Endpoint) -> tuple[tuple[Thing, ...], list[Entry]]:
    """Return what goes from the kernel with an endpoint, and from the store."""
    network = host.store.network(endpoint.network)
    # The record before the lines: a hosts file that is just being made from the records can't bring them back.
    entries: list[Entry] = [Put(host.store.endpoint_path(network.name, endpoint.name))]
    entries.append(Hidden(network.name, hosts.line(endpoint)))
    entries += left_turns(endpoint, endpoint.ports)
    entries += [Leased(network.name, address.ip, endpoint.name) for address in endpoint.addresses]
    if addresses.has_own_mac(endpoint):
        entries += [Put(addresses.told_apart(network.name, one.ip), endpoint.mac) for one in endpoint.addresses]
    return networks.things_of(host, network, endpoint), entries


def left_turns(endpoint: Endpoint, ports: Iterable[PublishedPort]) -> list[Entry]:
    """Return what takes an endpoint off the ports that it shares."""
    return [Turned(port.proto, port.host_port, endpoint.network, endpoint.name) for port in ports if port.share]


def disconnect(host: Host, network: str, name: str) -> Endpoint:
    """Take an endpoint away; return what it was. NotFound without it. Its namespace stays.

    If it held the default route, another network of the namespace has that afterwards.
    """
    for alone in (False, True):
        with (
            networks.Use(host, (network,)),
            host.lock(shared=not alone),
            host.store.name_lock(f"{network}/{name}"),
        ):
            endpoint = find_one(host, name, network)
            after = _after(host, endpoint)
            if not alone and any(isinstance(entry, Led) for entry in after):
                continue  # another endpoint's record will change
            if endpoint.service and endpoint.ports:
                host.say(f"{len(endpoint.ports)} published ports of {name!r} go with it")
            with host.operation(f"disconnect {name} from {network}", "on") as op:
                things, entries = detach_entries(host, endpoint)
                op.finish([*map(Began, removing(things)), *entries, *after])
                names.refresh(host, op, endpoint, here=False)
            return endpoint
    raise AssertionError("unreachable")


def _after(host: Host, going: Endpoint) -> list[Entry]:
    """Return what remains to be done when an endpoint has gone: its service's names, the default route that it held."""
    entries: list[Entry] = [Left(going.service, going.network)] if going.service else []
    others = host.store.endpoints(name=going.name, besides=going.network) if going.gateway else ()
    if any(one.netns == going.netns for one in others):
        entries.append(Led(going.name, going.netns))
    return entries


def disconnect_all(host: Host, network: str, chosen: Iterable[str]) -> tuple[Endpoint, ...]:
    """Take many endpoints off a network in one operation; return what they were. NotFound, before anything goes.

    Their links go by their group, so the kernel waits for RCU once and not 20 ms for each.
    """
    with networks.Use(host, (network,)), host.lock():
        there = tuple([find_one(host, name, network) for name in dict.fromkeys(chosen)])
        with host.operation(f"disconnect {len(there)} endpoints from {network}", "on") as op:
            parts = [detach_entries(host, endpoint) for endpoint in there]
            steps = removing([thing for things, _ in parts for thing in things])
            after = [entry for endpoint in there for entry in _after(host, endpoint)]
            op.finish([*map(Began, steps), *(entry for _, entries in parts for entry in entries), *after])
            for endpoint in there:
                names.refresh(host, op, endpoint, here=False)
    return there


def find_one(host: Host, name: str, network: str = "") -> Endpoint:
    """Return the endpoint of that name; NotFound without one, InUse when it is on several networks and none is named.

    Without a network, one that holds the default route is taken before the others, that of IPv4 before that of IPv6.
    """
    found = host.store.endpoints(network, name)
    if len(found) > 1:
        gateways = [one for one in found if 4 in one.gateway] or [one for one in found if one.gateway]
        if len(gateways) == 1:
            return gateways[0]
        raise InUse(
            f"{name!r} is on networks {', '.join(endpoint.network for endpoint in found)}",
            fix="say which: --net NETWORK",
        )
    if not found:
        on = f" on network {network!r}" if network else ""
        have = ", ".join(sorted({endpoint.name for endpoint in host.store.endpoints(network)})) or "none"
        raise NotFound(f"there is no endpoint {name!r}{on} (there is: {have})", fix="see `nsbridge ps`")
    return found[0]


def publish(host: Host, name: str, ports: tuple[PublishedPort, ...], network: str = "") -> Endpoint:
    """Publish more ports of a live endpoint; return it with them, ephemeral ones chosen."""
    check_possible(host, ports)
    for last in (False, True):
        try:
            return _publish(host, name, ports, network)
        except KernelError as err:
            if last or not healing(host, network, err):
                raise
    raise AssertionError("unreachable")


def _publish(host: Host, name: str, ports: tuple[PublishedPort, ...], network: str) -> Endpoint:
    network = find_one(host, name, network).network
    with host.lock(shared=True), host.store.name_lock(f"{network}/{name}"):
        endpoint = find_one(host, name, network)
        with host.operation(f"publish {' '.join(map(str, ports))} of {name}") as op:
            fixed = publish_things(host, op, host.store.network(network), endpoint, ports)
            endpoint = endpoint.replace(ports=(*endpoint.ports, *fixed))
            op.replace(host.store.endpoint_path(network, name), _record(endpoint))
            return endpoint


def unpublish(host: Host, name: str, ports: tuple[PublishedPort, ...], network: str = "") -> Endpoint:
    """Take published ports of a live endpoint away; return it without them.

    A port is named as it was published, or by its target alone (host_port 0). NotFound when it isn't published.
    """
    network = find_one(host, name, network).network
    with host.lock(shared=True), host.store.name_lock(f"{network}/{name}"):
        endpoint = find_one(host, name, network)
        on = host.store.network(network)
        ports = tuple([bound_by_default(on, asked) if asked.host_port else asked for asked in ports])
        asked = {_called(port): port for port in ports}
        gone = [port for port in endpoint.ports if _called(port) in asked or _by_target(port) in asked]
        unknown = asked.keys() - {key(port) for port in gone for key in (_called, _by_target)}
        if unknown:
            one = asked[next(iter(unknown))]
            have = ", ".join(map(str, endpoint.ports)) or "none"
            said = str(one) if one.host_port else f"{one.target}/{one.proto}"
            raise NotFound(f"port {said} of {name!r} isn't published ({have})", fix="see `nsbridge port`")
        going = frozenset(gone)
        kept = endpoint.replace(ports=tuple(port for port in endpoint.ports if port not in going))
        things = held_by_none(on, kept, ports_things(on, endpoint.replace(ports=tuple(gone))))
        with host.operation(f"unpublish {' '.join(map(str, gone))} of {name}", "on") as op:
            path = host.store.endpoint_path(network, name)
            op.finish([*left_turns(endpoint, gone), *map(Began, removing(things)), Put(path, _record(kept))])
        return kept


def _called(port: PublishedPort) -> tuple[object, ...]:
    """A port as it is called: with its place on the host, or by its target alone."""
    if not port.host_port:
        return _by_target(port)
    return port.proto, port.target, port.host_port, port.host_ip, port.interface, port.count


def _by_target(port: PublishedPort) -> tuple[object, ...]:
    return port.proto, port.target
