"""Write docs/lessons from their sources by playing them: ``python -m tools.lessons`` (`make docs`).

A page is its source (src/nsbridge/lessons) with what each command printed below it, in a throwaway host. A command
that doesn't end as its comment foretells stops the writing; a test plays them all again and compares.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from importlib import resources
from pathlib import Path

from nsbridge.lessons.lesson import Lesson, LessonCommand, lessons
from nsbridge.lessons.stage import WORLD, Stage, shown

PAGES = Path(__file__).parents[1] / "docs" / "lessons"
TOGETHER = 4
"""Lessons that are played on one host before the next one is taken."""

INDEX = """\
# Docker's bridge, made by hand

What `docker run -p 8088:80` does to a network is no secret: a dozen kinds of commands do it, and each of them answers
to a packet that didn't arrive. These lessons go from one such packet to the next. Each has one idea, shows first what
fails, then why, then the commands with their reasons, then the packet arriving, and ends with a question that an
experiment answers.

| | |
| --- | --- |
{rows}
Read them here, or have them played to you, each command tried for real when you press Enter, on a host that is thrown
away afterwards. It takes no root and touches nothing of your machine:

```console
$ nsbridge learn
```

They type `ip`, `iptables`, `ping`, `curl` and `python3`. Of nsbridge they use `explain`, which says why a packet
doesn't arrive and changes nothing, until in the last lesson nsbridge does all of it. To follow by hand, get an empty
host with `python3 -m nsbridge.kernel.sandbox -- bash`. The lessons begin with this one, which has a machine outside
that stands for the internet:

```sh
{world}```

A comment at a command's end says how it fails where it must: `# no answer` (silence until the time is over),
`# refused` (the host was reached, and nobody listens there), `# unreachable` (no way to even begin).

The pages are generated (`make docs`) from what the commands printed when they were run, by
{versions}.
A test runs them all again. Of ping's lines the essential ones are kept, dots stand for times and crosses for MAC
addresses.
"""


def versions() -> str:
    """Name the programs whose words are on the pages: others may say the same in other words."""

    def first(*argv: str) -> str:
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()[0]

    curl = " ".join(first("curl", "--version").split()[:2])
    iproute = first("ip", "-V").removeprefix("ip utility, ").replace("-", " ", 1).partition(",")[0]
    ping = first("ping", "-V").removeprefix("ping from ")
    return f"{iproute}, {first('iptables', '-V')}, {curl} and ping of {ping}"


def hosts() -> list[list[Lesson]]:
    """Return the lessons in groups, each to be played on a throwaway host of its own, all at the same time.

    A group begins with what the lessons before it leave, replayed: what it then prints proves that replaying is enough.
    """
    groups: list[list[Lesson]] = []
    for lesson in lessons():
        if lesson.before and len(groups[-1]) < TOGETHER:
            groups[-1].append(lesson)
        else:
            groups.append([lesson])
    return groups


def page(lesson: Lesson, stage: Stage) -> str:
    """Play a lesson and return its page. AssertionError when a command ends otherwise than foretold."""
    lines = source(lesson).splitlines()
    commands = iter(lesson.commands)
    written: list[str] = []
    waiting: LessonCommand | None = None

    def play() -> None:
        nonlocal waiting
        if waiting is not None:
            ran = stage.run(waiting)
            trouble = f"{lesson.name}: $ {waiting.text}\n{ran.output}exit status {ran.status}"
            assert ran.as_foretold(waiting), trouble
            written.extend(shown(ran.output).splitlines())
            waiting = None

    inside = False
    for line in lines:
        if line.startswith("```"):
            play()
            inside = line == "```console"
        elif inside and line.startswith("$ "):
            play()
            waiting = next(commands)
        written.append(line)
    return "\n".join([*written, "", footer(lesson)]) + "\n"


def source(lesson: Lesson) -> str:
    """Return the source of a lesson."""
    return resources.files("nsbridge.lessons").joinpath(f"{lesson.name}.md").read_text("utf-8")


def footer(lesson: Lesson) -> str:
    """Return the links below a page."""
    course = lessons()
    around = {one.number: one for one in course}
    links = ["[All lessons](README.md)"]
    if before := around.get(lesson.number - 1):
        links.insert(0, f"[← {before.number}. {before.title}]({before.name}.md)")
    if after := around.get(lesson.number + 1):
        links.append(f"[{after.number}. {after.title} →]({after.name}.md)")
    return "---\n\n" + " · ".join(links)


def index() -> str:
    """Return the page that lists the lessons."""
    rows = "".join(f"| {one.number} | [{one.title}]({one.name}.md) |\n" for one in lessons())
    return INDEX.format(rows=rows, world=WORLD, versions=versions())


def write(numbers: list[int], place: Path) -> None:
    """Play lessons that follow one another in this throwaway host, and write their pages."""
    chosen = [lesson for lesson in lessons() if lesson.number in numbers]
    stage = Stage()
    stage.replay(chosen[0])
    for lesson in chosen:
        (place / f"{lesson.name}.md").write_text(page(lesson, stage))


def main() -> None:
    """Rewrite docs/lessons, or another directory, in throwaway hosts of our own."""
    parser = argparse.ArgumentParser(prog="python -m tools.lessons", description=main.__doc__)
    parser.add_argument("--to", type=Path, default=PAGES, metavar="DIR", help="where to write (default: docs/lessons)")
    parser.add_argument("numbers", nargs="*", type=int, metavar="LESSON", help="only these, in the host we are in")
    options = parser.parse_args()
    if options.numbers:
        write(options.numbers, options.to)
        return
    options.to.mkdir(parents=True, exist_ok=True)
    inner = [sys.executable, "-m", "nsbridge.kernel.sandbox", "--", sys.executable, "-m", "tools.lessons", "--to"]
    playing = [
        subprocess.Popen([*inner, str(options.to), *(str(lesson.number) for lesson in group)]) for group in hosts()
    ]
    statuses = [one.wait() for one in playing]
    if any(statuses):
        sys.exit(1)
    (options.to / "README.md").write_text(index())
    kept = {"README.md", *(f"{lesson.name}.md" for lesson in lessons())}
    for old in options.to.glob("*.md"):
        if old.name not in kept:
            old.unlink()
    print(f"{os.path.relpath(options.to)}: {len(kept)} pages")


if __name__ == "__main__":
    main()
