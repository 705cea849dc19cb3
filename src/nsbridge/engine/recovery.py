"""What killed commands left in flight, undone or finished by the next one.

A dead command's journal is a file that nobody holds locked. It is dealt with under the store's exclusive lock, so
nobody works on what is half done meanwhile; and whoever takes the store's lock looks for such files first
(`host.HostLock`), so nobody builds on it either. Later operations are undone before earlier ones.
"""

from __future__ import annotations

import fcntl
import os

from nsbridge import codec
from nsbridge.engine.entries import Header, Held, Hidden, Idle, Left, Shown, go_on, walk_back
from nsbridge.errors import NsbridgeError
from nsbridge.store import files, hosts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsbridge.engine.entries import Entry
    from nsbridge.engine.host import Host


def _is_dead(path: str) -> bool:
    """Tell whether nobody holds this journal file. The lock asked for is shared: many may look at once."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return os.fstat(fd).st_nlink > 0  # else it ended between the two calls
    except BlockingIOError:
        return False
    finally:
        os.close(fd)


def dead(host: Host) -> list[str]:
    """Return the journal files of dead processes, the latest first, without those that were tried in vain.

    Costs one listing of a folder that is empty unless something is in flight or went wrong.
    """
    folder = f"{host.store.root}/journal"
    found = [f"{folder}/{name}" for name in reversed(files.names(folder))]
    return [path for path in found if path not in host.in_vain and _is_dead(path)]


def read(path: str) -> tuple[Header, list[Entry]]:
    """Read a journal file. A torn last line is what was never begun; ValueError for any other that isn't ours."""
    *rows, _ = (files.read(path) or "").split("\n")
    header, *batches = [codec.loads(row) for row in rows]
    if not isinstance(header, Header):
        raise ValueError("it has no header")
    return header, [entry for batch in batches for entry in batch]


def recover(host: Host) -> None:
    """Finish or undo what dead processes left in flight, and say so. The caller holds the exclusive lock."""
    found = dead(host)
    for path in found:
        try:
            header, entries = read(path)
        except ValueError as err:
            host.in_vain.add(path)
            host.say(f"can't read what a killed command left in {path}: {err}")
            continue
        try:
            _finish(host, header, entries)
        except (NsbridgeError, OSError) as err:
            host.in_vain.add(path)
            word = "undo" if header.mode == "back" else "finish"
            host.say(f"can't {word} what a killed command left ({header.what}), the next command tries again: {err}")
            continue
        files.remove(path)
        word = "undid" if header.mode == "back" else "finished"
        host.say(f"{word} what a killed command left: {header.what}")
    if found:
        files.sweep(host.store.root)


def _finish(host: Host, header: Header, entries: list[Entry]) -> None:
    if header.mode == "back":
        walk_back(host.kernel, host.store, entries)
    else:
        go_on(host.kernel, host.store, entries)
        _go_away(host, entries)
    for network in dict.fromkeys(entry.network for entry in entries if isinstance(entry, Shown | Hidden)):
        hosts.rewrite(host.store.root, network, lambda name: map(hosts.line, host.store.endpoints(name)))


def _go_away(host: Host, entries: Iterable[Entry]) -> None:
    for entry in entries:
        if isinstance(entry, Idle):
            from nsbridge.engine import networks

            networks.remove_idle(host, entry.network)
        elif isinstance(entry, Held):
            from nsbridge.engine import networks, services

            for name in services.take_away(host, entry.service):
                networks.remove_idle(host, name)
        elif isinstance(entry, Left):
            from nsbridge.engine import names

            names.left(host, entry.service, entry.network)
