"""Topologies drawn at random, and the states they should make: material for laws."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

from hypothesis import strategies as st

from nsbridge.desired.endpoint import endpoint_things
from nsbridge.desired.network import host_things, network_things
from nsbridge.desired.ports import ports_things
from nsbridge.kernel.interface import HostFacts
from nsbridge.model.endpoint import Endpoint, PublishedPort
from nsbridge.model.network import Network, Subnet
from nsbridge.state.kernel_state import KernelState
from nsbridge.state.things import ForeignAccept, Netns

FACTS = HostFacts(
    sysctls=(
        ("net/ipv4/ip_forward", "0"),
        ("net/ipv6/conf/all/forwarding", "0"),
        ("net/ipv6/conf/up0/accept_ra", "1"),
    ),
    droppers=(ForeignAccept("iptables-nft", why="its policy is drop"),),
)


@st.composite
def networks(draw: st.DrawFn, number: int) -> Network:
    subnets = []
    if draw(st.booleans()) or number == 0:
        subnets.append(Subnet(ip_network(f"10.{number}.0.0/24")))
    if draw(st.booleans()) or not subnets:
        subnets.append(Subnet(ip_network(f"fd00:{number}::/64")))
    return Network(
        f"net{number}",
        tuple(subnets),
        internal=draw(st.booleans()),
        icc=draw(st.booleans()),
        masquerade=draw(st.booleans()),
        mtu=draw(st.sampled_from((1400, 1500, 9000))),
    )


@st.composite
def endpoints(draw: st.DrawFn, network: Network, number: int) -> Endpoint:
    last = draw(st.integers(2, 250))
    addresses = tuple(ip_interface(f"{subnet.network[last]}/{subnet.network.prefixlen}") for subnet in network.subnets)
    ports = []
    if not network.internal:
        for host_port in draw(st.sets(st.integers(number * 1000 + 1, number * 1000 + 999), max_size=3)):
            bound = draw(st.sampled_from((None, "127.0.0.1"))) if network.subnet(4) else None
            proto = draw(st.sampled_from(("tcp", "udp")))
            ports.append(PublishedPort(80, host_port, proto, ip_address(bound) if bound else None))
    return Endpoint(
        network.name,
        f"ep{number}",
        f"/run/netns/ep{number}",
        addresses=addresses,
        mac=f"02:00:00:00:{number:02x}:{last:02x}",
        ports=tuple(ports),
        gateway=draw(st.sampled_from([(), (4,), (6,), (4, 6)])),
    )


@st.composite
def states(draw: st.DrawFn) -> KernelState:
    """What a host holds for a few networks with a few endpoints each; empty too."""
    count = draw(st.integers(0, 3))
    nets = [draw(networks(number)) for number in range(count)]
    things = list(host_things(nets, FACTS))
    number = 0
    for index, network in enumerate(nets):
        things += network_things(network, network.mtu)
        for _ in range(draw(st.integers(0, 2))):
            number += 1
            endpoint = draw(endpoints(network, number))
            things.append(Netns(endpoint.netns, why="a service"))
            things += endpoint_things(network, endpoint, mtu=network.mtu, bridge_index=index + 2)
            things += ports_things(network, endpoint)
    return KernelState(things)
