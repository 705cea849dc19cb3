"""The few ways in which nsbridge writes a file; every other module goes through here.

A new file is linked to its name, which fails if the name is taken, so of two that want one name one wins; an old
one is replaced by rename. Either way a reader sees a whole text and never half of one. What is still being drafted
is a hidden file with the writer's pid, looked at by nobody, and swept away (`sweep`) when its writer was killed.
"""

from __future__ import annotations

import fcntl
import os
from _thread import get_ident
from errno import ENOTEMPTY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

DIRECTORY_MODE = 0o755
FILE_MODE = 0o644
DRAFT = ".new"

SMALL, LARGE = 1 << 14, 1 << 20
"""Bytes asked for at first, and of a file that has more: a buffer of a megabyte is mapped and given back each time."""


def read(path: str) -> str | None:
    """Return the text of a file, None without one."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        text = part = os.read(fd, SMALL)
        while part and len(text) >= SMALL:  # of a file, less than was asked for is its end (read(2))
            part = os.read(fd, LARGE)
            text += part
    finally:
        os.close(fd)
    return text.decode(errors="replace")


def open_for_new(path: str, flags: int) -> int:
    """Open a file that may have to be made, and the folders above it with it."""
    flags |= os.O_CREAT | os.O_CLOEXEC
    try:
        return os.open(path, flags, FILE_MODE)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), DIRECTORY_MODE, exist_ok=True)
        return os.open(path, flags, FILE_MODE)


def write(fd: int, text: str) -> None:
    """Write all of a text; a full disk takes only part of it at first, and says so (OSError) at the second try."""
    data = text.encode()
    while data:
        data = data[os.write(fd, data) :]


def draft_name(path: str) -> str:
    """Return where a file is drafted: beside its place, hidden, under a name of this thread's own."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}.{os.getpid()}.{get_ident()}{DRAFT}"


def _draft(path: str, text: str) -> str:
    draft = draft_name(path)
    fd = open_for_new(draft, os.O_WRONLY | os.O_TRUNC)
    try:
        write(fd, text)
    except OSError:
        os.unlink(draft)
        raise
    finally:
        os.close(fd)
    return draft


def sweep(root: str) -> None:
    """Remove what dead processes were drafting anywhere below a folder."""
    if os.path.isdir(root) and not os.listdir(root):
        return  # the journal's, nearly always, when a command begins
    for at, _, names_there in os.walk(root):
        for name in names_there:
            if name[0] == "." and name.endswith(DRAFT) and not os.path.exists(f"/proc/{name.split('.')[-3]}"):
                remove(f"{at}/{name}")


def create(path: str, text: str) -> bool:
    """Make a file that must not exist yet; False if it does. Folders above it are made.

    The text is written first and the name linked to it then, so nobody ever sees the file empty or half written.
    """
    draft = _draft(path, text)
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        os.unlink(draft)
    return True


def replace(path: str, text: str) -> None:
    """Give a file this text, whole or not at all."""
    os.rename(_draft(path, text), path)


def rewrite(path: str, text: str) -> None:
    """Give a file a new text in place, for those who hold its inode by a bind mount; not atomic for readers."""
    fd = open_for_new(path, os.O_WRONLY | os.O_TRUNC)
    try:
        write(fd, text)
    finally:
        os.close(fd)


def append(path: str, text: str) -> None:
    """Add text to the end of a file in one write."""
    fd = open_for_new(path, os.O_WRONLY | os.O_APPEND)
    try:
        write(fd, text)
    finally:
        os.close(fd)


def remove(path: str) -> bool:
    """Remove a file; False if there was none."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def names(path: str, suffix: str = "") -> list[str]:
    """List a folder's files with that suffix, sorted, the suffix left out; none without the folder."""
    try:
        found = os.listdir(path)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(name[: len(name) - len(suffix)] for name in found if name.endswith(suffix) and name[0] != ".")


def holds(path: str, suffix: str) -> bool:
    """Tell whether a folder has a file with that suffix, without looking at all of them."""
    try:
        with os.scandir(path) as there:
            return any(one.name.endswith(suffix) and one.name[0] != "." for one in there)
    except (FileNotFoundError, NotADirectoryError):
        return False


def is_folder(path: str) -> bool:
    """Tell whether there is a folder of that name."""
    return os.path.isdir(path)


def remove_tree(path: str) -> None:
    """Remove a folder and all in it; nothing to do without one."""
    while os.path.isdir(path):
        for name in os.listdir(path):
            inner = f"{path}/{name}"
            if os.path.isdir(inner) and not os.path.islink(inner):
                remove_tree(inner)
            else:
                remove(inner)
        try:
            os.rmdir(path)
        except FileNotFoundError:
            return
        except OSError as err:  # somebody put another file into it meanwhile
            if err.errno != ENOTEMPTY:
                raise


class Lock:
    """An flock(2) on a file, held while the ``with`` block runs, and given up by the kernel if we are killed.

    shared: many may hold it at once. wait: False makes `held` tell whether it was free.
    """

    def __init__(self, path: str, *, shared: bool = False, wait: bool = True) -> None:
        self.path = path
        self.held = False
        self._how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
        self._fd = -1

    def __enter__(self) -> Lock:
        self._fd = open_for_new(self.path, os.O_RDWR)
        try:
            fcntl.flock(self._fd, self._how)
            self.held = True
        except BlockingIOError:
            self.held = False
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        os.close(self._fd)


class NameLock:
    """A lock on one name among all: a one-byte open file description lock at the name's hash. fcntl(2).

    It needs no file a name, so ten thousand names leave nothing to clean up; two names with one hash only wait
    for one another.
    """

    def __init__(self, path: str, name: str) -> None:
        self.path = path
        self._name = name
        self._fd = -1

    def __enter__(self) -> NameLock:
        from _blake2 import blake2s
        from _struct import pack

        at = int.from_bytes(blake2s(self._name.encode(), digest_size=4).digest(), "little")
        self._fd = open_for_new(self.path, os.O_RDWR)
        fcntl.fcntl(self._fd, fcntl.F_OFD_SETLKW, pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, at, 1, 0))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        os.close(self._fd)
