"""Which of some things exist and are ours, each asked for alone: what `Kernel.find` answers.

All namespaces are visited by one thread in one journey, each with one socket, and a link is asked for once however
much lies on it. IPv6 settings of a link are read from the link's own message: opening a file below /proc/sys/net takes
time in proportion to the namespaces of the machine, for the kernel keeps the entries of all in one list.
"""

from __future__ import annotations

import errno

from nsbridge.errors import KernelError
from nsbridge.firewall.ruleset import Element, Table
from nsbridge.kernel import netns, onlinks, rtnetlink, sysctl
from nsbridge.kernel.netlink import ROUTE, NetlinkSocket, Refused
from nsbridge.model.names import is_ours
from nsbridge.state.things import HOST, ForeignAccept, Link, Netns, Sysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsbridge.kernel.linux import LinuxKernel
    from nsbridge.kernel.rtnetlink import FoundLink
    from nsbridge.state.things import Thing

_GONE = frozenset((errno.ENOENT, errno.EINVAL, errno.ESRCH))


class Look:
    """One namespace, looked into by a thread that is in it."""

    def __init__(self, sock: NetlinkSocket, path: str) -> None:
        self._sock = sock
        self._path = path
        self._links: dict[str, FoundLink | None] = {}

    def link(self, name: str) -> FoundLink | None:
        """Return the link of that name, None without one."""
        if name not in self._links:
            try:
                body = self._sock.request(rtnetlink.get_link(name))[0][1]
                self._links[name] = rtnetlink.decode_link(self._path, body)
            except Refused:
                self._links[name] = None
        return self._links[name]

    def exists(self, thing: Thing) -> bool:
        """Whether a link of ours, an address, a route or a setting is there."""
        if isinstance(thing, Sysctl):
            return self._setting(thing.key) == thing.value
        if isinstance(thing, Link):
            link = self.link(thing.name)
            return link is not None and is_ours(link.link.group)
        if not isinstance(thing, onlinks.KINDS):
            return False
        name = onlinks.link_of(thing)
        link = self.link(name) if name else None
        return (link is not None or not name) and onlinks.exists(self._sock, thing, link.index if link else 0)

    def _setting(self, key: str) -> str:
        parts = key.split("/")
        if key.startswith("net/ipv6/conf/") and len(parts) == 5 and parts[4] in rtnetlink.INET6_SETTINGS:
            link = self.link(parts[3])
            if link is not None and link.inet6:
                return str(link.inet6[rtnetlink.INET6_SETTINGS[parts[4]]])
        return sysctl.read(key)


def find(kernel: LinuxKernel, things: Iterable[Thing]) -> tuple[Thing, ...]:
    """Return those of the things that exist and are ours. KernelError when a namespace can't be looked into."""
    asked = tuple(things)
    inner: dict[str, list[Thing]] = {}
    firewall: list[Table | Element] = []
    found: set[tuple[str, ...]] = set()
    host = Look(kernel.route, HOST)
    for thing in asked:
        if isinstance(thing, (Table, Element)):
            firewall.append(thing)
        elif isinstance(thing, ForeignAccept):
            from nsbridge.kernel import foreign

            if foreign.present(thing, kernel.nft):
                found.add(thing.identity)
        elif isinstance(thing, Netns):
            inner.setdefault(thing.path, []).append(thing)
        elif thing.netns != HOST:
            inner.setdefault(thing.netns, []).append(thing)
        elif host.exists(thing):
            found.add(thing.identity)
    if inner:
        found |= _find_inside(kernel, inner)
    if firewall:
        held = {thing.identity: thing for thing in kernel.firewall.find(tuple(firewall))}
        return tuple([held.get(thing.identity, thing) for thing in asked if thing.identity in {*found, *held}])
    return tuple([thing for thing in asked if thing.identity in found])


def _find_inside(kernel: LinuxKernel, inner: dict[str, list[Thing]]) -> set[tuple[str, ...]]:
    from nsbridge.kernel.observe import nsid_of

    found: set[tuple[str, ...]] = set()
    visits = [(path, lambda p=path, t=things: _look(p, t)) for path, things in inner.items()]
    for (path, _), result in zip(visits, netns.tour(visits), strict=True):
        if isinstance(result, OSError):
            if result.errno in _GONE:
                continue
            raise KernelError(f"can't look into {path}: {result.strerror}", errno=result.errno or 0) from result
        there, links = result
        found |= {thing.identity for thing in there}
        nsid = nsid_of(kernel.route, path) if links else -1
        found |= {thing.identity for thing, index, peer in links if _joined(kernel, nsid, index, peer)}
    return found


def _look(path: str, things: list[Thing]) -> tuple[list[Thing], list[tuple[Thing, int, int]]]:
    """Inside: return what is there; of links their index and their peer's, since only that tells whose they are."""
    there: list[Thing] = []
    links: list[tuple[Thing, int, int]] = []
    with NetlinkSocket(ROUTE) as sock:
        look = Look(sock, path)
        for thing in things:
            if isinstance(thing, Netns):
                if netns.marked(sock):
                    there.append(thing)
            elif isinstance(thing, Link) and not thing.parent:
                if one := look.link(thing.name):
                    links.append((thing, one.index, one.peer_index))
            elif look.exists(thing):
                there.append(thing)
    return there, links


def _joined(kernel: LinuxKernel, nsid: int, index: int, peer_index: int) -> bool:
    """Tell whether that link of that namespace is the inner end of a pair whose outer end is ours.

    Inside a namespace links bear no mark of ours, and the name may be somebody else's.
    """
    if nsid < 0 or not peer_index:
        return False
    try:
        body = kernel.route.request(rtnetlink.get_link_at(peer_index))[0][1]
    except Refused:
        return False
    outer = rtnetlink.decode_link(HOST, body)
    return is_ours(outer.link.group) and (outer.peer_nsid, outer.peer_index) == (nsid, index)
