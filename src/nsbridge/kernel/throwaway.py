"""A small world around a throwaway host: a client outside it, and a firewall of its own that drops.

      outside (namespace)                       the throwaway host
      eth0 198.51.100.2  ───── veth pair ─────  up0 198.51.100.1
           2001:db8:1::2                            2001:db8:1::1, default routes through outside

Outside knows no way to the networks behind the host, as the internet doesn't. The addresses are those kept for
documentation (RFC 5737, RFC 3849). All of it is made by nsbridge's own kernel layer, so a demonstration needs
no `ip` and no `nft`, but nothing carries our marks: to nsbridge it is somebody else's, as on a real host.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

from nsbridge.errors import InvalidIntent
from nsbridge.kernel import nftmessage, rtroute, sandbox, sysctl
from nsbridge.kernel import nftschema as nf
from nsbridge.kernel.apply import index_of
from nsbridge.kernel.linux import LinuxKernel
from nsbridge.kernel.netlink import CREATE, EXCL, be32, message, nested, text
from nsbridge.plan.step import Step
from nsbridge.state.things import HOST, Address, Link, Netns, Route

OUTSIDE = "/run/netns/outside"
UPLINK = "up0"
HOST4, HOST6 = "198.51.100.1", "2001:db8:1::1"
OUTSIDE4, OUTSIDE6 = "198.51.100.2", "2001:db8:1::2"
THEIRS = ("inet", "theirs")
"""The host's own firewall: one table with one forward chain whose policy is drop."""

_STATIC = 4
"""RTPROT_STATIC: a route an administrator made (<linux/rtnetlink.h>)."""


def uplink() -> Link:
    """The host's link to the world, without our mark (group 0); its other end is outside's eth0."""
    return Link(HOST, UPLINK, "veth", peer_netns=OUTSIDE, peer_name="eth0")


def build(kernel: LinuxKernel, *, drop: bool = True) -> None:
    """Make the world around the sandbox this thread lives in; InvalidIntent anywhere else.

    drop: the host's own forward chain drops, as ufw's or Docker's does.
    """
    if not sandbox.in_sandbox():
        raise InvalidIntent(
            "this builds links and routes, so it runs only inside a throwaway host",
            fix="run it under `python -m nsbridge.kernel.sandbox --`",
        )
    inner = Link(OUTSIDE, "eth0", "veth")
    addresses = [
        Address(where, name, ip_interface(text))
        for where, name, texts in (
            (HOST, UPLINK, (f"{HOST4}/24", f"{HOST6}/64")),
            (OUTSIDE, "eth0", (f"{OUTSIDE4}/24", f"{OUTSIDE6}/64")),
        )
        for text in texts
    ]
    kernel.do(Step("add", (Netns(OUTSIDE), uplink(), inner, *addresses)))
    index = index_of(kernel.route, UPLINK)
    # Not as a step: its routes carry our protocol number, by which `gc` would know them as ours.
    kernel.route.transact(
        [
            rtroute.add_route(Route(HOST, ip_network(to), UPLINK, via=ip_address(via)), index, protocol=_STATIC)
            for to, via in (("0.0.0.0/0", OUTSIDE4), ("::/0", OUTSIDE6))
            if "." in to or sysctl.read("net/ipv6/conf/all/disable_ipv6")
        ]
    )
    if drop:
        drop_forwarded(kernel)


def drop_forwarded(kernel: LinuxKernel) -> None:
    """Give the host a firewall of its own that forwards nothing: ``table inet theirs``."""
    family, table = THEIRS
    head = nftmessage.header(family)
    hook = nested(4, be32(1, nf.HOOKS["forward"]), be32(2, 0))
    kernel.nft.write(
        [
            message(nf.NEWTABLE, CREATE | EXCL, head + text(1, table)),
            message(
                nf.NEWCHAIN,
                CREATE | EXCL,
                head + text(1, table) + text(3, "forward") + hook + be32(5, nf.DROP) + text(7, "filter"),
            ),
        ]
    )
