"""The harness itself: what other tests rely on."""

from __future__ import annotations

import os
import subprocess

import lab as laboratory
import pytest
from lab import HOST4, HOST6, OUTSIDE, OUTSIDE4, OUTSIDE6, POLICIES, FreshHost, Lab, inode

from nsbridge.kernel.sandbox import in_sandbox

pytestmark = pytest.mark.netns


def test_the_host_is_empty_and_not_the_machine(host: FreshHost) -> None:
    assert in_sandbox()
    assert os.listdir("/run") == ["netns"]
    assert os.listdir("/sys/class/net") == ["lo"]
    assert laboratory.sh("ip -br link").out.startswith("lo               UNKNOWN")
    assert host.inode == inode()


def test_each_test_gets_another_host() -> None:
    with FreshHost() as first:
        number = first.inode
        laboratory.sh("ip link add br0 type bridge")
    home = inode()
    with FreshHost() as second:
        assert len({number, second.inode, home}) == 3
        assert "br0" not in laboratory.sh("ip link").out
    assert inode() == home


def test_a_forgotten_process_is_found_and_ended() -> None:
    with pytest.raises(AssertionError, match=r"left behind.*sleep 1234"), FreshHost():
        child = subprocess.Popen(["sleep", "1234"])
    assert child.wait(5) == -9


def test_a_forgotten_namespace_is_found_and_unmounted() -> None:
    with pytest.raises(AssertionError, match=r"left mounted.*forgotten"), FreshHost():
        laboratory.sh("ip netns add forgotten")
    assert laboratory.mounted_namespaces() == []


def test_requests_cross_between_host_and_outside(lab: Lab) -> None:
    lab.serve("web", "http:80", "tcp:7", "udp:7")
    lab.serve("far", "http:80", ns=OUTSIDE)
    for near, far in ((HOST4, OUTSIDE4), (HOST6, OUTSIDE6)):
        url = f"[{near}]" if ":" in near else near
        reply = lab.get(f"http://{url}/x", OUTSIDE)
        assert (reply.status, reply.source, reply.server) == (200, far, "web")
        assert lab.tcp(near, 7, OUTSIDE).source == far
        assert lab.udp(near, 7, OUTSIDE).source == far
        assert lab.get(f"http://{f'[{far}]' if ':' in far else far}/").source == near


def test_no_answer_is_told_apart_from_refusal(lab: Lab) -> None:
    assert lab.get(f"http://{HOST4}:81/", OUTSIDE).error == "Connection refused"
    lab.sh("nft add table inet x; nft 'add chain inet x i { type filter hook input priority 0; }'")
    lab.sh("nft add rule inet x i tcp dport 82 drop")
    assert lab.get(f"http://{HOST4}:82/", OUTSIDE, timeout_s=0.2).error == "no answer"


@pytest.mark.parametrize("lab", POLICIES, indirect=True)
def test_a_dropping_host_forwards_nothing(lab: Lab) -> None:
    lab.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
    lab.ns("behind")
    lab.sh(
        "ip link add in0 type veth peer name eth0 netns behind; ip addr add 10.9.0.1/24 dev in0; ip link set in0 up;"
        "ip -6 addr add fd09::1/64 dev in0 nodad; ip -n behind addr add 10.9.0.2/24 dev eth0;"
        "ip -n behind addr add fd09::2/64 dev eth0 nodad; ip -n behind link set eth0 up;"
        "ip -n behind route add default via 10.9.0.1; ip -n behind -6 route add default via fd09::1;"
        f"ip -n {OUTSIDE} route add 10.9.0.0/24 via {HOST4}; ip -n {OUTSIDE} -6 route add fd09::/64 via {HOST6}"
    )
    lab.serve("far", "http:80", ns=OUTSIDE)
    allowed = lab.policy == "none"
    for url in (f"http://{OUTSIDE4}/", f"http://[{OUTSIDE6}]/"):
        assert bool(lab.get(url, "behind", timeout_s=3 if allowed else 0.3)) is allowed


def test_snapshot_is_steady_and_sees_changes(lab: Lab) -> None:
    before = lab.snapshot()
    lab.get(f"http://{OUTSIDE4}/")
    assert lab.snapshot() == before
    for change, undo, where in (
        ("ip link add br0 type bridge", "ip link del br0", "link"),
        ("sysctl -qw net.ipv4.ip_forward=1", "sysctl -qw net.ipv4.ip_forward=0", "sysctl"),
        ("nft add table inet nsbridge", "nft delete table inet nsbridge", "nft"),
        ("mkdir /run/nsbridge; touch /run/nsbridge/x", "rm -r /run/nsbridge", "/run/nsbridge/x"),
        ("ip netns add y", "ip netns del y", "netns"),
    ):
        lab.sh(change)
        changed = set(before.splitlines()) ^ set(lab.snapshot().splitlines())
        assert where in {line.split("|")[0] for line in changed}
        lab.sh(undo)
        assert lab.snapshot() == before
