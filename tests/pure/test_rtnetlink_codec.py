"""Messages without a kernel: what is encoded is decoded again, and pyroute2 reads it the same way."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsbridge.kernel import netlink, rtnetlink, rtroute, vlans
from nsbridge.state.things import Address, Link, Route

NS = "/run/netns/ns1"
v4 = st.ip_addresses(v=4).map(str)
v6 = st.ip_addresses(v=6).map(str)
interfaces = st.one_of(
    st.tuples(v4, st.integers(1, 32)).map(lambda p: ip_interface(f"{p[0]}/{p[1]}")),
    st.tuples(v6, st.integers(1, 128)).map(lambda p: ip_interface(f"{p[0]}/{p[1]}")),
)


def body(message: bytes) -> bytes:
    assert int.from_bytes(message[:4], "little") == len(message)
    return message[16:]


@given(interfaces)
def test_an_address_survives_the_wire(address):
    thing = Address(NS, "eth0", address)
    assert rtroute.decode_address(NS, body(rtroute.add_address(thing, 7)), {7: "eth0"}) == thing


@st.composite
def routes(draw):
    interface = draw(interfaces)
    same = v4 if interface.version == 4 else v6
    via = draw(st.one_of(st.none(), same.map(ip_address)))
    metric = draw(st.integers(0, 2**32 - 1).filter(lambda n: interface.version == 4 or n != 1024))
    return Route(NS, interface.network, "eth0", via, metric)


@given(routes())
def test_a_route_survives_the_wire(thing):
    found = rtroute.decode_route(NS, body(rtroute.add_route(thing, 7)), {7: "eth0"})
    assert found == (thing, rtroute.PROTOCOL)


@given(
    group=st.integers(0, 2**32 - 1),
    mtu=st.integers(1280, 65535),
    mac=st.binary(min_size=6, max_size=6).map(lambda b: b.hex(":")),
    up=st.booleans(),
)
def test_the_message_that_makes_a_link_says_what_the_link_is(group, mtu, mac, up):
    link = Link("", "nsb0123456789ab", "veth", group=group, mtu=mtu, mac=mac, up=up, peer_netns=NS, peer_name="eth0")
    message = rtnetlink.create_link(link, master=3, peer_fd=5)
    found = rtnetlink.decode_link("", body(message))
    assert found.link == link.replace(peer_netns="", peer_name="", autoconf=False)
    assert found.master_index == 3


def test_pyroute2_reads_the_pair_as_meant():
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

    inner = Link(NS, "eth0", "veth", mac="02:00:00:00:00:02", mtu=1400, group=9)
    outer = Link("", "nsb1", "veth", group=0x6E000007, master="br", hairpin=True, peer_netns=NS, peer_name="eth0")
    outer = outer.replace(alias="nsbridge: web", autoconf=False)
    made = rtnetlink.create_link(outer, master=7, peer=inner, peer_fd=11)
    later, addresses = rtnetlink.finish_link(outer, 8)
    one = ifinfmsg(made)
    one.decode()
    assert (one.get_attr("IFLA_IFNAME"), one.get_attr("IFLA_MASTER"), one.get_attr("IFLA_GROUP")) == (
        "nsb1",
        7,
        0x6E000007,
    )
    info = one.get_attr("IFLA_LINKINFO")
    assert info.get_attr("IFLA_INFO_KIND") == "veth"
    peer = info.get_attr("IFLA_INFO_DATA").get_attr("VETH_INFO_PEER")
    assert peer["flags"] == 0
    assert peer.get_attr("IFLA_IFNAME") == "eth0"
    assert peer.get_attr("IFLA_ADDRESS") == "02:00:00:00:00:02"
    assert (peer.get_attr("IFLA_MTU"), peer.get_attr("IFLA_NET_NS_FD"), peer.get_attr("IFLA_GROUP")) == (1400, 11, 9)
    two = ifinfmsg(later)
    two.decode()
    assert two.get_attr("IFLA_IFALIAS") == "nsbridge: web"
    slave = two.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_SLAVE_DATA")
    assert slave.get_attr("IFLA_BRPORT_MODE") == 1
    three = ifinfmsg(addresses)
    three.decode()
    inet6 = three.get_attr("IFLA_AF_SPEC").get_attr("AF_INET6")
    assert inet6.get_attr("IFLA_INET6_ADDR_GEN_MODE") == 1


def test_a_wanted_link_may_leave_mtu_and_mac_open():
    found = Link("", "br", "bridge", mtu=1500, mac="02:00:00:00:00:01", options=(("multicast_snooping", 0),))
    wanted = Link("", "br", "bridge", options=(("stp_state", 0), ("multicast_snooping", 0)))
    assert rtnetlink.fits(wanted, found)
    assert not rtnetlink.fits(wanted.replace(mtu=1400), found)
    assert not rtnetlink.fits(wanted.replace(options=()), found)


def test_an_unknown_bridge_option_is_named():
    with pytest.raises(ValueError, match="no_such_option"):
        rtnetlink.create_link(Link("", "br", "bridge", options=(("no_such_option", 1),)))


@given(st.binary(max_size=200))
def test_torn_attributes_end_the_list_quietly(data):
    for kind, value in netlink.attribute_list(data):
        assert 0 <= kind <= 0x3FFF
        assert value in data


def test_several_ways_become_one_route_each():
    ways = b"".join(
        (len(gw) + 8).to_bytes(2, "little") + bytes(2) + index.to_bytes(4, "little") + gw
        for index, gw in ((2, netlink.attr(5, bytes((10, 0, 0, 1)))), (3, netlink.attr(5, bytes((10, 1, 0, 1)))))
    )
    header = bytes((2, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0))
    found = rtroute.decode_routes("", header + netlink.attr(9, ways), {2: "a", 3: "b"})
    everywhere = ip_network("0.0.0.0/0")
    assert [route for route, _ in found] == [
        Route("", everywhere, "a", ip_address("10.0.0.1")),
        Route("", everywhere, "b", ip_address("10.1.0.1")),
    ]


@pytest.mark.proves("row 6")
def test_a_port_leaves_all_vlans_and_joins_one():
    """As `bridge vlan del dev v0 vid 1-4094` and `bridge vlan add dev v0 vid 5 pvid untagged` say it."""
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

    port = Link("", "nsb1", "veth", master="br", hairpin=True, vlan=5, autoconf=True)
    _, *about_vlans = rtnetlink.finish_link(port, 8)
    assert rtnetlink.change_link(port, 8, master=3)[-3:-1] == about_vlans
    seen = []
    for message in about_vlans:
        one = ifinfmsg(message)
        one.decode()
        entries = [entry["flags"] | entry["vid"] << 16 for _, entry in one.get_attr("IFLA_AF_SPEC")["attrs"]]
        seen.append((one["family"], one["index"], one["header"]["type"], [divmod(each, 1 << 16) for each in entries]))
    assert seen == [(7, 8, 17, [(1, 8), (4094, 16)]), (7, 8, 19, [(5, 6)])]
    assert vlans.decode(body(about_vlans[1])) == (8, 5)
    assert not [each for each in rtnetlink.finish_link(port.replace(vlan=0), 8) if each in about_vlans]


def test_a_ports_vlan_is_the_one_its_untagged_frames_belong_to():
    # What a kernel tells: RTM_NEWLINK of family AF_BRIDGE, each VLAN of the port an attribute.
    told = bytes.fromhex("07000000080000000000000000000000") + bytes.fromhex("14001a0008000200040007000800020006000500")
    assert vlans.decode(told) == (8, 5)
    assert vlans.decode(told[:16]) == (8, 0)


@pytest.mark.proves("row 6")
def test_a_bridge_that_keeps_vlans_apart_is_born_so():
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

    one = ifinfmsg(
        rtnetlink.create_link(Link("", "br", "bridge", options=(("vlan_default_pvid", 5), ("vlan_filtering", 1))))
    )
    one.decode()
    data = one.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_DATA")
    assert (data.get_attr("IFLA_BR_VLAN_FILTERING"), data.get_attr("IFLA_BR_VLAN_DEFAULT_PVID")) == (1, 5)
