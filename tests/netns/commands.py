"""The real command, run as a process of its own inside the throwaway host."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Self

from lab import Done, eventually, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

NSBRIDGE = (sys.executable, "-m", "nsbridge")

_HOUSEKEEPING = re.compile(
    r"^/run/nsbridge/[^|]*(?:lock|/\.next[46]|/boot|resolv\.conf)\||^/run/nsbridge[^|]*\| a directory"
)
"""Files that stay when everything is gone, by design: locks, cursors, the boot they belong to."""


_CARRIER = re.compile(r"(?<=: )<[^>]*>|state [A-Z]+|linkdown|promiscuity .*|(?<=\|)\s+(?:bridge|veth).*")
"""What changes by itself in a bridge that stays: its carrier, its timers, what its ports offer."""


def settled() -> str:
    """Return the host's snapshot without nsbridge's own empty furniture: equal when nothing was left."""
    kept = (line for line in snapshot().splitlines() if not _HOUSEKEEPING.match(line))
    return "\n".join(_CARRIER.sub("", line).rstrip() for line in kept)


def port_record(target: int, host_port: int) -> dict[str, Any]:
    """A TCP port on all addresses, as ``--json`` shows it."""
    return {
        "target": target,
        "host_port": host_port,
        "host_ip": None,
        "protocol": "tcp",
        "interface": "",
        "count": 1,
        "shared": False,
    }


class Command:
    """`nsbridge`, called as ``nb("ps", "--json")``. Everything it was made to do is taken away at the end."""

    def __enter__(self) -> Self:
        self._started: list[subprocess.Popen[str]] = []
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.communicate()
        if names := self("ps", "-a", "-q", check=False).out.split():
            self("rm", "-f", *names, check=False)

    def __call__(self, *argv: str, stdin: str = "", check: bool = True, **environ: str) -> Done:
        """Run it to its end; fail the test when it fails, unless told not to."""
        done = subprocess.run(
            [*NSBRIDGE, *argv],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            env=os.environ | environ,
        )
        assert not check or done.returncode == 0, f"{argv}: {done.returncode}\n{done.stdout}{done.stderr}"
        return Done(done.returncode, done.stdout, done.stderr)

    def json(self, *argv: str) -> Any:
        """Run it and read its stdout as JSON."""
        return json.loads(self(*argv).out)

    def fails(self, status: int, *argv: str, **more: Any) -> str:
        """Run what has to fail with this status and nothing on stdout; return what it says."""
        done = self(*argv, check=False, **more)
        assert (done.status, done.out) == (status, ""), done
        return done.err

    def start(self, *argv: str, **more: Any) -> subprocess.Popen[str]:
        """Start it and go on."""
        pipe = subprocess.PIPE
        process = subprocess.Popen([*NSBRIDGE, *argv], **({"stdout": pipe, "stderr": pipe, "text": True} | more))
        self._started.append(process)
        return process

    def wait_until_running(self, name: str) -> int:
        """Wait until a service's command runs; return its pid."""

        def look() -> int:
            found = [one for one in self.json("ps", "--json") if one["name"] == name and one["state"] == "running"]
            return int(found[0]["pid"]) if found else 0

        pid: int = eventually(look, timeout_s=10.0)
        assert pid, f"{name} doesn't run"
        return pid


def soon(check: Callable[[], Any], timeout_s: float = 10.0) -> Any:
    """Return the first true value of a check, or fail."""
    deadline = time.monotonic() + timeout_s
    while not (value := check()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)
    return value
