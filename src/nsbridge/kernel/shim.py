"""The few milliseconds between a new process and its command: what `process.start` runs in the child.

A process that has threads can't fork and then prepare a namespace in Python, so `process.start` spawns a bare
interpreter which imports this module and nothing else of ours. It joins the namespace, mounts, changes user
and directory, tells that it is ready, and waits for the word ``go``: its parent writes down its pid in between.
End of file instead of ``go`` means that the parent died, and then nothing runs at all. So there is no moment
in which a killed parent leaves a command nobody knows of.

Detached, the interpreter forks twice: the first child stays as the monitor, outside the namespace, and writes
the exit status to a file; the second becomes the command, in a session of its own. The one that was spawned
ends at once, so that a long-lived parent has no zombies.

What it is told comes as `marshal` data, and only built-in modules are used (`posix` for `os`, `_ctypes` for
`ctypes`): each of those shortcuts saves 1 to 3 ms of the 8 that a bare interpreter takes. Both sides are the
same interpreter, so the format of `marshal` and these modules are the same too.
"""

from __future__ import annotations

import marshal
import posix
from errno import EACCES, ENOENT, ENOEXEC, ENOTDIR, EPERM

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import Any, NoReturn
else:
    import _signal

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWNET = 0x20000, 0x4000000, 0x40000000
MS_RDONLY, MS_BIND, MS_REC, MS_SLAVE = 1, 0x1000, 0x4000, 0x80000
PR_SET_PDEATHSIG = 1
"""<linux/sched.h>, <linux/mount.h>, <linux/prctl.h>"""

USE_ERRNO = 1 | 8
"""FUNCFLAG_CDECL and FUNCFLAG_USE_ERRNO of _ctypes."""

CANT_RUN = {
    ENOENT: "its interpreter (the #! line, or the ELF loader) doesn't exist",
    EACCES: "permission denied",
    ENOEXEC: "it is no program: neither an ELF file for this machine nor a script with a #! line",
}


class Refused(Exception):
    """What could not be prepared. kind: which error `process` raises; fix: what to do about it."""

    def __init__(self, kind: str, message: str, fix: str = "", errno: int = 0) -> None:
        super().__init__(message)
        self.report = (kind, message[:1000], fix, errno)  # one write to a pipe: PIPE_BUF is 4096


class _Libc:
    """Calls of the C library that `posix` lacks (until Python 3.12 or altogether). OSError on failure."""

    def __init__(self) -> None:
        import _ctypes

        class Call(_ctypes.CFuncPtr):
            _flags_ = USE_ERRNO

        self._call = Call
        self._errno = _ctypes.get_errno
        self._find = _ctypes.dlsym
        self._handle = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]

    def __call__(self, name: str, *args: Any) -> None:
        if self._call(self._find(self._handle, name))(*args) != 0:
            error = self._errno()
            raise OSError(error, posix.strerror(error))


def main(spec_fd: int, report_fd: int, go_fd: int) -> NoReturn:
    """Prepare, report, wait for ``go``, become the command. Never returns; exits with 127 when it can't."""
    for fd in (spec_fd, report_fd, go_fd):
        posix.set_inheritable(fd, False)
    # The interpreter ignores SIGPIPE and SIGXFSZ and catches SIGINT; ignored signals would outlive exec.
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(number, _signal.SIG_DFL)
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    spec = marshal.loads(_read_all(spec_fd))
    try:
        if spec["detach"]:
            _detach(spec, (report_fd, go_fd))
        path = _prepare(spec)
        posix.write(report_fd, marshal.dumps(("ready", posix.getpid())))
        if posix.read(go_fd, 2) != b"go":
            posix._exit(0)
        _become(path, spec)
    except Refused as refused:
        posix.write(report_fd, marshal.dumps(("refused", refused.report)))
    except OSError as err:
        posix.write(report_fd, marshal.dumps(("refused", ("kernel", str(err), "", err.errno or 0))))
    posix._exit(127)


def _read_all(fd: int) -> bytes:
    parts = []
    while part := posix.read(fd, 1 << 20):
        parts.append(part)
    posix.close(fd)
    return b"".join(parts)


def _detach(spec: dict[str, Any], keep: tuple[int, int]) -> None:
    """Leave the terminal, put the monitor in between, and close what the caller had open; only the command returns."""
    if posix.fork():
        posix._exit(0)
    posix.setsid()
    _redirect("/dev/null", posix.O_RDONLY, (0,))
    if spec["log"]:
        _redirect(spec["log"], posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT, (1, 2))
    for name in posix.listdir("/proc/self/fd"):
        if (fd := int(name)) > 2 and fd not in keep:
            try:
                posix.close(fd)
            except OSError:  # the descriptor that listed the directory is gone already
                continue
    directory, _, name = spec["exit_file"].rpartition("/")
    if not name:
        return
    # Opened now: when the directory is removed and made anew, the status belongs to neither.
    exit_dir = posix.open(directory or ".", posix.O_DIRECTORY | posix.O_CLOEXEC)
    if child := posix.fork():
        _monitor(child, exit_dir, name)
    posix.setsid()


def _monitor(child: int, exit_dir: int, name: str) -> NoReturn:
    """Wait for the command and write its exit status, 128 and the signal if one killed it, into the exit file."""
    posix.closerange(0, exit_dir)
    posix.closerange(exit_dir + 1, 65536)
    posix.chdir("/")
    _, status = posix.waitpid(child, 0)
    code = posix.WEXITSTATUS(status) if posix.WIFEXITED(status) else 128 + posix.WTERMSIG(status)
    partial = f".{name}.{child}"
    try:
        fd = posix.open(partial, posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC, 0o644, dir_fd=exit_dir)
        posix.write(fd, b"%d\n" % code)
        posix.rename(partial, name, src_dir_fd=exit_dir, dst_dir_fd=exit_dir)
    except FileNotFoundError:  # the directory was removed: nobody wants to know any more
        pass
    posix._exit(0)


def _redirect(path: str, flags: int, to: tuple[int, ...]) -> None:
    try:
        fd = posix.open(path, flags | posix.O_CLOEXEC, 0o640)
    except OSError as err:
        raise Refused("kernel", f"cannot open {path}: {err.strerror}", "", err.errno or 0) from None
    for target in to:
        posix.dup2(fd, target)
    if fd not in to:
        posix.close(fd)


def _prepare(spec: dict[str, Any]) -> str:
    """Make everything as the specification says and return the path of the command."""
    if spec["log"] and not spec["detach"]:
        _redirect(spec["log"], posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT, (1, 2))
    netns, hostname, mounts = spec["netns"], spec["hostname"], spec["hosts"] or spec["resolv"]
    libc = _Libc() if netns or hostname or mounts or spec["die_with_parent"] else None
    # Files are opened and users looked up while we still see the caller's files and rights.
    user = _user(spec["user"]) if spec["user"] else None
    if libc is not None:
        if netns:
            _join(libc, netns)
        if netns or mounts:
            _mount(libc, spec)
        if hostname:
            _allowed(libc, "give the command its own host name", "unshare", CLONE_NEWUTS)
            name = hostname.encode()
            _allowed(libc, f"set the host name {hostname!r}", "sethostname", name, len(name))
    if user is not None:
        _become_user(spec["user"], *user)
    if spec["cwd"]:
        _enter(spec["cwd"])
    if spec["die_with_parent"] and libc is not None:  # last: a change of user clears it (prctl(2))
        libc("prctl", PR_SET_PDEATHSIG, int(_signal.SIGKILL), 0, 0, 0)
    return _find(spec["argv"][0], dict(spec["environment"]).get("PATH", ""))


def _allowed(libc: _Libc, what: str, name: str, *args: Any) -> None:
    try:
        libc(name, *args)
    except OSError as err:
        if err.errno in (EPERM, EACCES):
            raise Refused("permission", f"not permitted to {what}", "run as root", err.errno) from None
        raise Refused("kernel", f"cannot {what}: {err.strerror}", "", err.errno or 0) from None


def _join(libc: _Libc, path: str) -> None:
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise Refused("missing", f"no network namespace at {path}", "", ENOENT) from None
    except PermissionError as err:
        raise Refused("permission", f"not permitted to open {path}", "run as root", err.errno or 0) from None
    _allowed(libc, f"join the network namespace {path}", "setns", fd, CLONE_NEWNET)
    posix.close(fd)


def _mount(libc: _Libc, spec: dict[str, Any]) -> None:
    """Give the command its own view of mounts: its hosts and resolv.conf, and the /sys of its namespace.

    Mounts made on the host later still arrive, ours don't leave (MS_SLAVE), as with ip-netns(8). A source file
    must be rewritten in place, not replaced: a bind mount holds the inode. Where the host has no /etc/hosts or
    /etc/resolv.conf there is nothing to mount on, and the command sees none either; making one would change the host.
    """
    _allowed(libc, "give the command its own mounts", "unshare", CLONE_NEWNS)
    _allowed(libc, "keep its mounts off the host", "mount", b"none", b"/", None, MS_SLAVE | MS_REC, None)
    for source, target in ((spec["hosts"], b"/etc/hosts"), (spec["resolv"], b"/etc/resolv.conf")):
        if source:
            try:
                libc("mount", source.encode(), target, None, MS_BIND, None)  # follows links, on both sides
            except OSError as err:
                if err.errno not in (ENOENT, ENOTDIR) or not _exists(source):
                    raise Refused("kernel", f"cannot mount {source} on {target.decode()}: {err.strerror}") from None
    if spec["netns"]:
        _show_own_sys(libc)


def _show_own_sys(libc: _Libc) -> None:
    """Mount a /sys that shows the links of this namespace, with the host's control groups in it, where permitted."""
    try:
        flags = MS_RDONLY if posix.statvfs("/sys").f_flag & posix.ST_RDONLY else 0
        groups = posix.open("/sys/fs/cgroup", posix.O_DIRECTORY | posix.O_CLOEXEC)
        libc("mount", b"sysfs", b"/sys", b"sysfs", flags, None)
        libc("mount", b"/proc/self/fd/%d" % groups, b"/sys/fs/cgroup", None, MS_BIND | MS_REC, None)
        posix.close(groups)
    except OSError:  # a container's masked /sys can't be mounted anew; the network works without
        return


def _exists(path: str) -> bool:
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


def _user(text: str) -> tuple[int, int, list[int]]:
    """Read ``name|uid[:group|gid]`` as uid, gid and supplementary groups.

    As in a compose file: a named group stands alone, a user's own groups come only without one. A uid that
    passwd doesn't know has no group; Docker gives it 0, which on a host would open root's files.
    """
    import grp
    import pwd

    name, _, group = text.partition(":")
    try:
        entry = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
        uid, gid, groups = entry.pw_uid, entry.pw_gid, posix.getgrouplist(entry.pw_name, entry.pw_gid)
    except KeyError:
        if not name.isdecimal():
            raise Refused("missing", f"no user {name!r} on this host", "name one of /etc/passwd, or a number") from None
        if not group:
            raise Refused("missing", f"user {name} has no group here", f"write {name}:GROUP") from None
        uid, gid, groups = int(name), 0, []
    if group:
        try:
            gid, groups = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid, []
        except KeyError:
            raise Refused("missing", f"no group {group!r} on this host", "name one of /etc/group") from None
    return uid, gid, groups


def _become_user(text: str, uid: int, gid: int, groups: list[int]) -> None:
    if (uid, gid) == (posix.geteuid(), posix.getegid()) and uid == posix.getuid():
        return
    try:
        posix.setgroups(groups)
        posix.setgid(gid)
        posix.setuid(uid)
    except PermissionError as err:
        raise Refused("permission", f"not permitted to become user {text!r}", "run as root", err.errno or 0) from None
    except OSError as err:  # EINVAL: not mapped in this user namespace (user_namespaces(7))
        reason = f"cannot become user {text!r}: {err.strerror} (ids {uid}:{gid} in this user namespace)"
        raise Refused("kernel", reason, "", err.errno or 0) from None


def _enter(cwd: str) -> None:
    try:
        posix.chdir(cwd)
    except (FileNotFoundError, NotADirectoryError) as err:
        raise Refused("missing", f"no directory {cwd} to run in", "create it", err.errno or 0) from None
    except PermissionError as err:
        raise Refused("permission", f"not permitted to enter {cwd}", "choose another", err.errno or 0) from None


def _find(command: str, path: str) -> str:
    """Return the file to execute, looked up in the command's own PATH, as execvp(3) does."""
    refused = ""
    for directory in [""] if "/" in command else (path or "/usr/local/bin:/usr/bin:/bin").split(":"):
        candidate = f"{directory}/{command}" if directory else command
        try:
            if posix.stat(candidate).st_mode & 0o170000 == 0o040000:
                refused = refused or f"{candidate} is a directory"
            elif posix.access(candidate, posix.X_OK, effective_ids=True):
                return candidate
            else:
                refused = refused or f"{candidate} is not executable"
        except PermissionError:  # of a directory in PATH it means only: not here
            refused = refused or (f"{candidate} can't be reached" if not directory else "")
        except OSError:
            continue
    if refused:
        raise Refused("command", refused, "", EACCES)
    where = "" if "/" in command else f" in {path or 'the default path'}"
    raise Refused("command", f"command {command!r} not found{where}", "", ENOENT)


def _become(path: str, spec: dict[str, Any]) -> None:
    try:
        posix.execve(path, list(spec["argv"]), dict(spec["environment"]))
    except OSError as err:
        reason = CANT_RUN.get(err.errno or 0, err.strerror)
        raise Refused("command", f"cannot run {path}: {reason}", "", err.errno or 0) from None
