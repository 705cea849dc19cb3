"""Why a packet arrives or doesn't: the question understood, the way predicted, and what the records say about it."""

from __future__ import annotations

from nsbridge.engine import asking, mend, services
from nsbridge.engine.planned import Foreseen
from nsbridge.explain import cures
from nsbridge.explain.intents import Records, better
from nsbridge.explain.path import ARRIVES, Culprit, walk
from nsbridge.explain.planned import ASSUMED, PlannedSource
from nsbridge.explain.routing import LOOPBACK
from nsbridge.explain.world import World
from nsbridge.state.things import Address, Sysctl
from nsbridge.store import leases
from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsbridge.engine.asking import Asked
    from nsbridge.engine.host import Host
    from nsbridge.explain.path import Path
    from nsbridge.model.service import Topology
    from nsbridge.state.things import Address_, Thing


class Told(Value):
    """A question and its answer."""

    asked: Asked
    path: Path


def _places(host: Host) -> Iterator[str]:
    """Namespaces in which the other end of a pair may be: those with a name, then those of our records."""
    seen = set()
    for name in asking._spaces():
        path = f"{asking.NETNS}/{name}"
        seen.add(path)
        yield path
    for endpoint in host.store.endpoints():
        if endpoint.netns not in seen:
            seen.add(endpoint.netns)
            yield endpoint.netns


def _holder(host: Host, address: Address_) -> str | None:
    """The namespace that our leases give an address to."""
    for network in host.store.networks():
        if any(address.version == one.network.version and address in one.network for one in network.subnets):
            name = leases.owner(host.store.root, network.name, address)
            endpoint = host.store.endpoint(network.name, name) if name else None
            if endpoint is not None:
                return endpoint.netns
    return None


def world_of(host: Host) -> World:
    """Return the host as it is now, read as a prediction gets to it."""
    source = host.kernel.world(lambda: _places(host), lambda address: _holder(host, address))
    return World(source)


def explain(
    host: Host, source: str, target: str, *, version: int = 0, size: int = 0, planned: Topology | None = None
) -> Told:
    """Predict what becomes of a packet ``FROM TO[:PORT][/PROTOCOL]`` and of its answer; changes nothing.

    version: 4 or 6, 0 for what both have, IPv4 first. size: of the packet, bytes, 0 for a small one. planned: a
    topology to be looked at as if it were up, with this host's links, routes and other people's rules, but without
    other networks of ours. NotFound and InvalidIntent when the question can't be understood.
    """
    world = world_of(host)
    if planned is not None:
        with Foreseen(host.kernel.facts(), planned) as foreseen:
            world = World(PlannedSource(foreseen.state, world.source))
            asked = asking.understood(foreseen.host, world, source, target, version=version, size=size)
            path = _walked(foreseen.host, world, asked)
            return Told(asked, path.replace(assumed=(*path.assumed, ASSUMED)))
    asked = asking.understood(host, world, source, target, version=version, size=size)
    return Told(asked, predict(host, world, asked))


def predict(host: Host, world: World, asked: Asked) -> Path:
    """Return the path of a question that was understood."""
    path = _walked(host, world, asked)
    return path.replace(culprit=_mendable(host, path.culprit, path))


def _walked(host: Host, world: World, asked: Asked) -> Path:
    path = walk(world, asked.question)
    return path if path.culprit is None else path.replace(culprit=better(path, _records(host, world, asked, path)))


def _records(host: Host, world: World, asked: Asked, path: Path) -> Records:
    """What the store remembers; asked for only when something doesn't arrive."""
    culprit = path.culprit
    assert culprit is not None
    listening: set[int] = set()
    if culprit.netns and culprit.kind == "listener":
        listening = {one.port for one in world.source.ports(culprit.netns, path.out.packet.proto)}
    stopped = []
    for endpoint in host.store.endpoints():
        if endpoint.netns == culprit.netns and endpoint.service:
            record = host.store.service_or_none(endpoint.service)
            state = services.status(host, record) if record is not None and record.service.command else None
            if state is not None and state.state == "exited":
                how = "has ended" if state.exit_status is None else f"has ended with status {state.exit_status}"
                stopped.append((endpoint.service, how))
    return Records(
        host.store.networks(),
        host.store.endpoints(),
        host.store.policies(),
        asked.source.endpoints,
        tuple(stopped),
        tuple(sorted(listening)),
    )


def _unmasked(host: Host, path: Path) -> str:
    """The network from which it reached another host with an address that should have stayed hidden."""
    if path.out.fate != ARRIVES or path.out.netns == "":
        return ""
    packet = path.out.packet
    if any(endpoint.netns == path.out.netns for endpoint in host.store.endpoints()):
        return ""
    for network in host.store.networks():
        for subnet in network.subnets:
            version = subnet.network.version
            if packet.saddr.version == version and packet.saddr in subnet.network:
                nat = network.masquerade and network.gateway_mode(version) in ("nat", "nat-unprotected")
                return f"network {network.name!r}" if nat and not network.internal else ""
    return ""


OWN_STATE = ("link", "route", "address", "sysctl", "bridge", "neighbour", "mtu", "ours")
"""Kinds of trouble that may be a thing of ours which somebody took away."""


def _mendable(host: Host, culprit: Culprit | None, path: Path) -> Culprit | None:
    """Let `nsbridge mend` put it right when it is something of ours that the kernel has lost."""
    if culprit is None or culprit.kind not in OWN_STATE or cures.MEND in culprit.fix:
        return culprit
    named = _unmasked(host, path)
    if named:
        why = f"it left with the address of an endpoint, which nobody out there knows: {named} should be masqueraded"
        return Culprit("ours", "", "inet nsbridge sources: no masquerade", why, (cures.MEND,))
    if culprit.kind == "route" and culprit.thing != "no route":
        return _lost_address(host, path) or culprit  # one too many, not one too few
    spaces = {hop.netns for leg in (path.out, path.back) if leg is not None for hop in leg.hops} | {culprit.netns}
    about = {path.out.packet.saddr, path.out.packet.daddr}
    names = {
        endpoint.name
        for endpoint in host.store.endpoints()
        if endpoint.netns in spaces or any(one.ip in about for one in endpoint.addresses)
    }
    there = [thing for thing in mend.told(mend.lost(host, names or {"-"})) if _concerns(thing, culprit)]
    # Loopback is nobody's of ours: what else was lost in its namespace is mended as well, not instead.
    own = culprit.fix if (culprit.kind, culprit.thing) == ("link", LOOPBACK) else ()
    return culprit.replace(fix=(*own, cures.MEND)) if there else culprit


def _lost_address(host: Host, path: Path) -> Culprit | None:
    """A bridge that has lost its address has lost the route to its network: packets take another one."""
    to = path.out.packet.daddr
    for thing in mend.told(mend.lost(host, {"-"})):
        if isinstance(thing, Address) and not thing.netns and to in thing.address.network:
            why = f"{thing.link} has lost its address {thing.address}, and with it the route to {to}"
            return Culprit("address", "", f"{thing.address} on {thing.link}", why, (cures.MEND,))
    return None


def _concerns(thing: Thing, culprit: Culprit) -> bool:
    """Tell whether a thing that is lost may be the trouble."""
    if getattr(thing, "netns", "") != culprit.netns:
        return culprit.kind in ("bridge", "neighbour") and not getattr(thing, "netns", "")
    if culprit.kind == "sysctl":
        return isinstance(thing, Sysctl) and culprit.thing.startswith(cures.dotted(thing.key))
    return not isinstance(thing, Sysctl)
