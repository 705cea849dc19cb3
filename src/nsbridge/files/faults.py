"""Faults with positions, and the report that collects them while a file is read."""

from __future__ import annotations

import re
from typing import Any, TypeAlias

from nsbridge.errors import InvalidFile
from nsbridge.values import Value

Path: TypeAlias = tuple[str | int, ...]
"""Where something stands in the tree: ``("services", "web", "ports", 0)``."""

_PLAIN = re.compile(r"[A-Za-z0-9_-]+")


def path_text(path: Path) -> str:
    """``services.web.ports[0]``; a key with other characters is quoted: ``driver_opts["com.docker…"]``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f'["{part}"]'
    return text


class Fault(Value):
    """One thing wrong in a file.

    line, column: from 1 in characters, both 0 when unknown (TOML gives no positions). path: as `path_text` writes
    it. hint: what to do, or empty.
    """

    file: str
    line: int
    column: int
    path: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        """``file:line:column: services.web.ports[0]: message (hint)``, without what is unknown."""
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        path = f"{self.path}: " if self.path else ""
        return f"{place}: {path}{self.message}" + (f" ({self.hint})" if self.hint else "")


class Wrong(Exception):
    """A value that can't be, raised by small parsers that don't know where they are."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Spot(Value):
    """Line and column, from 1, of a key (or list item) and of its value."""

    key: tuple[int, int]
    value: tuple[int, int]


class Report:
    """What is known about one file while it is read: where everything stands, its faults, its warnings.

    broken: paths with a fault of structure; checks of one part against another leave these parts out, so that one
    mistake isn't told twice. moved: lists from which faulty items were taken out, with the old index of each that is
    left, so that positions stay right.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.where: dict[Path, Spot] = {}
        self.broken: frozenset[Path] = frozenset()
        self.moved: dict[Path, list[int]] = {}
        self._faults: dict[Fault, None] = {}
        self._faulty: set[Path] = set()
        self._warnings: dict[Fault, None] = {}

    def _place(self, path: Path, key: bool) -> tuple[int, int]:
        """Position of the path, or of its nearest ancestor, which then is meant as a whole: by its key."""
        spot = self.where.get(path)
        while spot is None and path:
            path, key = path[:-1], True
            spot = self.where.get(path)
        if spot is None:
            return (0, 0)
        return spot.key if key else spot.value

    def fault(self, path: Path, message: str, hint: str = "", *, key: bool = False) -> None:
        """Add a fault at a value, or at its key; the first one at a place is enough."""
        path = self.original(path)
        if path not in self._faulty:
            self._faulty.add(path)
            self._faults[Fault(self.file, *self._place(path, key), path_text(path), message, hint)] = None

    def original(self, path: Path) -> Path:
        """Return the path as it was before faulty items were taken out of lists."""
        parts: list[str | int] = []
        for part in path:
            moved = self.moved.get(tuple(parts))
            parts.append(moved[part] if moved is not None and isinstance(part, int) else part)
        return tuple(parts)

    def take_out(self, data: Any, path: Path) -> None:
        """Remove a faulty value from the tree; a whole service or network stays, empty, so that its name is known."""
        for part in path[:-1]:
            data = data[part]
        last = path[-1]
        if len(path) == 2:
            data[last] = None
        elif isinstance(data, list):
            original = self.original(path[:-1])
            self.moved.setdefault(original, list(range(len(data)))).pop(int(last))
            del data[int(last)]
        else:
            del data[last]

    def add(self, fault: Fault) -> None:
        """Add a fault whose position is known."""
        self._faults[fault] = None

    def warn(self, path: Path, message: str, hint: str = "", *, key: bool = False) -> None:
        """Add a warning: the file can be used, and a person should know."""
        path = self.original(path)
        self._warnings[Fault(self.file, *self._place(path, key), path_text(path), message, hint)] = None

    def line(self, path: Path) -> int:
        """Line of a key, 0 when unknown."""
        return self._place(self.original(path), True)[0]

    def settle(self) -> None:
        """End the checks of structure: what has a fault by now is `broken`."""
        self.broken = frozenset(self._faulty)

    def is_broken(self, *path: str | int) -> bool:
        """Tell whether this part, or anything in it, had a fault of structure."""
        return any(one[: len(path)] == path for one in self.broken)

    @property
    def warnings(self) -> tuple[str, ...]:
        """The warnings as text, by position."""
        return tuple(map(str, sorted(self._warnings, key=_by_position)))

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The faults by position."""
        return tuple(sorted(self._faults, key=_by_position))

    def raise_faults(self) -> None:
        """Raise InvalidFile if there is any fault; its message has a line for each."""
        if not (faults := self.faults):
            return
        lines = "\n".join(map(str, faults))
        count = "" if len(faults) == 1 else f"{self.file} has {len(faults)} faults:\n"
        raise InvalidFile(count + lines, faults=faults)


def _by_position(fault: Fault) -> tuple[Any, ...]:
    return (fault.file, fault.line, fault.column, fault.path, fault.message)
