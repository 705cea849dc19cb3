"""`nsbridge learn`: a throwaway host for each lesson, and in it `learning`, which plays the lesson.

A lesson always begins on a new host that has been brought into the state which the lessons before it leave. So going
back, going on and starting in the middle are one thing: this process starts the next sandbox, and the kernel takes the
old one away with all that a person did in it. Which lesson comes next is told by the exit status of the one that ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

from nsbridge.frontends.cli import output
from nsbridge.kernel import sandbox
from nsbridge.lessons.lesson import find, lessons
from nsbridge.lessons.stage import require

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NEXT = 64
"""Exit status of a lesson that ends with the wish for lesson n: NEXT + n. Statuses below have their usual meaning."""


def learn(args: Any) -> int:
    """List the lessons or play them; exit status 1 if with --yes anything came otherwise than foretold."""
    course = lessons()
    if args.list:
        sys.stdout.write(output.columns(("LESSON", "NAME", "TITLE"), [_row(one.name, one.title) for one in course]))
        return 0
    lesson = find(args.lesson) if args.lesson else course[0]
    while True:
        require(lesson)
        how = [*(["--yes"] if args.yes else []), *(["--alone"] if args.yes and args.lesson else [])]
        sys.stdout.flush()
        # -P: the working directory's files aren't ours to import.
        inner = [sys.executable, "-P", "-m", "nsbridge.frontends.cli.learning", *how, str(lesson.number)]
        status = _run(inner)
        if not NEXT < status <= NEXT + len(course):
            return status
        lesson = course[status - NEXT - 1]


def _run(argv: list[str]) -> int:
    """Run it in a sandbox, and be in front of the terminal again afterwards: it takes that for itself."""
    group = os.tcgetpgrp(0) if sys.stdin.isatty() else 0
    try:
        return sandbox.run(argv)
    finally:
        if group:
            hand_terminal(group)


def hand_terminal(group: int) -> None:
    """Put a process group of this session in front of the terminal, also from behind it (tcsetpgrp(3))."""
    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    with contextlib.suppress(OSError):  # nobody's terminal, or hung up
        os.tcsetpgrp(0, group)
    signal.signal(signal.SIGTTOU, before)


def _row(name: str, title: str) -> tuple[str, str, str]:
    number, _, rest = name.partition("-")
    return number.lstrip("0"), rest, title
