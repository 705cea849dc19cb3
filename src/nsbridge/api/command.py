"""`nsbridge.Command`, a command in the background; and commands that are waited for, as `subprocess.run` does."""

from __future__ import annotations

import os
import select
import subprocess
import time
from typing import TYPE_CHECKING, Any, Self

from nsbridge.api.host import current
from nsbridge.engine import services
from nsbridge.kernel import process

if TYPE_CHECKING:
    from types import TracebackType

    from nsbridge.kernel.process import ProcessSpec
    from nsbridge.store.store import ServiceRecord

SETTLE_S = 2.0
"""Seconds in which the monitor of a command that has ended writes down its exit status."""


class Command:
    """A command in the background, by the name of its service. As a `with` block it is stopped at the end."""

    def __init__(self, name: str) -> None:
        self.name = name

    def _record(self) -> ServiceRecord:
        return current().store.service(self.name)

    @property
    def pid(self) -> int:
        """Its process."""
        return self._record().pid

    @property
    def running(self) -> bool:
        """Whether it still runs."""
        return services.status(current(), self._record()).state == "running"

    @property
    def exit_status(self) -> int | None:
        """Its exit status, 128+n when signal n ended it; None while it runs."""
        return services.status(current(), self._record()).exit_status

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait until it ends; return its exit status, None if that was lost. TimeoutError after `timeout` seconds."""
        record = self._record()
        if process.alive(process.Running(record.pid, record.started)):
            _outwait(record.pid, self.name, timeout)
        deadline = time.monotonic() + SETTLE_S
        while (status := self.exit_status) is None and time.monotonic() < deadline:
            time.sleep(0.005)
        return status

    def stop(self, *, grace_s: float = services.GRACE_S) -> int | None:
        """End it and its process group: SIGTERM, and SIGKILL after `grace_s` seconds; return its exit status."""
        record = self._record()
        process.stop([process.Running(record.pid, record.started)], grace_s)
        return self.wait(SETTLE_S)

    def logs(self) -> str:
        """Return what it wrote so far, stdout and stderr together."""
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    @property
    def log_path(self) -> str:
        """The file that takes what it writes."""
        return services.log_path(current(), self.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Stop it if it is still there."""
        if current().store.service_or_none(self.name) is not None:
            self.stop()

    def __repr__(self) -> str:
        return f"<nsbridge.Command {self.name!r}>"


def _outwait(pid: int, name: str, timeout: float | None) -> None:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if not poll.poll(None if timeout is None else timeout * 1000):
            raise TimeoutError(f"the command of {name!r} still runs after {timeout} s")
    finally:
        os.close(fd)


def run(
    spec: ProcessSpec,
    *,
    text: bool,
    input: Any = None,
    capture_output: bool = False,
    check: bool = False,
    timeout: float | None = None,
    **files: Any,
) -> subprocess.CompletedProcess[Any]:
    """Run a command to its end. `subprocess.Popen` spawns the preparing process, so its pipes are the command's."""
    if input is not None:
        files["stdin"] = subprocess.PIPE
    if capture_output:
        files |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    spawned: list[subprocess.Popen[Any]] = []

    def spawn(argv: list[str], fds: list[int]) -> int:
        spawned.append(subprocess.Popen(argv, pass_fds=fds, text=text, **files))
        return spawned[0].pid

    try:
        process.begin(spec, process.unrecorded, (), spawn)
    except BaseException:
        for child in spawned:  # reaped already; this closes its pipes
            with child:
                child.kill()
        raise
    with spawned[0] as child:
        try:
            out, err = child.communicate(input, timeout)
        except BaseException as error:
            child.kill()
            if isinstance(error, subprocess.TimeoutExpired):
                error.cmd = list(spec.argv)
                error.output, error.stderr = child.communicate()
            raise
    done = subprocess.CompletedProcess(list(spec.argv), child.returncode, out, err)
    if check:
        done.check_returncode()
    return done
