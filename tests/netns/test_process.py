"""Processes in namespaces: real ones, started, killed and looked at from outside."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from lab import FreshHost, eventually, for_everybody, inode, inside, processes

import nsbridge
from nsbridge.errors import InvalidIntent, KernelError, NoPermission, NotFound
from nsbridge.kernel import process
from nsbridge.kernel.foreground import run_foreground
from nsbridge.kernel.process import CommandNotFound, CommandRefused, ProcessSpec, Running

pytestmark = pytest.mark.netns

ENVIRONMENT = (("PATH", os.environ["PATH"]), ("GREETING", "hello"))
SOURCE = str(Path(process.__file__).parents[2])


def spec(*argv: str, **fields: object) -> ProcessSpec:
    return ProcessSpec(argv, environment=ENVIRONMENT, **fields)  # type: ignore[arg-type]


def output(tmp_path: Path, script: str, **fields: object) -> str:
    """Run a shell script with its output in a log; return that."""
    log = tmp_path / "log"
    log.unlink(missing_ok=True)
    assert process.wait(process.start(spec("sh", "-c", script, log=str(log), **fields))) == 0, log.read_text()
    return log.read_text()


def python(script: str, *args: str, **options: object) -> subprocess.Popen[str]:
    """Start a Python program that uses the package, for what must happen to another process than ours."""
    script = (
        "from nsbridge.kernel.process import *\nfrom nsbridge.kernel.foreground import *\nimport os, sys, time\n"
        + (
            "def spec(*argv, **fields): return ProcessSpec(argv, environment=tuple(os.environ.items()), **fields)\n"
            + textwrap.dedent(script)
        )
    )
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    return subprocess.Popen([sys.executable, "-c", script, *args], text=True, env=environment, **options)  # type: ignore[call-overload,no-any-return]


# --- status, output, place ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill $$", 143)])
def test_the_exit_status_is_the_commands(host: FreshHost, script: str, status: int) -> None:
    assert process.wait(process.start(spec("sh", "-c", script))) == status


def test_the_command_lives_in_the_namespace_and_we_dont(host: FreshHost, tmp_path: Path) -> None:
    path = host.netns("ns1")
    seen = output(tmp_path, "readlink /proc/self/ns/net; ls /sys/class/net; ls /sys/fs/cgroup | head -1", netns=path)
    namespace, *links = seen.split()
    assert namespace == f"net:[{inode(path)}]"
    assert links[0] == "lo"
    assert inode() == host.inode
    host_groups = os.listdir("/sys/fs/cgroup")
    assert links[1:] == sorted(host_groups)[:1]


def test_environment_is_complete_and_stdin_is_ours(host: FreshHost, tmp_path: Path) -> None:
    assert output(tmp_path, "env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= -e ^OLDPWD= | sort").splitlines() == sorted(
        f"{name}={value}" for name, value in ENVIRONMENT
    )
    program = python("sys.exit(run_foreground(spec('cat')))", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert program.communicate("through and through", 10)[0] == "through and through"
    assert program.returncode == 0


def test_bytes_that_are_no_text_pass(host: FreshHost, tmp_path: Path) -> None:
    log = tmp_path / "log"
    word = os.fsdecode(b"\xff\xfe caf\xc3\xa9")
    running = process.start(spec("printf", "%s", word, log=str(log)))
    assert process.wait(running) == 0
    assert log.read_bytes() == b"\xff\xfe caf\xc3\xa9"


@pytest.mark.proves("S22")
def test_no_descriptor_of_ours_leaks_into_the_command(host: FreshHost, tmp_path: Path) -> None:
    with open(os.devnull) as held:
        os.set_inheritable(held.fileno(), True)
        detached = tmp_path / "detached"
        running = process.start(spec("sh", "-c", "ls /proc/self/fd", log=str(detached), detach=True))
        assert eventually(lambda: not process.alive(running))
        assert detached.read_text().split() == ["0", "1", "2", "3"]  # 3: the directory that ls reads
        meant = {fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")}
        meant = {fd for fd in meant if os.get_inheritable(int(fd))}
        assert str(held.fileno()) in meant
        foreground = set(output(tmp_path, "ls /proc/self/fd").split())
        assert len(foreground - meant) == 1, "the directory that ls reads"
        assert foreground > meant


def test_signals_are_as_a_command_expects_them(host: FreshHost, tmp_path: Path) -> None:
    status = dict(line.split(":\t") for line in output(tmp_path, "exec cat /proc/self/status").splitlines())
    internal = 0b11 << 31  # posix_spawn of the GNU C library ignores its own two, 32 and 33
    assert int(status["SigBlk"], 16) == int(status["SigIgn"], 16) & ~internal == int(status["SigCgt"], 16) == 0


def test_cwd(host: FreshHost, tmp_path: Path) -> None:
    assert output(tmp_path, "pwd", cwd=str(tmp_path)).strip() == str(tmp_path)
    with pytest.raises(NotFound, match="no directory /nowhere"):
        process.start(spec("pwd", cwd="/nowhere"))


# --- what the command sees ---------------------------------------------------------------------------------------


def test_hosts_resolv_and_hostname_are_seen_inside_only(host: FreshHost, tmp_path: Path) -> None:
    hosts, resolv = tmp_path / "hosts", tmp_path / "resolv.conf"
    hosts.write_text("10.1.2.3 web\n")
    resolv.write_text("nameserver 10.1.2.1\n")
    before = [Path(path).read_bytes() for path in ("/etc/hosts", "/etc/resolv.conf")] + [os.uname().nodename.encode()]
    fields = {"hosts": str(hosts), "resolv": str(resolv), "hostname": "web-1", "netns": host.netns("ns1")}
    seen = output(tmp_path, "cat /etc/hosts /etc/resolv.conf; uname -n; getent hosts web", **fields)
    assert seen.split() == ["10.1.2.3", "web", "nameserver", "10.1.2.1", "web-1", "10.1.2.3", "web"]
    after = [Path(path).read_bytes() for path in ("/etc/hosts", "/etc/resolv.conf")] + [os.uname().nodename.encode()]
    assert after == before
    assert "/etc/hosts" not in Path("/proc/self/mountinfo").read_text()


def test_a_hosts_file_rewritten_in_place_is_seen_at_once(host: FreshHost, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("10.1.2.3 old\n")
    running = process.start(spec("sleep", "100", hosts=str(hosts)))
    inner = Path(f"/proc/{running.pid}/root/etc/hosts")
    assert inner.read_text() == "10.1.2.3 old\n"
    hosts.write_text("10.1.2.4 new\n")
    assert inner.read_text() == "10.1.2.4 new\n"
    process.stop([running])
    process.wait(running)


def test_a_link_in_etc_is_followed_and_a_missing_target_left_alone(host: FreshHost, tmp_path: Path) -> None:
    """In a view of mounts whose /etc has a linked resolv.conf, as with systemd-resolved, and no hosts at all."""
    hosts = tmp_path / "hosts"
    hosts.write_text("mounted\n")
    program = python(
        """
        import ctypes, shutil
        libc = ctypes.CDLL(None)
        assert libc.unshare(0x20000) == 0 and libc.mount(b"none", b"/", None, 0x44000, None) == 0
        shutil.copytree("/etc", sys.argv[2], symlinks=True, ignore_dangling_symlinks=True,
                        ignore=lambda d, names: [n for n in names if n not in ("passwd", "group", "ld.so.cache")])
        assert libc.mount(sys.argv[2].encode(), b"/etc", None, 0x1000, None) == 0
        os.symlink(sys.argv[3], "/etc/resolv.conf")
        open(sys.argv[3], "w").write("the linked one")
        running = start(spec("sh", "-c", "cat /etc/resolv.conf; ls /etc/hosts", hosts=sys.argv[1], resolv=sys.argv[1]))
        print(wait(running))
        print(open(sys.argv[3]).read())
        """,
        str(hosts),
        str(tmp_path / "etc"),
        str(tmp_path / "stub.conf"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = program.communicate(timeout=20)
    assert out == "mounted\n2\nthe linked one\n", err
    assert "/etc/hosts" in err


def test_a_missing_source_is_an_error(host: FreshHost) -> None:
    with pytest.raises(KernelError, match="cannot mount /nowhere/hosts on /etc/hosts"):
        process.start(spec("true", hosts="/nowhere/hosts"))


def test_mounts_of_the_command_stay_with_it(host: FreshHost, tmp_path: Path) -> None:
    (tmp_path / "point").mkdir()
    output(tmp_path, f"mount -t tmpfs none {tmp_path}/point && touch {tmp_path}/point/x", netns=host.netns("ns1"))
    assert os.listdir(tmp_path / "point") == []


def test_a_removed_namespace_disappears_from_the_view_of_running_commands(host: FreshHost) -> None:
    """Else a long-lived command would keep every namespace alive that existed when it began."""
    running = process.start(spec("sleep", "100", netns=host.netns("ns1")))
    other = host.netns("ns2")
    later = process.start(spec("sleep", "100", netns=host.netns("ns1")))
    subprocess.run(["ip", "netns", "del", "ns2"], check=True)
    for one in (running, later):
        assert f" {other} " not in Path(f"/proc/{one.pid}/mountinfo").read_text()
    process.stop([running, later])
    process.wait(running)
    process.wait(later)


# --- users -------------------------------------------------------------------------------------------------------

everybody_mapped = pytest.mark.skipif(
    Path("/proc/self/uid_map").read_text().split()[2] == "1", reason="an ordinary user's sandbox has only one uid"
)


@everybody_mapped
@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("nobody", "65534 65534 65534"),
        ("65534", "65534 65534 65534"),
        ("65534:12", "65534 12 12"),
        ("1234:1234", "1234 1234 1234"),
        ("nobody:mail", "65534 8 8"),
        ("root", "0 0 0"),
    ],
)
def test_users(host: FreshHost, tmp_path: Path, user: str, expected: str) -> None:
    assert output(tmp_path, "echo $(id -u) $(id -g) $(id -G)", user=user).strip() == expected
    seen = output(tmp_path, "cat /proc/self/ns/net 2>/dev/null; grep CapEff /proc/self/status", user=user).split()[-1]
    assert (int(seen, 16) == 0) is (user != "root")


def test_users_that_cannot_be(host: FreshHost) -> None:
    with pytest.raises(NotFound, match="no user 'nosuch'"):
        process.start(spec("true", user="nosuch"))
    with pytest.raises(NotFound, match="no group 'nosuch'"):
        process.start(spec("true", user="0:nosuch"))
    with pytest.raises(NotFound, match=r"user 1234567 has no group here. Write 1234567:GROUP"):
        process.start(spec("true", user="1234567"))


@everybody_mapped
@pytest.mark.skipif(
    not for_everybody(sys.executable, nsbridge.__file__), reason="other users may not read this copy of nsbridge"
)
def test_an_ordinary_user_is_told_what_is_not_permitted(host: FreshHost) -> None:
    path = host.netns("ns1")

    def refused(**fields: object) -> str:
        program = python(
            """
            os.setgid(65534); os.setuid(65534)
            try:
                start(spec("true", **eval(sys.argv[1])))
            except NoPermission as err:
                print(err)
            """,
            repr(fields),
            stdout=subprocess.PIPE,
        )
        return program.communicate(timeout=10)[0].strip()

    assert issubclass(NoPermission, Exception)
    assert refused(netns=path).startswith("not permitted to join the network namespace /run/netns/ns1. Run as root")
    assert refused(user="mail").startswith("not permitted to become user 'mail'")
    assert refused(hostname="x").startswith("not permitted to give the command its own host name")


# --- commands that can't run -------------------------------------------------------------------------------------


def test_commands_that_cannot_run(host: FreshHost, tmp_path: Path) -> None:
    plain, text, lost = tmp_path / "plain", tmp_path / "text", tmp_path / "lost"
    plain.write_text("#!/bin/sh\n")
    text.write_text("echo no program\n")
    lost.write_text("#!/nowhere/interpreter\n")
    for path in (text, lost):
        path.chmod(0o755)
    for argv, kind, code, message in (
        (("nosuchcommand",), CommandNotFound, 127, "command 'nosuchcommand' not found in "),
        (("plain",), CommandNotFound, 127, "command 'plain' not found in "),
        ((f"{tmp_path}/no",), CommandNotFound, 127, "not found"),
        ((str(plain),), CommandRefused, 126, "is not executable"),
        ((str(tmp_path),), CommandRefused, 126, "is a directory"),
        ((str(text),), CommandRefused, 126, "neither an ELF file"),
        ((str(lost),), CommandNotFound, 127, "its interpreter"),
    ):
        with pytest.raises(kind, match=message) as caught:
            process.start(spec(*argv))
        assert caught.value.exit_code == code
        with pytest.raises(kind):
            process.start(spec(*argv, detach=True))
    with pytest.raises(NotFound, match="no network namespace at /run/netns/none"):
        process.start(spec("true", netns="/run/netns/none"))
    with pytest.raises(KernelError, match="join the network namespace /etc/passwd"):
        process.start(spec("true", netns="/etc/passwd"))


def test_the_path_is_that_of_the_environment_and_of_the_directory(host: FreshHost, tmp_path: Path) -> None:
    command = tmp_path / "mine"
    command.write_text("#!/bin/sh\nexit 5\n")
    command.chmod(0o755)
    found = ProcessSpec(("mine",), environment=(("PATH", f"/nowhere:{tmp_path}"),))
    assert process.wait(process.start(found)) == 5
    assert process.wait(process.start(spec("./mine", cwd=str(tmp_path)))) == 5


def test_specifications_that_make_no_sense() -> None:
    for argv, fields in (
        ((), {}),
        (("a\0b",), {}),
        (("true",), {"detach": True, "die_with_parent": True}),
        (("true",), {"exit_file": "/tmp/x"}),
        (("true",), {"hostname": "x" * 65}),
        (("true",), {"environment": (("A=B", "c"),)}),
    ):
        with pytest.raises(InvalidIntent):
            ProcessSpec(argv, **fields)  # type: ignore[arg-type]


# --- two phases --------------------------------------------------------------------------------------------------


def test_the_pid_is_recorded_before_the_command_begins(host: FreshHost, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    seen: list[tuple[Running, bool, bool]] = []

    def record(running: Running) -> None:
        time.sleep(0.1)
        seen.append((running, process.alive(running), mark.exists()))

    for detach in (False, True):
        mark.unlink(missing_ok=True)
        running = process.start(spec("touch", str(mark), detach=detach), record)
        assert seen.pop() == (running, True, False)
        assert eventually(mark.exists)
        if not detach:
            process.wait(running)


@pytest.mark.parametrize("detach", [False, True])
def test_a_failing_record_means_that_nothing_runs(host: FreshHost, tmp_path: Path, detach: bool) -> None:
    mark = tmp_path / "mark"
    recorded: list[Running] = []

    def record(running: Running) -> None:
        recorded.append(running)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        process.start(spec("touch", str(mark), detach=detach), record)
    assert eventually(lambda: not process.alive(recorded[0]))
    assert not mark.exists()
    assert eventually(lambda: not host.strangers())


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("moment", ["in record", "before"])
def test_a_parent_killed_before_the_word_leaks_nothing(
    host: FreshHost, tmp_path: Path, detach: bool, moment: str
) -> None:
    mark = tmp_path / "mark"
    kill = "os.kill(os.getpid(), 9)"
    early = f"import nsbridge.kernel.process as p; p._ready = lambda *_: {kill}" if moment == "before" else ""
    program = python(
        f"{early}\nstart(spec('touch', sys.argv[1], netns=sys.argv[2], detach={detach}), lambda _: {kill})",
        str(mark),
        host.netns("ns1"),
    )
    assert program.wait(10) == -9
    assert eventually(lambda: not host.strangers()), host.strangers()
    assert not mark.exists()


def test_a_command_can_die_with_its_parent(host: FreshHost) -> None:
    program = python(
        "print(start(spec('sleep', '1000', netns=sys.argv[1], user=sys.argv[2], die_with_parent=True)).pid, flush=True)"
        "; time.sleep(1000)",
        host.netns("ns1"),
        "",
        stdout=subprocess.PIPE,
    )
    assert program.stdout is not None
    pid = int(program.stdout.readline())
    assert pid in processes()
    program.kill()
    program.wait()
    program.stdout.close()
    assert eventually(lambda: pid not in processes())


def test_many_threads_can_start_at_once(host: FreshHost) -> None:
    statuses: list[int] = []

    def one(number: int) -> None:
        statuses.append(process.wait(process.start(spec("sh", "-c", f"exit {number}"))))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == list(range(12))


# --- detached ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("script", "status"), [("exit 3", "3\n"), ("kill -TERM $$", "143\n"), ("kill -9 $$", "137\n")])
def test_the_monitor_writes_the_exit_status(host: FreshHost, tmp_path: Path, script: str, status: str) -> None:
    exit_file = tmp_path / "exit"
    log = tmp_path / "log"
    told = spec("sh", "-c", f"echo out; echo err >&2; sleep 0.2; {script}", detach=True)
    running = process.start(told.replace(exit_file=str(exit_file), log=str(log)))
    assert process.alive(running)
    assert not exit_file.exists()
    assert eventually(exit_file.exists)
    assert exit_file.read_text() == status
    assert log.read_text() == "out\nerr\n"
    assert os.listdir(tmp_path).count("exit") == len([name for name in os.listdir(tmp_path) if "exit" in name])


@pytest.mark.proves("S22")
def test_a_detached_command_is_alone(host: FreshHost, tmp_path: Path) -> None:
    path = host.netns("ns1")
    told = spec("sleep", "1000", netns=path, detach=True, exit_file=str(tmp_path / "exit"))
    running = process.start(told)
    state = process._stat(running.pid)
    assert state[2] == state[3] == str(running.pid), "leads its own group and session"
    assert int(state[4]) == 0, "has no terminal"
    monitor = int(state[1])
    assert process._stat(monitor)[1] == "1", "the monitor belongs to init"
    assert os.stat(f"/proc/{monitor}/ns/net").st_ino == host.inode, "and stays outside"
    assert os.readlink(f"/proc/{running.pid}/fd/0") == "/dev/null"
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    process.stop([running])
    assert eventually((tmp_path / "exit").exists)


def test_a_removed_state_directory_takes_no_status(host: FreshHost, tmp_path: Path) -> None:
    directory = tmp_path / "state"
    directory.mkdir()
    running = process.start(spec("sleep", "0.2", detach=True, exit_file=f"{directory}/exit"))
    directory.rmdir()
    directory.mkdir()
    assert eventually(lambda: not process.alive(running))
    assert eventually(lambda: not host.strangers())
    assert os.listdir(directory) == []


def test_a_log_is_appended_to(host: FreshHost, tmp_path: Path) -> None:
    log = tmp_path / "log"
    for word in ("one", "two"):
        running = process.start(spec("echo", word, log=str(log), detach=True))
        assert eventually(lambda running=running: not process.alive(running))
    assert log.read_text() == "one\ntwo\n"
    assert log.stat().st_mode & 0o777 == 0o640


# --- stopping ----------------------------------------------------------------------------------------------------


def test_stop_asks_first(host: FreshHost, tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    running = process.start(spec("sh", "-c", script, log=str(log), detach=True))
    assert eventually(lambda: log.exists() and log.read_text() == "up\n")
    process.stop([running], 5)
    assert log.read_text().split()[-1] == "bye"
    assert not process.alive(running)


def test_stop_insists_after_the_grace(host: FreshHost, tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = "trap '' TERM; echo up; while :; do sleep 0.05; done"
    running = process.start(spec("sh", "-c", script, log=str(log), detach=True))
    assert eventually(lambda: log.exists() and log.read_text() == "up\n")
    began = time.monotonic()
    process.stop([running], 0.3)
    assert 0.3 <= time.monotonic() - began < 2
    assert not process.alive(running)


def test_stop_takes_the_whole_group_and_gives_all_of_it_time(host: FreshHost, tmp_path: Path) -> None:
    log = tmp_path / "log"
    slow = "trap 'sleep 0.2; echo saved; exit' TERM; echo up; while :; do sleep 0.02; done"
    deaf = "trap '' TERM; while :; do sleep 0.02; done"
    script = f'sh -c "{slow}" & sh -c "{deaf}" & wait'
    running = process.start(spec("sh", "-c", script, log=str(log), detach=True))
    assert eventually(lambda: log.exists() and log.read_text() == "up\n")
    process.stop([running], 1.0)
    assert log.read_text().split().count("saved") == 1  # beside the shell's own remarks
    assert eventually(lambda: not host.strangers()), host.strangers()


def test_stop_several_at_once_and_what_is_gone(host: FreshHost) -> None:
    runnings = [process.start(spec("sleep", "1000", detach=True)) for _ in range(5)]
    process.stop([*runnings, Running(runnings[0].pid, 1), Running(2**22 - 1, 1)], 5)
    assert not any(map(process.alive, runnings))
    process.stop(runnings, 5)


def test_a_stopped_process_can_be_ended(host: FreshHost) -> None:
    running = process.start(spec("sleep", "1000", detach=True))
    os.kill(running.pid, signal.SIGSTOP)
    began = time.monotonic()
    process.stop([running], 5)
    assert time.monotonic() - began < 2


def test_a_reused_pid_is_left_alone(host: FreshHost) -> None:
    running = process.start(spec("sleep", "1000", detach=True))
    impostor = running.replace(started=running.started - 1)
    assert not process.alive(impostor)
    process.stop([impostor], 0)
    assert process.alive(running)
    process.stop([running], 5)


def test_a_zombie_is_not_alive(host: FreshHost) -> None:
    running = process.start(spec("true"))
    assert eventually(lambda: not process.alive(running))
    assert process.wait(running) == 0


def test_inhabitants_are_found_and_ended(host: FreshHost) -> None:
    path = host.netns("ns1")
    outsider = process.start(spec("sleep", "1000", detach=True))
    runnings = [process.start(spec("sleep", "1000", netns=path, detach=True)) for _ in range(3)]
    by_hand = inside(path, lambda: subprocess.Popen(["setsid", "sh", "-c", "trap '' TERM; sleep 1000 & wait; wait"]))
    assert eventually(lambda: len(process.inhabitants(inode(path))) == 5)
    assert {running.pid for running in runnings} < set(process.inhabitants(inode(path)))
    ended = process.kill_inhabitants(inode(path), 0.3)
    assert {running.pid for running in runnings} < set(ended)
    assert process.inhabitants(inode(path)) == ()
    assert by_hand.wait(5) == -9
    assert process.alive(outsider)
    process.stop([outsider])


def test_our_own_namespace_is_not_emptied(host: FreshHost) -> None:
    with pytest.raises(InvalidIntent, match="won't empty it"):
        process.kill_inhabitants(host.inode)
    with pytest.raises(InvalidIntent, match="won't empty it"):
        process.kill_inhabitants(inode("/proc/1/ns/net"))


# --- foreground: signals and terminal ----------------------------------------------------------------------------


def test_foreground_status(host: FreshHost) -> None:
    assert run_foreground(spec("sh", "-c", "exit 4", netns=host.netns("ns1"))) == 4
    assert run_foreground(spec("sh", "-c", "kill -USR1 $$")) == 128 + signal.SIGUSR1
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


@pytest.mark.parametrize("name", ["TERM", "HUP", "INT", "QUIT", "USR1", "USR2"])
def test_signals_sent_to_us_alone_reach_the_command(host: FreshHost, name: str) -> None:
    script = f"trap 'echo got {name}; exit 9' {name}; echo up; while :; do sleep 0.02; done"
    program = python(
        "sys.exit(run_foreground(spec('sh', '-c', sys.argv[1])))",
        script,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "up\n"
    program.send_signal(getattr(signal, f"SIG{name}"))
    assert program.stdout.read() == f"got {name}\n"
    assert program.wait(10) == 9
    program.stdout.close()


class Terminal:
    """A program on a terminal of its own, in the foreground of it, as a shell would start it."""

    def __init__(self, script: str, *args: str) -> None:
        self.pid, self.fd = pty.fork()
        if not self.pid:
            try:
                self._shell(script, *args)
            finally:
                os._exit(1)
        self.seen = ""

    def _shell(self, script: str, *args: str) -> None:
        """Be a shell as far as it matters: give the program the terminal, tell of its stops, continue it soon."""
        program = python(script, *args, process_group=0)
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        os.tcsetpgrp(0, program.pid)
        while True:
            _, status = os.waitpid(program.pid, os.WUNTRACED)
            if not os.WIFSTOPPED(status):
                os.write(1, b"ended %d\n" % os.waitstatus_to_exitcode(status))
                os._exit(0)
            os.write(1, b"stopped\n")
            time.sleep(0.1)
            os.killpg(program.pid, signal.SIGCONT)

    def until(self, text: str) -> None:
        def read() -> bool:
            if select.select([self.fd], [], [], 0.02)[0]:
                try:
                    self.seen += os.read(self.fd, 4096).decode()
                except OSError:  # EIO: everybody on the terminal is gone
                    return text in self.seen
            return text in self.seen

        assert eventually(read, timeout_s=10), f"{text!r} doesn't appear in {self.seen!r}"

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def close(self) -> None:
        os.close(self.fd)
        os.waitpid(self.pid, 0)


RUN = "sys.exit(run_foreground(spec('sh', '-c', sys.argv[1], netns=sys.argv[2])))"


def test_the_terminal_is_the_commands(host: FreshHost) -> None:
    terminal = Terminal(RUN, 'tty; test -t 0 && test -t 1 && echo both; read word; echo "<$word>"', host.netns("ns1"))
    terminal.until("both")
    assert "/dev/pts/" in terminal.seen
    terminal.type("typed\n")
    terminal.until("<typed>")
    terminal.until("ended 0")
    terminal.close()


def test_ctrl_c_reaches_the_command_once_and_we_outlive_it(host: FreshHost) -> None:
    script = "trap 'echo one INT' INT; echo up; while :; do read word && break; done; exit 6"
    terminal = Terminal(RUN, script, host.netns("ns1"))
    terminal.until("up")
    for _ in range(2):
        terminal.type("\x03")
        time.sleep(0.3)
    terminal.type("\n")
    terminal.until("ended 6")
    assert terminal.seen.count("one INT") == 2
    assert "Traceback" not in terminal.seen
    terminal.close()


def test_ctrl_c_ends_a_command_that_doesnt_mind_it(host: FreshHost) -> None:
    """No `echo up; sleep 1000`: a child of dash that meets ^C before it is sleep swallows it (without us, too)."""
    script = "import signal, time; signal.signal(2, signal.SIG_DFL); print('up', flush=True); time.sleep(1000)"
    run = "sys.exit(run_foreground(spec(sys.executable, '-c', sys.argv[1], netns=sys.argv[2])))"
    terminal = Terminal(run, script, host.netns("ns1"))
    terminal.until("up")
    terminal.type("\x03")
    terminal.until("ended 130")
    assert "Traceback" not in terminal.seen
    terminal.close()


def test_ctrl_z_stops_both_and_fg_continues_both(host: FreshHost) -> None:
    terminal = Terminal(RUN, 'echo up; read word; echo "<$word>"; exit 2', host.netns("ns1"))
    terminal.until("up")
    terminal.type("\x1a")
    terminal.until("stopped")
    time.sleep(0.3)
    terminal.type("again\n")
    terminal.until("<again>")
    terminal.until("ended 2")
    terminal.close()


def test_a_changed_window_is_told(host: FreshHost) -> None:
    import fcntl
    import struct
    import termios

    script = "trap 'stty size; exit' WINCH; echo up; while :; do sleep 0.02; done"
    terminal = Terminal(RUN, script, host.netns("ns1"))
    terminal.until("up")
    fcntl.ioctl(terminal.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 101, 0, 0))
    terminal.until("33 101")
    terminal.until("ended 0")
    terminal.close()


def test_an_interactive_shell_has_job_control(host: FreshHost) -> None:
    terminal = Terminal("sys.exit(run_foreground(spec('bash', '--norc', '-i', netns=sys.argv[1])))", host.netns("ns1"))
    terminal.type("echo rest $((40 + 2)); sleep 1000\n")
    terminal.until("rest 42")
    time.sleep(0.2)
    terminal.type("\x1a")
    terminal.until("Stopped")
    terminal.type("fg\n")
    time.sleep(0.3)
    terminal.type("\x03")
    time.sleep(0.2)
    terminal.type("exit 3\n")
    terminal.until("ended 3")
    assert "no job control" not in terminal.seen
    assert "stopped\r" not in terminal.seen, "the shell's jobs stop, not we"
    terminal.close()


# --- cost --------------------------------------------------------------------------------------------------------


def test_the_hot_path_imports_little() -> None:
    listing = subprocess.run(
        [sys.executable, "-IS", "-c", f"import sys; sys.path.append({SOURCE!r}); before = set(sys.modules);"
         "import nsbridge.kernel.shim; print(*sorted(set(sys.modules) - before))"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    allowed = {"__future__", "errno", "nsbridge", "nsbridge.kernel", "nsbridge.kernel.shim", "nsbridge.kernel.libc"}
    assert set(listing.stdout.split()) <= allowed


def test_a_start_costs_little_more_than_an_interpreter(host: FreshHost) -> None:
    def best(function: object) -> float:
        times = []
        for _ in range(15):
            began = time.perf_counter()
            function()  # type: ignore[operator]
            times.append(time.perf_counter() - began)
        return min(times)

    path = host.netns("ns1")
    bare = best(lambda: subprocess.run([sys.executable, "-IS", "-c", "pass"], check=True))
    ours = best(lambda: process.wait(process.start(spec("true", netns=path, hostname="x"))))
    assert ours - bare < 0.015, f"{ours * 1000:.1f} ms against {bare * 1000:.1f} ms"
