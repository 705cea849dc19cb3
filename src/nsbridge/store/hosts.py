"""The /etc/hosts files that namespaces see: one for each set of networks that some namespace is on.

Namespaces on the same networks share one file by bind mount, so an endpoint that comes adds one line to it,
whether ten or ten thousand read it; a file of its own for each would cost a write per neighbour. A bind mount
holds on to the inode, so a file is only ever changed in place: a line is appended, or blanked out.
"""

from __future__ import annotations

import os

from nsbridge.store import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nsbridge.model.endpoint import Endpoint

HEAD = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
COMPACT_AT = 4096
"""Bytes of blanked-out lines at which a file is written anew."""


def line(endpoint: Endpoint) -> str:
    """Return the endpoint's lines, one an address: ``175.18.0.2 ns1 web``. hosts(5)."""
    return "".join(f"{address.ip} {' '.join(endpoint.names)}\n" for address in endpoint.addresses)


def key(networks: Iterable[str]) -> str:
    """Return the file name for a set of networks: their names, sorted, joined by ``+`` (which no name has)."""
    return "+".join(sorted(set(networks)))


def path(root: str, networks: Iterable[str]) -> str:
    """Return where the file for a set of networks is."""
    return f"{root}/hosts/{key(networks)}"


def reading(root: str, network: str) -> list[str]:
    """Return the paths of every file that shows this network."""
    return [f"{root}/hosts/{name}" for name in files.names(f"{root}/hosts") if network in name.split("+")]


def lock(root: str, *, shared: bool = False) -> files.Lock:
    """Exclusive for who makes or rewrites such files, shared for who adds to them.

    Adding means the endpoint's record and its lines, both under one lock: a file that is just being made from
    the records has either both or neither.
    """
    return files.Lock(f"{root}/hosts.lock", shared=shared)


def make(root: str, networks: Iterable[str], lines: Callable[[str], Iterable[str]]) -> str:
    """Make the file for a set of networks if there is none and return its path. lines: tells those of a network."""
    where = path(root, networks)
    with lock(root):
        if not os.path.exists(where):
            files.replace(where, _text(where, lines))
    return where


def _text(where: str, lines: Callable[[str], Iterable[str]]) -> str:
    return HEAD + "".join([line for network in os.path.basename(where).split("+") for line in lines(network)])


def rewrite(root: str, network: str, lines: Callable[[str], Iterable[str]]) -> None:
    """Write every file of a network anew, in place, after a crash that may have left any of them half changed."""
    with lock(root):
        for where in reading(root, network):
            text = _text(where, lines)
            fd = os.open(where, os.O_WRONLY | os.O_CLOEXEC)
            try:
                files.write(fd, text)
                os.ftruncate(fd, len(text.encode()))
            finally:
                os.close(fd)


def add(root: str, network: str, text: str) -> None:
    """Show these lines in every file of the network. The caller holds the shared `lock`."""
    for where in reading(root, network):
        files.append(where, text)


def withdraw(root: str, network: str, text: str) -> None:
    """Blank these lines out of every file of the network; nothing to do where they aren't."""
    if not text:
        return
    with lock(root):
        for where in reading(root, network):
            _blank(where, text.encode())


def _blank(where: str, text: bytes) -> None:
    fd = os.open(where, os.O_RDWR | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        whole = os.pread(fd, size, 0)
        at = 0 if whole.startswith(text) else whole.find(b"\n" + text) + 1
        if not whole[at:].startswith(text):
            return
        if at + len(text) == size:
            os.ftruncate(fd, at)
            return
        os.pwrite(fd, b" " * (len(text) - 1), at)
        blank = whole.count(b" " * 8)
        if blank * 8 > COMPACT_AT:
            kept = (whole[:at] + whole[at + len(text) :]).splitlines(keepends=True)
            fresh = b"".join(row for row in kept if row.strip())
            os.pwrite(fd, fresh, 0)
            os.ftruncate(fd, len(fresh))
    finally:
        os.close(fd)


def drop(root: str, network: str) -> None:
    """Remove every file of a network that is gone."""
    with lock(root):
        for where in reading(root, network):
            files.remove(where)
