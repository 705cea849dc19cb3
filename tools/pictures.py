"""Draw docs/pictures and write docs/by-hand*.sh, with the commands that a person would use, in a throwaway host.

Part of ``python -m tools.docs``; a test compares the files byte for byte with what the commands print now.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"
BY_HAND = {"nft": ROOT / "docs" / "by-hand.sh", "iptables": ROOT / "docs" / "by-hand-iptables.sh"}

HOST = """
ip netns add lan
ip link add eth0 address 02:00:5e:00:53:01 type veth peer name wire0 netns lan
echo 1 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6
ip address add 192.168.1.10/24 dev eth0
ip link set eth0 up
ip -n lan link set wire0 up
ip route add default via 192.168.1.1
"""
"""A host in somebody's LAN."""

CLIENT = "outside=192.168.1.77"

EXAMPLE = "examples/docker-bridge.yaml"

DRAWN = (
    (
        "docker-bridge",
        ("graph", "--path", CLIENT, "host:8088", EXAMPLE),
        "A browser in the LAN asks for port 8088 of the host: its address stays, the destination is rewritten.",
    ),
    (
        "loopback",
        ("graph", "--path", "host", "127.0.0.1:8089", EXAMPLE),
        "The host asks its own 127.0.0.1, which people think impossible: both addresses are rewritten.",
    ),
    (
        "hairpin",
        ("graph", "--path", "ns1", "host:8088", EXAMPLE),
        "An endpoint asks the host for a port that is its own, and gets back in through the door it left by.",
    ),
    (
        "two-networks",
        ("graph", "examples/two-networks.yaml"),
        "Two networks, one of them internal, and an endpoint on both.",
    ),
    ("dual-stack", ("graph", "examples/dual-stack.yaml"), "IPv4 and IPv6 on one bridge."),
)
"""Name, command, and what is to be seen."""

INDEX = """\
# Pictures

Drawn by `nsbridge graph` (`make docs`) before anything is up; a test compares them with what is drawn now. They follow
the light or dark of the page, and say in words what they show to those who can't see them. `--format text`, `dot` and
`mermaid` draw the same in other ways; without a file, what is up on the host is drawn.
"""


def run(*argv: str) -> str:
    """Run `nsbridge` and return what it prints; CalledProcessError when it fails."""
    command = [sys.executable, "-m", "nsbridge", *argv]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout


def drawn() -> dict[Path, str]:
    """Return every file with its text. To be called in an empty throwaway host."""
    subprocess.run(["sh", "-ec", HOST], check=True)
    found = {path: run("script", "--style", style, EXAMPLE) for style, path in BY_HAND.items()}
    pages = [INDEX]
    for name, words, said in DRAWN:
        found[PICTURES / f"{name}.svg"] = run(*words, "--format", "svg")
        pages.append(f"\n## {said}\n\n`nsbridge {' '.join(words)} --format svg`\n\n![{said}]({name}.svg)\n")
    subprocess.run(["sh", "-ec", "ip netns delete lan; ip link delete eth0 2>/dev/null || true"], check=True)
    found[PICTURES / "README.md"] = "".join(pages)
    return found


def main() -> None:
    """Write them. To be called in an empty throwaway host."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    fresh = drawn()
    for old in PICTURES.glob("*"):
        if old not in fresh:
            old.unlink()
    for path, text in fresh.items():
        path.write_text(text)
    print(f"{PICTURES.relative_to(ROOT)}: {len(fresh)} files")
