"""Frames made by hand, and ears that hear what arrives: for tests of who may send what.

db      10.7.0.10 fd07::10   the victim        web  10.7.0.11 fd07::11   a neighbour whose names are taken
mallory 10.7.0.12 fd07::12   sends the frames  gateway 10.7.0.1 fd07::1
"""

from __future__ import annotations

import json
import socket
import struct
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from lab import Lab, inside, sh

from nsbridge.engine import topology
from nsbridge.model.endpoint import PublishedPort
from nsbridge.model.network import Network, Subnet
from nsbridge.model.service import Attachment, Service, Topology
from nsbridge.wiring import open_host

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Self

    from nsbridge.engine.host import Host

IP, ARP, VLAN, IP6 = 0x0800, 0x0806, 0x8100, 0x86DD
EAR = 9000
SUBNETS = (Subnet(ip_network("10.7.0.0/24")), Subnet(ip_network("fd07::/64")))


def town(*names: str, ports: dict[str, tuple[PublishedPort, ...]] | None = None, **wishes: Any) -> Topology:
    """Services without commands on network `town`, .10 onwards."""
    services = [
        Service(
            name,
            attachments=(Attachment("town", ip_address(f"10.7.0.{last}"), ip_address(f"fd07::{last}")),),
            ports=(ports or {}).get(name, ()),
            project="town",
        )
        for last, name in enumerate(names, 10)
    ]
    subnets = wishes.pop("subnets", SUBNETS)
    policy = wishes.pop("rules", ())
    return Topology("town", (Network("town", subnets, project="town", **wishes),), tuple(services), policy=policy)


@contextmanager
def up(*topologies: Topology) -> Iterator[Host]:
    host = open_host()
    try:
        for one in topologies:
            topology.up(host, one)
        yield host
    finally:
        for one in reversed(topologies):
            if topology.projects(host) and one.project in topology.projects(host):
                topology.down(host, one.project, grace_s=0.2)


def link(name: str | None, ifname: str = "eth0") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(sh(f"ip -j link show dev {ifname}", path(name)).out)[0]
    return found


def path(name: str | None) -> str | None:
    return name and f"/run/netns/{name}"


def mac(name: str | None, ifname: str = "eth0") -> bytes:
    return bytes.fromhex(link(name, ifname)["address"].replace(":", ""))


def tcp_reset(source: str, to: str, port: int) -> bytes:
    """A segment that belongs to no connection: the end of one that never was (RFC 9293 section 3.5.2)."""
    return ip_packet(source, to, 6, struct.pack("!HHIIBBHHH", port, port, 1, 0, 5 << 4, 4, 0, 0, 0))


def checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip_packet(source: str, to: str, proto: int, body: bytes) -> bytes:
    """An IP packet around a body whose checksum, 16 bits of zero at the usual place, is filled in."""
    start, end = ip_address(source).packed, ip_address(to).packed
    pseudo = (
        start
        + end
        + struct.pack(
            "!HH" if len(start) == 4 else "!II", *((proto, len(body)) if len(start) == 4 else (len(body), proto))
        )
    )
    at = {6: 16, 17: 6}.get(proto, 2)
    body = body[:at] + struct.pack("!H", checksum(pseudo + body) or 0xFFFF) + body[at + 2 :]
    if len(start) == 4:
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 1, 0, 64, proto, 0, start, end)
        return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body
    return struct.pack("!IHBB16s16s", 6 << 28, len(body), proto, 255, start, end) + body


def udp(source: str, to: str, said: bytes) -> bytes:
    return ip_packet(source, to, 17, struct.pack("!HHHH", EAR, EAR, 8 + len(said), 0) + said)


def icmp6(source: str, to: str, kind: int, body: bytes) -> bytes:
    return ip_packet(source, to, 58, struct.pack("!BBH", kind, 0, 0) + body)


def arp_reply(sender_mac: bytes, sender: str, to_mac: bytes, to: str) -> bytes:
    head = struct.pack("!HHBBH", 1, IP, 6, 4, 2)
    return head + sender_mac + ip_address(sender).packed + to_mac + ip_address(to).packed


def frame(to: bytes, source: bytes, kind: int, body: bytes) -> bytes:
    return to + source + struct.pack("!H", kind) + body


def send(name: str, *frames: bytes) -> None:
    """Send whole frames out of a namespace's eth0."""

    def out() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
            sock.bind(("eth0", 0))
            for one in frames:
                sock.send(one)

    inside(path(name), out)


class Ear:
    """Hears datagrams to port 9000 of a namespace."""

    def __init__(self, name: str | None) -> None:
        def listen() -> socket.socket:
            sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            sock.bind(("::", EAR))
            sock.settimeout(0.15)
            return sock

        self.sock = inside(path(name), listen)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def hears(self, said: bytes) -> bool:
        """Tell whether these words come within 0.15 s."""
        while True:
            try:
                if self.sock.recv(2048) == said:
                    return True
            except TimeoutError:
                return False


def neighbour(name: str, address: str) -> str:
    """The MAC a namespace believes an address has."""
    found = json.loads(sh(f"ip -j neigh show {address} dev eth0", path(name)).out or "[]")
    return str(found[0].get("lladdr", "")) if found else ""


def known(lab: Lab, name: str, *addresses: str) -> None:
    """Have a namespace learn MACs."""
    for address in addresses:
        lab.sh(f"ping -c1 -W2 {address}", name)
