"""What a namespace sends: route, output hook, postrouting hook. Forwarded packets join at the last of them."""

from __future__ import annotations

from nsbridge.explain import cures
from nsbridge.explain.crossing import neighbour
from nsbridge.explain.hooks import fire, kept
from nsbridge.explain.path import DROPPED, LOST, UNSENT, Culprit
from nsbridge.explain.routing import LOOPBACK, Lookup, lookup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.explain.path import Stage, Walk

WORDS = {
    "none": "no route leads to {dst}",
    "blackhole": "a route throws away what goes to {dst}",
    "unreachable": "a route says that {dst} can't be reached",
    "prohibit": "a route forbids {dst}",
}


def send(walk: Walk) -> Stage | None:
    """A socket sends: choose the source address, and the route."""
    packet = walk.packet
    src = packet.saddr if int(packet.saddr) else None
    if src is not None and walk.space.owner(src) is None and src not in _local_net(walk):
        walk.hop("socket", f"from {src}", "drop")
        walk.end(UNSENT, cures.no_such_address(walk, src))
        return None
    # A link-local address means something on its own link alone: there the question came from (RFC 4007 §9).
    scope = walk.scope if packet.daddr.is_link_local and packet.daddr.version == 6 else ""
    found = lookup(walk.space, packet.daddr, src=src, mark=packet.mark or 0, oif=scope)
    if src is None and found.source is not None:
        walk.change(saddr=found.source)
        walk.question = walk.question.replace(packet=walk.question.packet.replace(saddr=found.source))
    walk.change(local=True)
    if not routed(walk, found, UNSENT):
        return None
    return output


def _local_net(walk: Walk) -> tuple[object, ...]:
    """Addresses that may be sent from though no link has them as they stand: all of 127.0.0.0/8."""
    src = walk.packet.saddr
    return (src,) if src.version == 4 and src.is_loopback else ()


def routed(walk: Walk, found: Lookup, fate: str) -> bool:
    """Write down what the routes say, and tell whether they lead anywhere; `fate` is the packet's if not."""
    for text in found.skipped:
        walk.opaque[f"policy rule {text}"] = None
        walk.doubt = True
    if found.kind in WORDS:
        walk.hop("route", found.thing, "drop", WORDS[found.kind].format(dst=walk.packet.daddr))
        walk.end(fate, cures.no_route(walk, found))
        return False
    walk.change(oif=found.link)
    walk.gateway = found.via
    walk.stolen = found.thing
    walk.many = found.kind in ("broadcast", "multicast")
    rule = f" (by rule {found.policy})" if found.policy is not None and found.policy.priority not in (0, 32766) else ""
    walk.hop("route", found.thing + rule)
    return True


def output(walk: Walk) -> Stage | None:
    """The output hook, and the route again when it changed what routes are chosen by."""
    walk.track()
    before = walk.packet
    if not fire(walk, "output"):
        return None
    after = walk.packet
    if (before.daddr, before.mark) != (after.daddr, after.mark):
        found = lookup(walk.space, after.daddr, src=after.saddr, mark=after.mark or 0)
        if not routed(walk, found, DROPPED):
            return None
    return leaving


_PASSING = ("", "noqueue", "pfifo", "pfifo_fast", "bfifo", "fq", "fq_codel", "mq")
"""Queue disciplines that drop nothing of a packet that comes alone."""


def leaving(walk: Walk) -> Stage | None:
    """The way out of the namespace: no loopback source leaves by a real link unless it is allowed to."""
    packet = walk.packet
    if packet.oif != LOOPBACK and packet.daddr.is_loopback and walk.strayed is None:
        walk.strayed = cures.no_loopback(walk)
    if packet.oif != LOOPBACK and packet.saddr.version == 4 and packet.saddr.is_loopback:
        key = f"net/ipv4/conf/{packet.oif}/route_localnet"
        if not walk.world.conf(walk.netns, 4, packet.oif, "route_localnet"):
            why = f"a packet from {packet.saddr} may not leave by {packet.oif}: the kernel calls it a martian"
            walk.hop("route", cures.shown(key, "0"), "drop", why)
            walk.end(DROPPED, cures.setting(walk, key, "1", why))
            return None
    return postrouting


def postrouting(walk: Walk) -> Stage | None:
    """The postrouting hook: source addresses are rewritten, and conntrack confirms the connection.

    It is shown by which link a forwarded packet came in (ip_output, since Linux 5.6).
    """
    if not fire(walk, "postrouting"):
        return None
    walk.change(iif="")
    if not kept(walk):
        return None
    queue = walk.space.links[walk.packet.oif].queue
    if queue not in _PASSING:
        walk.assumed[f"the queue {queue} of {walk.packet.oif} ({cures.called(walk.netns)}) has room for it"] = None
    return too_big if walk.packet.length else neighbour


def too_big(walk: Walk) -> Stage | None:
    """A packet longer than the link takes, with "don't fragment" as TCP sets it: an error goes back."""
    link = walk.space.links[walk.packet.oif]
    length = walk.packet.length or 0
    if length > link.mtu:
        why = f"{length} bytes don't fit: {link.name} takes {link.mtu}"
        walk.hop("route", f"mtu {link.mtu} of {link.name}", "drop", why)
        walk.end(LOST, Culprit("mtu", walk.netns, f"mtu {link.mtu} of {link.name}", why, cures.mtu(walk, link, length)))
        return None
    return neighbour
