"""Links at a glance: what tells them apart, for who reads thousands of them."""

from __future__ import annotations

from nsbridge.kernel.netlink import as_text, as_u32, attributes
from nsbridge.kernel.rtnetlink import (
    IFINFO,
    IFLA_AF_SPEC,
    IFLA_GROUP,
    IFLA_IFALIAS,
    IFLA_IFNAME,
    IFLA_LINK,
    IFLA_LINK_NETNSID,
    IFLA_LINKINFO,
    IFLA_MTU,
    INET6,
    INFO_KIND,
    as_nsid,
    inet6_settings,
)


class Glance:
    """What tells links apart, read without the rest: a tenth of the time of `decode_link`.

    index, name, group; peer_index and peer_nsid as in `FoundLink`.
    """

    __slots__ = ("_found", "group", "index", "name", "peer_index", "peer_nsid")

    def __init__(self, body: bytes) -> None:
        self._found = found = attributes(body, IFINFO.size)
        self.index = as_u32(body[4:8])
        self.name = as_text(found[IFLA_IFNAME])
        self.group = as_u32(found[IFLA_GROUP]) if IFLA_GROUP in found else 0
        self.peer_index = as_u32(found[IFLA_LINK]) if IFLA_LINK in found else 0
        self.peer_nsid = as_nsid(found.get(IFLA_LINK_NETNSID))

    @property
    def inet6(self) -> tuple[int, ...]:
        """Its IPv6 settings by number (`INET6_SETTINGS`), empty without IPv6."""
        return inet6_settings(attributes(attributes(self._found.get(IFLA_AF_SPEC, b"")).get(INET6, b"")))

    @property
    def kind(self) -> str:
        """What it is: ``veth``, ``bridge``; empty for a device."""
        return as_text(attributes(self._found.get(IFLA_LINKINFO, b"")).get(INFO_KIND, b""))

    @property
    def mtu(self) -> int:
        """Its MTU in bytes."""
        return as_u32(self._found[IFLA_MTU]) if IFLA_MTU in self._found else 0

    @property
    def alias(self) -> str:
        """Its alias."""
        return as_text(self._found.get(IFLA_IFALIAS, b""))
