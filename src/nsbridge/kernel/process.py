"""Processes inside a namespace: started so that none is ever forgotten, watched, and stopped.

`start` spawns a bare interpreter that runs `shim`, which prepares everything and then waits. The caller writes
down the pid (`record`), only then the command runs; a caller that dies before leaves nothing behind. Spawning is
posix_spawn, so callers may have threads. A process is known by its pid and the time it started, so one that took
over the number is never mistaken for it.
"""

from __future__ import annotations

import marshal
import os
import select
import sys
from errno import EACCES, ENOENT, ESRCH
from time import monotonic

from nsbridge.errors import InvalidIntent, KernelError, NoPermission, NotFound, NsbridgeError
from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable, Collection, Iterable
    from typing import Any
else:
    import _signal  # without the enums of ``signal``, which cost 8 ms


class CommandNotFound(NotFound):
    """No such command in the PATH the process would have; 127 as in a shell."""

    exit_code = 127


class CommandRefused(NsbridgeError):
    """The command's file is there but can't be executed; 126 as in a shell."""

    exit_code = 126


class ProcessSpec(Value):
    """What to run, and where.

    netns: path of a network namespace, "" for the caller's own. environment: all of it; the command is looked up
    in its PATH. cwd: "" keeps the caller's. user: ``name|uid[:group|gid]``, "" keeps the caller's. hostname: "" shares
    the host's. hosts, resolv: files to be seen as /etc/hosts and /etc/resolv.conf, "" for the host's; rewrite them in
    place, since a mount holds the inode. log: file that takes stdout and stderr at its end, "" to inherit both.
    detach: a session of its own, stdin is /dev/null, no other descriptor is kept. exit_file: takes the exit status of
    a detached command, as a number and a newline, 128+n for signal n; its directory must exist.
    die_with_parent: SIGKILL when the *thread* that called `start` ends (prctl(2), PR_SET_PDEATHSIG).
    """

    argv: tuple[str, ...]
    netns: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    cwd: str = ""
    user: str = ""
    hostname: str = ""
    hosts: str = ""
    resolv: str = ""
    log: str = ""
    exit_file: str = ""
    die_with_parent: bool = False
    detach: bool = False

    def __post_init__(self) -> None:
        """Refuse what can't be run: nothing, NUL bytes, a detached process tied to its parent."""
        if not self.argv or not self.argv[0]:
            raise InvalidIntent("there is no command to run", fix="name one")
        texts = [*self.argv, *[text for pair in self.environment for text in pair], self.cwd, self.hostname]
        if any("\0" in text for text in texts):
            raise InvalidIntent("a NUL byte stands in the command, its environment or its directory", fix="remove it")
        if bad := [name for name, _ in self.environment if not name or "=" in name]:
            raise InvalidIntent(f"environment variable name {bad[0]!r} is empty or has '='", fix="rename it")
        if len(self.hostname.encode()) > 64:  # __NEW_UTS_LEN, <linux/utsname.h>
            raise InvalidIntent(f"host name {self.hostname!r} is longer than 64 bytes", fix="shorten it")
        if self.detach and self.die_with_parent:
            raise InvalidIntent("a detached process can't die with its parent", fix="choose one")
        if self.exit_file and not self.detach:
            raise InvalidIntent("an exit file needs a detached process", fix="use the status that `wait` returns")


class Running(Value):
    """A process that was started. started: clock ticks after boot, field 22 of /proc/PID/stat (proc(5))."""

    pid: int
    started: int


ERRORS: dict[str, Callable[..., NsbridgeError]] = {
    "missing": NotFound,
    "permission": NoPermission,
    "kernel": KernelError,
}

BOOT = "import sys; sys.path.append(sys.argv[1]); from nsbridge.kernel.shim import main; main(*map(int, sys.argv[2:]))"
"""Imported rather than given as the script, whose compiled form Python never keeps: 5 ms less."""

ROOT = __file__.rpartition("/nsbridge/")[0]


def unrecorded(_: Running) -> None:
    """Write nothing down."""


def start(spec: ProcessSpec, record: Callable[[Running], None] = unrecorded) -> Running:
    """Run a command; return once it has replaced its preparing process.

    record: called with the process before the command begins; when it raises, the command never runs. Without
    `detach` the caller must `wait` for it. Raises CommandNotFound, CommandRefused, NotFound (namespace, user,
    directory), NoPermission, KernelError.
    """
    return begin(spec, record, ())


def begin(
    spec: ProcessSpec,
    record: Callable[[Running], None],
    mask: Collection[int],
    spawn: Callable[[list[str], list[int]], int] | None = None,
) -> Running:
    """Spawn the shim, and hold the conversation with it. mask: signals the command shall find blocked.

    spawn: starts an argv that inherits these descriptors, and returns its pid; for callers who want pipes.
    """
    ours: list[int] = []
    pid = 0
    try:
        theirs: list[int] = []
        try:
            theirs.append(_memory({name: getattr(spec, name) for name in type(spec)._fields}))
            report, writer = os.pipe2(os.O_CLOEXEC)
            ours.append(report)
            theirs.append(writer)
            reader, go = os.pipe2(os.O_CLOEXEC)
            ours.append(go)
            theirs.append(reader)
            argv = [sys.executable, "-IS", "-c", BOOT, ROOT, *[str(fd) for fd in theirs]]
            pid = spawn(argv, theirs) if spawn is not None else _spawn(argv, theirs, mask, spec.detach)
        finally:
            for fd in theirs:
                os.close(fd)
        running = _ready(spec, report, pid)
        record(running)
        os.write(go, b"go")
        if refusal := _read(report):
            raise _error(spec, marshal.loads(refusal)[1])
        if spec.detach:
            _reap(pid)
        return running
    except BaseException:
        while ours:
            os.close(ours.pop())  # the shim reads the end of ``go`` and leaves
        if pid:
            _reap(pid)
        raise
    finally:
        for fd in ours:
            os.close(fd)


def _memory(told: dict[str, Any]) -> int:
    """Put the specification into memory: a pipe would block on an environment of more than 64 KiB."""
    fd = os.memfd_create("nsbridge", os.MFD_CLOEXEC)
    data = marshal.dumps(told)
    while data:
        data = data[os.write(fd, data) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def spawn_group(argv: list[str], fds: list[int]) -> int:
    """Start the interpreter as the leader of a process group of its own, so that it can be killed with its children."""
    keep = [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in fds]
    return os.posix_spawn(sys.executable, argv, os.environ, file_actions=keep, setpgroup=0)


def _spawn(argv: list[str], fds: list[int], mask: Collection[int], detach: bool) -> int:
    """Start the interpreter with these descriptors, under the same numbers: they can't collide with inherited ones."""
    keep = [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in fds]  # onto itself: clears close-on-exec
    # A service starts with nothing ignored; a foreground command inherits that, so that nohup works.
    default = sorted(_signal.valid_signals() - {_signal.SIGKILL, _signal.SIGSTOP}) if detach else ()
    return os.posix_spawn(sys.executable, argv, os.environ, file_actions=keep, setsigmask=mask, setsigdef=default)


def _read(fd: int) -> bytes:
    """Read one report, all of it (a pipe takes up to 4096 bytes at once: PIPE_BUF); empty at the end."""
    return os.read(fd, 65536)


def _ready(spec: ProcessSpec, report: int, pid: int) -> Running:
    answer = _read(report)
    if not answer:
        status = _reap(pid)
        raise KernelError(f"the process for {spec.argv[0]!r} ended before it began, with status {status}", thing=status)
    word, content = marshal.loads(answer)
    if word != "ready":
        raise _error(spec, content)
    return Running(content, started(content))


def _error(spec: ProcessSpec, report: tuple[str, str, str, int]) -> NsbridgeError:
    kind, message, fix, errno = report
    if kind == "command":
        if errno == ENOENT:
            return CommandNotFound(message, fix=fix or "check the command's name and the PATH it is given")
        return CommandRefused(message, fix=fix or ("make it executable" if errno == EACCES else ""))
    if kind == "kernel":
        return KernelError(message, errno=errno, thing=spec, fix=fix)
    return ERRORS[kind](message, fix=fix)


def _reap(pid: int) -> int:
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:  # somebody ignores SIGCHLD, so the kernel reaped it
        return 0


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third (state) on, none when there is no such process."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        return os.read(fd, 4096).decode("utf-8", "replace").rpartition(")")[2].split()
    except ProcessLookupError:
        return []
    finally:
        os.close(fd)


def started(pid: int) -> int:
    """Return when a process started, as in `Running`; 0 when there is none."""
    return int(fields[19]) if (fields := _stat(pid)) else 0


def alive(running: Running) -> bool:
    """Tell whether this very process still runs; one that only waits to be reaped doesn't."""
    fields = _stat(running.pid)
    return bool(fields) and int(fields[19]) == running.started and fields[0] not in "ZX"


def wait(running: Running) -> int:
    """Wait for a command that isn't detached; return its exit status, 128+n when signal n killed it."""
    status = os.waitstatus_to_exitcode(os.waitpid(running.pid, 0)[1])
    return status if status >= 0 else 128 - status


def stop(runnings: Iterable[Running], grace_s: float = 10.0) -> None:
    """End processes: SIGTERM, and SIGKILL for those still there after `grace_s` seconds.

    A process that leads a process group (every detached one does) takes its group along, and the group has the same
    time. What has ended already, or whose number belongs to another process by now, is left alone.
    """
    began = monotonic()
    leaders: set[int] = set()
    _end(runnings, grace_s, leaders)
    if not leaders:
        return
    orphans = []
    for pid in _pids():  # members that outlived their leader; the number of a group in use isn't given anew
        fields = _stat(pid)
        if fields and int(fields[2]) in leaders and pid not in leaders:
            orphans.append(Running(pid, int(fields[19])))
    _end(orphans, max(0.0, began + grace_s - monotonic()), first=0)  # they have had their SIGTERM


def _end(
    runnings: Iterable[Running], grace_s: float, leaders: set[int] | None = None, first: int = _signal.SIGTERM
) -> None:
    """End processes, and with a set to note their leaders in, their groups; KernelError when some withstand SIGKILL."""
    waiting: dict[int, Running] = {}
    try:
        for running in runnings:
            try:
                fd = os.pidfd_open(running.pid)
            except ProcessLookupError:
                continue
            waiting[fd] = running
            if not alive(running):  # asked after opening, so the descriptor can't be another process's
                os.close(fd)
                del waiting[fd]
        for number, patience in ((first, grace_s), (_signal.SIGKILL, 10.0)):
            for running in waiting.values():
                leads = leaders is not None and _leads(running.pid)
                if leaders is not None and leads:
                    leaders.add(running.pid)
                _signal_to(running.pid, number, leads)
            _outwait(waiting, patience)
        if waiting:
            pids = ", ".join(str(running.pid) for running in waiting.values())
            raise KernelError(f"processes {pids} don't end, not even by SIGKILL", fix="see their state with `ps -l`")
    finally:
        for fd in waiting:
            os.close(fd)


def _leads(pid: int) -> bool:
    try:
        return os.getpgid(pid) == pid
    except ProcessLookupError:
        return False


def _signal_to(pid: int, number: int, group: bool) -> None:
    try:
        (os.killpg if group else os.kill)(pid, number)
        if number == _signal.SIGTERM:
            (os.killpg if group else os.kill)(pid, _signal.SIGCONT)  # a stopped one would never see it
    except OSError as err:
        if err.errno != ESRCH:
            raise NoPermission(f"not permitted to end process {pid}", fix="run as the user who started it") from None


def _outwait(waiting: dict[int, Running], patience_s: float) -> None:
    """Wait until the processes end, at most so many seconds; those that do leave `waiting`."""
    poll = select.poll()
    for fd in waiting:
        poll.register(fd, select.POLLIN)
    deadline = monotonic() + patience_s
    while waiting:
        for fd, _ in poll.poll(max(0.0, deadline - monotonic()) * 1000):
            poll.unregister(fd)
            del waiting[fd]
            os.close(fd)
        if monotonic() >= deadline:
            return


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def inhabitants(netns_inode: int) -> tuple[int, ...]:
    """Return the processes, without ourselves, whose main thread lives in that network namespace.

    Those we may not look at (ptrace(2), access mode checks) are left out.
    """
    wanted = f"net:[{netns_inode}]"
    found = []
    for pid in _pids():
        try:
            if os.readlink(f"/proc/{pid}/ns/net") == wanted:
                found.append(pid)
        except OSError:  # ended meanwhile, or not ours to see
            continue
    own = os.getpid()
    return tuple([pid for pid in found if pid != own])


def kill_inhabitants(netns_inode: int, grace_s: float = 10.0) -> tuple[int, ...]:
    """End every process that lives in a namespace, one by one and not by group; return their pids.

    Refuses (InvalidIntent) the namespace we live in ourselves, and that of process 1. KernelError when some remain.
    """
    for path in ("/proc/self/ns/net", "/proc/1/ns/net"):
        try:
            home = os.readlink(path)
        except OSError:
            continue
        if home == f"net:[{netns_inode}]":
            raise InvalidIntent(f"namespace {netns_inode} is that of {path.split('/')[2]}: won't empty it")
    ended: list[int] = []
    for patience_s in (grace_s, 0.0, 0.0, 0.0):  # a dying one may fork; the second round doesn't ask
        pids = inhabitants(netns_inode)
        if not pids:
            return tuple(ended)
        runnings = [Running(pid, started(pid)) for pid in pids]
        # Looked up again: a number that changed hands in between isn't touched.
        here = set(inhabitants(netns_inode))
        _end([running for running in runnings if running.pid in here], patience_s)
        ended += pids
    if left := inhabitants(netns_inode):
        raise KernelError(f"processes {', '.join(map(str, left))} keep living in namespace {netns_inode}")
    return tuple(ended)
