"""`nsbridge.Endpoint`: a namespace's place on a network, and what can be done in it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable, Mapping
from typing import IO, TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack, overload

from nsbridge.api import command, words
from nsbridge.api.command import Command
from nsbridge.api.host import current
from nsbridge.engine import endpoints, services, shared
from nsbridge.engine.endpoints import Wish
from nsbridge.errors import InUse, InvalidIntent, NotFound
from nsbridge.kernel import netns
from nsbridge.model.service import Service

if TYPE_CHECKING:
    from types import TracebackType

    from nsbridge.api.network import Network
    from nsbridge.kernel.process import ProcessSpec
    from nsbridge.model import endpoint as model
    from nsbridge.model.endpoint import PublishedPort
    from nsbridge.state.things import Address_

T = TypeVar("T")


class Endpoint:
    """A namespace on a network. `Network.endpoint` and `Network.attach` return one; `with` makes it and takes it away.

    name, network, netns: its name, its network's name, and the path that opens its namespace. owned: the namespace is
    of our making and goes with it. It can be handed to other threads.
    """

    def __init__(
        self, name: str, network: str, path: str, *, service: Service | None = None, wish: Wish | None = None
    ) -> None:
        self.name = name
        self.network = network
        self.netns = path
        self.owned = service is not None
        self._service = service
        self._wish = wish
        self._made = False
        self._commands: list[Command] = []

    @classmethod
    def of(cls, value: model.Endpoint) -> Endpoint:
        """Return the endpoint that this value describes; leaving a `with` block doesn't remove it."""
        found = cls(value.name, value.network, value.netns)
        found.owned = value.owned
        return found

    # making and removing

    def create(self) -> Self:
        """Make it, all of it or nothing; return itself.

        Taken, PortTaken, Exhausted, NotFound, NoPermission, KernelError.
        """
        if self._service is not None:
            services.start(current(), self._service)
        elif self._wish is not None:
            made = endpoints.connect(current(), self._wish)
            self.netns, self.owned = made.netns, made.owned
        self._made = True
        return self

    def remove(self, *, grace_s: float = services.GRACE_S) -> None:
        """Take it away. A namespace of our own goes too, with its commands.

        grace_s: seconds between SIGTERM and SIGKILL. Of a namespace that somebody else made, and of what `connect` and
        `Network.attach` returned, only its place on this network goes.
        """
        host = current()
        first = host.store.service_or_none(self.name) if self.owned and self._wish is None else None
        if first is not None and first.service.main_network == self.network:
            for one in host.store.services():
                if one.service.mode == f"service:{self.name}":
                    services.stop(host, (one,), grace_s)
                    services.remove(host, one.service.name, force=True)
            services.stop(host, (first,), grace_s)
            services.remove(host, self.name, force=True)
        else:
            endpoints.disconnect(host, self.network, self.name)
        self._made = False

    def close(self) -> None:
        """Take it away if this object made it and it is still there."""
        if self._made:
            self._made = False
            if current().store.endpoint(self.network, self.name) is not None:
                self.remove()

    def __enter__(self) -> Self:
        """Make it unless it is there already."""
        if not self._made and (self._service is not None or self._wish is not None):
            self.create()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Take it away if this object made it."""
        self.close()

    # what it is

    @property
    def value(self) -> model.Endpoint:
        """All about it as a frozen value. NotFound while it doesn't exist."""
        found = current().store.endpoint(self.network, self.name)
        if found is None:
            raise NotFound(f"there is no endpoint {self.name!r} on network {self.network!r}", fix="create it first")
        return found

    @property
    def address(self) -> Address_:
        """Its address: IPv4 if it has one. NotFound on a network without subnets."""
        found = self.value.addresses
        if not found:
            raise NotFound(f"endpoint {self.name!r} has no address: network {self.network!r} has no subnet")
        return found[0].ip

    @property
    def addresses(self) -> tuple[Address_, ...]:
        """All its addresses on this network, IPv4 first."""
        return tuple(address.ip for address in self.value.addresses)

    @property
    def ifname(self) -> str:
        """The interface inside."""
        return self.value.ifname

    @property
    def mac(self) -> str:
        """Its MAC address."""
        return self.value.mac

    @property
    def ports(self) -> tuple[PublishedPort, ...]:
        """Its published ports, with the host ports that were chosen."""
        return self.value.ports

    # changing it while it lives

    def publish(self, *ports: words.Port, share: bool = False) -> tuple[PublishedPort, ...]:
        """Publish more ports; return them with their host ports. PortTaken when one is taken, and then none is.

        >>> site.publish("8082:80")
        (PublishedPort(target=80, host_port=8082),)

        share: others may publish these host ports too; new connections go to each in turn.
        """
        before = len(self.value.ports)
        wanted = [port.replace(share=port.share or share) for port in words.ports(ports)]
        return endpoints.publish(current(), self.name, tuple(wanted), self.network).ports[before:]

    def drain(self, *ports: words.Port, out: bool = True) -> None:
        """Give it no new connections of these shared ports for now, or with ``out=False`` some again. NotFound."""
        for port in words.ports(ports):
            shared.turn_out(current(), self.value, port, out)

    def unpublish(self, *ports: words.Port) -> None:
        """Take published ports away, named as they were published or by the port inside alone. NotFound."""
        endpoints.unpublish(current(), self.name, words.ports(ports), self.network)

    def connect(
        self,
        network: Network | str,
        *,
        ports: Iterable[words.Port] = (),
        **place: Unpack[words.Place],
    ) -> Endpoint:
        """Put the namespace on one more network, now; return its endpoint there.

        The default route stays where it is. As a `with` block it leaves that network again; otherwise `remove` of the
        endpoint there does, and `remove` of this one does for a namespace of our own. ports, place: as for
        `Network.endpoint`.
        """
        name = network if isinstance(network, str) else network.name
        wish = Wish(self.name, self.netns, words.attachment(name, **place), ports=words.ports(ports))
        return Endpoint(self.name, name, self.netns, wish=wish).create()

    # working in it

    def inside(self, function: Callable[[], T]) -> T:
        """Call a function in a new thread inside the namespace; return what it returns, raise what it raises.

        Sockets that it opens stay in the namespace, wherever they are used later:

        >>> site.inside(lambda: socket.create_server(("", 80))).getsockname()
        ('0.0.0.0', 80)

        Only the network is the namespace's; files, /etc/hosts among them, are the caller's.
        """
        return netns.inside(self.netns, function, anew=True)

    @overload
    def run(
        self,
        args: words.Words,
        *,
        text: Literal[True] = ...,
        input: str | None = ...,
        capture_output: bool = ...,
        stdin: int | IO[Any] | None = ...,
        stdout: int | IO[Any] | None = ...,
        stderr: int | IO[Any] | None = ...,
        check: bool = ...,
        timeout: float | None = ...,
        env: Mapping[str, str] | None = ...,
        cwd: str | os.PathLike[str] = ...,
        user: str = ...,
    ) -> subprocess.CompletedProcess[str]: ...

    @overload
    def run(
        self,
        args: words.Words,
        *,
        text: Literal[False],
        input: bytes | None = ...,
        capture_output: bool = ...,
        stdin: int | IO[Any] | None = ...,
        stdout: int | IO[Any] | None = ...,
        stderr: int | IO[Any] | None = ...,
        check: bool = ...,
        timeout: float | None = ...,
        env: Mapping[str, str] | None = ...,
        cwd: str | os.PathLike[str] = ...,
        user: str = ...,
    ) -> subprocess.CompletedProcess[bytes]: ...

    def run(
        self,
        args: words.Words,
        *,
        text: bool = True,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] = "",
        user: str = "",
        **options: Any,
    ) -> subprocess.CompletedProcess[Any]:
        """Run a command in the namespace and wait for it, as `subprocess.run` does.

        >>> print(site.run(["getent", "hosts", "site"], check=True, capture_output=True).stdout.strip())
        10.88.0.2       site

        It sees its own host name, an /etc/hosts with the names on its networks, and its own resolv.conf. text: output
        and input are text (unlike `subprocess.run`, unless False). env: on top of the caller's environment. The other
        options are those of `subprocess.run`, whose exceptions it raises (CalledProcessError, TimeoutExpired);
        CommandNotFound, CommandRefused and NotFound when nothing could be run. It dies with the calling thread.
        """
        spec = self._spec(self._as_service(args, env, cwd, user))
        return command.run(spec, text=text, **options)

    def start(
        self,
        args: words.Words,
        *,
        name: str = "",
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] = "",
        user: str = "",
    ) -> Command:
        """Start a command in the background; it outlives this process, and goes with the endpoint.

        >>> server = site.start(["python3", "-m", "http.server", "80"])
        >>> server.running, server.stop()
        (True, 143)
        >>> said = site.start(["echo", "done"])
        >>> print(said.wait(), said.logs())
        0 ...done

        The first is the endpoint's own, as in a topology file. For more at the same time, give each a name (of its
        own on this host). InUse when the endpoint's own still runs; CommandNotFound, CommandRefused.
        """
        host = current()
        service = self._as_service(args, env, cwd, user)
        record = host.store.service_or_none(self.name)
        if record is None or not self.owned:
            raise InvalidIntent(
                f"the namespace of {self.name!r} isn't ours, so commands in it can't be kept track of",
                fix="use run(), in a thread if need be, or an endpoint with a namespace of its own",
            )
        if name:
            more = service.replace(name=name, mode=f"service:{self.name}", attachments=(), ports=(), labels=())
            services.start(host, more)
            return Command(name)
        if services.status(host, record).state == "running":
            raise InUse(
                f"the command of {self.name!r} still runs", fix="stop it, or start this one with a name of its own"
            )
        host.store.put_service(record.replace(service=service))
        try:
            services.restart(host, service)
        except BaseException:
            host.store.put_service(record)
            raise
        return Command(self.name)

    def _as_service(
        self, args: words.Words, env: Mapping[str, str] | None, cwd: str | os.PathLike[str], user: str
    ) -> Service:
        record = current().store.service_or_none(self.name) if self.owned else None
        base: Service = record.service if record is not None else Service(self.name)
        return base.replace(
            command=words.command(args),
            environment=tuple((dict(base.environment) | dict(env or {})).items()),
            working_dir=os.fspath(cwd) or base.working_dir,
            user=user or base.user,
        )

    def _spec(self, service: Service) -> ProcessSpec:
        spec = services.process_spec(current(), service, detach=False)
        return spec if self.owned else spec.replace(netns=self.netns, hostname="")

    def __repr__(self) -> str:
        return f"<nsbridge.Endpoint {self.name!r} on {self.network!r}>"
