"""An endpoint's addresses: claimed, asked for among the neighbours when wished, announced when they need to know."""

from __future__ import annotations

import os
import time
from ipaddress import IPv4Interface, IPv6Interface

from nsbridge.errors import InvalidIntent, KernelError, Taken
from nsbridge.model.names import mac_for
from nsbridge.store import files, leases

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsbridge.engine.host import Host
    from nsbridge.engine.journal import Operation
    from nsbridge.model.endpoint import Endpoint
    from nsbridge.model.network import Network
    from nsbridge.model.service import Attachment
    from nsbridge.state.things import Address_, Interface_


def lease(host: Host, op: Operation, network: Network, to: Attachment, name: str) -> tuple[Interface_, ...]:
    """Claim an address of every subnet, the one asked for or the next free one, and whatever else is asked for."""
    asked: dict[int, Address_ | None] = {4: to.ipv4, 6: to.ipv6}
    for version, address in asked.items():
        if address is not None and network.subnet(version) is None:
            raise InvalidIntent(
                f"address {address} is outside network {network.name!r}, which has no IPv{version} subnet",
                fix="give the network one, or leave the address out",
            )
    found = []
    for subnet in network.subnets:
        address = asked[subnet.network.version]
        if address is None:
            address = leases.claim_next(
                host.store.root, network, subnet, name, lambda each: op.leasing(network.name, each, name)
            )
        else:
            op.leasing(network.name, address, name)
            leases.claim(host.store.root, network, address, name)
        found.append(_within(address, subnet.network.prefixlen))
    for address in to.also:
        if address.is_link_local:  # nobody's to give out: it is good on this link alone
            found.append(_within(address, 16 if address.version == 4 else 64))
            continue
        op.leasing(network.name, address, name)
        leases.claim(host.store.root, network, address, name)
        home = network.subnet(address.version)
        assert home is not None  # or it could not have been claimed
        found.append(_within(address, home.network.prefixlen))
    return tuple(found)


def _within(address: Address_, length: int) -> Interface_:
    # From numbers: a text would be taken apart twice.
    return (IPv4Interface if address.version == 4 else IPv6Interface)((int(address), length))


def first(leased: tuple[Interface_, ...]) -> str:
    """Return what an endpoint's MAC is made from: the first of its addresses, empty without any."""
    return str(leased[0].ip) if leased else ""


def has_own_mac(endpoint: Endpoint) -> bool:
    """Tell whether its MAC isn't the one made from its address: then neighbours must hear of who has it now."""
    return endpoint.mac != mac_for(endpoint.network, endpoint.name, first(endpoint.addresses))


def told_apart(network: str, address: Address_) -> str:
    """Where is kept that an address was last used with a MAC of its own."""
    return f"leases/{network}/.mac-{address}"


def announce(host: Host, network: Network, endpoint: Endpoint) -> None:
    """Tell the neighbours who has these addresses now, if they can have heard otherwise or the network says so."""
    if not network.advertise:
        return
    marks = [f"{host.store.root}/{told_apart(network.name, one.ip)}" for one in endpoint.addresses]
    old = [mark for mark in marks if os.path.exists(mark)]
    if network.unmanaged or old or has_own_mac(endpoint) or network.advertise > 0:
        host.kernel.announce(endpoint)
        for mark in old:
            files.remove(mark)


def announce_again(host: Host, network: Network, endpoint: Endpoint) -> None:
    """Tell them as often as the network says. Takes its time, so the caller holds no lock any more."""
    for _ in range(network.advertise - 1):
        time.sleep(network.advertise_ms / 1000)
        try:
            host.kernel.announce(endpoint)
        except KernelError:  # it went meanwhile
            return


def check_unused(host: Host, network: Network, addresses: Iterable[Interface_]) -> None:
    """Raise Taken when somebody on the network answers for one of these addresses: conflict detection, RFC 5227."""
    for address, mac in host.kernel.claimed(network.ifname, [one.ip for one in addresses]).items():
        raise Taken(
            f"address {address} is in use on {network.ifname!r} by {mac}",
            fix="choose another address, or find out who that is and give him another",
        )


def check_features(host: Host, places: Iterable[Attachment]) -> None:
    """Raise Unsupported, before anything is changed, when this kernel lacks what a place on a network needs."""
    places = tuple(places)
    if any(one.vlan for one in places):
        host.kernel.require("vlan_filtering")
    limits = [one.limits for one in places]
    if any(one.impairs for one in limits):
        host.kernel.require("netem")
    if any(one.ingress or (one.egress and not one.impairs) for one in limits):
        host.kernel.require("tbf")
