"""What callers may write (text, numbers, paths, values), turned into the model's.

Text is parsed by the parsers of topology files, so that ``"127.0.0.1:8080:80/udp"`` means one thing everywhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Any, TypeAlias

from nsbridge.errors import InvalidIntent
from nsbridge.model.endpoint import PublishedPort
from nsbridge.model.limits import Limits
from nsbridge.model.names import netns_path
from nsbridge.model.network import Subnet
from nsbridge.model.service import Attachment

if TYPE_CHECKING:
    from nsbridge.state.things import Address_, Network_

Port: TypeAlias = str | int | PublishedPort
"""``"8080:80"``, ``"127.0.0.1:8080:80/udp"``, ``80`` (a host port is chosen), or a value."""

IPAddress: TypeAlias = str | IPv4Address | IPv6Address
Words: TypeAlias = Sequence[str | os.PathLike[str]]


def ports(wanted: Iterable[Port]) -> tuple[PublishedPort, ...]:
    """Published ports, ranges expanded. InvalidIntent quotes what can't be understood."""
    from nsbridge.files import parts
    from nsbridge.files.faults import Wrong

    if isinstance(wanted, str | int | PublishedPort):
        wanted = (wanted,)
    found: list[PublishedPort] = []
    for one in wanted:
        if isinstance(one, PublishedPort):
            found.append(one)
            continue
        try:
            found += parts.short_ports(one)
        except Wrong as err:
            raise InvalidIntent(f"port {one!r} {err.message}", fix=err.hint) from None
    return tuple(found)


def address(value: IPAddress | None, version: int) -> Address_ | None:
    """An IP address of that version, None for none."""
    if value is None or value == "":
        return None
    try:
        found = ip_address(value)
    except ValueError:
        raise InvalidIntent(
            f"{value!r} is no IP address", fix=f"write an IPv{version} address without prefix"
        ) from None
    if found.version != version:
        raise InvalidIntent(f"{value} is an IPv{found.version} address", fix="give IPv4 as ip, IPv6 as ip6")
    return found


def attachment(
    network: str,
    ip: IPAddress | None,
    ip6: IPAddress | None,
    mac: str = "",
    aliases: Iterable[str] = (),
    limits: Limits = Limits(),  # noqa: B008 (a frozen value)
) -> Attachment:
    """A wish for a network."""
    return Attachment(network, address(ip, 4), address(ip6, 6), mac, _texts("aliases", aliases), limits=limits)


def subnets(wanted: Any, gateways: Any, ranges: Any, reserved: Mapping[str, IPAddress]) -> tuple[Subnet, ...]:
    """Subnets, with gateways, ranges and reserved addresses given to the one of their IP version."""
    found: dict[int, Subnet] = {}
    for text in _several(wanted):
        try:
            net = ip_network(text)
        except ValueError as err:
            raise InvalidIntent(f"subnet {text!r} can't be: {err}", fix="write it like 10.88.0.0/24") from None
        if net.version in found:
            raise InvalidIntent(f"{found[net.version].network} and {net} are of one family", fix="give one of each")
        found[net.version] = Subnet(net)
    for key, texts, parse in (("gateway", gateways, ip_address), ("ip_range", ranges, ip_network)):
        for text in _several(texts):
            try:
                value = parse(text)
            except ValueError as err:
                raise InvalidIntent(f"{key} {text!r} can't be: {err}") from None
            found[value.version] = _of(found, key, value).replace(**{key: value})
    for name, text in reserved.items():
        try:
            value = ip_address(text)
        except ValueError as err:
            raise InvalidIntent(f"reserved address {name!r} can't be: {err}") from None
        subnet = _of(found, f"reserved address {name!r}", value)
        found[value.version] = subnet.replace(reserved=(*subnet.reserved, (name, value)))
    return tuple(found[version] for version in sorted(found))


def _of(found: dict[int, Subnet], what: str, value: Address_ | Network_) -> Subnet:
    if value.version not in found:
        raise InvalidIntent(f"{what} {value} has no IPv{value.version} subnet to be in", fix="give the subnet too")
    return found[value.version]


def _several(value: Any) -> tuple[Any, ...]:
    if value is None or value == "":
        return ()
    return tuple(value) if isinstance(value, list | tuple | set | frozenset) else (value,)


def _texts(what: str, value: Iterable[str]) -> tuple[str, ...]:
    if isinstance(value, str):
        raise InvalidIntent(f"{what} {value!r} is text where a list should be", fix=f"write [{value!r}]")
    return tuple(value)


def command(args: Words) -> tuple[str, ...]:
    """A command's words."""
    if isinstance(args, str | bytes):
        raise InvalidIntent(f"command {args!r} is text where a list of words should be", fix="use ['sh', '-c', …]")
    return tuple(os.fspath(word) for word in args)


def netns(value: str | int | os.PathLike[str]) -> str:
    """The path that opens a namespace, given by name, path or PID."""
    if isinstance(value, int):
        return netns_path(str(value))
    text = os.fspath(value)
    return netns_path(text if isinstance(value, str) else os.path.abspath(text))
