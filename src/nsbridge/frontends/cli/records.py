"""What --json prints and `inspect` shows: dicts with stable names, which the verbs' help documents."""

from __future__ import annotations

from nsbridge.desired.proxy import proxy_sockets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from nsbridge.engine.services import Status
    from nsbridge.model.endpoint import Endpoint, PublishedPort
    from nsbridge.model.network import Network, StaticRoute, Subnet

    Record = dict[str, Any]


def port_record(port: PublishedPort) -> Record:
    """One published port."""
    return {
        "target": port.target,
        "host_port": port.host_port,
        "host_ip": None if port.host_ip is None else str(port.host_ip),
        "protocol": port.proto,
        "interface": port.interface,
        "count": port.count,
        "shared": port.share,
    }


def _place(endpoint: Endpoint) -> Record:
    return {
        "network": endpoint.network,
        "ifname": endpoint.ifname,
        "addresses": [str(address) for address in endpoint.addresses],
        "mac": endpoint.mac,
        "vlan": endpoint.vlan,
        "aliases": list(endpoint.aliases),
        "default_route": bool(endpoint.gateway),
    }


def _unanswered(endpoints: Iterable[Endpoint]) -> list[str]:
    """Sockets of the host that only a user-space proxy could serve; see desired/proxy.py."""
    return [str(socket) for endpoint in endpoints for socket in proxy_sockets(endpoint)]


def endpoint_record(endpoint: Endpoint) -> Record:
    """One endpoint."""
    return {
        "kind": "endpoint",
        "name": endpoint.name,
        "netns": endpoint.netns,
        **_place(endpoint),
        "ports": [port_record(port) for port in endpoint.ports],
        "unanswered": _unanswered((endpoint,)),
        "service": endpoint.service,
        "project": endpoint.project,
    }


def _health(status: Status) -> Record | None:
    if status.health is None:
        return None
    names = ("status", "failures", "exit_status", "output")
    return {**{name: getattr(status.health, name) for name in names}, "at": status.health.at or None}


def service_record(status: Status) -> Record:
    """One service with its places on networks."""
    service = status.record.service
    return {
        "kind": "service",
        "name": service.name,
        "project": service.project,
        "command": list(service.command),
        "state": status.state,
        "exit_status": status.exit_status,
        "health": _health(status),
        "pid": status.record.pid,
        "since": status.record.since or None,
        "netns": service.netns,
        "networks": [_place(endpoint) for endpoint in status.endpoints],
        "ports": [port_record(port) for endpoint in status.endpoints for port in endpoint.ports],
        "unanswered": _unanswered(status.endpoints),
        "labels": dict(service.labels),
    }


def stranger_record(endpoints: Iterable[Endpoint], state: str) -> Record:
    """A namespace that somebody else made, in the form of a service. All endpoints have one name and namespace."""
    places = tuple(endpoints)
    return {
        "kind": "endpoint",
        "name": places[0].name,
        "project": places[0].project,
        "command": [],
        "state": state,
        "exit_status": None,
        "health": None,
        "pid": 0,
        "since": None,
        "netns": places[0].netns,
        "networks": [_place(endpoint) for endpoint in places],
        "ports": [port_record(port) for endpoint in places for port in endpoint.ports],
        "unanswered": _unanswered(places),
        "labels": {},
    }


def _subnet(subnet: Subnet) -> Record:
    return {
        "subnet": str(subnet.network),
        "gateway": str(subnet.gateway_interface.ip),
        "ip_range": None if subnet.ip_range is None else str(subnet.ip_range),
        "aux_addresses": {name: str(address) for name, address in subnet.reserved},
    }


def _route(route: StaticRoute) -> Record:
    return {
        "dst": str(route.dst),
        "gw": None if route.via is None else str(route.via),
        "metric": route.metric,
        "type": route.kind,
    }


def network_record(network: Network, endpoints: Iterable[Endpoint]) -> Record:
    """One network and who is on it."""
    return {
        "kind": "network",
        "name": network.name,
        "bridge": network.ifname,
        "subnets": [_subnet(subnet) for subnet in network.subnets],
        "driver": network.driver,
        "mode": network.mode,
        "vlan": network.vlan,
        "vrf": network.vrf,
        "unmanaged": network.unmanaged,
        "internal": network.internal,
        "icc": network.icc,
        "masquerade": network.masquerade,
        "sources": [str(address) for address in network.sources],
        "host_binding": None if network.host_binding is None else str(network.host_binding),
        "gateway_modes": {"ipv4": network.gateway_mode4, "ipv6": network.gateway_mode6},
        "trusted_interfaces": list(network.trusted),
        "filtering": {
            "mac": network.mac_filtering,
            "ipv4": network.ipv4_filtering,
            "ipv6": network.ipv6_filtering,
            "guarded": network.guarded,
        },
        "policy": network.policy,
        "routes": [_route(route) for route in network.routes],
        "inhibit_ipv4": network.inhibit_ipv4,
        "advertise": {
            "messages": None if network.advertise < 0 else network.advertise,
            "interval_ms": network.advertise_ms,
        },
        "mtu": network.mtu,
        "project": network.project,
        "labels": dict(network.labels),
        "endpoints": [
            {"name": one.name, "netns": one.netns, "addresses": [str(address) for address in one.addresses]}
            for one in endpoints
        ],
    }
