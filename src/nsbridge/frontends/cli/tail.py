"""Showing logs: what is there, and what comes while commands run.

A log is a file that only grows until its service is made anew; then it is another file, which is seen by its inode.
"""

from __future__ import annotations

import os
import sys
import time

from nsbridge.engine import services
from nsbridge.frontends.cli.output import PREFIX_COLOURS, paint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias

    from nsbridge.engine.host import Host

    Position: TypeAlias = tuple[int, int]

PAUSE_S = 0.1
"""Between two looks at the files."""

NOTICE_S = 1.0
"""How long the exit status of a command that has just ended may take to be written down."""

BLOCK = 1 << 16


class Log:
    """One growing file. inode, offset: how far it has been read; another file by that name is read from its start."""

    def __init__(self, path: str, position: Position = (0, 0)) -> None:
        self.path = path
        self.inode, self.offset = position
        self._partial = b""

    def lines(self, *, rest: bool) -> list[bytes]:
        """Return the lines that have come. rest: also one that doesn't end yet."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return []
        with open(fd, "rb") as file:
            there = os.fstat(fd)
            if there.st_ino != self.inode:
                self.offset = 0 if self.inode else self.offset
                self.inode = there.st_ino
            file.seek(min(self.offset, there.st_size))
            text = self._partial + file.read()
            self.offset = file.tell()
        *whole, self._partial = text.split(b"\n")
        if rest and self._partial:
            whole.append(self._partial)
            self._partial = b""
        return whole

    def skip_to_last(self, count: int) -> None:
        """Go to where the last lines begin, reading from the end."""
        try:
            with open(self.path, "rb") as file:
                end = file.seek(0, os.SEEK_END)
                at, text = end, b""
                # A newline at the very end closes the last line and opens none.
                while at and text.rstrip(b"\n").count(b"\n") < count + 1:
                    at = max(0, at - BLOCK)
                    file.seek(at)
                    text = file.read(end - at)
        except FileNotFoundError:
            return
        kept = text.splitlines(keepends=True)[-count:] if count else []
        self.offset = end - sum(map(len, kept))


def positions(host: Host) -> dict[str, Position]:
    """Return how far every service's log has come by now."""
    found = {}
    for record in host.store.services():
        try:
            there = os.stat(host.store.log(record.service.name))
        except FileNotFoundError:
            continue
        found[record.service.name] = (there.st_ino, there.st_size)
    return found


class Logs:
    """The logs of several services on stdout. prefixed: each line begins with its service's name."""

    def __init__(
        self, host: Host, names: Iterable[str], *, prefixed: bool = True, seen: dict[str, Position] | None = None
    ) -> None:
        self.host = host
        self._logs = {name: Log(host.store.log(name), (seen or {}).get(name, (0, 0))) for name in names}
        self._prefixes = self._make_prefixes() if prefixed else dict.fromkeys(self._logs, b"")
        self.ended: set[str] = set()

    def _make_prefixes(self) -> dict[str, bytes]:
        width = max(map(len, self._logs), default=0)
        found = {}
        for place, name in enumerate(self._logs):
            colour = PREFIX_COLOURS[place % len(PREFIX_COLOURS)]
            found[name] = (paint(sys.stdout, colour, f"{name:{width}} |") + " ").encode()
        return found

    def skip_to_last(self, count: int) -> None:
        """Leave out all but the last lines of each."""
        for log in self._logs.values():
            log.skip_to_last(count)

    def pump(self, *, rest: bool = False) -> bool:
        """Show what has come; tell whether anything has."""
        out = [self._prefixes[name] + line + b"\n" for name, log in self._logs.items() for line in log.lines(rest=rest)]
        if out:
            sys.stdout.flush()
            sys.stdout.buffer.write(b"".join(out))
            sys.stdout.buffer.flush()
        return bool(out)

    def _running(self) -> set[str]:
        found = set()
        for name in self._logs:
            record = self.host.store.service_or_none(name)
            if record is not None and services.status(self.host, record).state == "running":
                found.add(name)
        return found

    def follow(self, *, tell_ends: bool = False) -> None:
        """Show what comes until every command has ended. tell_ends: say so of each, with its exit status."""
        running = self._running()
        while True:
            still = self._running()
            self.pump(rest=not still)
            for name in sorted(running - still):
                if tell_ends:
                    self._tell_end(name)
            running = still
            if not running:
                return
            time.sleep(PAUSE_S)

    def _tell_end(self, name: str) -> None:
        deadline = time.monotonic() + NOTICE_S
        while True:
            record = self.host.store.service_or_none(name)
            if record is None:
                self.host.say(f"{name} was removed")
                return
            status = services.status(self.host, record)
            if status.exit_status is not None or time.monotonic() > deadline:
                break
            time.sleep(PAUSE_S / 10)
        code = "an unknown status" if status.exit_status is None else f"code {status.exit_status}"
        self.host.say(f"{name} exited with {code}")
