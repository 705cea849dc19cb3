"""The verbs `network create`, `ls`, `inspect`, `rm`, `prune`."""

from __future__ import annotations

import sys

from nsbridge.engine import networks
from nsbridge.errors import InvalidIntent
from nsbridge.files import parts
from nsbridge.frontends.cli import output, parse, records
from nsbridge.frontends.cli.trouble import each
from nsbridge.model.network import GATEWAY_MODES, POLICIES, Network, Subnet, check_driver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from nsbridge.engine.host import Host
    from nsbridge.state.things import Address_, Network_

_BRIDGE = "com.docker.network.bridge."


def _binding(text: str) -> Address_ | None:
    """An address of the host; everywhere is no binding."""
    found = parts.address4(text)
    return None if found.is_unspecified else found


OPTIONS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    f"{_BRIDGE}name": ("bridge", parts.text),
    f"{_BRIDGE}enable_icc": ("icc", parts.flag),
    f"{_BRIDGE}enable_ip_masquerade": ("masquerade", parts.flag),
    f"{_BRIDGE}gateway_mode_ipv4": ("gateway_mode4", parts.one_of(*GATEWAY_MODES)),
    f"{_BRIDGE}gateway_mode_ipv6": ("gateway_mode6", parts.one_of(*GATEWAY_MODES)),
    f"{_BRIDGE}trusted_host_interfaces": ("trusted", lambda text: tuple(filter(None, text.split(":")))),
    f"{_BRIDGE}inhibit_ipv4": ("inhibit_ipv4", parts.flag),
    "com.docker.network.advertise_addr_nmsgs": ("advertise", parts.whole),
    "com.docker.network.advertise_addr_ms": ("advertise_ms", parts.whole),
    "security.mac_filtering": ("mac_filtering", parts.flag),
    "security.ipv4_filtering": ("ipv4_filtering", parts.flag),
    "security.ipv6_filtering": ("ipv6_filtering", parts.flag),
    "policy": ("policy", parts.one_of(*POLICIES)),
    "com.docker.network.driver.mtu": ("mtu", parts.port),
    "parent": ("bridge", parts.text),
    "macvlan_mode": ("mode", parts.text),
    "ipvlan_mode": ("mode", parts.text),
    "vlan": ("vlan", parts.vlan),
    "vrf": ("vrf", parts.text),
    "mode": ("unmanaged", lambda text: parts.only("managed", "unmanaged")(text) == "unmanaged"),
    f"{_BRIDGE}host_binding_ipv4": ("host_binding", _binding),
    "com.docker.network.host_ipv4": ("sources", parts.address4),
    "com.docker.network.host_ipv6": ("sources", parts.address6),
}
"""What -o may set, as (field of `Network`, parser). An MTU has the range of a port."""


def create(host: Host, args: Any) -> None:
    """Make a network and print its name."""
    subnets = _subnets(args)
    network = Network(
        args.name,
        subnets=subnets,
        internal=args.internal,
        ipv6=args.ipv6 and all(one.network.version == 4 for one in subnets),
        icc=not args.no_icc,
        masquerade=not args.no_masquerade,
        bridge=args.bridge,
        mtu=args.mtu,
        labels=parse.pairs("--label", args.label),
        routes=tuple([parse.taken("--route", parts.static_route, text) for text in args.route]),
    )
    given = tuple(one for one in (parse.address("--source", text) for text in args.source) if one is not None)
    network = network.replace(sources=given, host_binding=parse.address("--host-binding", args.host_binding))
    options = _options(args.opt)
    if args.driver != "bridge":
        check_driver(args.driver)
        options |= {"driver": args.driver, "unmanaged": bool(options.get("bridge"))}
    network = network.replace(**options)
    output.line(networks.create(host, network).name)


def _options(texts: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in parse.pairs("-o", texts):
        if name not in OPTIONS:
            known = ", ".join(OPTIONS)
            raise InvalidIntent(f"-o has an option {name!r} that isn't supported", fix=f"use one of {known}")
        field, parser = OPTIONS[name]
        parsed = parse.taken(f"-o {name}", parser, value)
        found[field] = (*found.get(field, ()), parsed) if field == "sources" else parsed
    return found


def _subnets(args: Any) -> tuple[Subnet, ...]:
    """Join subnets with the gateways, ranges and reserved addresses that lie inside them."""
    found = [Subnet(parse.subnet("--subnet", text)) for text in args.subnet]
    for text in args.gateway:
        gateway = parse.address("--gateway", text)
        place = _home(found, "--gateway", gateway)
        found[place] = found[place].replace(gateway=gateway)
    for text in args.ip_range:
        part = parse.subnet("--ip-range", text)
        place = _home(found, "--ip-range", part.network_address, part)
        found[place] = found[place].replace(ip_range=part)
    for name, text in parse.pairs("--aux-address", args.aux_address):
        address = parse.address("--aux-address", text)
        place = _home(found, "--aux-address", address)
        found[place] = found[place].replace(reserved=(*found[place].reserved, (name, address)))
    return tuple(found)


def _home(subnets: list[Subnet], option: str, address: Address_ | None, said: Network_ | None = None) -> int:
    if address is None:
        raise InvalidIntent(f"{option} has no address", fix="see `nsbridge network create --help`")
    for place, subnet in enumerate(subnets):
        if address in subnet.network:
            return place
    have = " or ".join(str(one.network) for one in subnets)
    raise InvalidIntent(
        f"{option} {said or address} is in no --subnet" + (f" (not in {have})" if have else ""),
        fix="give the --subnet that it belongs to",
    )


def listing(host: Host, args: Any) -> None:
    """List networks."""
    found = host.store.networks()
    if args.quiet:
        for network in found:
            output.line(network.name)
    elif args.json:
        output.as_json([records.network_record(one, host.store.endpoints(one.name)) for one in found])
    else:
        output.table(
            ("NAME", "SUBNETS", "BRIDGE", "ENDPOINTS", "PROJECT", "NOTES"),
            [
                (
                    network.name,
                    " ".join(str(subnet.network) for subnet in network.subnets),
                    network.ifname,
                    str(len(host.store.endpoints(network.name))),
                    network.project,
                    _notes(network),
                )
                for network in found
            ],
        )


def _notes(network: Network) -> str:
    notes = (
        (network.internal, "internal"),
        (not network.icc, "no icc"),
        (not network.masquerade, "no masquerade"),
        (network.unmanaged, "unmanaged"),
        (network.ephemeral, "goes with its last endpoint"),
    )
    return ", ".join(text for is_so, text in notes if is_so)


def inspect(host: Host, args: Any) -> None:
    """Print all about networks as JSON."""
    found = []

    def one(name: str) -> None:
        found.append(records.network_record(host.store.network(name), host.store.endpoints(name)))

    each(args.names, one, finally_=lambda: output.as_json(found))


def remove(host: Host, args: Any) -> None:
    """Remove networks, and print the names of those that went."""

    def one(name: str) -> None:
        networks.remove(host, name)
        output.line(name)

    each(args.names, one)


def prune(host: Host, args: Any) -> int:
    """Remove idle networks, and print their names."""
    if not args.force and not _agreed():
        host.say("nothing was removed (-f doesn't ask)")
        return 1
    for name in networks.prune(host):
        output.line(name)
    return 0


def _agreed() -> bool:
    sys.stderr.write("This removes every network that nobody is on and no project owns. Go on? [y/N] ")
    sys.stderr.flush()
    answer = sys.stdin.readline().strip().lower()
    if not sys.stdin.isatty():
        sys.stderr.write("\n")
    return answer in ("y", "yes")
