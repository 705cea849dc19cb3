"""What `nsbridge.Network` takes: by its names there, turned into the model's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict

from nsbridge.api import words
from nsbridge.model import network as model

if TYPE_CHECKING:
    from collections.abc import Callable

    from nsbridge.state.things import Network_

GatewayMode: TypeAlias = Literal["nat", "nat-unprotected", "routed", "isolated"]


class NetworkOptions(TypedDict, total=False):
    """What may be said of a network; what isn't said is as docs/files.md has it.

    subnet, gateway, ip_range: one or a list of two, IPv4 and IPv6; what is left out is chosen. reserved: addresses
    never given out, by a name for them. routes: what every endpoint gets besides the default route. ipv6: wants an
    IPv6 subnet, chosen if none is given. internal: no way in or out. icc: endpoints may talk to one another.
    masquerade: what leaves has the host's address; source: which of them, one a family. host_binding: where ports are
    published that name no address. gateway_mode_ipv4, gateway_mode_ipv6: see the type. trusted_interfaces: of the
    host, from which endpoints may be reached directly. mac_filtering, ipv4_filtering, ipv6_filtering: an endpoint
    sends only from its own addresses. policy: what becomes of connections that endpoints begin and no rule is about.
    mtu: bytes, 0 for that of the uplink.

    bridge: its interface on the host, named after the network when empty. unmanaged: that bridge is somebody else's,
    and stays as it is. driver: ``macvlan`` and ``ipvlan`` are on the wire of `parent`, a link of the host, in `mode`
    (``bridge``, ``private``, ``vepa``, ``passthru``; ``l2``, ``l3``, ``l3s``). vlan: of the bridge, in which its
    endpoints are. vrf: the one that somebody else's bridge has to be in. inhibit_ipv4: the bridge gets no IPv4
    address. advertise, advertise_ms: how often an endpoint that comes tells its neighbours its addresses, and how many
    milliseconds apart. labels: notes of your own.
    """

    subnet: str | Network_ | Iterable[str | Network_]
    gateway: words.IPAddress | Iterable[words.IPAddress]
    ip_range: str | Network_ | Iterable[str | Network_]
    reserved: Mapping[str, words.IPAddress]
    routes: Iterable[words.Route]
    ipv6: bool
    internal: bool
    icc: bool
    masquerade: bool
    source: words.IPAddress | Iterable[words.IPAddress]
    host_binding: words.IPAddress
    gateway_mode_ipv4: GatewayMode
    gateway_mode_ipv6: GatewayMode
    trusted_interfaces: Iterable[str]
    mac_filtering: bool
    ipv4_filtering: bool
    ipv6_filtering: bool
    policy: Literal["allow", "deny", "reject"]
    mtu: int
    bridge: str
    unmanaged: bool
    driver: Literal["bridge", "macvlan", "ipvlan"]
    parent: str
    mode: str
    vlan: int
    vrf: str
    inhibit_ipv4: bool
    advertise: int
    advertise_ms: int
    labels: Mapping[str, str]


def _same(value: Any) -> Any:
    return value


_FIELDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "routes": ("routes", words.routes),
    "source": ("sources", lambda value: words.addresses("source", value)),
    "host_binding": ("host_binding", words.binding),
    "gateway_mode_ipv4": ("gateway_mode4", _same),
    "gateway_mode_ipv6": ("gateway_mode6", _same),
    "trusted_interfaces": ("trusted", lambda value: words.texts("trusted_interfaces", value)),
    "parent": ("bridge", _same),
    "labels": ("labels", lambda value: tuple(value.items())),
}
"""Options that are called otherwise in the model, or have to be read, as (field, parser)."""


def network(name: str, given: NetworkOptions) -> model.Network:
    """Return the network that is asked for. InvalidIntent for what can't be, TypeError for an option there isn't."""
    options: dict[str, Any] = {**given}
    if unknown := sorted(options.keys() - NetworkOptions.__annotations__.keys()):
        raise TypeError(f"nsbridge.Network has no option {unknown[0]!r}")
    wanted, gateways, ranges = (options.pop(key, ()) for key in ("subnet", "gateway", "ip_range"))
    subnets = words.subnets(wanted, gateways, ranges, options.pop("reserved", {}))
    fields: dict[str, Any] = {"subnets": subnets}
    for option, value in options.items():
        field, parse = _FIELDS.get(option, (option, _same))
        fields[field] = parse(value)
    if options.get("parent"):
        fields["unmanaged"] = True
    if any(subnet.network.version == 6 for subnet in subnets):
        fields["ipv6"] = False  # nothing to be chosen
    return model.Network(name, **fields)
