"""Small values as they are written: addresses, ports, MACs, flags. Each parser returns the value or raises Wrong."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface, ip_network
from typing import TYPE_CHECKING, Any, Literal, cast

from nsbridge.errors import InvalidIntent
from nsbridge.files.faults import Wrong
from nsbridge.model.endpoint import PROTOS, PublishedPort
from nsbridge.model.names import check_ifname
from nsbridge.model.network import DRIVERS, OTHER_DRIVERS, ROUTE_KINDS, StaticRoute

if TYPE_CHECKING:
    from nsbridge.state.things import Address_, Network_

_YES = frozenset(("true", "yes", "on", "y", "1"))
_NO = frozenset(("false", "no", "off", "n", "0"))
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
_USER = re.compile(r"[^\s:]+(?::[^\s:]+)?")
_LIKE_AN_ADDRESS = re.compile(r"[0-9.]+|.*\]|\[.*")
MOST_CHOSEN = 1000
"""So many host ports are chosen for one range at most."""

_SHORT_FORM = "write [HOST_IP:][HOST_PORT:]PORT[/PROTOCOL]"
_RANGE = re.compile(r"([0-9]+)(?:-([0-9]+))?")
_SHORT = re.compile(r"(?:(?P<ip>\[[^\]]*\]|[^:\[\]]*):)?(?:(?P<host>[^:]*):)?(?P<target>[^:/]+)(?:/(?P<proto>.*))?")


def kind_of(value: Any) -> str:
    """Name a value's kind as a person would: ``a map``, ``a list``, ``a number``."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a map" if isinstance(value, dict) else "a list" if isinstance(value, list) else type(value).__name__


def text(value: Any) -> str:
    """Text, or a number or flag as it was written."""
    if isinstance(value, str):
        if "\0" in value:
            raise Wrong("has a NUL character, which no program can be given", "remove it")
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(getattr(value, "written", value))
    raise Wrong(f"is {kind_of(value)} where text should be")


def flag(value: Any) -> bool:
    """True or false; also ``yes``, ``no``, ``on``, ``off``, which YAML 1.2 reads as text but people mean so."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str | int) and (low := text(value).lower()) in _YES | _NO:
        return low in _YES
    raise Wrong(f"is {shown(value)} where true or false should be")


def shown(value: Any) -> str:
    """A value for a message: short ones as they are, others by their kind."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return repr(text(value))
    return kind_of(value)


def words(value: Any) -> tuple[str, ...]:
    """A command's words: a list as it is, text split as a shell would (shlex), without running one."""
    if value is None:
        return ()
    if isinstance(value, list):
        return tuple(text(word) for word in value)
    if isinstance(value, dict):
        raise Wrong("is a map where text or a list should be")
    try:
        return tuple(shlex.split(text(value)))
    except ValueError as error:
        raise Wrong(f"can't be split into words: {str(error).lower()}", "close the quote, or write a list") from None


def address(value: Any, version: int = 0) -> Address_:
    """An IP address, of this version if not 0."""
    written = text(value)
    try:
        found = ip_address(written.strip("[]") if version != 4 else written)
    except ValueError:
        what = f"IPv{version}" if version else "IP"
        hint = "write it without a prefix length" if "/" in written else ""
        raise Wrong(f"is no {what} address: {written!r}", hint) from None
    if version and found.version != version:
        raise Wrong(f"is an IPv{found.version} address: {written!r}", f"use ipv{found.version}_address for it")
    if isinstance(found, IPv6Address) and found.scope_id:
        raise Wrong(f"has a zone: {written!r}", f"write {str(found).split('%')[0]}")
    return found


def address4(value: Any) -> IPv4Address:
    """An IPv4 address."""
    return cast(IPv4Address, address(value, 4))


def address6(value: Any) -> IPv6Address:
    """An IPv6 address."""
    return cast(IPv6Address, address(value, 6))


def network(value: Any) -> Network_:
    """A subnet in CIDR notation without host bits."""
    written = text(value)
    if "/" not in written:
        raise Wrong(f"has no prefix length: {written!r}", "write it like 172.30.0.0/24")
    try:
        return ip_network(written)
    except ValueError:
        pass
    try:
        meant = ip_interface(written).network
    except ValueError:
        raise Wrong(f"is no subnet: {written!r}", "write it like 172.30.0.0/24 or fd00:30::/64") from None
    raise Wrong(f"has bits beyond its prefix: {written!r}", f"did you mean {meant}?")


def mac(value: Any) -> str:
    """A unicast MAC address, lower case with colons."""
    written = text(value)
    low = written.lower().replace("-", ":")
    if not _MAC.fullmatch(low):
        raise Wrong(f"is no MAC address: {written!r}", "write six pairs like 02:42:ac:11:00:02, in quotes")
    if int(low[:2], 16) & 1 or low == "00:00:00:00:00:00":
        raise Wrong(f"is no address one interface can have: {low}", "begin it with 02")
    return low


def one_of(*allowed: str) -> Callable[[Any], str]:
    """Return a parser for one of these words."""

    def parse(value: Any) -> str:
        if (written := text(value)) not in allowed:
            raise Wrong(f"is {written!r}", f"use one of {', '.join(allowed)}")
        return written

    return parse


_RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(bit|kbit|mbit|gbit|tbit)(?:/s|ps)?")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(us|ms|s|m|h)")
_SHARE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*%")
_SCALES = {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9, "tbit": 10**12, "us": 1, "ms": 1000, "s": 10**6}
_SCALES |= {"m": 60 * 10**6, "h": 3600 * 10**6}


def rate(value: Any) -> int:
    """Bits per second, as ``100Mbit``."""
    if found := _RATE.fullmatch(text(value).lower()):
        return round(float(found[1]) * _SCALES[found[2]])
    raise Wrong(f"is no rate: {shown(value)}", "write it like 10Mbit or 500kbit")


def duration(value: Any) -> int:
    """Microseconds, as ``20ms`` or ``1m30s``."""
    written = text(value).lower().replace(" ", "")
    if written and not _DURATION.sub("", written):
        return round(sum(float(number) * _SCALES[unit] for number, unit in _DURATION.findall(written)))
    raise Wrong(f"is no time: {shown(value)}", "write it like 20ms or 1.5s")


def health_test(value: Any) -> tuple[str, ...]:
    """A command that tells: text for a shell, or a list that begins with CMD, CMD-SHELL or NONE."""
    if not isinstance(value, list):
        return ("/bin/sh", "-c", text(value))
    kind, *rest = [text(word) for word in value] or [""]
    if kind == "NONE" and not rest:
        return ()
    if kind == "CMD" and rest:
        return tuple(rest)
    if kind == "CMD-SHELL" and len(rest) == 1:
        return ("/bin/sh", "-c", rest[0])
    raise Wrong("is no test", "write [CMD, PROGRAM, …], [CMD-SHELL, TEXT], or the text alone")


def share(value: Any) -> int:
    """Millionths, as ``0.5%``."""
    if found := _SHARE.fullmatch(text(value)):
        return round(float(found[1]) * 10_000)
    raise Wrong(f"is no percentage: {shown(value)}", "write it like 0.5%")


def whole(value: Any) -> int:
    """A whole number, negative ones too."""
    try:
        return int(text(value))
    except ValueError:
        raise Wrong(f"is no whole number: {shown(value)}") from None


def driver(value: Any) -> str:
    """The driver of a network; ``default`` is compose's word for ours."""
    written = text(value)
    if written not in ("default", *DRIVERS):
        hint = OTHER_DRIVERS.get(written, f"use one of {', '.join(DRIVERS)}")
        raise Wrong(f"is {written!r}", hint)
    return written


def ipam_driver(value: Any) -> str:
    """Who gives addresses out: we do."""
    if (written := text(value)) != "default":
        hint = "leave it out: nsbridge gives addresses out itself"
        if written == "dhcp":
            hint = "give addresses with ipv4_address: a lease takes a process that renews it, and there is none yet"
        raise Wrong(f"is {written!r}", hint)
    return written


def vlan(value: Any) -> int:
    """The number of a VLAN."""
    found = whole(value)
    if not 1 <= found <= 4094:
        raise Wrong(f"is no VLAN: {found}", "use 1 to 4094")
    return found


def link_local(value: Any) -> Address_:
    """An address that is good on one link alone."""
    found = address(value)
    if not found.is_link_local:
        raise Wrong(f"is no link-local address: {found}", "take one of 169.254.0.0/16 or fe80::/10")
    return found


LIMITS = {
    "limits.ingress": ("ingress", rate),
    "limits.egress": ("egress", rate),
    "delay": ("delay", duration),
    "jitter": ("jitter", duration),
    "loss": ("loss", share),
}
"""Bounds of an endpoint's link by their names in files, as (field of `Limits`, parser)."""


def static_route(value: Any) -> StaticRoute:
    """``CIDR[,GATEWAY|blackhole|unreachable|prohibit[,METRIC]]``, as podman network create --route takes it."""
    first, *rest = (part.strip() for part in text(value).split(","))
    where, kind = rest[0] if rest else "", "unicast"
    if where in ROUTE_KINDS:
        where, kind = "", where
    if len(rest) > 2:
        raise Wrong(f"has too many parts: {shown(value)}", "write CIDR,GATEWAY,METRIC")
    return StaticRoute(network(first), address(where) if where else None, whole(rest[1]) if rest[1:] else 0, kind)


def only(*allowed: str, hint: str = "") -> Callable[[Any], str]:
    """Return a parser for text of which we do only these."""

    def parse(value: Any) -> str:
        if (written := text(value)) not in allowed:
            raise Wrong(f"is {written!r}", hint or f"only {' or '.join(allowed)} is supported")
        return written

    return parse


def only_flag(wanted: bool, hint: str) -> Callable[[Any], bool]:
    """Return a parser for a flag of which we do only one value."""

    def parse(value: Any) -> bool:
        if (found := flag(value)) is not wanted:
            raise Wrong(f"is {str(found).lower()}", hint)
        return found

    return parse


def user(value: Any) -> str:
    """``name``, ``uid``, either with ``:group``."""
    if not _USER.fullmatch(written := text(value)):
        raise Wrong(f"is no user: {written!r}", "write NAME, UID, or either with :GROUP")
    return written


def port(value: Any) -> int:
    """A port number from 1."""
    written = text(value)
    if not (found := _RANGE.fullmatch(written)):
        raise Wrong(f"is no port: {written!r}", "choose a port from 1 to 65535")
    if found[2]:
        raise Wrong(f"is a range of ports: {written!r}", 'write ranges in the short form: "3000-3005:3000-3005"')
    return _number(found[1])


def mtu(value: Any) -> int:
    """An MTU in bytes; which ones a network can have, its subnets decide."""
    if not (written := text(value)).isascii() or not written.isdigit() or int(written[:9]) > 65535:
        raise Wrong(f"is no MTU: {written!r}", "use bytes, 68 to 65535")
    return int(written)


def host_port(value: Any) -> int:
    """A host port; 0 or empty text lets nsbridge choose."""
    return 0 if text(value) in ("", "0") else port(value)


def protocol(value: Any) -> Literal["tcp", "udp", "sctp"]:
    """A transport protocol."""
    if (low := text(value).lower()) not in PROTOS:
        raise Wrong(f"has a protocol {text(value)!r}", f"use one of {', '.join(PROTOS)}")
    return cast(Literal["tcp", "udp", "sctp"], low)


def _number(digits: str) -> int:
    if not 1 <= (number := int(digits[:9])) <= 65535:
        raise Wrong(f"has a port {digits}", "choose a port from 1 to 65535")
    return number


def _span(written: str, whole: str) -> range:
    if not (found := _RANGE.fullmatch(written)):
        raise Wrong(f"is no port: {whole!r}", _SHORT_FORM)
    first, last = _number(found[1]), _number(found[2] or found[1])
    if last < first:
        raise Wrong(f"has a range that runs backwards: {written}", f"write {last}-{first}")
    return range(first, last + 1)


def short_ports(value: Any) -> tuple[PublishedPort, ...]:
    """The short form, ``[HOST_IP:][HOST_PORT:]PORT[/PROTOCOL]``.

    A range with host ports is one value, one without them a value for each. A range of host ports for one port is
    the choice among them.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Wrong(f"is {kind_of(value)} where a port should be", 'write "8088:80", or a map with target')
    written = text(value).strip()
    if not (found := _SHORT.fullmatch(written)):
        before, *rest = written.rsplit(":", 2)
        hint = f"did you mean '[{before}]:{':'.join(rest)}'?" if "::" in before else _SHORT_FORM
        raise Wrong(f"is no port: {written!r}", hint)
    ip: str | None = found["ip"]
    host: str | None = found["host"]
    if host is None:  # one colon: it is the host port that stands before it
        ip, host = None, ip
    if ip == "" or (host == "" and ip is None):
        raise Wrong(f"has nothing before its colon: {written!r}", f"write {written.lstrip(':')!r}")
    host_ip, interface = _place(ip)
    proto = protocol(found["proto"]) if found["proto"] is not None else "tcp"
    targets = _span(found["target"], written)
    if not host or host == "0":
        if len(targets) > MOST_CHOSEN:
            raise Wrong(f"has {len(targets)} ports without host ports: {written!r}", "write HOST_PORTS:PORTS")
        return tuple(PublishedPort(target, 0, proto, host_ip, interface) for target in targets)
    hosts = _span(host, written)
    many, choices = len(targets), 1
    if len(targets) == 1:
        choices = len(hosts)
    elif len(hosts) != many:
        raise Wrong(f"has {len(hosts)} host ports for {many}: {written!r}", "give ranges of equal length")
    return (PublishedPort(targets[0], hosts[0], proto, host_ip, interface, many, choices),)


def _place(written: str | None) -> tuple[Address_ | None, str]:
    """The address or the interface that stands before a port."""
    if written is None:
        return None, ""
    try:
        return address(written.strip("[]")), ""
    except Wrong:
        hint = "write one like 127.0.0.1"
        if _LIKE_AN_ADDRESS.fullmatch(written) or written == "localhost":
            raise Wrong(f"has no address of the host before its ports: {written!r}", hint) from None
    return None, ifname(written)


def ifname(value: Any) -> str:
    """The name of an interface of the host."""
    try:
        return check_ifname(text(value))
    except InvalidIntent as err:
        raise Wrong(f"has neither an address nor an interface of the host: {err.message}", err.fix) from None


def pair(value: Any) -> tuple[str, str | None]:
    """``KEY=VALUE``, or a bare ``KEY`` with None."""
    written = text(value)
    key, equals, rest = written.partition("=")
    if not key:
        raise Wrong(f"has no name before '=': {written!r}", "write NAME=VALUE")
    return key, rest if equals else None
