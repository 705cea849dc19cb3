"""Transcripts, proved by running them: typed by sh, a script makes what nsbridge makes, and takes it away again."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from commands import settled
from lab import HOST4, sh

from nsbridge import files
from nsbridge.desired.ruleset import skeleton
from nsbridge.engine import layout, topology
from nsbridge.errors import Unsupported
from nsbridge.explain import transcript
from nsbridge.firewall import iptables_read
from nsbridge.firewall.iptables_lower import lower
from nsbridge.firewall.ruleset import Element, Rule, Table
from nsbridge.model.names import PORT_GROUP, TABLE, is_ours
from nsbridge.plan.diff import adding, removing
from nsbridge.state.kernel_state import KernelState
from nsbridge.state.things import HOST, Link, Sysctl
from nsbridge.wiring import open_host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from commands import Command
    from lab import Lab

    from nsbridge.engine.host import Host
    from nsbridge.engine.layout import Layout
    from nsbridge.model.service import Topology
    from nsbridge.state.things import Thing

sys.path.append(str(Path(__file__).parents[2]))
from tools.scenarios import EXAMPLES, SCENARIOS

pytestmark = pytest.mark.netns

BEFORE = {one.name: (one.before, one.after) for one in SCENARIOS if one.before}
ALIKE = ("one-network", "published-everywhere", "published-on-loopback", "published-udp", "no-masquerade")
TOPOLOGIES = {one.name: one.text for one in SCENARIOS if one.name not in ALIKE}
TOPOLOGIES |= {f"example {name}": (EXAMPLES / f"{name}.yaml").read_text() for name in ("dual-stack", "two-networks")}
TOPOLOGIES |= {
    "limits, routes, names of interfaces": """\
name: lab
networks:
  web:
    ipam:
      config: [{subnet: 10.20.0.0/24}, {subnet: "fd00:20::/64"}]
      routes:
        - {dst: 10.50.0.0/16, gw: 10.20.0.9, metric: 7}
        - {dst: 10.60.0.0/16, type: blackhole}
        - {dst: "fd00:60::/48"}
    driver_opts: {com.docker.network.driver.mtu: "1400"}
services:
  one:
    networks:
      web:
        interface_name: front0
        link_local_ips: [169.254.8.9]
        driver_opts: {host_interface_name: toone, limits.ingress: 8Mbit, limits.egress: 4Mbit}
  two: {networks: [web]}
""",
    "VLANs": """\
name: lab
networks:
  web: {ipam: {config: [{subnet: 10.20.0.0/24}]}, driver_opts: {vlan: 7}}
services:
  one: {networks: [web]}
  two: {networks: {web: {driver_opts: {vlan: 8}}}}
""",
    "without NAT, ports that nobody names": """\
name: lab
networks:
  web:
    ipam: {config: [{subnet: 10.20.0.0/24}]}
    driver_opts:
      com.docker.network.bridge.gateway_mode_ipv4: routed
      com.docker.network.bridge.trusted_host_interfaces: up0
  back: {ipam: {config: [{subnet: 10.21.0.0/24}]}}
services:
  one: {networks: [web], ports: ["80", "8080:81", "53/udp"]}
  two: {networks: [back], ports: ["9000-9010:90"]}
""",
    "on the wire": """\
name: lab
networks:
  wire:
    driver: macvlan
    driver_opts: {parent: up0}
    ipam: {config: [{subnet: 198.51.100.0/24, gateway: 198.51.100.2}]}
services:
  one: {networks: {wire: {ipv4_address: 198.51.100.7}}}
""",
    "somebody else's bridge": """\
name: lab
networks:
  theirs: {driver_opts: {com.docker.network.bridge.name: br9, mode: unmanaged}}
services:
  one: {networks: {theirs: {}}}
""",
    "a policy, refusing by default": """\
name: lab
networks:
  front: {policy: deny, ipam: {config: [{subnet: 10.20.0.0/24}]}}
  back: {internal: true, ipam: {config: [{subnet: 10.21.0.0/24}]}}
services:
  web: {networks: [front, back], ports: ["8080:80", "127.0.0.1:5300:53/udp"]}
  db: {networks: [back]}
  api: {networks: [front]}
policy:
  - {allow: "web -> db:5432/tcp"}
  - {reject: "api -> 203.0.113.0/24:443", log: true}
  - {deny: "198.51.100.0/24 -> web"}
""",
}
BEFORE["somebody else's bridge"] = (
    "ip link add br9 address 02:00:5e:00:53:09 type bridge && ip addr add 10.90.0.1/24 dev br9",
    "ip link del br9",
)


LEFT_OUT = "this nft doesn't know 'icmpv6 taddr': two rules are left out\n"


def untyped(rule: Rule) -> bool:
    """Tell whether a rule asks for what this nft can list and not read: nothing of ours can be typed that isn't so."""
    return any("icmpv6 taddr" in getattr(one, "fields", ()) for one in rule.expressions)


def knows_targets() -> bool:
    probe = "echo 'table bridge p { chain p { icmpv6 taddr :: } }' | nft -c -f -"
    return sh(probe, check=False).status == 0


def typable(state: KernelState) -> KernelState:
    """Return a state without the two rules of table bridge that an older nft can't be told."""
    if knows_targets():
        return state
    found: list[Thing] = []
    for thing in state:
        if isinstance(thing, Table) and thing.family == "bridge":
            chains = [one.replace(rules=tuple(r for r in one.rules if not untyped(r))) for one in thing.chains]
            thing = thing.replace(chains=tuple(chains))
        found.append(thing)
    return KernelState(found)


def differences(one: KernelState, other: KernelState) -> list[str]:
    """Return what is in one state alone, tables rule by rule."""
    both = []
    for state in (one, other):
        parts = {repr(thing) for thing in state if not isinstance(thing, Table)}
        for table in state.of(Table):
            parts |= {f"{table.family} {found!r}" for found in (*table.sets, table.replace(sets=(), chains=()))}
            for chain in table.chains:
                head = f"{table.family} {chain.name} {chain.replace(rules=())!r}"
                parts |= {f"{head} {place} {rule!r}" for place, rule in enumerate(chain.rules)} | {head}
        both.append(parts)
    return sorted(f"< {part}" for part in both[0] - both[1]) + sorted(f"> {part}" for part in both[1] - both[0])


def without_indexes(state: KernelState, host: Host) -> KernelState:
    """Return a state in which the group of each port counts from its bridge, once it is sure that it does."""
    found = []
    for thing in state:
        if isinstance(thing, Link) and is_ours(thing.group) and thing.master:
            index = host.kernel.link_index(thing.master)
            assert thing.group == PORT_GROUP + index, thing
            thing = thing.replace(group=PORT_GROUP)
        found.append(thing)
    return KernelState(found)


def seen(host: Host, found: Layout) -> KernelState:
    settings = [(thing.netns, thing.key) for thing in found.things if isinstance(thing, Sysctl)]
    spaces = dict.fromkeys([HOST, *found.made, *found.strange])
    state = host.kernel.observe(spaces, settings)
    # MACs of the outer ends are the kernel's choice.
    links = [
        thing.replace(mac="") if isinstance(thing, Link) and thing.netns == HOST and thing.peer_name else thing
        for thing in state
    ]
    return without_indexes(KernelState(links), host)


def run(script: str) -> None:
    done = subprocess.run(["sh"], input=script, capture_output=True, text=True, check=False)
    said = f"{done.returncode}: {done.stderr}".replace(LEFT_OUT, "")
    assert said == "0: ", f"{said}\n{script}"


def read(text: str, tmp_path: Path) -> Topology:
    path = tmp_path / "lab.yaml"
    path.write_text(text)
    found = files.read(path)
    return found.replace(services=tuple(service.replace(command=()) for service in found.services))


@contextmanager
def wish(name: str, tmp_path: Path) -> Iterator[tuple[Host, Topology]]:
    """One of the topologies, and a host on which stands what it expects of others; skipped if the kernel can't."""
    before, after = BEFORE.get(name, ("", ""))
    host = open_host()
    if name == "VLANs":
        try:
            host.kernel.require("vlan_filtering")
        except Unsupported as err:
            pytest.skip(str(err))
    if before:
        sh(before)
    yield host, read(TOPOLOGIES[name], tmp_path)
    if after:
        sh(after)


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_a_script_typed_by_hand_makes_the_same(name: str, lab: Lab, tmp_path: Path) -> None:
    with wish(name, tmp_path) as (host, wanted):
        empty = settled()
        foreseen = layout.planned(host, wanted)
        topology.up(host, wanted)
        try:
            ours, standing = seen(host, foreseen), layout.standing(host)
            again = layout.planned(host, wanted)
        finally:
            topology.down(host, wanted.project, 0)
        assert set(foreseen.things) == set(standing.things) == set(again.things)
        assert set(again.endpoints) <= {one.replace(service="", project="") for one in standing.endpoints} | set(
            standing.endpoints
        )

        run(transcript.script(transcript.lesson(foreseen.things), name, "a test"))
        typed = seen(host, foreseen)
        run(transcript.script(transcript.backwards(foreseen.things), name, "a test"))
        assert not (found := differences(typed, typable(ours))), "\n".join(found)
        assert len(typed) > len(wanted.services)
        assert settled() == empty


def saved_rules() -> dict[int, iptables_read.Tables]:
    return {
        version: iptables_read.parse(sh(f"{program}-save").out)
        for version, program in ((4, "iptables"), (6, "ip6tables"))
    }


@pytest.mark.parametrize(
    "name", ["docker-bridge", "shared-port"] if os.environ.get("NSBRIDGE_TEST_ALL") else ["docker-bridge"]
)
def test_steps_in_the_style_of_iptables(name: str, lab: Lab, tmp_path: Path) -> None:
    """Told step by step, iptables then holds the rules of its backend, down to the digest in the rules that call us."""
    host = open_host()
    empty = settled()
    found = layout.planned(host, read(TOPOLOGIES[name], tmp_path))
    run(transcript.script(transcript.told(adding(found.things), "iptables"), name, "a test"))
    saved = saved_rules()
    assert all(iptables_read.is_there(lower(skeleton(), version), saved[version]) for version in (4, 6))
    meant = {thing for thing in found.things if isinstance(thing, Element) and thing.table == TABLE}
    assert set(iptables_read.read(skeleton(), saved)) == meant
    assert "table inet nsbridge" not in sh("nft list tables").out
    if name == "docker-bridge":
        lab.serve("one", "http:80", ns="ns1")
        lab.serve("two", "http:80", ns="ns2")
        assert lab.get("http://127.0.0.1:8088/").server == "one"
        assert lab.get(f"http://{HOST4}:8089/", "outside").server == "two"
        assert lab.get(f"http://{HOST4}:8088/", "ns1").server == "one"
        assert lab.get("http://175.18.0.3/", "ns1").server == "two"
        assert not lab.get("http://175.18.0.2/", "outside", timeout_s=0.3)
    run(transcript.script(transcript.told(removing(found.things), "iptables"), name, "a test"))
    assert not any(iptables_read.any_there(tables, "") for tables in saved_rules().values())
    for family in ("ip", "ip6"):  # iptables leaves its own empty tables behind
        for table in ("raw", "mangle", "security", "filter", "nat"):
            sh(f"nft delete table {family} {table}", check=False)
    assert settled() == empty


def test_what_commands_show_can_be_typed(nb: Command, lab: Lab) -> None:
    """Each verb that changes something shows what it applied; typed again in its order it gives the same kernel."""
    host = open_host()
    for name in ("lab1", "lab2"):
        lab.ns(name)
    empty = settled()
    shown = [
        nb("network", "create", "--subnet", "10.20.0.0/24", "--show-commands", "web").err,
        nb("connect", "--show-commands", "web", "lab1", "-p", "8080:80").err,
        nb("connect", "--show-commands", "--limit", "egress=4Mbit", "web", "lab2").err,
        nb("publish", "--show-commands", "lab2", "127.0.0.1:8081:80", "5300-5310:5300-5310/udp").err,
        nb("publish", "--share", "--show-commands", "lab1", "8082:80").err,
        nb("publish", "--share", "--show-commands", "lab2", "8082:81").err,
    ]
    found = layout.standing(host)
    ours = seen(host, found)
    gone = [
        nb("unpublish", "--show-commands", "lab2", "127.0.0.1:8081:80").err,
        nb("disconnect", "--show-commands", "web", "lab1", "lab2").err,
        nb("network", "rm", "--show-commands", "web").err,
    ]
    assert settled() == empty
    run(as_script(shown))
    assert not (differs := differences(seen(host, found), typable(ours))), "\n".join(differs)
    run(as_script(gone))
    assert settled() == empty
    assert "nft delete element inet nsbridge bound4 '{ 127.0.0.1 . tcp . 8081 }'" in gone[0]


def as_script(shown: list[str]) -> str:
    """What verbs showed on stderr, without what they said besides, and without what an older nft can't read."""
    text = "".join(line for one in shown for line in one.splitlines(True) if not line.startswith("nsbridge: "))
    if not knows_targets():
        text = "".join(line for line in text.splitlines(True) if "icmpv6 taddr" not in line)
    # The index of a bridge isn't the one it had.
    text = re.sub(
        r"group 0x6e0000[0-9a-f]+", "group $((0x6e000000 + $(ip -o link show dev nsb-web | cut -d: -f1)))", text
    )
    return "set -eu\n" + text


def test_a_plan_and_a_script_by_the_command(nb: Command, lab: Lab) -> None:
    example = str(EXAMPLES / "two-networks.yaml")
    planned = nb("plan", "--show-commands", "-f", example).out
    assert nb("up", "--dry-run", "--show-commands", "-f", example).out == planned
    assert planned.count("nft -f - <<'END'") == 2, "each table once, though two networks are made"
    subnets = re.findall(r"ip address add (\S+) dev nsb-", planned)
    assert len(set(subnets)) == len(subnets) == 2
    script = nb("script", example).out
    nb("up", "-d", "-f", example)
    assert nb("script", example).out == script
    assert "ip netns delete" in nb("script", "--down").out
    nb("down", "-f", example, "-t", "0")
    assert nb.fails(2, "script", "--style", "ipchains")
