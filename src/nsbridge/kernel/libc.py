"""System calls that Python 3.11 has no function for: setns, unshare, mount, umount2, and getsockopt with a question.

They are called through libc by `_ctypes`, the C half of ctypes: importing the whole package costs 4 to 6 ms,
binding them by hand nothing to speak of. From Python 3.12 on `os` has the first two, and libc is
bound only when something is mounted.
"""

from __future__ import annotations

import os
import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

CLONE_NEWNET, CLONE_NEWNS, CLONE_FS = 0x40000000, 0x20000, 0x200
MS_BIND, MS_REC, MS_SHARED = 0x1000, 0x4000, 0x100000
MNT_DETACH = 2

_bound: dict[str, Callable[..., int]] = {}


def _bind_by_hand() -> Callable[[str, str], Any]:
    """Return a binder for libc that needs only `_ctypes`. Argument types by letter: i int, L unsigned long, z bytes."""
    import _ctypes

    types: dict[str, Any] = {
        letter: type(f"C_{letter}", (_ctypes._SimpleCData,), {"_type_": letter}) for letter in "iLz"
    }

    class Function(_ctypes.CFuncPtr):
        _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
        _restype_ = types["i"]

    handle = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]

    def bind(name: str, letters: str) -> Any:
        function = Function(_ctypes.dlsym(handle, name))
        function.argtypes = tuple([types[letter] for letter in letters])
        return function, _ctypes.get_errno

    return bind


def _bind_by_package() -> Callable[[str, str], Any]:
    import ctypes

    types: dict[str, Any] = {"i": ctypes.c_int, "L": ctypes.c_ulong, "z": ctypes.c_char_p}
    library = ctypes.CDLL(None, use_errno=True)

    def bind(name: str, letters: str) -> Any:
        function = library[name]
        function.argtypes = tuple([types[letter] for letter in letters])
        return function, ctypes.get_errno

    return bind


def _call(name: str, letters: str, *arguments: Any) -> None:
    """Call a libc function that returns 0 or sets errno; OSError then."""
    if name not in _bound:
        try:
            pair = _bind_by_hand()(name, letters)
        except (ImportError, AttributeError, TypeError, OSError):  # _ctypes is private and may change
            pair = _bind_by_package()(name, letters)
        _bound[name], _bound["errno"] = pair
    if _bound[name](*arguments) != 0:
        code = _bound["errno"]()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def setns(fd: int, kind: int = CLONE_NEWNET) -> None:
    """Move the calling thread into the namespace behind `fd` (manual page setns, section 2)."""
    if hasattr(posix, "setns"):
        posix.setns(fd, kind)
    else:
        _call("setns", "ii", fd, kind)


def unshare(kind: int = CLONE_NEWNET) -> None:
    """Give the calling thread a new namespace (manual page unshare, section 2)."""
    if hasattr(posix, "unshare"):
        posix.unshare(kind)
    else:
        _call("unshare", "i", kind)


def mount(source: str, target: str, flags: int) -> None:
    """Bind-mount, or change the propagation of a mount; no file system of its own (manual page mount, section 2)."""
    _call("mount", "zzzLz", os.fsencode(source), os.fsencode(target), b"none", flags, None)


def umount(target: str, flags: int = MNT_DETACH) -> None:
    """Unmount; by default at once for everybody who looks, and in fact when the last user lets go."""
    _call("umount2", "zi", os.fsencode(target), flags)


def getsockopt(fd: int, level: int, option: int, asked: bytes, size: int) -> bytes:
    """Ask a socket for an option whose buffer carries the question too, which `socket.getsockopt` can't.

    asked: what the buffer begins with; size: bytes of the answer (manual page getsockopt, section 2).
    """
    from array import array

    held = array("B", asked.ljust(size, b"\0"))
    length = array("I", [size])
    _call("getsockopt", "iiiLL", fd, level, option, held.buffer_info()[0], length.buffer_info()[0])
    return held.tobytes()[: length[0]]
