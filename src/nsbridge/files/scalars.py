"""The small types of a topology file: each parses with `parts` and says in the JSON Schema what it takes."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, PlainValidator, Tag, WithJsonSchema
from pydantic_core import PydanticCustomError

from nsbridge.files import parts
from nsbridge.files.faults import Wrong
from nsbridge.model.network import GATEWAY_MODES, POLICIES, ROUTE_KINDS

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


def form(value: Any) -> str | None:
    """Tell a map from a list."""
    return MAP if isinstance(value, dict) else LIST if isinstance(value, list) else None


def port_form(value: Any) -> str:
    """Tell a map from the short form."""
    return MAP if isinstance(value, dict) else SHORT


SCALAR: dict[str, Any] = {"type": ["string", "number", "boolean"]}
NUMBER: dict[str, Any] = {"type": ["string", "integer"]}

Text = Annotated[str, BeforeValidator(_parsed(parts.text)), WithJsonSchema(SCALAR)]
Line = Annotated[str, BeforeValidator(_parsed(parts.text)), WithJsonSchema({"type": "string"})]
Flag = Annotated[bool, BeforeValidator(_parsed(parts.flag)), WithJsonSchema({"type": ["boolean", "string"]})]
User = Annotated[str, BeforeValidator(_parsed(parts.user)), WithJsonSchema(NUMBER)]
Mac = Annotated[str, BeforeValidator(_parsed(parts.mac)), WithJsonSchema({"type": "string"})]
Port = Annotated[int, PlainValidator(_parsed(parts.port)), WithJsonSchema(NUMBER)]
Interface = Annotated[str, PlainValidator(_parsed(parts.ifname)), WithJsonSchema({"type": "string"})]
Mtu = Annotated[int, PlainValidator(_parsed(parts.mtu)), WithJsonSchema(NUMBER)]
HostPort = Annotated[int, PlainValidator(_parsed(parts.host_port)), WithJsonSchema(NUMBER)]
Proto = Annotated[
    Literal["tcp", "udp", "sctp"], PlainValidator(_parsed(parts.protocol)), WithJsonSchema({"type": "string"})
]
Address = Annotated[Any, PlainValidator(_parsed(parts.address)), WithJsonSchema({"type": "string"})]
Address4 = Annotated[IPv4Address, PlainValidator(_parsed(parts.address4)), WithJsonSchema({"type": "string"})]
Address6 = Annotated[IPv6Address, PlainValidator(_parsed(parts.address6)), WithJsonSchema({"type": "string"})]
Cidr = Annotated[Any, PlainValidator(_parsed(parts.network)), WithJsonSchema({"type": "string"})]
Pair = Annotated[tuple[str, str | None], PlainValidator(_parsed(parts.pair)), WithJsonSchema({"type": "string"})]
ShortPorts = Annotated[Any, PlainValidator(_parsed(parts.short_ports)), WithJsonSchema(NUMBER)]
Driver = Annotated[
    str,
    BeforeValidator(_parsed(parts.driver)),
    WithJsonSchema({"enum": ["bridge", "default", "macvlan", "ipvlan"]}),
]
IpamDriver = Annotated[str, BeforeValidator(_parsed(parts.ipam_driver)), WithJsonSchema({"enum": ["default"]})]
PortMode = Annotated[
    str, BeforeValidator(_parsed(parts.only("host", "ingress"))), WithJsonSchema({"enum": ["host", "ingress"]})
]
Condition = Annotated[
    str,
    BeforeValidator(
        _parsed(
            parts.only(
                "service_started", "service_healthy", hint="write service_started or service_healthy: services stay"
            )
        )
    ),
    WithJsonSchema({"enum": ["service_started", "service_healthy"]}),
]
NeverRestart = Annotated[
    bool,
    BeforeValidator(_parsed(parts.only_flag(False, "services are not restarted with others: remove it"))),
    WithJsonSchema({"enum": [False, "false"]}),
]
AlwaysIPv4 = Annotated[
    bool,
    BeforeValidator(_parsed(parts.only_flag(True, "a network with just an IPv6 subnet has no IPv4: remove it"))),
    WithJsonSchema({"enum": [True, "true"]}),
]
Words = Annotated[
    tuple[str, ...],
    PlainValidator(_parsed(parts.words)),
    WithJsonSchema({"oneOf": [{"type": "string"}, {"type": "array", "items": SCALAR}]}),
]
Rate = Annotated[int, PlainValidator(_parsed(parts.rate)), WithJsonSchema({"type": "string"})]
Duration = Annotated[int, PlainValidator(_parsed(parts.duration)), WithJsonSchema({"type": "string"})]
HealthTest = Annotated[
    tuple[str, ...], PlainValidator(_parsed(parts.health_test)), WithJsonSchema({"type": ["string", "array"]})
]
Share = Annotated[int, PlainValidator(_parsed(parts.share)), WithJsonSchema({"type": "string"})]
Vlan = Annotated[int, PlainValidator(_parsed(parts.vlan)), WithJsonSchema(NUMBER)]
Whole = Annotated[int, PlainValidator(_parsed(parts.whole)), WithJsonSchema(NUMBER)]
LinkLocal = Annotated[Any, PlainValidator(_parsed(parts.link_local)), WithJsonSchema({"type": "string"})]
BridgeMode = Annotated[
    str,
    BeforeValidator(_parsed(parts.only("managed", "unmanaged"))),
    WithJsonSchema({"enum": ["managed", "unmanaged"]}),
]
RouteKind = Annotated[
    str, BeforeValidator(_parsed(parts.only(*ROUTE_KINDS))), WithJsonSchema({"enum": list(ROUTE_KINDS)})
]
Pairs = Annotated[
    Annotated[dict[str, Text | None], Tag(MAP)] | Annotated[list[Pair], Tag(LIST)],
    Discriminator(form),
]
Verdict = Annotated[str, BeforeValidator(_parsed(parts.one_of(*POLICIES))), WithJsonSchema({"enum": list(POLICIES)})]
GatewayMode = Annotated[
    str, BeforeValidator(_parsed(parts.one_of(*GATEWAY_MODES))), WithJsonSchema({"enum": list(GATEWAY_MODES)})
]
