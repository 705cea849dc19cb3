"""Other people's programs: found where root's PATH would look, run without a shell."""

from __future__ import annotations

import os

from nsbridge.errors import Unsupported

_ELSEWHERE = ("/usr/sbin", "/sbin", "/usr/local/sbin")


def find(name: str) -> str | None:
    """Return the path of a program, looked for where root's PATH would and a service's often doesn't."""
    for directory in (*os.environ.get("PATH", "").split(":"), *_ELSEWHERE):
        path = f"{directory}/{name}"
        if directory.startswith("/") and os.access(path, os.X_OK):
            return path
    return None


def run(name: str, *arguments: str, said: str = "", needed: str = "") -> tuple[int, str, str]:
    """Run a program in the calling thread's network namespace; return its exit status, what it wrote, its complaints.

    said: what it reads. needed: what it is needed for, for the error when it isn't installed (`Unsupported`).
    posix_spawn and no shell: 0.7 ms less than subprocess, whose import alone costs 18. The environment goes
    along, with XTABLES_LOCKFILE if it is set.
    """
    path = find(name)
    if path is None:
        raise Unsupported(f"{name} isn't installed{needed}", fix="install the package iptables")
    # Files in memory: a pipe fills up while nobody reads it, and there are three.
    files = [os.memfd_create("nsbridge") for _ in range(3)]
    try:
        data = said.encode()
        while data:
            data = data[os.write(files[0], data) :]
        os.lseek(files[0], 0, os.SEEK_SET)
        actions = [(os.POSIX_SPAWN_DUP2, fd, place) for place, fd in enumerate(files)]
        child = os.posix_spawn(path, [name, *arguments], os.environ, file_actions=actions)
        _, status = os.waitpid(child, 0)
        out, err = map(_text, files[1:])
    finally:
        for fd in files:
            os.close(fd)
    return os.waitstatus_to_exitcode(status), out, err


def _text(fd: int) -> str:
    return os.pread(fd, os.fstat(fd).st_size, 0).decode(errors="replace")
