"""LinuxKernel does what every Kernel must: the suite that tests/pure/test_fake_kernel.py runs over the fake one."""

from __future__ import annotations

import socket
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest
from conformance import SPACE, KernelConformance
from lab import FreshHost, sh

from nsbridge.kernel.linux import LinuxKernel

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.netns


@contextmanager
def fresh() -> Iterator[LinuxKernel]:
    with FreshHost() as host, ExitStack() as held:
        host.netns(SPACE.rpartition("/")[2])
        sh("""set -e
        ip link add up0 type veth peer name up1
        ip link set up1 up
        ip link set up0 up
        ip address add 198.51.100.1/24 dev up0
        ip route add default via 198.51.100.2
        ip -6 route add default dev up0
        echo 1 > /proc/sys/net/ipv6/conf/up0/accept_ra
        iptables-nft -P FORWARD DROP""")
        for kind, address, port in ((socket.SOCK_STREAM, "0.0.0.0", 22), (socket.SOCK_DGRAM, "127.0.0.1", 53)):
            sock = held.enter_context(socket.socket(socket.AF_INET, kind))
            sock.bind((address, port))
            if kind == socket.SOCK_STREAM:
                sock.listen()
        yield LinuxKernel()


class TestLinuxKernel(KernelConformance):
    fresh = staticmethod(fresh)
    examples = 25
