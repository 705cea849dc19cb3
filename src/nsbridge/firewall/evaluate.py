"""A packet at one hook: every base chain there, rule by rule, as the kernel does it."""

from __future__ import annotations

from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from nsbridge.firewall.packet import Address, Packet
    from nsbridge.firewall.seen import Firewall

    class Surroundings(Protocol):
        """What rules ask of the namespace around them. None: nobody can say. Names of links are those of `Packet`."""

        def kind(self, ifname: str) -> str | None:
            """IFLA_INFO_KIND of a link, empty for one without (``lo``, hardware)."""

        def index(self, ifname: str) -> int | None:
            """Its number."""

        def group(self, ifname: str) -> int | None:
            """IFLA_GROUP."""

        def arphrd(self, ifname: str) -> int | None:
            """Its type: 1 ethernet, 772 loopback."""

        def master(self, ifname: str) -> str | None:
            """The bridge (or other master) it is a port of, empty for none."""

        def addrtype(self, address: Address, ifname: str = "") -> str | None:
            """``unicast``, ``local``, ``broadcast``, ``multicast`` …; with ifname: as seen on that link alone."""

        def route(
            self, daddr: Address, saddr: Address | None = None, *, iif: str = "", oif: str = "", mark: int = 0
        ) -> str | None:
            """The link that a route to daddr leaves by (``lo`` for an own address), empty when there is none."""

        def source_for(self, oif: str, daddr: Address) -> Address | None:
            """The address that masquerade takes there."""

        def primary(self, ifname: str, version: int) -> Address | None:
            """The first address of a link that redirect takes for what came by it."""

        def socket(self, packet: Packet) -> bool | None:
            """Tell whether a local socket would take this packet."""


class Unknown:
    """Surroundings of which nothing is known: every question is open."""

    def kind(self, ifname: str) -> str | None:
        """Nobody can say."""

    def index(self, ifname: str) -> int | None:
        """Nobody can say."""

    def group(self, ifname: str) -> int | None:
        """Nobody can say."""

    def arphrd(self, ifname: str) -> int | None:
        """Nobody can say."""

    def master(self, ifname: str) -> str | None:
        """Nobody can say."""

    def addrtype(self, address: Address, ifname: str = "") -> str | None:
        """Nobody can say."""

    def route(
        self, daddr: Address, saddr: Address | None = None, *, iif: str = "", oif: str = "", mark: int = 0
    ) -> str | None:
        """Nobody can say."""

    def source_for(self, oif: str, daddr: Address) -> Address | None:
        """Nobody can say."""

    def primary(self, ifname: str, version: int) -> Address | None:
        """Nobody can say."""

    def socket(self, packet: Packet) -> bool | None:
        """Nobody can say."""


class Met(Value):
    """A rule (or a policy) that a packet met and that applied to it, or may have.

    hook: ``prerouting`` …; priority: of the base chain. index: of the rule in its chain, -1 for the policy.
    text: the rule as its tool writes it. verdict: ``accept``, ``drop``, ``reject``, ``continue``, ``jump X``,
    ``goto X``, ``return``, ``dnat to 10.0.0.2:80`` …; open: nobody can say whether it applied.
    why: its comment. owner: as in `SeenTable`. fix: for one that drops, how to reach that rule (nft delete rule …).
    """

    family: str
    table: str
    chain: str
    hook: str
    priority: int
    index: int
    handle: int
    text: str
    verdict: str
    why: str = ""
    owner: str = ""
    backend: str = "nft"
    open: bool = False


class Way(Value):
    """One way in which a hook can end. verdict: accept, drop, reject, queue, stolen."""

    verdict: str
    packet: Packet
    met: tuple[Met, ...] = ()
    said: str = ""
    """With reject: what the sender is told; with queue or stolen: who has it."""


class Outcome(Value):
    """How a hook ends.

    verdict: ``accept``, ``drop``, ``reject``, ``queue``, ``stolen``; ``open`` when opaque rules leave more than one
    of them. packet, met: of the way that is taken, or of the first. ways: all of them, one unless something is open.
    opaque: what nobody could answer. assumed: budgets taken to be unspent. Both in words, the rule first.
    """

    verdict: str
    packet: Packet
    met: tuple[Met, ...] = ()
    ways: tuple[Way, ...] = ()
    opaque: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    said: str = ""


def hook(
    firewall: Firewall, name: str, packet: Packet, around: Surroundings, *, layer: str = "", device: str = ""
) -> Outcome:
    """Lead a packet through all base chains at a hook.

    name: ``prerouting``, ``input``, ``forward``, ``output``, ``postrouting``, ``ingress``, ``egress``.
    layer: the packet's own family by default; ``bridge``, ``arp`` or ``netdev`` for those hooks; device: for the last.
    conntrack's and NAT's own work is done at their priorities: after prerouting a packet is tracked, and a rewrite
    decided now or known from its `Ct` has been carried out.
    """
    raise NotImplementedError
