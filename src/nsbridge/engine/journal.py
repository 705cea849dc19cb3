"""One operation in flight, remembered so that a crash at any point leaves nothing half done.

Each operation has a file of its own under ``journal/``, locked with flock(2) by the process that does it; the
kernel gives the lock up when that process dies, however it dies. Before a step is begun it is appended. The
next command that finds an unlocked file knows what was begun, and

- walks it back, last step first, if the operation was building (``back``), or
- does all of it again, if it was removing (``on``): every removal may be repeated.

A step that was begun may be undone only as far as its things are ours: `Kernel.find` tells, so that what
somebody else made by the same name is left alone.
"""

from __future__ import annotations

import fcntl
import os
import time

from nsbridge import codec
from nsbridge.errors import KernelError
from nsbridge.plan.diff import removing
from nsbridge.plan.step import Step
from nsbridge.state.things import Netns
from nsbridge.store import files, hosts, leases
from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType
    from typing import Literal, TypeAlias

    from nsbridge.kernel.interface import Kernel
    from nsbridge.model.endpoint import Proto
    from nsbridge.state.things import Address_, Thing
    from nsbridge.store.store import Store

    Mode: TypeAlias = Literal["back", "on"]


class Header(Value):
    """What is being done, and what a crash makes of it."""

    what: str
    mode: Mode
    pid: int


class Began(Value):
    """A step of the kernel's."""

    step: Step


class Wrote(Value):
    """A file, from the store's root, and its text before: None when there was none."""

    path: str
    before: str | None = None


class Put(Value):
    """A file, from the store's root, and its text after: None when it goes."""

    path: str
    text: str | None = None


class Leased(Value):
    """An address that may be claimed for an endpoint; it is given back only if that endpoint holds it."""

    network: str
    address: Address_
    name: str


class Shown(Value):
    """Lines that came into the /etc/hosts files of a network."""

    network: str
    text: str


class Hidden(Value):
    """Lines that go from them."""

    network: str
    text: str


class Started(Value):
    """A service whose process may run."""

    service: str


class Dropped(Value):
    """A network whose folders go."""

    network: str


class Turned(Value):
    """An endpoint that may take its turns on a shared port; undone or finished, it doesn't any more."""

    proto: Proto
    port: int
    network: str
    endpoint: str


if TYPE_CHECKING:
    Entry: TypeAlias = Began | Wrote | Put | Leased | Shown | Hidden | Started | Dropped | Turned


class Operation:
    """An operation as a context manager: leaving it in peace ends it, an exception walks it back (or on)."""

    def __init__(self, kernel: Kernel, store: Store, what: str, mode: Mode = "back") -> None:
        self.kernel = kernel
        self.store = store
        self.header = Header(what, mode, os.getpid())
        self.entries: list[Entry] = []
        self.path = ""
        self._fd = -1

    def __enter__(self) -> Operation:
        folder = f"{self.store.root}/journal"
        while True:
            self.path = f"{folder}/{time.time_ns():x}-{os.getpid()}"
            # Not by files.create: others' recovery would take its draft for an entry, or the name before we open it.
            try:
                self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            except FileExistsError:
                continue
            except FileNotFoundError:
                os.makedirs(folder, files.DIRECTORY_MODE, exist_ok=True)
                continue
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            # Between making the file and locking it, somebody's recovery may have taken it for a dead one's.
            if os.fstat(self._fd).st_nlink:
                break
            os.close(self._fd)
        self._append(self.header)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            if error is not None and self.header.mode == "back":
                walk_back(self.kernel, self.store, self.entries)
            if error is None or self.header.mode == "back":
                files.remove(self.path)
        finally:
            os.close(self._fd)  # where the file stays, the next command finds it unlocked and finishes it

    def _append(self, *entries: Entry | Header) -> None:
        os.write(self._fd, "".join([codec.dumps(entry) + "\n" for entry in entries]).encode())
        self.entries += [entry for entry in entries if not isinstance(entry, Header)]

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
            return True
        self.entries.pop()
        return False

    def leasing(self, network: str, address: Address_, name: str) -> None:
        """Note an address that is about to be claimed."""
        self._append(Leased(network, address, name))

    def replace(self, path: str, text: str) -> None:
        """Give a file a new text."""
        self._append(Wrote(path, files.read(f"{self.store.root}/{path}")))
        files.replace(f"{self.store.root}/{path}", text)

    def turning(self, proto: Proto, port: int, network: str, endpoint: str) -> None:
        """Note an endpoint that is about to join a shared port."""
        self._append(Turned(proto, port, network, endpoint))

    def show(self, network: str, text: str) -> None:
        """Add lines to the /etc/hosts files of a network."""
        self._append(Shown(network, text))
        hosts.add(self.store.root, network, text)

    def starting(self, service: str) -> None:
        """Note that a service's process is about to be."""
        self._append(Started(service))

    # removing

    def finish(self, entries: Iterable[Entry]) -> None:
        """Write down everything that has to go, then do it; a crash in between is finished by the next command."""
        self._append(*entries)
        go_on(self.kernel, self.store, self.entries)


def _take_back(kernel: Kernel, step: Step) -> None:
    if step.verb == "add":
        # A namespace whose file was made but not yet mounted is found by no inode: take it away all the same.
        ours: list[Thing] = [*kernel.find(thing for thing in step.things if not isinstance(thing, Netns))]
        ours += [thing for thing in step.things if isinstance(thing, Netns)]
        for each in removing(ours):
            kernel.do(each)
    elif step.verb == "change":
        kernel.do(step.undo())


def _rewrite(store: Store, path: str, text: str | None) -> None:
    if text is None:
        files.remove(f"{store.root}/{path}")
    else:
        files.replace(f"{store.root}/{path}", text)


def walk_back(kernel: Kernel, store: Store, entries: Iterable[Entry]) -> None:
    """Undo what was begun, last first. May be repeated."""
    for entry in reversed(list(entries)):
        if isinstance(entry, Began):
            _take_back(kernel, entry.step)
        elif isinstance(entry, Wrote):
            _rewrite(store, entry.path, entry.before)
        elif isinstance(entry, Leased):
            leases.release(store.root, entry.network, entry.address, entry.name)
        elif isinstance(entry, Shown):
            hosts.withdraw(store.root, entry.network, entry.text)
        elif isinstance(entry, Turned):
            _leave(kernel, store, entry)
        elif isinstance(entry, Started):
            _stop(store, entry.service)


def go_on(kernel: Kernel, store: Store, entries: Iterable[Entry]) -> None:
    """Do what was to be done, first to last. May be repeated."""
    for entry in entries:
        if isinstance(entry, Began):
            kernel.do(entry.step)
        elif isinstance(entry, Put):
            _rewrite(store, entry.path, entry.text)
        elif isinstance(entry, Leased):
            leases.release(store.root, entry.network, entry.address, entry.name)
        elif isinstance(entry, Hidden):
            hosts.withdraw(store.root, entry.network, entry.text)
        elif isinstance(entry, Started):
            _stop(store, entry.service)
        elif isinstance(entry, Dropped):
            store.drop_network(entry.network)
        elif isinstance(entry, Turned):
            _leave(kernel, store, entry)


def _leave(kernel: Kernel, store: Store, entry: Turned) -> None:
    from nsbridge.engine import shared

    shared.leave(kernel, store, entry.proto, entry.port, entry.network, entry.endpoint)


def _stop(store: Store, name: str) -> None:
    """Stop a service's process and whoever it left in its namespace."""
    from nsbridge.kernel import netns, process

    record = store.service_or_none(name)
    if record is None:
        return
    if record.pid:
        process.stop([process.Running(record.pid, record.started)])
    if record.service.netns and not record.service.mode:
        inode = netns.inode(record.service.netns)
        if inode:
            process.kill_inhabitants(inode)


def _entries(text: str) -> tuple[Header | None, list[Entry]]:
    """Read a journal file; a torn last line is a step that was never begun."""
    found = []
    for row in text.splitlines():
        try:
            found.append(codec.loads(row))
        except ValueError:
            break
    if not found or not isinstance(found[0], Header):
        return None, []
    return found[0], found[1:]


def recover(kernel: Kernel, store: Store) -> tuple[str, ...]:
    """Finish or undo what dead processes left in flight; return what was done, in words.

    Costs one listing of a folder that is empty unless something is in flight or went wrong.
    """
    said = []
    for name in files.names(f"{store.root}/journal"):
        path = f"{store.root}/journal/{name}"
        if not os.path.exists(path):
            continue
        with files.Lock(path, wait=False) as lock:
            if not lock.held:
                continue
            text = files.read(path)
            if text is None:
                files.remove(path)
                continue
            header, entries = _entries(text)
            if header is not None and header.mode == "back":
                walk_back(kernel, store, entries)
                said.append(f"undid what a killed command left: {header.what}")
            elif header is not None:
                go_on(kernel, store, entries)
                said.append(f"finished what a killed command left: {header.what}")
            files.remove(path)
    return tuple(said)
