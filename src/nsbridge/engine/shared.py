"""Ports that several endpoints share: who answers on them, and whose turn it is.

A shared port has a record of its own, since no endpoint's record can say who else there is. Whoever joins, leaves or
is taken out of turn changes the record and deals the 60 turns anew, under the lock of that port, in one batch: at no
moment does a new connection meet a turn that is nobody's. Connections that exist stay where they are: conntrack
remembers them.

Joining and leaving may be repeated, so a journal that says "may have joined" is undone by leaving.
"""

from __future__ import annotations

from nsbridge import codec
from nsbridge.desired.ports import Member, SharedPort, turns_things
from nsbridge.errors import NotFound, PortTaken
from nsbridge.firewall.ruleset import TURNS, Element
from nsbridge.model.names import TABLE
from nsbridge.plan.step import Step
from nsbridge.store import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.engine.host import Host
    from nsbridge.kernel.interface import Kernel
    from nsbridge.model.endpoint import Endpoint, Proto, PublishedPort
    from nsbridge.model.network import Network
    from nsbridge.store.store import Store


def _path(store: Store, proto: str, port: int) -> str:
    return f"{store.root}/shared/{proto}-{port}.json"


def read(store: Store, proto: str, port: int) -> SharedPort | None:
    """Return who shares a port, None when it isn't shared."""
    text = files.read(_path(store, proto, port))
    if not text:
        return None
    found: SharedPort = codec.loads(text)
    return found


def numbers(store: Store) -> tuple[tuple[str, int], ...]:
    """Return the protocol and number of every shared port."""
    names = (name.partition("-") for name in files.names(f"{store.root}/shared", ".json"))
    return tuple((proto, int(port)) for proto, _, port in names)


def records(store: Store) -> tuple[SharedPort, ...]:
    """Return every shared port."""
    return tuple(one for place in numbers(store) if (one := read(store, *place)) is not None)


def things(store: Store, network: str = "") -> tuple[Element, ...]:
    """Return the turns of every shared port, or of those that an endpoint of this network answers on."""
    return tuple(
        element
        for one in records(store)
        if not network or any(member.network == network for member in one.members)
        for element in turns_things(one)
    )


def join(kernel: Kernel, store: Store, network: Network, endpoint: Endpoint, port: PublishedPort) -> None:
    """Let an endpoint answer on a shared port. The caller holds the port's lock and knows that it is free or shared.

    With one address a family: with more it would get more turns. In a routed one nothing is translated.
    """
    have = read(store, port.proto, port.host_port) or SharedPort(port.proto, port.host_port, port.host_ip)
    if have.host_ip != port.host_ip:
        raise PortTaken(
            f"host port {port.host_port}/{port.proto} is shared on {have.host_ip or 'all addresses'} already",
            fix="share it on the same addresses, or choose another host port",
        )
    mine = [endpoint.address(version) for version in (4, 6) if network.gateway_mode(version) != "routed"]
    member = Member(endpoint.network, endpoint.name, port.target, tuple([each.ip for each in mine if each]), out=False)
    _deal(kernel, store, have.replace(members=(*have.without(endpoint.network, endpoint.name).members, member)))


def leave(kernel: Kernel, store: Store, proto: Proto, port: int, network: str, endpoint: str) -> None:
    """Let an endpoint answer no more; the port is free again when it was the last. Success when it never did."""
    with store.port_lock(((proto, port, port),)):
        have = read(store, proto, port)
        if have is not None:
            _deal(kernel, store, have.without(network, endpoint), anew=False)


def turn_out(host: Host, endpoint: Endpoint, asked: PublishedPort, out: bool) -> SharedPort:
    """Give an endpoint no new connections (or some again); return the port as it is then. It stays published.

    NotFound when it doesn't share that port.
    """
    port = next(
        (
            one
            for one in endpoint.ports
            if one.share
            and (one.proto, one.target) == (asked.proto, asked.target)
            and asked.host_port in (0, one.host_port)
        ),
        None,
    )
    if port is None:
        raise NotFound(
            f"{endpoint.name!r} shares no port {asked.target}/{asked.proto}",
            fix=f"share it: nsbridge publish --share {endpoint.name} HOST_PORT:{asked.target}",
        )
    return _change(host, endpoint, port, out=out)


def turn_by_health(host: Host, endpoint: Endpoint, healthy: bool) -> None:
    """Give an endpoint new connections on the ports it shares only while it is healthy."""
    for port in endpoint.ports:
        if port.share:
            _change(host, endpoint, port, unhealthy=not healthy)


def _change(host: Host, endpoint: Endpoint, port: PublishedPort, **state: bool) -> SharedPort:
    """Set `out` or `unhealthy` of a member, and deal the turns anew if that makes a difference."""
    with host.store.port_lock(((port.proto, port.host_port, port.host_port),)):
        have = read(host.store, port.proto, port.host_port) or SharedPort(port.proto, port.host_port, port.host_ip)
        mine = (endpoint.network, endpoint.name)
        members = [one.replace(**state) if (one.network, one.endpoint) == mine else one for one in have.members]
        after = have.replace(members=tuple(members))
        if after != have:
            _deal(host.kernel, host.store, after)
    return after


def _deal(kernel: Kernel, store: Store, shared: SharedPort, *, anew: bool = True) -> None:
    """Write the record, then bring the turns in the kernel into line with it. May be repeated.

    anew: add them where there are none. Who leaves doesn't: then our table may just be going, or be gone.
    """
    path = _path(store, shared.proto, shared.host_port)
    if shared.members:
        files.replace(path, codec.dumps(shared) + "\n")
    wanted = turns_things(shared)
    for digit in ("4", "6"):
        new = tuple([element for element in wanted if element.set == f"turns{digit}"])
        # They are written in one batch, so one of them stands for all.
        place = Element(TABLE, f"turns{digit}", (shared.proto, shared.host_port, 0))
        there = kernel.element_data(place.table, place.set, place.key) is not None
        if new and (there or anew):
            kernel.do(Step("change", new, new, why="turns") if there else Step("add", new, why="turns"))
        elif there and not new:
            gone = [place.replace(key=(shared.proto, shared.host_port, turn)) for turn in range(TURNS)]
            kernel.do(Step("remove", tuple(gone), why="turns"))
    if not shared.members:
        files.remove(path)
