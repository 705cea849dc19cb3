"""Which of a namespace's endpoints hold its default routes."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsbridge.model.endpoint import Endpoint
    from nsbridge.model.service import Service


def leading(able: Iterable[Endpoint], service: Service | None) -> tuple[Endpoint, ...]:
    """Return who shall hold them: the first of all, and whoever has only addresses of a family that those have not.

    able: whose network leads out. A service's main network comes first, then whoever holds one now, then the others of
    the service in their order, then by name.
    """
    places = service.attachments if service is not None else ()
    order = {one.network: (-one.priority, number) for number, one in enumerate(places)}
    main = service.main_network if service is not None else ""

    def rank(one: Endpoint) -> tuple[object, ...]:
        known = one.network in order
        return one.network != main, not one.gateway, not known, order.get(one.network, ()), one.network

    found, led = [], set[int]()
    for one in sorted(able, key=rank):
        versions = {address.version for address in one.addresses if not address.ip.is_link_local}
        if versions and led.isdisjoint(versions):
            led |= versions
            found.append(one)
    return tuple(found)
