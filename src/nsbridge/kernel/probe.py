"""What this kernel can do, found out by doing it in a namespace that goes at once: nothing of the host is touched."""

from __future__ import annotations

import os

from nsbridge.errors import NsbridgeError, Unsupported
from nsbridge.kernel import libc, netns, rtnetlink, tc
from nsbridge.kernel.apply import find_index
from nsbridge.kernel.netlink import ROUTE, NetlinkSocket
from nsbridge.state.things import HOST, Link, Shaper

PARENT = Link(HOST, "parent", "veth", peer_name="other")
FEATURES: dict[str, tuple[Shaper | Link, str, str]] = {
    "tbf": (Shaper(HOST, "lo", rate=8_000_000), "limits of bandwidth", "sch_tbf"),
    "netem": (Shaper(HOST, "lo", delay=1000), "delay, jitter and loss", "sch_netem"),
    "macvlan": (Link(HOST, "child", "macvlan", mode="bridge", parent="parent"), "macvlan networks", "macvlan"),
    "vlan_filtering": (
        Link(HOST, "bridge", "bridge", options=(("vlan_filtering", 1),)),
        "VLANs on bridge ports",
        "CONFIG_BRIDGE_VLAN_FILTERING",
    ),
    "ipvlan": (Link(HOST, "child", "ipvlan", mode="l2", parent="parent"), "ipvlan networks", "ipvlan"),
}
"""By name: what is tried on a loopback, a pair or alone, what people call it, and its kernel module or option."""


def require(feature: str) -> None:
    """Raise Unsupported unless this kernel has that feature."""
    thing, said, module = FEATURES[feature]

    def attempt() -> None:
        libc.unshare()
        with NetlinkSocket(ROUTE) as sock:
            if isinstance(thing, Shaper):
                sock.transact([tc.add_shaper(thing, 1)])
                return
            if not thing.parent:
                sock.transact([rtnetlink.create_link(thing)])
                return
            sock.transact([rtnetlink.create_link(PARENT)])
            own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                sock.transact([rtnetlink.create_child(thing, find_index(sock, PARENT.name), own)])
            finally:
                os.close(own)

    try:
        netns.in_thread(attempt)
    except OSError as err:
        if isinstance(err, NsbridgeError):
            raise
        raise Unsupported(
            f"this kernel has no {feature}, so no {said}: {err.strerror}",
            fix=f"use a kernel built with {module}, or leave {said} out"
            if module.startswith("CONFIG_")
            else f"`modprobe {module}`, use a kernel built with it, or leave {said} out",
        ) from err
