"""Which firewall of the host holds our rules: chosen with the first network, remembered until the last is gone.

The choice stands in the file ``firewall`` of the store; without it, it is nftables. All networks of a host share it,
because a packet between two of them meets both.
"""

from __future__ import annotations

from nsbridge.errors import InvalidIntent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsbridge.engine.host import Host
    from nsbridge.engine.journal import Operation
    from nsbridge.model.network import Network

FIREWALLS = ("nftables", "iptables", "iptables-nft", "iptables-legacy")
FILE = "firewall"


def current(host: Host) -> str:
    """Return the firewall that holds our rules, "" while there is no network that has any."""
    chosen = host.store.firewall()
    if chosen:
        return chosen
    return "nftables" if any(not network.unmanaged for network in host.store.networks()) else ""


def wanted(host: Host) -> str:
    """Return the firewall that holds our rules, or would hold those of a first network: "" for nftables."""
    return current(host) or host.firewall or host.firewall_default


def check(host: Host) -> None:
    """Refuse a firewall that was asked for and can't be: InvalidIntent says which one it is."""
    for wish in (host.firewall, host.firewall_default):
        if wish and wish not in FIREWALLS:
            raise InvalidIntent(f"there is no firewall {wish!r}", fix=f"use one of {', '.join(FIREWALLS)}")
    have, wish = current(host), host.firewall
    if wish and have and wish != have and not (wish == "iptables" and have.startswith(wish)):
        names = ", ".join(network.name for network in host.store.networks())
        raise InvalidIntent(
            f"the rules of this host's networks ({names}) are in {have}, so {wish} can't be chosen now",
            fix="remove these networks first, or leave --firewall out",
        )


def remember(host: Host, op: Operation, networks: Iterable[Network]) -> None:
    """Choose, before the first rule is written. Unsupported when this host hasn't what was asked for."""
    if all(network.unmanaged for network in networks):
        return
    check(host)
    if not current(host):
        name = host.kernel.choose_firewall(host.firewall or host.firewall_default)
        if name:
            op.replace(FILE, f"{name}\n")
