"""What a network looks like in a topology file, and what all shapes share; the rest is in `shape`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from nsbridge.files.scalars import (
    MAP,
    SHORT,
    Address,
    Address4,
    Address6,
    AlwaysIPv4,
    BridgeMode,
    Cidr,
    Driver,
    Flag,
    GatewayMode,
    IpamDriver,
    Line,
    Mtu,
    Pairs,
    RouteKind,
    Verdict,
    Vlan,
    Whole,
    port_form,
)


class Shape(BaseModel):
    """Base: no unknown fields (`x-…` aside), frozen; a field that is empty counts as absent.

    kind: what messages and the tables in `fields` call it. children: fields that hold other shapes, one by one
    in a map or list, or directly.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)
    kind: ClassVar[str]
    children: ClassVar[dict[str, tuple[Literal["each", "one"], type[Shape]]]] = {}

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the fields as a file writes them."""
        return tuple(field.alias or name for name, field in cls.model_fields.items())


class SubnetShape(Shape):
    """One subnet of a network."""

    kind: ClassVar[str] = "subnet"
    subnet: Cidr = Field(description="The subnet in CIDR notation.", examples=["172.30.0.0/24", "fd00:30::/64"])
    gateway: Address | None = Field(None, description="The bridge's own address; the first of the subnet if not given.")
    ip_range: Cidr | None = Field(
        None, description="Automatic addresses come from here; all of the subnet if not given."
    )
    aux_addresses: dict[str, Address] | None = Field(
        None, description="Addresses that are never given out, each with a name to remember why."
    )


class RouteShape(Shape):
    """A route that every endpoint of a network gets, in the words of CNI's ipam.routes."""

    kind: ClassVar[str] = "route"
    dst: Cidr = Field(description="Where it leads, in CIDR notation.")
    gw: Address | None = Field(None, description="By which gateway; the network's own if not given.")
    metric: Whole | None = Field(None, description="Of two routes to one place the lower metric wins.")
    type: RouteKind | None = Field(
        None, description="`unicast` if not given; the others lead nowhere, `blackhole` without a word."
    )


class IpamShape(Shape):
    """How a network's addresses are chosen."""

    kind: ClassVar[str] = "ipam"
    children: ClassVar = {"config": ("each", SubnetShape), "routes": ("each", RouteShape)}
    routes: list[RouteShape] | None = Field(None, description="Routes of the endpoints besides the default one.")
    driver: IpamDriver | None = Field(None, description="Only `default`: nsbridge gives addresses out itself.")
    config: list[SubnetShape] | None = Field(
        None, description="At most one IPv4 and one IPv6 subnet; without, a free IPv4 subnet is chosen."
    )


class DriverOptionsShape(Shape):
    """Options of the bridge, by Docker's names."""

    kind: ClassVar[str] = "driver option"
    bridge: Line | None = Field(
        None, alias="com.docker.network.bridge.name", description="Name of the bridge's interface, at most 15 bytes."
    )
    mtu: Mtu | None = Field(
        None, alias="com.docker.network.driver.mtu", description="MTU in bytes; the uplink's if not given."
    )
    icc: Flag | None = Field(
        None,
        alias="com.docker.network.bridge.enable_icc",
        description="Whether endpoints of the network may talk to one another; true if not given.",
    )
    masquerade: Flag | None = Field(
        None,
        alias="com.docker.network.bridge.enable_ip_masquerade",
        description="Whether packets leave with the host's address; true if not given.",
    )
    source4: Address4 | None = Field(
        None,
        alias="com.docker.network.host_ipv4",
        description="The IPv4 address of the host with which packets leave; the route's if not given.",
    )
    source6: Address6 | None = Field(None, alias="com.docker.network.host_ipv6", description="The same for IPv6.")
    host_binding: Address4 | None = Field(
        None,
        alias="com.docker.network.bridge.host_binding_ipv4",
        description="The host's address on which ports are published that name none.",
    )
    gateway_mode4: GatewayMode | None = Field(
        None,
        alias="com.docker.network.bridge.gateway_mode_ipv4",
        description="`nat` (if not given), `nat-unprotected`, `routed` or `isolated`; see below.",
    )
    gateway_mode6: GatewayMode | None = Field(
        None, alias="com.docker.network.bridge.gateway_mode_ipv6", description="The same for IPv6."
    )
    trusted: Line | None = Field(
        None,
        alias="com.docker.network.bridge.trusted_host_interfaces",
        description="Interfaces of the host, joined by colons, from which endpoints may be reached directly.",
    )
    inhibit_ipv4: Flag | None = Field(
        None,
        alias="com.docker.network.bridge.inhibit_ipv4",
        description="The bridge gets no IPv4 address: the gateway is somebody else's, or a person puts it there. "
        "Until then the host itself has no way to the endpoints.",
    )
    advertise: Whole | None = Field(
        None,
        alias="com.docker.network.advertise_addr_nmsgs",
        description="How often an endpoint that comes tells its neighbours its addresses, 0 to 3; once, and only if "
        "they may have heard otherwise, if not given.",
    )
    advertise_ms: Whole | None = Field(
        None,
        alias="com.docker.network.advertise_addr_ms",
        description="Milliseconds from one time to the next, 100 to 2000; 1000 if not given. Attaching waits for them.",
    )
    mac_filtering: Flag | None = Field(
        None,
        alias="security.mac_filtering",
        description="Whether an endpoint may send only from its own MAC; true if not given.",
    )
    ipv4_filtering: Flag | None = Field(
        None,
        alias="security.ipv4_filtering",
        description="Whether it may send only from its own IPv4 address, in ARP too; true if not given.",
    )
    ipv6_filtering: Flag | None = Field(
        None,
        alias="security.ipv6_filtering",
        description="Whether it may send only from its own IPv6 addresses, advertise only these, and no routes; true "
        "if not given.",
    )
    parent: Line | None = Field(
        None,
        description="The host's link that a macvlan or ipvlan network stands on; a VLAN's too (`eth0.5`), which has to "
        "be there.",
    )
    macvlan_mode: Line | None = Field(None, description="`bridge` if not given, `private`, `vepa` or `passthru`.")
    ipvlan_mode: Line | None = Field(None, description="`l2` if not given, `l3` or `l3s`.")
    vlan: Vlan | None = Field(
        None,
        description="The VLAN of the bridge that endpoints are in, and, if the bridge is ours, the gateway. Needs VLAN "
        "filtering in the kernel.",
    )
    vrf: Line | None = Field(
        None,
        description="With `mode: unmanaged`: the VRF that the bridge has to be in. A bridge of ours can't be in one.",
    )
    mode: BridgeMode | None = Field(
        None,
        description="`unmanaged`: the bridge of that name is somebody else's. Endpoints are put on it and take its "
        "address as gateway (or `gateway`); nothing else of it is changed, no rule is made, no port can be published.",
    )


class ExternalShape(Shape):
    """The older way to name an external network."""

    kind: ClassVar[str] = "external"
    name: Line = Field(description="The network's real name.")


class NetworkShape(Shape):
    """One network."""

    kind: ClassVar[str] = "network"
    children: ClassVar = {
        "ipam": ("one", IpamShape),
        "external": ("one", ExternalShape),
        "driver_opts": ("one", DriverOptionsShape),
    }
    name: Line | None = Field(None, description="Its real name; `PROJECT_KEY` if not given.")
    driver: Driver | None = Field(
        None,
        description="`bridge` (also `default`) if not given; `macvlan` and `ipvlan` put endpoints on the wire of the "
        "host's link that `driver_opts` names as `parent`: no rule is made, no port can be published.",
    )
    driver_opts: DriverOptionsShape | None = Field(None, description="Options of the bridge, by Docker's names.")
    internal: Flag | None = Field(None, description="No way in or out, and no published ports.")
    enable_ipv4: AlwaysIPv4 | None = Field(
        None, description="Only true; a network with just an IPv6 subnet has no IPv4."
    )
    enable_ipv6: Flag | None = Field(
        None, description="Choose an IPv6 subnet (a ULA) if `ipam` gives none. An IPv6 subnet turns it on by itself."
    )
    ipam: IpamShape | None = Field(None, description="Its subnets.")
    external: (
        Annotated[Annotated[Flag, Tag(SHORT)] | Annotated[ExternalShape, Tag(MAP)], Discriminator(port_form)] | None
    ) = Field(None, description="It must exist already and outlives `down`; only `name` may stand beside it.")
    labels: Pairs | None = Field(None, description="Names and values for your own use; a map, or a list of NAME=VALUE.")
    policy: Verdict | None = Field(
        None,
        description="What becomes of connections that its services begin and no rule is about: `allow` (if not given), "
        "`deny` or `reject`.",
    )
