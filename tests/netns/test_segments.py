"""VLANs and VRFs: with real packets where the kernel has them, refused before anything is changed where it hasn't."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

import pytest
from lab import eventually
from test_state_links import NET4, join, made, still

from nsbridge.engine import networks, topology
from nsbridge.errors import InvalidIntent, Unsupported
from nsbridge.model.network import Network, Subnet
from nsbridge.model.service import Attachment, Service, Topology
from nsbridge.wiring import open_host

if TYPE_CHECKING:
    from lab import Lab

    from nsbridge.engine.host import Host

pytestmark = pytest.mark.netns


def has_vlans(host: Host) -> bool:
    try:
        host.kernel.require("vlan_filtering")
    except Unsupported:
        return False
    return True


def reaches(lab: Lab, start: str, address: str) -> bool:
    return bool(eventually(lambda: lab.sh(f"ping -c1 -W1 {address}", start, check=False).status == 0, timeout_s=1))


@pytest.mark.proves("row 6")
def test_a_network_in_a_vlan_or_a_word_why_not(lab: Lab) -> None:
    host = open_host()
    before = still()
    if not has_vlans(host):
        said = "this kernel has no vlan_filtering, so no VLANs on bridge ports"
        with pytest.raises(Unsupported, match=said):
            networks.create(host, Network("net", (NET4,), vlan=5))
        service = Service("web", attachments=(Attachment("net", vlan=5),), project="p")
        with pytest.raises(Unsupported, match=said):
            topology.up(host, Topology("p", (Network("net", project="p"),), (service,)))
        assert still() == before
        pytest.skip("this kernel has no bridge VLAN filtering: only the refusal was tested")
    networks.create(host, Network("net", (NET4,), vlan=5))
    one, two = (join(host, lab, name) for name in ("one", "two"))
    assert reaches(lab, "one", str(two.addresses[0].ip))
    assert reaches(lab, "one", "10.9.0.1")
    assert "5 PVID Egress Untagged" in lab.sh(f"bridge vlan show dev {one.host_ifname}").out
    assert not [thing for thing in host.kernel.observe([]) if getattr(thing, "vlan", 5) not in (0, 5)]


@pytest.mark.proves("row 6")
def test_vlans_of_somebody_elses_bridge(lab: Lab) -> None:
    lab.sh("ip link add br7 type bridge && ip address add 10.7.0.1/24 dev br7 && ip link set br7 up")
    host = made(Network("lan", bridge="br7", unmanaged=True))
    if not has_vlans(host):
        with pytest.raises(Unsupported, match="no vlan_filtering"):
            join(host, lab, "one", "lan", vlan=5)
        assert host.store.endpoint("lan", "one") is None
        pytest.skip("this kernel has no bridge VLAN filtering: only the refusal was tested")
    with pytest.raises(InvalidIntent, match="doesn't keep VLANs apart"):
        join(host, lab, "one", "lan", vlan=5)
    lab.sh("ip link set br7 type bridge vlan_filtering 1")
    one, two, three = (join(host, lab, name, "lan", vlan=vlan) for name, vlan in (("one", 5), ("two", 5), ("three", 6)))
    assert reaches(lab, "one", str(two.addresses[0].ip))
    assert not reaches(lab, "one", str(three.addresses[0].ip))
    assert "\n" not in lab.sh(f"bridge -c vlan show dev {one.host_ifname} | tail -n +3").out.strip()  # no VLAN 1 left


def test_a_vlan_needs_a_bridge_that_has_it(lab: Lab) -> None:
    with pytest.raises(InvalidIntent, match=r"parent: up0\.5"):
        Network("wire", bridge="up0", unmanaged=True, driver="macvlan", vlan=5)
    with pytest.raises(InvalidIntent, match="VLAN is 4095"):
        Network("net", vlan=4095)
    with pytest.raises(InvalidIntent, match="VLAN is 5000"):
        Attachment("net", vlan=5000)


@pytest.mark.proves("row 7")
def test_a_vrf_is_for_bridges_of_others(lab: Lab) -> None:
    with pytest.raises(InvalidIntent, match="can't put a bridge of ours into VRF 'red'"):
        Network("net", vrf="red")
    lab.sh("ip link add br7 type bridge && ip address add 10.7.0.1/24 dev br7 && ip link set br7 up")
    host = open_host()
    before = still()
    subnets = (Subnet(ip_network("10.7.0.0/24"), gateway=ip_address("10.7.0.1")),)
    wanted = Network("lan", subnets, bridge="br7", unmanaged=True, vrf="red")
    with pytest.raises(InvalidIntent, match="'br7' is not in VRF 'red'"):
        networks.create(host, wanted)
    assert still() == before
    if lab.sh("ip link add red type vrf table 10 && ip link set red up", check=False).status:
        pytest.skip("this kernel has no VRF: only the refusal was tested")
    lab.sh("ip link set br7 master red")
    networks.create(host, wanted)
    one, two = (join(host, lab, name, "lan") for name in ("one", "two"))
    assert reaches(lab, "one", str(two.addresses[0].ip))
    assert reaches(lab, "one", "10.7.0.1")
    assert one.network == "lan"


def test_there_is_no_driver_without_a_bridge_and_a_word_what_instead(lab: Lab) -> None:
    with pytest.raises(InvalidIntent, match="there is no driver 'ptp'") as caught:
        Network("net", driver="ptp")
    assert "icc off" in caught.value.fix
    # What ptp is wanted for: members meet only by the host, which lets them meet nobody.
    host = made(Network("net", (NET4,), icc=False))
    _, two = (join(host, lab, name) for name in ("one", "two"))
    assert reaches(lab, "one", "10.9.0.1")
    assert not reaches(lab, "one", str(two.addresses[0].ip))
