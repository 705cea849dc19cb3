"""Whole projects: `up` and `down` of many services, looking at a thousand endpoints, and asking why."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench import peers
from bench.row import Row, Table, alternate, more, ms, timed
from nsbridge import files, wiring
from nsbridge.engine import topology

if TYPE_CHECKING:
    from bench.row import Options


def _file(count: int, ports: int = 1) -> str:
    os.makedirs(peers.STATE, exist_ok=True)
    where = f"{peers.STATE}/bench.yaml"
    rows = ["name: bench", "networks:", "  bench:", "    ipam: {config: [{subnet: 172.29.0.0/16}]}", "services:"]
    for n in range(count):
        published = ", ".join(f"'{20000 + ports * n + i}:{80 + i}'" for i in range(ports))
        rows.append(f"  s{n}: {{networks: [bench], ports: [{published}]}}")
    Path(where).write_text("\n".join(rows) + "\n")
    return where


def project(options: Options) -> Row:
    """`up` and `down` of services without commands, by the engine and as whole commands."""
    count = options.pick(200, 40)
    row = Row("project", f"up and down of {count} services without commands")
    host = wiring.open_host()
    where, argv = _file(count), peers.command()
    made = files.read(where)
    ups, downs = [], []
    for _ in range(options.pick(5, 2)):
        ups.append(timed(lambda: topology.up(host, made)))
        downs.append(timed(lambda: topology.down(host, "bench")))
    table = Table(["what", "s", "worst"])
    table.note = f"Medians of {len(ups)}."
    table.add("up, engine", statistics.median(ups), max(ups))
    table.add("down, engine", statistics.median(downs), max(downs))
    if argv:
        up = [timed(lambda: peers.run(*argv, "up", "-d", "-f", where))]
        down = [timed(lambda: peers.run(*argv, "down", "-f", where))]
        table.add("up, the whole command", up[0], up[0])
        table.add("down, the whole command", down[0], down[0])
    row.tables.append(table)
    share = count / 200
    row.target("up of 200 services", statistics.median(ups) / share, "<=", 2, "s")
    row.target("down of them", statistics.median(downs) / share, "<=", 1, "s")
    return row


def looking(options: Options) -> Row:
    """`plan`, `diff` and `ps` while a thousand endpoints are there."""
    count = options.pick(1000, 100)
    row = Row("looking", f"plan, diff and ps with {count:,} endpoints")
    host = wiring.open_host()
    where, argv = _file(count), peers.command()
    made = files.read(where)
    took = timed(lambda: topology.up(host, made))
    ways = {"plan, engine": lambda: timed(lambda: topology.decide(host, made))}
    if argv:
        for verb in (("plan", "-f", where), ("diff", "-f", where), ("ps",)):
            ways[f"{verb[0]}, the whole command"] = lambda verb=verb: timed(lambda: peers.run(*argv, *verb))  # type: ignore[misc]
    found = alternate(ways, options.pick(5, 2), warm=1)
    table = Table(["what", "ms"])
    table.note = f"Medians of {options.pick(5, 2)}. `up` of these took {took:.1f} s."
    for name, values in found.items():
        table.add(name, ms(values))
        row.target(f"{name}, {count:,} endpoints", ms(values), "<=", 1000, "ms")
    row.tables.append(table)
    return row


def explaining(options: Options) -> Row:
    """`explain` as a whole command: few endpoints, and a thousand with ten published ports each."""
    row = Row("explain", "Why a packet arrives or doesn't")
    if not peers.command():
        row.missing.append("explain: the command line")
        return row
    launcher, host = peers.launcher(), wiring.open_host()
    table = Table(["endpoints", "published ports", "question", "ms", "quiet"])
    rounds = options.pick(15, 3)
    table.note = f"Medians of {rounds} alternated, as whole commands; *quiet* is the fastest."
    for count, ports, wanted in ((10, 1, 150), (options.pick(1000, 50), 10, 1000)):
        last = count * ports - 1
        topology.up(host, files.read(_file(count, ports)))
        asked = {
            "to a neighbour": ("s0", f"s{count - 1}:80"),
            "to a published port": (f"s{count // 2}", f"host:{20000 + last}"),
            "to 127.0.0.1": ("host", f"127.0.0.1:{20000 + last}"),
        }
        ways = {name: lambda each=each: _quiet((*launcher, "explain", *each)) for name, each in asked.items()}
        for name, values in alternate(ways, rounds).items():  # type: ignore[arg-type]
            table.add(count, count * ports, name, ms(values), min(values) * 1e3)
            what = f"explain {name}, {count:,} endpoints and {count * ports:,} published ports"
            row.target(what, ms(values), "<=", wanted, "ms")
        topology.down(host, "bench")
    row.tables.append(table)
    return row


def start(options: Options) -> Row:
    """What a one-shot command costs before it does anything, and how much memory it takes."""
    row = Row("start", "Start of one-shot commands")
    peers.run("ip", "netns", "add", "n1")
    launcher = peers.launcher() if peers.command() else ()
    bare = (sys.executable, "-IS", "-c", "pass")
    ways = {"python -IS -c pass": bare, "python -c pass": (sys.executable, "-c", "pass")}
    if launcher:
        peers.run(*launcher, "network", "create", "bench")
        peers.run(*launcher, "connect", "bench", "n1", "-p", "8080:80")
        sources = (sys.executable, "-IS", "-c", _FROM_SOURCES.format(path=str(peers.SRC)))
        ways[HOT] = (*launcher, *HOT.split()[1:])
        ways[f"{HOT}, as python -IS"] = (*sources, *HOT.split()[1:])
        ways[f"{HOT}, pip's script"] = (*peers.command(), *HOT.split()[1:])
        for words in ("--version", "port n1", "ps", "network ls", "inspect n1"):
            ways[f"nsbridge {words}"] = (*launcher, *words.split())
    else:
        row.missing.append("start of commands: the command line")

    def once(name: str) -> float:
        took = _quiet(ways[name])
        if name.startswith(HOT):  # for the next round
            peers.run(*launcher, "unpublish", "n1", "8081:81")
        return took

    rounds = options.pick(120, 5)
    found = alternate({name: lambda name=name: once(name) for name in ways}, rounds)  # type: ignore[misc]
    floor = found["python -IS -c pass"]
    table = Table(["command", "ms", "quiet", "over python -IS", "resident MiB"])
    table.note = (
        f"Medians of {rounds} alternated rounds, differences of each round by itself; *quiet* is the fastest."
        " `nsbridge` is what `nsbridge install` writes, unless said otherwise."
    )
    for name, values in found.items():
        over = more(values, floor)
        table.add(name, ms(values), min(values) * 1e3, over, _resident(ways[name]))
        if name == HOT:
            row.target("a hot verb over bare python -IS", over, "<=", 8, "ms")
    row.tables.append(table)
    return row


HOT = "nsbridge publish n1 8081:81"
"""A verb that has nothing to wait for but itself."""

_FROM_SOURCES = "import sys; sys.path.append({path!r}); from nsbridge.frontends.cli.main import script; script()"


def _quiet(argv: tuple[str, ...]) -> float:
    quiet = subprocess.DEVNULL
    begin = time.perf_counter()
    subprocess.run(argv, stdout=quiet, stderr=quiet, stdin=quiet, check=False)
    return time.perf_counter() - begin


def _resident(argv: tuple[str, ...]) -> float:
    """MiB that a command took at most."""
    # By way of a small process: what a child shows as its most begins with what its parent had.
    body = (
        "import posix, sys; fd = posix.open('/dev/null', 2)\n"
        "actions = [(posix.POSIX_SPAWN_DUP2, fd, each) for each in (0, 1, 2)]\n"
        "pid = posix.posix_spawn(sys.argv[1], sys.argv[1:], posix.environ, file_actions=actions)\n"
        "print(posix.wait4(pid, 0)[2].ru_maxrss)"
    )
    return int(peers.run(sys.executable, "-IS", "-c", body, *argv)) / 1024
