"""Small worlds to send packets through, and the programs that send them."""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from bench.peers import STATE, run
from nsbridge.kernel import netns

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

HERE = Path(__file__).parent
CONTAINER, CONTAINER_2 = "172.29.255.1", "172.29.255.2"
HOST, OUTSIDE = "198.18.0.1", "198.18.0.2"
NET = "172.29.0.0/16"


def place(name: str) -> str:
    """Path of a namespace."""
    return f"/run/netns/{name}"


def within(name: str, action: Callable[[], T]) -> T:
    """Do something inside a namespace; programs started there run there. "" is the host that we play with."""
    return netns.inside(place(name) if name else "", action)


def sh(name: str, script: str, text: str = "", *, check: bool = True) -> str:
    """Run a shell script inside a namespace."""
    try:
        return within(name, lambda: run("sh", "-ec", script, text=text))
    except RuntimeError:
        if check:
            raise
        return ""


class Background:
    """Programs that run until the block ends."""

    def __init__(self) -> None:
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Background:
        return self

    def start(self, name: str, *argv: str) -> int:
        """Start one inside a namespace; return its pid."""
        quiet = subprocess.DEVNULL
        child = within(name, lambda: subprocess.Popen(argv, stdout=quiet, stderr=quiet, stdin=quiet))
        self._running.append(child)
        return child.pid

    def __exit__(self, *_: object) -> None:
        for child in self._running:
            child.kill()
            child.wait()


def connector() -> str:
    """Return the program that connects and accepts, compiled from connect.c; "" without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        return ""
    os.makedirs(STATE, exist_ok=True)
    target = f"{STATE}/connect"
    if not os.path.exists(target):
        run(compiler, "-O2", "-o", target, str(HERE / "connect.c"))
    return target


def connects(program: str, name: str, address: str, port: int, count: int, flying: int) -> tuple[float, float, float]:
    """Connect `count` times from a namespace, so many at once; return (a second, p50 us, p99 us). Failures raise."""
    out = within(name, lambda: run(program, "client", address, str(port), str(count), str(flying))).split()
    if out[3] != "0":
        raise RuntimeError(f"{out[3]} of {count} connections to {address}:{port} failed")
    return float(out[0]), float(out[1]), float(out[2])


def trips(name: str, address: str, port: int, count: int) -> float:
    """Median microseconds from connect until the server's own end of file has come back, through any proxy."""

    def go() -> float:
        found = []
        for _ in range(count):
            start = time.perf_counter()
            with socket.create_connection((address, port), timeout=5) as sock:
                sock.recv(1)
            found.append(time.perf_counter() - start)
        return statistics.median(found) * 1e6

    return within(name, go)


def gigabits(name: str, address: str, port: int, seconds: float) -> float:
    """Send bytes for so many seconds to a sink; return Gbit/s as the sink counted them."""
    out = within(
        name, lambda: run(sys.executable, "-IS", str(HERE / "pump.py"), "send", address, str(port), str(seconds))
    )
    return float(out)


def wait_for(name: str, address: str, port: int) -> None:
    """Wait until somebody answers."""

    def go() -> None:
        for _ in range(200):
            try:
                socket.create_connection((address, port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise RuntimeError(f"nobody answers on {address}:{port} seen from {name or 'the host'}")

    within(name, go)


def tune(name: str) -> None:
    """Let closed connections be forgotten soon, so that rounds don't meet each other's."""
    for key in ("close", "time_wait"):
        sh(name, f"echo 1 > /proc/sys/net/netfilter/nf_conntrack_tcp_timeout_{key}", check=False)


def wire(host: str, outside: str) -> None:
    """Give a host its uplink, and a client outside at the other end, who routes to the containers by it."""
    sh(
        host,
        f"""ip link add up0 type veth peer name eth0 netns {outside}
    ip addr add {HOST}/24 dev up0; ip -n {outside} addr add {OUTSIDE}/24 dev eth0
    ip link set up0 up; ip -n {outside} link set eth0 up; ip route add default via {OUTSIDE}
    ip -n {outside} route add {NET} via {HOST}""",
    )


def world(tag: str) -> tuple[str, str, str]:
    """Make a host with a bridge, a client outside and one container, without any rule; return their names."""
    host, outside, container = f"h{tag}", f"o{tag}", f"c{tag}"
    for name in (host, outside, container):
        netns.create(place(name))
    wire(host, outside)
    sh(
        host,
        f"""ip link add br0 type bridge; ip addr add 172.29.0.1/16 dev br0; ip link set br0 up
    ip link add v1 master br0 up type veth peer name eth0 netns {container}
    ip -n {container} addr add {CONTAINER}/16 dev eth0; ip -n {container} link set eth0 up
    ip -n {container} route add default via 172.29.0.1
    echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv4/conf/br0/route_localnet""",
    )
    for name in (host, outside, container):
        tune(name)
    return host, outside, container
