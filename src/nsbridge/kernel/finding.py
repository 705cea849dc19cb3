"""Which of some things exist and are ours, each asked for alone: what `Kernel.find` answers.

All namespaces are visited by one thread in one journey, each with one socket, and a link is asked for once however
much lies on it. IPv6 settings of a link are read from the link's own message: opening a file below /proc/sys/net takes
time in proportion to the namespaces of the machine, for the kernel keeps the entries of all in one list.

Where much is asked for, a list of all there is costs less than so many questions: `MANY` links of one namespace are
looked up in one dump of them, and nftread.py does likewise with the elements of a set.
"""

from __future__ import annotations

import errno

from nsbridge.errors import KernelError
from nsbridge.firewall.ruleset import Element, Table
from nsbridge.kernel import netns, onlinks, rtnetlink, sysctl
from nsbridge.kernel.glance import Glance
from nsbridge.kernel.netlink import ROUTE, NetlinkSocket
from nsbridge.model.names import is_ours
from nsbridge.state.things import HOST, ForeignAccept, Link, Netns, Sysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nsbridge.kernel.linux import LinuxKernel
    from nsbridge.state.things import Thing

MANY = 64
"""So many links are found sooner in a list of all."""

_GONE = frozenset((errno.ENOENT, errno.EINVAL, errno.ESRCH))
_LOOPBACK = "lo"


class Look:
    """One namespace, looked into by a socket of it."""

    def __init__(self, sock: NetlinkSocket, things: Iterable[Thing]) -> None:
        self._sock = sock
        self._links: dict[str, Glance | None] = {}
        self._at: dict[int, Glance | None] = {}
        self._lists: dict[bytes, list[tuple[int, bytes]]] = {}
        self._ask({name for name in map(_link_of, things) if name})

    def _ask(self, names: set[str]) -> None:
        """Learn of these links, together."""
        self._links |= dict.fromkeys(names)
        if len(names) > MANY:
            bodies: list[bytes | None] = [body for _, body in self._sock.dump(rtnetlink.get_links())]
        else:
            bodies = self._sock.ask([rtnetlink.get_link(name) for name in names])
        for link in [Glance(body) for body in bodies if body]:
            self._links[link.name] = self._at[link.index] = link

    def link(self, name: str) -> Glance | None:
        """Return the link of that name, None without one."""
        if name not in self._links:
            self._ask({name})
        return self._links[name]

    def link_at(self, index: int) -> Glance | None:
        """Return the link of that number, None without one."""
        if index not in self._at:
            (body,) = self._sock.ask([rtnetlink.get_link_at(index)])
            self._at[index] = Glance(body) if body else None
        return self._at[index]

    def dump(self, message: bytes) -> list[tuple[int, bytes]]:
        """Return the answer to a question for a list, asked once."""
        if message not in self._lists:
            self._lists[message] = self._sock.dump(message)
        return self._lists[message]

    def exists(self, thing: Thing) -> bool:
        """Whether a link of ours, an address, a route or a setting is there."""
        if isinstance(thing, Sysctl):
            return self._setting(thing.key) == thing.value
        if isinstance(thing, Link):
            link = self.link(thing.name)
            # One on the wire has no other end on the host: its number says whose it is.
            return link is not None and (link.group == thing.group if thing.parent else is_ours(link.group))
        if not isinstance(thing, onlinks.KINDS):
            return False
        name = onlinks.link_of(thing)
        link = self.link(name) if name else None
        return (link is not None or not name) and onlinks.exists(self, thing, link.index if link else 0)

    def _setting(self, key: str) -> str:
        parts = key.split("/")
        if _is_of_message(parts):
            link = self.link(parts[3])
            if link is not None and (settings := link.inet6):
                return str(settings[rtnetlink.INET6_SETTINGS[parts[4]]])
        return sysctl.read(key)


def _is_of_message(parts: list[str]) -> bool:
    """Whether a setting, its key taken apart, is told in the message of its link."""
    return len(parts) == 5 and parts[:3] == ["net", "ipv6", "conf"] and parts[4] in rtnetlink.INET6_SETTINGS


def _link_of(thing: Thing) -> str:
    """The link that has to be known to find a thing, empty for none."""
    if isinstance(thing, Link):
        return thing.name
    if isinstance(thing, onlinks.KINDS):
        return onlinks.link_of(thing)
    if isinstance(thing, Sysctl):
        parts = thing.key.split("/")
        return parts[3] if _is_of_message(parts) else ""
    return _LOOPBACK if isinstance(thing, Netns) else ""


def find(kernel: LinuxKernel, things: Iterable[Thing]) -> tuple[Thing, ...]:
    """Return those of the things that exist and are ours. KernelError when a namespace can't be looked into."""
    asked = tuple(things)
    inner: dict[str, list[Thing]] = {}
    on_host: list[Thing] = []
    firewall: list[Table | Element] = []
    found: set[int] = set()  # by id(): an identity takes time to make
    for thing in asked:
        if isinstance(thing, (Table, Element)):
            firewall.append(thing)
        elif isinstance(thing, ForeignAccept):
            from nsbridge.kernel import foreign

            if foreign.present(thing, kernel.nft):
                found.add(id(thing))
        elif isinstance(thing, Netns):
            inner.setdefault(thing.path, []).append(thing)
        elif thing.netns != HOST:
            inner.setdefault(thing.netns, []).append(thing)
        else:
            on_host.append(thing)
    if on_host or inner:
        host = Look(kernel.route, on_host)
        found |= {id(thing) for thing in on_host if host.exists(thing)}
        found |= _find_inside(kernel, host, inner)
    if firewall:
        held = kernel.firewall.find(tuple(firewall))
        found |= {id(thing) for thing in held}
        # A table that is there but damaged comes as another value.
        tables = {thing.identity: thing for thing in held if isinstance(thing, Table)}
        asked = tuple([tables.get(thing.identity, thing) if isinstance(thing, Table) else thing for thing in asked])
    return tuple([thing for thing in asked if id(thing) in found])


def _find_inside(kernel: LinuxKernel, host: Look, inner: dict[str, list[Thing]]) -> set[int]:
    found: set[int] = set()
    visits: list[tuple[str, Callable[[int], tuple[list[Thing], list[tuple[Thing, Glance]], int]]]] = [
        (path, lambda fd, t=things: _look(kernel, fd, t))  # type: ignore[misc]
        for path, things in inner.items()
    ]
    for (path, _), result in zip(visits, netns.tour(visits) if visits else (), strict=True):
        if isinstance(result, OSError):
            if result.errno in _GONE:
                continue
            raise KernelError(f"can't look into {path}: {result.strerror}", errno=result.errno or 0) from result
        there, links, nsid = result
        found |= {id(thing) for thing in there}
        found |= {id(thing) for thing, link in links if _joined(host, nsid, link)}
    return found


def _look(kernel: LinuxKernel, fd: int, things: list[Thing]) -> tuple[list[Thing], list[tuple[Thing, Glance]], int]:
    """Inside: return what is there; links apart, since only their other ends tell whose they are.

    Those ends know this namespace (`fd`) by a number, which is the last that is returned.
    """
    there: list[Thing] = []
    links: list[tuple[Thing, Glance]] = []
    with NetlinkSocket(ROUTE) as sock:
        look = Look(sock, things)
        for thing in things:
            if isinstance(thing, Netns):
                if (loopback := look.link(_LOOPBACK)) and loopback.alias == netns.MARK:
                    there.append(thing)
            elif isinstance(thing, Link) and not thing.parent:
                if one := look.link(thing.name):
                    links.append((thing, one))
            elif look.exists(thing):
                there.append(thing)
    return there, links, _nsid(kernel.route, fd) if links else -1


def _nsid(sock: NetlinkSocket, fd: int) -> int:
    (body,) = sock.ask([rtnetlink.get_nsid(fd)])
    return rtnetlink.decode_nsid(body) if body else -1


def _joined(host: Look, nsid: int, link: Glance) -> bool:
    """Tell whether that link of that namespace is the inner end of a pair whose outer end is ours.

    Inside a namespace links bear no mark of ours, and the name may be somebody else's.
    """
    if nsid < 0 or not link.peer_index:
        return False
    outer = host.link_at(link.peer_index)
    return outer is not None and is_ours(outer.group) and (outer.peer_nsid, outer.peer_index) == (nsid, link.index)
