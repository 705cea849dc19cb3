"""Kinds of values that a topology file holds: how each is parsed, and what the JSON Schema says of it."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, PlainValidator, Tag, WithJsonSchema
from pydantic_core import PydanticCustomError

from nsbridge.files import parts
from nsbridge.files.faults import Wrong
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


def form_of(value: Any) -> str | None:
    """Tell which of two forms was written: a map or a list."""
    return MAP if isinstance(value, dict) else LIST if isinstance(value, list) else None


def port_form(value: Any) -> str:
    """Tell which of two forms was written: a map, or the short one."""
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
    Discriminator(form_of),
]
NAMES: dict[str, Any] = {"propertyNames": {"pattern": "^[a-zA-Z0-9][a-zA-Z0-9._-]*$"}}
