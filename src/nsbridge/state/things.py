"""What a kernel can hold, thing by thing: the vocabulary of `KernelState`, plans and transcripts.

A namespace is named by the path that opens it (``/run/netns/ns1``, ``/proc/123/ns/net``); the host, that is
the namespace nsbridge itself runs in, is the empty string. Each thing has an identity, the part by which the
kernel would refuse a second one, and `why` beside it, outside comparison.
"""

from __future__ import annotations

from nsbridge.values import Value, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
    from typing import TypeAlias

    from nsbridge.firewall.ruleset import Element, Table

    Address_: TypeAlias = IPv4Address | IPv6Address
    Interface_: TypeAlias = IPv4Interface | IPv6Interface
    Network_: TypeAlias = IPv4Network | IPv6Network

HOST = ""
"""The namespace nsbridge runs in."""


class Netns(Value):
    """A named network namespace with its loopback up: a bind mount at `path` (ip-netns(8))."""

    path: str
    why: str = field(default="", compare=False)

    @property
    def identity(self) -> tuple[str, ...]:
        """Its path."""
        return ("netns", self.path)


class Link(Value):
    """A network interface.

    kind: ``bridge``, ``veth``, ``macvlan`` or ``ipvlan``. For a pair, the end on the host names the other one by
    `peer_netns` and `peer_name`; creating the host end creates both, adding the inner end configures it and raises it.
    group: IFLA_GROUP, given in the message that creates the link, so it is our first mark (see model/names).
    mtu: bytes, 0 for the kernel's default. mac: lower case with colons, empty to let the kernel choose.
    hairpin: a bridge port sends frames back where they came from. isolated: it exchanges none with other isolated
    ports of its bridge. autoconf: IPv6 link-local addresses are
    generated (off for bridge ports: each one floods every other port). options: of a bridge, by their
    names in ``/sys/class/net/BR/bridge``. parent: the host's link that a macvlan or ipvlan inside a namespace stands
    on, and mode: how its siblings meet; such a link is ours if its group says so. vlan: of a bridge port: the one that
    what comes out of it untagged belongs to, and the only one that reaches it; 0 for what the bridge gives it.
    """

    netns: str
    name: str
    kind: str
    group: int = 0
    master: str = ""
    mac: str = ""
    mtu: int = 0
    up: bool = True
    peer_netns: str = ""
    peer_name: str = ""
    hairpin: bool = False
    isolated: bool = False
    autoconf: bool = True
    options: tuple[tuple[str, int], ...] = ()
    alias: str = ""
    mode: str = ""
    vlan: int = 0
    parent: str = field(default="", compare=False)
    why: str = field(default="", compare=False)

    @property
    def identity(self) -> tuple[str, ...]:
        """Its namespace and name."""
        return ("link", self.netns, self.name)


class Address(Value):
    """An address of a link with its prefix length; IPv6 ones skip duplicate address detection (IFA_F_NODAD)."""

    netns: str
    link: str
    address: Interface_
    why: str = field(default="", compare=False)

    @property
    def identity(self) -> tuple[str, ...]:
        """Its namespace, link and address."""
        return ("address", self.netns, self.link, str(self.address))


class Route(Value):
    """A route. via: the gateway, None for one that is on the link. table: 0 for the main one.

    kind: ``unicast``, or ``blackhole``, ``unreachable``, ``prohibit``: these lead nowhere, and `link` is empty.
    """

    netns: str
    dst: Network_
    link: str
    via: Address_ | None = None
    metric: int = 0
    table: int = 0
    kind: str = "unicast"
    why: str = field(default="", compare=False)

    @property
    def identity(self) -> tuple[str, ...]:
        """Its namespace, destination, metric, and table unless it is the main one."""
        where = (str(self.table),) if self.table else ()
        return ("route", self.netns, str(self.dst), str(self.metric), *where)


class RoutingRule(Value):
    """Packets with a source in `src` look into routing table `table` first (ip-rule(8))."""

    netns: str
    src: Network_
    table: int
    why: str = field(default="", compare=False)

    @property
    def identity(self) -> tuple[str, ...]:
        """Its namespace, source and table."""
        return ("rule", self.netns, str(self.src), str(self.table))


class Shaper(Value):
    """What bounds the packets that a link sends: tbf for a rate alone, netem for anything else. Units: as Limits.

    The root queueing discipline of the link; rate in bits per second.
    """

    netns: str
    link: str
    rate: int = 0
    delay: int = 0
    jitter: int = 0
    loss: int = 0
    why: str = field(default="", compare=False)

    @property
    def identity(self) -> tuple[str, ...]:
        """Its namespace and link."""
        return ("shaper", self.netns, self.link)


class Sysctl(Value):
    """A kernel setting under /proc/sys, by its path there with slashes: ``net/ipv4/ip_forward``.

    was: the value before us, given back when this is removed; empty when nothing is to be given back
    because the setting dies with its link. Equal to `value` it is only held: kept while another setting,
    added before this one, would change it along.
    """

    netns: str
    key: str
    value: str
    was: str = field(default="", compare=False)
    why: str = field(default="", compare=False)

    @property
    def identity(self) -> tuple[str, ...]:
        """Its namespace and key."""
        return ("sysctl", self.netns, self.key)


class ForeignAccept(Value):
    """The one static rule in somebody else's forward chain that drops: accept what carries our mark bit.

    where: ``iptables-nft``, ``iptables-legacy``, ``ip6tables-nft``, ``ip6tables-legacy``, or ``nft``; for
    ``nft`` the chain is named by family, table and chain, otherwise these are empty.
    """

    where: str
    family: str = ""
    table: str = ""
    chain: str = ""
    why: str = field(default="", compare=False)

    @property
    def identity(self) -> tuple[str, ...]:
        """The chain it stands in."""
        return ("foreign", self.where, self.family, self.table, self.chain)


if TYPE_CHECKING:
    Thing: TypeAlias = Netns | Link | Address | Route | RoutingRule | Shaper | Sysctl | ForeignAccept | Table | Element
