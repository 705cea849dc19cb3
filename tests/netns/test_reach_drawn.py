"""Reachability as a whole, drawn at random: real packets along every path of a world, against what the pages promise.

A world is a few hundred requests, all under way at once. `make test` tries the same few worlds each time;
`make fuzz-reach` others, as many as it is told (EXAMPLES, SEED).
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

import pytest
from drawn import (
    ADDRESS,
    BEYOND,
    BEYOND4,
    BEYOND6,
    GATEWAY,
    IN4,
    IN6,
    NETWORK,
    OWN,
    SECOND4,
    SECOND6,
    SERVED,
    UPLINK,
    Port,
    World,
    asks,
    forgeries,
    promised,
    served,
    worlds,
)
from hypothesis import HealthCheck, Phase, given, seed, settings
from lab import HOST4, HOST6, OUTSIDE, FreshHost, Lab, eventually, hears, inside, sh
from reach import datagram

from nsbridge.engine import endpoints, networks
from nsbridge.engine.endpoints import Wish
from nsbridge.model.endpoint import PublishedPort
from nsbridge.model.network import Network, Subnet
from nsbridge.model.service import Attachment
from nsbridge.wiring import open_host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from drawn import Ask, Forged

pytestmark = pytest.mark.netns

EXAMPLES = int(os.environ.get("EXAMPLES", "14"))
SEED = os.environ.get("SEED", "")
PATIENCE_S, SILENCE_S = 2.0, 0.12
"""How long an answer that must come may take; how long one that mustn't is waited for after the last that must."""


# ------------------------------------------------------------------ servers and clients


class Servers:
    """Sockets in many namespaces, served by one thread: each answers with its name and whom it saw.

    heard: which datagrams were, each with who heard it and whom it saw.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._end = False
        self.forged: set[bytes] = set()
        self.heard: dict[bytes, tuple[str, str, int]] = {}
        self._thread = threading.Thread(target=self._serve)

    def add(self, name: str, ns: str | None, kind: int, address: str, port: int) -> None:
        def bound() -> socket.socket:
            sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
            if address == "::":
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address, port))
            sock.setblocking(False)
            if kind == socket.SOCK_STREAM:
                sock.listen(256)
            return sock

        self._selector.register(inside(ns, bound), selectors.EVENT_READ, name)

    def _serve(self) -> None:
        while not self._end:
            for key, _ in self._selector.select(0.05):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                with suppress(OSError):
                    if sock.type == socket.SOCK_STREAM:
                        client, peer = sock.accept()
                        with client:
                            client.sendall(json.dumps([key.data, plain(peer[0]), peer[1]]).encode())
                    else:
                        said, peer = sock.recvfrom(100)
                        if said.startswith(FORGED):
                            self.forged.add(said)
                            continue
                        self.heard[said] = (key.data, plain(peer[0]), peer[1])
                        sock.sendto(json.dumps(self.heard[said]).encode(), peer)

    def __enter__(self) -> Servers:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end = True
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()


FORGED = b"forged "


def forge(lab: Lab, world: World) -> dict[bytes, Forged]:
    """Send all that can't be true; return it by what it says."""
    ways = {OUTSIDE: "up0", BEYOND: "in0", "near": "nsb-near", "far": "nsb-far"}
    links = {link["ifname"]: link["address"] for link in json.loads(sh("ip -j link").out)}
    macs = {start: bytes.fromhex(links[link].replace(":", "")) for start, link in ways.items()}
    by_start: dict[str, list[tuple[int, bytes, Forged]]] = {}
    told = {}
    for number, one in enumerate(forgeries(world)):
        said = FORGED + str(number).encode()
        told[said] = one
        packet = datagram(one.source, one.to, 20000 + number, one.port, said)
        by_start.setdefault(one.start, []).append((0x86DD if ":" in one.to else 0x0800, packet, one))

    def out(packets: list[tuple[int, bytes, Forged]]) -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as sock:
            for proto, packet, one in packets:
                sock.sendto(packet, ("eth0", proto, 0, 0, macs[NETWORK.get(one.start, one.start)]))

    for start, packets in by_start.items():
        inside(lab.ns(start), lambda packets=packets: out(packets))  # type: ignore[misc]
    return told


def plain(address: str) -> str:
    return address.removeprefix("::ffff:")


def begin(ask: Ask) -> socket.socket | None:
    """Send a request without waiting; None if it can't even be sent. Called in the namespace of its start."""
    kind = socket.SOCK_STREAM if ask.proto == "tcp" else socket.SOCK_DGRAM
    sock = socket.socket(socket.AF_INET6 if ask.version == 6 else socket.AF_INET, kind)
    sock.setblocking(False)
    try:
        with suppress(BlockingIOError):
            sock.connect((ask.to, ask.port))
        if ask.proto == "udp":
            sock.send(b"hello")
    except OSError:
        sock.close()
        return None
    return sock


def answers(
    lab: Lab, asked: Iterable[Ask], expected: Callable[[Ask], bool], patience_s: float
) -> dict[Ask, tuple[str, str]]:
    """Send all requests at once; return who answered which, and whom it saw."""
    found: dict[Ask, tuple[str, str]] = {}
    by_start: dict[str | None, list[Ask]] = {}
    for ask in asked:
        by_start.setdefault(ask.start, []).append(ask)
    missing = set()
    with selectors.DefaultSelector() as selector, ExitStack() as stack:
        for start, mine in by_start.items():
            socks = inside(start and lab.ns(start), lambda mine=mine: [(ask, begin(ask)) for ask in mine])  # type: ignore[misc]
            for ask, sock in socks:
                if sock is not None:
                    stack.enter_context(sock)
                    selector.register(sock, selectors.EVENT_READ, ask)
                    if expected(ask):
                        missing.add(ask)
        deadline = time.monotonic() + patience_s
        quiet = time.monotonic() + SILENCE_S
        while selector.get_map() and time.monotonic() < (deadline if missing else quiet):
            for key, _ in selector.select(0.02):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                try:
                    said = sock.recv(1000)
                    if said:
                        server, source, _ = json.loads(said)
                        found[key.data] = (server, source)
                except OSError:
                    pass
                selector.unregister(sock)
                missing.discard(key.data)
                quiet = time.monotonic() + SILENCE_S
    return found


# ------------------------------------------------------------------ worlds for real


SURROUNDINGS = f"""set -e
for name in all default up0; do echo RP > /proc/sys/net/ipv4/conf/$name/rp_filter; done
sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.default.dad_transmits=0
ip addr add {SECOND4}/24 dev up0
ip addr add {SECOND6}/64 dev up0 nodad preferred_lft 0
ip netns exec {BEYOND} sysctl -qw net.ipv6.conf.default.accept_dad=0
ip link add in0 type veth peer name eth0 netns {BEYOND}
ip addr add {IN4}/24 dev in0
ip addr add {IN6}/64 dev in0 nodad
ip link set in0 up
ip -n {BEYOND} addr add {BEYOND4}/24 dev eth0
ip -n {BEYOND} addr add {BEYOND6}/64 dev eth0 nodad
ip -n {BEYOND} link set eth0 up
ip -n {BEYOND} route add default via {IN4}
ip -n {BEYOND} -6 route add default via {IN6}
for net in 10.60.0.0/15 10.9.0.0/24; do ip -n {OUTSIDE} route add $net via {HOST4}; done
for net in fd60::/15 fd09::/64; do ip -n {OUTSIDE} -6 route add $net via {HOST6}; done
sysctl -qw net.ipv4.ip_forward=ROUTER net.ipv6.conf.all.forwarding=ROUTER
"""


def published(port: Port) -> PublishedPort:
    address = ip_address(port.where) if port.where and port.where != "up0" else None
    return PublishedPort(
        port.target,
        port.host,
        port.proto,  # type: ignore[arg-type]
        address,
        interface="up0" if port.where == "up0" else "",
        count=port.count,
        share=len(port.owners) > 1,
    )


@contextmanager
def real(world: World) -> Iterator[tuple[Lab, Servers]]:
    """The world in a fresh host, with servers everywhere; nothing of ours is left behind."""
    with FreshHost() as fresh, Lab(fresh, world.firewall) as lab:
        lab.ns(BEYOND)
        sh(SURROUNDINGS.replace("RP", str(world.rp_filter)).replace("ROUTER", str(int(world.router))))
        host = open_host()
        near = Network(
            "near",
            tuple(Subnet(ip_network({4: "10.60.0.0/24", 6: "fd60::/64"}[version])) for version in world.versions),
            internal=world.internal,
            icc=world.icc,
            masquerade=world.masquerade,
            sources=tuple(
                ip_address(UPLINK[version][1])
                for version in world.versions
                if world.fixed and world.mode("near", version) != "routed"
            ),
            gateway_mode4=world.mode4,
            gateway_mode6=world.mode6,
            trusted=("up0",) if world.trusted else (),
        )
        far = Network("far", (Subnet(ip_network("10.61.0.0/24")), Subnet(ip_network("fd61::/64"))))
        with Servers() as servers:
            for network in (near, far):
                networks.create(host, network)
            sh(f"for family in ip ip6; do sysctl -qw net.bridge.bridge-nf-call-${{family}}tables={world.bridged}; done")
            for name, network_name in NETWORK.items():
                given = {
                    f"ipv{version}": ip_address(ADDRESS[name][version]) for version in world.families(network_name)
                }
                endpoints.connect(host, Wish(name, lab.ns(name), Attachment(network_name, **given)))  # type: ignore[arg-type]
            for port in world.ports:
                for name in port.owners:
                    endpoints.publish(host, name, (published(port),))
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                for name in ADDRESS:
                    for number in served(world, name):
                        servers.add(name, lab.ns(name), kind, "::", number)
                for address in here(world):
                    servers.add("host", None, kind, address, OWN)
            yield lab, servers
            for name in NETWORK:
                endpoints.disconnect(host, NETWORK[name], name)
            for network in (near, far):
                networks.remove(host, network.name)
        assert "nsbridge" not in sh("nft list ruleset; iptables-legacy-save; ip6tables-legacy-save").out


def here(world: World) -> list[str]:
    """The host's own addresses. A server has a socket for each, so that it answers from where it was asked."""
    found = ["127.0.0.1", "::1", *UPLINK[4], *UPLINK[6], *GATEWAY["far"].values()]
    return found + [GATEWAY["near"][v] for v in world.versions if world.mode("near", v) != "isolated"]


def wrong(world: World, spoilt: str = "") -> list[str]:
    """Build a world, ask everything, and say what didn't come out as promised. spoilt: what a shell then does to it."""
    with real(world) as (lab, servers):
        sh(spoilt)
        assert eventually(lambda: hears("in0") and hears("eth0", lab.ns(BEYOND)))
        promises = {ask: promised(world, ask) for ask in asks(world)}
        found = answers(lab, promises, lambda ask: bool(promises[ask]), 0.5)

        def unkept() -> dict[Ask, tuple[str, str] | None]:
            return {
                ask: found.get(ask)
                for ask, either in promises.items()
                if (found[ask] not in either if ask in found else either)
            }

        if again := unkept():  # a busy machine, or the first packet to somebody: ask those once more, with patience
            for ask in again:
                found.pop(ask, None)
            found |= answers(lab, again, lambda ask: bool(promises[ask]), PATIENCE_S)
        forged = forge(lab, world)
        time.sleep(0.1)  # within one machine a packet has arrived when send() returns, once its receiver is known
        believed = [f"{one} was heard" for said, one in forged.items() if said in servers.forged]
        COUNTED["forgeries"] += len(forged)
        return believed + [
            f"{ask.start or 'host'} asks {ask.to} {ask.port}/{ask.proto}: "
            f"promised {sorted(promises[ask]) or 'nothing'}, got {got or 'nothing'}"
            for ask, got in unkept().items()
        ]


COUNTED = {"worlds": 0, "requests": 0, "forgeries": 0}


@pytest.mark.proves(
    "S1", "S2", "S3", "S4", "S5", "S6", "S9", "S10", "S13", "S16", "S17", "S29", "row 13", "row 17", "row 26"
)
@pytest.mark.proves(
    "row 27", "row 28", "row 29", "row 32", "row 34", "row 35", "row 36", "row 40", "row 42", "row 43", "row 44"
)
@pytest.mark.proves("row 45", "row 46", "row 49", "row 50", "row 51", "row 55", "row 71")
def test_every_request_meets_the_fate_that_the_pages_promise() -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=not SEED,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(world=worlds())
    def kept(world: World) -> None:
        COUNTED["worlds"] += 1
        COUNTED["requests"] += sum(1 for _ in asks(world))
        assert not (unkept := wrong(world)), "\n".join(unkept)

    begun = time.monotonic()
    try:
        (seed(int(SEED))(kept) if SEED else kept)()
    finally:
        counted = ", ".join(f"{count} {what}" for what, count in COUNTED.items())
        print(f"{counted}, {time.monotonic() - begun:.0f} s")


USUAL = World(
    firewall="none", bridged=0, rp_filter=0, router=False, versions=(4, 6), mode4="nat", mode6="nat", internal=False,
    icc=True, masquerade=True, fixed=False, trusted=False, ports=(Port(("one",), "udp", "", 8000, SERVED),),
)  # fmt: skip


@pytest.mark.parametrize(
    ("chains", "said"),
    [
        ("inet nsbridge guard;bridge nsbridge senders", "Forged(start='outside'"),
        ("inet nsbridge forwarding", "other asks 10.60.0.2 80/tcp: promised nothing, got ('one', '10.61.0.2')"),
        ("inet nsbridge sources", "one asks 198.51.100.1 8000/udp: promised [('one', '10.60.0.1')], got nothing"),
    ],
)
def test_it_would_notice(chains: str, said: str) -> None:
    spoilt = "; ".join(f"nft flush chain {chain}" for chain in chains.split(";"))
    assert [one for one in wrong(USUAL, spoilt) if one.startswith(said)]
