"""What can be asked for can be asked for everywhere: in a file, on the command line and in Python.

Each table has a row for every field of the model, with its name in Python, on the command line and in a file. What
one of them doesn't have stands in brackets, with the reason. A field, an argument, a flag or an option that is in no
row fails the test, so none of the three falls behind the others.
"""

from __future__ import annotations

import inspect

import pytest

import nsbridge
from nsbridge.files import parts
from nsbridge.files.netshape import DriverOptionsShape, IpamShape, NetworkShape, SubnetShape
from nsbridge.files.shape import AttachmentShape, PlaceOptionsShape, ServiceShape
from nsbridge.frontends.cli.networks import OPTIONS
from nsbridge.frontends.cli.shared import ALIAS, IP, IP6, LINK, MAC
from nsbridge.frontends.cli.table import verbs
from nsbridge.model import limits, network
from nsbridge.model.service import Attachment, Service

BRIDGE, DOCKER = "com.docker.network.bridge.", "com.docker.network."

NETWORKS = [
    # field of the model      in Python                on the command line                          in a file
    ("name", "name", "NAME", "name"),
    ("subnets", "subnet gateway ip_range reserved", "--subnet --gateway --ip-range --aux-address",
     "config subnet gateway ip_range aux_addresses"),
    ("bridge", "bridge parent", f"--bridge -o {BRIDGE}name parent", f"{BRIDGE}name parent"),
    ("internal", "internal", "--internal", "internal"),
    ("ipv6", "ipv6", "--ipv6", "enable_ipv6"),
    ("icc", "icc", f"--no-icc -o {BRIDGE}enable_icc", f"{BRIDGE}enable_icc"),
    ("masquerade", "masquerade", f"--no-masquerade -o {BRIDGE}enable_ip_masquerade", f"{BRIDGE}enable_ip_masquerade"),
    ("sources", "source", f"--source -o {DOCKER}host_ipv4 {DOCKER}host_ipv6", f"{DOCKER}host_ipv4 {DOCKER}host_ipv6"),
    ("host_binding", "host_binding", f"--host-binding -o {BRIDGE}host_binding_ipv4", f"{BRIDGE}host_binding_ipv4"),
    ("mtu", "mtu", f"--mtu -o {DOCKER}driver.mtu", f"{DOCKER}driver.mtu"),
    ("project", "(of files)", "(of files)", "(the project's)"),
    ("ephemeral", "(the default network's)", "(the default network's)", "(the default network's)"),
    ("labels", "labels", "--label", "labels"),
    ("gateway_mode4", "gateway_mode_ipv4", f"-o {BRIDGE}gateway_mode_ipv4", f"{BRIDGE}gateway_mode_ipv4"),
    ("gateway_mode6", "gateway_mode_ipv6", f"-o {BRIDGE}gateway_mode_ipv6", f"{BRIDGE}gateway_mode_ipv6"),
    ("trusted", "trusted_interfaces", f"-o {BRIDGE}trusted_host_interfaces", f"{BRIDGE}trusted_host_interfaces"),
    ("mac_filtering", "mac_filtering", "-o security.mac_filtering", "security.mac_filtering"),
    ("ipv4_filtering", "ipv4_filtering", "-o security.ipv4_filtering", "security.ipv4_filtering"),
    ("ipv6_filtering", "ipv6_filtering", "-o security.ipv6_filtering", "security.ipv6_filtering"),
    ("policy", "policy", "-o policy", "policy"),
    ("policed", "(follows from a file's rules)", "(follows from a file's rules)", "(follows from a file's rules)"),
    ("guarded", "(chosen)", "(chosen)", "(chosen)"),
    ("unmanaged", "unmanaged", "-o mode", "mode"),
    ("routes", "routes", "--route", "routes"),
    ("driver", "driver", "--driver", "driver"),
    ("mode", "mode", "-o macvlan_mode ipvlan_mode", "macvlan_mode ipvlan_mode"),
    ("vlan", "vlan", "-o vlan", "vlan"),
    ("vrf", "vrf", "-o vrf", "vrf"),
    ("inhibit_ipv4", "inhibit_ipv4", f"-o {BRIDGE}inhibit_ipv4", f"{BRIDGE}inhibit_ipv4"),
    ("advertise", "advertise", f"-o {DOCKER}advertise_addr_nmsgs", f"{DOCKER}advertise_addr_nmsgs"),
    ("advertise_ms", "advertise_ms", f"-o {DOCKER}advertise_addr_ms", f"{DOCKER}advertise_addr_ms"),
]  # fmt: skip
WITHOUT_MEANING = {"enable_ipv4": "only true", "external": "not made, but looked for", "ipam": "holds others",
                   "driver_opts": "holds others"}  # fmt: skip

PLACES = [
    ("network", "(the object)", "(positional, or --net)", "(the key)"),
    ("ipv4", "ip", "--ip", "ipv4_address"),
    ("ipv6", "ip6", "--ip6", "ipv6_address"),
    ("mac", "mac", "--mac-address", "mac_address"),
    ("aliases", "aliases", "--alias", "aliases"),
    ("also", "link_local", "--link-local-ip", "link_local_ips"),
    ("ifname", "ifname", "--ifname", "interface_name"),
    ("host_ifname", "host_ifname", "--host-ifname", "host_interface_name"),
    ("priority", "(an endpoint has one network, and connects to others)", "(--net: the first)", "gw_priority"),
    ("limits", "limits", "--limit", "limits.ingress limits.egress delay jitter loss"),
    ("check_address", "check_address", "--check-address", "check_address"),
    ("vlan", "vlan", "--vlan", "vlan"),
]

SERVICES = [
    ("name", "name", "--name", "container_name"),
    ("command", "(of Endpoint.run and start)", "COMMAND", "command entrypoint"),
    ("environment", "env", "--env", "environment"),
    ("working_dir", "cwd", "--workdir", "working_dir"),
    ("user", "user", "--user", "user"),
    ("hostname", "hostname", "--hostname", "hostname"),
    ("attachments", "place", "--net --ip --ip6 --mac-address --alias --link-local-ip --host-ifname --limit "
     "--check-address --ifname --vlan", "networks mac_address"),
    ("ports", "ports", "--publish", "ports"),
    ("mode", "(Endpoint.start with a name)", "--net", "network_mode"),
    ("after", "(the order of the program)", "(the order of the commands)", "depends_on"),
    ("labels", "labels", "--label", "labels"),
    ("project", "(of files)", "(of files)", "(the project's)"),
    ("foreground", "(Endpoint.run)", "--detach --rm --interactive --tty", "(up)"),
    ("health", "(ask it; Endpoint.drain)", "--health-cmd --health-interval --health-timeout --health-retries "
     "--health-start-period --health-start-interval", "healthcheck"),
    ("after_healthy", "(the order of the program)", "(the order of the commands)", "(depends_on)"),
]  # fmt: skip


def said(rows: list[tuple[str, str, str, str]], column: int) -> set[str]:
    """What stands in a column, without what is in brackets."""
    return {word for row in rows if not row[column].startswith("(") for word in row[column].split()} - {"-o"}


def flags(name: str) -> set[str]:
    """The long flags and the positionals of a verb, without what is said of the host."""
    verb = next(verb for verb in verbs() if verb.name == name)
    words = [one.options["metavar"] if one.positional else f"--{one.dest.replace('_', '-')}" for one in verb.arguments]
    return set(words) - {"--show-commands", "--firewall"}  # about the telling, and about the host


@pytest.mark.parametrize(
    ("rows", "value"), [(NETWORKS, network.Network), (PLACES, Attachment), (SERVICES, Service)], ids=str
)
def test_every_field_of_the_model_has_a_row(rows: list[tuple[str, str, str, str]], value: type) -> None:
    assert [row[0] for row in rows] == list(value._fields)  # type: ignore[attr-defined]


def test_python_has_all_of_it() -> None:
    assert said(NETWORKS, 1) == {"name", *nsbridge.NetworkOptions.__annotations__}
    assert said(PLACES, 1) == set(nsbridge.Place.__annotations__)
    assert said(SERVICES, 1) == set(inspect.signature(nsbridge.Network.endpoint).parameters) - {"self"}
    assert {field for field, _ in parts.LIMITS.values()} == set(limits.Limits._fields)


def test_the_command_line_has_all_of_it() -> None:
    assert said(NETWORKS, 2) == flags("network create") - {"--opt"} | set(OPTIONS)
    places = {f"--{one.dest.replace('_', '-')}" for one in (IP, IP6, MAC, ALIAS, *LINK)}
    assert said(PLACES, 2) == places
    assert places <= flags("connect") & flags("run")
    assert said(SERVICES, 2) == flags("run")


def test_files_have_all_of_it() -> None:
    shapes = (NetworkShape, DriverOptionsShape, IpamShape, SubnetShape)
    assert said(NETWORKS, 3) == {name for shape in shapes for name in shape.names()} - set(WITHOUT_MEANING)
    named = {*AttachmentShape.names(), *PlaceOptionsShape.names()} - {"driver_opts"}
    assert said(PLACES, 3) == named
    assert said(SERVICES, 3) == set(ServiceShape.names())
