"""Which ports and addresses of the host the sockets of its processes could have, asked by trying or by listing.

A few ports are tried by binding them. For a range that would be two system calls a port, so listeners are listed
from /proc/net, where a line costs less than a socket (proc_net_tcp.rst in the kernel's documentation), and only what
is listed is tried.
"""

from __future__ import annotations

import _socket
import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.state.things import Address_

SOCK_TYPES = {"tcp": (_socket.SOCK_STREAM, 6), "udp": (_socket.SOCK_DGRAM, 17), "sctp": (_socket.SOCK_STREAM, 132)}

FEW = 8
"""So many ports are tried one by one."""

_LISTENS = {"tcp": "0A", "udp": "07"}
"""The state in which a socket waits for anybody: TCP_LISTEN; a UDP socket that isn't connected shows TCP_CLOSE."""


def supports(proto: str) -> bool:
    """Tell whether this kernel has sockets of that protocol; without them no endpoint could serve it."""
    kind, number = SOCK_TYPES[proto]
    try:
        _socket.socket(_socket.AF_INET, kind | _socket.SOCK_CLOEXEC, number).close()
    except OSError:
        return False
    return True


def has_address(address: Address_) -> bool:
    """Tell whether an address is one of the host's own, by binding a socket to it."""
    family = _socket.AF_INET if address.version == 4 else _socket.AF_INET6
    try:
        sock = _socket.socket(family, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    except OSError:
        return False
    try:
        sock.bind((str(address), 0))
    except OSError as err:
        # A link-local address is bound with its interface: EINVAL without.
        return err.errno != errno.EADDRNOTAVAIL
    finally:
        sock.close()
    return True


def held(proto: str, address: str, port: int) -> bool:
    """Tell whether a process holds a port on an address (``0.0.0.0`` or ``::`` for any), by trying to bind it."""
    family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
    kind, number = SOCK_TYPES[proto]
    try:
        sock = _socket.socket(family, kind | _socket.SOCK_CLOEXEC, number)
    except OSError:  # a kernel without that protocol has no listeners for it
        return False
    try:
        if family == _socket.AF_INET6:
            sock.setsockopt(41, 26, 1)  # IPPROTO_IPV6, IPV6_V6ONLY: an IPv4 listener is another question
        if proto == "tcp":
            # With it, connections in TIME_WAIT don't count, while a listener still does. UDP would share.
            sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
    except OSError as err:
        return err.errno == errno.EADDRINUSE
    finally:
        sock.close()
    return False


def busy_port(proto: str, address: Address_ | None, first: int, last: int) -> int:
    """Return the first port of a range that a process of the host holds, 0 when none is held.

    address: None for any address of both families.
    """
    texts = ["0.0.0.0", "::"] if address is None else [str(address)]
    if last - first < FEW or proto not in _LISTENS:
        return next((port for port in range(first, last + 1) if any(held(proto, one, port) for one in texts)), 0)
    heard = sorted(port for port in _listeners(proto) if first <= port <= last)
    return next((port for port in heard if any(held(proto, one, port) for one in texts)), 0)


def _listeners(proto: str) -> set[int]:
    """Ports on which somebody listens, on any address: a socket on [::] may take IPv4 too, and nothing shows it."""
    tables = [lines(f"/proc/thread-self/net/{name}") or [""] for name in (proto, f"{proto}6")]  # perhaps no IPv6 here
    rows = [line.split(None, 4) for table in tables for line in table[1:]]
    return {int(local.rpartition(":")[2], 16) for _, local, _, state, *_ in rows if state == _LISTENS[proto]}


def lines(path: str) -> list[str] | None:
    """Read a table below /proc/net, None where this kernel has none of that name or won't show it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        parts = []
        while part := os.read(fd, 1 << 18):
            parts.append(part)
    finally:
        os.close(fd)
    return b"".join(parts).decode().splitlines()
