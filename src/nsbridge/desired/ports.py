"""What published ports should hold in our table, and which of them can't be there together.

A port is an element of one map: `publish` when it is for every address of the host, `bound` for one address,
`face` for what comes in by one interface (and `own` for what the host itself sends to that interface's addresses),
`ranges` for many at once that keep their numbers. nft can't shift a range, so a shifted one takes an element a port.
Those who share a port take turns: 60 elements of `turns`, dealt out among them.

Two maps may hold the same port, and the kernel wouldn't mind; whoever published it last would be shadowed without a
word. `clash` finds that.
"""

from __future__ import annotations

from nsbridge.errors import InvalidIntent
from nsbridge.firewall.ruleset import TURNS, Element, Span
from nsbridge.model.names import TABLE
from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from nsbridge.model.endpoint import Endpoint, Proto, PublishedPort
    from nsbridge.model.network import Network
    from nsbridge.state.things import Address_

SPECIAL = ("bound", "face", "ranges")
"""The maps in which a port doesn't stand under its number alone."""


DOORS = {4: "routed4", 6: "routed6"}
"""The sets of ports that are reached at their endpoint's own address, by IP version."""


def bound_by_default(network: Network, port: PublishedPort) -> PublishedPort:
    """Return the port as it is published on this network, which may say where those go that don't say it themselves."""
    if network.host_binding is None or port.host_ip is not None or port.interface or port.share:
        return port
    return port.replace(host_ip=network.host_binding)


def _target(endpoint: Endpoint, version: int) -> Address_ | None:
    address = endpoint.address(version)
    return None if address is None else address.ip


def port_things(network: Network, endpoint: Endpoint, port: PublishedPort) -> tuple[Element, ...]:
    """Return the map elements of one published port, or range of them, for each family that it has.

    A shared port has none of its own: see `turns_things`. InvalidIntent when the network is internal, or when the
    endpoint has no address of that family.
    """
    if network.internal:
        raise InvalidIntent(
            f"port {port.target} of {endpoint.name!r} can't be published: network {network.name!r} is internal",
            fix="publish it on a network that isn't, or make this one not internal",
        )
    if network.unmanaged:
        raise InvalidIntent(
            f"port {port.target} of {endpoint.name!r} can't be published: the link of network {network.name!r} is "
            "somebody else's, and so is what passes it",
            fix="reach the endpoint by its address, or publish on a network of ours",
        )
    found: list[Element] = []
    reachable = False
    for version in (4, 6):
        target = _target(endpoint, version)
        if target is None or (port.host_ip is not None and port.host_ip.version != version):
            continue
        reachable = True
        if network.gateway_mode(version) == "routed":
            found += _doors(version, endpoint, port, target)
        elif not port.share:
            found += _elements(version, port, target, f"{port} of {endpoint.name!r}")
    if not reachable:
        raise InvalidIntent(
            f"port {port} of {endpoint.name!r} can't be published: it has no IPv{port.host_ip.version} address"
            if port.host_ip is not None
            else f"port {port} of {endpoint.name!r} can't be published: it has no address",
            fix="give the network a subnet of that family, or publish on an address of the other",
        )
    return tuple(found)


def _doors(version: int, endpoint: Endpoint, port: PublishedPort, target: Address_) -> list[Element]:
    """A port of a routed network is reached at its own address, so the host's port and address don't matter (Docker).

    One that is for this host alone needs no door: the host reaches the endpoint anyway.
    """
    if port.interface:
        raise InvalidIntent(
            f"port {port} of {endpoint.name!r} can't be for {port.interface} alone: its network is routed",
            fix="publish it without an interface, or name that one in trusted_host_interfaces",
        )
    if port.host_ip is not None and port.host_ip.is_loopback:
        return []
    said = f"{port.target}/{port.proto} of {endpoint.name!r}, without NAT"
    doors = [(target, port.proto, port.target + more) for more in range(port.count)]
    return [Element(TABLE, DOORS[version], door, why=said) for door in doors]


def _elements(version: int, port: PublishedPort, target: Address_, why: str) -> list[Element]:
    bound = None if port.host_ip is None or port.host_ip.is_unspecified else port.host_ip
    if port.count > 1 and port.host_port == port.target and not port.interface:
        key = (_whole(version, bound), port.proto, Span(port.host_port, port.host_port + port.count - 1))
        return [Element(TABLE, f"ranges{version}", key, (target,), why=why)]
    places: list[tuple[str, tuple[Any, ...]]] = [("publish", ())]
    if port.interface:
        places = [("face", (port.interface,))]
        places += [("own", (address,)) for address in port.own if address.version == version]
    elif bound is not None:
        places = [("bound", (bound,))]
    return [
        Element(
            TABLE,
            f"{name}{version}",
            (*where, port.proto, port.host_port + more),
            (target, port.target + more),
            why=why,
        )
        for name, where in places
        for more in range(port.count)
    ]


def _whole(version: int, bound: Address_ | None) -> object:
    """The addresses of a range's key, as a network."""
    from ipaddress import ip_network

    return ip_network(bound) if bound is not None else ip_network("0.0.0.0/0" if version == 4 else "::/0")


def everywhere(version: int) -> Address_:
    """The address that stands for all of an IP version's."""
    from ipaddress import IPv4Address, IPv6Address

    return IPv4Address(0) if version == 4 else IPv6Address(0)


def ports_things(network: Network, endpoint: Endpoint) -> tuple[Element, ...]:
    """Return the map elements of all the endpoint's published ports; of several that open one door, one."""
    found = [element for port in endpoint.ports for element in port_things(network, endpoint, port)]
    return tuple(dict.fromkeys(found)) if network.routed else tuple(found)


def held_by_none(network: Network, endpoint: Endpoint, things: Iterable[Element]) -> tuple[Element, ...]:
    """Return those of the things that no port of the endpoint holds: of a routed network two may hold the same."""
    if not network.routed:
        return tuple(things)
    held = frozenset(ports_things(network, endpoint))
    return tuple([thing for thing in dict.fromkeys(things) if thing not in held])


# ports that several endpoints share


class Member(Value):
    """An endpoint that answers on a shared port. It gets no new connections while it is `out` or `unhealthy`.

    out: drained by a person. unhealthy: its health check fails, or hasn't succeeded yet.
    """

    network: str
    endpoint: str
    target: int
    addresses: tuple[Address_, ...]
    out: bool = False
    unhealthy: bool = False

    @property
    def ready(self) -> bool:
        """Tell whether new connections go to it."""
        return not (self.out or self.unhealthy)


class SharedPort(Value):
    """A host port that several endpoints answer on in turn. host_ip: as of a `PublishedPort`."""

    proto: Proto
    host_port: int
    host_ip: Address_ | None = None
    members: tuple[Member, ...] = ()

    @property
    def name(self) -> str:
        """``tcp-8080``."""
        return f"{self.proto}-{self.host_port}"

    def without(self, network: str, endpoint: str) -> SharedPort:
        """Return it without a member."""
        left = [one for one in self.members if (one.network, one.endpoint) != (network, endpoint)]
        return self.replace(members=tuple(left))


def turns_things(shared: SharedPort) -> tuple[Element, ...]:
    """Deal the turns out: one element each, to the members that are in, one after the other."""
    found: list[Element] = []
    for version in (4, 6):
        if shared.host_ip is not None and shared.host_ip.version != version:
            continue
        ready = [
            (address, one)
            for one in shared.members
            for address in one.addresses
            if address.version == version and one.ready
        ]
        for turn in range(TURNS if ready else 0):
            address, one = ready[turn % len(ready)]
            key = (shared.proto, shared.host_port, turn)
            why = f"{shared.host_port}/{shared.proto}, shared, of {one.endpoint!r}"
            found.append(Element(TABLE, f"turns{version}", key, (address, one.target), why=why))
    return tuple(found)


# what can't be there together


def claimed(element: Element) -> tuple[str, object, str, int, int] | None:
    """Return what a map element claims: family, where (None for everywhere), protocol, first and last port.

    None for what claims nothing by itself.
    """
    name, digit = element.set[:-1], element.set[-1]
    if name == "turns":
        proto, port, _ = element.key
        return digit, None, proto, port, port
    if name not in ("publish", *SPECIAL):
        return None
    *where, proto, ports = element.key
    first, last = (ports.first, ports.last) if type(ports) is Span else (ports, ports)
    place: Any = where[0] if where else None
    if name == "ranges":
        place = place.network_address if place.prefixlen else None
    return digit, place, proto, first, last


def clash(wanted: Iterable[Element], there: Iterable[Element]) -> Element | None:
    """Return the first element that is there and claims what one of the wanted does, None without one.

    Everywhere meets every address and every interface. An address and an interface don't meet: where both fit a
    packet, the address wins.
    """
    mine = [claim for claim in map(claimed, wanted) if claim is not None]
    for element in there:
        theirs = claimed(element)
        if theirs is None:
            continue
        digit, place, proto, first, last = theirs
        for family, where, protocol, least, most in mine:
            if family != digit or protocol != proto or first > most or least > last:
                continue
            if where is None or place is None or where == place:
                return element
    return None


class Claims:
    """What many ports claim, found by its number: thousands that come at once are not compared each with each."""

    def __init__(self) -> None:
        self._by_port: dict[tuple[str, str, int], list[Element]] = {}
        self._spans: list[Element] = []
        self._all: list[Element] = []

    def add(self, elements: Iterable[Element]) -> None:
        """Remember these."""
        for element in elements:
            claim = claimed(element)
            if claim is None:
                continue
            digit, _, proto, first, last = claim
            self._all.append(element)
            if first == last:
                self._by_port.setdefault((digit, proto, first), []).append(element)
            else:
                self._spans.append(element)

    def near(self, wanted: Iterable[Element]) -> list[Element]:
        """Return those of them that may meet one of the wanted; `clash` tells."""
        found: list[Element] = []
        for digit, _, proto, first, last in filter(None, map(claimed, wanted)):
            found += self._by_port.get((digit, proto, first), ()) if first == last else self._all
        return [*found, *self._spans]
