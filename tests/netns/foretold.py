"""What is drawn to be explained: a world of drawn.py, other people's rules in it, something broken, and packets.

Their rulesets (rulesets/) take our bridge `nsb-near` for their own, so that they judge our packets as well.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from drawn import ADDRESS, GATEWAY, OWN, SERVED, STARTS, UPLINK, Ask, World, asks, worlds
from hypothesis import strategies as st
from lab import HERE, sh

if TYPE_CHECKING:
    from collections.abc import Iterator

ECHO = "icmp"

THEIRS = (
    "docker.iptables", "docker.nft", "ufw.iptables", "ufw_full.iptables", "firewalld.nft", "firewalld_full.nft",
    "libvirt.nft", "libvirt.iptables", "kube.iptables", "strict.iptables", "legacy:ufw_full.iptables",
    "legacy:docker.iptables libvirt.nft", "ufw_full.iptables docker.iptables", "firewalld_full.nft docker.nft",
)  # fmt: skip
_OURS = {"theirs0": "nsb-near", "theirs1": "nsb-far", "172.17.0.": "10.60.0.",
         "--limit 3/min --limit-burst 10": "--limit 1000/sec --limit-burst 1000"}  # fmt: skip

_MATCHES = (
    "", "ip saddr 10.60.0.0/24", "ip saddr 198.51.100.2", "ip daddr 10.60.0.2", "ip daddr 10.61.0.0/24",
    "ip daddr 198.51.100.0/24", "ip daddr 127.0.0.1", "ip6 daddr fd60::/64", "ip6 saddr 2001:db8:1::2",
    "ip6 daddr fd61::2", "tcp dport 80", "tcp dport 8000-8099", "udp dport { 80, 8000, 8100 }", "meta l4proto udp",
    "meta l4proto tcp", "meta l4proto { icmp, ipv6-icmp }", "icmp type echo-request", "icmpv6 type echo-request",
    "tcp flags & (syn | ack) == syn", "meta mark & 0x04000000 != 0", "meta mark 0", "ct state new",
    "ct state established,related", "ct state invalid", "ct status dnat", "ct status snat", "ct direction reply",
    'iifname "up0"', 'oifname "nsb-near"', 'iifname "nsb-*"', 'iifname "lo"', 'oifname "up0"',
    "fib daddr type local", "fib saddr . iif oif missing", "meta iifkind bridge", "ip ttl < 64", "ct mark 1",
    "ct original proto-dst 8000", "meta nfproto ipv6", "ip saddr . tcp dport { 198.51.100.2 . 8000, 10.60.0.2 . 80 }",
    "meta ibrname nsb-near", "th sport >= 1024",
)  # fmt: skip
_ENDS = (
    "drop", "drop", "drop", "accept", "counter", "reject", "reject with icmpx admin-prohibited", "meta mark set 7",
    "ct mark set 1", "return", "meta mark set meta mark | 0x04000000", "tcp dport 80 reject with tcp reset",
)  # fmt: skip
_NAT = {
    "prerouting": ("dnat ip to 10.60.0.3:80", "dnat ip to 10.61.0.2", "redirect to :7000", "dnat ip6 to [fd60::2]:80",
                   "dnat ip to 10.60.0.99", "accept"),
    "output": ("dnat ip to 10.60.0.2:80", "redirect to :7000", "dnat ip6 to fd61::2", "accept"),
    "postrouting": ("masquerade", "snat ip to 198.51.100.77", "accept", "masquerade to :20000-30000"),
    "input": ("accept", "snat ip to 10.60.0.200"),
}  # fmt: skip
_BASES = (
    ("filter", "prerouting", (-310, -150, -90, 10)), ("filter", "input", (-10, 10)), ("filter", "forward", (-10, 10)),
    ("filter", "output", (-310, -10, 10)), ("filter", "postrouting", (-10, 110)), ("nat", "prerouting", (-120, -90)),
    ("nat", "output", (-110, -90)), ("nat", "postrouting", (90, 110)), ("nat", "input", (90,)),
)  # fmt: skip
_BRIDGED = (
    "ip saddr 10.60.0.2 drop", "ip daddr 10.60.0.3 udp dport 80 drop", 'iifname "nsb-near" drop', "ether type ip6 drop",
    "ip protocol icmp drop", "meta mark set 7",
)  # fmt: skip

_ONE = "ip netns exec one sysctl -qw"
_PORTS = "for port in $(ls /sys/class/net/nsb-near/brif); do ip link set $port {}; done"
BREAKAGES = (
    "ip -n one link set eth0 down", "ip -n one link set lo down", "ip link set nsb-near down", "ip link set up0 down",
    "ip -n one route del default", "ip -n one -6 route del default", "ip -n one address del 10.60.0.2/24 dev eth0",
    "ip -n one address del fd60::2/64 dev eth0", "ip address del 10.60.0.1/24 dev nsb-near",
    "sysctl -qw net.ipv4.ip_forward=0", "sysctl -qw net.ipv6.conf.all.forwarding=0",
    "sysctl -qw net.ipv4.conf.nsb-near.forwarding=0", "sysctl -qw net.ipv4.conf.nsb-near.route_localnet=0",
    "sysctl -qw net.ipv4.conf.all.rp_filter=1", "sysctl -qw net.ipv4.icmp_echo_ignore_all=1",
    f"{_ONE} net.ipv4.icmp_echo_ignore_all=1", f"{_ONE} net.ipv4.conf.all.arp_ignore=8",
    f"{_ONE} net.ipv6.conf.eth0.disable_ipv6=1", f"{_ONE} net.ipv4.conf.all.rp_filter=1",
    "ip route add blackhole 10.60.0.2", "ip route add prohibit 198.51.100.2", "ip route add unreachable 10.61.0.0/25",
    "ip route add 10.60.0.3/32 dev up0", "ip -n one route add blackhole 198.51.100.2",
    "ip -6 route add unreachable fd60::2", "ip -n one -6 route add prohibit 2001:db8:1::2",
    "ip rule add from 10.60.0.0/24 priority 100 prohibit", "ip rule add to 10.61.0.2 priority 100 blackhole",
    "ip rule add from 10.60.0.2 priority 100 lookup 77; ip route add default via 10.9.0.2 table 77",
    "ip -n one neigh replace 10.60.0.1 lladdr 02:00:00:00:00:99 dev eth0 nud permanent",
    "ip neigh replace 10.60.0.2 lladdr 02:00:00:00:00:99 dev nsb-near nud permanent",
    "ip -6 neigh replace fd60::2 lladdr 02:00:00:00:00:99 dev nsb-near nud permanent",
    "ip -n one link set eth0 address 02:00:00:00:00:42", _PORTS.format("type bridge_slave hairpin off"),
    _PORTS.format("type bridge_slave isolated on"), _PORTS.format("type bridge_slave state 0"),
    _PORTS.format("nomaster"), "nft flush chain inet nsbridge forwarding", "nft flush chain inet nsbridge guard",
    "nft flush chain inet nsbridge sources", "nft delete table bridge nsbridge", "nft delete table inet nsbridge",
    "ip -n outside route del default; ip -n outside route del 10.60.0.0/15", "ip -n outside link set eth0 down",
    "ip netns exec one nft 'add table inet own; add chain inet own in { type filter hook input priority 0; "
    "policy drop; }; add rule inet own in tcp dport 80 accept; add rule inet own in ct state established accept'",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A world, what others did to it, and what is asked. theirs: loaded after us; mended: and then `nsbridge mend`."""

    world: World
    theirs: str = ""
    rules: tuple[str, ...] = ()
    mended: bool = False
    broken: str = ""
    asks: tuple[Ask, ...] = field(default=(), repr=False)


@st.composite
def rules(draw: st.DrawFn) -> str:
    """One rule in a chain of its own, as text for nft -f; NAME stands for its table."""
    if draw(st.integers(0, 7)) == 0:
        hook = draw(st.sampled_from(("prerouting", "input", "forward", "output")))
        chain, rule = f"type filter hook {hook} priority -10", draw(st.sampled_from(_BRIDGED))
        return f"table bridge NAME {{ chain c {{ {chain}; {rule}; }}; }}"
    kind, hook, priorities = draw(st.sampled_from(_BASES))
    matches = draw(st.lists(st.sampled_from(_MATCHES), min_size=1, max_size=2))
    end = draw(st.sampled_from(_NAT[hook] if kind == "nat" else _ENDS))
    chain = f"type {kind} hook {hook} priority {draw(st.sampled_from(priorities))}"
    return f"table inet NAME {{ chain c {{ {chain}; {' '.join([*matches, end])}; }}; }}"


@st.composite
def cases(draw: st.DrawFn, packets: int) -> Case:
    world = draw(worlds())
    pool = sorted({*asks(world), *more(world)}, key=repr)
    picked = random.Random(draw(st.integers(0, 1 << 32))).sample(pool, min(packets, len(pool)))
    return Case(
        world,
        draw(st.sampled_from(("", "", *THEIRS))),
        tuple(draw(st.lists(rules(), max_size=3))),
        draw(st.booleans()),
        draw(st.sampled_from(BREAKAGES)) if draw(st.integers(0, 2)) == 0 else "",
        tuple(picked),
    )


def more(world: World) -> Iterator[Ask]:
    """What `asks` leaves out: pings, addresses that nobody has, loopbacks, and gateways of other networks."""
    ports = {(port.host, port.proto) for port in world.ports} | {(OWN, "udp"), (SERVED, "tcp")}
    for start in STARTS:
        for version in (4, 6):
            nobody = ("10.60.0.77", "10.99.0.1") if version == 4 else ("fd60::77", "fd99::1")
            loopback = ("127.0.0.1",) if version == 4 else ("::1",)
            hosts = [*UPLINK[version], *(found[version] for found in GATEWAY.values())]
            everybody = [found[version] for found in ADDRESS.values()]
            yield from (Ask(start, to, 0, ECHO) for to in (*hosts, *everybody, *nobody, *loopback))
            yield from (Ask(start, to, *each) for to in (*hosts, *loopback, *nobody) for each in ports)


def spoil(case: Case) -> None:
    """Do to a world that stands what the case says others did. What doesn't fit there is refused, and that's that."""
    for names in case.theirs.split():
        kind, _, name = names.rpartition(":")
        text = (HERE / "rulesets" / name).read_text()
        for theirs, ours in _OURS.items():
            text = text.replace(theirs, ours)
        program = "nft -f -" if name.endswith(".nft") else f"iptables-{kind or 'nft'}-restore --noflush"
        sh(f"{program} <<'E'\n{text}\nE")
    for number, rule in enumerate(case.rules):
        text = rule.replace("NAME", f"drawn{number}").replace("; ", ";\n").replace("{ chain", "{\nchain")
        sh(f"nft -f - <<'E'\n{text}\nE", check=False)
    if case.mended:
        from nsbridge.engine.mend import mend
        from nsbridge.wiring import open_host

        mend(open_host())
    if case.broken:
        sh(case.broken, check=False)
