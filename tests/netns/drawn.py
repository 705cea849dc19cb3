"""Worlds drawn at random, and what the pages promise about every request in them.

      outside ── up0 ┐                     ┌ near   10.60.0.0/24 fd60::/64   one .2   two .3     drawn
                     host ── our bridges ──┤
      beyond ─── in0 ┘                     └ far    10.61.0.0/24 fd61::/64   other .2            as it comes

Outside and beyond route straight to both networks. `promised` is an oracle: written from docs/publishing.md and
docs/files.md alone, it knows nothing of rules, sets or marks, and asks none of the product's code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypothesis import strategies as st
from lab import HOST4, HOST6, OUTSIDE, OUTSIDE4, OUTSIDE6, POLICIES

if TYPE_CHECKING:
    from collections.abc import Iterator

SECOND4, SECOND6 = "198.51.100.77", "2001:db8:1::77"
BEYOND, BEYOND4, BEYOND6, IN4, IN6 = "beyond", "10.9.0.2", "fd09::2", "10.9.0.1", "fd09::1"
UPLINK = {4: (HOST4, SECOND4), 6: (HOST6, SECOND6)}
GATEWAY = {"near": {4: "10.60.0.1", 6: "fd60::1"}, "far": {4: "10.61.0.1", 6: "fd61::1"}}
ADDRESS = {
    "one": {4: "10.60.0.2", 6: "fd60::2"},
    "two": {4: "10.60.0.3", 6: "fd60::3"},
    "other": {4: "10.61.0.2", 6: "fd61::2"},
    OUTSIDE: {4: OUTSIDE4, 6: OUTSIDE6},
    BEYOND: {4: BEYOND4, 6: BEYOND6},
}
NETWORK = {"one": "near", "two": "near", "other": "far"}
STARTS = (None, OUTSIDE, BEYOND, "one", "two", "other")
OWN = 7000
"""The port of a server of the host's own, on every address."""
SERVED = 80
"""The port on which every endpoint serves, published or not."""


@dataclass(frozen=True)
class Port:
    """A published port. where: an address, an interface, 0.0.0.0, ::, or empty for everywhere; owners: who answers."""

    owners: tuple[str, ...]
    proto: str
    where: str
    host: int
    target: int
    count: int = 1


@dataclass(frozen=True)
class World:
    """What is drawn. versions: families of `near`; modes, internal, icc, masquerade, trusted: its wishes;
    fixed: it leaves with the uplink's second address.

    firewall: whose forward chains drop. bridged: whether br_netfilter calls iptables. rp_filter: of the whole host.
    router: forwarding was on before us.
    """

    firewall: str
    bridged: int
    rp_filter: int
    router: bool
    versions: tuple[int, ...]
    mode4: str
    mode6: str
    internal: bool
    icc: bool
    masquerade: bool
    fixed: bool
    trusted: bool
    ports: tuple[Port, ...]

    def mode(self, network: str, version: int) -> str:
        return (
            ("nat" if network == "far" else self.mode4) if version == 4 else ("nat" if network == "far" else self.mode6)
        )

    def families(self, network: str) -> tuple[int, ...]:
        return self.versions if network == "near" else (4, 6)

    def closed(self, network: str | None) -> bool:
        """Whether a network is internal."""
        return network == "near" and self.internal


@dataclass(frozen=True)
class Ask:
    """A request: from a namespace (None is the host) to an address and port."""

    start: str | None
    to: str
    port: int
    proto: str

    @property
    def version(self) -> int:
        return 6 if ":" in self.to else 4


# ------------------------------------------------------------------ worlds


@st.composite
def ports(draw: st.DrawFn, versions: tuple[int, ...], modes: dict[int, str]) -> tuple[Port, ...]:
    places = [
        "",
        "",
        "127.0.0.1",
        HOST4,
        SECOND4,
        "0.0.0.0",
        "up0",
        GATEWAY["near"][4],
        HOST6,
        "::",
        GATEWAY["near"][6],
    ]
    found = []
    for number in range(draw(st.integers(1, 4))):
        owners = draw(st.sampled_from([("one",), ("one",), ("two",), ("one", "two"), ("other",)]))
        proto = draw(st.sampled_from(("tcp", "udp")))
        on_near = owners != ("other",)
        fit = [
            place
            for place in places
            if place in ("", "up0") or not on_near or (6 if ":" in place else 4) in versions
            if place not in GATEWAY["near"].values() or (6 if ":" in place else 4) in versions
        ]
        if len(owners) > 1:
            fit = [place for place in fit if place in ("", "0.0.0.0", "::")]
        if on_near and "routed" in modes.values():
            fit = [place for place in fit if place != "up0"]
        where, host = draw(st.sampled_from(fit)), 8000 + 100 * number
        count = draw(st.sampled_from((1, 1, 3))) if len(owners) == 1 else 1
        same = count > 1 and draw(st.booleans())
        found.append(Port(owners, proto, where, host, host if same else SERVED, count))
    return tuple(found)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    versions = draw(st.sampled_from(((4, 6), (4, 6), (4,), (6,))))
    internal = draw(st.integers(0, 5)) == 0
    modes = ("nat", "isolated") if internal else ("nat", "nat", "nat-unprotected", "routed")
    mode4, mode6 = draw(st.sampled_from(modes)), draw(st.sampled_from(modes))
    if internal:
        mode6 = mode4
    drawn = draw(ports(versions, {4: mode4, 6: mode6}))
    if internal:  # publishing there is refused, or without effect
        drawn = tuple(
            port for port in drawn if port.owners == ("other",) and port.where not in GATEWAY["near"].values()
        )
    masquerade = draw(st.integers(0, 3)) > 0
    return World(
        firewall=draw(st.sampled_from(("none", *POLICIES))),
        bridged=draw(st.integers(0, 1)),
        rp_filter=draw(st.integers(0, 2)),
        router=draw(st.booleans()),
        versions=versions,
        mode4=mode4,
        mode6=mode6,
        internal=internal,
        icc=draw(st.integers(0, 2)) > 0,
        masquerade=masquerade,
        fixed=masquerade and not internal and draw(st.integers(0, 2)) == 0,
        trusted=draw(st.integers(0, 4)) == 0,
        ports=drawn,
    )


def asks(world: World) -> Iterator[Ask]:
    """Everything worth asking in a world: each start, each address, each port that matters and one that doesn't."""
    numbers = {(OWN, "tcp"), (OWN, "udp")}
    targets = {(SERVED, "tcp"), (SERVED, "udp")}
    for port in world.ports:
        numbers |= {(number, port.proto) for number in (port.host, port.host + port.count - 1, port.host + port.count)}
        targets |= {(number, port.proto) for number in (port.target, port.target + port.count - 1)}
    for start in STARTS:
        for version in (4, 6):
            if start in NETWORK and version not in world.families(NETWORK[start]):
                continue
            here = [*UPLINK[version], GATEWAY["far"][version]]
            if version in world.versions and world.mode("near", version) != "isolated":
                here.append(GATEWAY["near"][version])
            if start is None:
                here.append("127.0.0.1" if version == 4 else "::1")
            yield from (Ask(start, to, *each) for to in here for each in numbers)
            there = [name for name, network in NETWORK.items() if version in world.families(network)]
            if start is None and world.mode("near", version) == "isolated":  # the host has no way there
                there = ["other"]
            yield from (Ask(start, ADDRESS[name][version], *each) for name in there for each in targets)
            for name in (OUTSIDE, BEYOND):
                if start != name:
                    yield from (Ask(start, ADDRESS[name][version], *each) for each in {*numbers, (SERVED, "tcp")})


@dataclass(frozen=True)
class Forged:
    """A datagram whose source or destination can't be true, put on the wire to the host as its next hop."""

    start: str
    source: str
    to: str
    port: int


def forgeries(world: World) -> Iterator[Forged]:
    """Datagrams in others' names and to or from the host's loopback: in no world may one of them be heard."""
    numbers = {OWN, SERVED} | {port.host for port in world.ports if port.proto == "udp"}
    for start in STARTS:
        for version in (4, 6):
            names = [name for name, network in NETWORK.items() if version in world.families(network)]
            if start is None or (start in NETWORK and start not in names):
                continue
            here = [UPLINK[version][0], GATEWAY["far"][version], *(ADDRESS[name][version] for name in names)]
            loopback = ("127.0.0.1", "127.0.0.2") if version == 4 else ("::1",)
            forged = [*(ADDRESS[name][version] for name in names if name != start), *loopback]
            yield from (Forged(start, source, to, port) for source in forged for to in here for port in numbers)
            own = ADDRESS[start][version]
            yield from (Forged(start, own, loopback[0], port) for port in numbers)


def served(world: World, name: str) -> set[int]:
    """The ports on which a namespace serves, by TCP and UDP."""
    if name in (OUTSIDE, BEYOND):
        return {SERVED} | {port.host for port in world.ports}
    return {SERVED} | {number for port in world.ports for number in (port.target, port.target + port.count - 1)}


# ------------------------------------------------------------------ what the pages promise


def promised(world: World, ask: Ask) -> frozenset[tuple[str, str]]:
    """Who may answer, and which client address it then sees; empty when nobody may."""
    version, home = ask.version, NETWORK.get(ask.start or "")
    for name, addresses in ADDRESS.items():
        if ask.to == addresses[version]:
            source = _at_an_endpoint(world, ask, name) if name in NETWORK else _in_the_world(world, ask, name)
            return frozenset({(name, source)} if source and ask.port in served(world, name) else ())
    if world.closed(home):
        return frozenset()
    for port in world.ports:
        if _published(world, ask, port):
            return frozenset((name, _seen(ask, NETWORK[name])) for name in port.owners)
    return frozenset({("host", _own(ask))} if ask.port == OWN and _meant_for(ask, home) else ())


def _own(ask: Ask) -> str:
    """The address a client has: the host, asking itself, has the one it asks for, or the first of an interface."""
    return {SECOND4: HOST4}.get(ask.to, ask.to) if ask.start is None else ADDRESS[ask.start][ask.version]


def _published(world: World, ask: Ask, port: Port) -> bool:
    """Whether an address of the host is one where a port answers this client."""
    network = NETWORK[port.owners[0]]
    if ask.version not in world.families(network) or world.mode(network, ask.version) not in ("nat", "nat-unprotected"):
        return False
    if ask.proto != port.proto or not port.host <= ask.port < port.host + port.count:
        return False
    if ask.to == "::1":
        return False
    if port.where == "up0":
        return ask.start == OUTSIDE or (ask.start is None and ask.to in UPLINK[ask.version])
    if port.where in ("0.0.0.0", "::"):
        return ask.version == (4 if port.where == "0.0.0.0" else 6)
    return port.where in ("", ask.to)


def _seen(ask: Ask, network: str) -> str:
    """Whose address an endpoint sees that is asked by a published port."""
    same = ask.start is not None and NETWORK.get(ask.start) == network
    return GATEWAY[network][ask.version] if same or ask.to == "127.0.0.1" else _own(ask)


def _meant_for(ask: Ask, home: str | None) -> bool:
    """Whether the host itself answers there: gateways' addresses are for their own network and the host."""
    gateways = {addresses[ask.version]: network for network, addresses in GATEWAY.items()}
    return ask.start is None or gateways.get(ask.to, home) == home


def _at_an_endpoint(world: World, ask: Ask, name: str) -> str:
    """Whose address an endpoint sees that is asked at its own; empty if it can't be."""
    network, version = NETWORK[name], ask.version
    own, home = ADDRESS.get(ask.start or "", {}).get(version, ""), NETWORK.get(ask.start or "")
    if ask.start == name:
        return own
    if ask.start is None:
        return GATEWAY[network][version]
    if home == network:
        return own if world.icc or network == "far" else ""
    if world.closed(home) or world.closed(network):
        return ""
    mode = world.mode(network, version)
    if network == "near" and world.trusted and ask.start == OUTSIDE:
        return own
    if mode == "nat-unprotected" and home is None:
        return own
    if mode == "routed" and any(_opened(ask, port, name) for port in world.ports):
        return own
    return ""


def _opened(ask: Ask, port: Port, name: str) -> bool:
    """Whether a port of a routed network's endpoint is open at its own address."""
    if name not in port.owners or ask.proto != port.proto or not port.target <= ask.port < port.target + port.count:
        return False
    if port.where == "127.0.0.1":  # this host alone, which needs no opening
        return False
    return not port.where or ask.version == (6 if ":" in port.where else 4)


def _in_the_world(world: World, ask: Ask, name: str) -> str:
    """Whose address another machine sees."""
    exits = {OUTSIDE: UPLINK, BEYOND: {4: (IN4,), 6: (IN6,)}}[name]
    home = NETWORK.get(ask.start or "")
    if ask.start is None:
        return exits[ask.version][0]
    if home is None:  # a stranger: the host forwards for it as it did before
        return _own(ask) if world.router and world.firewall == "none" else ""
    if world.closed(home):
        return ""
    hidden = home == "far" or (world.masquerade and world.mode(home, ask.version) in ("nat", "nat-unprotected"))
    if home == "near" and hidden and world.fixed:
        return UPLINK[ask.version][1]
    return exits[ask.version][0] if hidden else _own(ask)
