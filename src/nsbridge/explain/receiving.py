"""What a namespace receives: prerouting, whether it believes the source, the route, and then forwarding or a socket."""

from __future__ import annotations

from nsbridge.explain import cures
from nsbridge.explain.hooks import fire, kept
from nsbridge.explain.path import ARRIVES, DROPPED, REFUSED, UNKNOWN, Culprit
from nsbridge.explain.routing import LOOPBACK, NOWHERE, lookup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.explain.path import Stage, Walk
    from nsbridge.explain.world import Listener, World
    from nsbridge.firewall.packet import Packet

_STRICT, _LOOSE = 1, 2
_ASKS = (8, 128)
_ANSWERS = (0, 129)


def arrive(walk: Walk) -> Stage | None:
    """A frame comes in by a link: a port hands it to its bridge, any other link to IP."""
    from nsbridge.explain.bridging import enter

    link = walk.space.links[walk.packet.iif]
    if not link.up:
        walk.hop("link", link.name, "drop", f"{link.name} is down")
        walk.end(DROPPED, cures.link_down(walk.netns, link))
        return None
    if link.xdp:
        walk.opaque[f"the XDP program on {link.name}"] = None
        walk.doubt = True
    if not fire(walk, "ingress", layer="netdev", device=link.name):
        return None
    return enter if link.master else arrive_ip


def arrive_ip(walk: Walk) -> Stage | None:
    """A packet comes to IP: the prerouting hook, unless br_netfilter has led it through already."""
    iif = walk.packet.iif
    if walk.version == 6 and walk.setting(f"net/ipv6/conf/{iif}/disable_ipv6"):
        key = f"net/ipv6/conf/{iif}/disable_ipv6"
        why = f"IPv6 is off on {iif}"
        walk.hop("input", cures.shown(key, "1"), "drop", why)
        walk.end(DROPPED, cures.setting(walk, key, "0", why))
        return None
    if walk.version == 6 and iif != LOOPBACK and (walk.packet.daddr.is_loopback or walk.packet.saddr.is_loopback):
        why = "no packet from or to ::1 may come by a wire (RFC 4291 §2.5.3)"
        walk.hop("input", iif, "drop", why)
        walk.end(DROPPED, Culprit("source", walk.netns, f"{walk.packet.saddr} → {walk.packet.daddr}", why))
        return None
    if not walk.ip_seen:
        if not walk.packet.tracked:
            walk.track()
        if not fire(walk, "prerouting"):
            return None
    walk.ip_seen = False
    return input_route


def input_route(walk: Walk) -> Stage | None:
    """Where it goes on: martians and sources that can't be true end here (ip_route_input_slow, fib_validate_source)."""
    packet, space = walk.packet, walk.space
    culprit = disbelieved(walk)
    if culprit is not None:
        walk.hop("source", culprit.thing, "drop", culprit.why)
        walk.end(DROPPED, culprit)
        return None
    found = lookup(space, packet.daddr, src=packet.saddr, mark=packet.mark or 0, iif=packet.iif)
    for text in found.skipped:
        walk.opaque[f"policy rule {text}"] = None
        walk.doubt = True
    if found.kind in ("local", "broadcast", "multicast", "anycast"):
        walk.hop("route", found.thing, "local", "an address of this namespace" if found.kind == "local" else "")
        return input_
    walk.gateway = found.via
    # IPv6 looks for a route first, and says that there is none even where nothing is forwarded (ip6_pkt_discard).
    nowhere = found.kind in ("none", *NOWHERE)
    culprit = None if nowhere and walk.version == 6 else cures.not_forwarding(walk)
    if culprit is not None:
        walk.hop("route", culprit.thing, "drop", culprit.why)
        walk.end(REFUSED if culprit.kind == "source" else DROPPED, culprit)  # ip6_forward says "beyond scope"
        return None
    if nowhere:
        culprit = cures.no_route(walk, found)
        walk.hop("route", found.thing, "drop", culprit.why)
        walk.end(DROPPED if found.kind == "blackhole" else REFUSED, culprit)
        return None
    walk.change(oif=found.link)
    walk.stolen = found.thing
    walk.hop("route", found.thing)
    return forward


def disbelieved(walk: Walk) -> Culprit | None:
    """Return why the packet can't have come by its link from where it says; None when it may, as in IPv6 always."""
    if walk.packet.iif == LOOPBACK or walk.version == 6:
        return None
    return _martian(walk) or _reverse_path(walk)


def _martian(walk: Walk) -> Culprit | None:
    """A source or destination that can't come by a wire."""
    packet = walk.packet
    for address, what in ((packet.daddr, "to"), (packet.saddr, "from")):
        if address.is_loopback and not walk.world.conf(walk.netns, 4, packet.iif, "route_localnet"):
            why = f"nothing {what} {address} may come in by {packet.iif}: the kernel calls it a martian"
            return cures.setting(walk, f"net/ipv4/conf/{packet.iif}/route_localnet", "1", why)
    if int(packet.saddr) == 0 or packet.saddr.is_multicast:
        return Culprit("source", walk.netns, f"source {packet.saddr}", "no packet is sent from there")
    if walk.space.owner(packet.saddr) and not walk.world.conf(walk.netns, 4, packet.iif, "accept_local"):
        own = walk.space.owner(packet.saddr)
        assert own is not None
        why = f"{packet.saddr} is an address of this namespace itself ({own.link}), so it can't come in by {packet.iif}"
        return cures.setting(walk, f"net/ipv4/conf/{packet.iif}/accept_local", "1", why)
    return None


def _reverse_path(walk: Walk) -> Culprit | None:
    """RFC 3704: the way back has to lead out where it came in (1), or anywhere (2).

    By a link that has no address itself, a port say, nothing else comes in either way (__fib_validate_source).
    """
    packet = walk.packet
    mode = walk.world.conf(walk.netns, 4, packet.iif, "rp_filter")
    if not mode:
        return None
    back = lookup(walk.space, packet.saddr, src=packet.daddr, mark=0)
    anywhere = mode == _LOOSE and any(walk.space.addresses_on(packet.iif, 4))
    if back.kind == "unicast" and (anywhere or any(link == packet.iif for link, _ in _ways(back))):
        return None
    way = f"the way back to {packet.saddr} leads out by {back.link}"
    way = way if back.kind == "unicast" else f"there is no way back to {packet.saddr}"
    why = f"it came in by {packet.iif}, but {way}: the reverse path filter drops it"
    key = f"net/ipv4/conf/{packet.iif}/rp_filter"
    if walk.setting("net/ipv4/conf/all/rp_filter") >= walk.setting(key):
        return cures.setting(walk, "net/ipv4/conf/all/rp_filter", "0", why, also=(key,))
    return cures.setting(walk, key, "0", why)


def _ways(found: object) -> tuple[tuple[str, object], ...]:
    route = getattr(found, "route", None)
    return route.ways if route is not None else ()


def forward(walk: Walk) -> Stage | None:
    """Forwarded: the forward hook, then out as if sent here."""
    from nsbridge.explain.sending import leaving

    ttl = walk.packet.ttl
    if ttl is not None:
        if ttl <= 1:
            why = f"its TTL has run out: {cures.called(walk.netns)} forwards it no more"
            walk.hop("forward", f"TTL {ttl}", "drop", why)
            walk.end(DROPPED, walk.shortener or Culprit("rule", walk.netns, f"TTL {ttl}", why))
            return None
        walk.change(ttl=ttl - 1)
    if not fire(walk, "forward"):
        return None
    return leaving


def input_(walk: Walk) -> Stage | None:
    """For this namespace: the input hook."""
    if not fire(walk, "input"):
        return None
    if not kept(walk):
        return None
    return deliver


def takers(world: World, netns: str, packet: Packet) -> list[Listener]:
    """Return the sockets that take a packet."""
    address = packet.daddr
    return [
        one
        for one in world.source.listeners(netns, packet.proto, packet.dport or 0)
        if (one.address == address or (int(one.address) == 0 and (one.address.version == address.version or one.both)))
        and one.device in ("", packet.iif)
    ]


def deliver(walk: Walk) -> Stage | None:
    """To a socket, or to the kernel's own answer to an echo."""
    packet = walk.packet
    if walk.back:
        walk.hop("socket", f"{packet.of if packet.icmp_type is None else packet.saddr} answers", "deliver")
        walk.end(ARRIVES, to=f"back at {packet.to}")
        return None
    if packet.proto in ("icmp", "icmpv6"):
        key = "net/ipv4/icmp_echo_ignore_all" if walk.version == 4 else "net/ipv6/icmp/echo_ignore_all"
        if walk.setting(key):
            why = f"{cures.called(walk.netns)} answers no echo requests"
            walk.hop("icmp", cures.shown(key, "1"), "drop", why)
            walk.end(DROPPED, cures.setting(walk, key, "0", why))
            return None
        walk.hop("icmp", f"echo request from {packet.saddr}", "deliver")
        walk.end(ARRIVES, to="the kernel, which answers echo requests")
        return None
    if packet.proto not in ("tcp", "udp"):
        walk.opaque[f"who takes {packet.proto} in this namespace"] = None
        walk.doubt = True
        walk.end(UNKNOWN)
        return None
    found = takers(walk.world, walk.netns, packet)
    if not found:
        culprit = cures.no_listener(walk)
        said = "connection refused" if packet.proto == "tcp" else "port unreachable"
        walk.hop("socket", f"{packet.to}/{packet.proto}", "refuse", culprit.why)
        walk.end(REFUSED, culprit, said=said)
        return None
    walk.hop("socket", str(found[0]), "deliver", f"held by {found[0].owner}" if found[0].owner else "")
    walk.end(ARRIVES, to=found[0].owner)
    return None
