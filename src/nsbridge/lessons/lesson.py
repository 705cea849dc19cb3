"""A lesson is a page of prose and commands, written as Markdown beside this module.

    # 3. Title
    *Begins with what lesson 2 leaves: ….*        which host it is played on; `an empty host` for a new beginning

    prose, headings, pictures
    ```console
    $ ping -c 1 -W 1 175.18.0.3                   # no answer
    $ cat > file <<'END'
    > a command that goes on
    > END
    ```

A comment at a command's end that begins with one of `FAILURES` says how it must fail; any other command must succeed.
"""

from __future__ import annotations

import re
from importlib import resources

from nsbridge.errors import NotFound
from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

FAILURES = {"no answer": (1, 28), "refused": (7,), "unreachable": (2,), "differs": (1,)}
"""Exit statuses that a comment foretells of a program that looks. ping(8): 1 without a reply, 2 without a way;
curl(1): 28 time is over, 7 refused; ip(8): 2 when the kernel says no. Those of nsbridge end with 1 in each case."""

LOOKING = ("ping", "curl", "nsbridge")
"""Programs that only look, so that a lesson needn't run them to leave what it leaves."""

PACKAGES = {
    "ip": "iproute2",
    "bridge": "iproute2",
    "iptables": "iptables",
    "ip6tables": "iptables",
    "ping": "iputils-ping",
    "curl": "curl",
}
"""The programs of the lessons and Debian's package of each. Python is here, or this text would not be read."""

_BEGINS = re.compile(r"^\*Begins with (?:an empty host|what lesson (\d+) leaves)\b(.*?)\*$", re.M | re.S)
_IN_NAMESPACE = re.compile(r"^ip netns exec \S+ ")


class Prose(Value):
    """Text between commands, as Markdown."""

    text: str


class LessonCommand(Value):
    """One command of a page, with the comment at its end; several lines if it has a here-document."""

    text: str

    @property
    def remark(self) -> str:
        """The comment at the end of its first line, or nothing."""
        found = re.search(r"\s# (.*)$", self.text.partition("\n")[0])
        return found[1] if found else ""

    @property
    def foretold(self) -> str:
        """How it must fail, in the words of `FAILURES`; nothing if it must succeed."""
        return next((words for words in FAILURES if self.remark.startswith(words)), "")

    @property
    def statuses(self) -> tuple[int, ...]:
        """Exit statuses that are as foretold."""
        if not self.foretold:
            return (0,)
        return (1,) if self.program == "nsbridge" else FAILURES[self.foretold]

    @property
    def program(self) -> str:
        """The program that it runs, in whichever namespace."""
        return _IN_NAMESPACE.sub("", self.text).split()[0]

    @property
    def only_looks(self) -> bool:
        """Whether the host is the same after it, by the programs we know: what must fail changes nothing either."""
        return bool(self.foretold) or self.program in LOOKING


class Lesson(Value):
    """One page. before: the number of the lesson whose host it goes on with, 0 for an empty one. needs: of `NEEDS`."""

    number: int
    name: str
    title: str
    before: int
    needs: tuple[str, ...]
    parts: tuple[Prose | LessonCommand, ...]

    @property
    def commands(self) -> tuple[LessonCommand, ...]:
        """Its commands in their order."""
        return tuple(part for part in self.parts if isinstance(part, LessonCommand))

    @property
    def programs(self) -> tuple[str, ...]:
        """The programs of `PACKAGES` that its commands name."""
        words = {word for command in self.commands for word in command.text.split()}
        return tuple(program for program in PACKAGES if program in words)


def parse(name: str, text: str) -> Lesson:
    """Read a page. ValueError where it isn't as the module says."""
    number, _, title = text.partition("\n")[0].removeprefix("# ").partition(". ")
    begins = _BEGINS.search(text)
    if begins is None:
        raise ValueError(f"{name}: nothing says what it begins with")
    needs = re.search(r"Needs\s+(\w+)", begins[2])
    body = text.partition("\n")[2].strip("\n")
    parts = tuple(_parts(name, body))
    return Lesson(int(number), name, title, int(begins[1] or 0), (needs[1],) if needs else (), parts)


def _parts(name: str, body: str) -> Iterator[Prose | LessonCommand]:
    for place, chunk in enumerate(re.split(r"^```console\n(.*?)^```$", body, flags=re.M | re.S)):
        if place % 2:
            yield from _commands(name, chunk)
        elif chunk.strip():
            yield Prose(chunk.strip("\n"))


def _commands(name: str, block: str) -> Iterator[LessonCommand]:
    lines: list[str] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            if lines:
                yield LessonCommand("\n".join(lines))
            lines = [line[2:]]
        elif lines and (line == ">" or line.startswith("> ")):
            lines.append(line[2:])
        else:
            raise ValueError(f"{name}: {line!r} is neither a command nor the rest of one")
    yield LessonCommand("\n".join(lines))


def lessons() -> tuple[Lesson, ...]:
    """Read all lessons, in their order."""
    found = [page for page in resources.files("nsbridge.lessons").iterdir() if page.name.endswith(".md")]
    return tuple(parse(page.name[:-3], page.read_text("utf-8")) for page in sorted(found, key=lambda page: page.name))


def find(word: str) -> Lesson:
    """Return the lesson of this number, of this name, or the one whose name holds the word. NotFound."""
    course = lessons()
    fitting = [lesson for lesson in course if word in (str(lesson.number), lesson.name, lesson.name[3:])]
    fitting = fitting or [lesson for lesson in course if word.lower() in lesson.name]
    if len(fitting) != 1:
        said = f"{len(fitting)} lessons have {word!r} in their name" if fitting else f"there is no lesson {word!r}"
        raise NotFound(said, fix="see `nsbridge learn --list`")
    return fitting[0]


def earlier(lesson: Lesson) -> tuple[Lesson, ...]:
    """Return the lessons whose host this one goes on with, first to last."""
    course = {one.number: one for one in lessons()}
    found: list[Lesson] = []
    while lesson.before:
        lesson = course[lesson.before]
        found.insert(0, lesson)
    return tuple(found)
