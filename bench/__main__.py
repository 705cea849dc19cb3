"""``python -m bench [--quick] [--write] [ROW …]``: measure nsbridge beside its peers.

Each row runs in a throwaway host of its own (network, mounts, processes), so nothing of the machine is touched and
no row meets what another left. As root, because iptables-restore needs the machine's root for thousands of rules.
"""

from __future__ import annotations

import argparse
import compileall
import os
import subprocess
import sys
import time
from pathlib import Path

from bench import attach, packets, page, peers, project, publishing
from bench.row import Options, Row, loads

ROOT = Path(__file__).parents[1]
RESULT = "bench-row "
QUIET = 0.05
"""A machine is idle that works for less than this part of its time."""

ROWS = {
    "attach": attach.single,
    "many": attach.crowd,
    "publish": publishing.publishing,
    "ports": packets.ports,
    "bytes": packets.bytes_,
    "project": project.project,
    "looking": project.looking,
    "explain": project.explaining,
    "start": project.start,
}
"""What can be measured, in the order of the page."""
FIRST = ("start",)
"""Measured before the others: after minutes of load a rented machine may be given less of its processors."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure nsbridge beside its peers.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"what to measure: {', '.join(ROWS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="few rounds and small numbers: a few minutes")
    parser.add_argument(
        "--peer", action="append", default=[], metavar="NAME", help="only peers with this in their name"
    )
    parser.add_argument("--seconds", type=float, default=240, help="stop a peer among many after this time (240)")
    parser.add_argument("--write", action="store_true", help="write docs/bench.md and its pictures")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="the folder to write to")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    unknown = [name for name in args.rows if name not in ROWS]
    if unknown:
        parser.error(f"no row {unknown[0]!r}; there are {', '.join(ROWS)}")
    return args


def _measure_here(name: str, options: Options) -> None:
    """In the throwaway host: measure one row and hand it to the process outside."""
    begin = time.monotonic()
    row = ROWS[name](options)
    row.load, row.took_s = os.getloadavg()[0], time.monotonic() - begin
    print(RESULT + row.dumps(), flush=True)


def _settle() -> None:
    """Wait until the machine has been idle for a second, for a minute at most.

    After a row with a thousand namespaces the kernel goes on for seconds to take them apart.
    """
    for _ in range(60):
        before = _busy()
        time.sleep(1)
        if _busy() - before < QUIET * os.sysconf("SC_CLK_TCK") * (os.cpu_count() or 1):
            return


def _busy() -> int:
    """Return for how many ticks all processors together have worked (/proc/stat, proc(5))."""
    user, nice, system, _, _, *interrupts = map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9])
    return user + nice + system + sum(interrupts)


def _measure(name: str, options: Options, only: tuple[str, ...]) -> Row | None:
    """Measure one row in a fresh throwaway host; None when it failed (what it said is on stderr)."""
    words = ["--quick"] if options.quick else []
    words += ["--seconds", str(options.seconds), *(word for peer in only for word in ("--peer", peer))]
    inner = [sys.executable, "-m", "bench", "--inside", name, *words]
    enter = f"import sys; from nsbridge.kernel import sandbox; sys.exit(sandbox.run({inner!r}, user=False))"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    _settle()
    done = subprocess.run(
        [sys.executable, "-c", enter], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    for line in done.stdout.splitlines():
        if line.startswith(RESULT):
            return loads(line.removeprefix(RESULT))
    print(f"row {name} {' '.join(only)} failed ({done.returncode})", file=sys.stderr)
    return None


def _collect(name: str, options: Options) -> Row | None:
    if name != "many":
        return _measure(name, options, options.peers)
    here = [peer for peer in attach.CROWD if peer.there() and options.wants(peer.name)]
    rows = []
    for peer in here:
        print(f"  {peer.name} …", file=sys.stderr, flush=True)
        rows += [row] if (row := _measure(name, options, (peer.name,))) else []
    if not rows:
        return None
    made = attach.many(rows, options)
    made.load, made.took_s = rows[-1].load, sum(row.took_s for row in rows)
    return made


def _show(row: Row) -> None:
    print(f"\n{row.title}")
    for table in row.tables:
        widths = [max(map(len, column)) for column in zip(table.head, *table.lines, strict=True)]
        for line in (table.head, *table.lines):
            print("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        if table.note:
            print(f"  ({table.note})")
    for target in row.targets:
        print(f"  {'reached    ' if target.met else 'NOT REACHED'} {target}")
    print(f"  load {row.load:.1f}, took {row.took_s:.0f} s", flush=True)


def main() -> int:
    """Measure, show, and write if asked."""
    args = _arguments()
    options = Options(quick=args.quick, peers=tuple(args.peer), seconds=args.seconds)
    if args.inside:
        _measure_here(args.rows[0], options)
        return 0
    if os.geteuid():
        print("python -m bench: run it as root; it works in throwaway namespaces only", file=sys.stderr)
        return 77
    for line in peers.installed()[1]:
        print(f"not here: {line}", file=sys.stderr)
    compileall.compile_dir(ROOT / "src", quiet=2)  # as an installed package is
    rows = []
    for name in sorted(args.rows or ROWS, key=lambda name: name not in FIRST):
        print(f"{name} …", file=sys.stderr, flush=True)
        row = _collect(name, options)
        if row is not None:
            rows.append(row)
            _show(row)
    rows.sort(key=lambda row: list(ROWS).index(row.name))
    if args.write and rows:
        args.out.mkdir(parents=True, exist_ok=True)
        drawn = page.draw(rows, args.out / "bench")
        (args.out / "bench.md").write_text(page.text(rows, options, drawn))
        print(f"\nwritten: {args.out / 'bench.md'}")
    return 0 if len(rows) == len(args.rows or ROWS) else 1


if __name__ == "__main__":
    sys.exit(main())
