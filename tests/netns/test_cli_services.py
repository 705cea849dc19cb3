"""The command's verbs about commands: run, exec, logs, stop, start, rm, ps, each run for real."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time

import pytest
from commands import NSBRIDGE, Command, port_record, settled, soon
from lab import HOST4, Lab, sh

from nsbridge.frontends.cli.table import verbs

pytestmark = pytest.mark.netns

SERVER = ("python3", "-u", "-m", "http.server", "80")


def test_exit_status_and_streams_are_the_commands(nb: Command) -> None:
    before = settled()
    done = nb("run", "--", "sh", "-c", "cat; echo wrong >&2; exit 7", stdin="said\n", check=False)
    assert (done.status, done.out) == (7, "said\n")
    assert done.err.splitlines()[-1] == "wrong"
    assert nb("run", "--rm", "-i", "sh", "-c", "kill -TERM $$", check=False).status == 143
    assert settled() == before


@pytest.mark.proves("row 2", "row 63")
def test_what_a_command_finds(nb: Command, lab: Lab) -> None:
    nb("network", "create", "--subnet", "10.9.0.0/24", "lab")
    lab.ns("ns1")
    nb("connect", "--alias", "printer", "lab", "ns1")
    options = ("--net", "lab", "--ip", "10.9.0.77", "--name", "x", "--hostname", "hal")
    more = ("-e", "A=1", "-e", "OURS", "-w", "/tmp")
    script = "echo $A $OURS; pwd; hostname; cat /etc/hosts; ip -4 -br address show eth0; ping -c 1 -W 2 printer >&2"
    out = nb("run", *options, *more, "--", "sh", "-c", script, OURS="theirs").out.splitlines()
    assert out[:3] == ["1 theirs", "/tmp", "hal"]
    assert "10.9.0.77 x hal" in out
    assert "10.9.0.2 ns1 printer" in out
    assert out[-1].split()[0].startswith("eth0")
    assert out[-1].split()[-1] == "10.9.0.77/24"
    assert nb("run", "-u", "65534:65534", "--", "id", "-u", check=False).out in ("65534\n", "")


@pytest.mark.proves("row 26")
def test_the_way_out_hides_the_namespace(nb: Command, lab: Lab) -> None:
    lab.serve("world", "tcp:7000", ns="outside")
    code = "import socket; s = socket.create_connection(('198.51.100.2', 7000), 3)"
    code += "; s.send(b'x'); print(s.recv(999).decode())"
    assert f'"source": "{HOST4}"' in nb("run", "--", sys.executable, "-c", code).out


def test_what_cannot_run(nb: Command) -> None:
    before = settled()
    assert "command 'nosuch' not found" in nb.fails(127, "run", "--", "nosuch")
    assert "there is no command to run" in nb.fails(2, "run")
    assert "there is no network 'nope'" in nb.fails(4, "run", "--net", "nope", "--", "true")
    assert "--net is 'x:y'" in nb.fails(2, "run", "--net", "x:y", "--", "true")
    assert "service name 'a/b' has '/'" in nb.fails(2, "run", "--name", "a/b", "--", "true")
    assert "there is no service 'nope'" in nb.fails(4, "exec", "nope", "true")
    assert settled() == before


def test_signals_reach_the_command(nb: Command) -> None:
    script = "trap 'echo got; exit 5' TERM; echo ready; while :; do sleep 0.1; done"
    process = nb.start("run", "--name", "x", "--", "sh", "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert nb("ps", "-q").out == "x\n"
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=10)
    assert (out, process.returncode) == ("got\n", 5)
    assert nb("ps", "-a", "-q").out == ""


def test_a_killed_run_takes_its_command_along(nb: Command) -> None:
    before = settled()
    process = nb.start("run", "--name", "x", "--", "sleep", "60")
    pid = nb.wait_until_running("x")
    process.kill()
    process.communicate()
    soon(lambda: not os.path.exists(f"/proc/{pid}"))
    assert "what a killed command left: run x" in nb("ps").err
    assert settled() == before


def test_the_terminal_is_the_commands(nb: Command) -> None:
    ours, theirs = pty.openpty()
    script = 'tty; test -t 0 && test -t 1 && echo both; read a; echo "<$a>"'
    argv = [*NSBRIDGE, "run", "-it", "--", "sh", "-c", script]
    process = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL)
    os.close(theirs)
    os.write(ours, b"hello\n")
    seen = b""
    while b">" not in seen:
        seen += os.read(ours, 4096)
    assert process.wait(10) == 0
    os.close(ours)
    assert b"/dev/" in seen
    assert b"both" in seen
    assert b"<hello>" in seen


@pytest.mark.proves("row 2", "row 73")
def test_a_service_from_birth_to_end(nb: Command, lab: Lab) -> None:
    before = settled()
    assert nb("run", "-d", "--name", "web", "-p", "8088:80", "-l", "tier=front", "--", *SERVER).out == "web\n"
    pid = nb.wait_until_running("web")
    soon(lambda: lab.get(f"http://{HOST4}:8088/", "outside"))
    assert lab.get("http://127.0.0.1:8088/")

    (shown,) = nb.json("ps", "--json")
    assert [shown] == nb.json("inspect", "web")
    assert set(shown) == {name for verb in verbs() if verb.name == "ps" for name, _ in verb.fields}
    assert (shown["kind"], shown["name"], shown["pid"], shown["labels"]) == ("service", "web", pid, {"tier": "front"})
    assert shown["command"] == list(SERVER)
    assert shown["ports"] == [port_record(80, 8088)]
    header, row = nb("ps").out.splitlines()
    assert header.split() == ["NAME", "COMMAND", "STATE", "NETWORKS", "PORTS"]
    assert re.match(r"web +python3 -u -m http.server 80 +running \ds +default 10\.\S+ +0.0.0.0:8088->80/tcp$", row)
    assert nb("port", "web").out == "80/tcp -> 0.0.0.0:8088\n"

    assert nb("exec", "-e", "A=b", "-w", "/", "web", "sh", "-c", "echo $A; pwd; hostname; exit 3", check=False) == (
        nb("exec", "web", "--", "sh", "-c", "echo b; echo /; echo web; exit 3", check=False)
    )
    assert nb("exec", "web", "cat", stdin="through\n").out == "through\n"
    assert "Serving HTTP" in nb("logs", "web").out
    assert nb("logs", "-n", "1", "web").out.count("\n") == 1
    assert nb("logs", "-n", "0", "web").out == ""
    assert all(line.startswith("web | ") for line in nb("logs").out.splitlines())
    assert "the name 'web' belongs to a service already" in nb.fails(5, "run", "-d", "--name", "web", "--", "true")
    assert "service 'web' is running" in nb.fails(6, "rm", "web")

    assert nb("stop", "-t", "2", "web").out == "web\n"
    assert nb("ps").out.count("\n") == 1
    assert "1 whose command has ended not shown" in nb("ps").err
    assert "exited (143)" in nb("ps", "-a").out
    assert nb.json("ps", "-a", "--json")[0]["exit_status"] == 143
    assert nb("start", "web").out == "web\n"
    assert nb.wait_until_running("web") != pid
    soon(lambda: lab.get(f"http://{HOST4}:8088/", "outside"))
    removed = nb("rm", "-f", "nope", "web", check=False)
    assert (removed.status, removed.out) == (4, "web\n")
    assert "there is no service 'nope'" in removed.err
    assert settled() == before


def without_names(seen: str) -> list[str]:
    """A snapshot without the files that namespaces saw as /etc/hosts: they stay as long as their network."""
    return [line for line in seen.splitlines() if not re.match(r"/run/nsbridge/[^|]*/hosts/", line)]


def test_a_service_changes_networks_while_it_runs(nb: Command, lab: Lab) -> None:
    """What is connected to a service's namespace by hand is the service's, and goes with it."""
    before = settled()
    nb("network", "create", "--subnet", "10.9.0.0/24", "front")
    nb("network", "create", "--subnet", "10.8.0.0/24", "back")
    empty = settled()
    nb("run", "-d", "--name", "near", "--net", "front")
    nb("run", "-d", "--name", "far", "--net", "back")
    far = nb.json("inspect", "far")[0]["networks"][0]["addresses"][0].partition("/")[0]
    options = ("--net", "front", "--hostname", "hal", "--ip", "10.9.0.20", "-p", "8088:80")
    nb("run", "-d", "--name", "web", *options, "--", *SERVER)
    pid = nb.wait_until_running("web")
    soon(lambda: lab.get(f"http://{HOST4}:8088/", "outside"))
    assert nb("exec", "near", "getent", "ahostsv4", "hal").out.startswith("10.9.0.20 ")

    made = json.loads(nb("connect", "--json", "back", "web").out)
    assert (made["service"], made["ifname"], made["default_route"], made["ports"]) == ("web", "eth1", False, [])
    there = made["addresses"][0].partition("/")[0]
    assert nb("exec", "far", "getent", "ahostsv4", "hal").out.startswith(f"{there} ")
    assert lab.get(f"http://{there}/", "far")

    assert "1 published ports of 'web' go with it" in nb("disconnect", "front", "web").err
    assert not lab.get(f"http://{HOST4}:8088/", "outside", timeout_s=0.3)
    assert " web" not in nb("exec", "near", "cat", "/etc/hosts").out
    again = nb("connect", "--ip", "10.9.0.50", "front", "/var/run/netns/web").out
    assert again == "web is on front: eth0, 10.9.0.50/24; published 0.0.0.0:8088->80/tcp\n"
    for address, who in ((HOST4, "outside"), ("127.0.0.1", None)):
        assert lab.get(f"http://{address}:8088/", who)
    assert lab.get("http://10.9.0.50/", "near")
    for name in ("web", "hal"):
        assert nb("exec", "near", "getent", "ahostsv4", name).out.startswith("10.9.0.50 ")
    assert nb("exec", "web", "getent", "ahostsv4", "far").out.split()[0] == far

    (shown,) = nb.json("inspect", "web")
    assert (shown["pid"], shown["state"]) == (pid, "running")
    places = {(place["network"], place["addresses"][0], place["default_route"]) for place in shown["networks"]}
    assert places == {("front", "10.9.0.50/24", True), ("back", f"{there}/24", False)}
    assert [line.split()[0] for line in nb("ps").out.splitlines()] == ["NAME", "far", "near", "web"]

    nb("stop", "-t", "1", "web")
    nb("start", "web")
    assert nb.wait_until_running("web") != pid
    soon(lambda: lab.get(f"http://{HOST4}:8088/", "outside"))
    assert lab.get(f"http://{there}/", "far")
    assert nb.json("inspect", "web")[0]["networks"] == shown["networks"]

    assert nb("rm", "-f", "web", "near", "far").out == "web\nnear\nfar\n"
    assert nb("ps", "-a", "-q").out == ""
    assert without_names(settled()) == without_names(empty)
    nb("network", "rm", "front", "back")
    assert settled() == before


def test_a_service_keeps_its_name(nb: Command) -> None:
    before = settled()
    nb("network", "create", "lab")
    nb("run", "-d", "--name", "web", "--net", "none", "--", "sleep", "60")
    pid = nb.wait_until_running("web")
    said = nb.fails(2, "connect", "--name", "other", "lab", "web")
    assert "namespace /run/netns/web is that of service 'web'" in said
    assert "--alias other" in said
    nb("connect", "--name", "web", "--alias", "other", "lab", str(pid))
    nb("connect", "default", "web")
    assert [line.split()[0] for line in nb("ps").out.splitlines()] == ["NAME", "web"]
    assert nb("exec", "web", "getent", "hosts", "other").out
    assert nb("rm", "-f", "web").out == "web\n"
    assert nb("network", "ls", "-q").out == "lab\n"  # the default one has gone with it
    nb("network", "rm", "lab")
    assert settled() == before


def test_a_killed_run_leaves_no_network_it_was_connected_to(nb: Command) -> None:
    before = settled()
    nb("network", "create", "lab")
    process = nb.start("run", "--name", "x", "--net", "lab", "--", "sleep", "60")
    pid = nb.wait_until_running("x")
    nb("connect", "default", "x")
    process.kill()
    process.communicate()
    soon(lambda: not os.path.exists(f"/proc/{pid}"))
    assert "what a killed command left: run x" in nb("ps").err
    nb("network", "rm", "lab")
    assert settled() == before


def test_names_are_made_up(nb: Command) -> None:
    name = nb("run", "-d", "--", "/bin/sleep", "60").out.strip()
    assert re.fullmatch(r"sleep-[0-9a-f]{4}", name)
    assert nb("rm", "-f", name).out == f"{name}\n"


def test_a_namespace_without_a_command(nb: Command) -> None:
    nb("run", "-d", "--name", "bare")
    assert nb.json("ps", "--json")[0]["state"] == "created"
    assert sh("ip netns exec bare ping -c 1 -W 2 127.0.0.1").status == 0
    assert "service 'bare' has no command" in nb.fails(2, "logs", "bare")
    assert "service 'bare' has no command" in nb.fails(2, "start", "bare")
    assert nb("exec", "bare", "hostname").out == "bare\n"


def test_other_places(nb: Command) -> None:
    """none has loopback alone, host is here, service:NAME is where that one is."""
    links = ("ip", "-br", "link")
    assert len(nb("run", "--net", "none", "--", *links).out.splitlines()) == 1
    assert nb("run", "--net", "host", "--", *links).out == sh(list(links)).out
    nb("run", "-d", "--name", "web", "--", *SERVER)
    nb.wait_until_running("web")
    code = "import urllib.request as u; print(u.urlopen('http://127.0.0.1/').status)"
    assert soon(lambda: nb("run", "--net", "service:web", "--", sys.executable, "-c", code, check=False).out) == "200\n"
    nb("network", "create", "--subnet", "10.9.0.0/24", "one")
    nb("network", "create", "--subnet", "10.8.0.0/24", "two")
    out = nb("run", "--net", "one", "--net", "two", "--", "ip", "-4", "-br", "address").out
    assert "10.9.0.2/24" in out
    assert "10.8.0.2/24" in out


def test_following_ends_with_the_commands(nb: Command) -> None:
    nb("run", "-d", "--name", "a", "--", "sh", "-c", "for i in 1 2 3; do echo a$i; sleep 0.2; done; printf end")
    nb("run", "-d", "--name", "long", "--", "sh", "-c", "sleep 0.4; echo b; exit 3")
    began = time.monotonic()
    out = nb("logs", "-f").out
    assert time.monotonic() - began < 10
    assert [line for line in out.splitlines() if line.startswith("a    | ")] == [
        f"a    | {w}" for w in ("a1", "a2", "a3", "end")
    ]
    assert "long | b" in out.splitlines()
    assert nb("logs", "-f", "a").out == "a1\na2\na3\nend\n"
    assert nb("logs", "-n", "2", "a").out == "a3\nend\n"
    assert "-n is 'x'" in nb.fails(2, "logs", "-n", "x", "a")


def test_a_follower_can_be_interrupted(nb: Command) -> None:
    nb("run", "-d", "--name", "a", "--", "sh", "-c", "echo here; exec sleep 60")
    follower = nb.start("logs", "-f", "a")
    assert follower.stdout is not None
    assert follower.stdout.readline() == "here\n"
    follower.send_signal(signal.SIGINT)
    assert follower.wait(10) == 130
    assert nb.wait_until_running("a")
