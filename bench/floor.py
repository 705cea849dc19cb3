"""The floor: the least that attaching an endpoint with a port can cost from Python.

Packed by hand without any checks: a veth pair whose peer is born in the namespace, loopback and eth0 up, address,
default route, one element of a map. No lease, no record, no journal, no lock, no settings.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct

_libc = ctypes.CDLL(None, use_errno=True)
_pack = struct.pack
REQUEST, ACK, EXCL, CREATE = 1, 4, 0x200, 0x400
CLONE_NEWNET = 0x40000000

SKELETON = """
table ip {table} {{
  map ports {{ type inet_service : ipv4_addr . inet_service; }}
  chain pre {{ type nat hook prerouting priority -100
    fib daddr type local dnat ip addr . port to tcp dport map @ports
  }}
  chain out {{ type nat hook output priority -100
    fib daddr type local dnat ip addr . port to tcp dport map @ports
  }}
  chain post {{ type nat hook postrouting priority 100
    ip saddr {subnet} oifname != "{bridge}" masquerade
    oifname "{bridge}" ip saddr {{ 127.0.0.0/8, {subnet} }} ct status dnat masquerade
  }}
  chain forwarding {{ type filter hook forward priority 0
    oifname "{bridge}" ct state vmap {{ established : accept, related : accept, invalid : drop }}
    iifname "{bridge}" accept
    oifname "{bridge}" ct status dnat accept
    oifname "{bridge}" drop
  }}
}}
"""
"""The same idea as nsbridge's table, shorter: what `ip` and `nft` would be given by hand."""


def attr(kind: int, data: bytes) -> bytes:
    """A netlink attribute."""
    return _pack("HH", 4 + len(data), kind) + data + bytes(-len(data) & 3)


def msg(kind: int, flags: int, body: bytes, sequence: int = 0) -> bytes:
    """A netlink message."""
    return _pack("IHHII", 16 + len(body), kind, flags, sequence, 0) + body


class Link:
    """A netlink socket that is talked to without any care."""

    def __init__(self, protocol: int = 0) -> None:
        self.sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self.sock.bind((0, 0))

    def talk(self, data: bytes, acks: int) -> None:
        """Send messages that ask for so many acknowledgements; OSError for the first refusal."""
        self.sock.send(data)
        trouble = 0
        while acks > 0:
            answer = self.sock.recv(65536)
            at = 0
            while at < len(answer):
                size, kind = struct.unpack_from("IH", answer, at)
                if kind == 2:
                    trouble = trouble or -struct.unpack_from("i", answer, at + 16)[0]
                    acks -= 1
                at += size + 3 & ~3
        if trouble:
            raise OSError(trouble, os.strerror(trouble))


def inside(fd: int, home: int) -> Link:
    """Open a socket in another namespace, on this very thread."""
    _libc.setns(fd, CLONE_NEWNET)
    try:
        return Link()
    finally:
        _libc.setns(home, CLONE_NEWNET)


def element(add: bool, table: bytes, port: int, address: str, target: int) -> bytes:
    """A batch that adds or removes one element ``port : address . target``."""
    key = attr(0x8001, attr(1, _pack(">H", port)))
    data = attr(0x8002, attr(1, socket.inet_aton(address) + _pack(">HH", target, 0))) if add else b""
    body = _pack("BBH", 2, 0, 0) + attr(1, table + b"\0") + attr(2, b"ports\0") + attr(0x8003, attr(0x8001, key + data))
    begin, end = (msg(kind, REQUEST, _pack(">BBH", 0, 0, 10), seq) for kind, seq in ((16, 0), (17, 2)))
    return begin + msg(10 << 8 | (12 if add else 14), REQUEST | ACK | (CREATE if add else 0), body, 1) + end


class Floor:
    """Attach and detach on a bridge that exists, with sockets that stay open."""

    def __init__(self, bridge: str, gateway: str, table: str) -> None:
        self.home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.route, self.netfilter = Link(0), Link(12)
        self.bridge, self.gateway, self.table = socket.if_nametoindex(bridge), gateway, table.encode()

    def pair(self, fd: int, name: str) -> None:
        """Make a veth pair, the peer in the namespace behind `fd`."""
        peer = _pack("BBHiII", 0, 0, 0, 2, 0, 0) + attr(3, b"eth0\0") + attr(28, _pack("i", fd))
        info = attr(1, b"veth\0") + attr(2, attr(1, peer))
        body = _pack("BBHiII", 0, 0, 0, 0, 1, 1) + attr(3, name.encode() + b"\0") + attr(10, _pack("i", self.bridge))
        self.route.talk(msg(16, REQUEST | ACK | CREATE | EXCL, body + attr(18, info)), 1)

    def attach(self, path: str, name: str, address: str, port: int) -> None:
        """Give the namespace at `path` its place."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.pair(fd, name)
        there = inside(fd, self.home)
        os.close(fd)
        raw, gateway = socket.inet_aton(address), socket.inet_aton(self.gateway)
        up = [msg(16, REQUEST | ACK, _pack("BBHiII", 0, 0, 0, index, 1, 1)) for index in (1, 2)]
        place = msg(20, REQUEST | ACK | CREATE | EXCL, _pack("BBBBI", 2, 16, 0, 0, 2) + attr(2, raw) + attr(1, raw))
        way = _pack("BBBBBBBBI", 2, 0, 0, 0, 254, 3, 0, 1, 0) + attr(5, gateway) + attr(4, _pack("I", 2))
        there.talk(b"".join(up) + place + msg(24, REQUEST | ACK | CREATE | EXCL, way), 4)
        there.sock.close()
        self.netfilter.talk(element(True, self.table, port, address, 80), 1)

    def delete(self, name: str) -> None:
        """Delete a link by name: the kernel's own part of any synchronous detach."""
        self.route.talk(msg(17, REQUEST | ACK, _pack("BBHiII", 0, 0, 0, 0, 0, 0) + attr(3, name.encode() + b"\0")), 1)

    def detach(self, name: str, address: str, port: int) -> None:
        """Take it away again."""
        self.netfilter.talk(element(False, self.table, port, address, 80), 1)
        self.delete(name)
