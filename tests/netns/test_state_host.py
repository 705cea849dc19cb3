"""What endpoints and names must not do to the host: router advertisements (S11, S12), settings put back (S24), S25."""

from __future__ import annotations

import json
import socket
import struct
from ipaddress import IPv6Address, ip_network
from pathlib import Path
from typing import Any

import pytest
from lab import OUTSIDE, Lab, eventually, inside, sh

from nsbridge.engine import doctor, endpoints, networks
from nsbridge.engine.endpoints import Wish
from nsbridge.kernel.sysctl import write
from nsbridge.model.network import Network, Subnet
from nsbridge.model.service import Attachment
from nsbridge.wiring import open_host

pytestmark = pytest.mark.netns

ALL_NODES = "ff02::1"


def advertise(ns: str, link: str, prefix: str = "") -> None:
    """Send a router advertisement (RFC 4861 §4.2) from a namespace: a default route for 600 s, and a prefix."""
    body = struct.pack(">BBHBBHII", 134, 0, 0, 64, 0, 600, 0, 0)
    if prefix:
        body += struct.pack(">BBBBIII16s", 3, 4, 64, 0xC0, 600, 600, 0, IPv6Address(prefix).packed)

    def send() -> None:
        with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sock:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
            sock.sendto(body, (ALL_NODES, 0, 0, socket.if_nametoindex(link)))

    inside(f"/run/netns/{ns}", send)


def ra_routes(link: str) -> list[Any]:
    found = json.loads(sh("ip -6 -j route show default").out or "[]")
    return [one for one in found if one["dev"] == link and one["protocol"] == "ra"]


def ready(lab: Lab, ns: str, link: str = "eth0") -> None:
    """Give the link a link-local address at once: a router advertisement comes from one."""
    lab.sh(f"echo 0 > /proc/sys/net/ipv6/conf/{link}/addr_gen_mode; ip link set {link} down; ip link set {link} up", ns)
    lab.sh(f"ip -6 addr add fe80::99/64 dev {link} nodad", ns, check=False)


@pytest.mark.proves("S12")
def test_the_host_keeps_the_route_its_router_advertises(lab: Lab) -> None:
    sh("ip -6 route del default dev up0")
    sh("echo 1 > /proc/sys/net/ipv6/conf/up0/accept_ra")
    ready(lab, OUTSIDE)
    assert eventually(lambda: advertise(OUTSIDE, "eth0") or ra_routes("up0"))
    host = open_host()
    networks.create(host, Network("net", (Subnet(ip_network("fd09::/64")),)))
    assert Path("/proc/sys/net/ipv6/conf/all/forwarding").read_text() == "1\n"
    assert ra_routes("up0")
    sh("ip -6 route flush proto ra")
    assert eventually(lambda: advertise(OUTSIDE, "eth0") or ra_routes("up0"))
    # Without the guard the next advertisement is ignored, and the route ends with its lifetime.
    write("net/ipv6/conf/up0/accept_ra", "1")
    sh("ip -6 route flush proto ra")
    assert not eventually(lambda: advertise(OUTSIDE, "eth0") or ra_routes("up0"), timeout_s=0.3)
    networks.remove(host, "net")
    assert Path("/proc/sys/net/ipv6/conf/all/forwarding").read_text() == "0\n"


@pytest.mark.proves("S11")
def test_an_endpoint_cannot_advertise_itself_as_the_hosts_router(lab: Lab) -> None:
    host = open_host()
    # The guards of ports stop advertisements too, so they are off: here it is about the bridge's own setting.
    networks.create(host, Network("net", (Subnet(ip_network("fd09::/64")),), ipv6_filtering=False))
    endpoints.connect(host, Wish("rogue", lab.ns("rogue"), Attachment("net")))
    endpoints.connect(host, Wish("victim", lab.ns("victim"), Attachment("net")))
    lab.sh("ip -6 addr add fe80::99/64 dev eth0 nodad", "rogue")
    inner = "ip -6 -j route show default proto ra"

    def fooled() -> bool:
        advertise("rogue", "eth0", "fdbb::")
        return bool(ra_routes("nsb-net") or json.loads(lab.sh(inner, "victim").out or "[]"))

    assert not eventually(fooled, timeout_s=0.3)
    # The guard is a setting of the bridge; without it the host follows the endpoint.
    write("net/ipv6/conf/nsb-net/accept_ra", "2")
    assert eventually(fooled)


@pytest.mark.proves("S24")
def test_doctor_sees_settings_that_somebody_put_back(lab: Lab) -> None:
    host = open_host()
    networks.create(host, Network("net", (Subnet(ip_network("10.9.0.0/24")), Subnet(ip_network("fd09::/64")))))
    assert not [one for one in doctor.examine(host) if one.level == "error"]
    for key in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):  # as systemd-sysctl does
        write(key, "0")
        (found,) = [one for one in doctor.examine(host) if one.level == "error"]
        assert key.replace("/", ".") in found.what
        write(key, "1")
    write("net/ipv4/conf/nsb-net/route_localnet", "0")
    assert [one for one in doctor.examine(host) if one.level == "error"]


@pytest.mark.proves("S25")
def test_labels_are_free_text_and_reach_neither_the_kernel_nor_hosts_files(lab: Lab) -> None:
    host = open_host()
    evil = '"; add rule inet nsbridge guard accept\n10.0.0.1 evil'
    networks.create(host, Network("net", (Subnet(ip_network("10.9.0.0/24")),), labels=((evil, evil),)))
    endpoints.connect(host, Wish("one", lab.ns("one"), Attachment("net")))
    seen = sh("nft list ruleset; ip -d link").out
    seen += "".join(path.read_text() for path in Path(host.store.root, "hosts").rglob("*") if path.is_file())
    assert "evil" not in seen
    assert host.store.network("net").labels == ((evil, evil),)
