"""The sockets that a user-space proxy has to serve for an endpoint's ports, because the kernel can't.

Three ways in can't be rewritten by rules: [::1], since IPv6 has no route_localnet; link-local clients, whose packets
no router forwards (RFC 4291 §2.5.6), so chain `publish_in` leaves them alone (S20); and one family to an endpoint that
has only the other. What the kernel rewrites never reaches a socket, so a proxy may listen on [::] without harm: it
gets just what is left.

This is what the resident service will serve; until then these ways refuse, and `nsbridge doctor` says so.
"""

from __future__ import annotations

from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.model.endpoint import Endpoint, Proto
    from nsbridge.state.things import Address_


class ProxySocket(Value):
    """A socket of the host, and where what it accepts has to go. count: so many ports from both on."""

    proto: Proto
    address: Address_
    port: int
    target: Address_
    target_port: int
    count: int = 1

    def __str__(self) -> str:
        """``[::]:8080/tcp``."""
        address = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        ports = f"{self.port}-{self.port + self.count - 1}" if self.count > 1 else str(self.port)
        return f"{address}:{ports}/{self.proto}"


def proxy_sockets(endpoint: Endpoint) -> tuple[ProxySocket, ...]:
    """Return the sockets for all ports of an endpoint, none when the kernel can do all of it.

    Ports on one interface have none: their way in is that interface. A shared port has one with each endpoint that
    answers on it; the proxy chooses.
    """
    from ipaddress import IPv4Address, IPv6Address

    v4, v6 = endpoint.address(4), endpoint.address(6)
    found: list[ProxySocket] = []
    for port in endpoint.ports:
        places: list[Address_] = []
        if port.host_ip is None and not port.interface:
            places = [IPv6Address("::")] if v4 is not None else [IPv4Address("0.0.0.0"), IPv6Address("::")]
        elif port.host_ip is not None and (port.host_ip == IPv6Address("::1") or port.host_ip == IPv6Address("::")):
            places = [port.host_ip]
        target = v6 or v4
        if target is not None:
            found += [
                ProxySocket(port.proto, place, port.host_port, target.ip, port.target, port.count) for place in places
            ]
    return tuple(found)
