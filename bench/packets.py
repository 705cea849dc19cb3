"""What packets pay: connections to one of many published ports, and bytes along every path."""

from __future__ import annotations

import os
import shutil
import statistics
import sys
from ipaddress import IPv4Address, ip_network
from typing import TYPE_CHECKING

from bench import net
from bench.layouts import LAYOUTS
from bench.row import Row, Table, alternate, paired
from nsbridge.engine import endpoints, networks
from nsbridge.engine.endpoints import Wish
from nsbridge.kernel import netns
from nsbridge.model.endpoint import PublishedPort
from nsbridge.model.network import Network, Subnet
from nsbridge.model.service import Attachment
from nsbridge.wiring import open_host

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.row import Options
    from nsbridge.engine.host import Host

FIRST = 20000
SINK = 5201
OURS = "nsbridge"
PLAIN = "no rules, routed"


def our_world() -> Host:
    """The host we play with gets a client outside and our network with two containers."""
    netns.create(net.place("outside"))
    net.wire("", "outside")
    host = open_host()
    networks.create(host, Network("bench", (Subnet(ip_network(net.NET)),), bridge="br0"))
    for name, address in (("c1", net.CONTAINER), ("c2", net.CONTAINER_2)):
        netns.create(net.place(name))
        endpoints.connect(host, Wish(name, net.place(name), Attachment("bench", ipv4=IPv4Address(address))))
    for name in ("", "outside", "c1", "c2"):
        net.tune(name)
    return host


def _our_ports(tag: str, size: int) -> tuple[str, str, str]:
    """Make a host of its own with our network, whose only container has so many ports; return what `net.world` does."""
    names = host, outside, container = f"h{tag}", f"o{tag}", f"c{tag}"
    for name in names:
        netns.create(net.place(name))
    net.wire(host, outside)

    def go() -> None:
        ours = open_host()
        networks.create(ours, Network("bench", (Subnet(ip_network(net.NET)),), bridge="br0"))
        place = Attachment("bench", ipv4=IPv4Address(net.CONTAINER))
        many = tuple(PublishedPort(80, FIRST + number) for number in range(size))
        endpoints.connect(ours, Wish(container, net.place(container), place, ports=many))

    net.within(host, go)
    for name in names:
        net.tune(name)
    return names


def _address(number: int, count: int) -> str:
    return net.CONTAINER if number in (0, count - 1) else f"172.29.{1 + number // 200}.{2 + number % 200}"


def _targets(count: int) -> list[tuple[int, str, int]]:
    return [(FIRST + number, _address(number, count), 80) for number in range(count)]


def _load(name: str, host: str, count: int) -> None:
    program, text = LAYOUTS[name]
    net.sh(host, program, text(_targets(count)))


def _layouts(options: Options, sizes: tuple[int, ...]) -> tuple[dict[tuple[str, int], tuple[str, str, str]], list[str]]:
    """Make a world for each layout that can be loaded here, in each size."""
    here = {}
    missing = []
    for name, (program, _) in LAYOUTS.items():
        if not options.wants(name):
            continue
        if not shutil.which(program):
            missing.append(f"{name}: apt install iptables")
            continue
        for size in sizes:
            here[name, size] = net.world(f"l{len(here)}")
            _load(name, here[name, size][0], size)
    return here, missing


def ports(options: Options) -> Row:
    """Connect from outside to the last of N published ports: latency alone, and rate with 32 in flight.

    All sizes are there at once, each on a host of its own, so that they are asked in alternation too.
    """
    row = Row("ports", "Connections to one of many published ports")
    program = net.connector()
    if not program:
        row.missing.append("connections: a C compiler (apt install gcc libc6-dev)")
        return row
    sizes = (1, 1000) if options.quick else (1, 100, 1000, 5000, 10000)
    rounds = options.pick(7, 2)
    worlds = {(OURS, size): _our_ports(f"n{size}", size) for size in sizes}
    others, missing = _layouts(options, sizes)
    row.missing += missing
    worlds |= others
    worlds[PLAIN, 0] = net.world("plain")
    with net.Background() as background:
        for _, _, container in worlds.values():
            background.start(container, program, "server", "80")
        found = _connect(program, worlds, rounds)
    table = Table(["ports", "rules", "p50 us", "p99 us", "connections/s"])
    table.note = (
        f"From outside, to the last port. Medians of {rounds} alternated rounds of 2,000 connections each (300 where "
        "each takes a millisecond)."
    )
    for (name, size), asked in sorted(found.items(), key=lambda item: item[0][1]):
        rate, middle, worst = (statistics.median(each) for each in zip(*asked, strict=True))
        table.add(size or "-", name, middle, worst, rate)
        for at in (size,) if size else sizes:
            row.point("connect", name, at, middle)
    row.tables.append(table)
    last = sizes[-1]
    (rates, times, _), (many_rates, many_times, _) = (zip(*found[OURS, size], strict=True) for size in (1, last))
    row.target(f"connect among {last:,} against 1: latency", paired(times, many_times), "<=", 1.15)
    row.target(f"connect among {last:,} against 1: rate", paired(rates, many_rates), ">=", 0.9)
    return row


def _connect(
    program: str, worlds: dict[tuple[str, int], tuple[str, str, str]], rounds: int
) -> dict[tuple[str, int], list[tuple[float, float, float]]]:
    """Return (rate, p50, p99) of each round for each world."""
    found: dict[tuple[str, int], list[tuple[float, float, float]]] = {key: [] for key in worlds}

    def once(key: tuple[str, int]) -> float:
        where, (address, port) = worlds[key][1], (net.HOST, FIRST + key[1] - 1)
        if key[0] == PLAIN:
            address, port = net.CONTAINER, 80
        _, middle, _ = net.connects(program, where, address, port, 50, 1)
        count = 2000 if middle < 1000 else 300
        _, middle, worst = net.connects(program, where, address, port, count, 1)
        rate, _, _ = net.connects(program, where, address, port, count * 3, 32)
        found[key].append((rate, middle, worst))
        return 0.0

    alternate({str(key): lambda key=key: once(key) for key in worlds}, rounds, warm=0)  # type: ignore[misc]
    return found


def bytes_(options: Options) -> Row:
    """Bulk TCP along every path, beside a direct veth pair, Docker's rules and docker-proxy."""
    row = Row("bytes", "Throughput, and the host's 127.0.0.1")
    program = net.connector()
    host = our_world()
    docker = net.world("dock") if shutil.which("iptables-restore") else None
    ports_ = (PublishedPort(80, 8080), PublishedPort(SINK, SINK))
    endpoints.publish(host, "c1", ports_, "bench")
    seconds, rounds = (0.3, 2) if options.quick else (0.5, 20)
    with net.Background() as background:
        pump = (sys.executable, "-IS", str(net.HERE / "pump.py"), "sink")
        for name in ("c1", "", *((docker[2],) if docker else ())):
            background.start(name, *pump, str(SINK if name else SINK + 1))
            if program:
                background.start(name, program, "server", "80" if name else "81")
        paths: dict[str, Callable[[], float]] = {
            "direct veth pair": lambda: net.gigabits("outside", net.HOST, SINK + 1, seconds),
            "container to container": lambda: net.gigabits("c2", net.CONTAINER, SINK, seconds),
            "outside to published": lambda: net.gigabits("outside", net.HOST, SINK, seconds),
            "host by 127.0.0.1": lambda: net.gigabits("", "127.0.0.1", SINK, seconds),
            "host's own loopback": lambda: net.gigabits("", "127.0.0.1", SINK + 1, seconds),
        }
        net.wait_for("outside", net.HOST, SINK)
        if docker:
            net.sh(docker[0], "iptables-restore", LAYOUTS["Docker's rules"][1]([(SINK, net.CONTAINER, SINK)]))
            net.wait_for(docker[1], net.HOST, SINK)
            paths["outside to published, Docker's rules"] = lambda: net.gigabits(docker[1], net.HOST, SINK, seconds)
        pids = _docker_proxy(row, background)
        if pids:
            paths["docker-proxy on 127.0.0.1"] = lambda: net.gigabits("", "127.0.0.1", 9001, seconds)
        found = alternate(paths, rounds, warm=1)
        _throughput(row, found, rounds, seconds)
        if program:
            _local(row, bool(pids), rounds)
        _memory(row, pids)
    return row


def _throughput(row: Row, found: dict[str, list[float]], rounds: int, seconds: float) -> None:
    table = Table(["path", "Gbit/s", "best", "of the direct pair"])
    table.note = f"Medians of {rounds} alternated rounds of {seconds:g} s, one TCP connection."
    middle = {name: statistics.median(values) for name, values in found.items()}
    for name, values in found.items():
        table.add(name, middle[name], max(values), middle[name] / middle["direct veth pair"])
    row.tables.append(table)
    docker, proxy = found.get("outside to published, Docker's rules"), found.get("docker-proxy on 127.0.0.1")
    row.target("published, against Docker's rules", paired(docker, found["outside to published"]), ">=", 0.9)
    row.target("127.0.0.1 bytes, against docker-proxy", paired(proxy, found["host by 127.0.0.1"]), ">=", 1.5)


def _docker_proxy(row: Row, background: net.Background) -> list[int]:
    program = shutil.which("docker-proxy") or "/usr/libexec/docker/docker-proxy"
    if not os.path.exists(program):
        row.missing.append("docker-proxy: apt install docker.io")
        return []
    pids = []
    for port, target in ((9000, 80), (9001, SINK)):
        argv = f"-proto tcp -host-ip 127.0.0.1 -host-port {port} -container-ip {net.CONTAINER} -container-port {target}"
        # It reports on descriptor 3 that it listens.
        pids.append(background.start("", "sh", "-c", f"exec {program} {argv} 3>/dev/null"))
    net.wait_for("", "127.0.0.1", 9001)
    return pids


def _local(row: Row, proxied: bool, rounds: int) -> None:
    ways = {"nsbridge": 8080, "the host's own loopback": 81, **({"docker-proxy": 9000} if proxied else {})}
    cases = {name: lambda port=port: net.trips("", "127.0.0.1", port, 300) for name, port in ways.items()}
    found = alternate(cases, rounds, warm=1)  # type: ignore[arg-type]
    table = Table(["127.0.0.1 by", "connect until the container's end of file, us", "x ours"])
    table.note = f"Medians of {rounds} alternated rounds of 300 connections."
    middle = {name: statistics.median(values) for name, values in found.items()}
    for name, value in middle.items():
        table.add(name, value, value / middle["nsbridge"])
    row.tables.append(table)
    row.target("127.0.0.1 latency: docker-proxy takes", paired(found["nsbridge"], found.get("docker-proxy")), ">=", 3)


def _memory(row: Row, pids: list[int]) -> None:
    """Resident memory of what has to run for published ports: nothing of ours, two proxies a port of Docker's."""
    if not pids:
        return
    sizes = []
    for pid in pids:
        with open(f"/proc/{pid}/status") as status:
            sizes += [int(line.split()[1]) for line in status if line.startswith("VmRSS:")]
    each = statistics.median(sizes) / 1024
    table = Table(["while ports are published", "resident MiB a port"])
    table.note = "Docker runs two for a port, one for IPv4 and one for IPv6; nsbridge none: the kernel does it."
    table.add("docker-proxy", 2 * each)
    table.add("nsbridge", 0)
    row.tables.append(table)
    for count in (1, 100, 200, 300, 400, 500):
        row.point("memory", "docker-proxy, two a port", count, 2 * each * count)
        row.point("memory", "nsbridge", count, 0)
