"""The command's verbs about networks, endpoints and the host, each run for real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from commands import NSBRIDGE, Command, port_record, settled
from lab import HOST4, HOST6, FreshHost, Lab, sh

from nsbridge.frontends.cli.table import verbs

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.netns


def fields(verb: str) -> set[str]:
    """The names that a verb's help documents."""
    return {name for one in verbs() if one.name == verb for name, _ in one.fields}


def ip(arguments: str) -> Any:
    return json.loads(sh(f"ip -j {arguments}").out)


@pytest.fixture
def sleeper(host: FreshHost) -> Iterator[int]:
    """A process in a namespace without a name, as a container engine would make one."""
    code = "import ctypes, time; assert not ctypes.CDLL(None).unshare(0x40000000); print('ready', flush=True)"
    code += "; time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process.pid
    process.kill()
    process.communicate()


@pytest.mark.proves("row 1", "row 73")
def test_a_network_comes_and_goes(nb: Command) -> None:
    before = settled()
    options = ("--subnet", "10.9.0.0/24", "--subnet", "fd00:9::/64", "--gateway", "10.9.0.9", "--mtu", "1400")
    done = nb(
        "network", "create", *options, "--bridge", "br9", "--label", "who=me", "--aux-address", "a=10.9.0.7", "lab"
    )
    assert done.out == "lab\n"
    assert "set net.ipv4.ip_forward=1 (was 0)" in done.err
    (link,) = ip("-d address show br9")
    assert link["mtu"] == 1400
    assert {address["local"] for address in link["addr_info"]} >= {"10.9.0.9", "fd00:9::1"}

    (shown,) = nb.json("network", "ls", "--json")
    assert [shown] == nb.json("network", "inspect", "lab") == nb.json("inspect", "lab")
    assert set(shown) == fields("network ls")
    assert shown["subnets"] == [
        {"subnet": "10.9.0.0/24", "gateway": "10.9.0.9", "ip_range": None, "aux_addresses": {"a": "10.9.0.7"}},
        {"subnet": "fd00:9::/64", "gateway": "fd00:9::1", "ip_range": None, "aux_addresses": {}},
    ]
    assert (shown["bridge"], shown["mtu"], shown["labels"], shown["endpoints"]) == ("br9", 1400, {"who": "me"}, [])
    assert nb("network", "ls").out.splitlines() == [
        "NAME  SUBNETS                  BRIDGE  ENDPOINTS  PROJECT  NOTES",
        "lab   10.9.0.0/24 fd00:9::/64  br9     0",
    ]
    assert nb("network", "ls", "-q").out == "lab\n"
    assert nb("network", "rm", "lab").out == "lab\n"
    assert settled() == before


def test_options_by_dockers_names(nb: Command) -> None:
    prefix = "com.docker.network.bridge"
    nb(
        "network",
        "create",
        "-o",
        f"{prefix}.name=br7",
        "-o",
        f"{prefix}.enable_icc=false",
        "--internal",
        "--ipv6",
        "lab",
    )
    (shown,) = nb.json("network", "inspect", "lab")
    assert (shown["bridge"], shown["icc"], shown["internal"]) == ("br7", False, True)
    assert len(shown["subnets"]) == 2
    assert "internal, no icc" in nb("network", "ls").out


def test_pruning_asks(nb: Command) -> None:
    nb("network", "create", "one")
    nb("network", "create", "two")
    nb("run", "-d", "--name", "on", "--net", "two", "--", "sleep", "60")
    refused = nb("network", "prune", stdin="n\n", check=False)
    assert (refused.status, refused.out) == (1, "")
    assert "Go on? [y/N]" in refused.err
    assert nb("network", "prune", stdin="", check=False).status == 1
    assert nb("network", "prune", stdin="y\n").out == "one\n"
    assert nb("network", "prune", "-f").out == ""
    assert nb("network", "ls", "-q").out == "two\n"


@pytest.mark.proves("row 3")
@pytest.mark.parametrize("how", ["name", "path", "pid"])
def test_connect_a_namespace_of_somebody_else(nb: Command, host: FreshHost, sleeper: int, how: str) -> None:
    host.netns("ns1")
    argument, name = {
        "name": ("ns1", "ns1"),
        "path": ("/run/netns/ns1", "ns1"),
        "pid": (str(sleeper), f"pid-{sleeper}"),
    }[how]
    nb("network", "create", "--subnet", "10.9.0.0/24", "lab")
    before = settled()
    assert nb("connect", "lab", argument).out == f"{name} is on lab: eth0, 10.9.0.2/24\n"
    assert sh("ping -c 1 -W 2 10.9.0.2").status == 0
    inside = f"nsenter --net=/proc/{sleeper}/ns/net" if how == "pid" else "ip netns exec ns1"
    assert sh(f"{inside} ping -c 1 -W 2 10.9.0.1").status == 0
    (shown,) = nb.json("ps", "--json")
    assert (shown["kind"], shown["name"], shown["state"]) == ("endpoint", name, "attached")
    assert nb("disconnect", "lab", argument).out == ""
    assert settled() == before


@pytest.mark.proves("row 9", "row 10", "row 18", "row 34")
def test_connect_with_every_wish(nb: Command, lab: Lab) -> None:
    lab.ns("ns1")
    nb("network", "create", "--subnet", "10.9.0.0/24", "--subnet", "fd00:9::/64", "lab")
    wishes = ("--ip", "10.9.0.7", "--ip6", "fd00:9::7", "--mac-address", "02:00:00:00:00:07", "--ifname", "up9")
    options = (*wishes, "--name", "seven", "--alias", "sept", "-p", "8088:80", "-p", "127.0.0.1:8089:80", "--json")
    shown = json.loads(nb("connect", *options, "lab", "ns1").out)
    assert set(shown) == fields("connect")
    assert [shown] == nb.json("inspect", "seven")
    assert (shown["name"], shown["aliases"], shown["default_route"]) == ("seven", ["sept"], True)
    (link,) = ip("-n ns1 -d address show up9")
    assert link["address"] == "02:00:00:00:00:07"
    assert {address["local"] for address in link["addr_info"]} >= {"10.9.0.7", "fd00:9::7"}
    lab.serve("web", "http:80", ns="ns1")
    for address in (HOST4, f"[{HOST6}]"):
        assert lab.get(f"http://{address}:8088/", "outside").server == "web"
    assert lab.get("http://127.0.0.1:8089/").server == "web"
    assert not lab.get(f"http://{HOST4}:8089/", "outside")
    assert nb("port", "seven").out == "80/tcp -> 0.0.0.0:8088\n80/tcp -> [::]:8088\n80/tcp -> 127.0.0.1:8089\n"


@pytest.mark.proves("row 38", "row 52")
def test_publish_on_a_live_endpoint(nb: Command, lab: Lab) -> None:
    lab.ns("ns1")
    nb("network", "create", "lab")
    nb("connect", "lab", "ns1")
    lab.serve("web", "http:80", "udp:53", ns="ns1")
    assert not lab.get(f"http://{HOST4}:8088/", "outside")
    assert nb("publish", "ns1", "8088:80", "5353:53/udp").out == "0.0.0.0:8088->80/tcp\n0.0.0.0:5353->53/udp\n"
    assert lab.get(f"http://{HOST4}:8088/", "outside").server == "web"
    assert lab.udp(HOST4, 5353, "outside").server == "web"
    assert nb("port", "ns1", "80").out == "0.0.0.0:8088\n"
    assert nb("port", "ns1", "53/udp").out == "0.0.0.0:5353\n"
    assert nb.json("port", "ns1", "--json")[0] == port_record(80, 8088)
    assert set(nb.json("port", "ns1", "--json")[0]) == fields("port")
    chosen = nb("publish", "ns1", "80").out
    port = int(chosen.partition("->")[0].rpartition(":")[2])
    assert lab.get(f"http://{HOST4}:{port}/", "outside").server == "web"
    nb("unpublish", "ns1", "8088:80")
    assert not lab.get(f"http://{HOST4}:8088/", "outside")
    assert lab.get(f"http://{HOST4}:{port}/", "outside").server == "web"
    nb("unpublish", "ns1", "80", "53/udp")
    assert not lab.get(f"http://{HOST4}:{port}/", "outside")
    assert nb("port", "ns1").out == ""


@pytest.mark.proves("row 82")
def test_what_is_refused_leaves_nothing(nb: Command, lab: Lab) -> None:
    """Names, addresses and ports taken, things that aren't there, options that can't be."""
    for name in ("ns1", "ns2"):
        lab.ns(name)
    nb("network", "create", "--subnet", "10.9.0.0/24", "lab")
    nb("connect", "-p", "8088:80", "lab", "ns1")
    lab.serve("host", "http:7070")
    before = settled()
    refused: list[tuple[int, str, tuple[str, ...]]] = [
        (
            5,
            "there is an endpoint 'ns1' on network 'lab' already (namespace /run/netns/ns1)",
            ("connect", "lab", "ns1"),
        ),
        (
            5,
            "address 10.9.0.2 of network 'lab' belongs to endpoint 'ns1'",
            ("connect", "--ip", "10.9.0.2", "lab", "ns2"),
        ),
        (
            5,
            "host port 8088/tcp already goes to endpoint 'ns1' of network 'lab'",
            ("connect", "-p", "8088:81", "lab", "ns2"),
        ),
        (5, "a process on this host already listens on 0.0.0.0:7070/tcp", ("connect", "-p", "7070:80", "lab", "ns2")),
        (5, "host port 8088/tcp already goes to endpoint 'ns1' of network 'lab'", ("publish", "ns1", "8088:90")),
        (5, "there is a network 'lab' already", ("network", "create", "lab")),
        (2, "address 10.8.0.1 is outside network 'lab' (10.9.0.0/24)", ("connect", "--ip", "10.8.0.1", "lab", "ns2")),
        (2, "address 10.9.0.1 of network 'lab' is its gateway", ("connect", "--ip", "10.9.0.1", "lab", "ns2")),
        (2, "--ip is no IPv4 address: 'x'", ("connect", "--ip", "x", "lab", "ns2")),
        (2, "-p has a port 70000", ("connect", "-p", "70000:80", "lab", "ns2")),
        (4, "there is no network 'nope' (there is: lab)", ("connect", "nope", "ns2")),
        (4, "there is no network namespace at /run/netns/nope", ("connect", "lab", "nope")),
        (4, "there is no endpoint 'ns2' on network 'lab' (there is: ns1)", ("disconnect", "lab", "ns2")),
        (4, "port 81/tcp of 'ns1' isn't published (0.0.0.0:8088->80/tcp)", ("unpublish", "ns1", "81")),
        (4, "there is no endpoint 'nope'", ("port", "nope")),
        (1, "port 81/tcp of 'ns1' isn't published", ("port", "ns1", "81")),
        (6, "network 'lab' has 1 endpoint (ns1)", ("network", "rm", "lab")),
    ]
    for status, message, argv in refused:
        first, *fix = nb.fails(status, *argv).splitlines()
        assert first == f"nsbridge: {message}"
        assert len(fix) == 1
        assert fix[0].startswith("  fix: ")
    assert settled() == before
    nb("disconnect", "-f", "lab", "ns2")
    inspected = nb("inspect", "ns1", "nope", check=False)
    assert inspected.status == 4
    assert [one["name"] for one in json.loads(inspected.out)] == ["ns1"]
    assert "there is no service, endpoint or network 'nope'" in inspected.err


@pytest.mark.proves("row 83", "row 87")
def test_leftovers_are_collected(nb: Command, host: FreshHost) -> None:
    host.netns("ns1")
    nb("network", "create", "lab")
    before = settled()
    assert nb.json("gc", "--json") == []
    nb("connect", "lab", "ns1")
    sh("ip netns del ns1")
    (shown,) = nb.json("ps", "--json")
    assert shown["state"] == "gone"
    told = nb.json("gc", "-n", "--json")
    assert told == ["endpoint ns1 of network lab: its namespace is gone"]
    assert nb("gc").out.splitlines() == told
    assert nb("gc").err == "nsbridge: nothing of ours is left over\n"
    assert [line for line in settled().splitlines() if "ns1" in line] == []
    assert [line for line in before.splitlines() if "ns1" not in line] == settled().splitlines()


def test_doctor(nb: Command) -> None:
    healthy = nb("doctor", "--json", check=False)
    findings = json.loads(healthy.out)
    assert all(set(one) == fields("doctor") for one in findings)
    nb("network", "create", "lab")
    sh("nft delete table inet nsbridge")
    ill = nb("doctor", check=False)
    assert ill.status == 1
    assert "error" in ill.out
    assert "fix: " in ill.out


@pytest.mark.skipif(not os.path.exists("/usr/bin/setpriv"), reason="needs setpriv")
def test_without_rights(nb: Command) -> None:
    argv = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"]
    done = subprocess.run([*argv, *NSBRIDGE, "network", "create", "x"], capture_output=True, text=True, check=False)
    assert done.returncode == 77, done.stderr
    assert "CAP_NET_ADMIN" in done.stderr
    assert "`nsbridge demo`" in done.stderr
    assert not nb.json("network", "ls", "--json")


def test_what_takes_a_proxy_is_said(nb: Command, host: FreshHost) -> None:
    """A port on [::1], and [::1] of any other: nothing answers there, and nobody should have to find out."""
    host.netns("one")
    nb("network", "create", "--subnet", "10.9.0.0/24", "--subnet", "fd09::/64", "lab")
    nb("connect", "-p", "8080:80", "lab", "one")
    done = nb("publish", "one", "[::1]:8081:80")
    assert "port [::1]:8081->80/tcp doesn't answer yet: on [::1] it takes a proxy" in done.err
    (shown,) = nb.json("inspect", "one")
    assert shown["unanswered"] == ["[::]:8080/tcp", "[::1]:8081/tcp"]
    assert nb.json("ps", "--json")[0]["unanswered"] == shown["unanswered"]
    assert "no proxy serves [::]:8080/tcp, [::1]:8081/tcp" in nb("doctor").out
    nb("disconnect", "lab", "one")
    assert "there is no driver 'ptp'" in nb("network", "create", "-d", "ptp", "other", check=False).err
