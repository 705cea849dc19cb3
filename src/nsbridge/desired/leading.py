"""Which of a namespace's networks holds its default routes, of IPv4 and of IPv6 each for itself."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from nsbridge.model.network import Network
    from nsbridge.model.service import Service


def leads_out(network: Network) -> tuple[int, ...]:
    """Return the IP versions in which a network leads out of itself; none for an internal one."""
    return () if network.internal else network.versions


def leading(able: Collection[str], held: Collection[str], service: Service | None) -> str:
    """Return the network that holds the default route of one IP version, empty without any.

    able: the networks that lead out. held: those of them that hold it now. A service's main network comes first, then
    whoever holds it, then the others of the service in their order, then by name.
    """
    places = service.attachments if service is not None else ()
    order = {one.network: (-one.priority, number) for number, one in enumerate(places)}
    main = service.main_network if service is not None else ""

    def rank(name: str) -> tuple[object, ...]:
        return name != main, name not in held, name not in order, order.get(name, ()), name

    return min(able, key=rank, default="")


def shares(networks: Collection[Network], service: Service) -> dict[str, tuple[int, ...]]:
    """Return of which IP versions each of a service's networks holds the default route when it starts.

    Where none leads out, the first that has such addresses counts as the one that does; no route comes of it.
    """
    found: dict[str, tuple[int, ...]] = {one.name: () for one in networks}
    for version in (4, 6):
        having = [one for one in networks if version in one.versions]
        able = [one for one in having if version in leads_out(one)] or having
        if able:
            found[leading([one.name for one in able], (), service)] += (version,)
    return found
