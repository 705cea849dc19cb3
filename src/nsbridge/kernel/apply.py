"""Carry out a step: its things grouped by namespace and sent as few batches, in the order that is safe.

Adding builds in private and publishes last: namespaces, the host's links (which brings inner ends to life),
then for each namespace one visit that writes settings and sends everything else in one send(); then the
host's own addresses, routes and settings; the firewall; at last the accepts in other people's chains.
Removing goes the other way, and sends nothing for what disappears with something else.
"""

from __future__ import annotations

import errno
import fcntl
import os

from nsbridge.errors import KernelError
from nsbridge.firewall.ruleset import Element, Table
from nsbridge.kernel import netns, onlinks, rtnetlink, sysctl
from nsbridge.kernel.complaints import fix_for, told
from nsbridge.kernel.netlink import ROUTE, NetlinkSocket, Refused
from nsbridge.model.names import PORT_GROUP, is_ours
from nsbridge.state.things import HOST, ForeignAccept, Link, Netns, Sysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from typing import Any

    from nsbridge.kernel.linux import LinuxKernel
    from nsbridge.kernel.onlinks import OnLink
    from nsbridge.plan.step import Step, Verb
    from nsbridge.state.things import Thing

    Batch = list[tuple[Thing, bytes]]

_SIOCGIFINDEX = 0x8933

DOOMED = PORT_GROUP + 0x6FFFFF
"""IFLA_GROUP of links about to be deleted together; still ours, should we die in between."""

GONE = frozenset((errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL, errno.ENXIO, *rtnetlink.NO_IPV6))
"""What the kernel says of a link, route or address that isn't there."""


def index_of(sock: NetlinkSocket, name: str) -> int:
    """Return a link's index in the namespace of the socket; OSError ENODEV without such a link. netdevice(7)."""
    answer = fcntl.ioctl(sock.fileno(), _SIOCGIFINDEX, name.encode()[:15].ljust(40, b"\0"))
    return int.from_bytes(answer[16:20], "little" if rtnetlink.LITTLE else "big")


def find_index(sock: NetlinkSocket, name: str) -> int:
    """Return a link's index, 0 without such a link."""
    try:
        return index_of(sock, name)
    except OSError:
        return 0


def _unique(things: Iterable[Thing]) -> tuple[Thing, ...]:
    return tuple({thing.identity: thing for thing in things}.values())


class Work:
    """One step under way: what has been done of it, for the error that may end it."""

    def __init__(self, kernel: LinuxKernel, step: Step) -> None:
        self._kernel = kernel
        self._step = step
        self._done: list[Thing] = []

    def run(self) -> None:
        """Do it; KernelError as Kernel.do() promises."""
        things = self._step.things
        {"add": self._add, "remove": self._remove, "change": self._change, "swap": self._swap}[self._step.verb](things)

    # -------------------------------------------------------------- helpers

    def _error(self, thing: Thing, code: int, said: str) -> KernelError:
        what = {"add": "make", "remove": "remove", "change": "change", "swap": "make"}[self._step.verb]
        text = f"the kernel won't {what} {told(thing)}: {said or os.strerror(code)}"
        return KernelError(text, errno=code, thing=thing, done=_unique(self._done), fix=fix_for(thing, code))

    def _try(self, thing: Thing, action: Callable[[], Any]) -> Any:
        """Do one thing by itself; OSError becomes KernelError."""
        try:
            result = action()
        except OSError as err:
            raise self._error(thing, err.errno or 0, err.strerror or str(err)) from err
        self._done.append(thing)
        return result

    def _index(self, sock: NetlinkSocket, thing: Thing, name: str) -> int:
        try:
            return index_of(sock, name)
        except OSError as err:
            raise self._error(thing, err.errno or 0, f"there is no link {name!r}") from err

    def _index_below(self, sock: NetlinkSocket, thing: OnLink, known: dict[str, int]) -> int:
        """Return the index of the link a thing stands on, 0 if it stands on none. known: of links asked for already."""
        name = onlinks.link_of(thing)
        if name and name not in known:
            known[name] = self._index(sock, thing, name)
        return known.get(name, 0)

    def _send(self, sock: NetlinkSocket, batch: Batch, tolerate: Collection[int] = rtnetlink.NO_IPV6) -> None:
        """Send messages. A thing counts as done from its first acknowledged message on, so that it is undone."""
        try:
            sock.transact([one for _, one in batch], tolerate=tolerate)
        except Refused as err:
            self._done += [batch[index][0] for index in err.done]
            thing, said = batch[err.index][0], err.text
            if (
                isinstance(thing, Link)
                and thing.peer_name
                and err.errno == errno.EEXIST
                and not find_index(sock, thing.name)
            ):
                said = f"{thing.peer_netns} already has a link {thing.peer_name!r}"
            raise self._error(thing, err.errno or 0, said) from err
        self._done += [thing for thing, _ in batch]

    def _visit(self, path: str, things: Collection[Thing], work: Callable[[NetlinkSocket], None]) -> None:
        """Work with a socket of that namespace, inside it if it isn't the host's."""
        if path == HOST:
            work(self._kernel.route)
            return

        def there() -> None:
            with NetlinkSocket(ROUTE) as sock:
                work(sock)

        try:
            netns.inside(path, there)
        except OSError as err:
            if self._step.verb == "remove" and not netns.inode(path):
                self._done += things
                return
            raise self._error(next(iter(things)), err.errno or 0, f"{path}: {err.strerror}") from err

    def _firewall(self, verb: Verb, things: tuple[Thing, ...]) -> None:
        inside = tuple([thing for thing in things if isinstance(thing, (Table, Element))])
        if inside:
            try:
                self._kernel.firewall.apply(verb, inside)
            except KernelError as err:
                done = _unique((*self._done, *err.done))
                raise KernelError(err.message, errno=err.errno, thing=err.thing, done=done, fix=err.fix) from err
            self._done += inside

    def _foreign(self, verb: str, things: tuple[Thing, ...]) -> None:
        for thing in things:
            if isinstance(thing, ForeignAccept):
                from nsbridge.kernel import foreign

                try:
                    (foreign.withdraw if verb == "remove" else foreign.accept)(thing, self._kernel.nft)
                except KernelError as err:
                    done = _unique((*self._done, *err.done))
                    raise KernelError(err.message, errno=err.errno, thing=thing, done=done, fix=err.fix) from err
                self._done.append(thing)

    # -------------------------------------------------------------- add

    def _add(self, things: tuple[Thing, ...]) -> None:
        for thing in things:
            if isinstance(thing, Netns):
                self._try(thing, lambda path=thing.path: netns.create(path))  # type: ignore[misc]
        born = self._create_links(self._kernel.route, HOST, things)
        by_netns = _by_netns(things)
        mine = by_netns.pop(HOST, [])
        for path, there in by_netns.items():
            self._visit(path, there, lambda sock, p=path, t=there: self._settle(sock, p, t, born))  # type: ignore[misc]
        if mine:
            self._settle(self._kernel.route, HOST, mine, born, created=True)
        self._firewall("add", things)
        self._foreign("add", things)

    def _create_links(self, sock: NetlinkSocket, path: str, things: Iterable[Thing]) -> set[tuple[str, ...]]:
        """Make bridges, then pairs, each kind in one send(). Return the identities of inner ends made as wished."""
        links = [thing for thing in things if isinstance(thing, Link)]
        wished = {link.identity: link for link in links}
        made = [link for link in links if link.netns == path and _is_made(link)]
        bridges = [link for link in made if not link.peer_name]
        if bridges:
            self._make(sock, [(link, rtnetlink.create_link(link)) for link in bridges])
        born: set[tuple[str, ...]] = set()
        opened: dict[str, int] = {HOST: -1}
        batch: Batch = []
        try:
            for link in links if path == HOST else ():
                if link.parent:
                    fd = opened.setdefault(link.netns, -1) if link.netns in opened else self._open(link, link.netns)
                    opened[link.netns] = fd
                    batch.append((link, rtnetlink.create_child(link, self._index(sock, link, link.parent), fd)))
                    born.add(link.identity)
            for link in made:
                if not link.peer_name:
                    continue
                if link.peer_netns not in opened:
                    opened[link.peer_netns] = self._open(link, link.peer_netns)
                master = self._index(sock, link, link.master) if link.master else 0
                peer = wished.get(("link", link.peer_netns, link.peer_name))
                fd = opened[link.peer_netns]
                batch.append((link, rtnetlink.create_link(link, master=master, peer=peer, peer_fd=fd)))
                if peer is not None:
                    born.add(peer.identity)
            if batch:
                self._make(sock, batch)
        finally:
            for fd in opened.values():
                if fd >= 0:
                    os.close(fd)
        return born

    def _make(self, sock: NetlinkSocket, batch: Batch) -> None:
        """Make links, and when all of them are there, tell each the rest."""
        self._send(sock, batch)
        rest: Batch = []
        for link, _ in batch:
            if link.parent:  # type: ignore[union-attr]
                continue  # what is left to tell it is told inside
            rest += [(link, one) for one in rtnetlink.finish_link(link, self._index(sock, link, link.name))]  # type: ignore[union-attr,arg-type]
        if rest:
            self._send(sock, rest)

    def _open(self, link: Link, path: str) -> int:
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as err:
            raise self._error(link, err.errno or 0, f"{path}: {err.strerror}") from err

    def _settle(
        self, sock: NetlinkSocket, path: str, things: list[Thing], born: set[tuple[str, ...]], created: bool = False
    ) -> None:
        """Settings, then links, addresses and routes of one namespace in one send()."""
        if not created:
            self._create_links(sock, path, things)
        for thing in things:
            if isinstance(thing, Sysctl):
                self._try(thing, lambda one=thing: sysctl.write(one.key, one.value))  # type: ignore[misc]
        links: Batch = []
        rest: Batch = []
        known: dict[str, int] = {}
        for thing in things:
            if isinstance(thing, Link) and not _is_made(thing):
                index = known[thing.name] = self._index(sock, thing, thing.name)
                ready = thing.identity in born
                links += [(thing, one) for one in rtnetlink.configure_link(thing, index, born=ready)]
            elif isinstance(thing, onlinks.KINDS):
                rest.append((thing, onlinks.add(thing, self._index_below(sock, thing, known))))
        rest.sort(key=lambda pair: onlinks.order(pair[0]))  # type: ignore[arg-type]
        if links or rest:
            self._send(sock, links + rest)

    def _swap(self, things: tuple[Thing, ...]) -> None:
        self._kernel.firewall.swap(self._step.before, things)  # type: ignore[arg-type]
        self._done += things

    # -------------------------------------------------------------- change

    def _change(self, things: tuple[Thing, ...]) -> None:
        for path, there in _by_netns(things).items():
            self._visit(path, there, lambda sock, t=there: self._change_there(sock, t))  # type: ignore[misc]
        self._firewall("change", things)
        self._foreign("change", things)

    def _change_there(self, sock: NetlinkSocket, things: list[Thing]) -> None:
        batch: Batch = []
        known: dict[str, int] = {}
        for thing in things:
            if isinstance(thing, Sysctl):
                self._try(thing, lambda one=thing: sysctl.write(one.key, one.value))  # type: ignore[misc]
            elif isinstance(thing, Link):
                index = self._index(sock, thing, thing.name)
                master = self._index(sock, thing, thing.master) if thing.master else 0
                batch += [(thing, one) for one in rtnetlink.change_link(thing, index, master=master)]
            elif isinstance(thing, onlinks.KINDS):
                batch.append((thing, onlinks.replace(thing, self._index_below(sock, thing, known))))
        if batch:
            self._send(sock, batch)

    # -------------------------------------------------------------- remove

    def _remove(self, things: tuple[Thing, ...]) -> None:
        self._foreign("remove", things)
        self._firewall("remove", things)
        spaces = {thing.path for thing in things if isinstance(thing, Netns)}
        links = [thing for thing in things if isinstance(thing, Link) and thing.netns == HOST and _is_made(thing)]
        ends = {(link.netns, link.name) for link in links} | {(link.peer_netns, link.peer_name) for link in links}
        rest: list[Thing] = []
        implied: list[Thing] = []
        for thing in things:
            if not isinstance(thing, (Netns, Table, Element, ForeignAccept)) and thing not in links:
                (implied if _goes_along(thing, spaces, ends) else rest).append(thing)
        by_netns = _by_netns(rest)
        for path in sorted(by_netns):  # the host's own first: its path is empty
            there = by_netns[path]
            self._visit(path, there, lambda sock, t=there: self._dismantle(sock, t))  # type: ignore[misc]
        if links:
            self._delete_links(links, self._kernel.route)
        for thing in things:
            if isinstance(thing, Netns):
                self._try(thing, lambda path=thing.path: netns.remove(path))  # type: ignore[misc]
        self._done += implied

    def _dismantle(self, sock: NetlinkSocket, things: list[Thing]) -> None:
        """Take back what stands alone in one namespace."""
        batch: Batch = []
        links: list[Link] = []
        for thing in things:
            if isinstance(thing, Sysctl):
                self._try(thing, lambda one=thing: _give_back(one))  # type: ignore[misc]
            elif isinstance(thing, onlinks.KINDS) and (not (name := onlinks.link_of(thing)) or find_index(sock, name)):
                batch.append((thing, onlinks.delete(thing, find_index(sock, name) if name else 0)))
            elif isinstance(thing, Link) and thing.parent:
                links.append(thing)
            else:
                # Gone already; or the inner end of a pair, which the outer one takes along when its turn comes.
                # Inside, a name is all we have, and it may be somebody else's link by now: don't touch it.
                self._done.append(thing)
        if batch:
            batch.sort(key=lambda pair: -onlinks.order(pair[0]))  # type: ignore[arg-type]
            self._send(sock, batch, GONE)
        if links:
            self._delete_links(links, sock)

    def _delete_links(self, links: list[Link], sock: NetlinkSocket) -> None:
        """Delete links of ours by index, together if there are several: each alone would wait 20 ms for RCU."""
        from nsbridge.kernel.glance import Glance

        found: list[tuple[Link, int]] = []
        for link in links:
            try:
                replies = sock.request(rtnetlink.get_link(link.name))
            except Refused as err:
                if err.errno not in GONE:
                    raise self._error(link, err.errno or 0, err.text) from err
                self._done.append(link)
                continue
            there = Glance(replies[0][1])
            if link.parent and there.group != link.group:
                self._done.append(link)  # gone, and another endpoint has its name by now
                continue
            if not is_ours(there.group):
                raise self._error(link, errno.EEXIST, "that name now belongs to a link that isn't ours")
            found.append((link, there.index))
        if len(found) == 1:
            self._send(sock, [(found[0][0], rtnetlink.delete_link(found[0][1]))], GONE)
        elif found:
            batch: Batch = [(link, rtnetlink.group_link(index, DOOMED)) for link, index in found]
            self._send(sock, batch, GONE)
            self._send(sock, [(found[-1][0], rtnetlink.delete_group(DOOMED))], GONE)


def _is_made(link: Link) -> bool:
    """Whether adding it makes it; the inner end of a pair comes with the outer one and is only configured."""
    return (link.kind != "veth" or bool(link.peer_name)) and not link.parent


def _by_netns(things: Iterable[Thing]) -> dict[str, list[Thing]]:
    """Links, addresses, routes and settings by their namespace."""
    found: dict[str, list[Thing]] = {}
    for thing in things:
        if isinstance(thing, (Link, *onlinks.KINDS, Sysctl)):
            found.setdefault(thing.netns, []).append(thing)
    return found


def _goes_along(thing: Thing, spaces: set[str], ends: set[tuple[str, str]]) -> bool:
    """Whether a thing disappears with a namespace or a link that is removed."""
    if isinstance(thing, Sysctl):
        parts = thing.key.split("/")  # net/ipv4/conf/LINK/setting
        of_link = len(parts) == 5 and (thing.netns, parts[3]) in ends
        return thing.netns in spaces or of_link or not thing.was
    if isinstance(thing, Link):
        return thing.netns in spaces or (thing.netns, thing.name) in ends
    if isinstance(thing, onlinks.KINDS):
        return thing.netns in spaces or (thing.netns, onlinks.link_of(thing)) in ends
    return False


def _give_back(thing: Sysctl) -> None:
    """Write the value from before us, unless somebody changed ours meanwhile or the setting is gone.

    A setting that is as it was before us is only held: giving another back, just before this one, has changed it.
    """
    if sysctl.read(thing.key) in ((thing.value,) if thing.value != thing.was else ("0", "1")):
        sysctl.write(thing.key, thing.was)
