"""The page and its pictures: what was measured, on what, and how it grows."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench import peers

if TYPE_CHECKING:
    from bench.row import Options, Row

PICTURES = {
    "attach": ("Attaching one more endpoint", "endpoints there", "ms each", True),
    "detach": ("Taking one away", "endpoints taken away", "ms each", True),
    "connect": ("Connecting to the last of N published ports", "published ports", "median µs", True),
    "memory": ("Memory of what runs for N published ports", "published ports", "resident MiB", False),
}
"""Chart: title, what x and y are, whether y is logarithmic."""

HEAD = """# Measurements

Written by `make bench` (`python -m bench --write`); `python -m bench --quick` looks in a few minutes. Every way of
doing the same thing runs on the same machine in the same run, in alternation, in throwaway namespaces. Times of a
virtual machine wander: trust the ratios.

"""


def machine() -> list[tuple[str, str]]:
    """What it was measured on."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    found = [
        ("date", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())),
        ("kernel", platform.release()),
        ("processors", f"{os.cpu_count()} x {model[1] if model else platform.machine()}"),
        ("Python", platform.python_version()),
    ]
    new = peers.newer("netavark")
    for name, argv in (
        ("nft", ("nft", "--version")),
        ("iptables", ("iptables", "--version")),
        ("iproute2", ("ip", "-V")),
        ("netavark", (peers.Netavark.program, "--version")),
        ("newer netavark", (new, "--version")),
        ("Docker", ("dockerd", "--version")),
    ):
        found += [(name, text)] if (text := _said(argv)) else []
    plugins = _said(("dpkg-query", "-W", "-f", "${Version}", "containernetworking-plugins"))
    return [*found, ("CNI plugins", plugins)] if plugins else found


def _said(argv: tuple[str, ...]) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=10)
    except OSError:
        return ""
    return (done.stdout or done.stderr).strip().splitlines()[0] if done.returncode == 0 and done.stdout else ""


def text(rows: list[Row], options: Options, pictures: list[str]) -> str:
    """The whole page as markdown."""
    parts = [HEAD, "## Where\n", "| | |", "| --- | --- |"]
    parts += [f"| {name} | {value} |" for name, value in machine()]
    parts += ["", "## What is to be reached\n", "| what | measured | to reach | |", "| --- | --- | --- | --- |"]
    for row in rows:
        for target in row.targets:
            words = str(target).removeprefix(f"{target.what}: ")
            parts.append(f"| {target.what} | {words.split(' (')[0]} | {_wanted(words)} | {_mark(target.met)} |")
    for row in rows:
        parts += [f"\n## {row.title}\n"]
        for table in row.tables:
            parts += ["| " + " | ".join(table.head) + " |", "|" + " --- |" * len(table.head)]
            parts += ["| " + " | ".join(line) + " |" for line in table.lines]
            parts += [f"\n{table.note}\n" if table.note else ""]
        parts += [f"![{PICTURES[name][0]}](bench/{name}.svg)\n" for name in row.series if name in pictures]
        parts += [f"Load average at the end {row.load:.1f}; took {row.took_s:.0f} s."]
    parts += ["\n" + (Path(__file__).parent / "notes.md").read_text()]
    missing = sorted({one for row in rows for one in row.missing})
    if missing:
        parts += ["\n## Not measured\n", *(f"- {one}" for one in missing)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts)) + "\n"


def _wanted(words: str) -> str:
    return words.split("reach: ")[1].rstrip(")")


def _mark(met: bool) -> str:
    return "reached" if met else "**not reached**"


def draw(rows: list[Row], folder: Path) -> list[str]:
    """Draw the charts as SVG and PNG; return the names of those drawn, none without matplotlib."""
    try:
        import matplotlib as mpl
    except ImportError:
        print("no pictures: pip install 'nsbridge[bench]' (matplotlib)", file=sys.stderr)
        return []
    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "nsbridge"  # the same figures give the same file
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, (title, across, upward, logarithmic) in PICTURES.items():
        lines = {line: points for row in rows for line, points in row.series.get(name, {}).items()}
        if not lines:
            continue
        figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
        for line, points in lines.items():
            ours = line == "nsbridge"
            x, y = zip(*smooth(points), strict=True)
            axes.plot(x, y, label=line, linewidth=2.6 if ours else 1.2, zorder=3 if ours else 2)
        if logarithmic:
            axes.set_yscale("log")
        if name == "connect":
            axes.set_xscale("log")
        axes.set(title=title, xlabel=across, ylabel=upward)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        figure.savefig(folder / f"{name}.png", dpi=110)
        pyplot.close(figure)
        drawn.append(name)
    return drawn


def smooth(points: list[tuple[float, float]], window: int = 21) -> list[tuple[float, float]]:
    """The running median of a long line, so that growth is seen and not the noise; a short one as it is."""
    if len(points) < 4 * window:
        return points
    half = window // 2
    found = []
    for at in range(half, len(points) - half, 4):
        near = sorted(y for _, y in points[at - half : at + half + 1])
        found.append((points[at][0], near[half]))
    return found
