"""The command's verbs about files: up, down, plan, diff, on the real kernel."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from commands import NSBRIDGE, Command, settled, soon
from lab import HOST4, Lab, sh

from nsbridge.frontends.cli.table import verbs

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.netns

EXAMPLE = str(Path(__file__).parents[2] / "examples/docker-bridge.yaml")

TALKERS = """
name: talk
services:
  short: {command: [sh, -c, "for i in 1 2 3; do echo s$$i; sleep 0.1; done; exit 3"]}
  other: {command: [sh, -c, "echo o; sleep 0.5"], depends_on: [short]}
"""
STUBBORN = """
name: talk
services:
  polite: {command: [sh, -c, "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.1; done"]}
  deaf: {command: [sh, -c, "trap '' TERM; echo ready; while :; do sleep 0.1; done"]}
"""

MOVED = """
name: talk
services:
  web:
    command: [python3, -m, http.server, "80"]
    ports: ["8088:80"]
    networks: {default: {ipv4_address: 10.9.0.7}}
networks:
  default: {ipam: {config: [{subnet: 10.9.0.0/24}]}}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty directory to be in; its nsbridge.yaml is what the verbs find."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for project in ("talk", "docker-bridge"):
        subprocess.run([*NSBRIDGE, "down", "-p", project, "-t", "0"], capture_output=True, check=False)


@pytest.mark.proves("row 1", "row 89", "row 90", "row 91")
def test_the_hand_made_bridge(nb: Command, lab: Lab, here: Path) -> None:
    before = settled()
    planned = nb.json("plan", "-f", EXAMPLE, "--json")
    assert [(one["what"], one["kind"], one["name"]) for one in planned] == [
        ("create", "network", "ns_br"),
        ("create", "service", "ns1"),
        ("create", "service", "ns2"),
    ]
    assert all(
        set(one) == {name for verb in verbs() if verb.name == "plan" for name, _ in verb.fields} for one in planned
    )
    plan = nb("plan", "-f", EXAMPLE).out
    assert nb("up", "--dry-run", "-f", EXAMPLE).out == plan
    assert "+ bridge ns_br" in plan
    assert "element { tcp . 8088 : 175.18.0.2 . 80 } of publish4" in plan
    assert settled() == before

    said = nb("up", "-d", "-f", EXAMPLE).err.splitlines()
    assert said[0] == "create network ns_br"
    assert said[1].startswith("set net.ipv4.ip_forward=1 (was 0): ")
    assert said[2:] == ["create service ns1", "create service ns2"]
    for port in (8088, 8089):
        soon(lambda port=port: lab.get(f"http://{HOST4}:{port}/", "outside"))
        assert lab.get(f"http://127.0.0.1:{port}/")
    assert nb("diff", EXAMPLE).out == ""
    assert nb.json("diff", EXAMPLE, "--json") == []
    assert nb("up", "-d", "-f", EXAMPLE).err == "everything is as the file says: nothing to do\n"
    assert nb("plan", "-f", EXAMPLE).out == "nothing to do: everything is as the file says\n"
    assert nb("ps", "-q").out == "ns1\nns2\n"

    pid = nb.wait_until_running("ns1")
    edited = here / "edited.yaml"
    edited.write_text(Path(EXAMPLE).read_text().replace("8089:80", "8090:80"))
    differs = nb("diff", str(edited), check=False)
    assert (differs.status, differs.out) == (1, "~ service ns2: the file publishes other ports\n")
    nb("-f", str(edited), "up", "-d")
    soon(lambda: lab.get(f"http://{HOST4}:8090/", "outside"))
    assert not lab.get(f"http://{HOST4}:8089/", "outside")
    assert nb.wait_until_running("ns1") == pid

    sh("nft delete table inet nsbridge")
    assert nb("diff", EXAMPLE, check=False).status == 1
    nb("up", "-d", "-f", EXAMPLE)
    assert lab.get(f"http://{HOST4}:8089/", "outside")

    assert nb("down").err.splitlines()[0] == "stopping 2 services"  # the one project that is up
    assert settled() == before
    assert nb("down", "-f", EXAMPLE).err == "project 'docker-bridge' isn't up: nothing to take away\n"
    assert "no project is up" in nb.fails(4, "down")
    assert "project 'x' isn't up (up: none)" in nb.fails(4, "down", "-p", "x")


def test_staying_with_the_commands(nb: Command, here: Path) -> None:
    (here / "nsbridge.yaml").write_text(TALKERS)
    done = nb("up")
    assert [line for line in done.out.splitlines() if line.startswith("short | ")] == [
        f"short | s{i}" for i in (1, 2, 3)
    ]
    assert "other | o" in done.out.splitlines()
    assert "short exited with code 3" in done.err.splitlines()
    assert "other exited with code 0" in done.err.splitlines()
    assert nb("ps", "-a", "-q").out == "other\nshort\n"
    again = nb("up", "short")  # starts that one anew and shows only what it writes now
    assert again.out == "".join(f"short | s{i}\n" for i in (1, 2, 3))
    nb("down", "-t", "1")
    assert nb("ps", "-a", "-q").out == ""


def test_only_some_services(nb: Command, here: Path) -> None:
    (here / "compose.yaml").write_text(TALKERS.replace("exit 3", "sleep 60"))
    assert "the file has no service 'nope' (there is: short, other)" in nb.fails(2, "up", "-d", "nope")
    nb("up", "-d", "short")
    assert nb("ps", "-q").out == "short\n"
    nb("up", "-d", "other")
    assert nb("ps", "-a", "-q").out == "other\nshort\n"


def test_orphans(nb: Command, here: Path) -> None:
    file = here / "nsbridge.yml"
    file.write_text("name: talk\nservices: {a: {}, b: {}}\n")
    nb("up", "-d")
    file.write_text("name: talk\nservices: {a: {}}\n")
    assert "not in the file any more: b (--remove-orphans takes them away)" in nb("up", "-d").err
    assert nb("diff", check=False).out == "- service b: the file doesn't have it\n"
    assert nb("ps", "-q").out == "a\nb\n"
    nb("up", "-d", "--remove-orphans")
    assert nb("ps", "-q").out == "a\n"
    assert "removing service a" in nb("up", "-d", "--force-recreate").err


def test_a_service_is_moved_by_hand(nb: Command, here: Path, lab: Lab) -> None:
    """`down` takes along what was connected; `up` brings back what was disconnected, and the command runs on."""
    before = settled()
    (here / "nsbridge.yaml").write_text(MOVED)
    nb("network", "create", "other")
    nb("up", "-d")
    pid = nb.wait_until_running("web")
    nb("connect", "-p", "8089:80", "other", "web")
    nb("connect", "default", "web")
    assert nb("diff").out == ""
    soon(lambda: lab.get(f"http://{HOST4}:8088/", "outside") and lab.get(f"http://{HOST4}:8089/", "outside"))
    nb("disconnect", "other", "web")
    nb("disconnect", "talk_default", "web")
    assert nb("diff", check=False).out == "~ service web: it isn't on network talk_default\n"
    assert "+ address 10.9.0.7/24" in nb("plan").out
    assert "mend service web" in nb("up", "-d").err
    assert nb.wait_until_running("web") == pid
    assert lab.get(f"http://{HOST4}:8088/", "outside")
    assert nb("diff").out == ""
    nb("connect", "other", "web")
    nb("down", "-t", "1")
    assert nb("ps", "-a", "-q").out == ""
    assert nb("network", "ls", "-q").out == "other\n"
    nb("network", "rm", "other")
    assert settled() == before


def test_namespaces_alone_are_not_waited_for(nb: Command, here: Path) -> None:
    (here / "nsbridge.yaml").write_text("name: talk\nservices: {left: {}, right: {}}\n")
    planned = [line.split()[2] for line in nb("plan").out.splitlines() if line.lstrip().startswith("+ address")]
    assert len(set(planned)) == 3  # the gateway's and one each
    assert "no service has a command, so there is nothing to wait for" in nb("up").err
    held = [one["networks"][0]["addresses"][0] for one in nb.json("ps", "--json")]
    assert held == planned[1:]
    assert sh("ip netns exec left ping -c 1 -W 2 127.0.0.1").status == 0
    assert nb("exec", "left", "ping", "-c", "1", "-W", "2", "right").status == 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_stops_the_services(nb: Command, here: Path, number: int, status: int) -> None:
    (here / "nsbridge.yaml").write_text(STUBBORN.replace("deaf", "# deaf"))
    process = nb.start("up", stderr=subprocess.STDOUT)
    assert process.stdout is not None
    while "ready" not in process.stdout.readline():
        pass
    process.send_signal(number)
    out, _ = process.communicate(timeout=15)
    assert process.returncode == status
    assert "stopping the services (Ctrl-C once more kills them)" in out
    assert "polite | bye" in out
    assert "exited (0)" in nb("ps", "-a").out


def test_a_second_interruption_kills(nb: Command, here: Path) -> None:
    (here / "nsbridge.yaml").write_text(STUBBORN)
    process = nb.start("up", stderr=subprocess.STDOUT)
    assert process.stdout is not None
    nb.wait_until_running("deaf")
    while "deaf" not in (line := process.stdout.readline()) or "ready" not in line:
        pass
    process.send_signal(signal.SIGINT)
    while "stopping" not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=8)  # and not the 10 s that `deaf` would be given
    assert process.returncode == 130
    assert nb("ps", "-q").out == ""


def test_a_file_with_faults(nb: Command, here: Path) -> None:
    before = settled()
    bad = here / "bad.yaml"
    bad.write_text('services:\n  a: {comand: x, ports: ["70000:80"]}\n')
    said = nb.fails(2, "up", "-d", "-f", "bad.yaml").splitlines()
    assert said == [
        "nsbridge: bad.yaml has 2 faults:",
        "  bad.yaml:2:7: services.a.comand: is not a field of a service (did you mean 'command'?)",
        "  bad.yaml:2:26: services.a.ports[0]: has a port 70000 (choose a port from 1 to 65535)",
    ]
    assert "there is no topology file in this directory" in nb.fails(4, "up")
    assert "nope.yaml" in nb.fails(4, "plan", "-f", "nope.yaml")
    assert settled() == before


@pytest.mark.proves("row 82")
def test_what_is_taken_is_walked_back(nb: Command, here: Path, lab: Lab) -> None:
    """A port, a name of another project, a subnet: what came before stays, what failed leaves nothing."""
    lab.serve("host", "http:7070")
    (here / "nsbridge.yaml").write_text("name: talk\nservices: {a: {}, b: {ports: ['7070:80']}}\n")
    assert "a process on this host already listens on 0.0.0.0:7070/tcp" in nb.fails(5, "up", "-d")
    assert nb("ps", "-q").out == "a\n"
    assert not os.path.exists("/run/netns/b")
    (here / "other.yaml").write_text("name: docker-bridge\nservices: {a: {}}\n")
    assert "the name 'a' belongs to a service of project 'talk' already" in nb.fails(5, "up", "-d", "-f", "other.yaml")
    (here / "third.yaml").write_text(
        "name: docker-bridge\nservices: {c: {}}\nnetworks: {default: {ipam: {config: [{subnet: 198.51.100.0/24}]}}}\n"
    )
    assert "a route of the host by up0" in nb.fails(5, "up", "-d", "-f", "third.yaml")
    nb("down", "-p", "talk")
