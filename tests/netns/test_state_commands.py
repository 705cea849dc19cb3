"""The command line and a file with all that this cluster brings, run for real."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from lab import sh

if TYPE_CHECKING:
    from pathlib import Path

    from commands import Command
    from lab import Lab

pytestmark = pytest.mark.netns


@pytest.mark.proves("row 9", "row 18", "row 24", "row 25", "row 97")
def test_options_of_connect_and_network_create(nb: Command, lab: Lab) -> None:
    lab.ns("one")
    nb("network", "create", "--subnet", "10.9.0.0/24", "--route", "10.50.0.0/16,10.9.0.254,7", "net")
    link = ("--ip", "10.9.0.7", "--ip", "10.9.0.8", "--link-local-ip", "169.254.7.7", "--host-ifname", "one0")
    nb("connect", *link, "--limit", "ingress=10Mbit", "--check-address", "--ifname", "lan0", "net", "one")
    (shown,) = json.loads(sh("ip -j address show lan0", lab.ns("one")).out)
    assert {"10.9.0.7", "10.9.0.8", "169.254.7.7"} <= {one["local"] for one in shown["addr_info"]}
    assert "rate 10Mbit" in sh("tc qdisc show dev one0").out
    assert "10.50.0.0/16 via 10.9.0.254" in sh("ip route", lab.ns("one")).out
    assert nb("connect", "--limit", "speed=1", "net", "one", check=False).status == 2
    nb("disconnect", "net", "one")
    nb("network", "rm", "net")


@pytest.mark.proves("row 4")
def test_an_unmanaged_bridge_by_option(nb: Command, lab: Lab) -> None:
    sh("ip link add br7 type bridge && ip address add 10.7.0.1/24 dev br7 && ip link set br7 up")
    nb("network", "create", "-o", "mode=unmanaged", "-o", "com.docker.network.bridge.name=br7", "lan")
    nb("run", "--net", "lan", "--", "ping", "-c1", "-W1", "10.7.0.1")
    nb("network", "rm", "lan")
    assert "br7" in sh("ip link").out


@pytest.mark.proves("row 9", "row 11", "row 25", "row 78", "row 90", "row 91", "row 97")
def test_a_file_with_two_networks(nb: Command, lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text("""\
name: lab
networks:
  front: {ipam: {config: [{subnet: 10.1.0.0/24}], routes: [{dst: 10.51.0.0/16, type: blackhole}]}}
  back: {ipam: {config: [{subnet: 10.2.0.0/24}]}}
services:
  web:
    networks:
      front: {interface_name: lan0, driver_opts: {limits.egress: 10Mbit}}
      back: {gw_priority: 1}
""")
    foreseen = nb("plan", "-f", str(path)).out
    for text in ("route blackhole 10.51.0.0/16", "limit of lan0: rate 10000000bit", "rule from 10.1.0.2/32 table"):
        assert text in foreseen
    nb("up", "-d", "-f", str(path))
    web = "/run/netns/web"
    routes = sh("ip route", web).out
    assert "default via 10.2.0.1" in routes
    assert "blackhole 10.51.0.0/16" in routes
    assert "rate 10Mbit" in sh("tc qdisc show dev lan0", web).out
    assert nb("diff", str(path)).status == 0
    sh("tc qdisc del dev lan0 root && ip rule del from 10.1.0.2 && ip route del blackhole 10.51.0.0/16", web)
    nb("up", "-d", "-f", str(path))
    assert "rate 10Mbit" in sh("tc qdisc show dev lan0", web).out
    assert "10.1.0.2" in sh("ip rule", web).out
    nb("down", "-f", str(path))
