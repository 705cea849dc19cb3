"""Publishing the ports of an endpoint: what is asked for is made definite, found free, and added in one step.

Two who want the same port can't both look first and both be right, so each holds a lock on the port's number, or on
all numbers of its range, from the look to the adding: bytes of one file, which the kernel lets go if we are killed.
Whoever wants another port doesn't wait. The kernel's maps say who has a port, not a record of ours, so nothing can
disagree with what packets meet. (Hints beside the lock save the question where nothing can be: store/portlock.py.)
"""

from __future__ import annotations

from errno import EEXIST, ENOTEMPTY

from nsbridge.desired.ports import (
    DOORS,
    Claims,
    bound_by_default,
    claimed,
    clash,
    everywhere,
    held_by_none,
    port_things,
)
from nsbridge.engine import shared
from nsbridge.errors import Exhausted, InvalidIntent, KernelError, PortTaken, Unsupported
from nsbridge.firewall.ruleset import Element, Span
from nsbridge.model.names import TABLE
from nsbridge.plan.diff import adding
from nsbridge.store import leases
from nsbridge.store.portlock import NUMBER, SPECIAL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nsbridge.engine.host import Host
    from nsbridge.engine.journal import Operation
    from nsbridge.model.endpoint import Endpoint, PublishedPort
    from nsbridge.model.network import Network
    from nsbridge.store.portlock import PortLock

CHOSEN_PORT_TRIES = 16
"""How often another ephemeral port is tried when somebody takes the one just chosen."""


def check_possible(host: Host, ports: Iterable[PublishedPort]) -> None:
    """Raise before anything is changed: for a protocol this kernel lacks, or an address that isn't the host's."""
    for port in ports:
        if port.proto == "sctp" and not host.kernel.supports("sctp"):
            raise Unsupported(
                f"port {port} can't be published: this kernel has no SCTP",
                fix="load it (`modprobe sctp`) or use a kernel with CONFIG_IP_SCTP and CONFIG_NF_CT_PROTO_SCTP",
            )
        if port.host_ip is not None and not port.host_ip.is_unspecified and not host.kernel.has_address(port.host_ip):
            raise InvalidIntent(
                f"port {port} can't be published: {port.host_ip} is no address of this host",
                fix="see `ip address`, or name an interface instead: -p INTERFACE:HOST_PORT:PORT",
            )


def check_listeners(host: Host, ports: Iterable[PublishedPort]) -> None:
    """Raise PortTaken when a process of the host listens on one of the ports: it would be shadowed without a word."""
    for port in ports:
        if port.host_port and (busy := listener(host, port)):
            shown = port.replace(host_port=busy, target=busy, count=1).host_text if port.count > 1 else port.host_text
            raise PortTaken(
                f"a process on this host already listens on {shown}/{port.proto}",
                fix="stop it, or publish another host port",
                port=port.host_port,
            )


def on_the_host(network: Network, port: PublishedPort) -> tuple[PublishedPort, ...]:
    """Return the port as far as it takes one of the host's: not for a family without NAT."""
    asked = [4, 6] if port.host_ip is None else [port.host_ip.version]
    mine = [one for one in asked if network.subnet(one) is not None]
    natted = [one for one in mine if network.gateway_mode(one) != "routed"]
    if natted == mine:
        return (port,)
    if not natted:
        return ()
    return (port if port.interface else port.replace(host_ip=everywhere(natted[0])),)


def listener(host: Host, port: PublishedPort) -> int:
    """Return the first of a port's numbers that a process of the host listens on, 0 without one."""
    last = port.host_port + port.count - 1
    if not port.interface:
        return host.kernel.busy_port(port.proto, port.host_ip, port.host_port, last)
    found = [host.kernel.busy_port(port.proto, address, port.host_port, last) for address in port.own]
    return next((one for one in found if one), 0)


def differing(
    network: Network, wanted: Iterable[PublishedPort], have: Iterable[PublishedPort]
) -> tuple[list[PublishedPort], list[PublishedPort]]:
    """Return which ports are to be published and which taken away; one that was to be chosen is content with any."""
    left, missing = list(have), []
    for port in [bound_by_default(network, one) for one in wanted]:
        match = next((one for one in left if one == port or _chosen(port, one)), None)
        if match is None:
            missing.append(port)
        else:
            left.remove(match)
    return missing, left


def _chosen(asked: PublishedPort, port: PublishedPort) -> bool:
    """Tell whether a port could be what was chosen for one that left the host port open."""
    if asked.choices > 1:
        within = asked.host_port <= port.host_port < asked.host_port + asked.choices
        return within and port.replace(host_port=asked.host_port, choices=asked.choices) == asked
    return not asked.host_port and port.replace(host_port=0) == asked


def publish_things(
    host: Host, op: Operation, network: Network, endpoint: Endpoint, ports: Iterable[PublishedPort]
) -> tuple[PublishedPort, ...]:
    """Publish ports in one step, ephemeral ones chosen; return them as they are."""
    asked = tuple([_settled(host, network, port) for port in ports])
    for last in range(CHOSEN_PORT_TRIES - 1, -1, -1):
        numbered = tuple(
            port if port.host_port else port.replace(host_port=host.kernel.free_port(port.proto)) for port in asked
        )
        with host.store.port_lock([(p.proto, p.host_port, p.host_port + _width(p) - 1) for p in numbered]) as lock:
            try:
                return _publish_locked(host, op, network, endpoint, numbered, lock)
            except PortTaken as err:
                chosen = {new.host_port for old, new in zip(asked, numbered, strict=True) if not old.host_port}
                if not last or err.details.get("port") not in chosen:
                    raise
    raise Exhausted("no free host port was found", fix="name one: -p HOST:PORT")


def _width(port: PublishedPort) -> int:
    return max(port.count, port.choices)


def _settled(host: Host, network: Network, port: PublishedPort) -> PublishedPort:
    """The port with what the network and the interface say about it."""
    port = bound_by_default(network, port)
    if port.host_ip is not None and port.host_ip.is_loopback and port.host_ip.version == 6:
        host.say(f"port {port} doesn't answer yet: on [::1] it takes a proxy; publish it on 127.0.0.1 too")
    if not port.interface:
        return port
    if not host.kernel.link_index(port.interface):
        host.say(f"there is no interface {port.interface!r} yet: port {port} answers once there is")
    return port.replace(own=host.kernel.addresses_of(port.interface))


def _publish_locked(
    host: Host, op: Operation, network: Network, endpoint: Endpoint, ports: Sequence[PublishedPort], lock: PortLock
) -> tuple[PublishedPort, ...]:
    fixed: list[PublishedPort] = []
    things: list[Element] = []
    claims = Claims()
    for port in ports:
        if port.choices > 1:
            port = _free_one(host, network, endpoint, port, things, lock)
        else:
            check_listeners(host, on_the_host(network, port))
        for one in on_the_host(network, port):
            _check_shared(host, one)
        now = endpoint.replace(ports=(*endpoint.ports, *fixed)) if network.routed else endpoint
        elements = held_by_none(network, now, port_things(network, endpoint, port))
        rival = clash(elements, claims.near(elements))
        if rival is None and _may_meet(lock, port):
            rival = in_the_way(host, _turns(port) if port.share else elements)
        if rival is not None:
            raise _taken(host, rival)
        fixed.append(port)
        things += elements
        claims.add(elements)
    for port in fixed:
        last = port.host_port + port.count - 1
        lock.note(port.proto, port.host_port, last, SPECIAL if _is_special(port) else NUMBER)
    try:
        for step in adding(things):
            op.step(step)
    except KernelError as err:
        raise port_trouble(host, err) from err
    for port in fixed:
        if port.share:
            op.turning(port.proto, port.host_port, endpoint.network, endpoint.name)
            shared.join(host.kernel, host.store, network, endpoint, port)
    return tuple(fixed)


def _is_special(port: PublishedPort) -> bool:
    bound = port.host_ip is not None and not port.host_ip.is_unspecified
    return bool(bound or port.interface or port.count > 1)


def _may_meet(lock: PortLock, port: PublishedPort) -> bool:
    """Tell whether another map may hold it; a second one under its number alone, the kernel itself refuses."""
    hints = lock.hints(port.proto, port.host_port, port.host_port + port.count - 1)
    return bool(hints if _is_special(port) or port.share else hints & SPECIAL)


def _free_one(
    host: Host,
    network: Network,
    endpoint: Endpoint,
    port: PublishedPort,
    chosen: Sequence[Element],
    lock: PortLock,
) -> PublishedPort:
    """Return the port with the first of its choices that nobody has."""
    for number in range(port.host_port, port.host_port + port.choices):
        one = port.replace(host_port=number, choices=1)
        things = [each for each in port_things(network, endpoint, one) if each.set not in DOORS.values()]
        if (
            not listener(host, one)
            and not any(host.kernel.element_data(TABLE, each.set, each.key) is not None for each in things)
            and clash(things, chosen) is None
            and not (_may_meet(lock, one) and in_the_way(host, things) is not None)
            and shared.read(host.store, one.proto, number) is None
        ):
            return one
    raise Exhausted(f"no host port of {port.host_text}/{port.proto} is free", fix="give a wider range, or no host port")


def in_the_way(host: Host, things: Sequence[Element]) -> Element | None:
    """Return an element of another map that claims what one of these does.

    Asks for single ports by their keys; only the maps of what is bound to something are read as a whole.
    """
    there: list[Element] = []
    for digit in ("4", "6"):
        names = {thing.set[:-1] for thing in things if thing.set[-1] == digit}
        if not names:
            continue
        wanted = {"ranges"}
        if names & {"publish", "turns"}:
            wanted |= {"bound", "face"}
        if "ranges" in names:
            wanted |= {"publish", "bound", "face"}
        for name in wanted:
            there += host.kernel.elements(TABLE, name + digit)
        for thing in things:
            if thing.set in (f"bound{digit}", f"face{digit}", f"turns{digit}"):
                key = thing.key[:2] if thing.set == f"turns{digit}" else thing.key[1:]
                data = host.kernel.element_data(TABLE, f"publish{digit}", key)
                there += [Element(TABLE, f"publish{digit}", key, data)] if data is not None else []
    return clash(things, there) if there else None


def _turns(port: PublishedPort) -> list[Element]:
    """What a shared port claims."""
    versions = (4, 6) if port.host_ip is None else (port.host_ip.version,)
    return [Element(TABLE, f"turns{version}", (port.proto, port.host_port, 0)) for version in versions]


def _check_shared(host: Host, port: PublishedPort) -> None:
    """Raise PortTaken when others share one of the ports, and this one isn't for sharing."""
    if port.share:
        return
    for proto, number in shared.numbers(host.store):
        if proto == port.proto and port.host_port <= number < port.host_port + port.count:
            raise PortTaken(
                f"host port {number}/{proto} is shared by other endpoints",
                fix="share it too (`share: true`, `--share`), or publish another host port",
                port=port.host_port,
            )


def port_trouble(host: Host, err: KernelError) -> KernelError | PortTaken:
    """Turn the kernel's "exists" about a map element into words about the port."""
    element = err.thing
    if err.errno not in (EEXIST, ENOTEMPTY) or not isinstance(element, Element) or not element.data:
        return err
    data = host.kernel.element_data(element.table, element.set, element.key)
    return _taken(host, element.replace(data=data or ()))


def _taken(host: Host, element: Element) -> PortTaken:
    """Say that this element, which is there, has the port."""
    claim = claimed(element)
    assert claim is not None
    _, place, proto, first, last = claim
    where = f" on {place}" if place is not None else ""
    ports = (
        f"port {first}/{proto}{where} already goes"
        if first == last
        else f"ports {Span(first, last)}/{proto}{where} already go"
    )
    return PortTaken(
        f"host {ports} {_owner(host, element)}",
        fix="publish another host port, or unpublish that one first",
        port=first,
    )


def _owner(host: Host, element: Element) -> str:
    """Say whose map element it is."""
    if not element.data:
        return "to something that is gone meanwhile"
    address = element.data[0]
    for network in host.store.networks():
        if any(address in subnet.network for subnet in network.subnets):
            name = leases.owner(host.store.root, network.name, address)
            if name:
                return f"to endpoint {name!r} of network {network.name!r}"
    return f"to {':'.join(map(str, element.data))}"
