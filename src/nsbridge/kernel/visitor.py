"""A thread that works in other namespaces and comes home after each visit, kept while there is work.

Making a thread for each visit costs 22 to 120 us, most of it waiting for a processor; waking one that waits costs 3 to
15. It stays for `IDLE_S` after its last visit: a program that attaches now and then has no thread of ours in between,
so it can fork in peace (Python warns of forks beside threads from 3.12 on).

Nobody's own thread is ever moved. One of ours that can't go home ends.

It hears no signals: one that it took would be lost to a thread of the process that waits for it (sigwaitinfo(2)), as
`foreground` does for the end of a command. What it starts is as deaf, so strangers' functions get a thread anew.
"""

from __future__ import annotations

import os
from _thread import allocate_lock, start_new_thread

from nsbridge.kernel import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable
else:
    import _signal  # without the enums of ``signal``

IDLE_S = 0.25
"""Seconds for which the thread waits for more to do."""

HOME = "/proc/thread-self/ns/net"


def _nothing() -> None:
    """Stand for work that was done, so that what it held can go."""


class Visitor:
    """One thread; `free` is held by whoever gives it work, and for good once it has ended."""

    def __init__(self) -> None:
        self.pid = os.getpid()  # threads don't survive a fork
        self.over = False
        self.free = allocate_lock()
        self.free.acquire()
        self._wake = allocate_lock()
        self._wake.acquire()
        self._work: Callable[[], None] = _nothing
        self._ended = allocate_lock()
        # By the caller, in whose namespace the thread begins: who has no descriptor left hears of it.
        self._home = os.open(HOME, os.O_RDONLY | os.O_CLOEXEC)
        start_new_thread(self._live, ())

    def run(self, work: Callable[[], None]) -> None:
        """Have it do some work, and wait for it. The caller holds `free`, and doesn't any more afterwards."""
        ended = allocate_lock()
        ended.acquire()
        self._work, self._ended = work, ended
        self._wake.release()
        ended.acquire()

    def _live(self) -> None:
        _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
        while True:
            if not self._wake.acquire(timeout=IDLE_S):
                if self.free.acquire(blocking=False):
                    break  # nobody will come any more
                continue  # somebody is about to
            work, ended, self._work = self._work, self._ended, _nothing
            try:
                work()
                libc.setns(self._home)
            except OSError:  # not at home: `free` stays held, so nobody comes here again
                break
            else:
                self.free.release()
            finally:
                ended.release()
        self.over = True
        os.close(self._home)


def alone(work: Callable[[], None]) -> None:
    """Run a function, which raises nothing, in a thread that ends with it; return then."""
    ended = allocate_lock()
    ended.acquire()

    def live() -> None:
        try:
            work()
        finally:
            ended.release()

    start_new_thread(live, ())
    ended.acquire()


_visitor: Visitor | None = None


def visit(work: Callable[[], None]) -> None:
    """Run a function, which raises nothing, in a thread that may enter network namespaces; return when it has ended.

    It may come to no other kind of namespace, for only from these the thread goes home.
    """
    global _visitor
    known = _visitor
    if known is None or known.over or known.pid != os.getpid():
        known = _visitor = Visitor()
    elif not known.free.acquire(blocking=False):
        alone(work)  # others are at work, or this is a visit from within a visit, which mustn't be a new one's home
        return
    known.run(work)
