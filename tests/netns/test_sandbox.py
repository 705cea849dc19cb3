"""The throwaway host, made inside another one: what it hides, what it passes through, and that it leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from lab import FreshHost, eventually, for_everybody, processes, sh

import nsbridge
from nsbridge.kernel import sandbox

pytestmark = pytest.mark.netns

SOURCE = str(Path(sandbox.__file__).parents[2])
COMMAND = [sys.executable, "-m", "nsbridge.kernel.sandbox", "--"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": SOURCE}

mapped = Path("/proc/self/uid_map").read_text().split()[2] != "1"
shown = for_everybody(sys.executable, nsbridge.__file__)
needs_users = pytest.mark.skipif(
    not (mapped and shown), reason="other users can't be, or may not read this copy of nsbridge"
)


def boxed(script: str, *, before: str = "", ordinary: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a shell script in a sandbox. before: shell commands outside it; ordinary: as user nobody."""
    setpriv = "setpriv --reuid 65534 --regid 65534 --clear-groups " if ordinary else ""
    outer = f'{before}\nexec {setpriv}"$@"'
    argv = ["sh", "-c", outer, "sh", *COMMAND, "sh", "-c", script]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, env=ENVIRONMENT)


USERS = [pytest.param(False, id="root"), pytest.param(True, id="nobody", marks=needs_users)]


@pytest.mark.parametrize("ordinary", USERS)
def test_everything_a_host_needs_works(host: FreshHost, ordinary: bool) -> None:
    script = """set -e
    test $(id -u) = 0
    test "$(ls /run)" = netns
    test "$(ls /sys/class/net)" = lo
    ip -br address show lo | grep -q 127.0.0.1/8
    ip netns add ns1
    ip link add br0 type bridge; ip link add up0 type veth peer name eth0 netns ns1; ip link set up0 master br0
    sysctl -qw net.ipv4.ip_forward=1
    sysctl -qw net.ipv4.conf.br0.route_localnet=1
    nft add table inet x
    iptables-nft -P FORWARD DROP; iptables-legacy -P FORWARD DROP; ip6tables-legacy -P FORWARD DROP
    ip netns exec ns1 ip link set lo up
    echo all works
    """
    done = boxed(script, ordinary=ordinary)
    assert (done.returncode, done.stdout.strip()) == (0, "all works"), done.stderr


@pytest.mark.parametrize("ordinary", USERS)
def test_nothing_of_it_is_seen_outside(host: FreshHost, ordinary: bool) -> None:
    before = sh("ip link; nft list ruleset; sysctl net.ipv4.ip_forward; ls /run /run/netns; uname -n").out
    inner = (
        "ip link add br0 type bridge; nft add table x; sysctl -qw net.ipv4.ip_forward=1; ip netns add ns1; hostname x"
    )
    assert boxed(inner, ordinary=ordinary).returncode == 0
    assert sh("ip link; nft list ruleset; sysctl net.ipv4.ip_forward; ls /run /run/netns; uname -n").out == before


def test_it_is_told_apart_from_the_machine(host: FreshHost) -> None:
    show = f"{sys.executable} -c 'from nsbridge.kernel.sandbox import in_sandbox; print(in_sandbox())'"
    network = "readlink /proc/1/ns/net /proc/self/ns/net"
    script = f"{show}; {network}; echo $NSBRIDGE_SANDBOX $NSBRIDGE_SANDBOX_LEFT $XTABLES_LOCKFILE; unshare -n {show}"
    inside, one, own, names, deeper = boxed(script).stdout.splitlines()
    assert (inside, deeper) == ("True", "True")
    assert one != own
    assert one == f"net:[{host.inode}]", "process 1 stays in the network it came from"
    assert names.split() == ["1", one, "/run/xtables.lock"]
    bare = subprocess.run(
        f"env -u NSBRIDGE_SANDBOX {show}", shell=True, capture_output=True, text=True, env=ENVIRONMENT, check=True
    )
    assert bare.stdout == "False\n"


@pytest.mark.skipif(not mapped, reason="an ordinary user's sandbox has only one uid")
def test_root_can_change_user_inside(host: FreshHost) -> None:
    assert boxed("setpriv --reuid 1234 --regid 12 --clear-groups id -u").stdout == "1234\n"


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill $$", 143)])
def test_the_status_is_the_commands(host: FreshHost, script: str, status: int) -> None:
    assert boxed(script).returncode == status


def test_stdin_and_stdout_are_the_commands(host: FreshHost) -> None:
    done = subprocess.run([*COMMAND, "cat"], input="in and out", capture_output=True, text=True, env=ENVIRONMENT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "in and out", "")


def test_commands_that_cannot_run(host: FreshHost, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no program")
    text.chmod(0o755)
    for command, status, message in (("nosuch", 127, "'nosuch' not found"), (str(text), 126, "can't run")):
        done = subprocess.run([*COMMAND, command], capture_output=True, text=True, env=ENVIRONMENT)
        assert done.returncode == status
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    assert subprocess.run([*COMMAND], capture_output=True, env=ENVIRONMENT).returncode == 2


@pytest.mark.parametrize("name", ["TERM", "HUP", "INT", "USR1"])
def test_signals_reach_the_command(host: FreshHost, name: str) -> None:
    script = f"trap 'echo got {name}; exit 9' {name}; echo up; while :; do sleep 0.02; done"
    program = subprocess.Popen([*COMMAND, "sh", "-c", script], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert program.stdout is not None
    assert program.stdout.readline() == "up\n"
    program.send_signal(getattr(signal, f"SIG{name}"))
    assert program.stdout.read() == f"got {name}\n"
    assert program.wait(10) == 9
    program.stdout.close()


def started(before: str = "") -> tuple[subprocess.Popen[str], list[str]]:
    """Start a sandbox with a command, its child and a daemon; return it and the words that name these three."""
    words = ["7771", "7772", "7773"]
    script = "setsid sleep 7771 & (sleep 7772 &) ; echo up; exec sleep 7773"
    program = subprocess.Popen(
        ["sh", "-c", f'{before}\nexec "$@"', "sh", *COMMAND, "sh", "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        process_group=0,
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "up\n"
    assert eventually(lambda: sleepers() == words)
    return program, words


def sleepers() -> list[str]:
    return sorted(line.split()[1] for line in processes().values() if line.startswith("sleep 777"))


NO_NEW_PROC = "mount -t tmpfs none /proc/scsi 2>/dev/null || mount --bind /dev/null /proc/version"
"""Cover a part of /proc, as containers do: then no user namespace may mount another (mount_too_revealing())."""


@pytest.mark.parametrize("whom", ["outer", "holder", "group"])
def test_a_killed_sandbox_leaves_no_process(host: FreshHost, whom: str) -> None:
    program, _ = started()
    holder = int(Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()[0])
    if whom == "group":
        os.killpg(program.pid, signal.SIGKILL)
    else:
        os.kill({"outer": program.pid, "holder": holder}[whom], signal.SIGKILL)
    program.wait(10)
    assert eventually(lambda: not sleepers()), sleepers()
    assert eventually(lambda: not host.strangers()), host.strangers()
    assert program.stdout is not None
    program.stdout.close()


def test_daemons_end_with_the_command(host: FreshHost) -> None:
    program, _ = started()
    program.send_signal(signal.SIGTERM)
    assert program.wait(10) == 143
    assert eventually(lambda: not host.strangers()), host.strangers()
    assert program.stdout is not None
    program.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_without_a_new_proc_it_works_too(host: FreshHost, number: signal.Signals) -> None:
    before = f'exec unshare --mount --propagation private sh -c \'{NO_NEW_PROC}; exec "$@"\' sh "$@"'
    program, _ = started(before)
    assert program.stdout is not None
    pids = [pid for pid, line in processes().items() if line == "sleep 7773"]
    assert os.readlink(f"/proc/{pids[0]}/ns/pid") == os.readlink("/proc/self/ns/pid"), "no process namespace was made"
    program.send_signal(number)
    assert program.wait(10) in (143, -9)
    assert eventually(lambda: not host.strangers()), host.strangers()
    program.stdout.close()


@needs_users
def test_forbidden_user_namespaces_are_told_with_the_fix(host: FreshHost) -> None:
    script = f"""echo 0 > /proc/sys/user/max_user_namespaces
    setpriv --reuid 65534 --regid 65534 --clear-groups {" ".join(COMMAND)} true; echo $?
    {" ".join(COMMAND)} sh -c 'echo root needs none; test $(ls /run) = netns && ip -br link'
    """
    done = boxed(script)
    status, *rest = done.stdout.splitlines()
    assert status == "125"
    assert "this system permits no throwaway host" in done.stderr
    assert "sudo sysctl -w user.max_user_namespaces=15000" in done.stderr
    assert rest[0] == "root needs none"
    assert rest[1].startswith("lo ")
    assert len(rest) == 2
