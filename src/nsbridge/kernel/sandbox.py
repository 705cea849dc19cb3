"""A throwaway host: a command runs as root of namespaces of its own, and all of it is gone afterwards.

``python -m nsbridge.kernel.sandbox -- COMMAND…`` gives a command, whoever calls it, a host to play with: user,
mount, process and network namespaces of its own, an empty /run with /run/netns, a /sys of the new network,
loopback up. Nothing in there can reach the machine's interfaces, rules or settings, and nothing needs root.

    outer ── holder ── init (pid 1) ── host ── the command and its children
    machine's namespaces │  machine's network  │ the sandbox's network

Four processes, because each namespace is entered by a fork. *outer* stays with the machine, and writes the id
maps when it is root. *holder* makes the namespaces. *init* is process 1 of a process namespace: when it ends, and it
is killed when anyone above it is (PR_SET_PDEATHSIG), the kernel kills whatever the command left running, daemons
too. It stays in the machine's network namespace, so that in here, too, /proc/1/ns/net is another network than ours
and nobody takes the sandbox for the machine. *host* makes the network and becomes the command.

Where /proc can't be mounted anew (inside some containers) there is no process namespace; then *holder*, as the
reaper of orphans (PR_SET_CHILD_SUBREAPER), ends what is left, unless it is killed itself.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import signal
import socket
import struct
import sys

from nsbridge.errors import KernelError, NoPermission, NsbridgeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from typing import NoReturn

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWUSER, CLONE_NEWPID = 0x20000, 0x4000000, 0x10000000, 0x20000000
CLONE_NEWNET = 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE, MS_SHARED = 2, 4, 8, 0x1000, 0x4000, 1 << 18, 1 << 20
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
"""<linux/sched.h>, <linux/mount.h>, <linux/prctl.h>, <linux/sockios.h>, <linux/if.h>"""

PASSED_ON = frozenset({signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2})
WATCHED = PASSED_ON | {signal.SIGWINCH, signal.SIGCHLD}
SI_KERNEL = 0x80

_libc = ctypes.CDLL(None, use_errno=True)


def in_sandbox() -> bool:
    """Tell whether this thread lives in a sandbox's network, and not in the machine's."""
    left = os.environ.get("NSBRIDGE_SANDBOX_LEFT", "")
    return bool(left) and os.environ.get("NSBRIDGE_SANDBOX") == "1" and left != _network()


def enter(argv: Sequence[str]) -> NoReturn:
    """Replace this process by a sandbox that runs `argv`; for programs that start themselves again inside one."""
    os.execv(sys.executable, [sys.executable, "-m", "nsbridge.kernel.sandbox", "--", *argv])


def run(argv: Sequence[str], *, user: bool = True) -> int:
    """Run a command in a sandbox of its own; return its exit status, 128+n for signal n.

    user: False does without a user namespace, which root can; limits that only the machine's root may pass (the
    socket buffers that iptables-restore wants for thousands of rules, say) are then no limits inside. Signals sent
    to the caller are passed on. For single-threaded processes, since it forks. Raises NoPermission when the system
    forbids namespaces, KernelError.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    try:
        refusals = []
        for space, pid in _tries():
            if space and not user:
                continue
            refusal, status = _try(argv, space, pid, before)
            if not refusal:
                return status
            refusals.append(refusal)
        raise NoPermission(
            f"this system permits no throwaway host ({refusals[0] if refusals else 'not root'})", fix=_fix()
        )
    finally:
        while signal.sigtimedwait(WATCHED, 0) is not None:
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m nsbridge.kernel.sandbox -- COMMAND…``; 125 when there is no sandbox, as with env(1)."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    if argv[:1] == ["--"]:
        del argv[0]
    if not argv or argv[0].startswith("-"):
        print("usage: python -m nsbridge.kernel.sandbox -- COMMAND…", file=sys.stderr)
        return 2
    try:
        return run(argv)
    except NsbridgeError as err:
        print(f"nsbridge sandbox: {err}", file=sys.stderr)
        return 125


def _tries() -> list[tuple[bool, bool]]:
    """Which namespaces to try, best first: with a user namespace or without, with a process namespace or without."""
    tries = [(True, True), (True, False)]
    return [*tries, (False, True), (False, False)] if os.geteuid() == 0 else tries


def _try(argv: Sequence[str], user: bool, pid: bool, mask: Collection[int]) -> tuple[str, int]:
    """Run the command in such namespaces; return its status, or why these can't be had though others may."""
    trouble, report = os.pipe2(os.O_CLOEXEC)
    made, tell = os.pipe2(os.O_CLOEXEC)
    wait, mapped = os.pipe2(os.O_CLOEXEC)
    outer = os.getpid()
    holder = os.fork()
    if not holder:
        for fd in (trouble, made, mapped):
            os.close(fd)
        _guarded(lambda: _holder(argv, user, pid, mask, outer, (tell, wait, report)), report)
    for fd in (report, tell, wait):
        os.close(fd)
    with os.fdopen(made, "rb") as ready, os.fdopen(mapped, "wb") as answer, os.fdopen(trouble, "rb") as troubles:
        if ready.read(1):
            answer.write(b"m" if user and os.geteuid() == 0 and _map_all(holder) else b"o")
            answer.flush()
        text = troubles.read().decode()  # ends when the command runs, or with the reason why not
        status = _supervise(holder)
    if not text:
        return "", status
    code, _, message = text.partition(" ")
    if message.startswith("command "):
        print(f"nsbridge sandbox: {message}", file=sys.stderr)
        return "", 127 if int(code) == errno.ENOENT else 126
    if int(code) in (errno.EPERM, errno.EACCES, errno.ENOSPC, errno.EINVAL):
        return message, 0
    raise KernelError(message, errno=int(code))


def _guarded(work: Callable[[], int], report: int) -> NoReturn:
    """Do a forked process's work and leave with its status; trouble goes through the pipe, not up the stack."""
    try:
        os._exit(work())
    except OSError as err:
        os.write(report, f"{err.errno or 0} {err.strerror}".encode())
    except BaseException as err:
        os.write(report, f"0 {type(err).__name__}: {err}".encode())
    os._exit(125)


def _holder(
    argv: Sequence[str], user: bool, pid: bool, mask: Collection[int], outer: int, fds: tuple[int, int, int]
) -> int:
    tell, wait, report = fds
    uid, gid = os.geteuid(), os.getegid()
    left = _network()
    flags = CLONE_NEWNS | CLONE_NEWUTS | (CLONE_NEWUSER if user else 0) | (CLONE_NEWPID if pid else 0)
    _call("cannot make the namespaces", "unshare", flags)
    os.write(tell, b".")
    if os.read(wait, 1) != b"m" and user:
        _write("/proc/self/setgroups", "deny")  # else an ordinary user may map no group (user_namespaces(7))
        _write("/proc/self/uid_map", f"0 {uid} 1")
        _write("/proc/self/gid_map", f"0 {gid} 1")
    _call(
        "cannot tie the sandbox to its caller",
        "prctl",
        PR_SET_PDEATHSIG,
        signal.SIGKILL if pid else signal.SIGTERM,
        0,
        0,
        0,
    )
    if os.getppid() != outer:  # it died before we were tied to it
        return 125
    _call("cannot make the mounts private", "mount", b"none", b"/", None, MS_PRIVATE | MS_REC, None)
    # Shared among ourselves, as systemd leaves a machine: an unmounted namespace vanishes from every child's view.
    _call("cannot make the mounts shared", "mount", b"none", b"/", None, MS_SHARED | MS_REC, None)
    if not pid:
        _call("cannot become the reaper", "prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        child = _fork(lambda: _host(argv, mask, left), report)
        status = _supervise(child, outer)
        _end_children()
        return status
    alive, dead = os.pipe2(os.O_CLOEXEC)
    child = _fork(lambda: _init(argv, mask, left, alive, dead, report), report, keep=True)
    os.write(dead, b".")
    os.close(report)
    return _supervise(child)


def _init(argv: Sequence[str], mask: Collection[int], left: str, alive: int, dead: int, report: int) -> int:
    os.close(dead)
    _tie(signal.SIGKILL)
    if not os.read(alive, 1):
        return 125
    _call("cannot make a /proc", "mount", b"proc", b"/proc", b"proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, None)
    return _supervise(_fork(lambda: _host(argv, mask, left), report))


def _fork(work: Callable[[], int], report: int, *, keep: bool = False) -> int:
    """Fork; the parent lets go of the report pipe, unless it still has something to say."""
    child = os.fork()
    if not child:
        _guarded(work, report)
    if not keep:
        os.close(report)
    return child


def _host(argv: Sequence[str], mask: Collection[int], left: str) -> int:
    """Furnish the host and become the command."""
    _tie(signal.SIGKILL)
    _call("cannot make a network namespace", "unshare", CLONE_NEWNET)
    furnish()
    environment = {**os.environ, "NSBRIDGE_SANDBOX": "1", "NSBRIDGE_SANDBOX_LEFT": left}
    environment["XTABLES_LOCKFILE"] = "/run/xtables.lock"  # the usual one is the machine's
    environment.pop("XDG_RUNTIME_DIR", None)  # it lay in the /run that is covered now
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and that would be inherited
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    path = shutil.which(argv[0])
    if path is None:
        raise OSError(errno.ENOENT, f"command {argv[0]!r} not found")
    try:
        os.execve(path, list(argv), environment)
    except OSError as err:
        raise OSError(err.errno, f"command {path} can't run: {err.strerror}") from None


def furnish() -> None:
    """Make this network namespace a host: empty /run with /run/netns, its own /sys, loopback up.

    For the first process of a sandbox, and for each test that wants a fresh one. OSError when the kernel refuses.
    """
    linked = [os.path.realpath(path) for path in ("/etc/resolv.conf", "/etc/hosts")]
    _call("cannot empty /run", "mount", b"tmpfs", b"/run", b"tmpfs", MS_NOSUID | MS_NODEV, b"mode=755")
    os.mkdir("/run/netns", 0o755)
    for path in linked:  # systemd-resolved keeps the real file in /run
        if path.startswith("/run/"):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            _write(path, "", os.O_CREAT)
    try:
        groups = os.open("/sys/fs/cgroup", os.O_DIRECTORY | os.O_CLOEXEC)
        _call("", "mount", b"sysfs", b"/sys", b"sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, None)
        _call("", "mount", f"/proc/self/fd/{groups}".encode(), b"/sys/fs/cgroup", None, MS_BIND | MS_REC, None)
        os.close(groups)
    except OSError:  # refused where parts of /sys are masked; then only /sys/class/net shows the machine's links
        pass
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sh22x", b"lo", 0)
        (flags,) = struct.unpack_from("16xh", fcntl.ioctl(sock, SIOCGIFFLAGS, request))
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | IFF_UP))


def _supervise(child: int, outer: int = 0) -> int:
    """Pass on signals and reap orphans until the child ends; return its status, 128+n for signal n.

    The terminal's own signals aren't passed on: they reach the whole process group. outer: when this process is
    gone, SIGTERM is the news of it, and everything is ended.
    """
    while True:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:  # SIGCHLD was ignored when we began
                return 125
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
            if pid == 0:
                break
        info = signal.sigwaitinfo(WATCHED)
        if outer and os.getppid() != outer:
            _end_children()
            return 125
        from_terminal = info.si_code == SI_KERNEL and os.getpgid(child) == os.getpgrp()
        if info.si_signo != signal.SIGCHLD and not from_terminal:
            os.kill(child, info.si_signo)


def _end_children() -> None:
    """Kill our children until no orphan comes to us any more."""
    own = os.getpid()
    while True:
        for name in filter(str.isdecimal, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/stat") as file:
                    parent = int(file.read().rpartition(")")[2].split()[1])
                if parent == own:
                    os.kill(int(name), signal.SIGKILL)
            except OSError:
                continue
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _map_all(holder: int) -> bool:
    """Give the holder's user namespace every id we have, so that commands in it can change user; False if refused."""
    try:
        for kind in ("uid_map", "gid_map"):
            with open(f"/proc/self/{kind}") as file:
                ranges = [line.split() for line in file]
            _write(f"/proc/{holder}/{kind}", "".join(f"{first} {first} {count}\n" for first, _, count in ranges))
    except OSError:
        return False
    return True


def _network() -> str:
    return os.readlink("/proc/thread-self/ns/net")


def _write(path: str, text: str, flags: int = 0) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | flags, 0o644)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _call(failing: str, name: str, *args: object) -> None:
    values = [ctypes.c_ulong(arg) if isinstance(arg, int) else arg for arg in args]
    if getattr(_libc, name)(*values) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{failing}: {os.strerror(error)}")


def _tie(number: int) -> None:
    """Get this signal when the parent ends (prctl(2))."""
    _call("cannot tie the sandbox to its caller", "prctl", PR_SET_PDEATHSIG, number, 0, 0, 0)


def _sysctl(name: str) -> str:
    try:
        with open(f"/proc/sys/{name}") as file:
            return file.read().strip()
    except OSError:
        return ""


def _fix() -> str:
    """Name the setting that forbids user namespaces here, and how to permit them."""
    for name, forbids, permit in (
        ("user/max_user_namespaces", "0", "15000"),
        ("kernel/unprivileged_userns_clone", "0", "1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
    ):
        if _sysctl(name) == forbids:
            return f"run as root, or permit user namespaces: `sudo sysctl -w {name.replace('/', '.')}={permit}`"
    return "run as root; in a container, run that with --privileged"


if __name__ == "__main__":
    raise SystemExit(main())
