"""`nsbridge.Network`: a bridge, its subnets, and the endpoints made on it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self, Unpack

from nsbridge.api import words
from nsbridge.api.endpoint import Endpoint
from nsbridge.api.host import current
from nsbridge.api.options import NetworkOptions, network
from nsbridge.engine import networks
from nsbridge.engine.endpoints import Wish
from nsbridge.errors import InUse
from nsbridge.model import network as model
from nsbridge.model.names import DEFAULT_NETWORK, netns_name
from nsbridge.model.service import Service

if TYPE_CHECKING:
    from types import TracebackType

    from nsbridge.state.things import Address_, Network_


class Network:
    """A network. A `with` block makes it and takes it away, with the endpoints that were made by this object.

    >>> with nsbridge.Network("lan", subnet="10.90.0.0/24") as lan, lan.endpoint("web") as web:
    ...     print(web.address)
    10.90.0.2

    Without `with`: `create` and `remove`. For one that is there already: `Network.existing`.

    >>> nsbridge.Network("db", subnet=["10.91.0.0/24", "fd91::/64"], internal=True)
    <nsbridge.Network 'db'>

    What may be asked for is in `nsbridge.NetworkOptions`; InvalidIntent for what can't be. firewall: where this host
    keeps the rules of all its networks, ``nftables`` (default) or ``iptables``; chosen with the first one.
    """

    def __init__(self, name: str, *, firewall: str = "", **options: Unpack[NetworkOptions]) -> None:
        self._firewall = firewall
        self._wanted = network(name, options)
        self._made = False
        self._existing = False
        self._endpoints: list[Endpoint] = []

    @classmethod
    def existing(cls, name: str = DEFAULT_NETWORK) -> Network:
        """Return a network that is there already; leaving a `with` block doesn't remove it. NotFound without it.

        The one called ``default`` needs no making: it comes with its first endpoint and goes with its last.
        """
        if name != DEFAULT_NETWORK:
            current().store.network(name)
        found = cls(name)
        found._existing = True
        return found

    # making and removing

    def create(self) -> Self:
        """Make it; return itself. Taken when its name, bridge or subnet is in use; NoPermission, KernelError."""
        networks.create(current(self._firewall), self._wanted)
        self._made = True
        return self

    def remove(self) -> None:
        """Remove the endpoints that this object made, last first, and the network. InUse names others still on it."""
        for endpoint in reversed(self._endpoints):
            endpoint.close()
        self._endpoints.clear()
        networks.remove(current(), self.name)
        self._made = False

    def __enter__(self) -> Self:
        """Make it unless that was done already."""
        if not (self._made or self._existing):
            self.create()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Remove what this object made."""
        if self._made:
            self.remove()
        for endpoint in reversed(self._endpoints):
            endpoint.close()
        self._endpoints.clear()

    # what is on it

    def endpoint(
        self,
        name: str = "",
        *,
        ports: Iterable[words.Port] = (),
        hostname: str = "",
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] = "",
        user: str = "",
        labels: Mapping[str, str] | None = None,
        **place: Unpack[words.Place],
    ) -> Endpoint:
        """Return an endpoint with a namespace of its own, ``/run/netns/NAME``; `with` or `create` makes it.

        >>> with net.endpoint("dns", ports=["8081:80", "127.0.0.1:5353:53/udp"], aliases=["ns"]) as dns:
        ...     print(*dns.ports)
        0.0.0.0:8081->80/tcp 127.0.0.1:5353->53/udp

        name: chosen when empty. ports: published on the host. env, cwd, user: what commands in it get unless told
        otherwise. place: its addresses, names and limits on the network; see `nsbridge.Place`.
        """
        service = Service(
            name or f"{self.name}-{os.urandom(3).hex()}"[-63:],
            environment=tuple((env or {}).items()),
            working_dir=os.fspath(cwd),
            user=user,
            hostname=hostname,
            attachments=(words.attachment(self.name, **place),),
            ports=words.ports(ports),
            labels=tuple((labels or {}).items()),
        )
        return self._remembered(Endpoint(service.name, self.name, service.netns, service=service))

    def attach(
        self,
        netns: str | int | os.PathLike[str],
        *,
        name: str = "",
        ports: Iterable[words.Port] = (),
        gateway: bool | None = None,
        **place: Unpack[words.Place],
    ) -> Endpoint:
        """Return an endpoint for a namespace that somebody else made; `with` or `create` attaches it.

        >>> with net.attach("box", ports=["8080:80"]) as box:      # or a path, or the PID of a container's process
        ...     print(box.netns, box.ifname)
        /run/netns/box eth0

        netns: a name of `ip netns`, a path, or the PID of any process in it (a container's, say). gateway: whether the
        default route leads here, None for "if there is none". place: as for `endpoint`; without an ifname the first
        free of eth0 to eth9 is taken.
        """
        path = words.netns(netns)
        to = words.attachment(self.name, **place)
        leads = None if gateway is None else (4, 6) if gateway else ()
        wish = Wish(name or netns_name(path), path, to, ports=words.ports(ports), gateway=leads)
        return self._remembered(Endpoint(wish.name, self.name, path, wish=wish))

    def _remembered(self, endpoint: Endpoint) -> Endpoint:
        self._endpoints.append(endpoint)
        return endpoint

    # what it is

    @property
    def name(self) -> str:
        """Its name."""
        return self._wanted.name

    @property
    def value(self) -> model.Network:
        """All about it as a frozen value, with everything chosen. NotFound while it doesn't exist."""
        return current().store.network(self.name)

    @property
    def subnets(self) -> tuple[Network_, ...]:
        """Its subnets, IPv4 first."""
        return tuple(subnet.network for subnet in self.value.subnets)

    @property
    def gateway(self) -> Address_:
        """The bridge's first address: the way out, and where the host can be reached. InUse without a subnet."""
        if not self.value.subnets:
            raise InUse(f"network {self.name!r} has no subnet, so it has no gateway")
        return self.value.subnets[0].gateway_interface.ip

    @property
    def bridge(self) -> str:
        """Its interface on the host."""
        return self.value.ifname

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Everything on it, whoever made it."""
        return tuple(Endpoint.of(one) for one in current().store.endpoints(self.name))

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Network) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"<nsbridge.Network {self.name!r}>"
