"""A host between two others, frames made by hand that cross it, and what the kernel and the evaluator say of each.

left                         the host                          right
l1 10.1.0.2 ──── veth ──── l0 10.1.0.1 · r0 10.2.0.1 ──── veth ──── r1 10.2.0.2, default route of the host
   fd01::2                    fd01::1     fd02::1                      fd02::2
"""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_address, ip_network
from itertools import count
from typing import TYPE_CHECKING

from lab import inside, sh

from nsbridge.firewall.evaluate import Outcome, hook
from nsbridge.firewall.packet import PROTOS, Packet
from nsbridge.firewall.surroundings import Surroundings
from nsbridge.kernel.nfttrace import Traced, Traces

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lab import FreshHost

    from nsbridge.firewall.evaluate import Met
    from nsbridge.firewall.seen import Firewall

L0_MAC, L1_MAC, R0_MAC, R1_MAC = (f"02:00:00:00:00:0{number}" for number in range(1, 5))
OWN = tuple(map(ip_address, ("10.1.0.1", "10.2.0.1", "fd01::1", "fd02::1")))
LINK_OF = {ip_network(net): link for net, link in (
    ("10.1.0.0/24", "l0"), ("fd01::/64", "l0"), ("10.2.0.0/24", "r0"), ("fd02::/64", "r0"))}  # fmt: skip
_ports = count(20000)

BUILD = f"""
ip netns add left && ip netns add right
ip link add l0 address {L0_MAC} type veth peer name l1 address {L1_MAC} netns left
ip link add r0 address {R0_MAC} type veth peer name r1 address {R1_MAC} netns right
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0
sysctl -qw net.ipv4.conf.default.rp_filter=0 net.ipv4.conf.l0.rp_filter=0 net.ipv6.conf.l0.accept_dad=0
sysctl -qw net.ipv6.conf.r0.accept_dad=0 net.ipv4.icmp_ratelimit=0
for link in l0:1 r0:2; do
  number=${{link#*:}}; name=${{link%:*}}
  ip addr add 10.$number.0.1/24 dev $name; ip addr add fd0$number::1/64 dev $name nodad; ip link set $name up
done
ip link set lo up
for name in left right; do ip netns exec $name sysctl -qw net.ipv6.conf.all.disable_ipv6=1; done
ip -n left link set l1 up; ip -n right link set r1 up
ip neigh add 10.1.0.2 lladdr {L1_MAC} dev l0; ip neigh add fd01::2 lladdr {L1_MAC} dev l0
ip neigh add 10.2.0.2 lladdr {R1_MAC} dev r0; ip neigh add fd02::2 lladdr {R1_MAC} dev r0
ip route add default via 10.2.0.2; ip -6 route add default via fd02::2
"""

TRACER = """
table inet tracer {
  chain on { type filter hook prerouting priority -1000; iifname "l0" meta nftrace set 1; }
  chain mute { type filter hook output priority -1000; policy drop; }
}
"""


class Between(Surroundings):
    """What the host knows of its links and routes."""

    def kind(self, ifname: str) -> str | None:
        return "veth" if ifname != "lo" else ""

    def index(self, ifname: str) -> int | None:
        return socket.if_nametoindex(ifname)

    def group(self, ifname: str) -> int | None:
        return 0

    def arphrd(self, ifname: str) -> int | None:
        return 1

    def master(self, ifname: str) -> str | None:
        return ""

    def addrtype(self, address: object, ifname: str = "") -> str | None:
        if address in OWN:
            own = OWN[0::2] if ifname == "l0" else OWN[1::2]
            return "local" if not ifname or address in own else "unicast"
        return "broadcast" if str(address) in ("10.1.0.255", "10.2.0.255") else "unicast"

    def route(self, daddr: object, saddr: object = None, *, iif: str = "", oif: str = "", mark: int = 0) -> str | None:
        if daddr in OWN:
            return "lo"
        return next((link for net, link in LINK_OF.items() if daddr in net), "r0")

    def source_for(self, oif: str, daddr: object) -> object:
        return OWN[(oif == "r0") + 2 * (daddr.version == 6)]

    def primary(self, ifname: str, version: int) -> object:
        return OWN[(ifname == "r0") + 2 * (version == 6)]

    def socket(self, packet: Packet) -> bool | None:
        return False


class Crossing:
    """The built topology: send a packet, hear what came of it."""

    def __init__(self, host: FreshHost) -> None:
        sh(BUILD)
        for name in ("left", "right"):
            host.registered.add(f"/run/netns/{name}")
        self.sender = inside("/run/netns/left", lambda: self._open("l1"))
        self.receiver = inside("/run/netns/right", lambda: self._open("r1"))
        self.traces = Traces()

    @staticmethod
    def _open(link: str) -> socket.socket:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        sock.bind((link, 0))
        sock.setblocking(False)
        return sock

    def close(self) -> None:
        for one in (self.sender, self.receiver, self.traces):
            one.close()

    def send(self, packet: Packet) -> tuple[list[Traced], bytes]:
        """Send it; return the events of its way, and the frame that arrived on the right (empty for none)."""
        self.traces.read()
        self._arrived(packet)
        self.sender.send(frame(packet))
        events = self.traces.read(0.3)
        # The sender's softirq has done all of it; one more look for what another processor has.
        while more := self.traces.read(0.001):
            events += more
        return [one for one in events if one.table != "tracer"], self._arrived(packet)

    def _arrived(self, packet: Packet) -> bytes:
        found = b""
        while True:
            try:
                data = self.receiver.recv(2048)
            except BlockingIOError:
                return found
            if data[:6].hex(":") == R1_MAC and data[12:14] == (b"\x86\xdd" if packet.family == "ip6" else b"\x08\0"):
                found = found or data[14:]


def first(**fields: object) -> Packet:
    """A first packet from the left, with ports of its own."""
    family = str(fields.pop("family", "ip"))
    proto = str(fields.pop("proto", "tcp"))
    six = family == "ip6"
    packet = Packet(
        family, ip_address("fd01::2" if six else "10.1.0.2"), ip_address("fd02::2" if six else "10.2.0.2"), proto,
        iif="l0", ether_saddr=L1_MAC, ether_daddr=L0_MAC, ttl=64, uid=None,
    ).replace(**fields)  # fmt: skip
    if proto in ("tcp", "udp"):
        packet = packet.replace(sport=next(_ports) % 40000 + 20000 if packet.sport is None else packet.sport)
    else:
        packet = packet.replace(icmp_type=128 if six else 8, icmp_code=0, sport=next(_ports), flags=())
    return packet.replace(length=len(frame(packet)) - 14)


def frame(packet: Packet) -> bytes:
    """The packet on the wire."""
    body = transport(packet)
    if packet.family == "ip6":
        head = struct.pack(">IHBB", 6 << 28, len(body), PROTOS[packet.proto], packet.ttl or 64)
        head += packet.saddr.packed + packet.daddr.packed
        kind = b"\x86\xdd"
    else:
        head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 7, 0x4000, packet.ttl or 64, PROTOS[packet.proto], 0)
        head += packet.saddr.packed + packet.daddr.packed
        head = head[:10] + checksum(head) + head[12:]
        kind = b"\x08\0"
    return bytes.fromhex((L0_MAC + L1_MAC).replace(":", "")) + kind + head + body


def transport(packet: Packet) -> bytes:
    pseudo = packet.saddr.packed + packet.daddr.packed
    if packet.proto == "tcp":
        flags = 2 if packet.flags == ("syn",) else 16
        body = struct.pack(">HHIIBBHHH", packet.sport, packet.dport, 1, 0, 0x50, flags, 1000, 0, 0)
        place = 16
    elif packet.proto == "udp":
        body, place = struct.pack(">HHHH", packet.sport, packet.dport, 8, 0), 6
    else:
        body, place = struct.pack(">BBHHH", packet.icmp_type, 0, 0, packet.sport & 0xFFFF, 1), 2
        pseudo = b"" if packet.family == "ip" else pseudo
    if pseudo:
        pseudo += struct.pack(">II", len(body), PROTOS[packet.proto])
    return body[:place] + checksum(pseudo + body) + body[place + 2 :]


def checksum(data: bytes) -> bytes:
    total = sum(struct.unpack(f">{len(data + bytes(len(data) % 2)) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack(">H", ~total & 0xFFFF)


def foreseen(firewall: Firewall, packet: Packet) -> list[Outcome]:
    """What the evaluator says of each hook that the packet comes to."""
    around = Between()
    found = [hook(firewall, "prerouting", packet, around)]
    after = found[-1].packet
    if found[-1].verdict != "accept":
        return found
    if after.daddr in OWN:
        return [*found, hook(firewall, "input", after, around)]
    after = after.replace(oif=around.route(after.daddr) or "", ttl=(after.ttl or 64) - 1)
    found.append(hook(firewall, "forward", after, around))
    if found[-1].verdict == "accept":
        found.append(hook(firewall, "postrouting", found[-1].packet, around))
    return found


def rules_told(events: Iterable[Traced]) -> list[str]:
    """Rules and policies of the kernel's trace, in order."""
    return [
        f"{one.family} {one.table} {one.chain} {one.handle or one.verdict}" for one in events if one.kind != "return"
    ]


def rules_met(outcomes: Iterable[Outcome]) -> list[str]:
    """The same of the evaluator's answer."""
    return [_key(met) for outcome in outcomes for met in outcome.met if met.table != "tracer"]


def _key(met: Met) -> str:
    return f"{met.family} {met.table} {met.chain} {met.verdict if met.index < 0 else met.handle}"
