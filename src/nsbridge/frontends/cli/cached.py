"""Modules of ours out of one file, which `launcher` wrote: one read instead of sixty, and no searching.

The file begins with the compiled code of this module, which the launcher runs with the whole text in hand; then comes
each module's own. A module whose source has changed since, by size or time, is left to the path, so what runs is what
is there, whatever was installed or edited meanwhile.
"""

from __future__ import annotations

import sys
from _frozen_importlib import ModuleSpec
from marshal import loads
from posix import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import TypeAlias

    Entry: TypeAlias = tuple[int, int, str, bool, int, int]
    """Where its code is, counted from the end; its size; the source, whether a package, bytes and mtime (ns) of it."""


class Cached:
    """Finds and loads modules (importlib.abc.MetaPathFinder and Loader, whose import would cost more than it saves)."""

    def __init__(self, text: bytes, index: dict[str, Entry]) -> None:
        self._text = memoryview(text)
        self._index = index

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return what a module is made from, None for one that isn't here or whose source is another by now."""
        entry = self._index.get(name)
        if entry is None:
            return None
        _, _, source, package, size, time = entry
        try:
            found = stat(source)
        except OSError:
            return None
        if (found.st_size, found.st_mtime_ns) != (size, time):
            return None
        spec = ModuleSpec(name, self, origin=source, is_package=package)  # type: ignore[arg-type]
        spec.has_location = True
        if package:
            spec.submodule_search_locations = [source.rpartition("/")[0]]
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Leave making it to the interpreter."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Run its code."""
        start, size = self._index[module.__name__][:2]
        start += len(self._text)
        exec(loads(self._text[start : start + size]), module.__dict__)


def use(text: bytes, index: dict[str, Entry]) -> None:
    """Look here first from now on."""
    sys.meta_path.insert(0, Cached(text, index))
