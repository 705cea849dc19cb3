"""Good files: what they mean."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from nsbridge import files
from nsbridge.errors import InvalidFile, InvalidIntent, NoPermission, NotFound
from nsbridge.files.faults import Report, Wrong
from nsbridge.files.interpolate import dotenv, substitute
from nsbridge.files.parts import short_ports
from nsbridge.model.endpoint import PublishedPort
from nsbridge.model.network import Network, Subnet
from nsbridge.model.service import Attachment, Service, Topology

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def read(tmp_path):
    directory = tmp_path / "My Proj.1"
    directory.mkdir()

    def read(text: str, *, name: str = "f.yaml", project=None, env: str | None = None, **environ: str) -> Topology:
        (directory / name).write_text(text)
        if env is not None:
            (directory / ".env").write_text(env)
        return files.read(directory / name, project=project, environ=environ)

    return read


def one(topology: Topology) -> Service:
    (service,) = topology.services
    return service


def told(path) -> object:
    """What a file's reader hears: a topology, or at least one fault."""
    try:
        return files.read(path, environ={}).project
    except InvalidFile as error:
        return error.faults


def test_docker_bridge_by_hand():
    topology = files.read(EXAMPLES / "docker-bridge.yaml", environ={})
    command = ("python3", "-m", "http.server", "80")
    assert topology == Topology(
        "docker-bridge",
        (
            Network(
                "ns_br",
                (Subnet(ip_network("175.18.0.0/24"), IPv4Address("175.18.0.1")),),
                "ns_br",
                project="docker-bridge",
            ),
        ),
        tuple(
            Service(
                name,
                command,
                attachments=(Attachment("ns_br", IPv4Address(address)),),
                ports=(PublishedPort(80, port),),
                project="docker-bridge",
            )
            for name, address, port in (("ns1", "175.18.0.2", 8088), ("ns2", "175.18.0.3", 8089))
        ),
    )
    assert [service.netns for service in topology.services] == ["/run/netns/ns1", "/run/netns/ns2"]


def test_two_networks():
    topology = files.read(EXAMPLES / "two-networks.yaml", environ={})
    assert {network.name: network.internal for network in topology.networks} == {
        "two-networks_front": False,
        "two-networks_back": True,
    }
    web, app, db = topology.services
    assert app.attachments == (Attachment("two-networks_front", aliases=("api",)), Attachment("two-networks_back"))
    assert web.ports == (PublishedPort(80, 8080, "tcp", IPv4Address("127.0.0.1")),)
    assert [service.name for service in topology.started_order()] == ["db", "app", "web"]
    assert db.after == ()


def test_dual_stack():
    topology = files.read(EXAMPLES / "dual-stack.yaml", environ={"GREETING": "moin"})
    (network,) = topology.networks
    assert network.mtu == 1500
    assert not network.ipv6, "its IPv6 subnet is given, so none has to be chosen"
    assert network.subnet(4).ip_range == ip_network("172.30.3.128/25")
    assert network.subnet(6).reserved == (("printer", IPv6Address("fd00:30:3::99")),)
    six, client = topology.services
    assert six.command == ("python3", "-m", "http.server", "--bind", "::", "80")
    assert six.environment == (("PYTHONUNBUFFERED", "1"), ("GREETING", "moin"))
    assert six.ports == (PublishedPort(80, 8090), PublishedPort(80, 8091, "tcp", IPv6Address("::1")))
    assert client.command == ()


def test_namespaces_only():
    topology = files.read(EXAMPLES / "namespaces-only.yaml", environ={})
    assert topology.networks == (Network("namespaces-only_default", project="namespaces-only"),)
    assert [service.name for service in topology.services] == ["left", "middle", "right", "alone"]
    assert all(service.command == () for service in topology.services)
    assert topology.services[0].labels == (("lesson", "namespaces"),)
    assert topology.services[1].hostname == "hub"
    assert topology.services[3].mode == "none"
    assert topology.services[3].attachments == ()


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_reads_without_a_warning_and_fits_the_schema(path):
    assert files.read(path, environ={}).warnings == ()
    jsonschema.Draft202012Validator(files.schema()).validate(YAML(typ="safe", pure=True).load(path))


def test_the_schema_is_one_and_says_what_each_field_means():
    schema = files.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert json.loads(json.dumps(schema)) == schema
    for name, part in schema["$defs"].items():
        for field, value in part["properties"].items():
            assert value.get("description"), (name, field)


def test_plain_text_stays_text(read):
    service = one(read("services:\n  a:\n    command: [no, 22:22, 010, 1.10, true, 0x1F]\n    ports: [22:22]\n"))
    assert service.command == ("no", "22:22", "010", "1.10", "true", "0x1F")
    assert service.ports == (PublishedPort(22, 22),)


def test_commands(read):
    text = "services:\n  a:\n    entrypoint: env -i\n    command: sh -c 'echo \"$$HOME\" && exit'\n"
    assert one(read(text)).command == ("env", "-i", "sh", "-c", 'echo "$HOME" && exit')
    assert one(read("services:\n  a:\n    command:\n")).command == ()


def test_working_dir_is_relative_to_the_file(read, tmp_path):
    assert one(read("services: {a: {working_dir: ../srv/./x}}")).working_dir == str(tmp_path / "srv" / "x")
    assert one(read("services: {a: {working_dir: /srv}}")).working_dir == "/srv"
    assert one(read("services: {a: }")).working_dir == ""


def test_environment_forms(read):
    text = "services:\n  a:\n    environment: {A: 1, B: no, C: , D: , E: '', F: 1.50}\n"
    assert one(read(text, C="caller")).environment == (
        ("A", "1"),
        ("B", "no"),
        ("C", "caller"),
        ("E", ""),
        ("F", "1.50"),
    )
    text = "services:\n  a:\n    environment: [A=1, B=x=y, C, D, E=]\n"
    assert one(read(text, C="caller")).environment == (("A", "1"), ("B", "x=y"), ("C", "caller"), ("E", ""))


def test_labels_forms(read):
    assert one(read("services: {a: {labels: {x: 1, y: }}}")).labels == (("x", "1"), ("y", ""))
    assert one(read("services: {a: {labels: [x=1, y]}}")).labels == (("x", "1"), ("y", ""))
    assert read("networks: {n: {labels: [x=1]}}").networks[0].labels == (("x", "1"),)


def test_ports_long_form(read):
    text = """
services:
  a:
    ports:
      - {target: 80, published: "8080", protocol: UDP, host_ip: "::1", mode: host, name: web, app_protocol: http}
      - target: 81
      - 82
"""
    assert one(read(text)).ports == (
        PublishedPort(80, 8080, "udp", IPv6Address("::1")),
        PublishedPort(81),
        PublishedPort(82),
    )


def test_host_ports_that_do_not_meet(read):
    text = """
services:
  a: {ports: ["127.0.0.1:80:80", "127.0.0.2:80:80", "[::1]:80:80", "80:80/udp", 80, "80"]}
  b: {ports: ["0.0.0.0:81:80", "[::]:81:80"]}
"""
    a, b = read(text).services
    assert len(a.ports) == 5, "two wishes for a free host port in the same words are one"
    assert b.ports == (
        PublishedPort(80, 81, "tcp", IPv4Address("0.0.0.0")),
        PublishedPort(80, 81, "tcp", IPv6Address("::")),
    )


@pytest.mark.parametrize(
    ("one_ip", "other", "meet"),
    [
        ("", "127.0.0.1:", True),
        ("0.0.0.0:", "127.0.0.1:", True),
        ("[::]:", "[::1]:", True),
        ("0.0.0.0:", "[::1]:", False),
        ("127.0.0.1:", "127.0.0.2:", False),
        ("", "", True),
    ],
)
def test_which_host_addresses_meet(read, one_ip, other, meet):
    for first, second in ((one_ip, other), (other, one_ip)):
        text = f'services:\n  a: {{ports: ["{first}80:80"]}}\n  b: {{ports: ["{second}80:81"]}}\n'
        if meet:
            with pytest.raises(InvalidFile, match="goes to service 'a' already"):
                read(text)
        else:
            assert len(read(text).services) == 2


def test_networks_of_a_service(read):
    text = """
services:
  a:
    mac_address: 02-00-00-00-00-0A
    networks:
      front: {ipv4_address: 10.1.0.7, aliases: [www, api]}
      back: {ipv6_address: "fd00::7", mac_address: 02:00:00:00:00:0b}
      there:
networks:
  front: {ipam: {config: [{subnet: 10.1.0.0/24}]}}
  back: {enable_ipv6: true, ipam: {config: [{subnet: "fd00::/64"}]}}
  there: {external: true, name: somewhere}
"""
    topology = read(text)
    assert one(topology).attachments == (
        Attachment("myproj1_front", IPv4Address("10.1.0.7"), None, "02:00:00:00:00:0a", ("www", "api")),
        Attachment("myproj1_back", None, IPv6Address("fd00::7"), "02:00:00:00:00:0b"),
        Attachment("somewhere"),
    )
    assert topology.external == ("somewhere",)
    assert [network.name for network in topology.networks] == ["myproj1_front", "myproj1_back"]


def test_external_networks(read):
    assert read("networks: {n: {external: true}}").external == ("n",)
    assert read("networks: {n: {external: {name: m}}}").external == ("m",)
    assert read("networks: {n: {external: true, name: default}}").external == ("default",)
    topology = read("networks: {n: {external: false}}")
    assert (topology.external, topology.networks[0].name) == ((), "myproj1_n")


def test_network_options(read):
    text = """
networks:
  n:
    driver: bridge
    internal: yes
    enable_ipv6: "true"
    driver_opts:
      com.docker.network.bridge.name: br7
      com.docker.network.driver.mtu: "9000"
      com.docker.network.bridge.enable_icc: "false"
      com.docker.network.bridge.enable_ip_masquerade: false
    ipam: {driver: default}
"""
    assert read(text).networks == (
        Network(
            "myproj1_n",
            bridge="br7",
            internal=True,
            icc=False,
            masquerade=False,
            mtu=9000,
            project="myproj1",
            ipv6=True,
        ),
    )


def test_modes(read):
    text = """
services:
  a: {network_mode: bridge, ports: ["80:80"]}
  b: {network_mode: host}
  c: {network_mode: "service:d"}
  d: {container_name: dora, depends_on: {x: {condition: service_started, required: false}}}
  e: {depends_on: [d]}
"""
    topology = read(text)
    a, b, c, d, e = topology.services
    assert (a.mode, a.attachments) == ("", (Attachment("default"),))
    assert (b.mode, b.netns, b.attachments) == ("host", "", ())
    assert (c.mode, c.netns) == ("service:dora", "/run/netns/dora")
    assert (d.name, d.attachments) == ("dora", (Attachment("myproj1_default", aliases=("d",)),))
    assert (e.after, d.after) == (("dora",), ())
    order = [service.name for service in topology.started_order()]
    assert order.index("dora") < order.index("c")


def test_the_default_network_is_there_when_needed(read):
    assert [n.name for n in read("services: {a: }").networks] == ["myproj1_default"]
    assert [n.name for n in read("services: {a: {networks: [default]}}").networks] == ["myproj1_default"]
    assert read("services: {a: {network_mode: host}}").networks == ()
    own = read("services: {a: }\nnetworks: {default: {internal: true}}")
    assert own.networks == (Network("myproj1_default", internal=True, project="myproj1"),)


def test_project_names(read, tmp_path):
    assert read("services: {}").project == "myproj1"
    assert read("name: lab").project == "lab"
    assert read("name: lab", project="other").project == "other"
    with pytest.raises(InvalidIntent, match="'My Lab' can't name a project"):
        read("name: lab", project="My Lab")
    nameless = tmp_path / "___"
    nameless.mkdir()
    (nameless / "f.yaml").write_text("services: {}")
    with pytest.raises(InvalidFile, match="can't name the project"):
        files.read(nameless / "f.yaml", environ={})
    long = tmp_path / ("x" * 60)
    long.mkdir()
    (long / "f.yaml").write_text("services: {a: }")
    with pytest.raises(InvalidFile, match="68 bytes long"):
        files.read(long / "f.yaml", environ={})


def test_fragments(read):
    text = """
x-base: &base
  user: nobody
  environment: &env {A: 1, B: 2}
services:
  a:
    <<: *base
    environment:
      <<: *env
      B: 3
  b: {<<: [{user: root}, *base]}
"""
    a, b = read(text).services
    assert (a.user, a.environment) == ("nobody", (("A", "1"), ("B", "3")))
    assert (b.user, b.environment) == ("root", (("A", "1"), ("B", "2")))


def test_a_fault_in_a_fragment_is_told_where_it_is_written(read):
    with pytest.raises(InvalidFile) as caught:
        read("x-p: &p\n  ports: [0:80:80]\nservices:\n  a: {<<: *p}\n")
    (fault,) = caught.value.faults
    assert (fault.line, fault.column, fault.path) == (2, 11, "services.a.ports[0]")


def test_extension_fields_are_nobodys_business(read):
    text = """
x-a: costs $5
services: {a: {x-b: '${', networks: {n: {x-c: 1}}, ports: [{target: 1, x-d: 1}]}}
networks: {n: {x-e: }}
"""
    assert one(read(text)).ports == (PublishedPort(1),)


def test_what_makes_no_difference_is_a_warning(read):
    text = 'version: "3.8"\nservices:\n  a:\n    tty: true\n    init: false\n    restart: "no"\n    volumes: []\n'
    version, tty = read(text).warnings
    assert version.endswith("f.yaml:1:1: version: is ignored (the format has no versions any more)")
    assert tty.endswith("f.yaml:4:5: services.a.tty: is ignored (use nsbridge run for a program you talk to)")


def test_ports_on_an_internal_network_are_a_warning(read):
    text = "services:\n  a: {networks: [n, m], ports: [80]}\nnetworks: {n: {internal: true}, m: }\n"
    (warning,) = read(text).warnings
    assert "2:25: services.a.ports: can't be reached: 'n', the service's first network, is internal" in warning
    assert read(text.replace("[n, m]", "[m, n]")).warnings == ()


def test_a_chain_may_be_long(read):
    text = "".join(f"  s{i}: {{depends_on: [s{i + 1}]}}\n" for i in range(1500))
    assert len(read(f"services:\n{text}  s1500:\n").services) == 1501
    with pytest.raises(InvalidFile, match="s0 -> s1 -> "):
        read(f"services:\n{text}  s1500: {{depends_on: [s0]}}\n")


def test_variables_and_dotenv(read):
    text = (
        "name: ${NAME}\nservices:\n  a:\n    hostname: $HOST\n    user: ${USER_:-nobody}\n    working_dir: ${NONE}/x\n"
    )
    topology = read(text, env="NAME=fromfile\nHOST=fromfile\nUSER_=\n", HOST="caller")
    assert topology.project == "fromfile"
    assert (one(topology).hostname, one(topology).user) == ("caller", "nobody")
    (warning,) = topology.warnings
    assert "6:18: services.a.working_dir: variable NONE is not set" in warning


def test_faults_of_dotenv_name_its_lines(read):
    with pytest.raises(InvalidFile) as caught:
        read("services: {}", env="A=1\nB='x\n  nonsense here\n")
    assert [(Path(f.file).name, f.line, f.column) for f in caught.value.faults] == [(".env", 2, 1), (".env", 3, 3)]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=1", "1"),
        ("export A = 1 # one", "1"),
        ("A='$B # x' # y", "$B # x"),
        ('A="a\\n$B\\$B\\"" # y', 'a\nb$B"'),
        ("A=${B}c", "bc"),
        ("A=x#y", "x#y"),
        ("A=#y", ""),
        ("A=", ""),
        ("A: 1", None),
    ],
)
def test_dotenv_lines(line, value):
    report = Report("f")
    assert dotenv(line, ".env", report, {"B": "b"}).get("A") == value
    assert bool(report.faults) == (value is None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$A-${A}", "a-a"),
        ("${E:-x}${E-x}${N-x}${N:-x}", "xxx"),
        ("${N:-${A}}${N:-${N:-$A}}", "aa"),
        ("${A:+y}${E:+y}${E+y}${N+y}", "yy"),
        ("$$A $${A} ${N:-$$}", "$A ${A} $"),
        ("${A:?no}${E?no}", "a"),
        ("plain {}", "plain {}"),
    ],
)
def test_substitution(text, expected):
    assert substitute(text, {"A": "a", "E": ""}, []) == expected


@pytest.mark.parametrize("text", ["$", "$1", "${", "${}", "${A", "${A/x/y}", "${N?}", "${E:?empty}", "a$-"])
def test_substitution_refuses(text):
    with pytest.raises(Wrong):
        substitute(text, {"A": "a", "E": ""}, [])


@given(st.text(), st.dictionaries(st.from_regex(r"[A-Z]{1,3}", fullmatch=True), st.text()))
def test_escaped_text_comes_back(text, variables):
    assert substitute(text.replace("$", "$$"), variables, []) == text


@given(
    st.integers(1, 65535),
    st.integers(0, 65535),
    st.sampled_from(["tcp", "udp", "sctp"]),
    st.none() | st.ip_addresses(),
)
def test_a_port_comes_back_from_its_short_form(target, host, proto, ip):
    ip_text = "" if ip is None else f"{ip}:" if ip.version == 4 else f"[{ip}]:"
    host_text = f"{host}:" if host else ":" if ip_text else ""
    port = PublishedPort(target, host, proto, ip)
    assert short_ports(f"{ip_text}{host_text}{target}/{proto}") == (port,)


@given(st.integers(1, 65000), st.integers(1, 65000), st.integers(0, 500))
def test_a_range_is_one_port_with_a_count(target, host, more):
    found = short_ports(f"{host}-{host + more}:{target}-{target + more}")
    assert found == (PublishedPort(target, host, count=more + 1),)
    assert short_ports(f"{host}-{host + more}:{target}") == (PublishedPort(target, host, choices=more + 1),)


@given(st.text(st.sampled_from("0123456789:.-/[]af tcp"), max_size=24) | st.text(max_size=12))
def test_whatever_stands_for_a_port_is_read_or_refused(text):
    try:
        found = short_ports(text)
    except Wrong:
        return
    assert found
    assert all(isinstance(port, PublishedPort) for port in found)


_NAMES = [
    "services",
    "networks",
    "a",
    "b",
    "ports",
    "command",
    "depends_on",
    "network_mode",
    "environment",
    "labels",
    "ipam",
    "config",
    "subnet",
    "gateway",
    "external",
    "name",
    "driver_opts",
    "aux_addresses",
    "target",
    "aliases",
    "ipv4_address",
    "default",
    "image",
    "x-y",
    "container_name",
    "condition",
    "mac_address",
]
_TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(_NAMES),
            inner,
            max_size=4,
        )
    ),
    max_leaves=25,
)


@given(_TREES)
def test_any_tree_is_read_or_refused_with_faults(tmp_path_factory, tree):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(tree))
    assert told(path)


@given(st.text(st.sampled_from("ab:-[]{}&*!|>'\"#%@`,? \n\t$<x\\"), max_size=40) | st.binary(max_size=30))
def test_any_text_is_read_or_refused_with_faults(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    assert told(path)


def test_json_and_toml(read):
    expected = read("name: lab\nservices: {a: {ports: ['80:80'], hostname: h}}\n")
    text = '{\n\t"name": "lab",\n\t"services": {"a": {"ports": ["80:80"], "hostname": "${H}"}}}'
    assert read(text, name="f.json", H="h") == expected
    assert read('name = "lab"\n[services.a]\nports = ["80:80"]\nhostname = "${H}"', name="f.toml", H="h") == expected


def test_toml_faults(read):
    with pytest.raises(InvalidFile) as caught:
        read('[services.a]\nport = ["80:80"]', name="f.toml")
    (fault,) = caught.value.faults
    assert str(fault).endswith("f.toml: services.a.port: is not a field of a service (did you mean 'ports'?)")
    with pytest.raises(InvalidFile) as caught:
        read("a = 1\nb == 2", name="f.toml")
    assert (caught.value.faults[0].line, caught.value.faults[0].column) == (2, 4)


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "f.yaml").write_bytes(b"name: a\n# caf\xe9\n")
    with pytest.raises(InvalidFile, match=r"f.yaml:2:6: is no UTF-8 text \(save it as UTF-8\)"):
        files.read(tmp_path / "f.yaml", environ={})
    (tmp_path / "f.yaml").write_bytes(b"\xef\xbb\xbfname: a\n")
    assert files.read(tmp_path / "f.yaml", environ={}).project == "a"


def test_too_much_is_refused_quickly(read):
    bomb = "x-a: &a0 [1]\n" + "".join(f"x-a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9))
    with pytest.raises(InvalidFile, match="more than 200000 parts"):
        read(bomb)
    with pytest.raises(InvalidFile, match="nested too deep"):
        read("a: " + "[" * 5000)


def test_no_such_file(tmp_path):
    with pytest.raises(NotFound) as caught:
        files.read(tmp_path / "none.yaml")
    assert caught.value.fix
    with pytest.raises(NotFound, match="is a directory"):
        files.read(tmp_path)


def test_a_file_that_may_not_be_read(tmp_path):
    path = tmp_path / "f.yaml"
    path.write_text("services: {}")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("root reads everything")
    with pytest.raises(NoPermission):
        files.read(path)


def test_find_default(tmp_path):
    assert files.find_default(tmp_path) is None
    for name in reversed(files.DEFAULT_NAMES):
        (tmp_path / name).write_text("")
        assert files.find_default(tmp_path) == str(tmp_path / name)


def test_the_package_itself_imports_neither_reader_nor_checker():
    code = "import sys, nsbridge.files as f; f.find_default(); print({'pydantic', 'ruamel'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


@pytest.mark.proves("row 49")
def test_ports_of_networks_without_nat_may_have_one_number(tmp_path):
    text = """
services:
  one: {networks: [lab], ports: ["8080:80"]}
  two: {networks: [lab], ports: ["8080:80"]}
networks:
  lab: {driver_opts: {com.docker.network.bridge.gateway_mode_ipv4: MODE}}
"""
    (tmp_path / "f.yaml").write_text(text.replace("MODE", "routed"))
    assert [len(one.ports) for one in files.read(tmp_path / "f.yaml", environ={}).services] == [1, 1]
    (tmp_path / "f.yaml").write_text(text.replace("MODE", "nat"))
    with pytest.raises(InvalidFile, match="host port 8080/tcp goes to service 'one' already"):
        files.read(tmp_path / "f.yaml", environ={})
