"""The lessons as pages: how they are read, what they foretell, how a terminal shows them, and what learn lists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nsbridge.errors import InvalidIntent, NotFound
from nsbridge.frontends.cli import learning
from nsbridge.frontends.cli import main as cli
from nsbridge.lessons.lesson import PACKAGES, Lesson, LessonCommand, Prose, earlier, find, lessons, parse
from nsbridge.lessons.stage import Ran, Stage, shown

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src/nsbridge/lessons"
PAGES = ROOT / "docs/lessons"
COURSE = lessons()

PAGE = """\
# 3. A title

*Begins with what lesson 2 leaves: two rooms. Needs br_netfilter.*

Some prose.

```text
a picture
```

```console
$ ip netns exec ns1 ping -c 1 -W 1 10.0.0.2   # no answer
$ cat > file <<'END'
> one
>
> two
> END
```

More.
"""


def named(lesson: Lesson) -> str:
    return lesson.name


def test_a_page_is_read() -> None:
    lesson = parse("03-a-title", PAGE)
    assert (lesson.number, lesson.title, lesson.before, lesson.needs) == (3, "A title", 2, ("br_netfilter",))
    first, ping, cat, last = lesson.parts
    assert isinstance(first, Prose)
    assert "a picture" in first.text
    assert last == Prose("More.")
    assert isinstance(ping, LessonCommand)
    assert (ping.remark, ping.foretold, ping.program, ping.only_looks) == ("no answer", "no answer", "ping", True)
    assert isinstance(cat, LessonCommand)
    assert cat.text == "cat > file <<'END'\none\n\ntwo\nEND"
    assert not cat.only_looks
    assert lesson.programs == ("ip", "ping")


@pytest.mark.parametrize(
    ("page", "trouble"),
    [
        ("# 1. A title\n", "nothing says what it begins with"),
        (PAGE.replace("> two", "two"), "'two' is neither a command nor the rest of one"),
    ],
)
def test_what_is_no_lesson(page: str, trouble: str) -> None:
    with pytest.raises(ValueError, match=trouble):
        parse("03-a-title", page)


@pytest.mark.parametrize(
    ("text", "statuses"),
    [
        ("curl -s host", (0,)),
        ("curl -s host   # no answer", (1, 28)),
        ("curl -s host   # refused, nobody listens", (7,)),
        ("nsbridge explain a b   # refused", (1,)),
        ("ip route get 10.0.0.1   # unreachable", (2,)),
        ("iptables -A INPUT   # counts, decides nothing", (0,)),
    ],
)
def test_comments_foretell(text: str, statuses: tuple[int, ...]) -> None:
    assert LessonCommand(text).statuses == statuses


def test_the_course_is_in_order() -> None:
    assert [lesson.number for lesson in COURSE] == list(range(1, len(COURSE) + 1))
    assert len(COURSE) == 12
    assert all(lesson.before in (0, lesson.number - 1) for lesson in COURSE)
    assert [one.number for one in earlier(COURSE[4])] == [1, 2, 3, 4]
    assert earlier(COURSE[-1]) == ()


@pytest.mark.parametrize("lesson", COURSE, ids=named)
def test_a_lesson_is_one(lesson: Lesson) -> None:
    assert lesson.name.startswith(f"{lesson.number:02}-")
    prose = "\n".join(part.text for part in lesson.parts if isinstance(part, Prose))
    headings = re.findall(r"^## (.*)", prose, re.M)
    assert headings[-1] == "A question", "a lesson ends with a question and its answer by experiment"
    assert isinstance(lesson.parts[-1], Prose) or lesson.commands[-1] is lesson.parts[-1]
    foretold = [command for command in lesson.commands if command.foretold]
    assert foretold, "a lesson shows a packet that fails"
    assert {command.program for command in lesson.commands} <= {
        *PACKAGES,
        *("nsbridge", "python3", "cat", "echo", "sh", "kill", "diff"),
    }


@pytest.mark.parametrize("lesson", COURSE, ids=named)
def test_the_page_has_every_line_of_its_source(lesson: Lesson) -> None:
    """In their order, with only outputs between them: a changed source without `make docs` shows here at once."""
    page = (PAGES / f"{lesson.name}.md").read_text().splitlines()
    at = 0
    for line in (SOURCES / f"{lesson.name}.md").read_text().splitlines():
        assert line in page[at:], f"not on the page (`make docs`): {line}"
        at = page.index(line, at) + 1
    assert f"| {lesson.number} | [{lesson.title}]({lesson.name}.md) |" in (PAGES / "README.md").read_text()


def test_a_lesson_is_found() -> None:
    assert {find(word).number for word in ("8", "08-localhost", "localhost")} == {8}
    assert find("hairpin").number == 10
    for word in ("99", "nothing", "o"):
        with pytest.raises(NotFound, match=word):
            find(word)


def test_learn_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["learn", "--list"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == len(COURSE) + 1
    assert rows[10].split() == ["10", "hairpin", "Calling", "one's", "own", "number"]
    assert cli.main(["learn", "hairpins"]) == 4
    assert "nsbridge learn --list" in capsys.readouterr().err


def test_there_is_no_stage_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NSBRIDGE_SANDBOX_LEFT", raising=False)
    with pytest.raises(InvalidIntent, match="throwaway host"):
        Stage()


def test_what_varies_is_not_shown() -> None:
    ping = "PING a (a) 56(84) bytes of data.\n64 bytes from a: icmp_seq=1 ttl=64 time=0.04 ms\n\n"
    assert shown(f"{ping}--- a ping statistics ---\n1 packets transmitted\nrtt min/avg = 1\n").splitlines() == [
        "64 bytes from a: icmp_seq=1 ttl=64 time=… ms",
        "1 packets transmitted",
    ]
    assert shown("eth0 da:7f:19:cf:e4:1d  up \n") == "eth0 xx:xx:xx:xx:xx:xx  up"
    assert shown(f"{'word ' * 30}end.").count("\n") == 1
    assert shown("lo 00:00:00:00:00:00") == "lo 00:00:00:00:00:00"


def test_a_terminal_shows_prose_and_pictures() -> None:
    text = "## Why\n\nOne [page](a.md) of\n`ip -n ns1` and *more*.\n\n```text\n  a   picture\n```\n\nThe end."
    assert learning.rendered(text, 20) == "Why\n\nOne page of `ip -n\nns1` and *more*.\n\n  a   picture\n\nThe end."


def test_verdicts() -> None:
    fails, works = LessonCommand("curl x   # refused"), LessonCommand("curl x")
    assert learning.verdict(fails, Ran(7, "")) == "✓ refused, as foretold"
    assert learning.verdict(works, Ran(0, "hello")) == "✓"
    assert learning.verdict(fails, Ran(0, "hello")).startswith("✗ refused was foretold, but the exit status is 0")
    asks = LessonCommand("nsbridge explain a b   # no answer")
    assert learning.verdict(asks, Ran(1, "A ping from a to b is dropped")) == "✓ no answer, as foretold"
    assert learning.verdict(asks, Ran(1, "nsbridge: there is no 'a'")).startswith("✗ no answer was foretold")
    assert learning.verdict(works, Ran(28, "")).startswith("✗ this should have worked, but the exit status is 28")
