"""What is to blame, and the command that mends it. Each function is about one kind of trouble.

A fix is meant to be run as it stands, by root on the host: settings and routes of another namespace are reached by
`ip netns exec`, or nsenter(1) where it has no name. For a rule that drops we don't delete what somebody wrote: an
accept for just this traffic goes in front of it, in the same chain, since one in another chain couldn't undo the drop.
"""

from __future__ import annotations

from ipaddress import ip_network

from nsbridge.explain.path import Culprit
from nsbridge.explain.routing import lookup
from nsbridge.explain.world import LOCAL
from nsbridge.firewall.iptables import PREFIX
from nsbridge.model.names import ADMIN, BRIDGE_TABLE, MARK_BIT, TABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.explain.crossing import Wire
    from nsbridge.explain.path import Walk
    from nsbridge.explain.routing import Lookup
    from nsbridge.explain.world import SeenLink
    from nsbridge.firewall.evaluate import Met
    from nsbridge.firewall.packet import Packet
    from nsbridge.state.things import Address_

NAMED = "/run/netns/"
MEND = "nsbridge mend"
"""Puts back what of ours the kernel has lost."""


def called(netns: str) -> str:
    """What people call a namespace."""
    return netns.removeprefix(NAMED) or "the host"


def within(netns: str, command: str) -> str:
    """The command, run in a namespace."""
    if not netns:
        return command
    name = netns.removeprefix(NAMED)
    return f"ip netns exec {name} {command}" if "/" not in name else f"nsenter --net={netns} {command}"


def dotted(key: str) -> str:
    """A setting as sysctl(8) writes it: a dot in a link's name becomes a slash there."""
    return key.replace(".", "\0").replace("/", ".").replace("\0", "/")


def shown(key: str, value: str) -> str:
    """``net.ipv4.ip_forward=0``."""
    return f"{dotted(key)}={value}"


def setting(walk: Walk, key: str, value: str, why: str, *, also: tuple[str, ...] = ()) -> Culprit:
    """A setting that is to be changed to `value`, others along with it."""
    fix = tuple(within(walk.netns, f"sysctl -w {dotted(one)}={value}") for one in (key, *also))
    return Culprit("sysctl", walk.netns, shown(key, walk.world.setting(walk.netns, key)), why, fix)


def link_down(netns: str, link: SeenLink) -> Culprit:
    """A link that is to be raised."""
    why = f"{link.name} is down"
    return Culprit("link", netns, link.name, why, (within(netns, f"ip link set {link.name} up"),))


def no_such_address(walk: Walk, address: Address_) -> Culprit:
    """The source isn't an address of the namespace."""
    why = f"{called(walk.netns)} has no address {address}, so nothing there can send from it"
    have = next((one.link for one in walk.space.addresses if address in one.address.network), "")
    fix = (within(walk.netns, f"ip address add {address} dev {have}"),) if have else ()
    return Culprit("address", walk.netns, str(address), why, fix)


def no_route(walk: Walk, found: Lookup) -> Culprit:
    """No route, or one that leads nowhere; a link that is down takes its routes with it."""
    dst, space = walk.packet.daddr, walk.space
    if found.kind != "none":
        thing = found.thing
        kind = "policy rule" if found.route is None else "route"
        command = f"ip {'-6 ' if dst.version == 6 else ''}"
        if found.route is not None:
            command += f"route del {thing}"
        else:
            assert found.policy is not None
            command += f"rule del priority {found.policy.priority}"
        why = f"a {kind} says {found.kind} for {dst}"
        return Culprit("route", walk.netns, thing, why, (within(walk.netns, command),))
    for one in space.addresses:
        link = space.links[one.link]
        if dst in one.address.network and not link.up:
            return link_down(walk.netns, link)
    if dst.is_loopback:
        return no_loopback(walk)
    down = [link for link in space.links.values() if not link.up and link.kind in ("veth", "bridge", "macvlan", "")]
    for link in down:
        if not link.loopback:
            culprit = link_down(walk.netns, link)
            return culprit.replace(why=f"{link.name} is down, and took its routes along: none leads to {dst}")
    why = f"{called(walk.netns)} has no route to {dst}"
    return Culprit("route", walk.netns, "no route", why, advice="give it one: `ip route add default via ROUTER`")


_LOOPBACK = {4: ("127.0.0.1/8", "127.0.0.1", "127.0.0.0/8"), 6: ("::1/128", "::1")}
"""The address that lo gets when it is raised, and the local routes that come with it."""
_LOOPBACK_ROUTE = {
    4: "ip route add local {} dev lo table local proto kernel scope host src 127.0.0.1",
    6: "ip -6 route add local {} dev lo table local",
}


def no_loopback(walk: Walk) -> Culprit:
    """A loopback address that isn't the namespace's own: lo is down, has lost its address, or the routes to it."""
    dst, space, netns = walk.packet.daddr, walk.space, walk.netns
    leaves = f", so what goes to {dst} leaves by {walk.packet.oif}" if walk.packet.oif else ""
    if not space.links["lo"].up:
        why = f"lo is down, and took its routes along{leaves or f': none leads to {dst}'}"
        return link_down(netns, space.links["lo"]).replace(why=why)
    own, *routes = _LOOPBACK[dst.version]
    if all(str(one.address) != own for one in space.addresses_on("lo", dst.version)):
        why = f"lo of {called(netns)} has no address {own}{leaves}"
        return Culprit("loopback", netns, f"{own} on lo", why, (within(netns, f"ip address add {own} dev lo"),))
    have = {one.dst for one in space.routes.get((dst.version, LOCAL), ())}
    lost = [one for one in routes if ip_network(one) not in have]
    why = f"{called(netns)} has no local route for {lost[-1] if lost else dst}{leaves}"
    fix = tuple(within(netns, _LOOPBACK_ROUTE[dst.version].format(one)) for one in lost)
    return Culprit("loopback", netns, f"local {lost[-1] if lost else dst} dev lo", why, fix)


def nobody(walk: Walk, link: SeenLink, at: Wire, address: Address_) -> Culprit:
    """Nobody answers for an address on a link; the records say whose it should be."""
    world = walk.world
    why = f"nobody on {link.name} answers for {address}"
    hint = world.source.holder(address)
    space = world.space(hint) if hint is not None else None
    if hint is not None and space is None:
        why = f"{address} belongs to an endpoint whose namespace {called(hint)} is gone"
        return Culprit("namespace", walk.netns, hint, why, ("nsbridge gc",))
    if hint is None or space is None:
        return Culprit("neighbour", walk.netns, f"no {address} on {link.name}", why)
    own = space.owner(address)
    if own is None and address.version == 6 and (off := _no_ipv6(walk, hint)):
        return off
    if own is None:
        why = f"{called(hint)} should have {address}, but doesn't"
        return Culprit("address", hint, f"{address} is missing", why, (MEND,))
    inner = space.links[own.link]
    if not inner.up:
        return link_down(hint, inner)
    peer = world.peer(hint, inner)
    if peer is not None and at.bridge and peer[0] == at.netns and peer[1].master != at.bridge:
        why = f"{peer[1].name}, the other end of {inner.name} in {called(hint)}, isn't a port of {at.bridge}"
        fix = (within(at.netns, f"ip link set {peer[1].name} master {at.bridge}"),)
        return Culprit("link", at.netns, peer[1].name, why, fix)
    ignoring = world.conf(hint, 4, inner.name, "arp_ignore") if address.version == 4 else 0
    if ignoring:
        every = world.number(hint, "net/ipv4/conf/all/arp_ignore") == ignoring
        key = f"net/ipv4/conf/{'all' if every else inner.name}/arp_ignore"
        fix = (within(hint, f"sysctl -w {dotted(key)}=0"),)
        return Culprit("sysctl", hint, shown(key, str(ignoring)), f"{called(hint)} answers no ARP for {address}", fix)
    return Culprit("neighbour", walk.netns, f"no {address} on {link.name}", why)


def off_its_bridge(walk: Walk, link: SeenLink, address: Address_) -> Culprit | None:
    """An endpoint's frames come in by a link of the host that should be a port, but has left its bridge."""
    back, peer = lookup(walk.space, address), walk.world.peer(walk.netns, link)
    bridge = walk.space.links.get(back.link)
    if bridge is None or bridge.kind != "bridge" or link.master or peer is None:
        return None
    if peer[0] != walk.world.source.holder(address):
        return None
    why = f"{link.name}, by which {called(peer[0])} is reached, isn't a port of {bridge.name}"
    fix = (within(walk.netns, f"ip link set {link.name} master {bridge.name}"),)
    return Culprit("link", walk.netns, link.name, why, fix)


def stolen(walk: Walk) -> Culprit | None:
    """A route that sends an endpoint's packets elsewhere: a VPN's over its subnet, say."""
    address, world = walk.packet.daddr, walk.world
    hint = world.source.holder(address)
    space = world.space(hint) if hint is not None else None
    own = space.owner(address) if space is not None else None
    if hint is None or space is None or own is None or not walk.packet.oif or not walk.stolen:
        return None
    peer = world.peer(hint, space.links[own.link])
    if peer is None or peer[0] != walk.netns or not peer[1].master or walk.packet.oif in (peer[1].master, peer[1].name):
        return None
    out = walk.space.links[walk.packet.oif]
    if out.master == peer[1].master:
        return None
    why = f"a route sends {address} out by {out.name}, but it is behind {peer[1].master}"
    family = "-6 " if address.version == 6 else ""
    fix = (within(walk.netns, f"ip {family}route del {walk.stolen}"),)
    return Culprit("route", walk.netns, walk.stolen, why, fix)


def _no_ipv6(walk: Walk, netns: str) -> Culprit | None:
    """IPv6 is off on a link there, and its addresses went with it."""
    space = walk.world.space(netns)
    for link in space.links.values() if space is not None else ():
        key = f"net/ipv6/conf/{link.name}/disable_ipv6"
        if not link.loopback and walk.world.number(netns, key):
            why = f"IPv6 is off on {link.name} in {called(netns)}, so it has no IPv6 address"
            return Culprit("sysctl", netns, shown(key, "1"), why, (within(netns, f"sysctl -w {dotted(key)}=0"), MEND))
    return None


def not_forwarding(walk: Walk, link: str = "") -> Culprit | None:
    """Whether the namespace forwards what comes in by a link, the packet's own if none is named; the culprit if not."""
    packet = walk.packet
    iif = link or packet.iif
    if walk.version == 4:
        key = f"net/ipv4/conf/{iif}/forwarding"
        if walk.setting(key) or walk.setting("net/ipv4/ip_forward"):
            if walk.setting(key):
                return None
            return setting(walk, key, "1", f"{called(walk.netns)} forwards nothing that comes in by {iif}")
        return setting(walk, "net/ipv4/ip_forward", "1", f"{called(walk.netns)} forwards nothing")
    key = "net/ipv6/conf/all/forwarding"
    if not walk.setting(key):
        return setting(walk, key, "1", f"{called(walk.netns)} forwards no IPv6")
    if packet.saddr.is_link_local or packet.daddr.is_link_local:
        return Culprit("source", walk.netns, packet.of, "no router forwards link-local addresses (RFC 4291 §2.5.6)")
    return None


def mtu(walk: Walk, link: SeenLink, length: int) -> tuple[str, ...]:
    """How a link takes longer packets, if its kind has a free choice."""
    if link.kind not in ("veth", "bridge"):
        return ()
    return (within(walk.netns, f"ip link set {link.name} mtu {length}"),)


def conntrack_full(walk: Walk) -> Culprit | None:
    """A full conntrack table: new connections are dropped."""
    limit = walk.setting("net/netfilter/nf_conntrack_max")
    count = walk.setting("net/netfilter/nf_conntrack_count")
    if not limit or count < limit:
        return None
    why = f"the conntrack table is full ({count} of {limit}): new connections are dropped"
    return Culprit(
        "conntrack",
        walk.netns,
        f"net.netfilter.nf_conntrack_count={count}",
        why,
        (f"sysctl -w net.netfilter.nf_conntrack_max={limit * 2}",),
    )


def no_listener(walk: Walk) -> Culprit:
    """No socket waits there; one nearby may be what was meant."""
    packet = walk.packet
    where = f"in {called(walk.netns)}" if walk.netns else "on the host"
    what = f"{packet.to}/{packet.proto}"
    others = walk.world.source.listeners(walk.netns, packet.proto, packet.dport or 0)
    if others:
        bound = ", ".join(dict.fromkeys(str(one) for one in others))
        whose = f" ({others[0].owner})" if others[0].owner else ""
        why = f"{where} somebody listens on {bound}{whose} alone, not on {packet.daddr}"
        return Culprit("listener", walk.netns, bound, why, advice="let it listen on all addresses")
    other = {"tcp": "udp", "udp": "tcp"}[packet.proto]
    if walk.world.source.listeners(walk.netns, other, packet.dport or 0):
        why = f"{where} port {packet.dport} is served by {other}, not by {packet.proto}"
        return Culprit("protocol", walk.netns, what, why, advice=f"ask by {other}")
    have = sorted({one.port for one in walk.world.source.ports(walk.netns, packet.proto)})[:8]
    more = f" (but on {', '.join(map(str, have))})" if have else ""
    why = f"nobody listens on port {packet.dport}/{packet.proto} {where}{more}"
    return Culprit("listener", walk.netns, what, why, advice="start the server")


# rules

_DISCOVERY = (135, 136)
"""ICMPv6 types of neighbour discovery: without them nobody has a MAC."""


def _nft_match(packet: Packet) -> str:
    ip = "ip" if packet.daddr.version == 4 else "ip6"
    words = []
    if packet.family == "arp":
        return f"arp saddr ip {packet.saddr}"
    if packet.icmp_type in _DISCOVERY:
        return "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert }"
    if packet.ct.reply:
        words.append("ct state established")
    if packet.dport is not None and packet.proto in ("tcp", "udp", "sctp"):
        port = f"sport {packet.sport}" if packet.ct.reply else f"dport {packet.dport}"
        return " ".join([f"{ip} daddr {packet.daddr}", f"{packet.proto} {port}", *words])
    return " ".join(
        [f"{ip} daddr {packet.daddr}", f"meta l4proto {packet.proto.replace('icmpv6', 'ipv6-icmp')}", *words]
    )


def _iptables_match(packet: Packet) -> str:
    if packet.icmp_type in _DISCOVERY:
        return f"-p ipv6-icmp --icmpv6-type {packet.icmp_type}"
    words = [f"-d {packet.daddr} -p {packet.proto.replace('icmpv6', 'ipv6-icmp')}"]
    if packet.dport is not None and packet.proto in ("tcp", "udp", "sctp"):
        words.append(f"--sport {packet.sport}" if packet.ct.reply else f"--dport {packet.dport}")
    return " ".join(words)


def rule(walk: Walk, met: Met, hook: str, layer: str) -> Culprit:
    """A rule or a policy that drops: what lets just this traffic pass it."""
    from nsbridge.explain.hooks import place

    packet = walk.packet
    ours = met.owner == "nsbridge"
    thing = f"{place(met)}: {met.text}"
    does = "refuses" if met.verdict.startswith("reject") else "drops"
    why = f"the policy of {place(met)} {does} it" if met.index < 0 else f"a rule of {met.owner or met.table} {does} it"
    kind = "ours" if ours else "rule"
    if ours and met.chain in (ADMIN, PREFIX + ADMIN):
        return _without(walk, met, f"a rule of the administrator's, in our chain: {met.verdict}")
    if ours and (met.backend != "nft" or (met.family, met.table) in (TABLE, BRIDGE_TABLE)):
        return Culprit(kind, walk.netns, f"{thing}  # {met.why}" if met.why not in thing else thing, met.why)
    if hook == "forward" and not layer and met.index < 0 and (packet.mark or 0) & MARK_BIT:
        why = f"the policy of {place(met)} is {met.verdict}, and our rule that accepts what we mark is missing there"
        return Culprit(kind, walk.netns, thing, why, (MEND,))
    return Culprit(kind, walk.netns, thing, why, (within(walk.netns, _accept(met, packet, layer)),))


def rewriting(walk: Walk, met: Met) -> Culprit:
    """Somebody else's rule that sends packets elsewhere."""
    return _without(walk, met, f"somebody else's rule sends it to {met.after.to}")


def untracking(walk: Walk, met: Met) -> Culprit:
    """A rule that hides packets from conntrack: then no address of theirs is rewritten, there and back."""
    return _without(walk, met, f"a rule hides it from conntrack, so {called(walk.netns)} rewrites no address of it")


def _without(walk: Walk, met: Met, why: str) -> Culprit:
    """Blame a rule; without it the packet would get through."""
    from nsbridge.explain.hooks import place

    if met.backend == "iptables-legacy":
        program = "ip6tables-legacy" if walk.version == 6 else "iptables-legacy"
        fix = f"{program} -t {met.table} -D {met.chain} {met.index + 1}"
    else:
        fix = f"nft delete rule {met.family} {met.table} {met.chain} handle {met.handle}"
    return Culprit("rule", walk.netns, f"{place(met)}: {met.text}", why, (within(walk.netns, fix),))


def shortening(walk: Walk, met: Met) -> Culprit:
    """A rule that gives a packet so few hops to live that whoever would forward it drops it (RFC 1812, 5.3.1)."""
    from nsbridge.explain.hooks import place

    why = f"a rule of {called(walk.netns)} lowered its TTL, and it has run out"
    fix = within(walk.netns, _accept(met, met.before, ""))
    return Culprit("rule", walk.netns, f"{place(met)}: {met.text}", why, (fix,))


def _accept(met: Met, packet: Packet, layer: str) -> str:
    if met.backend == "nft" or (layer and met.backend != "iptables-legacy"):
        at = f"handle {met.handle} " if met.index >= 0 else ""
        match = _nft_match(packet)
        return f"nft {'insert' if at else 'add'} rule {met.family} {met.table} {met.chain} {at}{match} accept"
    program = ("ip6tables" if packet.daddr.version == 6 else "iptables") + met.backend.removeprefix("iptables")
    table = "" if met.table == "filter" else f"-t {met.table} "
    where = f"-I {met.chain} {met.index + 1}" if met.index >= 0 else f"-A {met.chain}"
    return f"{program} {table}{where} {_iptables_match(packet)} -j ACCEPT"
