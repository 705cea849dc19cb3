"""The stage: a throwaway host on which lessons are played, and how their commands are run and read.

`Stage` furnishes the throwaway host that the process already lives in (kernel/sandbox.py) with a world outside, by the
commands of `WORLD`. Each command is run by a shell of its own, as a person would type it, and a person takes a breath
after pressing Enter: `_settle` waits as long for cables to have a carrier and for servers to listen.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time

from nsbridge.errors import InvalidIntent, Unsupported
from nsbridge.kernel import sandbox
from nsbridge.lessons.lesson import PACKAGES, earlier
from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.lessons.lesson import Lesson, LessonCommand

WORLD = """\
ip netns add outside
ip link add up0 type veth peer name eth0 netns outside
ip address add 198.51.100.1/24 dev up0
ip link set up0 up
ip -n outside address add 198.51.100.2/24 dev eth0
ip -n outside link set eth0 up
ip route add default via 198.51.100.2
echo 0 > /proc/sys/net/ipv4/ip_forward
"""
"""One machine outside, in the network kept for documentation (RFC 5737), that knows no way to what is behind us."""

HOME, BIN = "/run/lesson", "/run/lesson-bin"
"""Where commands run, and where `python3` and `nsbridge` are found: in the throwaway host's own /run."""

PAGE = 118
"""Columns of a page."""

SETTLED_S = 3.0
"""The longest breath. A carrier may be noticed a second late (linkwatch), a server starts in a tenth of one."""

NEEDS = {"br_netfilter": "/proc/sys/net/bridge", "IPv6": "/proc/net/if_inet6"}
"""What a lesson may need of the kernel, and the file that is there if it has it."""

_BACKGROUND = re.compile(r" &( |$)")


class Ran(Value):
    """What came of a command: its exit status, and what a terminal would have shown."""

    status: int
    output: str

    def as_foretold(self, command: LessonCommand) -> bool:
        """Tell whether a command came out as its page foretells. An error of nsbridge's own is no finding."""
        broken = bool(command.foretold) and self.output.startswith("nsbridge: ")
        return self.status in command.statuses and not broken


class Stage:
    """The throwaway host this process lives in, furnished for lessons. InvalidIntent anywhere else."""

    def __init__(self) -> None:
        if not sandbox.in_sandbox():
            raise InvalidIntent(
                "lessons make links and rules, so they are played only inside a throwaway host",
                fix="run `nsbridge learn`, which makes one",
            )
        self._environment = {**os.environ, "PATH": f"{BIN}:{_path()}", "LC_ALL": "C.UTF-8", "PYTHONUNBUFFERED": "1"}
        os.makedirs(HOME)
        os.makedirs(BIN)
        os.symlink(os.path.realpath(sys.executable), f"{BIN}/python3")  # its processes are called python3, then
        with open(f"{BIN}/nsbridge", "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o755)
            file.write(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m nsbridge "$@"\n')
        self._run(WORLD)
        self._carriers()

    def replay(self, lesson: Lesson) -> None:
        """Bring the host into the state with which a lesson begins: run what changes things in those before it."""
        for one in earlier(lesson):
            for command in one.commands:
                if not command.only_looks:
                    self._settled(command.text)
        self._carriers()

    def run(self, command: LessonCommand) -> Ran:
        """Run one command and wait until what it began has settled."""
        ran = self._settled(command.text)
        if "link" in command.text:
            self._carriers()
        return ran

    def own(self, text: str) -> int:
        """Run a person's own command, on the terminal itself; return its exit status."""
        return subprocess.call(["sh", "-c", text], cwd=HOME, env=self._environment)

    def _run(self, text: str) -> Ran:
        # Into a file: a pipe wouldn't end before the servers end that a command leaves running.
        with tempfile.TemporaryFile(dir=HOME) as output:
            done = subprocess.run(
                ["sh", "-c", text],
                cwd=HOME,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
            output.seek(0)
            return Ran(done.returncode, output.read().decode(errors="replace"))

    def _settled(self, text: str) -> Ran:
        """Run a command; if it goes on in the background, wait until something more listens."""
        if not _BACKGROUND.search(text):
            return self._run(text)
        before = _listeners()
        ran = self._run(text)
        deadline = time.monotonic() + SETTLED_S
        while _listeners() <= before and time.monotonic() < deadline:
            time.sleep(0.01)
        return ran

    def _carriers(self) -> None:
        """Wait until no link has a carrier that the kernel hasn't taken note of."""
        deadline = time.monotonic() + SETTLED_S
        while time.monotonic() < deadline:
            shown = self._run("ip -br link; ip -all netns exec ip -br link").output
            if not any("LOWER_UP" in line and "DOWN" in line.split()[1] for line in shown.splitlines()):
                return
            time.sleep(0.02)


def _path() -> str:
    """The PATH, and where Debian keeps ip and iptables, which an ordinary user's PATH lacks."""
    return f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"


def _listeners() -> frozenset[str]:
    """Return every TCP listener of every process, as namespace and the kernel's words for the address."""
    found = set()
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            space = os.readlink(f"/proc/{pid}/ns/net")
            for family in ("tcp", "tcp6"):
                with open(f"/proc/{pid}/net/{family}", encoding="ascii") as file:
                    found |= {f"{space} {row.split()[1]}" for row in file if row.split()[3] == "0A"}
        except OSError:  # it ended, or isn't ours to look into
            continue
    return frozenset(found)


def require(lesson: Lesson) -> None:
    """Check that what the commands of a lesson and of those before it need is here: Unsupported names it."""
    played = (*earlier(lesson), lesson)
    missing = [
        program
        for program in PACKAGES
        if any(program in one.programs for one in played) and not shutil.which(program, path=_path())
    ]
    if missing:
        packages = " ".join(sorted({PACKAGES[program] for program in missing}))
        raise Unsupported(
            f"lesson {lesson.number} types {', '.join(missing)}, which isn't installed",
            fix=f"`sudo apt install {packages}`, or your system's packages of those programs",
        )
    for need in {need for one in played for need in one.needs}:
        if not os.path.exists(NEEDS[need]):
            fix = f"`sudo modprobe {need}`" if need.islower() else "boot without ipv6.disable=1"
            raise Unsupported(f"lesson {lesson.number} needs {need}, which this kernel hasn't loaded", fix=fix)


def shown(output: str) -> str:
    """Return an output as pages print it: what differs from run to run is left out or has a stand-in.

    Of ping's lines the one about the answer and the count are kept, times become dots, and MAC addresses crosses of the
    same width, so that columns stay. Sentences, which end with a full stop, are folded to the width of a page.
    """
    lines = output.splitlines()
    if any(line.startswith("PING ") for line in lines):
        lines = [line for line in lines if line and not line.startswith(("PING ", "--- ", "rtt "))]
    text = "\n".join(textwrap.fill(line, PAGE) if line.endswith(".") else line.rstrip() for line in lines)
    text = re.sub(r"time=[\d.]+ ms", "time=… ms", text)
    text = re.sub(r"packet loss, time \d+ms", "packet loss, time …ms", text)
    text = re.sub(r"running \d+s", "running …s", text)
    return re.sub(r"\b(?!00:00:00|ff:ff:ff)(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b", "xx:xx:xx:xx:xx:xx", text)
