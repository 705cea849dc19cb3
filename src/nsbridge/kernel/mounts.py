"""Changing a file that a running process sees, by a bind mount in its mount namespace."""

from __future__ import annotations

import os

from nsbridge.kernel import libc, netns


def show(pid: int, source: str, target: str) -> None:
    """Let the process `pid` and all in its mount namespace see the file `source` in place of `target`.

    What we had mounted there before is taken away first. OSError when the process is gone or we may not.
    """
    fd = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)

    def work() -> None:
        # A thread that shares its root and working directory with others may not change mount namespace.
        libc.unshare(libc.CLONE_FS)
        libc.setns(fd, libc.CLONE_NEWNS)
        real = os.path.realpath(target)
        try:  # noqa: SIM105 (contextlib is too dear to import)
            libc.umount(real)
        except OSError:  # nothing was mounted
            pass
        libc.mount(source, real, libc.MS_BIND)

    try:
        netns.in_thread(work)
    finally:
        os.close(fd)
