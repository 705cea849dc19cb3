"""A service: a namespace of our own, with or without a command in it, and what a topology file asks of it."""

from __future__ import annotations

from nsbridge.errors import InvalidIntent
from nsbridge.model.limits import Limits
from nsbridge.model.names import check_ifname, check_name, check_vlan
from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.model.endpoint import PublishedPort
    from nsbridge.model.network import Network
    from nsbridge.model.policy import PolicyRule
    from nsbridge.state.things import Address_


class Attachment(Value):
    """A service's wish for one network; what is None or empty is chosen.

    also: more addresses, of the network's subnets or link-local ones. ifname, host_ifname: of the interface inside
    and of its other end on the host. priority: of several networks the highest one holds the published ports and, of
    each IP version in which it leads out, the default route; the first of equals (gw_priority). limits: of its link.
    check_address: ask the neighbours before taking the addresses. vlan: its own, of somebody else's bridge; 0 for that
    of the network.
    """

    network: str
    ipv4: Address_ | None = None
    ipv6: Address_ | None = None
    mac: str = ""
    aliases: tuple[str, ...] = ()
    also: tuple[Address_, ...] = ()
    ifname: str = ""
    host_ifname: str = ""
    priority: int = 0
    limits: Limits = Limits()
    check_address: bool = False
    vlan: int = 0

    def __post_init__(self) -> None:
        """Check names, the VLAN, and that the same address isn't asked for twice."""
        check_vlan(self.vlan)
        for name in (self.ifname, self.host_ifname):
            if name:
                check_ifname(name)
        asked = [address for address in (self.ipv4, self.ipv6, *self.also) if address is not None]
        for address in asked:
            if asked.count(address) > 1:
                raise InvalidIntent(f"address {address} is asked for twice", fix="name it once")


class Health(Value):
    """A test of a service, in the words of the compose spec's ``healthcheck``; times in microseconds.

    test: a command, run where the service runs; exit status 0 means healthy. It is killed after `timeout`. A service
    that is starting is asked every `start_interval` (or `interval` if that is shorter) and has `start_period` and
    `retries` times `interval` to become healthy. Then it is asked every `interval`, and is unhealthy after
    `retries` failures in a row, until it succeeds again.
    """

    test: tuple[str, ...]
    interval: int = 30_000_000
    timeout: int = 30_000_000
    retries: int = 3
    start_period: int = 0
    start_interval: int = 1_000_000

    def __post_init__(self) -> None:
        """Check that there is something to run, and that time passes."""
        if not self.test or not self.test[0]:
            raise InvalidIntent("a health check has no command", fix="give it one, or leave the health check out")
        for name in ("interval", "timeout", "start_interval"):
            if getattr(self, name) < 1000:
                raise InvalidIntent(f"{name} of a health check is shorter than 1ms", fix="make it longer")
        if self.retries < 1:
            raise InvalidIntent("retries of a health check is 0", fix="write 1 or more")


class Service(Value):
    """What a user asks of a service.

    command: argv, empty for a namespace without a process. environment: (name, value) pairs on top of the
    caller's. user: ``name``, ``uid``, either with ``:group``. attachments: one of them, `main`, holds the default
    route and the published ports. mode: ``""`` for the networks above, ``host``, ``none``, or ``service:NAME`` to
    share a namespace. after: services that are started first; after_healthy: those that must be healthy by then.
    health: how its command is asked whether it does its work. foreground: goes with the command that started it.
    """

    name: str
    command: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    working_dir: str = ""
    user: str = ""
    hostname: str = ""
    attachments: tuple[Attachment, ...] = ()
    ports: tuple[PublishedPort, ...] = ()
    mode: str = ""
    after: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    project: str = ""
    foreground: bool = False
    health: Health | None = None
    after_healthy: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the names, and that ports have a network to be published on."""
        check_name("service", self.name)
        if self.hostname:
            check_name("host", self.hostname, longest=64)
        if self.ports and not self.attachments:
            raise InvalidIntent(
                f"service {self.name!r} publishes ports but is on no network", fix="give it a network or drop its ports"
            )
        if self.health and not self.command:
            raise InvalidIntent(
                f"service {self.name!r} has a health check but no command", fix="give it a command, or drop the check"
            )

    @property
    def main(self) -> int:
        """The place in `attachments` of who holds the ports and, if it leads out, default routes; -1 without any."""
        ranks = [attachment.priority for attachment in self.attachments]
        return ranks.index(max(ranks)) if ranks else -1

    @property
    def main_network(self) -> str:
        """The network that holds its published ports, and default routes if it leads out; empty without any."""
        return self.attachments[self.main].network if self.attachments else ""

    @property
    def netns(self) -> str:
        """The path of its namespace; the host's (empty) with ``mode: host``."""
        if self.mode == "host":
            return ""
        owner = self.mode.removeprefix("service:") if self.mode.startswith("service:") else self.name
        return f"/run/netns/{owner}"

    @property
    def before(self) -> tuple[str, ...]:
        """Names of the services that are started before it: those it waits for, and whose namespace it shares."""
        shared = (self.mode.removeprefix("service:"),) if self.mode.startswith("service:") else ()
        return (*self.after, *shared)


class Topology(Value):
    """One topology file: a project's networks and services.

    external: names of networks that must exist already. warnings: what the reader wants a person to know. policy: what
    may talk to what.
    """

    project: str
    networks: tuple[Network, ...] = ()
    services: tuple[Service, ...] = ()
    external: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    policy: tuple[PolicyRule, ...] = ()

    def started_order(self, names: tuple[str, ...] = ()) -> tuple[Service, ...]:
        """Return these services and all they depend on, each after those; every service for no names.

        InvalidIntent names a cycle, or a name that no service has.
        """
        needed = self.needed(names)
        by_name = {service.name: service for service in self.services if service.name in needed}
        done: dict[str, Service] = {}
        for first in by_name:
            # The services on the way down to the one looked at, each with those it still waits for.
            trail = {} if first in done else {first: iter(by_name[first].before)}
            while trail:
                name = next(reversed(trail))
                earlier = next((one for one in trail[name] if one in by_name and one not in done), None)
                if earlier is None:
                    done[name] = by_name[name]
                    del trail[name]
                elif earlier in trail:
                    raise InvalidIntent(
                        f"services depend on one another in a circle: {' -> '.join((*trail, earlier))}",
                        fix="remove one of these depends_on",
                    )
                else:
                    trail[earlier] = iter(by_name[earlier].before)
        return tuple(done.values())

    def needed(self, names: tuple[str, ...]) -> frozenset[str]:
        """Return these services and all they depend on; every service for no names. InvalidIntent for unknown ones."""
        by_name = {service.name: service for service in self.services}
        for name in names:
            if name not in by_name:
                have = ", ".join(by_name) or "none"
                raise InvalidIntent(f"the file has no service {name!r} (there is: {have})", fix="name one of these")
        found: set[str] = set()
        left = list(names or by_name)
        while left:
            name = left.pop()
            if name not in found and name in by_name:
                found.add(name)
                left += by_name[name].before
        return frozenset(found)
