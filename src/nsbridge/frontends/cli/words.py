"""Things of the kernel, times and ports in a person's words."""

from __future__ import annotations

from nsbridge.firewall.ruleset import Element, Table
from nsbridge.state.things import HOST, Address, ForeignAccept, Link, Netns, Route, Sysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsbridge.model.endpoint import Endpoint, PublishedPort
    from nsbridge.state.things import Thing


def _within(netns: str) -> str:
    return "" if netns == HOST else f" in {netns.removeprefix('/run/netns/')}"


def _link(link: Link) -> str:
    parts = [link.kind, link.name]
    if link.peer_name:
        parts.append(f"(other end: {link.peer_name}{_within(link.peer_netns)})")
    if link.master:
        parts.append(f"on bridge {link.master}")
    if link.mac:
        parts.append(f"mac {link.mac}")
    if link.mtu:
        parts.append(f"mtu {link.mtu}")
    return " ".join(parts) + _within(link.netns)


def _route(route: Route) -> str:
    dst = "default" if not route.dst.prefixlen else str(route.dst)
    via = f" via {route.via}" if route.via is not None else ""
    return f"route {dst}{via} dev {route.link}{_within(route.netns)}"


def _foreign(accept: ForeignAccept) -> str:
    chain = f"{accept.family} {accept.table} {accept.chain}" if accept.where == "nft" else f"{accept.where} FORWARD"
    return f"rule in chain {chain}: accept what carries our mark"


def thing_text(thing: Thing) -> str:
    """One thing of the kernel in a line, in the words of ip(8), nft(8) and sysctl(8)."""
    if isinstance(thing, Netns):
        return f"namespace {thing.path.removeprefix('/run/netns/')}"
    if isinstance(thing, Link):
        return _link(thing)
    if isinstance(thing, Address):
        return f"address {thing.address} dev {thing.link}{_within(thing.netns)}"
    if isinstance(thing, Route):
        return _route(thing)
    if isinstance(thing, Sysctl):
        was = f" (was {thing.was})" if thing.was else ""
        return f"setting {thing.key.replace('/', '.')}={thing.value}{was}{_within(thing.netns)}"
    if isinstance(thing, ForeignAccept):
        return _foreign(thing)
    if isinstance(thing, Table):
        return f"table {thing.family} {thing.name} ({len(thing.sets)} sets, {len(thing.chains)} chains)"
    assert isinstance(thing, Element)
    data = f" : {' . '.join(map(str, thing.data))}" if thing.data else ""
    return f"element {{ {' . '.join(map(str, thing.key))}{data} }} of {thing.set}"


def ago(seconds: float) -> str:
    """``8s``, ``3m``, ``2h``, ``5d``."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"


def host_places(port: PublishedPort, endpoint: Endpoint) -> tuple[str, ...]:
    """Where a port is published, as docker port shows it: one place a family that the endpoint has, or just one."""
    if port.host_ip is not None or port.interface:
        return (port.host_text,)
    numbers = port.host_text.rpartition(":")[2]
    places = ((4, f"0.0.0.0:{numbers}"), (6, f"[::]:{numbers}"))
    return tuple(text for version, text in places if endpoint.address(version) is not None)


def ports_text(endpoints: Iterable[Endpoint]) -> str:
    """All published ports, as docker ps shows them."""
    return ", ".join(
        f"{place}->{port.target_text}/{port.proto}"
        for endpoint in endpoints
        for port in endpoint.ports
        for place in host_places(port, endpoint)
    )


def networks_text(endpoints: Iterable[Endpoint]) -> str:
    """Each network with the addresses on it."""
    return ", ".join(
        " ".join([endpoint.network, *[str(address.ip) for address in endpoint.addresses]]) for endpoint in endpoints
    )
