"""An endpoint: a namespace's place on one network, and the ports it publishes."""

from __future__ import annotations

from nsbridge.errors import InvalidIntent
from nsbridge.model.limits import Limits
from nsbridge.model.names import check_ifname, check_name, host_ifname
from nsbridge.values import Value, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, TypeAlias

    from nsbridge.state.things import Address_, Interface_

    Proto: TypeAlias = Literal["tcp", "udp", "sctp"]

PROTOS = ("tcp", "udp", "sctp")


class PublishedPort(Value):
    """A host port, or a range of them, that reaches a port inside an endpoint.

    host_port: 0 lets nsbridge choose a free one. host_ip: the host's address it is bound to, None for all;
    ``0.0.0.0`` means all of IPv4 and ``::`` all of IPv6. interface: what comes in by this interface of the host
    alone, and what the host itself sends to its addresses. count: so many ports, from `target` and `host_port` on.
    choices: one of so many host ports from `host_port` on, whichever is free; it is 1 once that is decided. share:
    several endpoints answer on this port in turn. own: the interface's addresses when it was published.
    """

    target: int
    host_port: int = 0
    proto: Proto = "tcp"
    host_ip: Address_ | None = None
    interface: str = ""
    count: int = 1
    choices: int = 1
    share: bool = False
    own: tuple[Address_, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        """Check both ports, the protocol, and what goes together."""
        for name, port, least in (("port", self.target, 1), ("host port", self.host_port, 0)):
            if not least <= port <= 65535:
                raise InvalidIntent(f"{name} is {port}", fix="choose a port from 1 to 65535")
        if self.proto not in PROTOS:
            raise InvalidIntent(f"protocol is {self.proto!r}", fix=f"use one of {', '.join(PROTOS)}")
        if self.count != 1 or self.choices != 1 or self.interface or self.share:
            self._check_together()

    def _check_together(self) -> None:
        for many in (self.count, self.choices):
            if many < 1 or max(self.target + self.count, self.host_port + many) > 65536:
                raise InvalidIntent(f"a range of {many} ports from {self.host_port or self.target} on ends above 65535")
        if not self.host_port and (self.count > 1 or self.choices > 1 or self.share):
            raise InvalidIntent("a range or a shared port needs a host port", fix="name one: HOST_PORT:PORT")
        if self.choices > 1 and self.count > 1:
            raise InvalidIntent(
                "a range of ports can't be chosen from another range", fix="give ranges of equal length"
            )
        if self.interface:
            check_ifname(self.interface)
            if self.host_ip is not None:
                raise InvalidIntent(
                    "a port is bound to an address or to an interface, not both", fix="drop one of them"
                )
        narrow = self.interface or not (self.host_ip is None or self.host_ip.is_unspecified)
        if self.share and (narrow or self.count > 1 or self.choices > 1):
            raise InvalidIntent(
                f"port {self} can't be shared: only single ports on all addresses can",
                fix="publish it without an address, interface or range",
            )

    @property
    def host_text(self) -> str:
        """``0.0.0.0:8088``, ``[::1]:8088``, ``eth0:3000-3005``, as docker port shows it."""
        where = self.interface or ("0.0.0.0" if self.host_ip is None else str(self.host_ip))
        where = f"[{where}]" if ":" in where else where
        return f"{where}:{_span(self.host_port, max(self.count, self.choices))}"

    @property
    def target_text(self) -> str:
        """``80``, ``3000-3005``: the ports inside."""
        return _span(self.target, self.count)

    def __str__(self) -> str:
        """``0.0.0.0:8088->80/tcp``, as docker ps shows it."""
        return f"{self.host_text}->{self.target_text}/{self.proto}"


def _span(first: int, count: int) -> str:
    return f"{first}-{first + count - 1}" if count > 1 else str(first)


class Endpoint(Value):
    """A namespace's place on one network.

    netns: the path that opens the namespace; netns_id: its inode when it was attached, so that a path which
    meanwhile opens another namespace is noticed. ifname: the interface inside. addresses: with the prefix
    length of their subnets. gateway: the IP versions whose default route it holds. owned: nsbridge made
    the namespace and takes it away again. hostname: known to the neighbours like an alias. service: the
    service it belongs to, empty for a namespace somebody else made. host_name: the interface on the host, named
    after the endpoint when empty. limits: of its link. vlan: of its port, 0 for that of the network.
    """

    network: str
    name: str
    netns: str
    ifname: str = "eth0"
    addresses: tuple[Interface_, ...] = ()
    mac: str = ""
    aliases: tuple[str, ...] = ()
    ports: tuple[PublishedPort, ...] = ()
    gateway: tuple[int, ...] = (4, 6)
    owned: bool = False
    netns_id: int = 0
    hostname: str = ""
    service: str = ""
    project: str = ""
    host_name: str = ""
    limits: Limits = Limits()
    vlan: int = 0

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

    def leading(self, version: int, *, leads: bool) -> Endpoint:
        """Return it with the default route of an IP version, or without."""
        others = {one for one in self.gateway if one != version}
        return self.replace(gateway=tuple(sorted(others | {version} if leads else others)))

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
