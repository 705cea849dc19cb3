"""What verbs write: tables, JSON, and words about what goes on.

Stdout is for results, stderr for everything else. Colours and rich's tables appear only where a terminal shows
them; into a pipe or a file go aligned columns, and nothing of rich is imported. NO_COLOR (no-color.org) and
TERM=dumb are respected.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType
    from typing import Any, Self, TextIO

RED, GREEN, DIM, RESET = "\x1b[31m", "\x1b[32m", "\x1b[2m", "\x1b[0m"
PREFIX_COLOURS = tuple(f"\x1b[{number}m" for number in (36, 33, 32, 35, 34, 31))
"""Of the names before lines of logs, in turn."""

LEAST_CELL = 12
"""Characters to which a cell may be cut."""

_STATE_STYLES = {
    "running": "green",
    "exited": "red",
    "gone": "red",
    "attached": "green",
    "ok": "green",
    "note": "cyan",
    "warning": "yellow",
    "error": "red",
}


def coloured(stream: TextIO) -> bool:
    """Tell whether colours may be written there."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(stream: TextIO, colour: str, text: str) -> str:
    """Return the text in a colour, or as it is where colours have no place."""
    return f"{colour}{text}{RESET}" if coloured(stream) else text


def columns(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return aligned columns, two blanks apart and none at the end of a line."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(header))]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "".join(line.rstrip() + "\n" for line in padded)


def _shown() -> bool:
    """Tell whether a terminal shows what is written to stdout."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def too_narrow(header: Sequence[str], rows: Iterable[Sequence[str]]) -> int:
    """Return the columns of the terminal if a table doesn't fit into them; 0 if it does, or no terminal is there."""
    if not _shown():
        return 0
    from shutil import get_terminal_size

    width = get_terminal_size().columns
    return width if max(map(len, columns(header, rows).splitlines())) > width else 0


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, shrinks: str = "") -> None:
    """Write a table: by rich on a terminal, as columns elsewhere.

    shrinks: the column that is cut short where a terminal is too narrow; the others go on in the next line.
    """
    if not _shown():
        sys.stdout.write(columns(header, rows))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    lines = [list(row) for row in rows]
    if shrinks:
        _cut(header, lines, header.index(shrinks), console.width)
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in header:
        shown.add_column(name, overflow="fold")
    for line in lines:
        shown.add_row(*[Text(cell, style=_STATE_STYLES.get(cell.partition(" ")[0], "")) for cell in line])
    console.print(shown)


def _cut(header: Sequence[str], lines: list[list[str]], place: int, width: int) -> None:
    """Cut the cells of one column so that a line fits into the width, down to `LEAST_CELL` characters."""
    widths = [max(len(line[at]) for line in [list(header), *lines]) for at in range(len(header))]
    room = max(LEAST_CELL, width - sum(widths) + widths[place] - 2 * (len(header) - 1))
    for line in lines:
        if len(line[place]) > room:
            line[place] = line[place][: room - 1] + "…"


def as_json(thing: Any) -> None:
    """Write a thing of dicts, lists and scalars as JSON."""
    import json

    sys.stdout.write(json.dumps(thing, indent=2, ensure_ascii=False) + "\n")


def line(text: str) -> None:
    """Write a line of results."""
    sys.stdout.write(text + "\n")


class Words:
    """Tells on stderr what goes on: a line each, marked as ours since a command's own output may stand beside it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Nothing is left to write."""

    def say(self, text: str) -> None:
        """Tell it."""
        sys.stderr.write(f"nsbridge: {text}\n")
        sys.stderr.flush()

    def pause(self) -> None:
        """Nothing to take away: all of it stands."""


class PlainWords(Words):
    """The same without the mark, for verbs that only report."""

    def say(self, text: str) -> None:
        """Tell it."""
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


class StatusLine(Words):
    """On a terminal: what goes on now stands in a live line at the bottom, what is past stays above it."""

    def __init__(self) -> None:
        self._now = ""
        self._status: Any = None

    def say(self, text: str) -> None:
        """Move on to this."""
        if self._status is None:
            from rich.console import Console

            # Started by the first word, so that a verb with nothing to tell doesn't pay for rich.
            self._status = Console(stderr=True, highlight=False).status("")
            self._status.start()
        self._settle()
        self._now = text
        self._status.update(_escaped(text))

    def pause(self) -> None:
        """Take the live line away; the next word brings it back."""
        if self._status is not None:
            self._settle()
            self._status.stop()
            self._status = None

    def _settle(self) -> None:
        if self._now:
            self._status.console.print(_escaped(self._now), soft_wrap=True)
            self._now = ""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Leave the last word where it is."""
        self.pause()


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def words_for(long: bool, quiet_mark: bool) -> Words:
    """Return how a verb tells what goes on. long: it takes a while. quiet_mark: leave ``nsbridge:`` out."""
    if long and coloured(sys.stderr):
        return StatusLine()
    return PlainWords() if long or quiet_mark else Words()
