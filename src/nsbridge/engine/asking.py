"""What `nsbridge explain FROM TO` asks: names and addresses as people write them, made into a packet and its start."""

from __future__ import annotations

import os

from nsbridge.errors import InvalidIntent, NotFound
from nsbridge.explain.path import Question
from nsbridge.explain.routing import lookup
from nsbridge.firewall.packet import Packet
from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.engine.host import Host
    from nsbridge.explain.world import World
    from nsbridge.model.endpoint import Endpoint
    from nsbridge.state.things import Address_

NETNS = "/run/netns"
PROTOS = ("tcp", "udp", "icmp")
SOURCE_PORT = 40000
"""Of the question's packet: one of those that a client would get (ip_local_port_range)."""

OUTSIDE = "outside"

_MOST = 64
"""So many namespaces are looked into for whose an address is."""


class Place(Value):
    """One side of a question. kind: ``endpoint``, ``host``, ``outside``, ``netns`` or ``address``.

    netns: where it is, "" for the host, None for somewhere that isn't seen. endpoints: of that namespace.
    """

    kind: str
    name: str
    netns: str | None
    address: Address_ | None = None
    endpoints: tuple[Endpoint, ...] = ()


class Asked(Value):
    """A question as it was understood."""

    source: Place
    target: Place
    question: Question
    port: int | None
    proto: str

    @property
    def text(self) -> str:
        """``from ns1 to 10.0.0.2:80/tcp``."""
        packet = self.question.packet
        return f"from {self.source.name} to {packet.to}/{self.proto}"


def _address(text: str) -> Address_ | None:
    from ipaddress import ip_address

    try:
        return ip_address(text.strip("[]"))
    except ValueError:
        return None


def split(text: str) -> tuple[str, int | None, str]:
    """Return name, port and protocol of ``TO[:PORT][/PROTOCOL]``; InvalidIntent says what is off."""
    name, slash, tail = text.rpartition("/")
    proto = tail if slash and tail in PROTOS else ""
    rest = name if proto else text
    if rest.startswith("["):
        name, _, port_text = rest[1:].partition("]")
        port_text = port_text.removeprefix(":")
    elif rest.count(":") > 1:
        name, port_text = rest, ""
    else:
        name, _, port_text = rest.partition(":")
    if port_text and not (port_text.isascii() and port_text.isdecimal() and 0 < int(port_text) < 65536):
        raise InvalidIntent(f"{text!r} has {port_text!r} where a port belongs", fix="write TO:PORT, 1 to 65535")
    if not name:
        raise InvalidIntent(f"{text!r} names no target", fix="write TO[:PORT][/udp|/icmp]")
    port = int(port_text) if port_text else None
    proto = proto or ("tcp" if port is not None else "icmp")
    if (port is None) != (proto == "icmp"):
        wrong = "has no ports" if proto == "icmp" else "needs a port"
        raise InvalidIntent(f"{text!r}: {proto} {wrong}", fix="write TO:PORT/tcp, TO:PORT/udp, or TO for a ping")
    return name, port, proto


def _named(host: Host, name: str) -> tuple[Endpoint, ...]:
    """Endpoints of that name, or else those that neighbours know by it."""
    found = host.store.endpoints(name=name)
    return found or tuple(one for one in host.store.endpoints() if name in one.names)


def _spaces() -> list[str]:
    try:
        return sorted(os.listdir(NETNS))
    except OSError:
        return []


def place(host: Host, world: World, text: str) -> Place:
    """Return what a name stands for; NotFound says which are near."""
    name, _, given = text.partition("=")
    if name == "host" and not given:
        return Place("host", "the host", "")
    if name == OUTSIDE:
        address = _address(given) if given else None
        if given and address is None:
            raise InvalidIntent(f"{given!r} is no address", fix="write outside=ADDRESS")
        return Place("outside", f"outside ({address})" if address else "outside", None, address)
    if text == "localhost":
        from ipaddress import IPv4Address

        return Place("address", text, "", IPv4Address("127.0.0.1"))
    address = _address(text)
    if address is not None:
        return _at(host, world, address)
    found = _named(host, text)
    if found:
        netns = found[0].netns
        return Place("endpoint", text, netns, None, tuple(one for one in found if one.netns == netns))
    path = text if text.startswith("/") else f"{NETNS}/{text}"
    if os.path.exists(path):
        return Place("netns", path.removeprefix(f"{NETNS}/"), path)
    raise _unknown(host, text)


def _unknown(host: Host, text: str) -> NotFound:
    from difflib import get_close_matches

    known = {one.name for one in host.store.endpoints()} | {"host", OUTSIDE} | set(_spaces())
    near = get_close_matches(text, sorted(known), 3, 0.5)
    network = host.store.network_or_none(text)
    if network is not None:
        return NotFound(
            f"{text!r} is a network; a packet goes between its endpoints", fix="name one: see `nsbridge ps`"
        )
    return NotFound(
        f"there is no endpoint, service, namespace or address {text!r}",
        fix=f"did you mean {' or '.join(near)}?" if near else "see `nsbridge ps -a`; host and outside are names too",
    )


def _at(host: Host, world: World, address: Address_) -> Place:
    """Whose an address is: the host's, an endpoint's, or somebody's outside."""
    here = world.space("")
    if here is not None and (here.owner(address) is not None or address.is_loopback):
        return Place("host", str(address), "", address)
    holder = world.source.holder(address)
    if holder is not None:
        mine = tuple(one for one in host.store.endpoints() if one.netns == holder)
        return Place("address", str(address), holder, address, mine)
    for name in _spaces()[:_MOST]:
        space = world.space(f"{NETNS}/{name}")
        if space is not None and space.owner(address) is not None:
            return Place("address", f"{address} (in {name})", space.path, address)
    return Place("address", str(address), None, address)


# the packet


def _versions(version: int) -> tuple[int, ...]:
    return (version,) if version else (4, 6)


def _endpoint_address(source: Place, target: Place, version: int) -> Address_ | None:
    """A neighbour by its address on a network of both; otherwise the one its default route belongs to."""
    shared = {one.network for one in source.endpoints}
    for wanted in _versions(version):
        for one in sorted(target.endpoints, key=lambda one: (one.network not in shared, wanted not in one.gateway)):
            found = one.address(wanted)
            if found is not None:
                return found.ip
    return None


def _gateway(host: Host, source: Place, version: int) -> Address_ | None:
    """The host, as an endpoint knows it: the gateway of its network."""
    for wanted in _versions(version):
        for one in sorted(source.endpoints, key=lambda one: wanted not in one.gateway):
            network = host.store.network_or_none(one.network)
            subnet = network.subnet(wanted) if network is not None else None
            if subnet is not None:
                return subnet.gateway_address
    return None


def _uplink(world: World, address: Address_ | None, version: int) -> tuple[str, Address_ | None, Address_ | None]:
    """The host's link towards somebody outside, the next router there, and the host's own address on it."""
    from ipaddress import ip_address

    here = world.space("")
    assert here is not None
    for wanted in _versions(address.version if address is not None else version):
        far = address or ip_address("192.0.2.1" if wanted == 4 else "2001:db8::1")
        found = lookup(here, far)
        if found.kind == "unicast" and here.links[found.link].kind == "bridge" and address is not None:
            # Somebody who claims an address of a network comes by the uplink all the same.
            found = lookup(here, ip_address("192.0.2.1" if wanted == 4 else "2001:db8::1"))
        if found.kind == "unicast":
            return found.link, address or found.via or far, found.source
    return "", address, None


def _own_address(world: World, netns: str, version: int) -> Address_ | None:
    space = world.space(netns)
    for wanted in _versions(version):
        for one in space.addresses if space is not None else ():
            ip = one.address.ip
            if ip.version == wanted and not ip.is_loopback and not ip.is_link_local:
                return ip
    return None


def _destination(host: Host, world: World, source: Place, target: Place, version: int) -> Address_ | None:
    from ipaddress import ip_address

    if target.address is not None:
        return target.address
    if target.kind == "endpoint":
        return _endpoint_address(source, target, version)
    if target.kind == OUTSIDE:
        return _uplink(world, None, version)[1]
    if target.kind == "netns":
        return _own_address(world, target.netns or "", version)
    if source.netns == "":
        return ip_address("::1" if version == 6 else "127.0.0.1")
    if source.endpoints:
        return _gateway(host, source, version)
    link, _, own = _uplink(world, source.address, version)
    return own if link else _own_address(world, "", version)


def understood(host: Host, world: World, source: str, target: str, *, version: int = 0, size: int = 0) -> Asked:
    """Return the question; NotFound, InvalidIntent say what is off. version: 4 or 6, 0 to choose. size: bytes."""
    name, port, proto = split(target)
    sender, receiver = place(host, world, source), place(host, world, name)
    if sender.kind == "address" and sender.netns is None:
        sender = sender.replace(kind=OUTSIDE, name=f"outside ({sender.address})")
    given = receiver.address.version if receiver.address is not None else 0
    version = version or given or (sender.address.version if sender.address is not None else 0)
    to = _destination(host, world, sender, receiver, version)
    if to is None:
        raise NotFound(
            f"{receiver.name} has no {f'IPv{version} ' if version else ''}address that {sender.name} could ask",
            fix=f"see `nsbridge inspect {receiver.name}`" if receiver.kind == "endpoint" else "name an address",
        )
    start, link, saddr = _start(world, sender, to)
    packet = _packet(saddr, to, port, proto, size)
    return Asked(sender, receiver, Question(start, packet, link), port, proto)


def _start(world: World, sender: Place, to: Address_) -> tuple[str | None, str, Address_]:
    """Where the packet starts: a namespace, or a link of the host by which it comes in; and its source, 0 to choose."""
    from ipaddress import IPv4Address, IPv6Address

    nobody = IPv4Address(0) if to.version == 4 else IPv6Address(0)
    if sender.netns is not None:
        if world.space(sender.netns) is None:
            raise NotFound(f"the namespace of {sender.name} ({sender.netns}) is gone", fix="see `nsbridge gc`")
        own = sender.address if sender.address is not None and not sender.address.is_loopback else None
        return sender.netns, "", own or nobody
    if sender.address is not None and sender.address.version != to.version:
        raise InvalidIntent(f"{sender.address} can't ask {to}: one is IPv4, the other IPv6", fix="name two of a family")
    link, saddr, _ = _uplink(world, sender.address, to.version)
    if not link or saddr is None:
        raise NotFound("the host has no route to the world, so nothing comes from there", fix="name outside=ADDRESS")
    here = world.space("")
    assert here is not None
    peer = world.peer("", here.links[link])
    if peer is not None and (there := world.space(peer[0])) is not None and there.owner(saddr) is not None:
        return peer[0], "", saddr if sender.address is not None else nobody
    return None, link, saddr


def _packet(saddr: Address_, to: Address_, port: int | None, proto: str, size: int) -> Packet:
    family = "ip" if to.version == 4 else "ip6"
    length = size or None
    if proto == "icmp":
        kind = ("icmp", 8) if to.version == 4 else ("icmpv6", 128)
        return Packet(family, saddr, to, kind[0], sport=1, icmp_type=kind[1], icmp_code=0, flags=(), length=length)
    return Packet(family, saddr, to, proto, SOURCE_PORT, port, flags=("syn",) if proto == "tcp" else (), length=length)
