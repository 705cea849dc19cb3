"""What one endpoint holds in the second table, by which its frames are known as its own (desired/senders.py)."""

from __future__ import annotations

from nsbridge.firewall.ruleset import Element
from nsbridge.model.names import BRIDGE_TABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipaddress import IPv6Address

    from nsbridge.model.endpoint import Endpoint
    from nsbridge.model.network import Network


def link_local(mac: str) -> IPv6Address:
    """The address that the kernel gives an interface of that MAC by itself: RFC 4291, appendix A."""
    from ipaddress import IPv6Address

    raw = bytes.fromhex(mac.replace(":", ""))
    return IPv6Address(b"\xfe\x80" + bytes(6) + bytes((raw[0] ^ 2,)) + raw[1:3] + b"\xff\xfe" + raw[3:])


def guard_elements(network: Network, endpoint: Endpoint) -> tuple[Element, ...]:
    """Return the endpoint's places in the sets of the second table; none without one, or when all is let through."""
    if not network.guarded or not endpoint.mac:
        return ()
    port, said = endpoint.host_ifname, f"{endpoint.name!r} on {network.name!r}"
    keys: list[tuple[str, tuple[object, ...]]] = []
    if not network.icc:
        keys.append(("isolated", (port,)))
    if network.mac_filtering:
        keys += [("guarded", (port,)), ("macs", (port, endpoint.mac))]
        for digit, filtered in (("4", network.ipv4_filtering), ("6", network.ipv6_filtering)):
            if not filtered:
                keys.append((f"free{digit}", (port,)))
                continue
            own = [address.ip for address in endpoint.addresses if str(address.version) == digit]
            if digit == "6" and own:
                own.append(link_local(endpoint.mac))
            keys += [(f"hosts{digit}", (port, address)) for address in own]
    return tuple([Element(BRIDGE_TABLE, name, key, why=said) for name, key in keys])
