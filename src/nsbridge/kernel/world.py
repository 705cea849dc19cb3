"""Read what a packet meets, namespace by namespace: the `Source` of explain/world.py on a running Linux.

Each namespace is read by one thread that enters it, in five dumps (links, addresses, routes, policy rules,
neighbours). Settings, rules and sockets are asked for one by one, when a prediction gets to them.
"""

from __future__ import annotations

import os

from nsbridge.explain.world import Listener, SeenLink, Space
from nsbridge.kernel import netns, seenroute, sockdiag, sysctl
from nsbridge.kernel.netlink import ROUTE, NetlinkSocket, as_text, as_u32, attributes
from nsbridge.kernel.observe import nsid_of
from nsbridge.kernel.rtnetlink import (
    IFINFO,
    IFLA_ADDRESS,
    IFLA_GROUP,
    IFLA_IFNAME,
    IFLA_LINK,
    IFLA_LINK_NETNSID,
    IFLA_LINKINFO,
    IFLA_MASTER,
    IFLA_MTU,
    IFLA_OPERSTATE,
    INFO_KIND,
    LITTLE,
    bridge_options,
    get_links,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, TypeVar

    from nsbridge.state.things import Address_

    T = TypeVar("T")

_DATA, _SLAVE_KIND, _SLAVE_DATA = 2, 4, 5  # IFLA_INFO_*
_BRPORT_STATE, _BRPORT_MODE, _BRPORT_ISOLATED, _FORWARDING = 1, 4, 33, 3
_OPER_UNKNOWN, _OPER_UP = 0, 6
_IFLA_XDP, _XDP_ATTACHED = 43, 2
_IFLA_QDISC = 6
_IFF_UP, _IFF_LOOPBACK = 1, 8


def decode_link(body: bytes, names: dict[int, str]) -> SeenLink:
    """Read an RTM_NEWLINK body. names: filled with this link's; the master's name may come later (`named`)."""
    _, _, index, flags, _ = IFINFO.unpack_from(body)
    found = attributes(body, IFINFO.size)
    info = attributes(found.get(IFLA_LINKINFO, b""))
    kind = as_text(info.get(INFO_KIND, b""))
    port = attributes(info.get(_SLAVE_DATA, b"")) if as_text(info.get(_SLAVE_KIND, b"")) == "bridge" else {}
    nsid = found.get(IFLA_LINK_NETNSID)
    names[index] = as_text(found[IFLA_IFNAME])
    return SeenLink(
        index=index,
        name=names[index],
        kind=kind,
        up=bool(flags & _IFF_UP),
        running=bool(flags & _IFF_UP) and found.get(IFLA_OPERSTATE, b"\0")[0] in (_OPER_UNKNOWN, _OPER_UP),
        mtu=as_u32(found[IFLA_MTU]) if IFLA_MTU in found else 0,
        mac=found.get(IFLA_ADDRESS, b"").hex(":"),
        master=str(as_u32(found[IFLA_MASTER])) if IFLA_MASTER in found else "",
        peer_index=as_u32(found[IFLA_LINK]) if IFLA_LINK in found else 0,
        peer_nsid=int.from_bytes(nsid, "little" if LITTLE else "big", signed=True) if nsid else -1,
        hairpin=port.get(_BRPORT_MODE, b"\0")[0] == 1,
        isolated=port.get(_BRPORT_ISOLATED, b"\0")[0] == 1,
        forwarding=not port or port.get(_BRPORT_STATE, b"\3")[0] == _FORWARDING,
        options=bridge_options(info.get(_DATA, b"")) if kind == "bridge" else (),
        group=as_u32(found[IFLA_GROUP]) if IFLA_GROUP in found else 0,
        loopback=bool(flags & _IFF_LOOPBACK),
        xdp=attributes(found.get(_IFLA_XDP, b"")).get(_XDP_ATTACHED, b"\0")[0] != 0,
        queue=as_text(found.get(_IFLA_QDISC, b"")),
    )


def _read(sock: NetlinkSocket, path: str) -> Space:
    names: dict[int, str] = {}
    links = [decode_link(body, names) for _, body in sock.dump(get_links())]
    links = [one.replace(master=names.get(int(one.master), "")) if one.master else one for one in links]
    return Space(
        path,
        tuple(links),
        tuple(seenroute.addresses(sock, names)),
        tuple(seenroute.routes(sock, names)),
        tuple(seenroute.policies(sock)),
        tuple(seenroute.neighbours(sock, names)),
    )


class LinuxSource:
    """The namespaces of a running kernel. firewall: reads the rules of the namespace of the calling thread.

    places: paths of the namespaces we know of, in which the other end of a pair is looked for. holder: whose
    namespace an address belongs to by our records.
    """

    def __init__(
        self,
        firewall: Callable[[], Any],
        places: Callable[[], Iterable[str]],
        holder: Callable[[Address_], str | None] = lambda address: None,
    ) -> None:
        self._firewall = firewall
        self._places = places
        self._holder = holder
        self._ids: dict[tuple[str, int], str] = {}
        self._asked: dict[str, set[str]] = {}

    def _inside(self, path: str, work: Callable[[], T]) -> T:
        return netns.inside(path, work)

    def space(self, path: str) -> Space | None:
        """Read a namespace, None when it is gone. PermissionError when it may not be entered."""

        def work() -> Space:
            with NetlinkSocket(ROUTE) as sock:
                return _read(sock, path)

        try:
            return self._inside(path, work)
        except PermissionError:
            raise
        except OSError:
            return None

    def setting(self, path: str, key: str) -> str:
        """Return a setting of a namespace, "" without one."""
        try:
            return self._inside(path, lambda: sysctl.read(key))
        except OSError:
            return ""

    def firewall(self, path: str) -> Any:
        """Read every base chain of every table there."""
        return self._inside(path, self._firewall)

    def holder(self, address: Address_) -> str | None:
        """Return the namespace that an address belongs to by our records."""
        return self._holder(address)

    def ports(self, path: str, proto: str) -> tuple[Listener, ...]:
        """Return all sockets of a namespace that wait."""
        return tuple(one for one, _ in self._inside(path, lambda: sockdiag.listeners(proto)))

    def listeners(self, path: str, proto: str, port: int) -> tuple[Listener, ...]:
        """Return those that wait on a port, each with its process if we may see it."""
        found = [pair for pair in self._inside(path, lambda: sockdiag.listeners(proto)) if pair[0].port == port]
        owners = sockdiag.owners({inode for _, inode in found}) if found else {}
        return tuple(one.replace(owner=owners.get(inode, "")) for one, inode in found)

    def peer(self, path: str, link: SeenLink) -> tuple[str, str] | None:
        """Return where the other end of a pair is, by the id that this namespace has for that one."""
        if not link.peer_index:
            return None
        where = self._namespace(path, link.peer_nsid)
        if where is None:
            return None

        def name() -> str:
            return name_of(link.peer_index)

        try:
            found = self._inside(where, name)
        except OSError:
            return None
        return (where, found) if found else None

    def _namespace(self, path: str, nsid: int) -> str | None:
        """Return the path of the namespace that one knows under an id. Those it has no id for are no peers of it."""
        if nsid < 0:
            return path
        if (path, nsid) in self._ids:
            return self._ids[path, nsid]

        asked = self._asked.setdefault(path, {path})
        # Opened here: inside, the calling thread's own namespace is another one.
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

        def look() -> None:
            with NetlinkSocket(ROUTE) as sock:
                for one in ("", *self._places()):
                    if one in asked:
                        continue
                    asked.add(one)
                    found = _id_of(sock, one or f"/proc/self/fd/{home}")
                    if found >= 0:
                        self._ids.setdefault((path, found), one)
                    if found == nsid:
                        return

        try:
            self._inside(path, look)
        finally:
            os.close(home)
        return self._ids.get((path, nsid))


def _id_of(sock: NetlinkSocket, path: str) -> int:
    try:
        return nsid_of(sock, path)
    except OSError:  # gone meanwhile
        return -1


def name_of(index: int) -> str:
    """Return the name of the link of that index in the namespace of the calling thread, "" without one."""
    import _socket

    try:
        return _socket.if_indextoname(index)
    except OSError:
        return ""
