"""One operation in flight, remembered so that a crash at any point leaves nothing half done.

Each operation has a file of its own under ``journal/``, locked with flock(2) by the process that does it; the
kernel gives the lock up when that process dies, however it dies. Before a step is begun it is appended, in one
line, so what is torn was never begun. The next command that finds an unlocked file knows what was begun, and

- walks it back, last step first, if the operation was building (``back``), or
- does all of it again, if it was removing (``on``): every removal may be repeated.

recovery.py does that, and entries.py says how for each kind of entry.
"""

from __future__ import annotations

import fcntl
import os
import time
from _thread import get_ident

from nsbridge import codec
from nsbridge.engine.entries import Began, Header, Leased, Led, Shown, Started, Turned, Wrote, go_on, walk_back
from nsbridge.errors import KernelError, NsbridgeError
from nsbridge.store import files, hosts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from nsbridge.engine.entries import Entry, Mode
    from nsbridge.kernel.interface import Kernel
    from nsbridge.model.endpoint import Proto
    from nsbridge.plan.step import Step
    from nsbridge.state.things import Address_
    from nsbridge.store.store import Store


class Operation:
    """An operation as a context manager: leaving it in peace ends it, an exception walks it back.

    What can't be walked back, or was to be done and isn't, stays in the journal for the next command.
    """

    def __init__(self, kernel: Kernel, store: Store, what: str, mode: Mode = "back") -> None:
        self.kernel = kernel
        self.store = store
        self.header = Header(what, mode, os.getpid())
        self.entries: list[Entry] = []
        self.path = ""
        self._fd = -1
        self._owes = False
        self._made: set[str] = set()

    def __enter__(self) -> Operation:
        # Names sort by age: what was begun later is undone first. One boot, so the clock doesn't go back.
        self.path = f"{self.store.root}/journal/{time.monotonic_ns():016x}-{os.getpid()}-{get_ident()}"
        draft = files.draft_name(self.path)
        self._fd = files.open_for_new(draft, os.O_WRONLY | os.O_APPEND)
        # Locked before it has its name, so nobody's recovery takes it for a dead one's.
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        files.write(self._fd, codec.dumps(self.header) + "\n")
        os.rename(draft, self.path)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            if error is not None and self.header.mode == "back":
                self._walk_back(error)
            if not self._owes:
                files.remove(self.path)
        finally:
            os.close(self._fd)  # where the file stays, the next command finds it unlocked and finishes it

    def _walk_back(self, error: BaseException) -> None:
        try:
            walk_back(self.kernel, self.store, self.entries)
        except (NsbridgeError, OSError) as trouble:
            self._owes = True
            if isinstance(error, NsbridgeError):
                error.message += f" (not all could be undone, the next command tries again: {trouble})"

    def _append(self, *entries: Entry) -> None:
        files.write(self._fd, codec.dumps(entries) + "\n")
        self.entries += entries

    # building

    def step(self, step: Step) -> None:
        """Begin a step and do it. When the kernel refuses, only what it had done is walked back."""
        self._append(Began(step))
        try:
            self.kernel.do(step)
        except KernelError as err:
            self.entries[-1] = Began(step.replace(things=tuple(err.done)) if step.verb == "add" else step)
            raise

    def create(self, path: str, text: str) -> bool:
        """Make a file that must not exist; False if it does, and then nothing was begun."""
        if os.path.exists(f"{self.store.root}/{path}"):
            return False
        self._append(Wrote(path))
        if files.create(f"{self.store.root}/{path}", text):
            self._made.add(path)
            return True
        self.entries.pop()
        return False

    def leasing(self, network: str, address: Address_, name: str) -> None:
        """Note an address that is about to be claimed."""
        self._append(Leased(network, address, name))

    def replace(self, path: str, text: str) -> None:
        """Give a file a new text."""
        if path not in self._made:  # what this operation made goes as a whole, whatever it says by then
            self._append(Wrote(path, files.read(f"{self.store.root}/{path}")))
        files.replace(f"{self.store.root}/{path}", text)

    def turning(self, proto: Proto, port: int, network: str, endpoint: str) -> None:
        """Note an endpoint that is about to join a shared port."""
        self._append(Turned(proto, port, network, endpoint))

    def leading(self, name: str, netns: str) -> None:
        """Note that the default route of a namespace is about to move to another of its endpoints of this name."""
        self._append(Led(name, netns))

    def folder(self, path: str) -> None:
        """Make a folder unless there is one."""
        if not files.is_folder(f"{self.store.root}/{path}"):
            self._append(Wrote(path))
            os.makedirs(f"{self.store.root}/{path}", files.DIRECTORY_MODE)

    def show(self, network: str, text: str) -> None:
        """Add lines to the /etc/hosts files of a network. The caller holds the shared `hosts.lock`."""
        self._append(Shown(network, text))
        hosts.add(self.store.root, network, text)

    def starting(self, service: str) -> None:
        """Note that a service's process is about to be."""
        self._append(Started(service))

    # removing

    def finish(self, entries: Iterable[Entry]) -> None:
        """Write down everything that has to go, then do it; a crash in between is finished by the next command."""
        entries = tuple(entries)
        self.owe(*entries)
        go_on(self.kernel, self.store, entries)
        self.paid()

    def owe(self, *entries: Entry) -> None:
        """Write down what has to be done in any case: by the caller, who says `paid` then, or by the next command."""
        self._append(*entries)
        self._owes = True

    def paid(self) -> None:
        """Say that what was owed is done."""
        self._owes = False
