"""Topologies to reach through, the paths that must work, and packets that must not arrive.

      outside ── up0 ┐                       ┌ ns_br   175.18.0.0/24                 ns1 ns2           docker-bridge
                     host ── our bridges ────┤ lab     172.30.3.0/24 fd00:30:3::/64  six client        dual-stack
      beyond ── in0 ─┘                       │ other   172.30.8.0/24 fd00:30:8::/64  elsewhere         more
    (10.9.0.0/24, a stranger's network)      └ closed  172.30.9.0/24 fd00:30:9::/64  inner (internal)  more

Servers (echo.py) answer on 80/tcp and 53/udp with the source they see. What must not arrive is sent as raw packets,
whose source and destination can be anything, and listened for on port 9000 of everybody (`Ears`): no timeout per
packet, and no answer has to find its way back.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Self

from lab import HERE, HOST4, HOST6, OUTSIDE, OUTSIDE4, OUTSIDE6, Lab, eventually, hears, inside, sh

from nsbridge import files
from nsbridge.engine import topology
from nsbridge.model.endpoint import PublishedPort
from nsbridge.model.network import Network, Subnet
from nsbridge.model.service import Attachment, Service, Topology
from nsbridge.wiring import open_host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from lab import Reply

    from nsbridge.engine.host import Host

EXAMPLES = Path(__file__).parents[2] / "examples"
EAR = 9000
"""The UDP port on which everybody listens for what shouldn't come."""
BEYOND4, BEYOND6 = "10.9.0.2", "fd09::2"


def echo(name: str) -> tuple[str, ...]:
    return (sys.executable, "-I", str(HERE / "echo.py"), name, "http:80", "udp:53")


def speaking(found: Topology) -> Topology:
    """Let each service of an example answer with what it sees, on its published ports by UDP too."""
    changed = []
    for service in found.services:
        first = next((port.host_port for port in service.ports if port.host_ip is None), 0)
        more = (PublishedPort(53, first, "udp"), PublishedPort(EAR, first + 1000, "udp")) if first else ()
        if service.name in ("ns1", "six"):
            more += (PublishedPort(EAR, first + 2000, "udp", ip_address("127.0.0.1")),)
        changed.append(service.replace(command=echo(service.name), ports=(*service.ports, *more)))
    return found.replace(services=tuple(changed))


def _subnets(number: int) -> tuple[Subnet, ...]:
    return Subnet(ip_network(f"172.30.{number}.0/24")), Subnet(ip_network(f"fd00:30:{number}::/64"))


DOCKER = speaking(files.read(EXAMPLES / "docker-bridge.yaml"))
DUAL = speaking(files.read(EXAMPLES / "dual-stack.yaml"))
MORE = Topology(
    "more",
    (Network("other", _subnets(8), project="more"), Network("closed", _subnets(9), internal=True, project="more")),
    (
        Service("elsewhere", echo("elsewhere"), attachments=(Attachment("other"),), project="more"),
        Service("inner", echo("inner"), attachments=(Attachment("closed"),), project="more"),
    ),
)


@dataclass(frozen=True)
class Side:
    """One network seen in one family: its endpoints `one` (published at `port`) and `two`, and somebody elsewhere."""

    network: str
    version: int
    gateway: str
    one: tuple[str, str]
    two: tuple[str, str]
    elsewhere: str
    elsewhere_gateway: str
    port: int

    @property
    def host(self) -> str:
        return HOST4 if self.version == 4 else HOST6

    @property
    def outside(self) -> str:
        return OUTSIDE4 if self.version == 4 else OUTSIDE6


SIDES = (
    Side("ns_br", 4, "175.18.0.1", ("ns1", "175.18.0.2"), ("ns2", "175.18.0.3"), "172.30.8.2", "172.30.8.1", 8088),
    Side("lab", 4, "172.30.3.1", ("six", "172.30.3.10"), ("client", "172.30.3.128"), "172.30.8.2", "172.30.8.1", 8090),
    Side(
        "lab", 6, "fd00:30:3::1", ("six", "fd00:30:3::10"), ("client", "fd00:30:3::2"), "fd00:30:8::2",
        "fd00:30:8::1", 8090,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Path_:
    """A request that must be answered: from where, to what, by whom, and the source address the server must see."""

    what: str
    start: str | None
    to: str
    port: int
    server: str
    source: str


def paths(side: Side) -> Iterator[Path_]:
    """Every path of the main job, for one family of one network; port 0 stands for the server's own."""
    (one, one_ip), (two, two_ip) = side.one, side.two
    host, outside, gateway, port = side.host, side.outside, side.gateway, side.port
    yield Path_("neighbour", two, one_ip, 0, one, two_ip)
    yield Path_("neighbour, back", one, two_ip, 0, two, one_ip)
    yield Path_("the way out", one, outside, 0, "outside", host)
    yield Path_("published, from outside", OUTSIDE, host, port, one, outside)
    yield Path_("published, from the host", None, host, port, one, host)
    yield Path_("published, from the host by the gateway's address", None, gateway, port, one, gateway)
    yield Path_("directly from the host", None, one_ip, 0, one, gateway)
    yield Path_("hairpin by the host's address", one, host, port, one, gateway)
    yield Path_("hairpin by the gateway's address", one, gateway, port, one, gateway)
    yield Path_("neighbour's published port by the host's address", two, host, port, one, gateway)
    yield Path_("neighbour's published port by the gateway's address", two, gateway, port, one, gateway)
    yield Path_("another network, by the host's address", "elsewhere", host, port, one, side.elsewhere)
    yield Path_("another network, by its gateway", "elsewhere", side.elsewhere_gateway, port, one, side.elsewhere)
    yield Path_("S6: another host's port of the same number", one, outside, port, "outside", host)
    yield Path_("S6: the same from the host", None, outside, port, "outside", host)
    if side.version == 4:
        yield Path_("published, from the host by 127.0.0.1", None, "127.0.0.1", port, one, gateway)


def request(lab: Lab, proto: str, path: Path_, timeout_s: float = 3) -> Reply:
    if proto == "udp":
        return lab.udp(path.to, path.port or 53, path.start, timeout_s=timeout_s)
    shown = f"[{path.to}]" if ":" in path.to else path.to
    return lab.get(f"http://{shown}:{path.port or 80}/", path.start, timeout_s=timeout_s)


@contextmanager
def world(lab: Lab, *topologies: Topology) -> Iterator[Host]:
    """Bring the topologies up, with a server outside, wait until every service answers, and take them down again."""
    host = open_host()
    ports = [f"{proto}:{side.port}" for side in SIDES[:2] for proto in ("http", "udp")]
    lab.serve("outside", "http:80", "udp:53", *ports, ns=OUTSIDE)
    try:
        for one in topologies:
            topology.up(host, one)
        for one in topologies:
            for service in one.services:
                assert eventually(lambda name=service.name: lab.get("http://127.0.0.1:80/", name)), service.name
        yield host
    finally:
        for one in reversed(topologies):
            topology.down(host, one.project, grace_s=0.5)


def around(lab: Lab) -> None:
    """Make a host that checks no addresses by itself, a stranger's network, and outside's routes to all of them."""
    lab.host.netns("beyond")
    sh(f"""set -e
    for name in all default up0; do echo 0 > /proc/sys/net/ipv4/conf/$name/rp_filter; done
    echo 1 > /proc/sys/net/ipv4/conf/up0/route_localnet
    ip link add in0 type veth peer name eth0 netns beyond
    echo 0 > /proc/sys/net/ipv6/conf/in0/accept_dad
    ip netns exec beyond sh -c 'echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad'
    ip address add 10.9.0.1/24 dev in0
    ip address add fd09::1/64 dev in0 nodad
    ip link set in0 up
    ip -n beyond address add {BEYOND4}/24 dev eth0
    ip -n beyond address add {BEYOND6}/64 dev eth0 nodad
    ip -n beyond link set eth0 up
    ip -n beyond route add default via 10.9.0.1
    ip -n beyond -6 route add default via fd09::1
    for net in 175.18.0.0/24 172.30.0.0/16 10.9.0.0/24; do ip -n {OUTSIDE} route add $net via {HOST4}; done
    for net in fd00:30::/32 fd09::/64; do ip -n {OUTSIDE} -6 route add $net via {HOST6}; done""")
    assert eventually(lambda: hears("in0") and hears("eth0", lab.ns("beyond")))


# ------------------------------------------------------------------ what must not arrive


def _sum(data: bytes) -> int:
    """The internet checksum (RFC 1071)."""
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def datagram(source: str, to: str, source_port: int, port: int, said: bytes) -> bytes:
    """An IP packet with a UDP datagram, from whoever it claims to be from."""
    src, dst = ip_address(source).packed, ip_address(to).packed
    udp = struct.pack("!HHHH", source_port, port, 8 + len(said), 0)
    check = _sum(src + dst + struct.pack("!I", 8 + len(said)) + b"\0\0\0\x11" + udp + said) or 0xFFFF
    udp = udp[:6] + struct.pack("!H", check) + said
    if len(src) == 4:
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, src, dst)
        return head[:10] + struct.pack("!H", _sum(head)) + head[12:] + udp
    return struct.pack("!IHBB16s16s", 6 << 28, len(udp), 17, 64, src, dst) + udp


@dataclass(frozen=True)
class Attack:
    """A packet that must not arrive.

    start: the namespace that sends it to the host. heard: where it would be heard (None: the host). rules: words of
    the rules of ours that stop it, each alone enough when all others are gone.
    """

    what: str
    start: str
    source: str
    to: str
    port: int
    heard: str | None
    rules: tuple[str, ...]


WIRE = "S1: loopback addresses never come by wire"
FROM_LOOPBACK = "S1: nor does anything sent from one"
SOURCE = "an endpoint's source address comes only from its own bridge"
GATEWAY = "S4: a gateway answers only its own network and the host"
DIRECT = "S3, S9: unpublished ports, and other networks"
NO_WAY_OUT = "S10: no way out of an internal network"
NO_WAY_IN = "S10: no way into an internal network"
STRANGERS = "S13: we turned forwarding on, so the host stays no router for others"


def attacks() -> Iterator[Attack]:
    for side in SIDES:
        (one, one_ip), (two, two_ip) = side.one, side.two
        v4 = side.version == 4
        inner = "172.30.9.2" if v4 else "fd00:30:9::2"
        beyond = BEYOND4 if v4 else BEYOND6
        outside, net = side.outside, f"{side.network}/{side.version}"
        if v4:
            yield Attack(f"{net}: neighbour to 127.0.0.1", one, one_ip, "127.0.0.1", EAR + 1, None, (WIRE,))
            yield Attack(f"{net}: neighbour from 127.0.0.2", one, "127.0.0.2", side.gateway, EAR, None,
                         (FROM_LOOPBACK,))  # fmt: skip
            yield Attack(f"{net}: outside to a port published on 127.0.0.1", OUTSIDE, outside, "127.0.0.1",
                         side.port + 2000, one, (WIRE,))  # fmt: skip
            yield Attack(f"{net}: outside to 127.0.0.1", OUTSIDE, outside, "127.0.0.1", EAR + 1, None, (WIRE,))
        else:
            yield Attack(f"{net}: neighbour to ::1", one, one_ip, "::1", EAR, None, ())
        yield Attack(f"{net}: outside to an endpoint", OUTSIDE, outside, one_ip, EAR, one, (DIRECT,))
        yield Attack(f"{net}: outside to an endpoint without ports", OUTSIDE, outside, two_ip, EAR, two, (DIRECT,))
        yield Attack(f"{net}: a stranger to an endpoint", "beyond", beyond, one_ip, EAR, one, (DIRECT,))
        yield Attack(f"{net}: another network", "elsewhere", side.elsewhere, one_ip, EAR, one, (DIRECT,))
        yield Attack(f"{net}: outside to the gateway", OUTSIDE, outside, side.gateway, EAR, None, (GATEWAY,))
        yield Attack(f"{net}: another network to the gateway", "elsewhere", side.elsewhere, side.gateway, EAR, None,
                     (GATEWAY,))  # fmt: skip
        yield Attack(f"{net}: outside as an endpoint to a published port", OUTSIDE, two_ip, side.host,
                     side.port + 1000, one, (SOURCE,))  # fmt: skip
        yield Attack(f"{net}: outside as an endpoint to the host", OUTSIDE, two_ip, side.host, EAR, None, (SOURCE,))
        yield Attack(f"{net}: another network as an endpoint", "elsewhere", two_ip, side.host, side.port + 1000, one,
                     (SOURCE,))  # fmt: skip
        yield Attack(f"{net}: a way out of an internal network", "inner", inner, outside, EAR, OUTSIDE, (NO_WAY_OUT,))
        yield Attack(f"{net}: published port, from an internal network", "inner", inner, side.host, side.port + 1000,
                     one, (NO_WAY_OUT,))  # fmt: skip
        yield Attack(f"{net}: from an internal network", "inner", inner, one_ip, EAR, one, (NO_WAY_OUT, DIRECT))
        yield Attack(f"{net}: into an internal network", OUTSIDE, outside, inner, EAR, "inner", (NO_WAY_IN, DIRECT))
        yield Attack(f"{net}: to an internal network", one, one_ip, inner, EAR, "inner", (NO_WAY_IN, DIRECT))
        yield Attack(f"{net}: between strangers", OUTSIDE, outside, beyond, EAR, "beyond", (STRANGERS,))
        yield Attack(f"{net}: between strangers, back", "beyond", beyond, outside, EAR, OUTSIDE, (STRANGERS,))


LISTENERS = (None, OUTSIDE, "beyond", "ns1", "ns2", "six", "client", "elsewhere", "inner")


class Ears:
    """Sockets that hear what comes to port 9000 of every namespace (and 9001 of 127.0.0.1), and remember from whom."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._socks: dict[str | None, list[socket.socket]] = {}
        self._count = 0
        for name in LISTENERS:
            self._socks[name] = [self._inside(name, lambda: _bound("::", EAR))]
        self._socks[None].append(self._inside(None, lambda: _bound("127.0.0.1", EAR + 1)))
        macs = {
            link["ifname"]: bytes.fromhex(link["address"].replace(":", "")) for link in json.loads(sh("ip -j link").out)
        }
        self._macs = {OUTSIDE: macs["up0"], "beyond": macs["in0"]}
        for one in (DOCKER, DUAL, MORE):
            bridges = {network.name: network.ifname for network in one.networks}
            for service in one.services:
                self._macs[service.name] = macs[bridges[service.attachments[0].network]]

    def _inside(self, name: str | None, work: Callable[[], socket.socket]) -> socket.socket:
        return inside(name and self._lab.ns(name), work)

    def send(self, attack: Attack) -> bytes:
        """Send the packet to the host as the sender's next hop, from a port of its own; return what it says."""
        self._count += 1
        said = f"{attack.what} #{self._count}".encode()
        packet = datagram(attack.source, attack.to, 20000 + self._count, attack.port, said)
        proto = 0x0800 if packet[0] >> 4 == 4 else 0x86DD

        def out() -> socket.socket:
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
            sock.sendto(packet, ("eth0", proto, 0, 0, self._macs[attack.start]))
            return sock

        self._inside(attack.start, out).close()
        return said

    def heard(self) -> dict[bytes, tuple[str | None, str]]:
        """Return what was heard so far: what it said, where, and the source address it had there."""
        found = {}
        for name, socks in self._socks.items():
            for sock in socks:
                while True:
                    try:
                        said, peer = sock.recvfrom(4096)
                    except BlockingIOError:
                        break
                    found[said] = (name, peer[0].removeprefix("::ffff:"))
        return found

    def arriving(self, sent: Iterable[Attack], *, expected: int = 0) -> dict[str, tuple[str | None, str]]:
        """Send packets and return which were heard, by their names, where and with which source.

        Listens until as many as expected were heard, at most 3 s. When none is expected 0.15 s are enough: within one
        machine a packet has arrived when send() returns, unless it waits for a neighbour's address, and `world` has
        made everybody known to the host.
        """
        told = {self.send(attack): attack.what for attack in sent}
        deadline = time.monotonic() + (3 if expected else 0.15)
        found: dict[str, tuple[str | None, str]] = {}
        while time.monotonic() < deadline and (len(found) < expected or not expected):
            found |= {told[said]: where for said, where in self.heard().items() if said in told}
            time.sleep(0.02)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for socks in self._socks.values():
            for sock in socks:
                sock.close()


def _bound(address: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    if ":" in address:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.setblocking(False)
    sock.bind((address, port))
    return sock
