"""From one station of a link to the next: who answers for an address, and the frame's way there.

A link of a namespace is a veth pair whose other end is a station or a bridge port, a bridge itself, or something that
leads out of what can be read. Nobody's namespace is read but that of the one who answers.
"""

from __future__ import annotations

from nsbridge.explain import cures
from nsbridge.explain.hooks import fire, present
from nsbridge.explain.path import LEFT, LOST, UNKNOWN, Culprit
from nsbridge.explain.world import SeenLink
from nsbridge.firewall.packet import Ct
from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.explain.path import Stage, Walk
    from nsbridge.explain.world import World
    from nsbridge.state.things import Address_

_VALID = ("permanent", "reachable", "stale", "delay", "probe")
_SOLICIT, _ADVERTISE = 135, 136
_SOLICITED = 0xFF02_0000_0000_0000_0000_0001_FF00_0000
_NEVER = 8
"""Of arp_ignore: answer nobody."""

_MOST_PORTS = 64
"""So many ports of a bridge are asked when no record says who has an address."""


class Wire(Value):
    """What a link leads to. netns, bridge: a bridge there, entered by `port` ("" for its own host). station: one alone.

    unseen: words for what it leads to, when that can't be read.
    """

    netns: str = ""
    bridge: str = ""
    port: str = ""
    station: str = ""
    unseen: str = ""


class Station(Value):
    """Who answers for an address: a link of a namespace. port: of the bridge in front of it."""

    netns: str
    link: SeenLink
    port: str = ""


def wire(world: World, netns: str, link: SeenLink) -> Wire:
    """Return what a link leads to."""
    if link.kind == "bridge":
        return Wire(netns, link.name)
    if link.kind != "veth":
        return Wire(unseen=f"{link.name} leads out of this host")
    peer = world.peer(netns, link)
    if peer is None:
        return Wire(unseen=f"the other end of {link.name} is in a namespace that can't be found from here")
    where, other = peer
    return Wire(where, other.master, other.name) if other.master else Wire(where, station=other.name)


def answers(world: World, netns: str, link: SeenLink, address: Address_, known: str = "") -> bool:
    """Tell whether a station answers when it is asked for an address by ARP or neighbour discovery.

    known: the MAC that the one who sends believes in; it needn't ask then, and a frame for it is taken whatever link
    the address is on.
    """
    space = world.space(netns)
    own = space.owner(address) if space is not None else None
    if own is None or not link.up or not own.usable:
        return False
    if known == link.mac:
        return True
    if address.version == 6:
        return own.link == link.name
    ignores = world.conf(netns, 4, link.name, "arp_ignore")
    return ignores < _NEVER and (own.link == link.name or not ignores)


def _behind(world: World, at: Wire, address: Address_, known: str) -> Station | None:
    """Return the station behind a port of a bridge that answers for an address; by records first, then by asking."""
    space = world.space(at.netns)
    hint = world.source.holder(address)
    if hint is not None and (there := world.space(hint)) is not None and (own := there.owner(address)) is not None:
        link = there.links[own.link]
        peer = world.peer(hint, link)
        if peer is not None and peer[0] == at.netns and peer[1].master == at.bridge:
            return Station(hint, link, peer[1].name) if answers(world, hint, link, address, known) else None
    assert space is not None
    for count, port in enumerate(space.ports_of(at.bridge)):
        if count >= _MOST_PORTS:
            break
        peer = world.peer(at.netns, port) if port.kind == "veth" else None
        if peer is not None and answers(world, peer[0], peer[1], address, known):
            return Station(peer[0], peer[1], port.name)
    return None


def station(world: World, at: Wire, address: Address_, known: str = "") -> Station | None:
    """Return who answers for an address on a wire. known: as for `answers`."""
    space = world.space(at.netns)
    if space is None:
        return None
    if not at.bridge:
        link = space.links[at.station]
        return Station(at.netns, link) if answers(world, at.netns, link, address, known) else None
    bridge = space.links[at.bridge]
    if at.port and answers(world, at.netns, bridge, address, known):
        return Station(at.netns, bridge)
    return _behind(world, at, address, known)


def neighbour(walk: Walk) -> Stage | None:
    """Find the next hop on the link: its MAC, and who has it."""
    packet, space = walk.packet, walk.space
    link = space.links[packet.oif]
    if link.loopback:
        return loop
    if not link.up:
        walk.hop("link", link.name, "drop", f"{link.name} is down")
        walk.end(LOST, cures.link_down(walk.netns, link))
        return None
    if packet.daddr.is_multicast or walk.many:
        walk.hop("link", link.name, "open", "it goes to many")
        walk.opaque["who hears multicast and broadcast"] = None
        walk.doubt = True
        walk.end(UNKNOWN)
        return None
    if walk.back and (walk.netns, link.name) == (walk.question.start or "", walk.question.link):
        walk.hop("link", link.name, "left", "back to where the question came from")
        walk.end(LEFT, to=f"out by {link.name}")
        return None
    address = walk.gateway or packet.daddr
    at = wire(walk.world, walk.netns, link)
    if at.unseen:
        walk.hop("link", link.name, "left", at.unseen)
        walk.end(LEFT, to=at.unseen)
        return None
    entry = space.neighbours.get((link.name, address))
    known = entry.mac if entry is not None and entry.state in _VALID else ""
    known = known or walk.taught.get((walk.netns, link.name, address), "")
    found = station(walk.world, at, address, known)
    if found is None:
        _nobody(walk, link, at, address)
        return None
    if mistaken(walk, link, found, address) or (not known and not discovered(walk, link, found, address)):
        return None
    if not known:  # who is asked for his MAC learns that of who asks (arp_process, ndisc_recv_ns)
        walk.taught[found.netns, found.link.name, _asker(walk, link)] = link.mac
    walk.station = (found.netns, found.link.name)
    walk.change(ether_saddr=link.mac, ether_daddr=found.link.mac)
    walk.hop("neighbour", f"{address} lladdr {found.link.mac}")
    return leave


def mistaken(walk: Walk, link: SeenLink, found: Station, address: Address_) -> bool:
    """Tell whether the namespace believes that somebody else has the address; the way ends there then."""
    entry = walk.space.neighbours.get((link.name, address))
    if entry is None or entry.state not in _VALID or entry.mac == found.link.mac:
        return False
    there = walk.world.space(found.netns)
    # A bridge takes frames for the MACs of its ports as its own.
    ports = there.ports_of(found.link.name) if found.link.kind == "bridge" and there is not None else ()
    if any(port.mac == entry.mac for port in ports):
        return False
    why = f"{link.name} believes that {address} is {entry.mac}, but {found.link.mac} has it"
    thing = f"{address} lladdr {entry.mac} {entry.state}"
    walk.hop("neighbour", thing, "drop", why)
    fix = cures.within(walk.netns, f"ip neigh del {address} dev {link.name}")
    walk.end(LOST, Culprit("neighbour", walk.netns, thing, why, (fix,)))
    return True


def discovered(walk: Walk, link: SeenLink, found: Station, address: Address_) -> bool:
    """Tell whether the question for a MAC and its answer get through the rules on their way.

    ARP meets those of the bridge alone; IPv6's neighbour discovery is made of packets (RFC 4861 §7.2).
    """
    asker = _asker(walk, link)
    if walk.version == 4 and not _asker_believed(walk, found, address, asker):
        return False
    if walk.version == 6 and _told_to_another(walk, link, found, address, asker):
        return False
    if not _frames_heard(walk, link, found, address, asker):
        return False
    if walk.version == 4:
        return True
    kept = walk.packet, walk.netns
    asks = kept[0].replace(
        proto="icmpv6", sport=None, dport=None, icmp_code=0, flags=(), ct=Ct("untracked"), tracked=True, ttl=255, mark=0
    )
    for netns, names, kind, iif, oif in (
        (walk.netns, ("output", "postrouting"), _SOLICIT, "", link.name),
        (found.netns, ("prerouting", "input"), _SOLICIT, found.link.name, ""),
        (found.netns, ("output", "postrouting"), _ADVERTISE, "", found.link.name),
        (walk.netns, ("prerouting", "input"), _ADVERTISE, link.name, ""),
    ):
        saddr, daddr = (asker, _asked_by_all(address)) if kind == _SOLICIT else (address, asker)
        walk.netns = netns
        walk.packet = asks.replace(icmp_type=kind, iif=iif, oif=oif, local=not iif, saddr=saddr, daddr=daddr)
        for name in names:
            if present(walk, name, ("ip6", "inet")) and not fire(walk, name):
                return False
    walk.packet, walk.netns = kept
    return True


def _asker_believed(walk: Walk, found: Station, address: Address_, asker: Address_) -> bool:
    """Tell whether who is asked by ARP answers: only one from whom he would take a packet as well (arp_process)."""
    from nsbridge.explain.receiving import disbelieved

    kept = walk.packet, walk.netns
    walk.netns = found.netns
    walk.packet = kept[0].replace(
        family="arp", proto="", sport=None, dport=None, flags=(), ct=Ct(), local=False, mark=0,
        saddr=asker, daddr=address, iif=found.link.name, oif="", iif_port="", oif_port="",
    )  # fmt: skip
    culprit = disbelieved(walk)
    if culprit is None:
        walk.packet, walk.netns = kept
        return True
    culprit = cures.off_its_bridge(walk, found.link, asker) or culprit
    why = f"{cures.called(walk.netns)} doesn't tell {asker} who has {address}: {culprit.why}"
    walk.hop("source", culprit.thing, "drop", why)
    walk.end(LOST, culprit.replace(why=why))
    return False


def _told_to_another(walk: Walk, link: SeenLink, found: Station, address: Address_, asker: Address_) -> bool:
    """Tell whether an advertisement goes to the MAC that its sender is bound to believe in, and not to who asked.

    By ARP he is answered at the MAC in his question; ndisc_send_na looks it up, and an entry that somebody made for
    good isn't changed by a question (neigh_update).
    """
    there = walk.world.space(found.netns)
    entry = there.neighbours.get((found.link.name, asker)) if there is not None else None
    if entry is None or entry.state not in ("permanent", "noarp") or entry.mac == link.mac:
        return False
    called, thing = cures.called(found.netns), f"{asker} lladdr {entry.mac} {entry.state}"
    why = f"{called} tells {entry.mac} who has {address}, for it believes that this is {asker}, which is {link.mac}"
    walk.hop("neighbour", thing, "drop", why)
    fix = cures.within(found.netns, f"ip neigh del {asker} dev {found.link.name}")
    walk.end(LOST, Culprit("neighbour", found.netns, thing, why, (fix,)))
    return True


def _asker(walk: Walk, link: SeenLink) -> Address_:
    """Whose name is in the question: the packet's own sender if he lives here, or the link's (arp_, ndisc_solicit)."""
    own = walk.space.owner(walk.packet.saddr)
    if own is not None and (walk.version == 4 or own.link == link.name):
        return walk.packet.saddr
    mine = [one.address.ip for one in walk.space.addresses_on(link.name, walk.version)]
    return next((one for one in mine if walk.version == 4 or one.is_link_local), walk.packet.saddr)


def _frames_heard(walk: Walk, link: SeenLink, found: Station, address: Address_, asker: Address_) -> bool:
    """Tell whether the frames that ask for a MAC and that tell it come in by their senders' ports."""
    at = wire(walk.world, walk.netns, link)
    if not at.bridge:
        return True
    group = address if walk.version == 4 else _asked_by_all(address)
    everybody = "ff:ff:ff:ff:ff:ff" if walk.version == 4 else f"33:33:{group.packed[-4:].hex(':')}"
    asks: dict[str, object] = {"saddr": asker, "daddr": group, "ether_saddr": link.mac, "ether_daddr": everybody}
    tells: dict[str, object] = {
        "saddr": address,
        "daddr": asker,
        "ether_saddr": found.link.mac,
        "ether_daddr": link.mac,
    }
    if at.port and not _comes_in(walk, at.netns, at.port, _SOLICIT, asks, up=not found.port):
        return False
    return not found.port or _comes_in(walk, at.netns, found.port, _ADVERTISE, tells, up=not at.port)


def _comes_in(walk: Walk, netns: str, port: str, kind: int, frame: dict[str, object], *, up: bool) -> bool:
    """Tell whether a frame of neighbour discovery, or the same by ARP, gets in by a port. up: it is for the bridge."""
    kept = walk.packet, walk.netns
    arp = walk.version == 4
    walk.netns = netns
    walk.packet = kept[0].replace(
        family="arp" if arp else "ip6", proto="" if arp else "icmpv6", icmp_type=None if arp else kind,
        icmp_code=None if arp else 0, sport=None, dport=None, flags=(), ct=Ct(), tracked=False, local=False, mark=0,
        ttl=None if arp else 255, iif=port, oif="", iif_port="", **frame,
    )  # fmt: skip
    if not fire(walk, "prerouting", layer="bridge") or (up and not fire(walk, "input", layer="bridge")):
        return False
    walk.packet, walk.netns = kept
    return True


def _asked_by_all(address: Address_) -> Address_:
    """The group that somebody with this address listens to (RFC 4291 §2.7.1)."""
    from ipaddress import IPv6Address

    return IPv6Address(_SOLICITED | int(address) & 0xFFFFFF)


def _nobody(walk: Walk, link: SeenLink, at: Wire, address: Address_) -> None:
    """Nobody answers: the frame is never sent. Unless the bridge leads out by a port that can't be seen behind."""
    there = walk.world.space(at.netns)
    if at.bridge and there is not None:
        doors = [port.name for port in there.ports_of(at.bridge) if port.kind != "veth" and port.name != at.port]
        if doors:
            walk.hop("neighbour", f"{address} on {link.name}", "left", f"bridge {at.bridge} leads out by {doors[0]}")
            walk.end(LEFT, to=f"out by {doors[0]} of bridge {at.bridge}")
            return
    culprit = cures.nobody(walk, link, at, address)
    walk.hop("neighbour", f"who has {address} on {link.name}?", "drop", culprit.why)
    walk.end(LOST, culprit)


def loop(walk: Walk) -> Stage | None:
    """Over loopback: what was sent comes in again, with its conntrack entry and its mark."""
    from nsbridge.explain.receiving import arrive_ip

    if not walk.space.links["lo"].up:
        walk.end(LOST, cures.link_down(walk.netns, walk.space.links["lo"]))
        return None
    walk.change(iif="lo", oif="", local=False, tracked=True, ether_saddr="", ether_daddr="")
    walk.ip_seen = False
    return arrive_ip


def leave(walk: Walk) -> Stage | None:
    """Out of the link, with a frame around it."""
    from nsbridge.explain.bridging import from_host

    link = walk.space.links[walk.packet.oif]
    if not fire(walk, "egress", layer="netdev", device=link.name):
        return None
    if link.kind == "bridge":
        return from_host
    return cross(walk, link)


def cross(walk: Walk, link: SeenLink) -> Stage | None:
    """Through a veth pair, into the namespace at its other end: marks and conntrack entries stay behind."""
    from nsbridge.explain.receiving import arrive

    peer = walk.world.peer(walk.netns, link)
    if peer is None:
        walk.hop("link", link.name, "left", "its other end is in a namespace that can't be found from here")
        walk.end(LEFT, to=f"out by {link.name}")
        return None
    where, other = peer
    if not other.up or not link.up:
        guilty = (where, other) if not other.up else (walk.netns, link)
        walk.hop("link", link.name, "drop", f"{guilty[1].name} is down")
        walk.end(LOST, cures.link_down(*guilty))
        return None
    if other.mtu < link.mtu and not walk.back:
        walk.notes[
            f"packets of more than {other.mtu} bytes vanish between {link.name} (MTU {link.mtu}) "
            f"and {other.name} (MTU {other.mtu})"
        ] = None
    if (walk.packet.length or 0) > other.mtu:
        why = f"{other.name} takes packets of {other.mtu} bytes and drops longer ones without a word"
        walk.hop("link", f"mtu {other.mtu} of {other.name}", "drop", why)
        fix = (cures.within(where, f"ip link set {other.name} mtu {link.mtu}"),)
        walk.end(LOST, Culprit("mtu", where, f"mtu {other.mtu} of {other.name}", why, fix))
        return None
    walk.hop("veth", f"{link.name} → {other.name}")
    if where != walk.netns:
        walk.change(mark=0, priority=0)
    walk.netns = where
    walk.ip_seen = False
    walk.change(iif=other.name, oif="", iif_port="", oif_port="", local=False, tracked=False)
    return arrive
