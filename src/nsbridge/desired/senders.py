"""The second table: frames between the ports of a bridge, before any of it is a packet of the host's.

An endpoint may send what it likes into its end of the pair. What comes out of the other end is believed only if MAC,
IPv4 and IPv6 source, the sender in ARP and the target in neighbour advertisements are the endpoint's own (S16), and
it is no router advertisement (S11). The skeleton is fixed; an endpoint is an element for its port, one for its MAC
and one for each address. Ports are known by their names on the host, for not every kernel can tell their bridge.

``between`` closes the way from one port to another where a network has ``icc: false``. The kernel's own flag for that
(``isolated``) would also drop what reaches a neighbour by its published port once br_netfilter shows bridged packets
to the NAT rules, since it then never leaves the bridge. That our other table allowed such a packet is told by our mark.
"""

from __future__ import annotations

from nsbridge.firewall.expressions import Accept, Counter, Drop, InSet, Match
from nsbridge.firewall.ruleset import Chain, Rule, Set, Table
from nsbridge.model.names import BRIDGE_TABLE, MARK_BIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.firewall.expressions import Expression, Field

SETS = (
    Set("guarded", ("ifname",), why="ports of bridges whose frames are checked"),
    Set("macs", ("ifname", "ether_addr"), why="each port with its MAC"),
    Set("hosts4", ("ifname", "ipv4_addr"), why="each port with its IPv4 addresses"),
    Set("hosts6", ("ifname", "ipv6_addr"), why="each port with its IPv6 addresses"),
    Set("free4", ("ifname",), why="ports that may send from any IPv4 address"),
    Set("free6", ("ifname",), why="ports that may send from any IPv6 address"),
    Set("isolated", ("ifname",), why="ports of networks whose endpoints may not talk to one another"),
)

SOLICITATION, ADVERTISEMENT, ROUTER, REDIRECT, LISTENER = 135, 136, 134, 137, 143
"""ICMPv6 types: RFC 4861, section 4; RFC 3810, section 5.2."""


def _own(name: str, field: Field, *, negate: bool = False) -> InSet:
    return InSet(("iifname", field), name, negate)


def _rule(*expressions: Expression, why: str) -> Rule:
    return Rule(expressions, why=why)


def _icmpv6(kind: int) -> tuple[Match, ...]:
    return Match("l4proto", "icmpv6"), Match("icmpv6 type", kind)


def _ipv4() -> tuple[Rule, ...]:
    from ipaddress import IPv4Address

    ip, arp = Match("protocol", "ip"), Match("protocol", "arp")
    free = InSet(("iifname",), "free4")
    nobody = Match("arp saddr ip", IPv4Address(0))
    return (
        _rule(ip, _own("hosts4", "ip saddr"), Accept(), why="its own IPv4 address: nearly all it sends"),
        _rule(ip, free, Accept(), why="any IPv4 source"),
        _rule(arp, free, Accept(), why="any sender in ARP"),
        _rule(arp, _own("macs", "arp saddr ether", negate=True), Counter(), Drop(), why="S16: another's MAC in ARP"),
        _rule(arp, nobody, Accept(), why="is this address taken? (RFC 5227)"),
        _rule(arp, _own("hosts4", "arp saddr ip"), Accept(), why="its own address in ARP"),
    )


def _ipv6() -> tuple[Rule, ...]:
    from ipaddress import IPv6Address

    ip6, nobody = Match("protocol", "ip6"), Match("ip6 saddr", IPv6Address(0))
    stolen = _own("hosts6", "icmpv6 taddr", negate=True)
    return (
        _rule(ip6, InSet(("iifname",), "free6"), Accept(), why="any IPv6 source"),
        _rule(ip6, *_icmpv6(ROUTER), Counter(), Drop(), why="S11: an endpoint is no router"),
        _rule(ip6, *_icmpv6(REDIRECT), Counter(), Drop(), why="S11: nor does it redirect"),
        _rule(ip6, *_icmpv6(ADVERTISEMENT), stolen, Counter(), Drop(), why="S16: advertises another's address"),
        _rule(
            ip6, nobody, *_icmpv6(SOLICITATION), _own("hosts6", "icmpv6 taddr"), Accept(), why="is my address taken?"
        ),
        _rule(ip6, nobody, *_icmpv6(LISTENER), Accept(), why="which groups it listens to"),
        _rule(ip6, _own("hosts6", "ip6 saddr"), Accept(), why="its own IPv6 address"),
    )


def guard_table() -> Table:
    """Return the whole table without elements; the same value every time."""
    port = InSet(("iifname",), "guarded", negate=True)
    free = (InSet(("iifname",), "free4"), InSet(("iifname",), "free6"))
    unmarked = Match("mark", (MARK_BIT, MARK_BIT), negate=True)
    chains = (
        Chain(
            "senders",
            (
                _rule(port, Accept(), why="not a port of ours, or one that may send anything"),
                _rule(_own("macs", "ether saddr", negate=True), Counter(), Drop(), why="S16: another's MAC"),
                *_ipv4(),
                *_ipv6(),
                _rule(*free, Accept(), why="any address means any protocol"),
                _rule(Counter(), Drop(), why="S16: another's address, or a protocol that could carry one"),
            ),
            "filter",
            "prerouting",
            -300,
            why="nobody sends in another's name",
        ),
        Chain(
            "between",
            (
                _rule(
                    InSet(("iifname",), "isolated"),
                    InSet(("oifname",), "isolated"),
                    unmarked,
                    Counter(),
                    Drop(),
                    why="icc: false, but for published ports, which our mark tells",
                ),
            ),
            "filter",
            "forward",
            # Behind br_netfilter (-1), which may have our other table look at the packet first.
            10,
            why="from port to port",
        ),
    )
    return Table(*BRIDGE_TABLE, SETS, chains, why="nsbridge")
