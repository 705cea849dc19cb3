"""What a network, and the host under it, should hold in the kernel."""

from __future__ import annotations

from nsbridge.firewall.ruleset import Element
from nsbridge.model.names import ALIAS, BRIDGE_GROUP, TABLE, mac_for
from nsbridge.state.things import HOST, Address, Link, Sysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsbridge.kernel.interface import HostFacts
    from nsbridge.model.network import Network
    from nsbridge.state.things import Thing

BRIDGE_OPTIONS = (("multicast_snooping", 0), ("stp_state", 0))
"""Snooping off: it drops IPv6 neighbour discovery until a querier appears. STP off: ports forward at once."""

REDIRECTS = "net/ipv4/conf/all/accept_redirects"
"""Switched by the kernel with ip_forward: off with forwarding on, on with forwarding off (inet_forward_change)."""

POLICED = (("nf_call_ip6tables", 1), ("nf_call_iptables", 1))
"""What has a bridge show its frames to our rules: packets between neighbours then meet the policy, with conntrack."""

FORWARDING = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}
"""The setting that makes a host forward, by IP version. ip-sysctl.rst in the kernel's documentation."""


def _member(name: str, *key: object, why: str) -> Element:
    return Element(TABLE, name, key, why=why)


def network_elements(network: Network) -> tuple[Element, ...]:
    """Return the network's places in the sets of our table."""
    bridge, said = network.ifname, f"network {network.name!r}"
    found = [_member("bridges", bridge, why=said)]
    if network.internal:
        found.append(_member("internal", bridge, why=f"{said} is internal"))
    if network.icc:
        found.append(_member("icc", bridge, bridge, why=f"endpoints of {said} may talk to one another"))
    for subnet in network.subnets:
        digit = str(subnet.network.version)
        found.append(_member("home" + digit, bridge, subnet.network, why=f"{said} has its subnet here"))
        found.append(_member("subnets" + digit, subnet.network, why=f"subnet of {said}"))
        mode = network.gateway_mode(subnet.network.version)
        if network.masquerade and not network.internal and mode in ("nat", "nat-unprotected"):
            found.append(_member("hidden" + digit, subnet.network, why=f"{said} leaves with the host's address"))
        for source in network.sources:
            if source.version == subnet.network.version:
                why = f"{said} leaves with this address"
                found.append(Element(TABLE, "source" + digit, (subnet.network,), (source,), why=why))
        if mode == "routed":
            found.append(_member("routed", bridge, f"ipv{digit}", why=f"{said} has no NAT"))
        elif mode == "nat-unprotected":
            found.append(_member("unprotected", bridge, f"ipv{digit}", why=f"{said} may be reached directly"))
    for name in network.trusted:
        found.append(_member("trusted", name, bridge, why=f"{said} trusts {name}"))
    if network.policy != "allow":
        verdict = ("goto deny" if network.policy == "deny" else "goto refuse",)
        found.append(Element(TABLE, "defaults", (bridge,), verdict, why=f"{said}: {network.policy} unless allowed"))
    return tuple(found)


def _bridge_options(network: Network) -> tuple[tuple[str, int], ...]:
    """What the bridge is told. Its default VLAN is the bridge's own too, so that the gateway is in it."""
    vlans = (("vlan_default_pvid", network.vlan), ("vlan_filtering", 1)) if network.vlan else ()
    return tuple(sorted((*BRIDGE_OPTIONS, *(POLICED if network.watched else ()), *vlans)))


def bridge_things(network: Network, mtu: int) -> tuple[Thing, ...]:
    """Return the bridge, its addresses and its settings. mtu: bytes."""
    name = network.ifname
    v4, v6 = network.is_routed(4), network.has_gateway(6)
    first = network.subnets[0].gateway_interface.ip if network.subnets else ""
    found: list[Thing] = [
        Link(
            HOST,
            name,
            "bridge",
            group=BRIDGE_GROUP,
            # A bridge without a fixed MAC takes the lowest of its ports, so it would change as they come and go.
            mac=mac_for(network.name, "gateway", f"{network.name}/{first}"),
            mtu=mtu,
            autoconf=v6,
            options=_bridge_options(network),
            alias=f"{ALIAS}: network {network.name}",
            why=f"bridge of network {network.name!r}",
        )
    ]
    for subnet in network.subnets:
        if network.has_gateway(subnet.network.version):
            found.append(
                Address(HOST, name, subnet.gateway_interface, why=f"gateway of network {network.name!r}"),
            )
    if v4 and not network.internal:
        found.append(
            Sysctl(
                HOST,
                f"net/ipv4/conf/{name}/route_localnet",
                "1",
                why="published ports answer on 127.0.0.1 too; chain 'guard' keeps the wire out",
            )
        )
    if not v6:
        found.append(Sysctl(HOST, f"net/ipv6/conf/{name}/disable_ipv6", "1", why="no IPv6 address here"))
    else:
        found.append(
            Sysctl(HOST, f"net/ipv6/conf/{name}/accept_ra", "0", why="S11: an endpoint must not re-route the host")
        )
        # While its link-local address is being checked (RFC 4862 §5.4, 1 to 2 s) the host can't ask for an endpoint's
        # MAC on behalf of others (ndisc_send_ns, net/ipv6/ndisc.c), so nothing would get in from outside.
        found.append(Sysctl(HOST, f"net/ipv6/conf/{name}/accept_dad", "0", why="the way in works at once"))
    return tuple(found)


def network_things(network: Network, mtu: int) -> tuple[Thing, ...]:
    """Return everything of one network on its own: no other network, no endpoint. mtu: bytes.

    Nothing for a bridge of somebody else's: a rule of ours would meet his ports, too.
    """
    if network.unmanaged:
        return ()
    return (*network_elements(network), *bridge_things(network, network.mtu or mtu))


def _forwarding(version: int, facts: HostFacts, remembered: dict[str, Sysctl]) -> list[Thing]:
    """Forwarding for one IP version: nothing if it was on before us, else the setting and its guard."""
    key = FORWARDING[version]
    mine = remembered.get(key)
    if mine is None and facts.sysctl(key) != "0":
        return []
    found: list[Thing] = [
        _member("raised", f"ipv{version}", why="S13: forwarding was off, so others are still not forwarded")
    ]
    if version == 6:
        # A router ignores router advertisements, and the moment it becomes one it drops the routes it has from them
        # (rt6_purge_dflt_routers). So this comes first, or the host would lose its own default route (S12).
        for name, value in facts.sysctls:
            if name.endswith("/accept_ra") and (value == "1" or name in remembered):
                found.append(
                    remembered.get(name) or Sysctl(HOST, name, "2", was="1", why="S12: keep the uplink's own RA route")
                )
    found.append(mine or Sysctl(HOST, key, "1", was="0", why="packets have to pass between the bridge and the world"))
    if version == 4:
        held = remembered.get(REDIRECTS)
        if mine is None and facts.sysctl(REDIRECTS) == "0":
            held = Sysctl(HOST, REDIRECTS, "0", was="0", why="lowering ip_forward would turn it on")
        found += [held] if held else []
    return found


def _closed(facts: HostFacts, before: Iterable[Thing]) -> list[Thing]:
    """Bridges of others that nothing was forwarded for when we turned forwarding on. Later ones aren't among them."""
    kept = [thing for thing in before if isinstance(thing, Element) and thing.set in ("closed", "same")]
    if kept or any(isinstance(thing, Sysctl) for thing in before):
        return list(kept)
    found: list[Thing] = []
    for name in facts.bridges:
        found.append(_member("closed", name, why="S13: there before us, and not forwarded"))
        found.append(_member("same", name, name, why="S13: its own frames pass"))
    return found


def host_things(networks: Iterable[Network], facts: HostFacts, remembered: Iterable[Thing] = ()) -> tuple[Thing, ...]:
    """Return what all networks share on the host; nothing without a network.

    remembered: what it was before: of the settings we raised, the values they had, and whose bridges were there then;
    facts alone can't tell ours apart.
    """
    from nsbridge.desired.ruleset import skeleton  # not needed by what touches one endpoint

    networks = tuple(network for network in networks if not network.unmanaged)
    if not networks:
        return ()
    found: list[Thing] = [skeleton()]
    if any(network.guarded for network in networks):
        from nsbridge.desired.senders import guard_table

        found.append(guard_table())
    before = tuple(remembered)
    kept = {thing.key: thing for thing in before if isinstance(thing, Sysctl)}
    for version in (4, 6):
        if any(not network.internal and network.subnet(version) for network in networks):
            found += _forwarding(version, facts, kept)
    if any(isinstance(thing, Sysctl) for thing in found):
        found += _closed(facts, before)
    found += facts.droppers
    return tuple(found)
