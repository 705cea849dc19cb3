"""What callers may write (text, numbers, paths, values), turned into the model's.

Text is parsed by the parsers of topology files, so that ``"127.0.0.1:8080:80/udp"`` means one thing everywhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, TypeVar

from nsbridge.errors import InvalidIntent
from nsbridge.model.endpoint import PublishedPort
from nsbridge.model.limits import Limits
from nsbridge.model.names import netns_path
from nsbridge.model.network import StaticRoute, Subnet
from nsbridge.model.service import Attachment

if TYPE_CHECKING:
    from collections.abc import Callable

    from nsbridge.state.things import Address_, Network_

T = TypeVar("T")

Port: TypeAlias = str | int | PublishedPort
"""``"8080:80"``, ``"127.0.0.1:8080:80/udp"``, ``80`` (a host port is chosen), or a value."""

IPAddress: TypeAlias = str | IPv4Address | IPv6Address
Words: TypeAlias = Sequence[str | os.PathLike[str]]
Route: TypeAlias = str | StaticRoute
"""``"10.5.0.0/16,10.88.0.254"``, with ``,METRIC`` behind it; ``"10.6.0.0/16,blackhole"``; or a value."""


class Place(TypedDict, total=False):
    """What may be said of an endpoint's place on a network; what isn't said is chosen.

    ip, ip6: its address, or several. link_local: more addresses, good on this network alone. aliases: further names
    for the neighbours. ifname, host_ifname: of the interface inside, and of its other end on the host. limits: of its
    link, as ``{"ingress": "10Mbit", "egress": "1Mbit", "delay": "20ms", "jitter": "5ms", "loss": "0.5%"}`` (the last
    three need netem in the kernel) or a value. check_address: ask the neighbours first whether the addresses are free.
    vlan: on somebody else's bridge, 0 for that of the network.
    """

    ip: IPAddress | Iterable[IPAddress] | None
    ip6: IPAddress | Iterable[IPAddress] | None
    link_local: Iterable[IPAddress]
    mac: str
    aliases: Iterable[str]
    ifname: str
    host_ifname: str
    limits: Limits | Mapping[str, str]
    check_address: bool
    vlan: int


def _taken(what: str, parse: Callable[[Any], T], value: Any) -> T:
    """Parse as a topology file does. InvalidIntent quotes what can't be understood."""
    from nsbridge.files.faults import Wrong

    try:
        return parse(value)
    except Wrong as err:
        raise InvalidIntent(f"{what} {value!r} {err.message}", fix=err.hint) from None


def ports(wanted: Iterable[Port]) -> tuple[PublishedPort, ...]:
    """Published ports, ranges expanded. InvalidIntent quotes what can't be understood."""
    from nsbridge.files import parts

    if isinstance(wanted, str | int | PublishedPort):
        wanted = (wanted,)
    found: list[PublishedPort] = []
    for one in wanted:
        found += (one,) if isinstance(one, PublishedPort) else _taken("port", parts.short_ports, one)
    return tuple(found)


def routes(wanted: Iterable[Route]) -> tuple[StaticRoute, ...]:
    """Routes of a network. InvalidIntent quotes what can't be understood."""
    from nsbridge.files import parts

    many = (wanted,) if isinstance(wanted, str | StaticRoute) else wanted
    return tuple(one if isinstance(one, StaticRoute) else _taken("route", parts.static_route, one) for one in many)


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


def addresses(what: str, wanted: Any) -> tuple[Address_, ...]:
    """IP addresses, one or several."""
    from nsbridge.files import parts

    return tuple(_taken(what, parts.address, one) for one in _several(wanted))


def binding(wanted: IPAddress) -> Address_ | None:
    """An address of the host; everywhere is no binding."""
    found = addresses("host_binding", wanted)
    return found[0] if found and not found[0].is_unspecified else None


def _limits(wanted: Limits | Mapping[str, str]) -> Limits:
    """Bounds of a link, in the words of topology files."""
    from nsbridge.files import parts

    if isinstance(wanted, Limits):
        return wanted
    known = dict(parts.LIMITS.values())
    if unknown := sorted(wanted.keys() - known.keys()):
        raise InvalidIntent(f"there is no limit {unknown[0]!r}", fix=f"use one of {', '.join(known)}")
    return Limits(**{field: _taken(f"limit {field}", known[field], value) for field, value in wanted.items()})


def attachment(
    network: str,
    *,
    ip: IPAddress | Iterable[IPAddress] | None = None,
    ip6: IPAddress | Iterable[IPAddress] | None = None,
    link_local: Iterable[IPAddress] = (),
    mac: str = "",
    aliases: Iterable[str] = (),
    ifname: str = "",
    host_ifname: str = "",
    limits: Limits | Mapping[str, str] = Limits(),  # noqa: B008 (a frozen value)
    check_address: bool = False,
    vlan: int = 0,
) -> Attachment:
    """A wish for a network; the arguments are those of `Place`."""
    from nsbridge.files import parts

    given4 = [found for one in _several(ip) if (found := address(one, 4)) is not None]
    given6 = [found for one in _several(ip6) if (found := address(one, 6)) is not None]
    local = [_taken("link_local", parts.link_local, one) for one in _several(link_local)]
    return Attachment(
        network,
        given4[0] if given4 else None,
        given6[0] if given6 else None,
        mac,
        texts("aliases", aliases),
        also=(*given4[1:], *given6[1:], *local),
        ifname=ifname,
        host_ifname=host_ifname,
        limits=_limits(limits),
        check_address=check_address,
        vlan=vlan,
    )


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


def texts(what: str, value: Iterable[str]) -> tuple[str, ...]:
    """Several words; one alone is taken for a mistake."""
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
