"""Inside the throwaway host: one lesson is shown, part by part, and each of its commands is run for real.

``python -m nsbridge.frontends.cli.learning [--yes] [--alone] NUMBER``, started by `learn`. Its exit status is 0, 1 when
anything came otherwise than foretold under --yes, or NEXT + the number of the lesson that is wanted now.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sys
import textwrap

import nsbridge
from nsbridge.frontends.cli import output
from nsbridge.frontends.cli.learn import NEXT, hand_terminal
from nsbridge.lessons.lesson import LessonCommand, Prose, lessons
from nsbridge.lessons.stage import Stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsbridge.lessons.lesson import Lesson
    from nsbridge.lessons.stage import Ran

HELP = """\
  Enter   run the command shown
  s       skip it (what comes later may need it)
  b       back to the beginning of the lesson, on a new host
  q       quit: the host is thrown away, nothing stays behind
  ?       this

Anything else you type is run by a shell on the same host: look around, break things. To stay in a shell, type `bash`.
"""

WIDEST = 100
"""Columns; longer lines of prose are hard to read."""

BOLD, CODE, SLANTED, RED, GREEN, RESET = "\x1b[1m", "\x1b[36m", "\x1b[3m", "\x1b[31m", "\x1b[32m", "\x1b[0m"


class Wish(Exception):
    """A person wants to end here; `status` is what to end with."""

    def __init__(self, status: int) -> None:
        super().__init__()
        self.status = status


class Walk:
    """One lesson, played to a person, or to nobody. asks: wait for Enter before each command."""

    def __init__(self, lesson: Lesson, *, asks: bool) -> None:
        self.lesson = lesson
        self.asks = asks
        self.wrong = 0
        self._hinted = False
        _say(_painted(BOLD, f"Lesson {lesson.number} of {len(lessons())}: {lesson.title}"))
        _say("(a throwaway host is being prepared)")
        self.stage = Stage()
        self.stage.replay(lesson)
        _say("")

    def play(self) -> None:
        """Show each part and run each command. Wish when the person would rather be elsewhere."""
        for part in self.lesson.parts:
            if isinstance(part, Prose):
                _say(f"{rendered(part.text, _width())}\n")
            else:
                self._step(part)

    def _step(self, command: LessonCommand) -> None:
        first, *more = command.text.split("\n")
        _say("\n".join([f"  {_painted(BOLD, f'$ {first}')}", *(f"  {_painted(BOLD, f'> {line}')}" for line in more)]))
        if self.asks and not self._wants():
            _say("  skipped\n")
            return
        try:
            ran = self.stage.run(command)
        except KeyboardInterrupt:
            _say("  stopped\n")
            return
        self.wrong += not ran.as_foretold(command)
        _say("".join(f"  {line}\n" for line in ran.output.splitlines()) + f"  {verdict(command, ran)}\n")

    def _wants(self) -> bool:
        """Run what else a person types; return whether the command is to be run."""
        hint = "" if self._hinted else "Enter runs it, ? tells what else there is "
        self._hinted = True
        return self.ask(f"  {hint}▸ ") != "s"

    def ask(self, prompt: str) -> str:
        """Return what was wished for: nothing (Enter) or `s`; everything else is dealt with."""
        while True:
            try:
                line = input(prompt).strip()
            except EOFError:
                _say("")
                raise Wish(0) from None
            prompt = "  ▸ "
            match line:
                case "" | "s":
                    return line
                case "q":
                    raise Wish(0)
                case "b":
                    raise Wish(NEXT + self.lesson.number)
                case "?":
                    _say(HELP)
                case _:
                    self._own(line)

    def _own(self, line: str) -> None:
        sys.stdout.flush()
        status = 0
        with contextlib.suppress(KeyboardInterrupt):  # it was meant for the command, which got it too
            status = self.stage.own(line)
        if status:
            _say(f"  exit status {status}")


def verdict(command: LessonCommand, ran: Ran) -> str:
    """Say whether what was to be expected happened."""
    if ran.as_foretold(command):
        return _painted(GREEN, f"✓ {command.foretold}, as foretold" if command.foretold else "✓")
    should = f"{command.foretold} was foretold" if command.foretold else "this should have worked"
    return _painted(RED, f"✗ {should}, but the exit status is {ran.status}: `b` begins the lesson again")


def rendered(text: str, width: int) -> str:
    """Return Markdown as a terminal shows it: paragraphs filled to a width, pictures as they are."""
    blocks = []
    for place, chunk in enumerate(re.split(r"^```\w*\n(.*?)^```$", text, flags=re.M | re.S)):
        if place % 2:
            blocks.append(chunk.rstrip("\n"))
            continue
        for paragraph in re.split(r"\n{2,}", chunk.strip("\n")):
            if paragraph.startswith("## "):
                blocks.append(_painted(BOLD, paragraph[3:]))
            elif paragraph:
                plain = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", " ".join(paragraph.split()))
                blocks.append(_marked(textwrap.fill(plain, width, break_on_hyphens=False, break_long_words=False)))
    return "\n\n".join(blocks)


def _marked(text: str) -> str:
    """Turn the marks of code and emphasis into colours, where there are any."""
    if not output.coloured(sys.stdout):
        return text
    text = re.sub(r"`([^`]+)`", rf"{CODE}\1{RESET}", text)
    return re.sub(r"(?<!\*)\*([^*`]+)\*(?!\*)", rf"{SLANTED}\1{RESET}", text)


def _painted(colour: str, text: str) -> str:
    return output.paint(sys.stdout, colour, text)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _width() -> int:
    return min(WIDEST, shutil.get_terminal_size().columns)


def main(argv: Sequence[str]) -> int:
    """Play one lesson; see the module for the exit status."""
    *how, number = argv
    course = lessons()
    lesson = course[int(number) - 1]
    walk = Walk(lesson, asks="--yes" not in how)
    try:
        walk.play()
        after = course[lesson.number] if lesson.number < len(course) else None
        if not walk.asks:
            return 1 if walk.wrong else NEXT + after.number if after and "--alone" not in how else 0
        if after is None:
            walk.ask("That was the last lesson; the host is yours until you press Enter ▸ ")
        while after is not None:
            if not walk.ask(
                f"Enter goes on to lesson {after.number}, {after.title!r}; b plays this one again; q quits ▸ "
            ):
                return NEXT + after.number
    except Wish as wish:
        return wish.status
    return 0


def take_terminal() -> None:
    """Become the process group in front of the terminal.

    An interactive shell gives the terminal back to the group that had it before. Started in our process namespace it
    can't name a group outside of it, so we are one inside. Nobody watches whether we are stopped, hence no Ctrl-Z.
    """
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    os.setpgid(0, 0)
    hand_terminal(os.getpgrp())


def script() -> int:
    """Run it inside the throwaway host, and say in words what went wrong."""
    if sys.stdin.isatty():
        take_terminal()
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  `input` then knows the arrow keys
    try:
        return main(sys.argv[1:])
    except nsbridge.NsbridgeError as err:
        print(f"nsbridge learn: {err}", file=sys.stderr)
        return err.exit_code
    except KeyboardInterrupt:
        _say("")
        return 130


if __name__ == "__main__":
    sys.exit(script())
