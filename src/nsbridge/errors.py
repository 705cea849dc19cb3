"""Every error nsbridge raises on purpose: what happened, where, and what to do next.

Front ends report the same trouble in their own protocol, so an error carries the exit status of a command
and the code of a CNI result (CNI spec 1.1.0, "Error") beside its text.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar


class NsbridgeError(Exception):
    """Base of all; `fix` is the next thing to do, in the imperative, or empty when there is none."""

    exit_code: ClassVar[int] = 1
    cni_code: ClassVar[int] = 999

    def __init__(self, message: str, *, fix: str = "", **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix
        self.details = details

    def __str__(self) -> str:
        """Give the message, and the fix on the same line."""
        return f"{self.message}. {self.fix[:1].upper()}{self.fix[1:]}" if self.fix else self.message


class InvalidIntent(NsbridgeError):
    """What was asked for can't be: a port of 70000, a gateway outside its subnet."""

    exit_code = 2
    cni_code = 7


class InvalidFile(InvalidIntent):
    """A topology file has faults; `faults` lists them all, each with line and column."""

    def __init__(self, message: str, *, faults: tuple[Any, ...] = (), fix: str = "") -> None:
        super().__init__(message, fix=fix)
        self.faults = faults


class NotFound(NsbridgeError):
    """No network, endpoint, service or namespace of that name."""

    exit_code = 4
    cni_code = 3


class Taken(NsbridgeError):
    """A name, an address or a link name already belongs to something else."""

    exit_code = 5
    cni_code = 7


class PortTaken(Taken):
    """A host port already goes elsewhere."""


class InUse(NsbridgeError):
    """A network still has endpoints."""

    exit_code = 6


class Exhausted(NsbridgeError):
    """No free address in a subnet, no free subnet in the pools, no free host port."""

    exit_code = 7
    cni_code = 11


class Unsupported(NsbridgeError):
    """Neither this kernel nor this version of nsbridge can do it."""

    exit_code = 3
    cni_code = 2


class KernelError(NsbridgeError):
    """The kernel said no. `errno` is its reason, `thing` what was refused, `done` what it had taken before."""

    exit_code = 8
    cni_code = 5

    def __init__(
        self, message: str, *, errno: int = 0, thing: Any = None, done: tuple[Any, ...] = (), fix: str = ""
    ) -> None:
        super().__init__(message, fix=fix)
        self.errno = errno
        self.thing = thing
        self.done = done


class NoPermission(KernelError):
    """The process lacks CAP_NET_ADMIN or CAP_SYS_ADMIN here."""

    exit_code = 77


def unpermitted(what: str) -> NoPermission:
    """Return the error about rules that this process may not read or change: EPERM, as the kernel has it."""
    return NoPermission(what, fix="run it as root, or with CAP_NET_ADMIN in this namespace", errno=1)
