"""What `import nsbridge` costs, offers and promises to type checkers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from source import ROOT, SRC, names

import nsbridge

USER = """
import subprocess
import nsbridge

with nsbridge.Network("web", subnet="10.88.0.0/24") as net, net.endpoint("site", ports=["8080:80", 443]) as site:
    done = site.run(["true"], capture_output=True)
    reveal_type(done.stdout)  # note: str
    text: subprocess.CompletedProcess[str] = done
    data: subprocess.CompletedProcess[bytes] = site.run(["true"], text=False)
    wrong: subprocess.CompletedProcess[str] = site.run(["true"], text=False)  # error: assignment
    reveal_type(site.inside(lambda: 1))  # note: int
    reveal_type(site.start(["true"]).wait())  # note: int | None
    reveal_type(site.publish("8081:80"))  # note: tuple[nsbridge.model.endpoint.PublishedPort, ...]
    site.publish(8.1)  # error: arg-type
    net.endpoint("x", port=1)  # error: call-arg
    with net.attach(1234) as box, nsbridge.Network.existing("back") as back, box.connect(back) as there:
        reveal_type(there)  # note: nsbridge.api.endpoint.Endpoint
with nsbridge.up("file.yaml") as lab:
    reveal_type(lab["one"].address)  # note: IPv4Address
reveal_type(nsbridge.planned().changes[0].why)  # note: str
reveal_type(nsbridge.explained("host", "outside").fix)  # note: tuple[str, ...]
reveal_type(nsbridge.traced("host", "outside").differences)  # note: tuple[str, ...]
try:
    nsbridge.down()
except nsbridge.NotFound as err:
    reveal_type(err.fix)  # note: str
nsbridge.nothing  # error: attr-defined
"""


def test_importing_it_imports_nothing() -> None:
    code = f"import sys; sys.path.insert(0, {str(SRC)!r}); before = set(sys.modules); import nsbridge; "
    code += "print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-IS", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["nsbridge"]


def test_every_public_name_is_there_and_documented() -> None:
    for name in nsbridge.__all__:
        assert getattr(nsbridge, name).__doc__, name
    assert sorted(nsbridge.__all__) == nsbridge.__all__
    assert set(nsbridge.__all__) <= set(dir(nsbridge))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = nsbridge.nothing  # type: ignore[attr-defined]


def test_no_public_name_is_a_module_too() -> None:
    """Importing `nsbridge.plan` sets that attribute of the package: a function of that name would vanish."""
    assert not {f"nsbridge.{name}" for name in nsbridge.__all__} & names()


def test_type_checkers_see_it(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    sample = tmp_path / "sample.py"
    sample.write_text(USER)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-color-output", "--no-error-summary", str(sample)]
    command += ["--cache-dir", str(ROOT / ".mypy_cache")]
    shown = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=tmp_path, env=os.environ | {"MYPYPATH": str(SRC)}
    )
    said: dict[int, str] = {}
    for number, message in re.findall(r"^[^\n]*sample\.py:(\d+): (.*)$", shown.stdout, re.M):
        said[int(number)] = said.get(int(number), "") + message.replace("builtins.", "") + "\n"
    for number, line in enumerate(USER.splitlines(), 1):
        kind, _, text = line.partition("  # ")[2].partition(": ")
        if kind:
            assert kind in said.get(number, ""), f"{line}: mypy said {said.get(number)}"
            assert text in said[number], f"{line}: mypy said {said[number]}"
        else:
            assert number not in said, f"{line}: mypy said {said.get(number)}"
