"""Write docs/rules, pictures, explain.md from a running kernel, and proofs.md: ``python -m tools.docs`` (`make docs`).

Each scenario (scenarios.py) is brought up by the engine in a throwaway host, and what the kernel then holds is listed
by `nft` and `ip`. What differs from run to run is left out or has a fixed stand-in: indexes of links, MAC addresses
that the kernel chose, the order in which a hash set gives its elements. A test compares the pages byte for byte, so a
changed rule shows as a changed page in the same commit.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from nsbridge import files
from nsbridge.engine import topology
from nsbridge.kernel import sandbox
from nsbridge.wiring import open_host
from tools import explaining, pictures, proofs
from tools.scenarios import SCENARIOS

if TYPE_CHECKING:
    from tools.scenarios import Scenario

PAGES = Path(__file__).parents[1] / "docs" / "rules"

UPLINK = """
ip link add up0 address 02:00:5e:00:53:01 type veth peer name wire0
echo 1 > /proc/sys/net/ipv6/conf/up0/disable_ipv6
ip address add 198.51.100.1/24 dev up0
ip link set up0 up
ip link set wire0 up
ip route add default via 198.51.100.2
"""
"""The host before: one link to the world. (The other end of it is here too, and shown nowhere.)"""

INDEX = """\
# What the kernel holds

Each page is one topology file, and what a kernel held after `nsbridge up -f` of it, as `nft` and `ip` list it. They are
generated (`make docs`), and a test compares them with a running kernel byte for byte. The rules are the same on all of
them: they are written with the first network and go with the last, networks are elements of sets, published ports are
elements of maps ([ARCHITECTURE.md](../../ARCHITECTURE.md) tells why). Listed by {version}.

| | |
| --- | --- |
"""


def sh(command: str) -> str:
    """Run a command and return what it says; CalledProcessError when it fails."""
    return subprocess.run(["sh", "-ec", command], check=True, capture_output=True, text=True).stdout


def version() -> str:
    """Name the nft that lists: another one may write the same rules differently."""
    return " ".join(sh("nft --version").split()[:2])


def table() -> str:
    """List our table without counters, the elements of each set in order."""

    def in_order(found: re.Match[str]) -> str:
        elements = sorted(re.split(r",\s+", found[2].strip()))
        return found[1] + (",\n" + "\t" * 3 + "     ").join(elements) + found[3]

    return re.sub(r"(elements = \{ )(.*?)( \})", in_order, sh("nft -s list table inet nsbridge"), flags=re.S)


def filled(listing: str) -> str:
    """Return the sets and maps of a listing that have elements, one a line."""
    rows = []
    for name, elements in re.findall(r"(?:set|map) (\w+) \{[^}]*?elements = \{ (.*?) \}", listing, re.S):
        rows += [f"{name:<9} {element}" for element in re.split(r",\s+", elements)]
    return "\n".join(rows)


def links(where: str) -> str:
    """List links and addresses of the host (the empty path) or of a namespace, in the order of their names."""
    found = []
    for what in ("link", "addr"):
        rows = sh(f"ip {f'-n {where}' if where else ''} -br {what}").splitlines()
        kept = [re.sub(r"@if\d+|@wire0", "", row) for row in sorted(rows) if not row.startswith(("wire0", "lo "))]
        found += [f"# ip {f'-n {where} ' if where else ''}-br {what}", *[_stable(row) for row in kept]]
    return "\n".join(found)


def settled(spaces: list[str]) -> str:
    """List the links of the host and of namespaces once they are up: a carrier is noticed up to a second later."""
    deadline = time.monotonic() + 3
    while True:
        found = "\n\n".join(links(where) for where in ("", *spaces))
        rows = [row for row in found.splitlines() if not row.startswith("#")]
        # A bridge nobody is on stays down. An IPv6 network's link-local addresses come with the carrier.
        unsettled = "DOWN" if spaces else "UNKNOWN"
        waiting = [row for row in rows if unsettled in row or (" fd" in row and " fe80:" not in row)]
        if not waiting or time.monotonic() > deadline:
            return found
        time.sleep(0.02)


def _stable(row: str) -> str:
    """Write a row of ``ip -br`` in columns of a fixed width; a bridge port's MAC is the kernel's choice."""
    name, state, *rest = row.split()
    if name.startswith("nsb") and not name.startswith("nsb-"):
        rest = ["(chosen by the kernel)" if re.fullmatch(r"[0-9a-f:]{17}", word) else word for word in rest]
    return f"{name:<16} {state:<8} {' '.join(rest)}".rstrip()


def fence(text: str, language: str = "") -> str:
    """Return text as a block of code."""
    return f"```{language}\n{text.strip()}\n```\n"


def page(scenario: Scenario) -> str:
    """Bring a scenario up, list what the kernel holds, take it down, and return the page."""
    if scenario.before:
        sh(scenario.before)
    said: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "lab.yaml")
        path.write_text(scenario.text)
        wanted = files.read(path)
    # Only the wiring is shown: a namespace without a command is wired like one with.
    wanted = wanted.replace(services=tuple(service.replace(command=()) for service in wanted.services))
    host = open_host(said.append)
    try:
        topology.up(host, wanted)
        listing = table()
        spaces = [service.name for service in wanted.services]
        around = settled(spaces)
        also = sh(scenario.also) if scenario.also else ""
    finally:
        topology.down(host, wanted.project)
        if scenario.after:
            sh(scenario.after)
    raised = [text for text in said if text.startswith("set ")]
    parts = [f"# {scenario.title}\n", f"{scenario.sentence}\n", fence(scenario.text, "yaml")]
    if scenario.before:
        parts += [f"On a host after `{scenario.before}`, of which `{scenario.also}` now says:\n", fence(also)]
    parts += ["## In our sets and maps\n", fence(filled(listing)), "## Links and addresses\n", fence(around)]
    if raised:
        parts += ["## Settings of the host\n", *[f"- {text}" for text in raised], ""]
    parts += ["## The whole table\n", "`nft -s list table inet nsbridge`\n", fence(listing, "nft")]
    return "\n".join(parts)


def pages() -> dict[str, str]:
    """Return every page by its file name. To be called in an empty throwaway host."""
    sh(UPLINK)
    found = {f"{scenario.name}.md": page(scenario) for scenario in SCENARIOS}
    rows = [f"| [{scenario.title}]({scenario.name}.md) | {scenario.sentence} |\n" for scenario in SCENARIOS]
    return {"README.md": INDEX.format(version=version()) + "".join(rows), **found}


def main() -> None:
    """Rewrite docs/rules, docs/pictures and docs/explain.md in a throwaway host of our own, and docs/proofs.md."""
    if not sandbox.in_sandbox():
        sandbox.enter([sys.executable, "-m", "tools.docs"])
    PAGES.mkdir(parents=True, exist_ok=True)
    fresh = pages()
    for old in PAGES.glob("*.md"):
        if old.name not in fresh:
            old.unlink()
    for name, text in fresh.items():
        (PAGES / name).write_text(text)
    print(f"{os.path.relpath(PAGES)}: {len(fresh)} pages")
    sh("ip link delete up0")
    pictures.main()
    print(f"{os.path.relpath(explaining.PAGE)}: {explaining.write()} rows")
    proofs.main()


if __name__ == "__main__":
    main()
