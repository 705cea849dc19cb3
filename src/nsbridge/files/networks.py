"""From the shape of networks to the model's, and what networks must not do to one another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsbridge.errors import InvalidIntent
from nsbridge.files.faults import Path, Report
from nsbridge.files.netshape import DriverOptionsShape, ExternalShape, NetworkShape, SubnetShape
from nsbridge.files.shape import TopologyShape
from nsbridge.model.names import DEFAULT_NETWORK, check_name
from nsbridge.model.network import Network, StaticRoute, Subnet
from nsbridge.values import Value

if TYPE_CHECKING:
    from ipaddress import IPv4Address
    from typing import Any


class Known(Value):
    """The networks a file declares, by their keys in it.

    names: the real name of each, also of those with faults. networks: those we make. external: keys of those that
    must exist already.
    """

    names: dict[str, str]
    networks: dict[str, Network]
    external: tuple[str, ...] = ()


def intent_fault(report: Report, path: Path, error: InvalidIntent, *, key: bool = False) -> None:
    """Turn the model's complaint into a fault at the place in the file that it is about."""
    report.fault(path, error.message, error.fix, key=key)


def pairs(found: dict[str, str | None] | list[tuple[str, str | None]] | None) -> tuple[tuple[str, str], ...]:
    """Labels as pairs in order; a bare name has an empty value."""
    items = found.items() if isinstance(found, dict) else found or ()
    return tuple({key: value or "" for key, value in items}.items())


def known_networks(topology: TopologyShape, raw: Any, project: str, report: Report) -> Known:
    """Translate all networks. raw: the screened data, which also names networks whose shape is broken."""
    declared = raw.get("networks")
    shapes = topology.networks or {}
    names: dict[str, str] = {}
    networks: dict[str, Network] = {}
    external: list[str] = []
    policed = bool(topology.policy)
    for key in declared if isinstance(declared, dict) else ():
        shape = shapes.get(key) or NetworkShape.model_validate({})
        path: Path = ("networks", key)
        real = _real_name(key, shape, project)
        names[key] = real
        if shape.external is True or isinstance(shape.external, ExternalShape):
            external.append(key)
            _check_external(path, shape, real, report)
        elif (network := _network(path, shape, real, project, report, policed)) and not report.is_broken(*path):
            networks[key] = network
    _check_together(names, networks, external, report)
    return Known(names, networks, tuple(external))


def _real_name(key: str, shape: NetworkShape, project: str) -> str:
    if isinstance(shape.external, ExternalShape):
        return shape.name or shape.external.name
    if shape.name:
        return shape.name
    return key if shape.external else f"{project}_{key}"


def _check_external(path: Path, shape: NetworkShape, real: str, report: Report) -> None:
    for field in sorted(shape.model_fields_set - {"external", "name"}):
        if getattr(shape, field) is not None:
            hint = "change it where the network is made, or remove external"
            report.fault((*path, field), "can't be given for an external network", hint, key=True)
    try:
        check_name("network", real)
    except InvalidIntent as error:
        intent_fault(report, (*path, "name") if shape.name else path, error, key=not shape.name)


def _filtering(options: DriverOptionsShape) -> list[tuple[Path, dict[str, Any]]]:
    """Fields about what may reach endpoints and what they may send, each with its place."""
    docker, security = "com.docker.network.bridge.", "security."
    trusted = tuple(name for name in (options.trusted or "").split(":") if name)
    flags = {name: getattr(options, name) is not False for name in ("ipv4_filtering", "ipv6_filtering")}
    return [
        (("driver_opts", f"{docker}gateway_mode_ipv4"), {"gateway_mode4": options.gateway_mode4 or "nat"}),
        (("driver_opts", f"{docker}gateway_mode_ipv6"), {"gateway_mode6": options.gateway_mode6 or "nat"}),
        (("driver_opts", f"{docker}trusted_host_interfaces"), {"trusted": trusted}),
        *((("driver_opts", security + name), {name: value}) for name, value in flags.items()),
        (("driver_opts", f"{security}mac_filtering"), {"mac_filtering": options.mac_filtering is not False}),
    ]


def _network(path: Path, shape: NetworkShape, real: str, project: str, report: Report, policed: bool) -> Network | None:
    if real == DEFAULT_NETWORK:
        hint = "choose another name, or use external: true"
        report.fault((*path, "name"), "is the network that exists without being made", hint)
    options = shape.driver_opts or DriverOptionsShape.model_validate({})
    subnets = _subnets(path, shape, report)
    try:
        network = Network(
            real,
            internal=bool(shape.internal),
            icc=options.icc is not False,
            masquerade=options.masquerade is not False,
            project=project,
            labels=pairs(shape.labels),
            ipv6=bool(shape.enable_ipv6) and all(one.network.version == 4 for one in subnets),
            policed=policed,
            routes=_routes(path, shape, report),
        )
    except InvalidIntent as error:
        intent_fault(report, (*path, "name") if shape.name else path, error, key=not shape.name)
        return None
    # One field at a time, so that a complaint stands at the field it is about.
    for where, change in _pieces(shape, options, subnets):
        try:
            network = network.replace(**change)
        except InvalidIntent as error:
            intent_fault(report, (*path, *where), error)
    return network


def _pieces(
    shape: NetworkShape, options: DriverOptionsShape, subnets: tuple[Subnet, ...]
) -> list[tuple[Path, dict[str, Any]]]:
    """Return what a network's options say, each with its place in the file."""
    return [
        (("ipam", "config"), {"subnets": subnets}),
        (("driver_opts", "com.docker.network.bridge.name"), {"bridge": options.bridge or ""}),
        (("driver_opts", "com.docker.network.driver.mtu"), {"mtu": options.mtu or 0}),
        (("driver_opts", "mode"), {"unmanaged": options.mode == "unmanaged"}),
        (("driver_opts", "vlan"), {"vlan": options.vlan or 0}),
        *_on_a_wire(shape.driver or "", options),
        (("driver_opts", "vrf"), {"vrf": options.vrf or ""}),
        (
            ("driver_opts", "com.docker.network.bridge.host_binding_ipv4"),
            {"host_binding": _binding(options.host_binding)},
        ),
        (
            ("driver_opts", "com.docker.network.host_ipv4" if options.source4 else "com.docker.network.host_ipv6"),
            {"sources": tuple(one for one in (options.source4, options.source6) if one is not None)},
        ),
        (("driver_opts", "com.docker.network.bridge.inhibit_ipv4"), {"inhibit_ipv4": bool(options.inhibit_ipv4)}),
        *_advertising(options),
        *_filtering(options),
        (("policy",), {"policy": shape.policy or "allow"}),
    ]


def _advertising(options: DriverOptionsShape) -> list[tuple[Path, dict[str, Any]]]:
    """How often addresses are advertised, and how fast."""
    asked: list[tuple[str, str, int | None]] = [
        ("nmsgs", "advertise", options.advertise),
        ("ms", "advertise_ms", options.advertise_ms),
    ]
    return [
        (("driver_opts", f"com.docker.network.advertise_addr_{name}"), {field: value})
        for name, field, value in asked
        if value is not None
    ]


def _binding(address: IPv4Address | None) -> IPv4Address | None:
    """Everywhere, as Docker writes its default, is no binding."""
    return None if address is None or address.is_unspecified else address


def _subnets(path: Path, shape: NetworkShape, report: Report) -> tuple[Subnet, ...]:
    found: list[Subnet] = []
    for index, one in enumerate((shape.ipam and shape.ipam.config) or ()):
        here: Path = (*path, "ipam", "config", index)
        if (subnet := _subnet(here, one, report)) is None:
            continue
        found.append(subnet)
        if subnet.network.version == 6 and shape.enable_ipv6 is False:
            hint = "remove one of the two"
            report.fault((*here, "subnet"), "is an IPv6 subnet, and enable_ipv6 is false", hint)
    return tuple(found)


def _on_a_wire(driver: str, options: DriverOptionsShape) -> list[tuple[Path, dict[str, Any]]]:
    """What a macvlan or ipvlan network says of the link it stands on."""
    if driver not in ("macvlan", "ipvlan"):
        return []
    mode = (options.macvlan_mode if driver == "macvlan" else options.ipvlan_mode) or ""
    place: dict[str, Any] = {"bridge": options.parent or "", "unmanaged": bool(options.parent), "driver": driver}
    return [(("driver",), place), (("driver_opts", f"{driver}_mode"), {"mode": mode})]


def _routes(path: Path, shape: NetworkShape, report: Report) -> tuple[StaticRoute, ...]:
    found: list[StaticRoute] = []
    for index, one in enumerate((shape.ipam and shape.ipam.routes) or ()):
        try:
            found.append(StaticRoute(one.dst, one.gw, one.metric or 0, one.type or "unicast"))
        except InvalidIntent as error:
            intent_fault(report, (*path, "ipam", "routes", index), error)
    return tuple(found)


def _subnet(path: Path, shape: SubnetShape, report: Report) -> Subnet | None:
    """Build a subnet piece by piece, so that each complaint stands at its piece."""
    try:
        subnet = Subnet(shape.subnet)
    except InvalidIntent as error:
        intent_fault(report, (*path, "subnet"), error)
        return None
    pieces: list[tuple[Path, str, Any]] = [
        (("gateway",), "gateway", shape.gateway),
        (("ip_range",), "ip_range", shape.ip_range),
        *((("aux_addresses", name), "reserved", (name, one)) for name, one in (shape.aux_addresses or {}).items()),
    ]
    for where, field, value in pieces:
        if value is None:
            continue
        try:
            subnet = subnet.replace(**{field: (*subnet.reserved, value) if field == "reserved" else value})
        except InvalidIntent as error:
            intent_fault(report, (*path, *where), error)
    return subnet


def _check_together(names: dict[str, str], networks: dict[str, Network], external: list[str], report: Report) -> None:
    """No two networks share a real name, a bridge, or addresses."""
    by_name: dict[str, str] = {}
    for key, real in names.items():
        if real in by_name and not (key in external and by_name[real] in external):
            where: Path = ("networks", key, "name")
            report.fault(where, f"{real!r} is the real name of network {by_name[real]!r} too", "choose another")
        by_name.setdefault(real, key)
    seen: list[tuple[str, Network]] = []
    for key, network in networks.items():
        for other_key, other in seen:
            if network.ifname == other.ifname and network.name != other.name:
                where = ("networks", key, "driver_opts", "com.docker.network.bridge.name")
                report.fault(where, f"bridge {network.ifname!r} is that of network {other_key!r} too", "choose another")
            _check_overlap(key, network, other_key, other, report)
        seen.append((key, network))


def _check_overlap(key: str, network: Network, other_key: str, other: Network, report: Report) -> None:
    for index, mine in enumerate(network.subnets):
        for theirs in other.subnets:
            if mine.network.version == theirs.network.version and mine.network.overlaps(theirs.network):
                where: Path = ("networks", key, "ipam", "config", index, "subnet")
                said = f"{mine.network} overlaps {theirs.network} of network {other_key!r}"
                report.fault(where, said, "choose subnets apart")
