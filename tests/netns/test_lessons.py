"""The lessons: every command of every page is run again, and `nsbridge learn` plays to a person and to nobody."""

from __future__ import annotations

import difflib
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest
from lab import FreshHost, for_everybody

import nsbridge
from nsbridge.errors import Unsupported
from nsbridge.lessons.lesson import PACKAGES, lessons
from nsbridge.lessons.stage import require

if TYPE_CHECKING:
    from collections.abc import Iterator

sys.path.append(str(Path(__file__).parents[2]))
from tools import lessons as tool

pytestmark = pytest.mark.netns
NOBODY = 65534
LEARN = [sys.executable, "-P", "-m", "nsbridge", "learn"]


@pytest.fixture(autouse=True)
def what_lessons_need(host: FreshHost) -> None:
    try:
        require(lessons()[-2])
    except Unsupported as err:
        pytest.skip(str(err))


@pytest.fixture
def outer() -> dict[str, str]:
    """The environment of a machine outside any sandbox."""
    return {name: text for name, text in os.environ.items() if not name.startswith("NSBRIDGE_")}


def test_every_page_is_what_its_commands_print(tmp_path: Path) -> None:
    """Exit statuses are judged everywhere, words only where the same programs say them."""
    command = [sys.executable, "-m", "tools.lessons", "--to", str(tmp_path)]
    done = subprocess.run(command, cwd=Path(tool.__file__).parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    fresh = {path.name: path.read_text() for path in tmp_path.iterdir()}
    kept = {path.name: path.read_text() for path in tool.PAGES.glob("*.md")}
    assert fresh.keys() == kept.keys()
    if tool.versions() not in kept["README.md"]:
        pytest.skip(f"{tool.versions()} aren't the programs that wrote the pages, and may say the same differently")
    changed = []
    for name in sorted(kept):
        old, new = kept[name].splitlines(), fresh[name].splitlines()
        changed += difflib.unified_diff(old, new, f"docs/lessons/{name}", "played now", lineterm="")
    assert not changed, "\n".join([*changed, "", "Meant so? `make docs` rewrites the pages; read the difference."])


def test_a_lesson_in_the_middle_begins_where_the_one_before_ends(outer: dict[str, str]) -> None:
    done = subprocess.run([*LEARN, "bridge", "--yes"], env=outer, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("Lesson 2 of 12: A switch between the rooms\n")
    assert "✓ no answer, as foretold" in done.stdout
    assert "✗" not in done.stdout
    assert os.listdir("/run/netns") == []


class Terminal:
    """A person at a terminal, who types when a prompt appears."""

    def __init__(self, argv: list[str], env: dict[str, str]) -> None:
        self.seen = ""
        self._bytes = b""
        self.pid, self._fd = pty.fork()
        if not self.pid:
            os.execve(argv[0], argv, env)

    def until(self, text: str) -> str:
        """Read until the text appears; return what was read since the last time."""
        deadline, start = time.monotonic() + 20, len(self.seen)
        while text not in self.seen[start:]:
            assert time.monotonic() < deadline, f"no {text!r} in\n{self.seen[start:]}"
            assert self._more(), f"it ended without {text!r}\n{self.seen[start:]}"
        return self.seen[start:]

    def _more(self) -> bool:
        """Read what there is; False when the other end is closed."""
        if select.select([self._fd], [], [], 0.1)[0]:
            try:
                self._bytes += os.read(self._fd, 65536)
            except OSError:
                return False
            self.seen = self._bytes.decode(errors="ignore")
        return True

    def types(self, line: str, until: str = "▸ ") -> str:
        os.write(self._fd, f"{line}\n".encode())
        return self.until(until)

    def press(self, key: bytes, until: str = "") -> str:
        os.write(self._fd, key)
        return self.until(until)

    def end(self) -> int:
        """Read what is still said, and return the exit status."""
        while self._more():
            pass
        pid, self.pid = self.pid, 0
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGTERM)
            self.end()
        os.close(self._fd)


@pytest.fixture
def person(outer: dict[str, str]) -> Iterator[Terminal]:
    with Terminal([*LEARN, "1"], outer | {"NO_COLOR": "1", "TERM": "xterm"}) as terminal:
        yield terminal


def test_a_person_walks_through_a_lesson(person: Terminal) -> None:
    began = person.until("▸ ")
    assert "Lesson 1 of 12: Two rooms and a cable" in began
    assert "network namespace" in began
    assert "$ ip netns add ns1\r\n  Enter runs it, ? tells what else there is ▸ " in began
    assert "✓" in person.types("")
    assert "back to the beginning" in person.types("?")
    assert "ns1\r\noutside\r\n" in person.types("ls -1 /run/netns")
    assert "exit status 3" in person.types("exit 3")
    person.types("echo be''gan; sleep 60", "began")
    assert person.press(b"\x03", "▸ ").startswith("^C")
    person.types("PS1='staying: ' bash --norc", "staying: ")  # it takes the terminal, and gives it back
    person.types("exit")
    assert "skipped" in person.types("s")  # ns2 isn't made
    assert "DOWN" in person.types("")
    said = person.types("")
    assert "✓ unreachable, as foretold" in said
    while "$ ip -n ns2 link set lo up" not in said:
        said = person.types("")
    assert "✗ this should have worked, but the exit status is 255" in person.types("")
    said = person.types("b")
    assert "Lesson 1 of 12" in said
    while "goes on to lesson 2" not in said:
        said = person.types("")
        assert "✗" not in said
    assert "Lesson 2 of 12: A switch between the rooms" in person.types("")
    assert "ns2" in person.types("ip netns list")
    person.types("q", "")
    assert person.end() == 0
    assert os.listdir("/run/netns") == []


def test_the_end_of_what_is_typed_ends_it(person: Terminal) -> None:
    person.until("▸ ")
    person.press(b"\x04")
    assert person.end() == 0


def test_for_somebody_without_any_rights(outer: dict[str, str]) -> None:
    if not for_everybody(nsbridge.__file__, sys.executable):
        pytest.skip("others may not read this copy of nsbridge")
    done = subprocess.run(
        [*LEARN, "1", "--yes"],
        env=outer | {"HOME": "/"},
        cwd="/",
        user=NOBODY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✓ unreachable, as foretold" in done.stdout


def test_a_program_that_is_missing_is_named(outer: dict[str, str], tmp_path: Path) -> None:
    gone = [
        program for program in PACKAGES if not (shutil.which(program) or "/sbin/").startswith(("/usr/sbin", "/sbin"))
    ]
    if "curl" not in gone:
        pytest.skip("curl is where learn looks on its own account")
    done = subprocess.run(
        [*LEARN, "4"], env=outer | {"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == Unsupported.exit_code
    assert f"lesson 4 types {', '.join(gone)}, which isn't installed" in done.stderr
    assert "apt install curl iputils-ping" in done.stderr
    assert done.stdout == ""
