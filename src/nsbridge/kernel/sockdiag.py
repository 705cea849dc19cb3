"""Sockets that wait for anybody, by sock_diag(7), and whose they are, by /proc.

/proc/net/tcp6 doesn't tell whether a socket on [::] takes IPv4 too; sock_diag does (INET_DIAG_SKV6ONLY).
"""

from __future__ import annotations

import os
from _struct import Struct
from ipaddress import IPv4Address, IPv6Address

from nsbridge.explain.world import Listener
from nsbridge.kernel.netlink import NetlinkSocket, attributes, message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.state.things import Address_

SOCK_DIAG, _BY_FAMILY = 4, 20
_PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
_LISTEN, _CLOSE = 1 << 10, 1 << 7  # TCP_LISTEN; a datagram socket that isn't connected is in TCP_CLOSE
_REQUEST = Struct("=BBBxI48x")
_REPLY = Struct("=BBBB2s2s16s16sI8xIIIII")
_V6ONLY = 11
_INET, _INET6 = 2, 10


def listeners(proto: str) -> list[tuple[Listener, int]]:
    """Return the waiting sockets of the calling thread's namespace, each with its inode."""
    found = []
    states = _LISTEN if proto == "tcp" else _CLOSE
    if proto not in _PROTOCOLS:
        return []
    with NetlinkSocket(SOCK_DIAG) as sock:
        for family in (_INET, _INET6):
            try:
                replies = sock.dump(message(_BY_FAMILY, 0, _REQUEST.pack(family, _PROTOCOLS[proto], 0, states)))
            except OSError:  # a kernel without that protocol, or without its part of sock_diag
                continue
            for _, body in replies:
                fields = _REPLY.unpack_from(body)
                port, local, bound = int.from_bytes(fields[4], "big"), fields[6], fields[8]
                address: Address_ = IPv4Address(local[:4]) if family == _INET else IPv6Address(local)
                only = attributes(body, _REPLY.size).get(_V6ONLY, b"\0")[0]
                both = family == _INET6 and not only and int(address) == 0
                device = _name(bound) if bound else ""
                found.append((Listener(proto, address, port, both, device=device), fields[13]))
    return found


def _name(index: int) -> str:
    import _socket

    try:
        return _socket.if_indextoname(index)
    except OSError:
        return f"if{index}"


def owners(inodes: set[int]) -> dict[int, str]:
    """Return ``name (pid)`` of the processes that hold these sockets, as far as we may look."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, str] = {}
    for pid in os.listdir("/proc"):
        if not pid.isdecimal():
            continue
        try:
            fds = os.listdir(f"/proc/{pid}/fd")
        except OSError:  # not ours to look at, or gone
            continue
        for fd in fds:
            try:
                inode = wanted.get(os.readlink(f"/proc/{pid}/fd/{fd}"), 0)
            except OSError:
                continue
            if inode:
                found.setdefault(inode, f"{_command(pid)} ({pid})")
        if len(found) == len(wanted):
            break
    return found


def _command(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip()
    except OSError:
        return "?"
