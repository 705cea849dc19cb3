"""A service's places on its networks and its published ports, and who claims which address and host port."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsbridge.errors import InvalidIntent
from nsbridge.files import parts
from nsbridge.files.faults import Path, Report
from nsbridge.files.networks import Known, intent_fault
from nsbridge.files.screen import did_you_mean
from nsbridge.files.shape import AttachmentShape, PlaceOptionsShape, PortShape, ServiceShape
from nsbridge.model.endpoint import PublishedPort
from nsbridge.model.limits import Limits
from nsbridge.model.names import check_name
from nsbridge.model.service import Attachment

if TYPE_CHECKING:
    from typing import Any

    from nsbridge.model.network import Subnet
    from nsbridge.state.things import Address_

_RANGES = 0
"""In the place of a host port: claims of more than one."""

DEFAULT_KEY = "default"
"""The key of the network that services without networks join (compose spec, "networks")."""


class Claims:
    """What services of a file have claimed so far; a second claim is a fault that names the first."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.ports: dict[tuple[str, int], list[tuple[PublishedPort, str, int]]] = {}
        self.inside: dict[tuple[str, str], str] = {}

    def address(self, path: Path, network: str, what: str, value: str, service: str) -> None:
        """Claim an address or MAC of a network."""
        holder = self.inside.setdefault((network, value), service)
        if holder != service:
            self.report.fault(path, f"{what} {value} is that of service {holder!r} too", "give each its own")

    def port(self, path: Path, port: PublishedPort, service: str) -> bool:
        """Claim a host port; tell whether it was free."""
        if not port.host_port or port.choices > 1:
            return True
        # Single ports by their number: a thousand services aren't compared each with each.
        single = port.count == 1
        near = [(port.proto, port.host_port), (port.proto, _RANGES)] if single else self._of(port.proto)
        for other, holder, line in [one for place in near for one in self.ports.get(place, ())]:
            first = max(port.host_port, other.host_port)
            if first < min(port.host_port + port.count, other.host_port + other.count) and _meet(port, other):
                where = f" on line {line}" if line else ""
                said = f"host port {first}/{port.proto} goes to service {holder!r} already{where}"
                self.report.fault(path, said, "choose another host port")
                return False
        place = (port.proto, port.host_port if single else _RANGES)
        self.ports.setdefault(place, []).append((port, service, self.report.line(path)))
        return True

    def _of(self, proto: str) -> list[tuple[str, int]]:
        return [place for place in self.ports if place[0] == proto]


def _meet(one: PublishedPort, other: PublishedPort) -> bool:
    """Tell whether a packet could be meant for both, and they don't share it."""
    if one.share and other.share:
        return one.host_ip != other.host_ip
    if one.interface or other.interface:
        bound = [port for port in (one, other) if port.host_ip is not None and not port.host_ip.is_unspecified]
        return not bound and (one.interface == other.interface or not (one.interface and other.interface))
    if one.host_ip is None or other.host_ip is None or one.host_ip == other.host_ip:
        return True
    same_family = one.host_ip.version == other.host_ip.version
    return same_family and (one.host_ip.is_unspecified or other.host_ip.is_unspecified)


def attachments(
    path: Path, key: str, shape: ServiceShape, known: Known, report: Report, claims: Claims
) -> tuple[Attachment, ...]:
    """Return a service's places in the order of the file; the project's default network when it names none."""
    given = shape.networks or {}
    wishes = given if isinstance(given, dict) else dict.fromkeys(given)
    if not wishes:
        if report.is_broken(*path, "networks") or report.is_broken(*path, "network_mode"):
            return ()
        wishes = {DEFAULT_KEY: None}
    found: list[Attachment] = []
    for index, (network, wish) in enumerate(wishes.items()):
        here: Path = (*path, "networks", network)
        if not isinstance(given, dict):
            here = (*path, "networks", given.index(network))
        if network not in known.names:
            hint = did_you_mean(network, list(known.names)) or "add it under networks"
            report.fault(here, f"there is no network {network!r}", hint, key=True)
            continue
        wish = wish or AttachmentShape.model_validate({})
        mac = wish.mac_address or (shape.mac_address or "" if index == 0 else "")
        if wish.mac_address and index == 0 and shape.mac_address not in (None, wish.mac_address):
            report.fault((*path, "mac_address"), f"isn't the one on network {network!r}", "keep one of the two")
        _check_static(here, key, network, wish, known, report, claims)
        real = known.names[network]
        if mac:
            where = (*here, "mac_address") if wish.mac_address else (*path, "mac_address")
            claims.address(where, real, "MAC address", mac, key)
        aliases = _aliases(here, key, shape, wish, report)
        place = Attachment(real, wish.ipv4_address, wish.ipv6_address, mac, aliases, priority=wish.gw_priority or 0)
        found.append(_with_options(here, place, wish, report))
    return tuple(found)


def _with_options(path: Path, place: Attachment, wish: AttachmentShape, report: Report) -> Attachment:
    """Return the place with what its driver_opts, names and further addresses ask for, one at a time."""
    options = wish.driver_opts or PlaceOptionsShape.model_validate({})
    limits = Limits()
    wanted = {field: value for field, _ in parts.LIMITS.values() if (value := getattr(options, field)) is not None}
    try:
        limits = Limits(**wanted)
    except InvalidIntent as error:
        intent_fault(report, (*path, "driver_opts"), error)
    pieces: list[tuple[Path, dict[str, Any]]] = [
        (("interface_name",), {"ifname": wish.interface_name or ""}),
        (("driver_opts", "host_interface_name"), {"host_ifname": options.host_interface_name or ""}),
        (("link_local_ips",), {"also": tuple(wish.link_local_ips or ())}),
    ]
    for where, change in pieces:
        try:
            place = place.replace(**change)
        except InvalidIntent as error:
            intent_fault(report, (*path, *where), error)
    return place.replace(limits=limits, check_address=bool(options.check_address), vlan=options.vlan or 0)


def _aliases(path: Path, key: str, shape: ServiceShape, wish: AttachmentShape, report: Report) -> tuple[str, ...]:
    """Return its aliases; a service that container_name renames is found by its key as well, as with compose."""
    found = [key] if shape.container_name not in (None, key) else []
    for index, alias in enumerate(wish.aliases or ()):
        try:
            found.append(check_name("alias", alias, longest=253))
        except InvalidIntent as error:
            intent_fault(report, (*path, "aliases", index), error)
    return tuple(dict.fromkeys(found))


def _check_static(
    path: Path, key: str, network: str, wish: AttachmentShape, known: Known, report: Report, claims: Claims
) -> None:
    """Check the addresses a service wishes for against the network, if it is one of ours and without faults."""
    for field, address in (("ipv4_address", wish.ipv4_address), ("ipv6_address", wish.ipv6_address)):
        if address is None:
            continue
        here = (*path, field)
        if network in known.networks:
            subnet = known.networks[network].subnet(address.version)
            if subnet is None:
                said = f"network {network!r} has no IPv{address.version} subnet to take {address} from"
                report.fault(here, said, f"give it one: networks.{network}.ipam.config")
                continue
            if said := _unusable(subnet, address):
                report.fault(here, said, "choose another")
                continue
        claims.address(here, known.names[network], "address", str(address), key)


def _unusable(subnet: Subnet, address: Address_) -> str:
    """Say why an endpoint can't have this address, empty if it can."""
    net = subnet.network
    if address not in net:
        return f"{address} is outside the network's subnet {net}"
    if address == subnet.gateway_interface.ip:
        return f"{address} is the network's gateway"
    for name, taken in subnet.reserved:
        if address == taken:
            return f"{address} is reserved as aux address {name!r}"
    return "" if subnet.usable(address) else f"{address} is the first or last address of {net}"


def published(
    path: Path, name: str, shape: ServiceShape, report: Report, claims: Claims | None
) -> tuple[PublishedPort, ...]:
    """Return a service's published ports, ranges expanded; what is given twice in the same words counts once.

    claims: None on a network without NAT, where ports of the host don't matter.
    """
    found: dict[PublishedPort, None] = {}
    for index, one in enumerate(shape.ports or ()):
        here: Path = (*path, "ports", index)
        try:
            ports = (_long(one),) if isinstance(one, PortShape) else one
        except InvalidIntent as error:
            intent_fault(report, here, error)
            continue
        for port in ports:
            if port in found:
                continue
            if claims is not None and not claims.port(here, port, name):
                break  # one fault a line, also for a range
            found[port] = None
    return tuple(found)


def _long(shape: PortShape) -> PublishedPort:
    return PublishedPort(
        shape.target,
        shape.published or 0,
        shape.protocol or "tcp",
        shape.host_ip,
        shape.interface or "",
        share=bool(shape.share),
    )
