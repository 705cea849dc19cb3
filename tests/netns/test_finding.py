"""Finding much at once is finding each thing alone, whatever way the kernel is asked."""

from __future__ import annotations

import random
from ipaddress import ip_interface

import pytest
from lab import FreshHost, sh

from nsbridge.desired.endpoint import endpoint_things
from nsbridge.engine.endpoints import Wish, connect
from nsbridge.engine.networks import create
from nsbridge.kernel import finding
from nsbridge.kernel.linux import LinuxKernel
from nsbridge.model.network import Network
from nsbridge.model.service import Attachment
from nsbridge.state.things import Address, Link, Netns, Sysctl
from nsbridge.wiring import open_host

pytestmark = pytest.mark.netns

COUNT = 6


def test_lists_and_single_questions_agree(host: FreshHost, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = open_host(lambda text: None)
    net = create(ours, Network("lab", ipv6=True))
    places = [host.netns(f"n{number}") for number in range(COUNT)]
    made = [connect(ours, Wish(f"e{number}", path, Attachment("lab"))) for number, path in enumerate(places)]
    index = ours.kernel.link_index(net.ifname)
    things = [thing for each in made for thing in endpoint_things(net, each, mtu=net.mtu, bridge_index=index)]
    strange = [
        Link("", "nsbabsent", "veth"),
        Link(places[0], "eth7", "veth"),
        Address(places[1], "eth0", ip_interface("10.9.8.7/24")),
        Sysctl(places[2], "net/ipv6/conf/eth0/accept_ra", "1"),
        Sysctl(places[2], "net/ipv6/conf/eth7/accept_ra", "1"),
        Netns("/run/netns/none"),
        Netns(places[3]),  # somebody else made it
        Link("/run/netns/none", "eth0", "veth"),
    ]
    # Of two the inner end is gone, and another link has its name; a link of somebody else's has a name of ours.
    sh(f"""set -e
    ip -n n4 link del eth0; ip -n n4 link add eth0 type veth peer name eth1
    ip link del {made[5].host_ifname}; ip link add {made[5].host_ifname} type bridge""")
    random.Random(7).shuffle(things)
    wanted = [thing for thing in (*things, *strange) if LinuxKernel().find([thing])]
    gone = {made[4].host_ifname, made[5].host_ifname, places[4], places[5]}
    assert len(wanted) > COUNT * 4
    assert not [thing for thing in wanted if isinstance(thing, Link) and gone & {thing.name, thing.netns}]
    assert list(LinuxKernel().find([*things, *strange])) == wanted
    monkeypatch.setattr(finding, "MANY", 0)  # everything by lists
    assert list(LinuxKernel().find([*things, *strange])) == wanted
