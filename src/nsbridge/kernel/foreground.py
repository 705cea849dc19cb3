"""A command in the foreground: the caller's terminal, its signals and its exit status are the command's.

The command stays in the caller's process group, so the terminal's own signals (Ctrl-C, Ctrl-Z, a changed window)
reach it without us. Ours is to outlive them, and to pass on what was sent to us alone, `kill PID` say. Signals are
not caught but blocked and then read one by one (sigwaitinfo(2)), since only so the kernel tells who sent them.
"""

from __future__ import annotations

import os

from nsbridge.errors import KernelError
from nsbridge.kernel.process import ProcessSpec, Running, begin, unrecorded

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable, Collection
else:
    import _signal  # without the enums of ``signal``, which cost 8 ms

FORWARDED = frozenset(
    {_signal.SIGTERM, _signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGUSR1, _signal.SIGUSR2}
    | {_signal.SIGWINCH, _signal.SIGCONT}
)
JOB_CONTROL = frozenset({_signal.SIGTSTP, _signal.SIGTTIN, _signal.SIGTTOU})
SI_KERNEL = 0x80
"""si_code of a signal that the kernel, here the terminal, sent (sigaction(2))."""


def run_foreground(spec: ProcessSpec, record: Callable[[Running], None] = unrecorded) -> int:
    """Run a command in the caller's process group and terminal; return its exit status, 128+n for signal n.

    Until it ends, signals that only we get are passed on to it. Those of the terminal reach it through the
    process group; we just outlive them. When it stops (Ctrl-Z), so do we. For the main thread of a process whose
    other threads block signals. Raises what `start` raises.
    """
    watched = FORWARDED | JOB_CONTROL | {_signal.SIGCHLD}
    if _signal.getsignal(_signal.SIGCHLD) == _signal.SIG_IGN:
        _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    before = _signal.pthread_sigmask(_signal.SIG_BLOCK, watched)
    try:
        try:
            running = begin(spec, record, before)
        except KernelError as err:
            if type(err.thing) is int and err.thing < 0:  # Ctrl-C while it was being prepared
                return 128 - err.thing
            raise
        return attend(running.pid, watched)
    finally:
        while _signal.sigtimedwait(watched, 0) is not None:  # what killed the command isn't for us any more
            pass
        _signal.pthread_sigmask(_signal.SIG_SETMASK, before)


def attend(pid: int, watched: Collection[int]) -> int:
    """Pass on signals to a child, and stop with it, until it ends; return its status as `wait` does.

    watched: SIGCHLD and what to pass on, all of them blocked by the caller.
    """
    stop_too = _signal.SIGTSTP in watched
    while True:
        options = os.WEXITED | os.WNOHANG | (os.WSTOPPED if stop_too else 0)
        event = os.waitid(os.P_PID, pid, options)
        if event is not None and event.si_code == os.CLD_EXITED:
            return event.si_status
        if event is not None and event.si_code in (os.CLD_KILLED, os.CLD_DUMPED):
            return 128 + event.si_status
        if event is not None and event.si_code == os.CLD_STOPPED:
            os.kill(os.getpid(), _signal.SIGSTOP)
            os.kill(pid, _signal.SIGCONT)
            continue
        info = _signal.sigwaitinfo(watched)
        from_terminal = info.si_code == SI_KERNEL and os.getpgid(pid) == os.getpgrp()
        if info.si_signo != _signal.SIGCHLD and not from_terminal:
            os.kill(pid, info.si_signo)  # not reaped yet, so the number is still the child's
