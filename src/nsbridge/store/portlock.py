"""A lock on the numbers of host ports, and what is known about them: one byte a port in a sparse file.

Locking bytes of a file (open file description locks, fcntl(2)) makes those wait who want the same number, and nobody
else; a range is one lock. What stands in a byte is a hint: whether the port may have been published, and how. It is
written before the kernel is told and never taken back, so a zero is certain and saves asking the kernel for what could
be in the way; anything else may be out of date, and only costs the question.
"""

from __future__ import annotations

import fcntl
import os

from nsbridge.model.endpoint import PROTOS
from nsbridge.store import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from nsbridge.model.endpoint import Proto

NUMBER, SPECIAL = 1, 2
"""Published under its number alone; published on an address or an interface, or as part of a range."""


_WITH = {hint: bytes([byte | hint for byte in range(256)]) for hint in (NUMBER, SPECIAL)}
"""A hint added to any byte, for `bytes.translate`."""


def _offset(proto: str, port: int) -> int:
    return (PROTOS.index(proto) << 16) + port


class PortLock:
    """The lock, held while the ``with`` block runs. spans: (protocol, first, last); all others are left alone."""

    def __init__(self, path: str, spans: Iterable[tuple[str, int, int]]) -> None:
        self._path = path
        # In order, so that two who want the same ones don't wait for each other.
        self._spans = sorted((_offset(proto, first), last - first + 1) for proto, first, last in spans)
        self._fd = -1

    def __enter__(self) -> PortLock:
        from _struct import pack

        self._fd = files.open_for_new(self._path, os.O_RDWR)
        for start, size in self._spans:
            how = pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, start, size, 0)
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLKW, how)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        os.close(self._fd)

    def hints(self, proto: Proto, first: int, last: int) -> int:
        """Return what is known about any of these ports: bits of NUMBER and SPECIAL, 0 for nothing."""
        found = set(os.pread(self._fd, last - first + 1, _offset(proto, first)))
        return (max((one & NUMBER for one in found), default=0)) | (max((one & SPECIAL for one in found), default=0))

    def note(self, proto: Proto, first: int, last: int, hint: int) -> None:
        """Note that these ports are about to be published."""
        size = last - first + 1
        there = os.pread(self._fd, size, _offset(proto, first)).ljust(size, b"\0")
        noted = there.translate(_WITH[hint])
        if noted != there:
            os.pwrite(self._fd, noted, _offset(proto, first))
