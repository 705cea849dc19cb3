"""`--show-commands` and the verb `script`: what is done, or would be, as commands that a person could type."""

from __future__ import annotations

import sys

from nsbridge import files
from nsbridge.engine import layout
from nsbridge.explain import transcript
from nsbridge.frontends.cli import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, TextIO

    from nsbridge.engine.host import Host
    from nsbridge.engine.layout import Layout
    from nsbridge.engine.topology import Change
    from nsbridge.explain.command import Chapter
    from nsbridge.kernel.interface import Kernel
    from nsbridge.model.service import Topology
    from nsbridge.plan.step import Step


class Telling:
    """A kernel that tells each step it has done; asked for anything else, it is the kernel behind it."""

    def __init__(self, kernel: Kernel, words: output.Words) -> None:
        self._kernel = kernel
        self._words = words

    def __getattr__(self, name: str) -> Any:
        """Hand on everything but `do`."""
        return getattr(self._kernel, name)

    def do(self, step: Step, forget: Iterable[Step] | None = None) -> None:
        """Carry out a step, and tell it. What is refused wasn't done, and isn't told."""
        self._kernel.do(step, forget)
        self._words.pause()
        show(transcript.told((step,)), sys.stderr)


def show(chapters: tuple[Chapter, ...], stream: TextIO) -> None:
    """Write chapters; reasons are dim on a terminal."""
    for chapter in chapters:
        stream.write(output.paint(stream, output.DIM, f"# == {chapter.title}") + "\n")
        for line in transcript.lines(chapter):
            stream.write((output.paint(stream, output.DIM, line) if line.startswith("# ") else line) + "\n")
    stream.flush()


def show_changes(changes: tuple[Change, ...]) -> None:
    """Write what would be done, change by change."""
    for change in changes:
        heading = f"# ==== {change.what} {change.kind} {change.name}".rstrip() + f": {change.why}"
        output.line(output.paint(sys.stdout, output.DIM, heading))
        show(transcript.told(change.steps), sys.stdout)


def script(host: Host, args: Any) -> None:
    """Print a script that builds, or takes away, what a file describes or what is up."""
    found, title = described(host, read_file(args))
    if args.down:
        chapters = transcript.backwards(found.things, args.style)
        about = "It takes away what the script without --down builds, and touches nothing else."
    else:
        chapters = transcript.lesson(found.things, args.style)
        about = "It builds by hand what nsbridge builds, in the order in which one would explain it."
    sys.stdout.write(transcript.script(chapters, title, about, found.strange))


def read_file(args: Any) -> Topology | None:
    """Return the topology of the file that was named, None without one."""
    path = args.topology or args.file
    return files.read(path, project=args.project or None) if path else None


def described(host: Host, topology: Topology | None) -> tuple[Layout, str]:
    """Return what a topology describes, or without one what is up on this host; and what to call it."""
    if topology is not None:
        return layout.planned(host, topology), f"Project {topology.project}"
    return layout.standing(host), "What nsbridge has on this host"
