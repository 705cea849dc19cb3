"""The shape of a topology file, as pydantic models: one table for checking, for the JSON Schema and for docs/files.md.

Field names, forms and defaults are the compose spec's. Where it takes two forms (a map or a list), the input's own
kind chooses the model, so that a mistake is told once and in the form that was written. Fields take what the parsers
in `parts` take; what fields mean together is checked later, on the model.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, PlainValidator, Tag, WithJsonSchema
from pydantic_core import PydanticCustomError

from nsbridge.files import parts
from nsbridge.files.faults import Wrong
from nsbridge.files.fields import IGNORED
from nsbridge.model.network import GATEWAY_MODES, POLICIES

WRONG = "nsbridge"
"""Type of the errors that our own parsers raise inside pydantic."""

MAP, LIST, SHORT = "<map>", "<list>", "<short>"
"""Tags of the two forms; pydantic puts them into an error's location, and no key looks like them."""


def _parsed(parse: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Turn Wrong into pydantic's kind of error, so that it collects them."""

    def checked(value: Any) -> Any:
        try:
            return parse(value)
        except Wrong as wrong:
            raise PydanticCustomError(WRONG, "{message}", {"message": wrong.message, "hint": wrong.hint}) from None

    return checked


def _form(value: Any) -> str | None:
    return MAP if isinstance(value, dict) else LIST if isinstance(value, list) else None


def _port_form(value: Any) -> str:
    return MAP if isinstance(value, dict) else SHORT


_SCALAR: dict[str, Any] = {"type": ["string", "number", "boolean"]}
_NUMBER: dict[str, Any] = {"type": ["string", "integer"]}

Text = Annotated[str, BeforeValidator(_parsed(parts.text)), WithJsonSchema(_SCALAR)]
Line = Annotated[str, BeforeValidator(_parsed(parts.text)), WithJsonSchema({"type": "string"})]
Flag = Annotated[bool, BeforeValidator(_parsed(parts.flag)), WithJsonSchema({"type": ["boolean", "string"]})]
User = Annotated[str, BeforeValidator(_parsed(parts.user)), WithJsonSchema(_NUMBER)]
Mac = Annotated[str, BeforeValidator(_parsed(parts.mac)), WithJsonSchema({"type": "string"})]
Port = Annotated[int, PlainValidator(_parsed(parts.port)), WithJsonSchema(_NUMBER)]
Interface = Annotated[str, PlainValidator(_parsed(parts.ifname)), WithJsonSchema({"type": "string"})]
Mtu = Annotated[int, PlainValidator(_parsed(parts.mtu)), WithJsonSchema(_NUMBER)]
HostPort = Annotated[int, PlainValidator(_parsed(parts.host_port)), WithJsonSchema(_NUMBER)]
Proto = Annotated[
    Literal["tcp", "udp", "sctp"], PlainValidator(_parsed(parts.protocol)), WithJsonSchema({"type": "string"})
]
Address = Annotated[Any, PlainValidator(_parsed(parts.address)), WithJsonSchema({"type": "string"})]
Address4 = Annotated[IPv4Address, PlainValidator(_parsed(parts.address4)), WithJsonSchema({"type": "string"})]
Address6 = Annotated[IPv6Address, PlainValidator(_parsed(parts.address6)), WithJsonSchema({"type": "string"})]
Cidr = Annotated[Any, PlainValidator(_parsed(parts.network)), WithJsonSchema({"type": "string"})]
Pair = Annotated[tuple[str, str | None], PlainValidator(_parsed(parts.pair)), WithJsonSchema({"type": "string"})]
ShortPorts = Annotated[Any, PlainValidator(_parsed(parts.short_ports)), WithJsonSchema(_NUMBER)]
Driver = Annotated[
    str, BeforeValidator(_parsed(parts.only("bridge", "default"))), WithJsonSchema({"enum": ["bridge", "default"]})
]
IpamDriver = Annotated[str, BeforeValidator(_parsed(parts.only("default"))), WithJsonSchema({"enum": ["default"]})]
PortMode = Annotated[
    str, BeforeValidator(_parsed(parts.only("host", "ingress"))), WithJsonSchema({"enum": ["host", "ingress"]})
]
Verdict = Annotated[str, BeforeValidator(_parsed(parts.one_of(*POLICIES))), WithJsonSchema({"enum": list(POLICIES)})]
GatewayMode = Annotated[
    str, BeforeValidator(_parsed(parts.one_of(*GATEWAY_MODES))), WithJsonSchema({"enum": list(GATEWAY_MODES)})
]
Condition = Annotated[
    str,
    BeforeValidator(
        _parsed(parts.only("service_started", hint="only service_started is supported: wait for more in the command"))
    ),
    WithJsonSchema({"enum": ["service_started"]}),
]
NeverRestart = Annotated[
    bool,
    BeforeValidator(_parsed(parts.only_flag(False, "services are not restarted with others: remove it"))),
    WithJsonSchema({"enum": [False, "false"]}),
]
AlwaysIPv4 = Annotated[
    bool,
    BeforeValidator(_parsed(parts.only_flag(True, "networks without IPv4 are not supported: remove it"))),
    WithJsonSchema({"enum": [True, "true"]}),
]
Words = Annotated[
    tuple[str, ...],
    PlainValidator(_parsed(parts.words)),
    WithJsonSchema({"oneOf": [{"type": "string"}, {"type": "array", "items": _SCALAR}]}),
]
Pairs = Annotated[
    Annotated[dict[str, Text | None], Tag(MAP)] | Annotated[list[Pair], Tag(LIST)],
    Discriminator(_form),
]
_NAMES: dict[str, Any] = {"propertyNames": {"pattern": "^[a-zA-Z0-9][a-zA-Z0-9._-]*$"}}


class Shape(BaseModel):
    """Base: no unknown fields (`x-…` aside), frozen; a field that is empty counts as absent.

    kind: what messages and the tables in `fields` call it. children: fields that hold other shapes, one by one
    in a map or list, or directly.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)
    kind: ClassVar[str]
    children: ClassVar[dict[str, tuple[Literal["each", "one"], type[Shape]]]] = {}

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the fields as a file writes them."""
        return tuple(field.alias or name for name, field in cls.model_fields.items())


class SubnetShape(Shape):
    """One subnet of a network."""

    kind: ClassVar[str] = "subnet"
    subnet: Cidr = Field(description="The subnet in CIDR notation.", examples=["172.30.0.0/24", "fd00:30::/64"])
    gateway: Address | None = Field(None, description="The bridge's own address; the first of the subnet if not given.")
    ip_range: Cidr | None = Field(
        None, description="Automatic addresses come from here; all of the subnet if not given."
    )
    aux_addresses: dict[str, Address] | None = Field(
        None, description="Addresses that are never given out, each with a name to remember why."
    )


class IpamShape(Shape):
    """How a network's addresses are chosen."""

    kind: ClassVar[str] = "ipam"
    children: ClassVar = {"config": ("each", SubnetShape)}
    driver: IpamDriver | None = Field(None, description="Only `default`: nsbridge gives addresses out itself.")
    config: list[SubnetShape] | None = Field(
        None, description="At most one IPv4 and one IPv6 subnet; without, a free IPv4 subnet is chosen."
    )


class DriverOptionsShape(Shape):
    """Options of the bridge, by Docker's names."""

    kind: ClassVar[str] = "driver option"
    bridge: Line | None = Field(
        None, alias="com.docker.network.bridge.name", description="Name of the bridge's interface, at most 15 bytes."
    )
    mtu: Mtu | None = Field(
        None, alias="com.docker.network.driver.mtu", description="MTU in bytes; the uplink's if not given."
    )
    icc: Flag | None = Field(
        None,
        alias="com.docker.network.bridge.enable_icc",
        description="Whether endpoints of the network may talk to one another; true if not given.",
    )
    masquerade: Flag | None = Field(
        None,
        alias="com.docker.network.bridge.enable_ip_masquerade",
        description="Whether packets leave with the host's address; true if not given.",
    )
    source4: Address4 | None = Field(
        None,
        alias="com.docker.network.host_ipv4",
        description="The IPv4 address of the host with which packets leave; the route's if not given.",
    )
    source6: Address6 | None = Field(None, alias="com.docker.network.host_ipv6", description="The same for IPv6.")
    host_binding: Address4 | None = Field(
        None,
        alias="com.docker.network.bridge.host_binding_ipv4",
        description="The host's address on which ports are published that name none.",
    )
    gateway_mode4: GatewayMode | None = Field(
        None,
        alias="com.docker.network.bridge.gateway_mode_ipv4",
        description="`nat` (if not given), `nat-unprotected`, `routed` or `isolated`; see below.",
    )
    gateway_mode6: GatewayMode | None = Field(
        None, alias="com.docker.network.bridge.gateway_mode_ipv6", description="The same for IPv6."
    )
    trusted: Line | None = Field(
        None,
        alias="com.docker.network.bridge.trusted_host_interfaces",
        description="Interfaces of the host, joined by colons, from which endpoints may be reached directly.",
    )
    mac_filtering: Flag | None = Field(
        None,
        alias="security.mac_filtering",
        description="Whether an endpoint may send only from its own MAC; true if not given.",
    )
    ipv4_filtering: Flag | None = Field(
        None,
        alias="security.ipv4_filtering",
        description="Whether it may send only from its own IPv4 address, in ARP too; true if not given.",
    )
    ipv6_filtering: Flag | None = Field(
        None,
        alias="security.ipv6_filtering",
        description="Whether it may send only from its own IPv6 addresses, advertise only these, and no routes; true "
        "if not given.",
    )


class PolicyShape(Shape):
    """One rule of the policy."""

    kind: ClassVar[str] = "policy rule"
    allow: Line | None = Field(None, description="Lets this connection pass: `SOURCE -> TARGET[:PORTS][/PROTOCOL]`.")
    deny: Line | None = Field(None, description="Drops it without a word.")
    reject: Line | None = Field(None, description="Drops it and tells the sender.")
    log: Flag | None = Field(None, description="Whether the kernel's log gets a line for each; false if not given.")


class ExternalShape(Shape):
    """The older way to name an external network."""

    kind: ClassVar[str] = "external"
    name: Line = Field(description="The network's real name.")


class NetworkShape(Shape):
    """One network."""

    kind: ClassVar[str] = "network"
    children: ClassVar = {
        "ipam": ("one", IpamShape),
        "external": ("one", ExternalShape),
        "driver_opts": ("one", DriverOptionsShape),
    }
    name: Line | None = Field(None, description="Its real name; `PROJECT_KEY` if not given.")
    driver: Driver | None = Field(None, description="Only `bridge` (or `default`).")
    driver_opts: DriverOptionsShape | None = Field(None, description="Options of the bridge, by Docker's names.")
    internal: Flag | None = Field(None, description="No way in or out, and no published ports.")
    enable_ipv4: AlwaysIPv4 | None = Field(None, description="Only true.")
    enable_ipv6: Flag | None = Field(
        None, description="Choose an IPv6 subnet (a ULA) if `ipam` gives none. An IPv6 subnet turns it on by itself."
    )
    ipam: IpamShape | None = Field(None, description="Its subnets.")
    external: (
        Annotated[Annotated[Flag, Tag(SHORT)] | Annotated[ExternalShape, Tag(MAP)], Discriminator(_port_form)] | None
    ) = Field(None, description="It must exist already and outlives `down`; only `name` may stand beside it.")
    labels: Pairs | None = Field(None, description="Names and values for your own use; a map, or a list of NAME=VALUE.")
    policy: Verdict | None = Field(
        None,
        description="What becomes of connections that its services begin and no rule is about: `allow` (if not given), "
        "`deny` or `reject`.",
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


class AttachmentShape(Shape):
    """A service's place on one network."""

    kind: ClassVar[str] = "network of a service"
    ipv4_address: Address4 | None = Field(None, description="Its IPv4 address; a free one is chosen if not given.")
    ipv6_address: Address6 | None = Field(None, description="Its IPv6 address; a free one is chosen if not given.")
    mac_address: Mac | None = Field(None, description="Its MAC address; made from its IP address if not given.")
    aliases: list[Line] | None = Field(None, description="More names by which its neighbours find it.")


class DependencyShape(Shape):
    """One service that another waits for."""

    kind: ClassVar[str] = "dependency"
    condition: Condition = Field(description="Only `service_started`.")
    restart: NeverRestart | None = Field(None, description="Only false.")
    required: Flag | None = Field(
        None, description="Whether it is a fault when there is no such service; true if not given."
    )


class ServiceShape(Shape):
    """One service: a namespace, and a program of the host in it if it has a command."""

    kind: ClassVar[str] = "service"
    children: ClassVar = {
        "networks": ("each", AttachmentShape),
        "ports": ("each", PortShape),
        "depends_on": ("each", DependencyShape),
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
            Discriminator(_form),
        ]
        | None
    ) = Field(
        None,
        description="The networks it is on: a list, or a map with addresses and aliases. The first holds the default "
        "route and the published ports. Without it: the project's network `default`.",
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
                Discriminator(_port_form),
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
            Discriminator(_form),
        ]
        | None
    ) = Field(None, description="Services that are started before it: a list, or a map with conditions.")
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
        PortShape,
        DependencyShape,
        NetworkShape,
        DriverOptionsShape,
        IpamShape,
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
