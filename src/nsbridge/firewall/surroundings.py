"""What rules ask of the namespace around them: interfaces, addresses, routes, sockets."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.firewall.packet import Address, Packet


class Surroundings:
    """What rules ask of the namespace around them. None: nobody can say, and this class itself never can.

    Names of links are those of `Packet`.
    """

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
