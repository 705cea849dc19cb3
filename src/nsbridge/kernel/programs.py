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


def run(name: str, *arguments: str, said: str = "", needed: str = "", package: str = "iptables") -> tuple[int, str]:
    """Run a program in the calling thread's network namespace; return its exit status and all it wrote.

    said: what it reads. needed: what it is needed for, for the error when it isn't installed (`Unsupported`).
    posix_spawn and no shell: 0.7 ms less than subprocess, whose import alone costs 18. The environment goes
    along, with XTABLES_LOCKFILE if it is set.
    """
    path = find(name)
    if path is None:
        raise Unsupported(f"{name} isn't installed{needed}", fix=f"install the package {package}")
    reading, writing = os.pipe()
    text = _memory(said) if said else os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, text, 0), (os.POSIX_SPAWN_DUP2, writing, 1), (os.POSIX_SPAWN_DUP2, writing, 2)]
        child = os.posix_spawn(path, [name, *arguments], os.environ, file_actions=actions)
        os.close(writing)
        writing = -1
        told = b""
        while data := os.read(reading, 65536):
            told += data
        _, status = os.waitpid(child, 0)
    finally:
        os.close(reading)
        os.close(text)
        if writing >= 0:
            os.close(writing)
    return os.waitstatus_to_exitcode(status), told.decode(errors="replace")


def _memory(said: str) -> int:
    """A file in memory to read from: a pipe would fill up while the program writes."""
    fd = os.memfd_create("nsbridge")
    data = said.encode()
    while data:
        data = data[os.write(fd, data) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
