"""What the journal of an operation may say, and what each entry takes to undo or to do.

Undoing goes last entry first and stops at what can't be undone, so that a record or an address is given up only
after everything that stands on it. So does doing, first entry first. Either may be repeated from the beginning.
A step that was begun may be undone only as far as its things are ours: `Kernel.find` tells, so that what
somebody else made by the same name is left alone.
"""

from __future__ import annotations

from nsbridge.plan.diff import removing
from nsbridge.plan.step import Step
from nsbridge.state.things import HOST, Address, Link, Netns, Route, Shaper, Sysctl
from nsbridge.store import files, hosts, leases
from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
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
    """A file or folder, from the store's root, and its text before: None when there was none."""

    path: str
    before: str | None = None


class Put(Value):
    """A file or folder, from the store's root, and its text after: None when it goes."""

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


class Idle(Value):
    """A network that goes if it is ephemeral and nothing is left on it. Seen to by recovery and `networks.Use`."""

    network: str


class Held(Value):
    """A service that goes, with all it has by then. Seen to by recovery and `services.run`."""

    service: str


class Left(Value):
    """A service that no longer sees the names of a network. Seen to by recovery and `names.refresh`."""

    service: str
    network: str


class Turned(Value):
    """An endpoint that may take its turns on a shared port; undone or finished, it doesn't any more."""

    proto: Proto
    port: int
    network: str
    endpoint: str


class Led(Value):
    """Endpoints of one name and namespace, of which the right one holds the default route: undone or finished."""

    name: str
    netns: str


if TYPE_CHECKING:
    Entry: TypeAlias = (
        Began | Wrote | Put | Leased | Shown | Hidden | Started | Dropped | Idle | Held | Left | Turned | Led
    )


def _not_on_others(asked: Iterable[Thing], there: tuple[Thing, ...]) -> tuple[Thing, ...]:
    """Leave out what stands on a link inside that was to be made and isn't there: the name is somebody else's.

    Its routes may well be equal to ours, on one network.
    """
    links = [thing for thing in asked if isinstance(thing, Link) and thing.netns != HOST and thing not in there]
    if not links:
        return there
    names = {(link.netns, link.name) for link in links}
    return tuple([thing for thing in there if (getattr(thing, "netns", ""), _stands_on(thing)) not in names])


def _stands_on(thing: Thing) -> str:
    """The name of the link that a thing is on, empty for none."""
    if isinstance(thing, Sysctl):
        parts = thing.key.split("/")
        return parts[3] if len(parts) == 5 else ""
    return thing.link if isinstance(thing, Address | Route | Shaper) else ""


def _take_back(kernel: Kernel, step: Step) -> None:
    there = kernel.find(step.things)
    if step.verb == "add":
        # A namespace's name without a namespace is found by nobody, yet it is there and has to go.
        there = (*there, *[thing for thing in step.things if isinstance(thing, Netns) and thing not in there])
        there = _not_on_others(step.things, there)
        for each in removing(there):
            kernel.do(each)
    elif step.verb == "change":
        pairs = [pair for pair in zip(step.things, step.before, strict=True) if pair[0] in there]
        if pairs:
            kernel.do(Step("change", tuple(old for _, old in pairs), tuple(new for new, _ in pairs), why=step.why))
    elif step.verb == "swap" and there:  # one batch, so it was done as a whole
        kernel.do(step.undo())


def _rewrite(store: Store, path: str, text: str | None) -> None:
    where = f"{store.root}/{path}"
    if text is not None:
        files.replace(where, text)
    elif files.is_folder(where):
        files.remove_tree(where)
    else:
        files.remove(where)


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
        elif isinstance(entry, Started):
            _stop(store, entry.service)
        elif isinstance(entry, Turned):
            _leave(kernel, store, entry)
        elif isinstance(entry, Led):
            _lead(kernel, store, entry)


def go_on(kernel: Kernel, store: Store, entries: Iterable[Entry]) -> None:
    """Do what was to be done, first to last. May be repeated."""
    entries = tuple(entries)
    steps = [entry.step for entry in entries if isinstance(entry, Began)]
    for entry in entries:
        if isinstance(entry, Began):
            kernel.do(entry.step, forget=steps if entry.step is steps[-1] else ())
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
        elif isinstance(entry, Led):
            _lead(kernel, store, entry)


def _lead(kernel: Kernel, store: Store, entry: Led) -> None:
    from nsbridge.engine import gateways

    gateways.place(kernel, store, entry.name, entry.netns)


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
    if record.service.mode in ("", "none"):
        inode = netns.inode(record.service.netns)
        if inode:
            process.kill_inhabitants(inode)
