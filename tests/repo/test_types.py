"""Type checkers see a value type's fields: `mypy --strict` refuses what `Value` would only refuse when it runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from source import ROOT, SRC

SAMPLE = """
from ipaddress import IPv4Address
from nsbridge.model.endpoint import PublishedPort
from nsbridge.plan.step import Step
from nsbridge.state.things import Netns, Route, Thing

good = PublishedPort(80, 8088, host_ip=IPv4Address("127.0.0.1"))
reveal_type(good.host_port)  # note: int
reveal_type(good.replace(target=81))  # note: PublishedPort
reveal_type(Netns("a").identity)  # note: tuple[str, ...]
thing: Thing = Netns("a", why="a sample")
PublishedPort()  # error: call-arg
PublishedPort("80")  # error: arg-type
PublishedPort(80, protocol="tcp")  # error: call-arg
PublishedPort(80, proto="icmp")  # error: arg-type
Step("make", ())  # error: arg-type
Route("", "10.0.0.0/8", "eth0")  # error: arg-type
good.target = 81  # error: misc
other: Thing = PublishedPort(80)  # error: assignment
"""


def test_mypy_checks_fields(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    sample = tmp_path / "sample.py"
    sample.write_text(SAMPLE)
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), str(sample)]
    command += ["--cache-dir", str(ROOT / ".mypy_cache"), "--no-color-output", "--no-error-summary"]
    shown = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, env=os.environ | {"MYPYPATH": str(SRC)}
    )
    assert not shown.stderr, shown.stderr
    said: dict[int, str] = {}
    for number, message in re.findall(r"^[^\n]*sample\.py:(\d+): (.*)$", shown.stdout, re.M):
        said[int(number)] = said.get(int(number), "") + message.replace("builtins.", "") + "\n"
    for number, line in enumerate(SAMPLE.splitlines(), 1):
        _, _, expected = line.partition("  # ")
        kind, _, text = expected.partition(": ")
        if kind:
            assert kind in said.get(number, ""), f"{line}: mypy said {said.get(number)}"
            assert text in said[number], f"{line}: mypy said {said[number]}"
        else:
            assert number not in said, f"{line}: mypy said {said.get(number)}"
