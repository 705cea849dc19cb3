"""`--show-commands`: what is done, or would be, as commands that a person could type."""

from __future__ import annotations

import sys

from nsbridge.engine import firewalls
from nsbridge.explain import transcript
from nsbridge.frontends.cli import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, TextIO

    from nsbridge.engine.host import Host
    from nsbridge.engine.topology import Change
    from nsbridge.explain.command import Chapter
    from nsbridge.kernel.interface import Kernel
    from nsbridge.plan.step import Step


class Telling:
    """A kernel that tells each step it has done; asked for anything else, it is the kernel behind it."""

    def __init__(self, kernel: Kernel, words: output.Words, style: str) -> None:
        self._kernel = kernel
        self._words = words
        self._style = style
        self._bridges = kernel.facts().bridges

    def __getattr__(self, name: str) -> Any:
        """Hand on everything but `do`."""
        return getattr(self._kernel, name)

    def do(self, step: Step, forget: Iterable[Step] | None = None) -> None:
        """Carry out a step, and tell it. What is refused wasn't done, and isn't told."""
        self._kernel.do(step, forget)
        self._words.pause()
        show(transcript.told((step,), self._style, self._bridges), sys.stderr)


def show(chapters: tuple[Chapter, ...], stream: TextIO) -> None:
    """Write chapters; reasons are dim on a terminal."""
    for chapter in chapters:
        stream.write(output.paint(stream, output.DIM, f"# == {chapter.title}") + "\n")
        for line in transcript.lines(chapter):
            stream.write((output.paint(stream, output.DIM, line) if line.startswith("# ") else line) + "\n")
    stream.flush()


def style(host: Host, args: Any) -> str:
    """Return the style that was asked for, or that of the firewall that holds our rules."""
    return getattr(args, "style", "") or transcript.style_of(firewalls.wanted(host))


def show_changes(host: Host, args: Any, changes: tuple[Change, ...]) -> None:
    """Write what would be done, change by change."""
    chosen, bridges = style(host, args), host.kernel.facts().bridges
    for change in changes:
        heading = f"# ==== {change.what} {change.kind} {change.name}".rstrip() + f": {change.why}"
        output.line(output.paint(sys.stdout, output.DIM, heading))
        show(transcript.told(change.steps, chosen, bridges), sys.stdout)
