"""Addresses given out: one file each, which names the endpoint and can be made only once, so none is given twice.

The next address is tried from where the last one was found, so finding one costs the same in an empty subnet
and in a full one, and an address that was just given back rests for a while.
"""

from __future__ import annotations

import fcntl
import os
from ipaddress import IPv4Address, IPv6Address

from nsbridge.errors import Exhausted, InvalidIntent, Taken
from nsbridge.store import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nsbridge.model.network import Network, Subnet
    from nsbridge.state.things import Address_


def _folder(root: str, network: str) -> str:
    return f"{root}/leases/{network}"


def path(root: str, network: str, address: Address_) -> str:
    """Return where the lease of an address is kept."""
    return f"{_folder(root, network)}/{address}"


def owner(root: str, network: str, address: Address_) -> str | None:
    """Return the name of the endpoint that holds an address, None when it is free."""
    return files.read(path(root, network, address))


def claim(root: str, network: Network, address: Address_, name: str) -> None:
    """Give this very address to the endpoint `name`; InvalidIntent when it can't be had, Taken when another has it."""
    subnet = network.subnet(address.version)
    if subnet is None or address not in subnet.network:
        have = " and ".join(str(one.network) for one in network.subnets) or "no subnet"
        raise InvalidIntent(f"address {address} is outside network {network.name!r} ({have})", fix="choose one inside")
    if not subnet.usable(address):
        what = "its gateway" if address == subnet.gateway_address else "reserved"
        raise InvalidIntent(f"address {address} of network {network.name!r} is {what}", fix="choose another address")
    if not files.create(path(root, network.name, address), name):
        held = owner(root, network.name, address)
        raise Taken(
            f"address {address} of network {network.name!r} belongs to endpoint {held!r}",
            fix=f"choose another address, or `nsbridge disconnect {network.name} {held}` first",
        )


def _cursor(root: str, network: str, version: int) -> int:
    return files.open_for_new(f"{_folder(root, network)}/.next{version}", os.O_RDWR)


def claim_next(root: str, network: Network, subnet: Subnet, name: str, begin: Callable[[Address_], None]) -> Address_:
    """Give the next free address of a subnet to the endpoint `name`; Exhausted when there is none.

    begin: told each address before it is claimed.
    """
    kind = IPv4Address if subnet.network.version == 4 else IPv6Address
    first, last = subnet.pool()
    fd = _cursor(root, network.name, subnet.network.version)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        text = os.pread(fd, 64, 0).decode().strip()
        start = int(text) if text.isdigit() and first <= int(text) <= last else first
        had = hinted(root, network, subnet, name)
        if had is not None:
            begin(had)
            if files.create(path(root, network.name, had), name):
                return had
        promised = _promised(root, network.name)
        for spare in (False, True) if promised else (True,):
            for number in _around(first, last, start):
                address = kind(number)
                where = path(root, network.name, address)
                if not subnet.usable(address) or os.path.exists(where) or (not spare and str(address) in promised):
                    continue
                begin(address)
                if files.create(where, name):
                    os.pwrite(fd, str(number + 1).encode().ljust(64), 0)
                    return address
    finally:
        os.close(fd)
    raise Exhausted(
        f"network {network.name!r} has no free address left in {subnet.ip_range or subnet.network}",
        fix="disconnect an endpoint, or give the network a wider subnet or ip_range",
    )


# what a reboot took away: the same endpoint gets the same address again


def remember(root: str) -> None:
    """Keep the leases as hints: each endpoint's address for the next endpoint of that name. After a reboot."""
    files.remove_tree(f"{root}/hints")
    for network in files.names(f"{root}/leases"):
        for text in files.names(_folder(root, network)):
            name = files.read(f"{_folder(root, network)}/{text}")
            if name:  # the first of several addresses of one family is the one it was given
                files.create(_hint(root, network, name, 6 if ":" in text else 4), text)
    files.remove_tree(f"{root}/leases")


def _hint(root: str, network: str, name: str, version: int) -> str:
    return f"{root}/hints/{network}/{name}.{version}"


def hinted(root: str, network: Network, subnet: Subnet, name: str) -> Address_ | None:
    """Return the address that the endpoint of that name had before a reboot, if it can have it again."""
    text = files.read(_hint(root, network.name, name, subnet.network.version))
    if not text:
        return None
    address = (IPv4Address if subnet.network.version == 4 else IPv6Address)(text)
    return address if subnet.usable(address) and owner(root, network.name, address) is None else None


def _promised(root: str, network: str) -> frozenset[str]:
    """The addresses that endpoints had before a reboot: others get them last."""
    folder = f"{root}/hints/{network}"
    return frozenset(files.read(f"{folder}/{name}") or "" for name in files.names(folder))


def _around(first: int, last: int, start: int) -> Iterator[int]:
    """Every address number once, from `start` to the end and then from the beginning."""
    yield from range(start, last + 1)
    yield from range(first, start)


def release(root: str, network: str, address: Address_, name: str) -> None:
    """Give an address back, if the endpoint `name` holds it."""
    if owner(root, network, address) == name:
        files.remove(path(root, network, address))


def free(root: str, network: Network, subnet: Subnet) -> Iterator[Address_]:
    """Yield the addresses that the next claims would get, in their order, without claiming them."""
    kind = IPv4Address if subnet.network.version == 4 else IPv6Address
    first, last = subnet.pool()
    text = (files.read(f"{_folder(root, network.name)}/.next{subnet.network.version}") or "").strip()
    start = int(text) if text.isdigit() and first <= int(text) <= last else first
    for number in _around(first, last, start):
        address = kind(number)
        if subnet.usable(address) and not os.path.exists(path(root, network.name, address)):
            yield address
