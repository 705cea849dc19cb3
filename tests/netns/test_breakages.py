"""Networks broken by hand: `nsbridge explain` names the cause, its fix is run as printed, and a real packet arrives."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from breakages import BREAKAGES, SETUP, Breakage
from commands import Command
from lab import FreshHost, Lab, eventually, inside

from nsbridge.engine.mend import mend
from nsbridge.frontends.cli.main import main
from nsbridge.wiring import open_host

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.netns

ROOT = Path(__file__).parents[2]
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
SERVERS = {
    "web": ("http:80", "udp:53"),
    "db": ("http:80",),
    "other": ("http:80", "udp:53", "http:53"),
    "inner": ("http:80",),
}


def shell(command: str, *, check: bool = True) -> str:
    env = {**os.environ, "PATH": PATH, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(["sh", "-c", command], env=env, capture_output=True, text=True, timeout=30, cwd=ROOT)
    assert not check or done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
    return done.stdout


def nsbridge(*argv: str) -> str:
    """Run a command line in this process, for speed; test_explain.py runs it as users do."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        main(argv)
    return said.getvalue()


@pytest.fixture(scope="module")
def broken() -> Iterator[Lab]:
    """One lab for all of them: each is mended before the next one."""
    with FreshHost() as host, Lab(host) as lab, Command() as nb:
        for name in SERVERS:
            host.netns(name)
        shell(SETUP)
        for name, ports in SERVERS.items():
            lab.serve(name, *ports, ns=name)
        lab.serve("host", "http:9000")
        lab.serve("outside", "http:80", "udp:53", ns="outside")
        echo = str(Path(__file__).parent / "echo.py")
        nb(
            "run",
            "-d",
            "--name",
            "svc",
            "--net",
            "front",
            "-p",
            "8090:80",
            "--",
            sys.executable,
            echo,
            "svc",
            "http:80",
        )
        assert eventually(lambda: lab.get("http://127.0.0.1:8090/"))
        yield lab
        for name in ("web", "db"):
            shell(f"nsbridge disconnect front {name}")
        shell("nsbridge rm -f svc; nsbridge disconnect back other; nsbridge disconnect shut inner")
        shell("for network in front back shut; do nsbridge network rm $network; done")


def _big(address: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.3)
        sock.sendto(b"x" * 1372, (address, 53))
        try:
            return bool(sock.recv(4096))
        except TimeoutError:
            return False


def _from(source: str, address: str, port: int, timeout_s: float) -> bool:
    with socket.socket() as sock:
        sock.bind((source, 0))
        sock.settimeout(timeout_s)
        try:
            sock.connect((address, port))
        except OSError:
            return False
        return True


def answered(lab: Lab, probe: tuple[str, str, str], timeout_s: float = 0.25) -> bool:
    where, address, what = probe
    name, _, source = where.partition(" from ")
    ns = name or None
    if source:
        return inside(ns and lab.ns(ns), lambda: _from(source, address, int(what), timeout_s))
    if what == "ping":
        return lab.sh(f"ping -c 1 -W 0.3 {address}", ns, check=False).status == 0
    if what == "big":
        return _big(address)
    shown = f"[{address}]" if ":" in address else address
    return bool(lab.get(f"http://{shown}:{what}/", ns, timeout_s=timeout_s))


@pytest.mark.parametrize("one", BREAKAGES, ids=[one.name for one in BREAKAGES])
def test_the_cause_is_named_and_the_fix_mends_it(broken: Lab, one: Breakage) -> None:
    shell(one.how)
    try:
        assert not answered(broken, one.probe), "nothing is broken"
        told = nsbridge("explain", *one.question.split(), "--brief")
        lines = told.splitlines()
        fixes = [line.partition("fix: ")[2] for line in lines if line.startswith("  fix: ")]
        guilty = next((line for line in lines if line.startswith("  guilty: ")), "")
        assert one.culprit in guilty, told
        assert any(one.fix in fix for fix in fixes), told
        for fix in fixes:
            shell(fix)
        assert eventually(lambda: answered(broken, one.probe, 1.0)), f"{told}\ndidn't help"
    finally:
        shell(one.undo or "true", check=False)
        if not os.environ.get("KEEP"):
            mend(open_host())
            shell("ip neigh flush all")
