"""The world that demonstrations are shown in: made without `ip`, judged by it, and nobody's but the host's own."""

from __future__ import annotations

import json

import pytest
from lab import FreshHost, ask, sh

from nsbridge.errors import InvalidIntent
from nsbridge.kernel import throwaway
from nsbridge.kernel.linux import LinuxKernel

pytestmark = pytest.mark.netns


@pytest.fixture
def world(host: FreshHost) -> LinuxKernel:
    kernel = LinuxKernel()
    host.registered.add(throwaway.OUTSIDE)
    throwaway.build(kernel)
    return kernel


def test_packets_cross_in_both_families(world: LinuxKernel) -> None:
    for address in (throwaway.OUTSIDE4, throwaway.OUTSIDE6):
        sh(f"ping -c1 -W2 {address}")
        assert ask("http", address, 80, b"", None, 1.0).error == "Connection refused"
    for address in (throwaway.HOST4, throwaway.HOST6):
        sh(f"ping -c1 -W2 {address}", throwaway.OUTSIDE)


def test_the_host_goes_out_through_outside_which_knows_no_way_back(world: LinuxKernel) -> None:
    routes = [json.loads(sh(f"ip -j {family} route show default").out) for family in ("-4", "-6")]
    assert [(one["gateway"], one["dev"]) for (one,) in routes] == [
        (throwaway.OUTSIDE4, throwaway.UPLINK),
        (throwaway.OUTSIDE6, throwaway.UPLINK),
    ]
    assert sh("ip route show default; ip -6 route show default", throwaway.OUTSIDE).out == ""


def test_nothing_of_it_carries_our_marks(world: LinuxKernel) -> None:
    links = json.loads(sh("ip -j -d link").out)
    assert {link["group"] for link in links} == {"default"}
    assert "proto 110" not in sh("ip route; ip -6 route").out
    assert world.find((throwaway.uplink(),)) == ()


def test_the_hosts_own_firewall_drops_what_is_forwarded(world: LinuxKernel) -> None:
    listing = json.loads(sh("nft -j list ruleset").out)["nftables"]
    (chain,) = [one["chain"] for one in listing if "chain" in one]
    assert (chain["family"], chain["table"]) == throwaway.THEIRS
    assert (chain["hook"], chain["prio"], chain["policy"], chain["type"]) == ("forward", 0, "drop", "filter")


def test_it_is_built_nowhere_else(host: FreshHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NSBRIDGE_SANDBOX")
    with pytest.raises(InvalidIntent, match="only inside a throwaway host"):
        throwaway.build(LinuxKernel())
    assert len(json.loads(sh("ip -j link").out)) == 1
