"""Leftovers of ours, and nothing else: what carries our mark but belongs to nothing we remember."""

from __future__ import annotations

from nsbridge.desired.network import network_things
from nsbridge.engine import endpoints, networks, policies, shared
from nsbridge.errors import NsbridgeError
from nsbridge.firewall.ruleset import Element, Table
from nsbridge.plan.diff import removing
from nsbridge.state.kernel_state import KernelState
from nsbridge.state.things import HOST, ForeignAccept, Link
from nsbridge.store import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.engine.host import Host
    from nsbridge.model.endpoint import Endpoint
    from nsbridge.state.things import Thing


def remembered(host: Host) -> KernelState:
    """Return everything on the host that the store says should be there."""
    things: list[Thing] = [*host.store.host().things, *policies.elements(host)]
    for network in host.store.networks():
        things += network_things(network, network.mtu)
        for endpoint in host.store.endpoints(network.name):
            things += networks.things_of(host, network, endpoint)
    things += shared.things(host.store)
    return KernelState(thing for thing in things if getattr(thing, "netns", HOST) == HOST)


def strays(host: Host) -> tuple[Thing, ...]:
    """Return links, tables, elements and rules of ours in others' chains that nothing we remember accounts for."""
    wanted = remembered(host)
    found = host.kernel.observe(())
    return tuple(
        thing
        for thing in found
        if isinstance(thing, Link | Table | Element | ForeignAccept)
        and getattr(thing, "netns", HOST) == HOST
        and wanted.find(thing.identity) is None
        # Kept for the sake of rules that aren't ours.
        and not (isinstance(thing, Table) and host.kernel.admin_rules((thing.family, thing.name)))
    )


def abandoned(host: Host) -> tuple[Endpoint, ...]:
    """Return endpoints whose namespace is gone, or is another one by now."""
    return tuple(
        endpoint
        for endpoint in host.store.endpoints()
        if not endpoint.service and host.kernel.netns_id(endpoint.netns) != endpoint.netns_id
    )


def _stale_leases(host: Host) -> list[tuple[str, str]]:
    """Return (network, address) of leases that no endpoint holds."""
    found = []
    for network in files.names(f"{host.store.root}/leases"):
        held = {str(address.ip) for one in host.store.endpoints(network) for address in one.addresses}
        found += [(network, each) for each in files.names(f"{host.store.root}/leases/{network}") if each not in held]
    return found


def collect(host: Host, *, dry_run: bool = False) -> tuple[str, ...]:
    """Remove leftovers; return what was removed, in words. dry_run: only tell.

    What a killed command left in flight was dealt with when the host was opened.
    """
    said = []
    for endpoint in abandoned(host):
        said.append(f"endpoint {endpoint.name} of network {endpoint.network}: its namespace is gone")
        if not dry_run:
            endpoints.disconnect(host, endpoint.network, endpoint.name)
    # Under the exclusive lock nobody is half way through making something that isn't remembered yet.
    with host.lock():
        found = strays(host)
        links = {thing.name for thing in found if isinstance(thing, Link)}
        for thing in found:
            if not (isinstance(thing, Element) and thing.key[0] in links):  # goes with its link
                said.append(_told(thing))
            if not dry_run:
                for step in removing((thing,)):
                    host.kernel.do(step)
        for on, address in _stale_leases(host):
            said.append(f"lease of {address} on network {on}: no endpoint holds it")
            if not dry_run:
                files.remove(f"{host.store.root}/leases/{on}/{address}")
        if not dry_run:
            files.sweep(host.store.root)
        for network in host.store.networks():
            if network.ephemeral and not host.store.in_use(network.name):
                said.append(f"network {network.name}: nothing is on it")
                if not dry_run:
                    networks.remove_idle(host, network.name)
    return tuple(said)


def _told(thing: Thing) -> str:
    if isinstance(thing, Link):
        return f"link {thing.name}: marked as ours, but belongs to no endpoint or network"
    if isinstance(thing, Table):
        return f"table {thing.family} {thing.name}: there is no network"
    if isinstance(thing, Element):
        return f"element {' . '.join(map(str, thing.key))} of set {thing.set}: belongs to no network or port"
    if isinstance(thing, ForeignAccept):
        return f"rule in the chain {thing.chain or 'FORWARD'} ({thing.where}): there is no network"
    raise NsbridgeError(f"not a stray: {thing!r}")
