"""A packet on its way, as the firewall sees it: what rules can ask about, nothing of its payload.

The first packet of a connection unless its conntrack entry says otherwise. None stands for what isn't known,
and never for zero: a test of it has no answer, so both ways are followed (firewall/evaluate.py).
"""

from __future__ import annotations

from nsbridge.values import Value, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address
    from typing import TypeAlias

    Address: TypeAlias = IPv4Address | IPv6Address

PROTOS = {
    "hopopt": 0, "icmp": 1, "igmp": 2, "ipencap": 4, "tcp": 6, "udp": 17, "dccp": 33, "ipv6": 41, "gre": 47,
    "esp": 50, "ah": 51, "icmpv6": 58, "ospf": 89, "sctp": 132, "udplite": 136,
}  # fmt: skip
"""Numbers of the protocols that have a name here; another is given by its digits."""


def proto_number(proto: str) -> int:
    """The number of a protocol given by name or digits; ValueError for another word."""
    return PROTOS[proto] if proto in PROTOS else int(proto)


class Flow(Value):
    """One direction of a connection, as conntrack keeps it. For ICMP echo sport is its id and dport the type."""

    saddr: Address
    daddr: Address
    sport: int | None = None
    dport: int | None = None


class Ct(Value):
    """What conntrack knows of the connection.

    state: ``new``, ``established``, ``related``, ``invalid``, ``untracked``. status: ``seen-reply``, ``assured``,
    ``confirmed``, ``snat``, ``dnat`` and so on. reply: this packet goes against the connection's first one.
    origin, answer: the two tuples; empty on a connection whose first packet this is. settled: the kinds of rewriting
    (``snat``, ``dnat``) that are decided, so that no chain of type nat is asked again.
    """

    state: str = "new"
    status: tuple[str, ...] = ()
    mark: int | None = 0
    reply: bool = False
    origin: Flow | None = None
    answer: Flow | None = None
    settled: tuple[str, ...] = ()
    zone: int = 0
    helper: str = ""


class Packet(Value):
    """A packet at one place of its way.

    family: ``ip`` or ``ip6`` (what it is, whatever table looks at it), ``arp`` in bridges. proto: a name of `PROTOS`
    or digits. sport, dport: of those that have ports. icmp_type, icmp_code: of icmp and icmpv6. flags: of tcp.
    length: bytes of the IP packet. iif, oif: names, empty where there is none (yet). iif_port, oif_port: ports of the
    bridge whose frame this is, when br_netfilter calls the IP hooks (physdev); in the bridge's own hooks the ports are
    iif and oif. ct: what conntrack will find out (at priority -200 of prerouting and output). tracked: it has done so
    already, as for what comes over lo. uid, gid: of the socket that sends it, None when it comes from elsewhere or
    when that isn't known. local: a socket of this namespace sends it.
    remembered: elements that rules on its way wrote into sets (family, table, set, key, data; None for one that was
    taken out), where later rules find them.
    """

    family: str
    saddr: Address
    daddr: Address
    proto: str = "tcp"
    sport: int | None = None
    dport: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None
    flags: tuple[str, ...] = ("syn",)
    length: int | None = None
    ttl: int | None = None
    mark: int | None = 0
    ct: Ct = field(default=Ct())
    tracked: bool = False
    iif: str = ""
    oif: str = ""
    iif_port: str = ""
    oif_port: str = ""
    ether_saddr: str = ""
    ether_daddr: str = ""
    pkttype: str = "host"
    local: bool = False
    uid: int | None = None
    gid: int | None = None
    priority: int | None = 0
    ipsec: bool = False
    fragment: bool = False
    remembered: tuple[tuple[str, str, str, bytes, bytes | None], ...] = ()

    @property
    def connected(self) -> bool:
        """Whether conntrack knows a connection of it at this place, with a mark and a direction."""
        return self.tracked and self.ct.state not in ("invalid", "untracked")

    @property
    def to(self) -> str:
        """Where it goes, for people: ``10.0.0.2:80``, ``[fd00::2]:80``, ``10.0.0.2``."""
        return _shown(self.daddr, self.dport)

    @property
    def of(self) -> str:
        """Where it comes from, for people."""
        return _shown(self.saddr, self.sport)


def _shown(address: Address, port: int | None) -> str:
    if port is None:
        return str(address)
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
