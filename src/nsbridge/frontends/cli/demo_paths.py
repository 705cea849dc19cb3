"""The paths of the demo's lab: who asks whom, through which address, and what should come of it."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address

from nsbridge.api.endpoint import Endpoint
from nsbridge.api.topology import Lab
from nsbridge.kernel import netns, playground
from nsbridge.kernel.playground import HOST_ADDRESS, OUTSIDE, OUTSIDE_ADDRESS

ANSWER_S, SILENCE_S = 3.0, 0.5
"""Seconds to wait for an answer that should come, and for one that shouldn't."""

DROPPED = ""
LOCALHOST = IPv4Address("127.0.0.1")
BY_NAME = """import socket, sys
with socket.create_connection((sys.argv[1], 80), 3) as sock:
    sock.sendall(f"GET {sys.argv[2]} HTTP/1.0\\r\\n\\r\\n".encode())
    print(sock.recv(99).decode("latin-1"))"""


@dataclass(frozen=True)
class Asked:
    """One path and what came of it.

    origin, to: who asks whom. through: the address asked. expected: the source address that the server should see;
    `DROPPED` when nothing may arrive. source: what it saw. answered: whether an answer came back.
    """

    origin: str
    to: str
    through: str
    expected: str
    source: str
    answered: bool

    @property
    def ok(self) -> bool:
        """Whether it is as it should be."""
        return self.answered == (self.expected != DROPPED) and self.source == self.expected

    @property
    def result(self) -> str:
        """In words."""
        if self.answered:
            wrong = f"answered, but the source should be {self.expected}" if self.expected else "arrived, but mustn't"
            return "answered" if self.ok else wrong
        return "dropped, as it should be" if self.ok else "no answer"


class Outsider:
    """A web server outside that remembers who asked for what."""

    def __init__(self) -> None:
        self.seen: dict[str, str] = {}
        self._listener = netns.inside(OUTSIDE, lambda: socket.create_server((str(OUTSIDE_ADDRESS), 80)))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            client, address = self._listener.accept()
            with client:
                client.settimeout(ANSWER_S)
                words = client.recv(4096).decode("latin-1").split()
                self.seen[words[1]] = address[0]
                client.sendall(b"HTTP/1.0 200 OK\r\n\r\n")


class Asking:
    """Asks along every path of the lab, one after the other."""

    def __init__(self, lab: Lab, outsider: Outsider) -> None:
        self._one, self._two = lab["ns1"], lab["ns2"]
        self._lab = lab
        self._outsider = outsider
        self._count = 0

    def wait(self) -> None:
        """Wait until both web servers listen. TimeoutError."""
        deadline = time.monotonic() + 15
        for service in (self._one, self._two):
            while not service.inside(lambda: fetch("127.0.0.1", 80, "/ready", ANSWER_S)):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"the web server of {service.name} doesn't listen")
                time.sleep(0.02)

    def paths(self) -> list[Callable[[], Asked]]:
        """Return the paths, each as a function that goes along it."""
        one, two, host = self._one, self._two, str(HOST_ADDRESS)
        first, second, gateway = str(one.address), str(two.address), "175.18.0.1"
        rows: list[tuple[str, str, str, int, str]] = [
            ("ns1", "ns2", second, 80, first),
            ("ns1", "outside", str(OUTSIDE_ADDRESS), 80, host),
            ("outside", "ns1", host, 8088, str(OUTSIDE_ADDRESS)),
            ("outside", "ns2", host, 8089, str(OUTSIDE_ADDRESS)),
            ("host", "ns1", host, 8088, host),
            ("host", "ns1", "127.0.0.1", 8088, gateway),
            ("host", "ns2", "127.0.0.1", 8089, gateway),
            ("ns1", "ns1", host, 8088, gateway),
            ("ns2", "ns1", host, 8088, gateway),
            ("outside", "ns1", first, 80, DROPPED),
        ]
        asked = [lambda row=row: self._http(*row) for row in rows]
        return [lambda: self._ping(gateway), asked[0], self._by_name, *asked[1:], self._spoofed]

    def _http(self, origin: str, to: str, address: str, port: int, expected: str) -> Asked:
        path = self._path()
        patience = ANSWER_S if expected else SILENCE_S
        home = {"ns1": self._one.netns, "ns2": self._two.netns, "outside": OUTSIDE, "host": ""}[origin]
        answered = netns.inside(home, lambda: fetch(address, port, path, patience))
        return Asked(origin, to, f"{address}:{port}", expected, self._source(to, path, answered), answered)

    def _by_name(self) -> Asked:
        path = self._path()
        done = self._two.run([sys.executable, "-IS", "-c", BY_NAME, "ns1", path], capture_output=True)
        answered = done.stdout.startswith("HTTP/1.")
        return Asked("ns2", "ns1", "ns1:80", str(self._two.address), self._source("ns1", path, answered), answered)

    def _ping(self, gateway: str) -> Asked:
        answered = self._one.inside(lambda: playground.ping(IPv4Address(gateway)))
        # An echo reply goes to the source that was seen, so that one was right if it came.
        source = str(self._one.address)
        return Asked("ns1", "host", f"{gateway} (ping)", source, source if answered else "", answered)

    def _spoofed(self) -> Asked:
        """A packet for 127.0.0.1 put on the wire by a neighbour (CVE-2020-8558); one for the host proves the method."""
        answered = netns.inside(OUTSIDE, lambda: playground.knock(LOCALHOST, 8088))
        heard = netns.inside(OUTSIDE, lambda: playground.knock(HOST_ADDRESS, 8088, ANSWER_S))
        through = "127.0.0.1:8088 (forged)"
        if not heard:
            return Asked("outside", "ns1", f"{through}, can't tell", DROPPED, "?", answered)
        return Asked("outside", "ns1", through, DROPPED, str(OUTSIDE_ADDRESS) if answered else "", answered)

    def _path(self) -> str:
        self._count += 1
        return f"/?{self._count}"

    def _source(self, to: str, path: str, answered: bool) -> str:
        """Return whom the server saw asking for this path, "" when nothing arrived."""
        if to == "outside":
            return self._outsider.seen.get(path, "")
        deadline = time.monotonic() + (1.0 if answered else 0.0)
        while True:
            for line in self._lab.command(to).logs().splitlines():
                if f'"GET {path} ' in line:
                    return line.split()[0]
            if time.monotonic() >= deadline:
                return ""
            time.sleep(0.01)


def fetch(address: str, port: int, path: str, patience_s: float) -> bool:
    """Ask a web server for a path; tell whether it answered. In the calling thread's namespace."""
    try:
        with socket.create_connection((address, port), patience_s) as sock:
            sock.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            return sock.recv(99).startswith(b"HTTP/1.")
    except OSError:
        return False


def service_rows(lab: Lab) -> list[dict[str, object]]:
    """Return what runs, for people and programs."""

    def row(endpoint: Endpoint) -> dict[str, object]:
        command = lab.command(endpoint.name)
        return {
            "name": endpoint.name,
            "state": "running" if command.running else "exited",
            "network": endpoint.network,
            "address": str(endpoint.address),
            "namespace": endpoint.netns,
            "ports": [str(port) for port in endpoint.ports],
        }

    return [row(endpoint) for endpoint in lab]
