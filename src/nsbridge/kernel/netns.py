"""Network namespaces by path: make, remove, and work inside one, without a fork.

A namespace belongs to a thread. Work inside one is done by a thread of ours that enters it, does the work and
goes home (`visitor`); if it can't, it ends. The caller's thread is never moved. A named namespace is a bind mount of
``/proc/thread-self/ns/net``, as ip-netns(8) makes them, so `ip netns exec` finds ours and we find its.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import os
from _struct import pack

from nsbridge.kernel import libc
from nsbridge.kernel.netlink import ROUTE, NetlinkSocket, as_text, attributes, message, text
from nsbridge.kernel.visitor import alone, visit
from nsbridge.model.names import NETNS_ALIAS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeVar

    T = TypeVar("T")

DIRECTORY = "/run/netns"
"""Where named namespaces live: ip-netns(8) and everybody after it."""

_OWN = "/proc/thread-self/ns/net"
_SO_NETNS_COOKIE = 71  # <asm-generic/socket.h>, Linux 5.14
_RTM_NEWLINK, _RTM_GETLINK, _LOOPBACK, _IFF_UP, _IFLA_IFALIAS = 16, 18, 1, 1, 20
MARK = NETNS_ALIAS
"""The alias of the loopback of a namespace that `create` made."""


def in_thread(function: Callable[[], T]) -> T:
    """Run a function in a thread of its own, for what no thread comes back from; give back its result or exception."""
    return _result(alone, function)


def _result(run: Callable[[Callable[[], None]], None], function: Callable[[], T]) -> T:
    result: list[Any] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            result.append(function())
        except BaseException as err:
            failure.append(err)

    run(work)
    if failure:
        raise failure[0]
    value: T = result[0]
    return value


def inside_fd(fd: int, function: Callable[[], T], *, anew: bool = False) -> T:
    """Run a function in a thread that has entered the namespace behind `fd`; give back its result or exception."""

    def enter() -> T:
        libc.setns(fd)
        return function()

    return _result(alone if anew else visit, enter)


def inside(path: str, function: Callable[[], T], *, anew: bool = False) -> T:
    """Run a function inside the namespace that `path` opens; the empty path is the caller's own.

    anew: in a new thread, which hears the signals that the caller does, as what the function starts will.
    OSError when the path opens none (ENOENT, EINVAL) or may not be entered (EPERM).
    """
    if not path:
        return function()
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return inside_fd(fd, function, anew=anew)
    finally:
        os.close(fd)


def tour(visits: Sequence[tuple[str, Callable[[int], T]]]) -> list[T | OSError]:
    """Run each function inside its namespace (path), all in one thread that goes on from one to the next.

    A function is given a file descriptor of its namespace, open while it runs. Where a namespace can't be entered
    its OSError stands instead of a result, and the function isn't run.
    """

    def go() -> list[T | OSError]:
        results: list[T | OSError] = []
        for path, function in visits:
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as err:
                results.append(err)
                continue
            try:
                results.append(_entered(fd) or function(fd))
            finally:
                os.close(fd)
        return results

    return _result(visit, go)


def _entered(fd: int) -> OSError | None:
    try:
        libc.setns(fd)
    except OSError as err:
        return err
    return None


def _share_directory() -> None:
    """Make /run/netns a shared mount of its own, as `ip netns add` does.

    Left undone, the next `ip netns add` would do it over our mounts: each would then be there twice, and
    the lower one keeps its namespace alive and its file busy after we unmounted the upper one.
    """
    try:
        libc.mount("", DIRECTORY, libc.MS_SHARED | libc.MS_REC)
        return
    except OSError:  # EINVAL: not a mount yet
        pass
    lock = os.open(DIRECTORY, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            libc.mount("", DIRECTORY, libc.MS_SHARED | libc.MS_REC)
        except OSError:
            libc.mount(DIRECTORY, DIRECTORY, libc.MS_BIND | libc.MS_REC)
            libc.mount("", DIRECTORY, libc.MS_SHARED | libc.MS_REC)
    finally:
        os.close(lock)


def create(path: str) -> None:
    """Make a network namespace with its loopback up and name it `path`.

    FileExistsError when the path is there already, other OSErrors as the kernel gives them; nothing is left then.
    """
    directory = os.path.dirname(path)
    os.makedirs(directory, 0o755, exist_ok=True)
    if directory == DIRECTORY:
        _share_directory()
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))

    def make() -> None:
        libc.unshare()
        header = pack("=BBHiII", 0, 0, 0, _LOOPBACK, _IFF_UP, _IFF_UP)
        with NetlinkSocket(ROUTE) as sock:
            # Marked before it has a name, so a namespace with our name for it but without the mark is another's.
            sock.transact([message(_RTM_NEWLINK, 0, header + text(_IFLA_IFALIAS, MARK))])
        libc.mount(_OWN, path, libc.MS_BIND)

    try:
        _result(visit, make)
    except BaseException:
        os.unlink(path)
        raise


def ours(path: str) -> bool:
    """Tell whether the path opens a namespace that `create` made: the alias of its loopback says so."""
    if not inode(path):
        return False

    def look() -> bool:
        with NetlinkSocket(ROUTE) as sock:
            return marked(sock)

    return inside(path, look)


def marked(sock: NetlinkSocket) -> bool:
    """Tell whether the namespace of a socket bears our mark."""
    reply = sock.request(message(_RTM_GETLINK, 0, pack("=BBHiII", 0, 0, 0, _LOOPBACK, 0, 0)))
    return as_text(attributes(reply[0][1], 16).get(_IFLA_IFALIAS, b"")) == MARK


def remove(path: str) -> None:
    """Take the name away, mounted or not; the namespace goes with its last process.

    What is already gone is no error, and a namespace that somebody else mounted there stays.
    """
    if inode(path) and not ours(path):
        return
    for _ in range(8):  # mounted once, by us; more only if somebody stacked mounts on the name
        try:
            libc.umount(path)
        except OSError as err:
            if err.errno not in (errno.EINVAL, errno.ENOENT):
                raise
            break
    try:  # noqa: SIM105 (contextlib is too dear to import)
        os.unlink(path)
    except FileNotFoundError:
        pass


_nsfs = 0
"""The device number of the file system that all namespaces are files of; one for each boot (fs/nsfs.c)."""


def inode(path: str) -> int:
    """The number of the namespace that `path` opens (of the caller's own for ""), 0 when it opens none."""
    global _nsfs
    try:
        if not _nsfs:
            _nsfs = os.stat(_OWN).st_dev
        found = os.stat(path or _OWN)
    except OSError:
        return 0
    return found.st_ino if found.st_dev == _nsfs else 0


def host_id() -> str:
    """Name the namespace of the calling thread: ``host`` if it is that of process 1, else ``ns-`` and its cookie.

    The cookie is never used twice until the next boot, an inode is (SO_NETNS_COOKIE; before Linux 5.14 it is
    the inode after all).
    """
    own = os.stat(_OWN)
    try:
        first = os.stat("/proc/1/ns/net")
        if (first.st_dev, first.st_ino) == (own.st_dev, own.st_ino):
            return "host"
    except OSError:  # no permission to look at process 1: so we aren't the machine's root
        pass
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        cookie = sock.getsockopt(_socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
        return f"ns-{int.from_bytes(cookie, 'little')}"
    except OSError:
        return f"ns-{own.st_ino}"
    finally:
        sock.close()
