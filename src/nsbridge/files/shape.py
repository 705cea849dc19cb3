"""The shape of a topology file, as pydantic models: one table for checking, for the JSON Schema and for docs/files.md.

Field names, forms and defaults are the compose spec's. Where it takes two forms (a map or a list), the input's own
kind chooses the model, so that a mistake is told once and in the form that was written. Fields take what the parsers
in `parts` take; what fields mean together is checked later, on the model.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Discriminator, Field, Tag

from nsbridge.files.fields import IGNORED
from nsbridge.files.netshape import (
    DriverOptionsShape,
    ExternalShape,
    IpamShape,
    NetworkShape,
    RouteShape,
    Shape,
    SubnetShape,
)
from nsbridge.files.scalars import (
    LIST,
    MAP,
    SHORT,
    Address,
    Address4,
    Address6,
    Condition,
    Duration,
    Flag,
    HealthTest,
    HostPort,
    Interface,
    Line,
    LinkLocal,
    Mac,
    NeverRestart,
    Pairs,
    Port,
    PortMode,
    Proto,
    Rate,
    Share,
    ShortPorts,
    User,
    Vlan,
    Whole,
    Words,
    form,
    port_form,
)

_NAMES: dict[str, Any] = {"propertyNames": {"pattern": "^[a-zA-Z0-9][a-zA-Z0-9._-]*$"}}


class PolicyShape(Shape):
    """One rule of the policy."""

    kind: ClassVar[str] = "policy rule"
    allow: Line | None = Field(None, description="Lets this connection pass: `SOURCE -> TARGET[:PORTS][/PROTOCOL]`.")
    deny: Line | None = Field(None, description="Drops it without a word.")
    reject: Line | None = Field(None, description="Drops it and tells the sender.")
    log: Flag | None = Field(
        None, description="Whether the kernel's log gets a line for each, ten a second at most; false if not given."
    )


class PortShape(Shape):
    """The long form of a published port."""

    kind: ClassVar[str] = "port"
    target: Port = Field(description="The port inside.")
    published: HostPort | None = Field(None, description="The host's port; a free one is chosen if not given.")
    host_ip: Address | None = Field(
        None, description="The host's address; all if not given. `0.0.0.0` is all of IPv4, `::` all of IPv6."
    )
    interface: Interface | None = Field(
        None, description="Instead of `host_ip`: an interface of the host, by name, whatever its addresses are."
    )
    share: Flag | None = Field(
        None, description="Several services may publish this port; new connections go to each in turn."
    )
    protocol: Proto | None = Field(None, description="`tcp` (if not given), `udp` or `sctp`.")
    mode: PortMode | None = Field(None, description="`host` or `ingress`; on one host they are the same.")
    name: Line | None = Field(None, description="For people; nothing is done with it.")
    app_protocol: Line | None = Field(None, description="For people; nothing is done with it.")


class PlaceOptionsShape(Shape):
    """Options of a service's interface on one network."""

    kind: ClassVar[str] = "option of a service's network"
    host_interface_name: Line | None = Field(
        None, description="Name of the interface's other end, on the host; made from the names if not given."
    )
    check_address: Flag | None = Field(
        None, description="Ask the neighbours before the addresses are taken (RFC 5227); takes 0.3 s."
    )
    vlan: Vlan | None = Field(
        None,
        description="The VLAN it is in, on somebody else's bridge (`mode: unmanaged`) that keeps VLANs apart; the "
        "network's if not given.",
    )
    ingress: Rate | None = Field(None, alias="limits.ingress", description="Bits per second it receives: `10Mbit`.")
    egress: Rate | None = Field(None, alias="limits.egress", description="Bits per second it sends: `500kbit`.")
    delay: Duration | None = Field(None, description="How long what it sends waits: `20ms`. Needs netem in the kernel.")
    jitter: Duration | None = Field(None, description="Give or take so much: `5ms`. Needs netem in the kernel.")
    loss: Share | None = Field(None, description="How much of what it sends is lost: `0.5%`. Needs netem.")


class AttachmentShape(Shape):
    """A service's place on one network."""

    kind: ClassVar[str] = "network of a service"
    children: ClassVar = {"driver_opts": ("one", PlaceOptionsShape)}
    interface_name: Line | None = Field(None, description="Name of the interface inside; eth0, eth1, … if not given.")
    link_local_ips: list[LinkLocal] | None = Field(None, description="More addresses, good on this network alone.")
    gw_priority: Whole | None = Field(
        None,
        description="The network with the highest holds the published ports, and the default route of each IP version "
        "in which it leads out; 0 if not given, and the first in the file of equals.",
    )
    driver_opts: PlaceOptionsShape | None = Field(None, description="Options of the interface.")
    ipv4_address: Address4 | None = Field(None, description="Its IPv4 address; a free one is chosen if not given.")
    ipv6_address: Address6 | None = Field(None, description="Its IPv6 address; a free one is chosen if not given.")
    mac_address: Mac | None = Field(None, description="Its MAC address; made from its IP address if not given.")
    aliases: list[Line] | None = Field(None, description="More names by which its neighbours find it.")


class DependencyShape(Shape):
    """One service that another waits for."""

    kind: ClassVar[str] = "dependency"
    condition: Condition = Field(description="`service_started`, or `service_healthy`: its `healthcheck` succeeded.")
    restart: NeverRestart | None = Field(None, description="Only false.")
    required: Flag | None = Field(
        None, description="Whether it is a fault when there is no such service; true if not given."
    )


class HealthShape(Shape):
    """A command that tells whether a service does its work."""

    kind: ClassVar[str] = "healthcheck"
    test: HealthTest | None = Field(
        None,
        description="Runs where the service runs, exit status 0 means healthy: text for a shell, `[CMD, PROGRAM, …]`, "
        "`[CMD-SHELL, TEXT]`, or `[NONE]`.",
    )
    interval: Duration | None = Field(None, description="How often: `30s` if not given.")
    timeout: Duration | None = Field(None, description="A test that takes longer has failed; `30s` if not given.")
    retries: Whole | None = Field(None, description="So many failures in a row make it unhealthy; 3 if not given.")
    start_period: Duration | None = Field(
        None, description="To become healthy it has this and `retries` times `interval`; `0s` if not given."
    )
    start_interval: Duration | None = Field(None, description="How often until then; `1s` if not given.")
    disable: Flag | None = Field(None, description="True for no test, as `[NONE]`.")


class ServiceShape(Shape):
    """One service: a namespace, and a program of the host in it if it has a command."""

    kind: ClassVar[str] = "service"
    children: ClassVar = {
        "networks": ("each", AttachmentShape),
        "ports": ("each", PortShape),
        "depends_on": ("each", DependencyShape),
        "healthcheck": ("one", HealthShape),
    }
    command: Words | None = Field(
        None,
        description="The program and its arguments: a list, or text that is split as a shell would, though no shell "
        "runs it. Without command and entrypoint the service is a namespace without a process.",
    )
    entrypoint: Words | None = Field(None, description="Stands before `command`; same forms.")
    environment: Pairs | None = Field(
        None,
        description="Variables on top of the caller's: a map, or a list of NAME=VALUE. A bare NAME takes the caller's "
        "value, or is left out without one.",
    )
    working_dir: Line | None = Field(None, description="Where the program starts; relative to the file's directory.")
    user: User | None = Field(None, description="NAME or UID, either with :GROUP; the caller's if not given.")
    hostname: Line | None = Field(None, description="What the program's host is called, and a name for its neighbours.")
    container_name: Line | None = Field(
        None, description="Names the service, and so its namespace; its key then is an alias."
    )
    networks: (
        Annotated[
            Annotated[dict[str, AttachmentShape | None], Tag(MAP)] | Annotated[list[Line], Tag(LIST)],
            Discriminator(form),
        ]
        | None
    ) = Field(
        None,
        description="The networks it is on: a list, or a map with addresses and aliases. The first holds the "
        "published ports and the default routes (see `gw_priority`). Without it: the project's network `default`.",
    )
    network_mode: Line | None = Field(
        None,
        description="Instead of networks: `bridge` (the network that exists without being made), `host`, `none`, or "
        "`service:NAME` to share that service's namespace.",
    )
    mac_address: Mac | None = Field(None, description="Its MAC address on its first network.")
    ports: (
        list[
            Annotated[
                Annotated[ShortPorts, Tag(SHORT)] | Annotated[PortShape, Tag(MAP)],
                Discriminator(port_form),
            ]
        ]
        | None
    ) = Field(
        None,
        description="Published ports: `[HOST_IP:][HOST_PORT:]PORT[/PROTOCOL]`, also with ranges of equal length, "
        "or maps. Without a host port a free one is chosen. An interface of the host may stand for HOST_IP.",
        examples=[["8088:80", "127.0.0.1:5353:53/udp", "3000-3005:3000-3005"]],
    )
    depends_on: (
        Annotated[
            Annotated[dict[str, DependencyShape], Tag(MAP)] | Annotated[list[Line], Tag(LIST)],
            Discriminator(form),
        ]
        | None
    ) = Field(None, description="Services that are started before it: a list, or a map with conditions.")
    healthcheck: HealthShape | None = Field(
        None,
        description="How it is asked whether it does its work. Until it does, and while it doesn't, it gets no new "
        "connections on ports that it shares.",
    )
    labels: Pairs | None = Field(None, description="Names and values for your own use; a map, or a list of NAME=VALUE.")


class TopologyShape(Shape):
    """A topology file: a project's networks and services, in the words of the compose spec."""

    kind: ClassVar[str] = "topology"
    children: ClassVar = {
        "services": ("each", ServiceShape),
        "networks": ("each", NetworkShape),
        "policy": ("each", PolicyShape),
    }
    name: Line | None = Field(
        None, description="The project; begins the real names of its networks. The directory's name if not given."
    )
    networks: dict[str, NetworkShape | None] | None = Field(
        None, description="The project's networks by key.", json_schema_extra=_NAMES
    )
    services: dict[str, ServiceShape | None] | None = Field(
        None, description="The project's services by name, which names their namespaces.", json_schema_extra=_NAMES
    )
    policy: list[PolicyShape] | None = Field(
        None, description="What may talk to what: rules, of which the first that fits decides."
    )


def shapes() -> tuple[type[Shape], ...]:
    """Return all shapes, outermost first."""
    return (
        TopologyShape,
        PolicyShape,
        ServiceShape,
        AttachmentShape,
        PlaceOptionsShape,
        PortShape,
        DependencyShape,
        HealthShape,
        NetworkShape,
        DriverOptionsShape,
        IpamShape,
        RouteShape,
        SubnetShape,
        ExternalShape,
    )


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a file, draft 2020-12; ignored fields are there, marked as deprecated."""
    found = TopologyShape.model_json_schema()
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **found, "title": "nsbridge topology"}
    by_name = {shape.__name__: shape for shape in shapes()}
    for name, one in (("TopologyShape", schema), *schema["$defs"].items()):
        one["patternProperties"] = {"^x-": {}}
        for field, why in IGNORED.get(by_name[name].kind, {}).items():
            one["properties"][field] = {"deprecated": True, "description": f"Ignored: {why}."}
    return schema
