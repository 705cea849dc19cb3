"""An endpoint: a namespace's place on one network, and the ports it publishes."""

from __future__ import annotations

from nsbridge.errors import InvalidIntent
from nsbridge.model.limits import Limits
from nsbridge.model.names import check_ifname, check_name, host_ifname
from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, TypeAlias

    from nsbridge.state.things import Address_, Interface_

    Proto: TypeAlias = Literal["tcp", "udp", "sctp"]

PROTOS = ("tcp", "udp", "sctp")


class PublishedPort(Value):
    """A host port that reaches a port inside an endpoint.

    host_port: 0 lets nsbridge choose a free one. host_ip: the host's address it is bound to, None for all;
    ``0.0.0.0`` means all of IPv4 and ``::`` all of IPv6.
    """

    target: int
    host_port: int = 0
    proto: Proto = "tcp"
    host_ip: Address_ | None = None

    def __post_init__(self) -> None:
        """Check both ports and the protocol."""
        for name, port, least in (("port", self.target, 1), ("host port", self.host_port, 0)):
            if not least <= port <= 65535:
                raise InvalidIntent(f"{name} is {port}", fix="choose a port from 1 to 65535")
        if self.proto not in PROTOS:
            raise InvalidIntent(f"protocol is {self.proto!r}", fix=f"use one of {', '.join(PROTOS)}")

    @property
    def host_text(self) -> str:
        """``0.0.0.0:8088``, ``[::1]:8088``, as docker port shows it."""
        if self.host_ip is None:
            return f"0.0.0.0:{self.host_port}"
        return f"{self.host_ip}:{self.host_port}" if self.host_ip.version == 4 else f"[{self.host_ip}]:{self.host_port}"

    def __str__(self) -> str:
        """``0.0.0.0:8088->80/tcp``, as docker ps shows it."""
        return f"{self.host_text}->{self.target}/{self.proto}"


class Endpoint(Value):
    """A namespace's place on one network.

    netns: the path that opens the namespace; netns_id: its inode when it was attached, so that a path which
    meanwhile opens another namespace is noticed. ifname: the interface inside. addresses: with the prefix
    length of their subnets. gateway: this endpoint holds the namespace's default route. owned: nsbridge made
    the namespace and takes it away again. hostname: known to the neighbours like an alias. service: the
    service it belongs to, empty for a namespace somebody else made. host_name: the interface on the host, named
    after the endpoint when empty. limits: of its link.
    """

    network: str
    name: str
    netns: str
    ifname: str = "eth0"
    addresses: tuple[Interface_, ...] = ()
    mac: str = ""
    aliases: tuple[str, ...] = ()
    ports: tuple[PublishedPort, ...] = ()
    gateway: bool = True
    owned: bool = False
    netns_id: int = 0
    hostname: str = ""
    service: str = ""
    project: str = ""
    host_name: str = ""
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        """Check the names."""
        check_name("endpoint", self.name)
        check_ifname(self.ifname)
        if self.host_name:
            check_ifname(self.host_name)
        for alias in self.aliases:
            check_name("alias", alias, longest=253)

    @property
    def host_ifname(self) -> str:
        """The bridge port on the host."""
        return self.host_name or host_ifname(self.network, self.name)

    def address(self, version: int) -> Interface_ | None:
        """Return the first address of that IP version, None without one."""
        for one in self.addresses:
            if one.version == version:
                return one
        return None

    @property
    def names(self) -> tuple[str, ...]:
        """What the neighbours call it: its name, its host name, its aliases, each once."""
        return tuple(dict.fromkeys(name for name in (self.name, self.hostname, *self.aliases) if name))
