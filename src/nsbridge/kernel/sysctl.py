"""Kernel settings under /proc/sys, those of the calling thread's network namespace.

What ``/proc/sys/net`` shows depends on the thread that opens a file there, so for another namespace these run
in `netns.inside`. Keys have slashes, because interface names may have dots.
"""

from __future__ import annotations

import os


def read(key: str) -> str:
    """Return a setting without its line end, "" when this kernel has none of that name (or its link is gone)."""
    try:
        fd = os.open(f"/proc/sys/{key}", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return ""
    try:
        return os.read(fd, 4096).decode().strip()
    finally:
        os.close(fd)


def write(key: str, value: str) -> None:
    """Change a setting. OSError: ENOENT without such a setting, EPERM or EROFS without the right, EINVAL."""
    fd = os.open(f"/proc/sys/{key}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)
