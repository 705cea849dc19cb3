"""Write which functions hot verbs call, for the launcher's file of code: ``python -m tools.hot`` (`make docs`).

The verbs run in a throwaway host, in processes with the interpreter's profiler on. What isn't in the list costs the
launcher's verbs time when it is called after all, and changes nothing (docs/adr/0009).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nsbridge
from nsbridge.frontends.cli import archive
from nsbridge.kernel import sandbox

LIST = archive.HERE / "hot.txt"

BEFORE = """
ip netns add a
ip netns add b
nsbridge network create four --subnet 10.91.4.0/24
nsbridge network create both --subnet 10.91.6.0/24 --subnet fd00:91::/64
"""

AFTER = """
nsbridge network rm four both
ip netns delete a
ip netns delete b
"""

VERBS = """
connect four /run/netns/a
connect four /run/netns/b -p 30001:80
publish a 30000:80
publish a 30053:53/udp
unpublish a 30000:80
unpublish a 30053:53/udp
disconnect four a
disconnect four b
connect both /run/netns/a -p 30000:80
connect both /run/netns/b
publish b 30001:80
unpublish b 30001:80
disconnect both b
disconnect both a
"""
"""A first and a second on a network, with a port and without, of one family and of both."""

CALLS = """
import sys
sys.path.insert(0, {src!r})
called = set()
def met(frame, event, arg):
    if event == "call" and frame.f_code.co_flags & 1:  # CO_OPTIMIZED: a function, not the body of a class
        called.add((frame.f_globals.get("__name__"), frame.f_code.co_qualname))
import _thread
start = _thread.start_new_thread
def watched(function, *rest):
    def run(*args, **named):
        sys.setprofile(met)
        return function(*args, **named)
    return start(run, *rest)
_thread.start_new_thread = watched
import posix
leave = posix._exit
def told(code):
    sys.setprofile(None)
    print(*sorted(f"{{module}} {{name}}" for module, name in called), sep="\\n")
    sys.stdout.flush()
    leave(code)
sys.argv = ["nsbridge", *{words!r}]
sys.setprofile(met)
import os
os._exit = told
from nsbridge.frontends.cli.main import script
script()
"""


def calls(words: list[str]) -> set[tuple[str, str]]:
    """Run a verb here; return the functions it called, of ours and of `ipaddress`: module and name."""
    program = CALLS.format(src=str(Path(nsbridge.__file__).parents[1]), words=words)
    done = subprocess.run([sys.executable, "-IS", "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    pairs = {(line[0], line[1]) for line in lines if len(line) == 2 and "<" not in line[1]}
    return {pair for pair in pairs if pair[0] == "ipaddress" or pair[0].startswith("nsbridge.")}


def all_calls() -> set[tuple[str, str]]:
    """Return the functions that all of `VERBS` call. To be asked in an empty throwaway host."""
    _do(BEFORE)
    try:
        return set().union(*[calls(line.split()) for line in VERBS.strip().splitlines()])
    finally:
        _do(AFTER)


def _do(commands: str) -> None:
    for line in commands.strip().splitlines():
        words = line.split()
        argv = [sys.executable, "-m", *words] if words[0] == "nsbridge" else words
        subprocess.run(argv, check=True, capture_output=True)


def main() -> None:
    """Rewrite the list in a throwaway host of our own."""
    if not sandbox.in_sandbox():
        sandbox.enter([sys.executable, "-m", "tools.hot"])
    found: dict[str, list[str]] = {}
    for module, name in sorted(all_calls()):
        found.setdefault(module, []).append(name)
    LIST.write_text("".join([f"{module} {' '.join(names)}\n" for module, names in found.items()]))
    print(f"{LIST.name}: {sum(map(len, found.values()))} functions of {len(found)} modules")


if __name__ == "__main__":
    main()
