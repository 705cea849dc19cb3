"""What a throwaway host needs to be worth looking at: a world outside it, a firewall in the way, and ways to ask.

      outside (namespace)                       the host
      eth0 198.51.100.2  ───── veth pair ─────  up0 198.51.100.1, default route through outside
      a route to the networks under test        forward chain of a firewall, policy drop

Outside answers nothing that comes from addresses it doesn't know, as the internet doesn't, and is made like all else
here by netlink alone. The firewall is a native nf_tables table, since that is what every kernel we run on has;
iptables and nft need not be installed. Only for hosts that are thrown away: nothing here is journalled.
"""

from __future__ import annotations

import _socket
import os
from _struct import pack, unpack_from
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from time import monotonic

from nsbridge.firewall.ruleset import Table
from nsbridge.kernel import nftschema as nf
from nsbridge.kernel import rtnetlink, rtroute
from nsbridge.kernel.netlink import CREATE, EXCL, be32, message, nested, text
from nsbridge.kernel.nftencode import add_table
from nsbridge.kernel.nftmessage import header
from nsbridge.plan.step import Step
from nsbridge.state.things import HOST, Address, Link, Netns, Route

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsbridge.kernel.linux import LinuxKernel

OUTSIDE = "/run/netns/outside"
UPLINK = "up0"
HOST_ADDRESS, OUTSIDE_ADDRESS = IPv4Address("198.51.100.1"), IPv4Address("198.51.100.2")
"""From TEST-NET-2, which no real network uses (RFC 5737)."""

HOST_MAC, OUTSIDE_MAC = "02:00:00:00:64:01", "02:00:00:00:64:02"
FIREWALL = ("inet", "filter", "FORWARD")

_EVERYWHERE = IPv4Network("0.0.0.0/0")
_ETH_P_IP = 0x0800
_SYN, _SYN_ACK = 0x02, 0x12
_OWN_PORT = 40_000


def furnish(kernel: LinuxKernel, known: IPv4Network) -> None:
    """Make the world outside and its link to the host. known: a network to which outside has a route all the same."""
    outer = Link(HOST, UPLINK, "veth", mac=HOST_MAC, peer_netns=OUTSIDE, peer_name="eth0", autoconf=False)
    things = (
        Netns(OUTSIDE),
        outer,
        Link(OUTSIDE, "eth0", "veth", mac=OUTSIDE_MAC, autoconf=False),
        Address(OUTSIDE, "eth0", IPv4Interface(f"{OUTSIDE_ADDRESS}/24")),
        Route(OUTSIDE, known, "eth0", via=HOST_ADDRESS),
        Address(HOST, UPLINK, IPv4Interface(f"{HOST_ADDRESS}/24")),
        Route(HOST, _EVERYWHERE, UPLINK, via=OUTSIDE_ADDRESS),
    )
    kernel.do(Step("add", things, why="a world outside"))


def drop_forwarded(kernel: LinuxKernel) -> None:
    """Make a firewall whose forward chain has the policy drop, as ufw and Docker set it."""
    family, table, chain = FIREWALL
    base = text(1, table) + text(3, chain) + nested(4, be32(1, nf.HOOKS["forward"]), be32(2, 0))
    body = header(family) + base + be32(5, nf.DROP) + text(7, "filter")
    kernel.nft.write([*add_table(Table(family, table, (), ())), message(nf.NEWCHAIN, CREATE | EXCL, body)])


def picture(kernel: LinuxKernel) -> frozenset[str]:
    """Return what the host holds, a line each: links, addresses, routes, rules, settings, namespaces.

    Equal pictures mean that nothing was left: rules are compared as the kernel's own bytes.
    """
    return frozenset([*_links(kernel), *_rules(kernel), *_settings(), *_namespaces()])


def _links(kernel: LinuxKernel) -> Iterator[str]:
    links = [rtnetlink.decode_link(HOST, body) for _, body in kernel.route.dump(rtnetlink.get_links())]
    names = {one.index: one.link.name for one in links}
    for one in links:
        yield f"link {one.index} {one.link!r}"
    for _, body in kernel.route.dump(rtroute.get_addresses()):
        yield f"address {rtroute.decode_address(HOST, body, names)!r}"
    for family in (4, 6):
        for _, body in kernel.route.dump(rtroute.get_routes(family)):
            yield f"route {rtroute.decode_routes(HOST, body, names)!r}"


def _rules(kernel: LinuxKernel) -> Iterator[str]:
    kinds = ((nf.GETTABLE, "table"), (nf.GETCHAIN, "chain"), (nf.GETRULE, "rule"), (nf.GETSET, "set"))
    for kind, name in kinds:
        for body in kernel.nft.dump(kind, header("")):
            yield f"{name} {body[:2].hex()} {body[4:].hex()}"  # bytes 2 and 3 are the ruleset's generation


def _settings() -> Iterator[str]:
    for top in ("ipv4", "ipv6", "bridge"):
        for folder, _, names in os.walk(f"/proc/sys/net/{top}"):
            for name in names:
                try:
                    with open(f"{folder}/{name}", encoding="utf-8", errors="replace") as file:
                        yield f"setting {folder[10:]}/{name} = {file.read().strip()}"
                except OSError:  # write-only, or without a value yet
                    continue


def _namespaces() -> Iterator[str]:
    for name in os.listdir("/run/netns"):
        yield f"namespace {name}"


# ------------------------------------------------------------------ ways to ask, in the calling thread's namespace


def ping(address: IPv4Address, timeout_s: float = 1.0) -> bool:
    """Send one ICMP echo request (RFC 792) and tell whether the reply came."""
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, _socket.IPPROTO_ICMP)
    try:
        number = os.getpid() & 0xFFFF
        body = pack("!BBHHH", 8, 0, 0, number, 1) + b"nsbridge"
        sock.sendto(body[:2] + _checksum(body) + body[4:], (str(address), 0))
        deadline = monotonic() + timeout_s
        while (left := deadline - monotonic()) > 0:
            sock.settimeout(left)
            try:
                packet = sock.recv(2048)
            except TimeoutError:
                return False
            start = (packet[0] & 15) * 4
            if packet[start] == 0 and unpack_from("!H", packet, start + 4)[0] == number:
                return True
        return False
    finally:
        sock.close()


def knock(destination: IPv4Address, port: int, timeout_s: float = 0.5) -> bool:
    """From outside, put a TCP SYN for any destination on the wire to the host; tell whether a SYN-ACK came back.

    The frame is built by hand, so that destinations which no routing table would send out can be tried, 127.0.0.1 say.
    """
    sock = _socket.socket(_socket.AF_PACKET, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, _socket.htons(_ETH_P_IP))
    try:
        sock.bind(("eth0", _ETH_P_IP))
        sock.send(_frame(destination, port))
        deadline = monotonic() + timeout_s
        while (left := deadline - monotonic()) > 0:
            sock.settimeout(left)
            try:
                packet = sock.recv(2048)[14:]
            except TimeoutError:
                return False
            start = (packet[0] & 15) * 4
            if len(packet) < start + 20 or packet[9] != _socket.IPPROTO_TCP:
                continue
            _, target = unpack_from("!HH", packet, start)
            if target == _OWN_PORT and packet[start + 13] & _SYN_ACK == _SYN_ACK:
                return True
        return False
    finally:
        sock.close()


def _frame(destination: IPv4Address, port: int) -> bytes:
    """An Ethernet frame with a SYN from outside (RFC 791, RFC 9293)."""
    ends = OUTSIDE_ADDRESS.packed + destination.packed
    tcp = pack("!HHIIBBHHH", _OWN_PORT, port, 1, 0, 5 << 4, _SYN, 65535, 0, 0)
    tcp = tcp[:16] + _checksum(ends + pack("!HH", _socket.IPPROTO_TCP, len(tcp)) + tcp) + tcp[18:]
    ip = pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0, 64, _socket.IPPROTO_TCP, 0) + ends
    ip = ip[:10] + _checksum(ip) + ip[12:]
    macs = bytes.fromhex((HOST_MAC + OUTSIDE_MAC).replace(":", ""))
    return macs + pack("!H", _ETH_P_IP) + ip + tcp


def _checksum(data: bytes) -> bytes:
    """The internet checksum (RFC 1071)."""
    total = sum(unpack_from(f"!{len(data) // 2}H", data)) + (data[-1] << 8 if len(data) % 2 else 0)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return pack("!H", ~total & 0xFFFF)
