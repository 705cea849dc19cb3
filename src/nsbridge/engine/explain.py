"""Why a packet arrives or doesn't: the question understood, the way predicted, and what the records say about it."""

from __future__ import annotations

from nsbridge.engine import asking
from nsbridge.explain.path import walk
from nsbridge.explain.world import World
from nsbridge.store import leases
from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsbridge.engine.asking import Asked
    from nsbridge.engine.host import Host
    from nsbridge.explain.path import Path
    from nsbridge.state.things import Address_


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


def explain(host: Host, source: str, target: str, *, version: int = 0, size: int = 0, planned: str = "") -> Told:
    """Predict what becomes of a packet ``FROM TO[:PORT][/PROTOCOL]`` and of its answer; changes nothing.

    version: 4 or 6, 0 for what both have, IPv4 first. size: of the packet, bytes, 0 for a small one. NotFound and
    InvalidIntent when the question can't be understood.
    """
    world = world_of(host)
    asked = asking.understood(host, world, source, target, version=version, size=size)
    return Told(asked, walk(world, asked.question))
