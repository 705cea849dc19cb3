"""Faulty files: what is said of each, to the letter and at which line and column; and whether an editor sees it too."""

from __future__ import annotations

import io

import jsonschema
import pytest
from ruamel.yaml import YAML

from nsbridge import files
from nsbridge.errors import InvalidFile
from nsbridge.files.faults import Fault

REJECTS = "the schema rejects it"
TAKES = "the schema takes it: only the meaning is wrong"
NO_YAML = "the schema isn't asked"

CASES = [
    (
        "image",
        """\
services:
  a:
    image: nginx
""",
        [
            "3:5: services.a.image: is not supported by nsbridge (nsbridge runs programs of the host: use command)",
        ],
        REJECTS,
    ),
    (
        "build",
        """\
services:
  a:
    build: .
""",
        [
            "3:5: services.a.build: is not supported by nsbridge (nsbridge runs programs of the host: use command)",
        ],
        REJECTS,
    ),
    (
        "volumes",
        """\
services:
  a:
    volumes: [.:/srv]
""",
        [
            "3:5: services.a.volumes: is not supported by nsbridge"
            " (programs see the host's files: give their paths, and working_dir)",
        ],
        REJECTS,
    ),
    (
        "restart",
        """\
services:
  a:
    restart: always
""",
        [
            "3:5: services.a.restart: is not supported by nsbridge"
            " (a service that ends stays ended: nsbridge up starts it again; or wrap the command in a loop)",
        ],
        REJECTS,
    ),
    (
        "healthcheck",
        """\
services:
  a:
    command: sleep 1
    healthcheck: {test: [RUN, "true"], interval: soon}
""",
        [
            "4:25: services.a.healthcheck.test: is no test"
            " (write [CMD, PROGRAM, …], [CMD-SHELL, TEXT], or the text alone)",
            "4:50: services.a.healthcheck.interval: is no time: 'soon' (write it like 20ms or 1.5s)",
        ],
        TAKES,
    ),
    (
        "what a healthcheck needs",
        """\
services:
  b:
    healthcheck: {test: "true"}
  c:
    command: sleep 1
    healthcheck: {interval: 1s}
  d:
    command: sleep 1
    healthcheck: {test: "true", retries: 0}
  e:
    depends_on:
      b: {condition: service_healthy}
      d: {condition: service_healthy}
""",
        [
            "3:5: services.b.healthcheck: belongs to a service without a command (remove it)",
            "6:5: services.c.healthcheck: has no test (write test: a command that succeeds when all is well)",
            "9:18: services.d.healthcheck: retries of a health check is 0 (write 1 or more)",
        ],
        TAKES,
    ),
    (
        "deploy",
        """\
services:
  a:
    deploy: {replicas: 3}
""",
        [
            "3:5: services.a.deploy: is not supported by nsbridge"
            " (a service is one process on this host: write one service a copy)",
        ],
        REJECTS,
    ),
    (
        "priority",
        """\
services:
  a:
    networks: {default: {priority: 1}}
""",
        [
            "3:26: services.a.networks.default.priority: is not supported by nsbridge"
            " (list first the network that shall come first; gw_priority chooses the default route)",
        ],
        REJECTS,
    ),
    (
        "attachable",
        """\
networks:
  n:
    attachable: true
""",
        [
            "3:5: networks.n.attachable: is not supported by nsbridge"
            " (every network takes other namespaces: nsbridge connect)",
        ],
        REJECTS,
    ),
    (
        "ipam options",
        """\
networks:
  n:
    ipam: {options: {a: b}}
""",
        [
            "3:12: networks.n.ipam.options: is not supported by nsbridge (it belongs to a container engine: remove it)",
        ],
        REJECTS,
    ),
    (
        "top-level volumes",
        """\
volumes: {data: {}}
""",
        [
            "1:1: volumes: is not supported by nsbridge"
            " (programs see the host's files: give their paths, and working_dir)",
        ],
        REJECTS,
    ),
    (
        "unknown field",
        """\
services:
  a:
    port: [80]
""",
        [
            "3:5: services.a.port: is not a field of a service (did you mean 'ports'?)",
        ],
        REJECTS,
    ),
    (
        "unknown field without a guess",
        """\
services:
  a:
    frobnicate: 1
""",
        [
            "3:5: services.a.frobnicate: is not a field of a service",
        ],
        REJECTS,
    ),
    (
        "unknown top-level field",
        """\
service: {}
""",
        [
            "1:1: service: is not a field of a topology (did you mean 'services'?)",
        ],
        REJECTS,
    ),
    (
        "unknown field of a port",
        """\
services:
  a:
    ports: [{target: 80, publish: 80}]
""",
        [
            "3:26: services.a.ports[0].publish: is not a field of a port (did you mean 'published'?)",
        ],
        REJECTS,
    ),
    (
        "unknown field of a subnet",
        """\
networks:
  n:
    ipam: {config: [{subnet: 10.9.0.0/24, gatway: 10.9.0.1}]}
""",
        [
            "3:43: networks.n.ipam.config[0].gatway: is not a field of a subnet (did you mean 'gateway'?)",
        ],
        REJECTS,
    ),
    (
        "unknown driver option",
        """\
networks:
  n:
    driver_opts: {com.docker.network.bridge.nmae: br0}
""",
        [
            '3:19: networks.n.driver_opts["com.docker.network.bridge.nmae"]: is not a field of a driver optio'
            "n"
            " (did you mean 'com.docker.network.bridge.name'?)",
        ],
        REJECTS,
    ),
    (
        "port too big",
        """\
services:
  a:
    ports: ["70000:80"]
""",
        [
            "3:13: services.a.ports[0]: has a port 70000 (choose a port from 1 to 65535)",
        ],
        TAKES,
    ),
    (
        "port of 0",
        """\
services:
  a:
    ports: [{target: 0}]
""",
        [
            "3:22: services.a.ports[0].target: has a port 0 (choose a port from 1 to 65535)",
        ],
        TAKES,
    ),
    (
        "port without a number",
        """\
services:
  a:
    ports: ["80:http"]
""",
        [
            "3:13: services.a.ports[0]: is no port: '80:http' (write [HOST_IP:][HOST_PORT:]PORT[/PROTOCOL])",
        ],
        TAKES,
    ),
    (
        "port range to fewer",
        """\
services:
  a:
    ports: ["8000-9000:80-81"]
""",
        [
            "3:13: services.a.ports[0]: has 1001 host ports for 2: '8000-9000:80-81' (give ranges of equal length)",
        ],
        TAKES,
    ),
    (
        "port ranges of unequal length",
        """\
services:
  a:
    ports: ["8000-8003:80-81"]
""",
        [
            "3:13: services.a.ports[0]: has 4 host ports for 2: '8000-8003:80-81' (give ranges of equal length)",
        ],
        TAKES,
    ),
    (
        "port range backwards",
        """\
services:
  a:
    ports: ["3001-3000:1-2"]
""",
        [
            "3:13: services.a.ports[0]: has a range that runs backwards: 3001-3000 (write 3000-3001)",
        ],
        TAKES,
    ),
    (
        "port on a named address",
        """\
services:
  a:
    ports: ["localhost:80:80"]
""",
        [
            "3:13: services.a.ports[0]: has no address of the host before its ports: 'localhost'"
            " (write one like 127.0.0.1)",
        ],
        TAKES,
    ),
    (
        "port on IPv6 without brackets",
        """\
services:
  a:
    ports: ["::1:80:80"]
""",
        [
            "3:13: services.a.ports[0]: is no port: '::1:80:80' (did you mean '[::1]:80:80'?)",
        ],
        TAKES,
    ),
    (
        "port with nothing before the colon",
        """\
services:
  a:
    ports: [":80"]
""",
        [
            "3:13: services.a.ports[0]: has nothing before its colon: ':80' (write '80')",
        ],
        TAKES,
    ),
    (
        "port protocol",
        """\
services:
  a:
    ports: ["80:80/icmp"]
""",
        [
            "3:13: services.a.ports[0]: has a protocol 'icmp' (use one of tcp, udp, sctp)",
        ],
        TAKES,
    ),
    (
        "port without target",
        """\
services:
  a:
    ports:
      - published: 80
""",
        [
            "4:9: services.a.ports[0]: needs a field 'target'",
        ],
        REJECTS,
    ),
    (
        "port target range",
        """\
services:
  a:
    ports: [{target: 80-81}]
""",
        [
            "3:22: services.a.ports[0].target: is a range of ports: '80-81'"
            ' (write ranges in the short form: "3000-3005:3000-3005")',
        ],
        TAKES,
    ),
    (
        "port of the wrong kind",
        """\
services:
  a:
    ports: [[80], ~, true]
""",
        [
            '3:13: services.a.ports[0]: is a list where a port should be (write "8088:80", or a map with target)',
            '3:19: services.a.ports[1]: is empty where a port should be (write "8088:80", or a map with target)',
            '3:22: services.a.ports[2]: is true where a port should be (write "8088:80", or a map with target)',
        ],
        REJECTS,
    ),
    (
        "ports as a map",
        """\
services:
  a:
    ports: {80: 80}
""",
        [
            "3:12: services.a.ports: is a map where a list should be",
        ],
        REJECTS,
    ),
    (
        "networks as text",
        """\
services:
  a:
    networks: default
""",
        [
            "3:15: services.a.networks: is text where a map or a list should be",
        ],
        REJECTS,
    ),
    (
        "environment as text",
        """\
services:
  a:
    environment: A=B
""",
        [
            "3:18: services.a.environment: is text where a map or a list should be",
        ],
        REJECTS,
    ),
    (
        "command as a map",
        """\
services:
  a:
    command: {a: b}
""",
        [
            "3:14: services.a.command: is a map where text or a list should be",
        ],
        REJECTS,
    ),
    (
        "command with an open quote",
        """\
services:
  a:
    command: echo "it's
""",
        [
            "3:14: services.a.command: can't be split into words: no closing quotation"
            " (close the quote, or write a list)",
        ],
        TAKES,
    ),
    (
        "label without a name",
        """\
services:
  a:
    labels: [=x]
""",
        [
            "3:14: services.a.labels[0]: has no name before '=': '=x' (write NAME=VALUE)",
        ],
        TAKES,
    ),
    (
        "variable without a name",
        """\
services:
  a:
    environment: {"": x, "a=b": y}
""",
        [
            "3:19: services.a.environment[\"\"]: '' can't name a variable (write NAME: value)",
            "3:26: services.a.environment[\"a=b\"]: 'a=b' can't name a variable (write NAME: value)",
        ],
        TAKES,
    ),
    (
        "user with a space",
        """\
services:
  a:
    user: a b
""",
        [
            "3:11: services.a.user: is no user: 'a b' (write NAME, UID, or either with :GROUP)",
        ],
        TAKES,
    ),
    (
        "host name with a space",
        """\
services:
  a:
    hostname: "a b"
""",
        [
            "3:15: services.a.hostname: host name 'a b' has ' ' where only letters, digits, '_', '.' and '-' "
            "may stand"
            " (choose another name)",
        ],
        TAKES,
    ),
    (
        "MAC address",
        """\
services:
  a:
    mac_address: 02:42:ac:11:00
""",
        [
            "3:18: services.a.mac_address: is no MAC address: '02:42:ac:11:00'"
            " (write six pairs like 02:42:ac:11:00:02, in quotes)",
        ],
        TAKES,
    ),
    (
        "multicast MAC address",
        """\
services:
  a:
    mac_address: 01:00:5e:00:00:01
""",
        [
            "3:18: services.a.mac_address: is no address one interface can have: 01:00:5e:00:00:01 (begin it with 02)",
        ],
        TAKES,
    ),
    (
        "service as text",
        """\
services:
  a: httpd
""",
        [
            "2:6: services.a: is text where a map should be",
        ],
        REJECTS,
    ),
    (
        "service name",
        """\
services:
  "a b":
""",
        [
            "2:3: services[\"a b\"]: service name 'a b' has ' ' where only letters, digits, '_', '.' and '-' ma"
            "y stand"
            " (choose another name)",
        ],
        REJECTS,
    ),
    (
        "container_name twice",
        """\
services:
  a:
  b: {container_name: a}
""",
        [
            "3:23: services.b.container_name: 'a' is the name of service 'a' too (choose another)",
        ],
        TAKES,
    ),
    (
        "unknown network",
        """\
services:
  a: {networks: [frnt]}
networks:
  front:
""",
        [
            "2:18: services.a.networks[0]: there is no network 'frnt' (did you mean 'front'?)",
        ],
        TAKES,
    ),
    (
        "unknown network without a guess",
        """\
services:
  a:
    networks: {other: {}}
""",
        [
            "3:16: services.a.networks.other: there is no network 'other' (add it under networks)",
        ],
        TAKES,
    ),
    (
        "unknown mode",
        """\
services:
  a:
    network_mode: hots
""",
        [
            "3:19: services.a.network_mode: is 'hots' (did you mean 'host'?)",
        ],
        TAKES,
    ),
    (
        "mode of a container",
        """\
services:
  a:
    network_mode: container:web
""",
        [
            "3:19: services.a.network_mode: 'container:web' is not supported by nsbridge"
            " (use service:NAME, or nsbridge connect for a container's namespace)",
        ],
        TAKES,
    ),
    (
        "mode of an unknown service",
        """\
services:
  a:
    network_mode: service:web
""",
        [
            "3:19: services.a.network_mode: there is no service 'web' (known: a)",
        ],
        TAKES,
    ),
    (
        "mode with networks",
        """\
services:
  a:
    network_mode: host
    networks: [default]
""",
        [
            "4:5: services.a.networks: can't be given together with network_mode 'host' (keep one of the two)",
        ],
        TAKES,
    ),
    (
        "mode with ports",
        """\
services:
  a: {network_mode: host, ports: [80]}
  b: {network_mode: none, ports: [80]}
  c: {network_mode: "service:b", ports: [80]}
""",
        [
            "2:27: services.a.ports: can't be published with network_mode 'host'"
            " (its ports are the host's own: remove ports)",
            "3:27: services.b.ports: can't be published with network_mode 'none' (give it a network, or remove ports)",
            "4:34: services.c.ports: can't be published with network_mode 'service:b' (publish them on service 'b')",
        ],
        TAKES,
    ),
    (
        "mode with a MAC address",
        """\
services:
  a:
    network_mode: none
    mac_address: 02:00:00:00:00:01
""",
        [
            "4:5: services.a.mac_address: has no interface to stand on with network_mode 'none' (remove it)",
        ],
        TAKES,
    ),
    (
        "mode of a service without a namespace",
        """\
services:
  a: {network_mode: host}
  b: {network_mode: "service:a"}
""",
        [
            "3:21: services.b.network_mode: service 'a' has no namespace of its own to share (use network_mode: host)",
        ],
        TAKES,
    ),
    (
        "depends on nobody",
        """\
services:
  a:
    depends_on: [b]
""",
        [
            "3:18: services.a.depends_on[0]: there is no service 'b' (known: a)",
        ],
        TAKES,
    ),
    (
        "depends on itself",
        """\
services:
  a:
    depends_on: [a]
""",
        [
            "3:18: services.a.depends_on[0]: services wait for one another in a circle: a -> a"
            " (let one of them not wait)",
        ],
        TAKES,
    ),
    (
        "depends in a circle",
        """\
services:
  a: {depends_on: [b]}
  b: {depends_on: {c: {condition: service_started}}}
  c: {network_mode: "service:a"}
""",
        [
            "4:21: services.c.network_mode: services wait for one another in a circle: a -> b -> c -> a"
            " (let one of them not wait)",
        ],
        TAKES,
    ),
    (
        "dependency conditions",
        """\
services:
  a:
    depends_on:
      b: {condition: service_completed_successfully, restart: true}
      c: {}
  b:
  c:
""",
        [
            "4:22: services.a.depends_on.b.condition: is 'service_completed_successfully'"
            " (write service_started or service_healthy: services stay)",
            "4:63: services.a.depends_on.b.restart: is true (services are not restarted with others: remove it)",
            "5:7: services.a.depends_on.c: needs a field 'condition' (write condition: service_started)",
        ],
        REJECTS,
    ),
    (
        "address outside",
        """\
services:
  a: {networks: {n: {ipv4_address: 10.8.0.2}}}
networks:
  n:
    ipam:
      config:
        - subnet: 10.9.0.0/24
          gateway: 10.9.0.1
          aux_addresses: {printer: 10.9.0.9}
""",
        [
            "2:36: services.a.networks.n.ipv4_address: 10.8.0.2 is outside the network's subnet 10.9.0.0/24"
            " (choose another)",
        ],
        TAKES,
    ),
    (
        "address of the gateway",
        """\
services:
  a: {networks: {n: {ipv4_address: 10.9.0.1}}}
networks:
  n:
    ipam:
      config:
        - subnet: 10.9.0.0/24
          gateway: 10.9.0.1
          aux_addresses: {printer: 10.9.0.9}
""",
        [
            "2:36: services.a.networks.n.ipv4_address: 10.9.0.1 is the network's gateway (choose another)",
        ],
        TAKES,
    ),
    (
        "address reserved",
        """\
services:
  a: {networks: {n: {ipv4_address: 10.9.0.9}}}
networks:
  n:
    ipam:
      config:
        - subnet: 10.9.0.0/24
          gateway: 10.9.0.1
          aux_addresses: {printer: 10.9.0.9}
""",
        [
            "2:36: services.a.networks.n.ipv4_address: 10.9.0.9 is reserved as aux address 'printer' (choose another)",
        ],
        TAKES,
    ),
    (
        "address of the network",
        """\
services:
  a: {networks: {n: {ipv4_address: 10.9.0.255}}}
networks:
  n:
    ipam:
      config:
        - subnet: 10.9.0.0/24
          gateway: 10.9.0.1
          aux_addresses: {printer: 10.9.0.9}
""",
        [
            "2:36: services.a.networks.n.ipv4_address: 10.9.0.255 is the first or last address of 10.9.0.0/24"
            " (choose another)",
        ],
        TAKES,
    ),
    (
        "address without a subnet",
        """\
services:
  a: {networks: {n: {ipv6_address: "fd00::2"}}}
networks:
  n:
    ipam:
      config:
        - subnet: 10.9.0.0/24
          gateway: 10.9.0.1
          aux_addresses: {printer: 10.9.0.9}
""",
        [
            "2:36: services.a.networks.n.ipv6_address: network 'n' has no IPv6 subnet to take fd00::2 from"
            " (give it one: networks.n.ipam.config)",
        ],
        TAKES,
    ),
    (
        "address of the other family",
        """\
services:
  a: {networks: {n: {ipv6_address: 10.9.0.7}}}
networks:
  n:
    ipam:
      config:
        - subnet: 10.9.0.0/24
          gateway: 10.9.0.1
          aux_addresses: {printer: 10.9.0.9}
""",
        [
            "2:36: services.a.networks.n.ipv6_address: is an IPv4 address: '10.9.0.7' (use ipv4_address for it)",
        ],
        TAKES,
    ),
    (
        "address with a prefix",
        """\
services:
  a: {networks: {n: {ipv4_address: 10.9.0.7/24}}}
networks:
  n:
    ipam:
      config:
        - subnet: 10.9.0.0/24
          gateway: 10.9.0.1
          aux_addresses: {printer: 10.9.0.9}
""",
        [
            "2:36: services.a.networks.n.ipv4_address: is no IPv4 address: '10.9.0.7/24'"
            " (write it without a prefix length)",
        ],
        TAKES,
    ),
    (
        "alias",
        """\
services:
  a: {networks: {n: {aliases: [ok, no way]}}}
networks:
  n:
    ipam:
      config:
        - subnet: 10.9.0.0/24
          gateway: 10.9.0.1
          aux_addresses: {printer: 10.9.0.9}
""",
        [
            "2:36: services.a.networks.n.aliases[1]: alias name 'no way' has ' ' where only letters, digits, "
            "'_', '.' and '-' may stand"
            " (choose another name)",
        ],
        TAKES,
    ),
    (
        "two MAC addresses",
        """\
services:
  a:
    mac_address: 02:00:00:00:00:01
    networks: {n: {mac_address: 02:00:00:00:00:02}}
networks:
  n:
""",
        [
            "3:18: services.a.mac_address: isn't the one on network 'n' (keep one of the two)",
        ],
        TAKES,
    ),
    (
        "address twice",
        """\
services:
  a: {networks: {n: {ipv4_address: 10.9.0.5}}}
  b: {networks: {n: {ipv4_address: 10.9.0.5}}}
networks:
  n:
    ipam:
      config:
        - subnet: 10.9.0.0/24
          gateway: 10.9.0.1
          aux_addresses: {printer: 10.9.0.9}
""",
        [
            "3:36: services.b.networks.n.ipv4_address: address 10.9.0.5 is that of service 'a' too (give each its own)",
        ],
        TAKES,
    ),
    (
        "MAC address twice",
        """\
services:
  a: {mac_address: 02:00:00:00:00:01}
  b: {mac_address: 02-00-00-00-00-01}
""",
        [
            "3:20: services.b.mac_address: MAC address 02:00:00:00:00:01 is that of service 'a' too"
            " (give each its own)",
        ],
        TAKES,
    ),
    (
        "host port twice",
        """\
services:
  a: {ports: ["8088:80"]}
  b:
    ports:
      - 8088:80/udp
      - 127.0.0.1:8088:80
""",
        [
            "6:9: services.b.ports[1]: host port 8088/tcp goes to service 'a' already on line 2"
            " (choose another host port)",
        ],
        TAKES,
    ),
    (
        "host port twice in ranges",
        """\
services:
  a: {ports: ["8000-8005:80-85"]}
  b: {ports: ["8003-8009:80-86"]}
""",
        [
            "3:15: services.b.ports[0]: host port 8003/tcp goes to service 'a' already on line 2"
            " (choose another host port)",
        ],
        TAKES,
    ),
    (
        "subnet with host bits",
        """\
networks:
  n:
    ipam:
      config:
        - subnet: 10.9.0.5/24
""",
        [
            "5:19: networks.n.ipam.config[0].subnet: has bits beyond its prefix: '10.9.0.5/24'"
            " (did you mean 10.9.0.0/24?)",
        ],
        TAKES,
    ),
    (
        "subnet without a prefix",
        """\
networks:
  n:
    ipam:
      config:
        - subnet: 10.9.0.0
""",
        [
            "5:19: networks.n.ipam.config[0].subnet: has no prefix length: '10.9.0.0' (write it like 172.30.0.0/24)",
        ],
        TAKES,
    ),
    (
        "subnet too small",
        """\
networks:
  n:
    ipam:
      config:
        - subnet: 10.9.0.0/31
""",
        [
            "5:19: networks.n.ipam.config[0].subnet: subnet 10.9.0.0/31 has no room for a gateway and an endp"
            "oint"
            " (use a wider prefix)",
        ],
        TAKES,
    ),
    (
        "subnet missing",
        """\
networks:
  n:
    ipam:
      config:
        - gateway: 10.9.0.1
""",
        [
            "5:11: networks.n.ipam.config[0]: needs a field 'subnet'",
        ],
        REJECTS,
    ),
    (
        "subnet pieces outside",
        """\
networks:
  n:
    ipam:
      config:
        - subnet: 10.9.0.0/24
          gateway: 10.8.0.1
          ip_range: 10.9.0.0/16
          aux_addresses: {a: 10.8.0.3}
""",
        [
            "6:20: networks.n.ipam.config[0].gateway: gateway 10.8.0.1 is outside its subnet 10.9.0.0/24"
            " (choose one inside it)",
            "7:21: networks.n.ipam.config[0].ip_range: ip_range 10.9.0.0/16 is outside its subnet 10.9.0.0/24"
            " (choose one inside it)",
            "8:30: networks.n.ipam.config[0].aux_addresses.a: aux address 'a' 10.8.0.3 is outside its subnet "
            "10.9.0.0/24"
            " (choose one inside it)",
        ],
        TAKES,
    ),
    (
        "two IPv4 subnets",
        """\
networks:
  n:
    ipam:
      config:
        - subnet: 10.8.0.0/24
        - subnet: 10.9.0.0/24
""",
        [
            "5:9: networks.n.ipam.config: network 'proj_n' has two subnets of one family"
            " (give one IPv4 and one IPv6 subnet at most)",
        ],
        TAKES,
    ),
    (
        "IPv6 subnet with enable_ipv6 false",
        """\
networks:
  n:
    enable_ipv6: false
    ipam: {config: [{subnet: "fd00::/64"}]}
""",
        [
            "4:30: networks.n.ipam.config[0].subnet: is an IPv6 subnet, and enable_ipv6 is false"
            " (remove one of the two)",
        ],
        TAKES,
    ),
    (
        "enable_ipv4 false",
        """\
networks:
  n:
    enable_ipv4: false
""",
        [
            "3:18: networks.n.enable_ipv4: is false (a network with just an IPv6 subnet has no IPv4: remove it)",
        ],
        REJECTS,
    ),
    (
        "overlap",
        """\
networks:
  a: {ipam: {config: [{subnet: 10.7.1.0/24}]}}
  b: {ipam: {config: [{subnet: 10.7.0.0/16}]}}
""",
        [
            "3:32: networks.b.ipam.config[0].subnet: 10.7.0.0/16 overlaps 10.7.1.0/24 of network 'a'"
            " (choose subnets apart)",
        ],
        TAKES,
    ),
    (
        "bridge twice",
        """\
networks:
  a: {driver_opts: {com.docker.network.bridge.name: br0}}
  b: {driver_opts: {com.docker.network.bridge.name: br0}}
""",
        [
            "3:53: networks.b.driver_opts[\"com.docker.network.bridge.name\"]: bridge 'br0' is that of network "
            "'a' too"
            " (choose another)",
        ],
        TAKES,
    ),
    (
        "network name twice",
        """\
networks:
  a: {name: x}
  b: {name: x}
""",
        [
            "3:13: networks.b.name: 'x' is the real name of network 'a' too (choose another)",
        ],
        TAKES,
    ),
    (
        "network called default",
        """\
networks:
  n:
    name: default
""",
        [
            "3:11: networks.n.name: is the network that exists without being made"
            " (choose another name, or use external: true)",
        ],
        TAKES,
    ),
    (
        "network driver",
        """\
networks:
  n:
    driver: overlay
""",
        [
            "3:13: networks.n.driver: is 'overlay' (networks end at this host)",
        ],
        REJECTS,
    ),
    (
        "ipam driver",
        """\
networks:
  n:
    ipam: {driver: dhcp}
""",
        [
            "3:20: networks.n.ipam.driver: is 'dhcp' (give addresses with ipv4_address: a lease takes a process that "
            "renews it, and there is none yet)",
        ],
        REJECTS,
    ),
    (
        "bridge name too long",
        """\
networks:
  n:
    driver_opts: {com.docker.network.bridge.name: a-very-long-name}
""",
        [
            '3:51: networks.n.driver_opts["com.docker.network.bridge.name"]: interface name \'a-very-long-name'
            "' is 16 bytes long"
            " (use at most 15)",
        ],
        TAKES,
    ),
    (
        "MTU",
        """\
networks:
  n:
    driver_opts: {com.docker.network.driver.mtu: 12}
""",
        [
            "3:50: networks.n.driver_opts[\"com.docker.network.driver.mtu\"]: network 'proj_n' has an MTU of 12"
            " (use 68 to 65535)",
        ],
        TAKES,
    ),
    (
        "flag",
        """\
networks:
  n:
    internal: maybe
""",
        [
            "3:15: networks.n.internal: is 'maybe' where true or false should be",
        ],
        TAKES,
    ),
    (
        "external with more",
        """\
networks:
  n:
    external: true
    internal: true
""",
        [
            "4:5: networks.n.internal: can't be given for an external network"
            " (change it where the network is made, or remove external)",
        ],
        TAKES,
    ),
    (
        "project name",
        """\
name: My Lab
""",
        [
            "1:7: name: 'My Lab' can't name a project (did you mean 'mylab'?)",
        ],
        TAKES,
    ),
    (
        "variable that must be set",
        """\
services:
  a:
    command: run ${PORT:?which port}
""",
        [
            "3:14: services.a.command: needs the variable PORT: which port (set PORT in the environment or .env)",
        ],
        TAKES,
    ),
    (
        "dollar sign",
        """\
services:
  a:
    command: echo $1
""",
        [
            "3:14: services.a.command: has a '$' that begins no variable: '$1' (write $$ for a dollar sign)",
        ],
        TAKES,
    ),
    (
        "open brace",
        """\
services:
  a:
    command: echo ${HOME
""",
        [
            "3:14: services.a.command: has a variable without its closing '}': '${HOME' (write $$ for a dollar sign)",
        ],
        TAKES,
    ),
    (
        "key twice",
        """\
services:
  a:
    user: x
    user: y
  b:
  a:
""",
        [
            "4:5: services.a.user: is given twice, first on line 3 (keep one)",
            "6:3: services.a: is given twice, first on line 2 (keep one)",
        ],
        NO_YAML,
    ),
    (
        "syntax: flow",
        """\
services: [1
networks: 2
""",
        [
            "2:9: is no YAML: expected ',' or ']', but got ':' while parsing a flow sequence",
        ],
        NO_YAML,
    ),
    (
        "syntax: colon",
        """\
name: a: b
""",
        [
            "1:8: is no YAML: mapping values are not allowed here"
            " (quote text that has ': ' in it, or check the indentation)",
        ],
        NO_YAML,
    ),
    (
        "syntax: tab",
        """\
services:
	a:
""",
        [
            "2:1: is no YAML: found character '\\t' that cannot start any token while scanning for the next to"
            "ken"
            " (indent with spaces, not tabs)",
        ],
        NO_YAML,
    ),
    (
        "syntax: at sign",
        """\
name: @home
""",
        [
            "1:7: is no YAML: found character '@' that cannot start any token while scanning for the next tok"
            "en"
            " (quote text that begins with this character)",
        ],
        NO_YAML,
    ),
    (
        "syntax: control character",
        "name: a\x07\n",
        [
            "1:8: is no YAML: character U+0007 may not stand in YAML (remove it)",
        ],
        NO_YAML,
    ),
    (
        "syntax: two documents",
        """\
name: a
---
name: b
""",
        [
            "2:1: is no YAML: a second document begins here (a topology is one document: remove the '---')",
        ],
        NO_YAML,
    ),
    (
        "unknown alias",
        """\
services: *all
""",
        [
            "1:11: is no YAML: found undefined alias 'all'",
        ],
        NO_YAML,
    ),
    (
        "alias of itself",
        """\
x-a: &a [*a]
""",
        [
            "1:6: x-a[0]: is an alias of something it is inside of (copy what you need)",
        ],
        NO_YAML,
    ),
    (
        "merge of a list",
        """\
services:
  a:
    <<: [3]
""",
        [
            "3:5: services.a: merges something that is no map (write '<<: *anchor' of a map)",
        ],
        NO_YAML,
    ),
    (
        "tag",
        """\
services: !reset {}
""",
        [
            "1:11: services: has a tag '!reset' (remove it: tags are not supported)",
        ],
        NO_YAML,
    ),
    (
        "empty file",
        """\
# nothing
""",
        [
            "1:1: is empty (begin with 'services:')",
        ],
        NO_YAML,
    ),
    (
        "list at the top",
        """\
- services
""",
        [
            "1:1: is a list where a map should be (begin with 'services:')",
        ],
        NO_YAML,
    ),
    (
        "many at once",
        """\
services:
  web:
    image: nginx
    ports: ["80:80:80:80", 8080:80, {target: x}, "8080:81"]
    networks: [front, bcak]
  db: {depends_on: [wbe], networks: {back: {ipv4_address: 10.1.0.2}}}
networks:
  front: {ipam: {config: [{subnet: 10.0.0.1/24}, {subnet: "fd00::/64", gateway: "fd01::1"}]}}
  back: {ipam: {config: [{subnet: 10.0.0.0/24}]}}
""",
        [
            "3:5: services.web.image: is not supported by nsbridge (nsbridge runs programs of the host: use command)",
            "4:13: services.web.ports[0]: is no port: '80:80:80:80' (write [HOST_IP:][HOST_PORT:]PORT[/PROTOCOL])",
            "4:46: services.web.ports[2].target: is no port: 'x' (choose a port from 1 to 65535)",
            "4:50: services.web.ports[3]: host port 8080/tcp goes to service 'web' already on line 4"
            " (choose another host port)",
            "5:23: services.web.networks[1]: there is no network 'bcak' (did you mean 'back'?)",
            "6:21: services.db.depends_on[0]: there is no service 'wbe' (did you mean 'web'?)",
            "6:59: services.db.networks.back.ipv4_address: 10.1.0.2 is outside the network's subnet 10.0.0.0/"
            "24"
            " (choose another)",
            "8:36: networks.front.ipam.config[0].subnet: has bits beyond its prefix: '10.0.0.1/24'"
            " (did you mean 10.0.0.0/24?)",
            "8:81: networks.front.ipam.config[1].gateway: gateway fd01::1 is outside its subnet fd00::/64"
            " (choose one inside it)",
        ],
        REJECTS,
    ),
]


@pytest.fixture
def directory(tmp_path_factory, monkeypatch):
    directory = tmp_path_factory.mktemp("x") / "proj"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


@pytest.mark.parametrize(("text", "expected", "schema"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_each_fault_is_told_at_its_place(directory, text, expected, schema):
    (directory / "f.yaml").write_text(text)
    with pytest.raises(InvalidFile) as caught:
        files.read("f.yaml", environ={})
    faults = caught.value.faults
    assert [str(fault) for fault in faults] == [f"f.yaml:{line}" for line in expected]
    assert all(str(fault) in str(caught.value) for fault in faults)
    assert all(isinstance(fault, Fault) and fault.message for fault in faults)


@pytest.mark.parametrize(
    ("text", "verdict"), [(c[1], c[3]) for c in CASES if c[3] != NO_YAML], ids=[c[0] for c in CASES if c[3] != NO_YAML]
)
def test_the_schema_rejects_what_is_wrong_in_shape(text, verdict):
    tree = YAML(typ="safe", pure=True).load(io.StringIO(text))
    found = list(jsonschema.Draft202012Validator(files.schema()).iter_errors(tree))
    assert bool(found) == (verdict == REJECTS), found


@pytest.mark.parametrize("text", [case[1] for case in CASES], ids=[case[0] for case in CASES])
def test_what_stands_at_the_place_is_in_the_file(directory, text):
    (directory / "f.yaml").write_text(text)
    with pytest.raises(InvalidFile) as caught:
        files.read("f.yaml", environ={})
    lines = text.split("\n")
    for fault in caught.value.faults:
        assert 1 <= fault.line <= len(lines)
        assert 1 <= fault.column <= len(lines[fault.line - 1]) + 1
