"""Which subnets a network gets, and which it can't have."""

from __future__ import annotations

from ipaddress import IPv6Network, ip_network

from nsbridge.errors import Exhausted, Taken
from nsbridge.model.network import Network, Subnet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nsbridge.state.things import Network_

POOLS4 = (("10.201.0.0/16", 24), ("172.28.0.0/14", 24), ("192.168.192.0/18", 24))
"""Where automatic IPv4 subnets come from, and their prefix length. RFC 1918; away from the pools of other engines."""


def _ula(seed: str) -> IPv6Network:
    """Return a unique local /48 that is stable for one host. RFC 4193 §3.2: fd and 40 bits by chance."""
    from _blake2 import blake2s

    bits = int.from_bytes(blake2s(seed.encode(), digest_size=5).digest(), "big")
    return IPv6Network(((0xFD << 120) | (bits << 80), 48))


def _candidates(version: int, seed: str) -> Iterator[Network_]:
    if version == 6:
        yield from _ula(seed).subnets(new_prefix=64)
    else:
        for pool, prefix in POOLS4:
            yield from ip_network(pool).subnets(new_prefix=prefix)


def _first_free(version: int, taken: Iterable[tuple[Network_, str]], seed: str) -> Network_:
    rivals = [(net, whose) for net, whose in taken if net.version == version and net.prefixlen]
    met: dict[str, None] = {}
    for tried, candidate in enumerate(_candidates(version, seed)):
        rival = next((whose for net, whose in rivals if net.overlaps(candidate)), None)
        if rival is None:
            return candidate
        met[rival] = None
        if tried > 5000:
            break
    raise Exhausted(
        f"no IPv{version} subnet is free: all of the pools lie under {', '.join(list(met)[:3])}",
        fix="give the network a subnet of its own (`--subnet`, or ipam.config in the file)",
    )


def check_free(network: Network, taken: Iterable[tuple[Network_, str]]) -> None:
    """Raise Taken, naming the culprit, when a subnet of the network overlaps one that is in use.

    taken: (subnet, whose it is) pairs; a route to everywhere is no rival.
    """
    taken = tuple(taken)
    for subnet in network.subnets:
        for net, whose in taken:
            if net.prefixlen and net.version == subnet.network.version and net.overlaps(subnet.network):
                raise Taken(
                    f"subnet {subnet.network} of network {network.name!r} overlaps {net}, which is {whose}",
                    fix="choose another subnet",
                )


def with_subnets(network: Network, taken: Iterable[tuple[Network_, str]], *, seed: str) -> Network:
    """Return the network with every subnet it wants: its own, or automatic ones; checked to be free.

    taken: as for `check_free`. seed: what names this host, for its IPv6 prefix.
    """
    taken = tuple(taken)
    check_free(network, taken)
    subnets = network.subnets
    if not any(subnet.network.version == 4 for subnet in subnets) and not (subnets and not network.ipv6):
        subnets = (Subnet(_first_free(4, taken, seed)), *subnets)
    if network.ipv6 and not any(subnet.network.version == 6 for subnet in subnets):
        subnets = (*subnets, Subnet(_first_free(6, taken, seed)))
    return network.replace(subnets=subnets)
