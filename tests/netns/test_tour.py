"""The README's tour: every command in it, in its order, in a throwaway host."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.netns

ROOT = Path(__file__).parents[2]


def steps() -> list[tuple[str, list[str]]]:
    """Commands of the ``console`` blocks, each with the lines shown below it."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"^```console\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:].replace("sudo ", ""), []))
            else:
                found[-1][1].append(line)
    return found


def test_every_command_does_what_it_shows(lab: object) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "src")}
    tour = steps()
    assert len(tour) > 20
    for command, shown in tour:
        done = subprocess.run(command, shell=True, cwd=ROOT, env=env, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
        for line in shown:
            assert line in done.stdout.splitlines(), f"$ {command}\nshows no line {line!r} but\n{done.stdout}"


def test_the_python_of_the_readme_runs(lab: object) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", block], env=env, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (0, "hello from web\n"), done.stderr
