"""What becomes of connections between everybody in a layout, at once: who hears them, and from which address.

Everybody (each endpoint, the host, outside) tries every endpoint's address and every published port by every address of
the host, with TCP and UDP. All of them wait together, so what is dropped costs no time of its own.
"""

from __future__ import annotations

import contextlib
import socket
import time
from itertools import product
from typing import TYPE_CHECKING, TypeAlias

from lab import HOST4, HOST6, OUTSIDE, inside

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lab import Lab

    from nsbridge.engine.layout import Layout

    Fates: TypeAlias = dict[tuple[str, str], str]
    """By who tried what: who heard it from where, or what the kernel said."""

EAR = 9000
WAIT_S = 0.5
KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


def fates(lab: Lab, layout: Layout) -> Fates:
    """Try everything, and return what became of it."""
    places = {"host": None, OUTSIDE: lab.ns(OUTSIDE)} | {one.name: one.netns for one in layout.endpoints}
    ears = _listening(places, layout)
    targets = sorted(_targets(layout))
    found: Fates = {}
    try:
        for name, netns in places.items():
            inside(netns, lambda name=name: found.update(_try(name, targets)))
        time.sleep(0.1)
        for name, sock in ears:
            for said, source in _heard(sock):
                found[name_and_target(said)] = f"{name} heard {source}"
    finally:
        for _, sock in ears:
            sock.close()
    return found


def name_and_target(said: str) -> tuple[str, str]:
    name, _, target = said.partition(" to ")
    return name, target


def _targets(layout: Layout) -> set[tuple[str, str, int]]:
    addresses = [str(address.ip) for one in layout.endpoints for address in one.addresses]
    gateways = [str(subnet.gateway) for network in layout.networks for subnet in network.subnets if subnet.gateway]
    ports = {
        (port.proto, port.host_port + number)
        for one in layout.endpoints
        for port in one.ports
        for number in range(min(port.count, 2))
    }
    found = {(proto, address, EAR) for proto, address in product(KINDS, addresses)}
    return found | {(proto, to, port) for (proto, port), to in product(ports, [HOST4, HOST6, "127.0.0.1", *gateways])}


def _listening(places: dict[str, str | None], layout: Layout) -> list[tuple[str, socket.socket]]:
    """Sockets on every port that anybody could get to."""
    found = []
    ports = {EAR} | {
        port.target + number for one in layout.endpoints for port in one.ports for number in range(min(port.count, 2))
    }
    for (name, netns), kind, port in product(places.items(), KINDS.values(), sorted(ports)):
        if name not in ("host", OUTSIDE) or port == EAR:
            found.append((name, inside(netns, lambda kind=kind, port=port: _ear(kind, port))))
    return found


def _ear(kind: int, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6, kind)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.setblocking(False)
    sock.bind(("::", port))
    if kind == socket.SOCK_STREAM:
        sock.listen(100)
    return sock


def _try(name: str, targets: Iterable[tuple[str, str, int]]) -> Fates:
    """Say everything everywhere, wait once, and close."""
    found: Fates = {}
    begun = []
    for proto, to, port in targets:
        target = f"{proto} {to} {port}"
        sock = socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, KINDS[proto])
        sock.setblocking(False)
        code = sock.connect_ex((to, port))
        begun.append((target, sock, code))
        if proto == "udp" and not code:
            _say(sock, f"{name} to {target}")
    time.sleep(WAIT_S)
    for target, sock, code in begun:
        with sock:
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            found[name, target] = f"errno {error}" if error else "nothing" if code in (0, 115) else f"errno {code}"
            if target.startswith("tcp") and not error:
                _say(sock, f"{name} to {target}")
    return found


def _say(sock: socket.socket, said: str) -> None:
    with contextlib.suppress(OSError):
        sock.send(said.encode())


def _heard(sock: socket.socket) -> list[tuple[str, str]]:
    found = []
    while True:
        try:
            if sock.type == socket.SOCK_DGRAM:
                said, peer = sock.recvfrom(4096)
            else:
                one, peer = sock.accept()
                with one:
                    one.settimeout(0.2)
                    said = one.recv(4096)
        except (BlockingIOError, TimeoutError, ConnectionError):
            return found
        if said:
            found.append((said.decode(), peer[0].removeprefix("::ffff:")))
