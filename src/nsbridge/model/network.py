"""A network: a bridge, its subnets, and what may pass."""

from __future__ import annotations

from nsbridge.errors import InvalidIntent
from nsbridge.model.names import bridge_ifname, check_ifname, check_name, check_vlan
from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsbridge.state.things import Address_, Interface_, Network_


def interface(address: Address_, prefixlen: int) -> Interface_:
    """Return an address with the prefix length of its subnet; made from numbers, for reading text takes 30 us."""
    from ipaddress import IPv4Interface, IPv6Interface

    return (IPv4Interface if address.version == 4 else IPv6Interface)((int(address), prefixlen))


class Subnet(Value):
    """One subnet of a network.

    gateway: the bridge's address, None for the first usable one. ip_range: automatic addresses come from
    here, None for all of the subnet. reserved: (name, address) pairs never given out (aux_addresses).
    """

    network: Network_
    gateway: Address_ | None = None
    ip_range: Network_ | None = None
    reserved: tuple[tuple[str, Address_], ...] = ()

    def __post_init__(self) -> None:
        """Check that everything lies inside the subnet and that there is room for one endpoint."""
        net = self.network
        if net.num_addresses < 4:
            raise InvalidIntent(f"subnet {net} has no room for a gateway and an endpoint", fix="use a wider prefix")
        parts = [("gateway", self.gateway), *((f"aux address {name!r}", address) for name, address in self.reserved)]
        for what, address in parts:
            if address is not None and address not in net:
                raise InvalidIntent(f"{what} {address} is outside its subnet {net}", fix="choose one inside it")
        if self.gateway is not None and self.gateway in (net.network_address, net.broadcast_address):
            raise InvalidIntent(f"gateway {self.gateway} is the first or last address of {net}", fix="choose another")
        if self.ip_range is not None and not (
            self.ip_range.version == net.version
            and int(net.network_address) <= int(self.ip_range.network_address)
            and int(self.ip_range.broadcast_address) <= int(net.broadcast_address)
        ):
            raise InvalidIntent(f"ip_range {self.ip_range} is outside its subnet {net}", fix="choose one inside it")

    @property
    def gateway_interface(self) -> Interface_:
        """The bridge's address with the prefix length of the subnet."""
        return interface(self.gateway_address, self.network.prefixlen)

    @property
    def gateway_address(self) -> Address_:
        """The bridge's address."""
        return self.network.network_address + 1 if self.gateway is None else self.gateway

    def usable(self, address: Address_) -> bool:
        """Tell whether an endpoint may have it: inside, and not network, broadcast, gateway or reserved."""
        net = self.network
        if address not in net or address == net.network_address:
            return False
        if net.version == 4 and address == net.broadcast_address:
            return False
        return address != self.gateway_address and all(address != taken for _, taken in self.reserved)

    def pool(self) -> tuple[int, int]:
        """First and last address to try when one is given out, as integers, both included."""
        room = self.ip_range or self.network
        return int(room.network_address), int(room.broadcast_address)


GATEWAY_MODES = ("nat", "nat-unprotected", "routed", "isolated")
"""Docker's names; see `Network`."""

POLICIES = ("allow", "deny", "reject")
"""What may become of a connection."""
ROUTE_KINDS = ("unicast", "blackhole", "unreachable", "prohibit")
"""What becomes of a packet: sent on, or not, without a word or with one. ip-route(8)."""


class StaticRoute(Value):
    """A route that every endpoint of a network gets.

    via: None for the network's own gateway; a kind other than ``unicast`` has none. metric: 0 for the kernel's.
    """

    dst: Network_
    via: Address_ | None = None
    metric: int = 0
    kind: str = "unicast"

    def __post_init__(self) -> None:
        """Check kind, gateway and metric."""
        if self.kind not in ROUTE_KINDS:
            raise InvalidIntent(f"route type is {self.kind!r}", fix=f"use one of {', '.join(ROUTE_KINDS)}")
        if self.via is not None and (self.kind != "unicast" or self.via.version != self.dst.version):
            raise InvalidIntent(
                f"route to {self.dst} can't go by {self.via}",
                fix="give a gateway of that family, and none to blackhole",
            )
        if not 0 <= self.metric < 1 << 32:
            raise InvalidIntent(f"metric of the route to {self.dst} is {self.metric}", fix="use 0 to 4294967295")


ADVERTISED, ADVERTISED_MS = 3, (100, 2000)
"""Docker's bounds: how often, and how many milliseconds apart (libnetwork/osl, AdvertiseAddrNMsgsMax)."""

DRIVERS = {"bridge": ("",), "macvlan": ("bridge", "private", "vepa", "passthru"), "ipvlan": ("l2", "l3", "l3s")}
"""Kinds of networks, and the modes of each, the usual one first. ip-link(8)."""


OTHER_DRIVERS = {
    "ptp": "use a bridge with icc off, which keeps members apart as ptp does (docs/adr/0011)",
    "host": "a service has `network_mode: host`, a command --net host",
    "none": "a service has `network_mode: none`, a command --net none",
    "overlay": "networks end at this host",
}
"""What other tools call drivers, and what to do instead."""


def check_driver(name: str) -> None:
    """Raise InvalidIntent, saying what to do instead, for a driver that we don't have."""
    if name not in DRIVERS:
        raise InvalidIntent(
            f"there is no driver {name!r}", fix=OTHER_DRIVERS.get(name, f"use one of {', '.join(DRIVERS)}")
        )


class Network(Value):
    """What a user asks of a network.

    gateway_mode4, gateway_mode6: ``nat``; ``nat-unprotected``, which lets others reach its endpoints' own addresses;
    ``routed``, without NAT, where published ports are reached there; ``isolated``, without an address of the host's
    (Docker's com.docker.network.bridge.gateway_mode_ipv4). trusted: interfaces of the host from which its endpoints
    may be reached directly. mac_filtering, ipv4_filtering, ipv6_filtering: an endpoint sends only from its own
    addresses (Incus' security.*); those of IP need that of the MAC. policy: what becomes of connections that its
    endpoints begin and no rule of the file is about: ``allow``, ``deny`` or ``reject``. policed: packets between
    neighbours meet the policy too. guarded: chosen for it, whether this kernel can filter ports.

    bridge: its interface on the host, named after the network when empty. internal: no way in or out. ipv6: wants
    an IPv6 subnet, chosen for it when `subnets` has none. icc: endpoints may talk to one another. masquerade:
    leave with the host's address. sources: the address of the host they leave with, at most one a family, instead of
    the one that routing would choose. host_binding: where ports are published that name no address of their own.
    mtu: bytes, 0 for that of the uplink. project: the topology that made it, empty
    when a person did. ephemeral: goes with its last endpoint (the default network). labels: (key, value) pairs.
    unmanaged: `bridge` is somebody else's; we use its address as gateway, attach ports to it, and leave it as it is.
    driver, mode: ``macvlan`` and ``ipvlan`` put endpoints on the wire of a link of the host, without a bridge; that
    link is `bridge`, and it is somebody else's. routes: what every endpoint gets besides the default route.
    vlan: of the bridge, in which its endpoints are and, if it is ours, its gateway (netavark's vlan); 0 for none. vrf:
    the one that somebody else's bridge has to be in. inhibit_ipv4: the bridge gets no IPv4 address, since the gateway
    is somebody else's or is put there by a person. advertise: how often an endpoint that comes tells its neighbours
    its addresses, -1 for once if they may have heard otherwise; advertise_ms: milliseconds from one to the next.
    """

    name: str
    subnets: tuple[Subnet, ...] = ()
    bridge: str = ""
    internal: bool = False
    ipv6: bool = False
    icc: bool = True
    masquerade: bool = True
    sources: tuple[Address_, ...] = ()
    host_binding: Address_ | None = None
    mtu: int = 0
    project: str = ""
    ephemeral: bool = False
    labels: tuple[tuple[str, str], ...] = ()
    gateway_mode4: str = "nat"
    gateway_mode6: str = "nat"
    trusted: tuple[str, ...] = ()
    mac_filtering: bool = True
    ipv4_filtering: bool = True
    ipv6_filtering: bool = True
    policy: str = "allow"
    policed: bool = False
    guarded: bool = False
    unmanaged: bool = False
    routes: tuple[StaticRoute, ...] = ()
    driver: str = "bridge"
    mode: str = ""
    vlan: int = 0
    vrf: str = ""
    inhibit_ipv4: bool = False
    advertise: int = -1
    advertise_ms: int = 1000

    def __post_init__(self) -> None:
        """Check names, at most one subnet a family, and the MTU (RFC 791: 68, RFC 8200: 1280)."""
        check_name("network", self.name)
        if self.bridge:
            check_ifname(self.bridge)
        if self.unmanaged and not self.bridge:
            raise InvalidIntent(
                f"network {self.name!r} is unmanaged but names no bridge", fix="name the bridge it uses"
            )
        check_driver(self.driver)
        if self.mode not in ("", *DRIVERS.get(self.driver, ())):
            modes = " or ".join(DRIVERS.get(self.driver, ())[:4]) or "none"
            raise InvalidIntent(f"network {self.name!r} has mode {self.mode!r}", fix=f"{self.driver} has: {modes}")
        if self.driver != "bridge" and not self.unmanaged:
            raise InvalidIntent(
                f"network {self.name!r} has driver {self.driver!r} without a parent", fix="name one: -o parent=IFNAME"
            )
        versions = [subnet.network.version for subnet in self.subnets]
        if len(versions) != len(set(versions)):
            raise InvalidIntent(
                f"network {self.name!r} has two subnets of one family", fix="give one IPv4 and one IPv6 subnet at most"
            )
        given = [address.version for address in self.sources]
        if len(given) != len(set(given)):
            raise InvalidIntent(f"network {self.name!r} has two source addresses of one family", fix="give one of each")
        for source in self.sources:
            why = "it is internal" if self.internal else "" if self.masquerade else "masquerading is off"
            if not why and self.gateway_mode(source.version) == "routed":
                why = "it is routed, without NAT"
            if why:
                raise InvalidIntent(
                    f"network {self.name!r} can't leave with {source}: {why}", fix="drop the source address"
                )
        least = 1280 if 6 in versions else 68
        if self.mtu and not least <= self.mtu <= 65535:
            raise InvalidIntent(f"network {self.name!r} has an MTU of {self.mtu}", fix=f"use {least} to 65535")
        self._check_filtering()
        self._check_segments()

    def _check_segments(self) -> None:
        """Check VLAN, VRF, and how addresses are advertised."""
        check_vlan(self.vlan)
        if not -1 <= self.advertise <= ADVERTISED:
            raise InvalidIntent(f"addresses are advertised {self.advertise} times", fix=f"use 0 to {ADVERTISED}")
        if not ADVERTISED_MS[0] <= self.advertise_ms <= ADVERTISED_MS[1]:
            least, most = ADVERTISED_MS
            raise InvalidIntent(f"addresses are advertised every {self.advertise_ms} ms", fix=f"use {least} to {most}")
        if self.vlan and self.driver != "bridge":
            raise InvalidIntent(
                f"network {self.name!r} is on a wire of the host's, which has no VLANs of its own",
                fix=f"name the VLAN's link as parent: {self.bridge}.{self.vlan}",
            )
        if self.vrf:
            check_ifname(self.vrf)
            if not self.unmanaged:
                raise InvalidIntent(
                    f"network {self.name!r} can't put a bridge of ours into VRF {self.vrf!r}: there packets come by "
                    "the VRF, not by the bridge, and no rule of ours would know whose they are",
                    fix=f"make the bridge yourself (`ip link add BR master {self.vrf} type bridge`), and use it with "
                    "mode=unmanaged",
                )

    def _check_filtering(self) -> None:
        """Check the names of modes, and what goes together."""
        for mode in (self.gateway_mode4, self.gateway_mode6):
            if mode not in GATEWAY_MODES:
                raise InvalidIntent(f"gateway mode is {mode!r}", fix=f"use one of {', '.join(GATEWAY_MODES)}")
            if mode == "isolated" and not self.internal:
                raise InvalidIntent(
                    f"network {self.name!r} has gateway mode isolated, but isn't internal", fix="make it internal too"
                )
        if self.policy not in POLICIES:
            raise InvalidIntent(f"policy is {self.policy!r}", fix=f"use one of {', '.join(POLICIES)}")
        for name in self.trusted:
            check_ifname(name)
        if not self.mac_filtering and (self.ipv4_filtering or self.ipv6_filtering):
            raise InvalidIntent(
                f"network {self.name!r} filters IP addresses, but not MACs, by which they could be had all the same",
                fix="turn all three off, or leave security.mac_filtering on",
            )

    @property
    def watched(self) -> bool:
        """Whether the bridge shows its frames to our rules, since packets between neighbours are to meet a policy."""
        return self.policed or self.policy != "allow"

    def gateway_mode(self, version: int) -> str:
        """Return the gateway mode of that IP version."""
        return self.gateway_mode4 if version == 4 else self.gateway_mode6

    @property
    def routed(self) -> bool:
        """Whether ports of its endpoints are reached at their own addresses, in one family at least."""
        return "routed" in (self.gateway_mode4, self.gateway_mode6)

    def has_gateway(self, version: int) -> bool:
        """Tell whether the bridge has an address of that IP version."""
        return self.is_routed(version) and not (version == 4 and self.inhibit_ipv4)

    def is_routed(self, version: int) -> bool:
        """Tell whether packets of that IP version pass between the bridge and the host."""
        return self.subnet(version) is not None and self.gateway_mode(version) != "isolated"

    @property
    def ifname(self) -> str:
        """The bridge's name on the host."""
        return self.bridge or bridge_ifname(self.name)

    @property
    def versions(self) -> tuple[int, ...]:
        """The IP versions of its subnets, 4 before 6."""
        return tuple(sorted({one.network.version for one in self.subnets}))

    def subnet(self, version: int) -> Subnet | None:
        """Return the subnet of that IP version, None without one."""
        for one in self.subnets:
            if one.network.version == version:
                return one
        return None

    def __iter__(self) -> Iterator[Subnet]:
        """Iterate over the subnets."""
        return iter(self.subnets)
