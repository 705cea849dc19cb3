"""Frames in a bridge: between its ports, up to the host, and down from it.

With br_netfilter a bridge shows the packets in its frames to the rules of IP too (bridge-nf-call-iptables, or the
bridge's own nf_call_iptables): prerouting as they come in, forward and postrouting as they go out by another port.
What was rewritten meanwhile may have to leave by another port, or not by a port at all (br_netfilter_hooks.c).
"""

from __future__ import annotations

from nsbridge.explain import cures
from nsbridge.explain.crossing import Station, Wire, cross, mistaken, station
from nsbridge.explain.hooks import fire
from nsbridge.explain.path import DROPPED, LOST, Culprit
from nsbridge.explain.routing import lookup
from nsbridge.firewall.evaluate import EVERY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.explain.path import Stage, Walk
    from nsbridge.explain.world import SeenLink


_BRIDGE_CALLS = 0
"""Priority of br_netfilter among the hooks of a bridge (NF_BR_PRI_BRNF). It was there first, and of equals the younger
one comes first."""


def shows(walk: Walk, bridge: SeenLink) -> bool:
    """Tell whether br_netfilter leads the packets of a bridge through the rules of IP."""
    name = "iptables" if walk.version == 4 else "ip6tables"
    return bool(walk.setting(f"net/bridge/bridge-nf-call-{name}") or bridge.option(f"nf_call_{name}"))


def _closed(walk: Walk, port: SeenLink) -> bool:
    """End it at a port that passes no frames."""
    bridge = walk.space.links[port.master]
    if port.forwarding and bridge.up:
        return False
    if not bridge.up:
        culprit = cures.link_down(walk.netns, bridge)
    else:
        why = f"port {port.name} of {bridge.name} is blocked or still learning"
        fix = cures.within(walk.netns, f"ip link set {port.name} type bridge_slave state 3")
        culprit = Culprit("bridge", walk.netns, f"port {port.name}", why, (fix,))
    walk.hop("bridge", port.name, "drop", culprit.why)
    walk.end(LOST, culprit)
    return True


def enter(walk: Walk) -> Stage | None:
    """A frame comes in by a port."""
    port = walk.space.links[walk.packet.iif]
    bridge = walk.space.links[port.master]
    walk.bridged = (bridge.name, port.name)
    if _closed(walk, port) or not fire(walk, "prerouting", layer="bridge"):
        return None
    if shows(walk, bridge):
        to = walk.packet.daddr
        walk.change(iif=bridge.name, iif_port=port.name)
        walk.track()
        if not fire(walk, "prerouting"):
            return None
        walk.ip_seen = True
        walk.change(iif=port.name, iif_port="")
        if walk.packet.daddr != to and not _redirected(walk, bridge):
            return None
    return up if walk.station == (walk.netns, bridge.name) else forward


def _redirected(walk: Walk, bridge: SeenLink) -> bool:
    """The destination was rewritten: it goes to a neighbour behind this bridge, or up to be routed."""
    packet = walk.packet
    found = lookup(walk.space, packet.daddr, src=packet.saddr, mark=packet.mark or 0, iif=bridge.name)
    there: Station | None = Station(walk.netns, bridge)
    # A route that isn't forwarded leads up, to an error (ip_route_input_slow), though the frame would only turn round.
    closed = cures.not_forwarding(walk, bridge.name) if found.kind == "unicast" and walk.version == 4 else None
    if closed is not None:
        walk.hop("route", closed.thing, "drop", closed.why)
        walk.end(DROPPED, closed)
        return False
    if found.kind == "unicast" and found.link == bridge.name:
        there = station(walk.world, Wire(walk.netns, bridge.name), found.via or packet.daddr)
        if there is None:
            culprit = cures.nobody(walk, bridge, Wire(walk.netns, bridge.name), packet.daddr)
            walk.hop("neighbour", f"who has {packet.daddr}?", "drop", culprit.why)
            walk.end(LOST, culprit)
            return False
        if mistaken(walk, bridge, there, found.via or packet.daddr):
            return False
    assert there is not None
    walk.station = (there.netns, there.link.name)
    walk.change(ether_daddr=there.link.mac)
    return True


def up(walk: Walk) -> Stage | None:
    """The frame is for the bridge itself: its packet goes to the host."""
    from nsbridge.explain.receiving import arrive_ip

    bridge, port = walk.bridged
    if not fire(walk, "input", layer="bridge"):
        return None
    walk.hop("bridge", f"{port} → {bridge}")
    walk.change(iif=bridge)
    return arrive_ip


def _out_port(walk: Walk, bridge: str) -> SeenLink | None:
    """The port in front of the station that the frame is for."""
    where, name = walk.station
    space = walk.world.space(where)
    peer = walk.world.peer(where, space.links[name]) if space is not None else None
    return peer[1] if peer is not None and peer[0] == walk.netns and peer[1].master == bridge else None


def forward(walk: Walk) -> Stage | None:
    """From port to port."""
    name, came = walk.bridged
    bridge, source = walk.space.links[name], walk.space.links[came]
    port = _out_port(walk, name)
    if port is None:
        walk.end(LOST, Culprit("bridge", walk.netns, name, f"no port of {name} leads to {walk.station[1]}"))
        return None
    if _closed(walk, port) or _kept_apart(walk, source, port):
        return None
    shown = shows(walk, bridge)
    frame = {"iif": came, "oif": port.name, "iif_port": "", "oif_port": ""}
    walk.change(**frame)
    if not fire(walk, "forward", layer="bridge", priorities=(EVERY[0], _BRIDGE_CALLS if shown else EVERY[1])):
        return None
    if shown:
        walk.change(iif=name, oif=name, iif_port=came, oif_port=port.name)
        if not fire(walk, "forward"):
            return None
        walk.change(**frame)
        if not fire(walk, "forward", layer="bridge", priorities=(_BRIDGE_CALLS + 1, EVERY[1])):
            return None
    if not fire(walk, "postrouting", layer="bridge"):
        return None
    if shown:
        walk.change(iif="", oif=name, oif_port=port.name)
        if not fire(walk, "postrouting"):
            return None
        walk.remember()
    walk.hop("bridge", f"{came} → {port.name} of {name}")
    return cross(walk, port)


def _kept_apart(walk: Walk, source: SeenLink, port: SeenLink) -> bool:
    """Ports that exchange no frames: both isolated, or one and the same without hairpin mode."""
    if source.name == port.name and not port.hairpin:
        why = f"a frame doesn't leave by the port it came by: hairpin mode of {port.name} is off"
        fix = cures.within(walk.netns, f"ip link set {port.name} type bridge_slave hairpin on")
        culprit = Culprit("bridge", walk.netns, f"hairpin off on {port.name}", why, (fix,))
    elif source.isolated and port.isolated:
        why = f"{source.name} and {port.name} are isolated ports: they exchange no frames"
        fix = cures.within(walk.netns, f"ip link set {port.name} type bridge_slave isolated off")
        culprit = Culprit("bridge", walk.netns, f"isolated {source.name} and {port.name}", why, (fix,))
    else:
        return False
    walk.hop("bridge", culprit.thing, "drop", culprit.why)
    walk.end(DROPPED, culprit)
    return True


def from_host(walk: Walk) -> Stage | None:
    """The host sends by its bridge: down to the port in front of the one it is for."""
    bridge = walk.packet.oif
    port = _out_port(walk, bridge)
    if port is None:
        walk.end(LOST, Culprit("bridge", walk.netns, bridge, f"no port of {bridge} leads to {walk.station[1]}"))
        return None
    walk.change(oif=port.name)
    if _closed(walk, port):
        return None
    if not fire(walk, "output", layer="bridge") or not fire(walk, "postrouting", layer="bridge"):
        return None
    walk.hop("bridge", f"{bridge} → {port.name}")
    return cross(walk, port)
