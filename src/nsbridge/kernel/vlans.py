"""The VLANs of bridge ports as rtnetlink messages, and back: family AF_BRIDGE (<linux/if_bridge.h>).

A port is in one VLAN alone: what comes out of it untagged belongs to that one (PVID), and what goes in has its tag
removed. Every port is born in the bridge's default VLAN, which it would go on hearing; so it leaves all of them first.
Nothing passes in between, since its other end isn't up yet.

Pure: values in, bytes out. A kernel without CONFIG_BRIDGE_VLAN_FILTERING answers EOPNOTSUPP (kernel/probe.py).
"""

from __future__ import annotations

from _struct import Struct

from nsbridge.kernel.netlink import attr, attribute_list, message, nested, u32

AF_BRIDGE = 7
_SETLINK, _DELLINK, _GETLINK = 19, 17, 18
_IFINFO = Struct("=BxHiII")
_AF_SPEC, _EXT_MASK = 26, 29
_VLAN_INFO = 2
_ENTRY = Struct("=HH")
"""struct bridge_vlan_info: flags, number."""
PVID, UNTAGGED, RANGE_BEGIN, RANGE_END = 2, 4, 8, 16
_FILTER_VLANS = 2
"""RTEXT_FILTER_BRVLAN: tell the VLANs of each port, without which they are left out."""
LAST = 4094


def _message(kind: int, index: int, *entries: tuple[int, int]) -> bytes:
    spec = nested(_AF_SPEC, *(attr(_VLAN_INFO, _ENTRY.pack(*entry)) for entry in entries))
    return message(kind, 0, _IFINFO.pack(AF_BRIDGE, 0, index, 0, 0) + spec)


def give(index: int, vlan: int) -> list[bytes]:
    """The messages that put a bridge port into one VLAN and no other."""
    none = _message(_DELLINK, index, (RANGE_BEGIN, 1), (RANGE_END, LAST))
    return [none, _message(_SETLINK, index, (PVID | UNTAGGED, vlan))]


def get() -> bytes:
    """Ask for the VLANs of all ports of all bridges."""
    return message(_GETLINK, 0, _IFINFO.pack(AF_BRIDGE, 0, 0, 0, 0) + u32(_EXT_MASK, _FILTER_VLANS))


def decode(body: bytes) -> tuple[int, int]:
    """Read one answer: the port's index, and the VLAN that its untagged frames belong to, 0 for none."""
    index = _IFINFO.unpack_from(body)[2]
    for kind, value in attribute_list(body, _IFINFO.size):
        if kind == _AF_SPEC:
            for inner, entry in attribute_list(value):
                flags, vlan = _ENTRY.unpack_from(entry) if inner == _VLAN_INFO else (0, 0)
                if flags & PVID:
                    return index, vlan
    return index, 0
