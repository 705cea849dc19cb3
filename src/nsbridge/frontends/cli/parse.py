"""Values as they are typed, turned into the model's. The parsers are those of topology files, so both mean the same."""

from __future__ import annotations

import os

from nsbridge.errors import InvalidIntent
from nsbridge.model.endpoint import PROTOS, PublishedPort
from nsbridge.model.limits import Limits
from nsbridge.model.service import Attachment, Health

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, TypeVar

    from nsbridge.model.endpoint import Proto
    from nsbridge.state.things import Address_, Network_

    T = TypeVar("T")


def taken(option: str, parser: Callable[[Any], T], text: str, hint: str = "") -> T:
    """Parse the text of an option. InvalidIntent says which option it was. hint: if the parser has none."""
    from nsbridge.files.faults import Wrong

    try:
        return parser(text)
    except Wrong as err:
        raise InvalidIntent(f"{option} {err.message}", fix=err.hint or hint) from None


def ports(option: str, texts: Iterable[str]) -> tuple[PublishedPort, ...]:
    """``[HOST_IP:][HOST_PORT:]PORT[/PROTOCOL]``, ranges expanded."""
    found: list[PublishedPort] = []
    for text in texts:
        plain = _plain_port(text)
        if plain is None:
            from nsbridge.files import parts

            found += taken(option, parts.short_ports, text)
        else:
            found.append(plain)
    return tuple(found)


def _plain_port(text: str) -> PublishedPort | None:
    """Read ``8088:80`` and ``53:53/udp``; None for whatever else it is.

    That is how nearly all ports are written, and importing the parsers of files costs as much as attaching does.
    """
    numbers, slash, proto = text.partition("/")
    host, _, target = numbers.partition(":")
    if any(
        len(one) > 5 or not one.isascii() or not one.isdigit() or not 0 < int(one) < 65536 for one in (host, target)
    ):
        return None
    if slash and proto not in PROTOS:
        return None
    return PublishedPort(int(target), int(host), proto or "tcp")  # type: ignore[arg-type]


def inner_port(text: str) -> tuple[int, Proto]:
    """``PORT[/PROTOCOL]`` inside an endpoint, as `nsbridge port` takes it."""
    number, slash, proto = text.partition("/")
    if number.isascii() and number.isdigit() and 0 < int(number) < 65536 and (not slash or proto in PROTOS):
        return int(number), proto if slash else "tcp"  # type: ignore[return-value]
    from nsbridge.files import parts

    return taken("PORT", parts.port, number), taken("PORT", parts.protocol, proto) if slash else "tcp"


def address(option: str, text: str, version: int = 0) -> Address_ | None:
    """An IP address of that version if not 0; None for no text."""
    if not text:
        return None
    from nsbridge.files import parts

    example = "fd00:9::7" if version == 6 else "10.9.0.7"
    return taken(option, lambda given: parts.address(given, version), text, f"write it like {example}")


def subnet(option: str, text: str) -> Network_:
    """A subnet in CIDR notation."""
    from nsbridge.files import parts

    return taken(option, parts.network, text)


def pairs(option: str, texts: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """``NAME=VALUE``; a name alone has an empty value."""
    from nsbridge.files import parts

    found = (taken(option, parts.pair, text) for text in texts)
    return tuple((name, value or "") for name, value in found)


def environment(texts: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """``NAME=VALUE``; a name alone passes on the caller's variable, and nothing when there is none."""
    from nsbridge.files import parts

    found: list[tuple[str, str]] = []
    for text in texts:
        name, value = taken("-e", parts.pair, text)
        value = os.environ.get(name) if value is None else value
        found += [(name, value)] if value is not None else []
    return tuple(found)


def attachment(network: str, args: Any) -> Attachment:
    """The wish that --ip, --ip6, --mac-address, --alias and the options of the link express."""
    given = [address("--ip", text, 4) for text in args.ip], [address("--ip6", text, 6) for text in args.ip6]
    local: list[Address_] = []
    if args.link_local_ip:
        from nsbridge.files import parts

        local = [taken("--link-local-ip", parts.link_local, text) for text in args.link_local_ip]
    return Attachment(
        network,
        given[0][0] if given[0] else None,
        given[1][0] if given[1] else None,
        also=tuple([each for each in (*given[0][1:], *given[1][1:], *local) if each is not None]),
        ifname=args.ifname,
        host_ifname=args.host_ifname,
        limits=limits(args.limit),
        check_address=args.check_address,
        vlan=_vlan(args.vlan),
        mac=_mac(args.mac_address),
        aliases=tuple(args.alias),
    )


def limits(texts: list[str]) -> Limits:
    """Bounds of a link: ``ingress=10Mbit``, or by their names in files: ``limits.ingress=10Mbit``."""
    if not texts:
        return Limits()
    from nsbridge.files import parts

    found = {}
    for name, value in pairs("--limit", texts):
        long = name if name in parts.LIMITS else f"limits.{name}"
        if long not in parts.LIMITS:
            known = ", ".join(field for field, _ in parts.LIMITS.values())
            raise InvalidIntent(f"--limit has no {name!r}", fix=f"use one of {known}")
        field, parser = parts.LIMITS[long]
        found[field] = taken(f"--limit {name}", parser, value)
    return Limits(**found)


def health(args: Any) -> Health | None:
    """Read the options of a health check, as docker run has them."""
    from nsbridge.files import parts

    readers = {"retries": parts.whole} | dict.fromkeys(
        ("interval", "timeout", "start_period", "start_interval"), parts.duration
    )
    given = {name: getattr(args, f"health_{name}") for name in readers}
    found = {
        name: taken(f"--health-{name.replace('_', '-')}", readers[name], text) for name, text in given.items() if text
    }
    if args.health_cmd:
        return Health(("/bin/sh", "-c", args.health_cmd), **found)
    if found:
        raise InvalidIntent("options of a health check, but no --health-cmd", fix="say what to ask with: --health-cmd")
    return None


def _vlan(text: str) -> int:
    if not text:
        return 0
    from nsbridge.files import parts

    return taken("--vlan", parts.vlan, text)


def _mac(text: str) -> str:
    if not text:
        return ""
    from nsbridge.files import parts

    return taken("--mac-address", parts.mac, text)


def command(words: list[str]) -> tuple[str, ...]:
    """A command's words without the ``--`` before them."""
    return tuple(words[1:] if words[:1] == ["--"] else words)
