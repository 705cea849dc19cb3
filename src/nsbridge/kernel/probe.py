"""What this kernel can do, found out by doing it in a namespace that goes at once: nothing of the host is touched."""

from __future__ import annotations

from nsbridge.errors import NsbridgeError, Unsupported
from nsbridge.kernel import libc, netns, tc
from nsbridge.kernel.netlink import ROUTE, NetlinkSocket
from nsbridge.state.things import HOST, Shaper

FEATURES = {
    "tbf": (Shaper(HOST, "lo", rate=8_000_000), "limits of bandwidth", "sch_tbf"),
    "netem": (Shaper(HOST, "lo", delay=1000), "delay, jitter and loss", "sch_netem"),
}
"""By name: what is tried on a loopback, what people call it, and the kernel module it is in."""


def require(feature: str) -> None:
    """Raise Unsupported unless this kernel has that feature."""
    shaper, said, module = FEATURES[feature]

    def attempt() -> None:
        libc.unshare()
        with NetlinkSocket(ROUTE) as sock:
            sock.transact([tc.add_shaper(shaper, 1)])

    try:
        netns.in_thread(attempt)
    except OSError as err:
        if isinstance(err, NsbridgeError):
            raise
        raise Unsupported(
            f"this kernel has no {feature}, so no {said}: {err.strerror}",
            fix=f"`modprobe {module}`, use a kernel built with it, or leave {said} out",
        ) from err
