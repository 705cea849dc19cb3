"""From an exception to words on stderr and an exit status."""

from __future__ import annotations

import errno
import os
import sys

from nsbridge.errors import KernelError, NoPermission, NsbridgeError
from nsbridge.frontends.cli.output import DIM, RED, paint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""

BROKEN_PIPE = 141
"""128 + SIGPIPE: whoever read our output has seen enough."""


class Ended(BaseException):
    """A signal that asks us to end. Not an `Exception`, so only what walks back an operation sees it pass."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Failed(NsbridgeError):
    """Something that was told already, line by line; only the exit status is left."""

    def __init__(self, code: int) -> None:
        super().__init__("")
        self.code = code


def lacking(detail: str) -> NoPermission:
    """Return the error about rights that are missing."""
    if os.geteuid() == 0:
        return NoPermission(
            f"this root lacks CAP_NET_ADMIN or CAP_SYS_ADMIN here ({detail})",
            fix="give them to the container you are in, or try `nsbridge demo`, which needs no rights",
        )
    return NoPermission(
        f"changing networks needs root, that is CAP_NET_ADMIN and CAP_SYS_ADMIN ({detail})",
        fix="run it with sudo, or try `nsbridge demo`, which needs no rights",
    )


def translated(err: BaseException) -> NsbridgeError | None:
    """Return an exception as an error of ours, None for one that nobody foresaw."""
    if isinstance(err, KernelError) and err.errno in (errno.EPERM, errno.EACCES):
        return lacking(err.message)
    if isinstance(err, NsbridgeError):
        return err
    if isinstance(err, OSError) and err.errno in (errno.EPERM, errno.EACCES):
        return lacking(f"{err.strerror}: {err.filename}" if err.filename else str(err.strerror))
    if isinstance(err, OSError) and err.strerror:
        name = f"{err.filename}: " if err.filename else ""
        return NsbridgeError(f"{name}{err.strerror}", fix=_fix(err.errno))
    return None


def _fix(number: int | None) -> str:
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "make room there, then try again: nothing was left half done"
    if number in (errno.EMFILE, errno.ENFILE):
        return "raise the limit of open files (ulimit -n)"
    return ""


def tell(err: NsbridgeError) -> None:
    """Write an error: what happened, and what to do next."""
    lines = err.message.split("\n")
    out = [paint(sys.stderr, RED, "nsbridge:") + " " + lines[0], *(f"  {one}" for one in lines[1:])]
    if err.fix:
        out.append("  " + paint(sys.stderr, DIM, "fix:") + f" {err.fix}")
    sys.stderr.write("\n".join(out) + "\n")


def report(err: BaseException, *, debug: bool = False) -> int:
    """Write what an exception says to stderr; return the exit status."""
    if debug and not isinstance(err, Failed | BrokenPipeError):
        import traceback

        traceback.print_exception(err)
    if isinstance(err, Failed):
        return err.code
    if isinstance(err, BrokenPipeError):
        return BROKEN_PIPE
    if isinstance(err, KeyboardInterrupt):
        sys.stderr.write("nsbridge: interrupted\n")
        return INTERRUPTED
    if isinstance(err, Ended):
        sys.stderr.write(f"nsbridge: ended by signal {err.number}\n")
        return 128 + err.number
    known = translated(err)
    if known is None:
        known = NsbridgeError(
            f"unexpected {type(err).__name__}: {err} ({_place(err)})",
            fix="this is a bug: please report it with what `nsbridge --debug …` and `nsbridge version` print",
        )
    tell(known)
    return known.exit_code


def _place(err: BaseException) -> str:
    """Return module and line where an exception was raised."""
    trace = err.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "nowhere"
    return f"{trace.tb_frame.f_globals.get('__name__', '?')}:{trace.tb_lineno}"


def each(names: Iterable[str], do: Callable[[str], object], *, finally_: Callable[[], object] | None = None) -> None:
    """Do something to each of several things; what goes wrong with one is told, and the others are done all the same.

    finally_: called before the first failure's exit status is raised.
    """
    code = 0
    for name in names:
        try:
            do(name)
        except (NsbridgeError, OSError) as err:
            known = translated(err)
            if known is None or isinstance(err, BrokenPipeError):
                raise
            sys.stdout.flush()
            tell(known)
            code = code or known.exit_code
    if finally_ is not None:
        finally_()
    if code:
        raise Failed(code)
