"""Modules of ours out of one file, which `launcher` wrote: few reads instead of sixty, and no searching.

The file begins with a head, which every command reads: the compiled code of this module, which the launcher runs with
the text in hand, and what there is. Then come the modules of hot verbs, in the order in which they are done loading,
and last the body with all modules, for whoever needs more. Those of hot verbs are all run before anybody asks for them
(`Cached.preload`): the import system takes as long for a module as most take to run, and this way it finds them where
it looks first, in `sys.modules`.

A module whose source has changed since, by size or time, is left to the path, so what runs is what is there, whatever
was installed or edited meanwhile; one such among the hot ones, and all of them are imported one by one.
"""

from __future__ import annotations

import sys
from _frozen_importlib import ModuleSpec
from marshal import loads
from posix import O_CLOEXEC, close, fstat, open, pread, read, stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import TypeAlias

    Entry: TypeAlias = tuple[int, int, str, bool, int, int]
    """Where its code is, counted from the file's end; its size; the source, whether a package, bytes and mtime (ns)
    of it."""

HOT = ("connect", "disconnect", "publish", "unpublish")
"""The verbs whose modules are loaded ahead."""


class Cached:
    """Finds and loads modules (importlib.abc.MetaPathFinder and Loader, whose import would cost more than it saves)."""

    def __init__(self, path: str, head: bytes, index: dict[str, Entry]) -> None:
        self._path = path
        self._head = head
        self._index = index
        self._fd = -1
        self._end = 0

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return what a module is made from, None for one that isn't here or whose source is another by now."""
        entry = self._index.get(name)
        if entry is None or not _unchanged(entry) or not self._there():
            return None
        return self._spec(name, entry)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Leave making it to the interpreter."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Run its code."""
        start, size = self._index[module.__name__][:2]
        exec(loads(pread(self._fd, size, self._end + start)), module.__dict__)

    def preload(self, fd: int, hot: tuple[tuple[str, int], ...]) -> None:
        """Run the modules that follow in the open file, in their order; none if the source of one has changed."""
        if not all(_unchanged(self._index[name]) for name, _ in hot):
            return
        for name, size in hot:
            # One read each: a buffer for all of them would be 0.8 MB of fresh pages.
            code = read(fd, size)
            if name in sys.modules:
                continue
            # What the import system does, without its locks and searches: nobody else runs yet.
            spec = self._spec(name, self._index[name])
            module = type(sys)(name)
            module.__spec__ = spec
            module.__loader__ = self  # type: ignore[assignment]
            module.__file__ = spec.origin
            module.__package__ = spec.parent
            if spec.submodule_search_locations is not None:
                module.__path__ = spec.submodule_search_locations
            sys.modules[name] = module
            try:
                exec(loads(code), module.__dict__)
            except BaseException:
                del sys.modules[name]
                raise
            parent, _, last = name.rpartition(".")
            if parent:
                setattr(sys.modules[parent], last, module)

    def _spec(self, name: str, entry: Entry) -> ModuleSpec:
        source, package = entry[2:4]
        spec = ModuleSpec(name, self, origin=source, is_package=package)  # type: ignore[arg-type]
        spec.has_location = True
        if package:
            spec.submodule_search_locations = [source.rpartition("/")[0]]
        return spec

    def _there(self) -> bool:
        """Have the file open, as long as we live; False if it is another one by now or gone."""
        if self._fd < 0 and self._index:
            try:
                fd = open(self._path, O_CLOEXEC)
            except OSError:
                self._index = {}
                return False
            if read(fd, len(self._head)) == self._head:
                self._fd, self._end = fd, fstat(fd).st_size
            else:
                close(fd)
                self._index = {}
        return self._fd >= 0


def _unchanged(entry: Entry) -> bool:
    try:
        found = stat(entry[2])
    except OSError:
        return False
    return (found.st_size, found.st_mtime_ns) == entry[4:]


def use(path: str, fd: int, head: bytes, index: dict[str, Entry], hot: tuple[tuple[str, int], ...], rest: int) -> None:
    """Look here first from now on; for a hot verb, have its modules at once.

    fd: the file, read as far as its head. rest: bytes that follow; a file that lost some is left alone.
    """
    if fstat(fd).st_size != len(head) + rest:
        return
    ours = Cached(path, head, index)
    sys.meta_path.insert(0, ours)
    if sys.argv[1:] and sys.argv[1] in HOT:
        ours.preload(fd, hot)
