"""What hot verbs need of ``os``, for the launcher's copy of their code: the C module behind it, and a bit of its path.

``os`` itself takes 1.2 ms to import, most of it for ``_collections_abc``, which is a seventh of what a hot verb costs
above a bare interpreter. Whatever isn't here is asked of the real one, which is imported then (docs/adr/0009).
"""

from __future__ import annotations

import posix
from posix import *  # noqa: F403
from posix import _exit as _exit
from sys import getfilesystemencoding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SEEK_SET = 0
devnull = "/dev/null"
_TEXT = (getfilesystemencoding(), "surrogateescape")
environ: Any = {name.decode(*_TEXT): value.decode(*_TEXT) for name, value in posix.environ.items()}  # type: ignore[no-redef]
"""To read; what is written here reaches no child."""


class _Path:
    """``os.path``."""

    def exists(self, path: str) -> bool:
        """Tell whether something is there, behind all links."""
        return bool(self._mode(path))

    def isdir(self, path: str) -> bool:
        """Tell whether a folder is there, behind all links."""
        return self._mode(path) & 0o170000 == 0o040000

    def basename(self, path: str) -> str:
        """What stands behind the last slash."""
        return path.rpartition("/")[2]

    def _mode(self, path: str) -> int:
        try:
            return posix.stat(path).st_mode
        except (OSError, ValueError):
            return 0

    def __getattr__(self, name: str) -> Any:
        import os

        return getattr(os.path, name)


path = _Path()


def __getattr__(name: str) -> Any:
    """Ask the real one."""
    import os

    return getattr(os, name)
