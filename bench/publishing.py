"""One published port more when there are thousands, and tens of thousands in one go."""

from __future__ import annotations

import shutil
import statistics
from ipaddress import ip_network
from typing import TYPE_CHECKING

from bench import net, peers
from bench.layouts import LAYOUTS
from bench.row import Row, Table, alternate, ms, timed
from nsbridge import wiring
from nsbridge.engine import endpoints, networks
from nsbridge.engine.endpoints import Wish
from nsbridge.firewall.ruleset import Element
from nsbridge.kernel import netns
from nsbridge.model.endpoint import PublishedPort
from nsbridge.model.names import TABLE
from nsbridge.model.network import Network, Subnet
from nsbridge.model.service import Attachment
from nsbridge.plan.step import Step

if TYPE_CHECKING:
    from bench.row import Options
    from nsbridge.engine.host import Host

MORE = 61000
"""The port that comes and goes."""


def _host() -> Host:
    host = wiring.open_host()
    networks.create(host, Network("bench", (Subnet(ip_network("172.29.0.0/16")),), bridge="br0"))
    for name in ("c1", "c2"):
        netns.create(net.place(name))
        endpoints.connect(host, Wish(name, net.place(name), Attachment("bench")))
    return host


def publishing(options: Options) -> Row:
    """Add and remove one port among many: in the kernel, by the engine, with `nft` and `iptables`."""
    count = options.pick(10000, 1000)
    row = Row("publish", f"One port more among {count:,}, and 60,000 in one go")
    host = _host()
    many = tuple(PublishedPort(80, 1024 + number) for number in range(count))
    endpoints.publish(host, "c1", many, "bench")
    address = host.store.endpoint("bench", "c2").addresses[0].ip
    one = (PublishedPort(80, MORE),)
    element = Element(TABLE, "publish4", ("tcp", MORE), (address, 80))
    text = f"inet nsbridge publish4 {{ tcp . {MORE} : {address} . 80 }}"

    def kernel() -> float:
        took = timed(lambda: host.kernel.do(Step("add", (element,))))
        host.kernel.do(Step("remove", (element,)))
        return took

    def engine() -> float:
        took = timed(lambda: endpoints.publish(host, "c2", one, "bench"))
        endpoints.unpublish(host, "c2", one, "bench")
        return took

    def nft() -> float:
        took = timed(lambda: peers.run("nft", f"add element {text}"))
        peers.run("nft", f"delete element {text}")
        return took

    ways = {"kernel call": kernel, "engine, its state written": engine}
    if shutil.which("nft"):
        ways["nft add element"] = nft
    if shutil.which("iptables-restore"):
        netns.create(net.place("other"))
        ports = [(1024 + n, f"172.29.{1 + n // 200}.{2 + n % 200}", 80) for n in range(count)]
        net.sh("other", "iptables-restore", LAYOUTS["Docker's rules"][1](ports))
        ways["iptables -A, Docker's rules"] = _iptables
    rounds = options.pick(30, 5)
    found = alternate(ways, rounds)
    table = Table(["one port more", "ms", "x the engine's"])
    table.note = f"Medians of {rounds} alternated rounds, with {count:,} ports published (on another endpoint)."
    engine_ms = ms(found["engine, its state written"])
    for name, values in found.items():
        table.add(name, ms(values), ms(values) / engine_ms)
    row.tables.append(table)
    row.target(f"one port more among {count:,}, kernel call", ms(found["kernel call"]), "<=", 0.1, "ms")
    row.target(f"one port more among {count:,}, engine", engine_ms, "<=", 1, "ms")
    _in_one_go(row, host, options)
    return row


def _iptables() -> float:
    rule = f"DOCKER ! -i br0 -p tcp -m tcp --dport {MORE} -j DNAT --to-destination 172.29.255.2:80"
    took = timed(lambda: net.sh("other", f"iptables -t nat -A {rule}"))
    net.sh("other", f"iptables -t nat -D {rule}")
    return took


def _in_one_go(row: Row, host: Host, options: Options) -> None:
    """Publish 60,000 ports of one endpoint at once, in an otherwise empty table, and take them away."""
    endpoints.disconnect(host, "bench", "c1")
    count = options.pick(60000, 6000)
    ways = {
        f"a range of {count:,}": (PublishedPort(1024, 1024, count=count),),
        f"{count // 10:,} named one by one": tuple(PublishedPort(80, 1024 + number) for number in range(count // 10)),
    }
    table = Table(["in one go", "published ms", "unpublished ms"])
    for name, ports in ways.items():
        came, gone = [], []
        for _ in range(options.pick(5, 2)):
            came.append(timed(lambda ports=ports: endpoints.publish(host, "c2", ports, "bench")))  # type: ignore[misc]
            gone.append(timed(lambda ports=ports: endpoints.unpublish(host, "c2", ports, "bench")))  # type: ignore[misc]
        table.add(name, statistics.median(came) * 1e3, statistics.median(gone) * 1e3)
        if len(ports) == 1:
            row.target(f"{count:,} ports in one go", statistics.median(came) * 1e3, "<=", 50, "ms")
    row.tables.append(table)
