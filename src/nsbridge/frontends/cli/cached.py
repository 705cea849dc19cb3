"""Modules of ours out of one file, which `launcher` wrote: few reads instead of sixty, and no searching.

The file begins with a head, which every command reads: the compiled code of this module, which the launcher runs with
the text in hand, and what hot verbs need. Then come their modules, in the order in which they are done loading, the
places of all modules, and last all of them whole, for whoever needs more. Those of hot verbs are all run before anybody
asks for them (`Cached.preload`): the import system takes as long for a module as most take to run, and this way it
finds them where it looks first, in `sys.modules`.

What hot verbs don't call has no body there: a function that is called all the same has it from the whole module
(`Cached.body`).

A module whose source has changed since, by size or time, is left to the path, so what runs is what is there, whatever
was installed or edited meanwhile; one such among the hot ones, and all of them are imported one by one.
"""

from __future__ import annotations

import sys
from _frozen_importlib import ModuleSpec
from marshal import loads
from posix import fstat, pread, read, stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, ModuleType
    from typing import Any, TypeAlias

    Entry: TypeAlias = tuple[int, int, str, bool, int, int]
    """Where its code is, counted from the file's end; its size; the source, whether a package, bytes and mtime (ns)
    of it."""
    Hot: TypeAlias = tuple[int, int, int, str, bool, int, int]
    """The size of what hot verbs need of it, and its `Entry`."""

FUNCTION: Any = type(lambda: None)

HOT = ("connect", "disconnect", "publish", "unpublish")
"""The verbs whose modules are loaded ahead."""


class Cached:
    """Finds and loads modules (importlib.abc.MetaPathFinder and Loader, whose import would cost more than it saves).

    fd: the file, open as long as we live, for another may take its name meanwhile. hot: the modules of hot verbs; their
    code begins at `start`, and `places` bytes of index follow it.
    """

    def __init__(self, fd: int, hot: dict[str, Hot], start: int, places: int, end: int) -> None:
        self._fd = fd
        self._hot = hot
        self._start = start
        self._places = places
        self._end = end
        self._index: dict[str, Entry] = {}
        self._whole: dict[str, CodeType] = {}
        self._bodies: dict[tuple[str, str], Callable[..., Any]] = {}

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return what a module is made from, None for one that isn't here or whose source is another by now."""
        entry = self._entry(name)
        return None if entry is None or not _unchanged(entry) else self._spec(name, entry)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Leave making it to the interpreter."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Run its code."""
        exec(self._code(module.__name__), module.__dict__)

    def body(self, module: str, name: str) -> Callable[..., Any]:
        """Return the function that a hot module has without its body; name: with the class it is in."""
        found = self._bodies.get((module, name))
        if found is None:
            code = self._whole.get(module) or self._code(module)
            self._whole[module] = code
            for part in name.split("."):
                code = next(each for each in code.co_consts if type(each) is type(code) and each.co_name == part)
            found = self._bodies[module, name] = FUNCTION(code, sys.modules[module].__dict__)
        return found

    def preload(self) -> None:
        """Run the modules of hot verbs, which come next in the file; none if the source of one has changed."""
        if not all(_unchanged(hot[1:]) for hot in self._hot.values()):
            return
        for name, hot in self._hot.items():
            # One read each: a buffer for all of them would be 0.5 MB of fresh pages.
            code = read(self._fd, hot[0])
            if name in sys.modules:
                continue
            # What the import system does, without its locks and searches: nobody else runs yet.
            spec = self._spec(name, hot[1:])
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

    def _entry(self, name: str) -> Entry | None:
        if name in self._hot:
            return self._hot[name][1:]
        if not name.startswith("nsbridge"):
            return None
        if not self._index:
            after = self._start + sum([hot[0] for hot in self._hot.values()])
            self._index = loads(pread(self._fd, self._places, after))
        return self._index.get(name)

    def _spec(self, name: str, entry: Entry) -> ModuleSpec:
        source, package = entry[2:4]
        spec = ModuleSpec(name, self, origin=source, is_package=package)  # type: ignore[arg-type]
        spec.has_location = True
        if package:
            spec.submodule_search_locations = [source.rpartition("/")[0]]
        return spec

    def _code(self, name: str) -> CodeType:
        entry = self._entry(name)
        assert entry is not None  # asked for what was found here
        code: CodeType = loads(pread(self._fd, entry[1], self._end + entry[0]))
        return code


def _unchanged(entry: Entry) -> bool:
    try:
        found = stat(entry[2])
    except OSError:
        return False
    return (found.st_size, found.st_mtime_ns) == entry[4:]


def use(fd: int, start: int, hot: dict[str, Hot], places: int, rest: int) -> None:
    """Look here first from now on; for a hot verb, have its modules at once.

    fd: the file, read as far as its head, which ends at `start`. rest: bytes that follow; a file that lost some is left
    alone.
    """
    if fstat(fd).st_size != start + rest:
        return
    ours = Cached(fd, hot, start, places, start + rest)
    sys.meta_path.insert(0, ours)
    if sys.argv[1:] and sys.argv[1] in HOT:
        ours.preload()
