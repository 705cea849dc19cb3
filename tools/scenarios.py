"""The scenarios of docs/rules: each a topology file, what it shows, and what the host was like before.

Addresses are from the ranges for private use and for documentation (RFC 1918, 4193, 5737), names are plain.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


@dataclass(frozen=True)
class Scenario:
    """One page. text: the topology file. before, after: commands that make the host special and plain again.

    also: a further listing that the page shows, as a command.
    """

    name: str
    title: str
    sentence: str
    text: str
    before: str = ""
    after: str = ""
    also: str = ""


def _web(ports: str, sentence_of_network: str = "") -> str:
    return f"""\
name: lab
networks:
  web:
    name: web
    ipam:
      config:
        - subnet: 10.20.0.0/24
{sentence_of_network}services:
  server:
    networks:
      web:
        ipv4_address: 10.20.0.2
    ports: {ports}
"""


def _plain(options: str) -> str:
    return f"""\
name: lab
networks:
  web:
    name: web
{options}    ipam:
      config:
        - subnet: 10.20.0.0/24
services:
  one:
    networks: {{web: {{ipv4_address: 10.20.0.2}}}}
  two:
    networks: {{web: {{ipv4_address: 10.20.0.3}}}}
"""


SCENARIOS = (
    Scenario(
        "one-network",
        "One network, nobody on it",
        "What the first network brings: the whole skeleton of rules, and one network's places in its sets. "
        "Nothing below adds a rule to it.",
        "name: lab\nnetworks:\n  web:\n    name: web\n    ipam:\n      config:\n        - subnet: 10.20.0.0/24\n",
    ),
    Scenario(
        "docker-bridge",
        "Docker's bridge network",
        "Two namespaces on a bridge, a web server in each, published as 8088 and 8089: the README's example.",
        (EXAMPLES / "docker-bridge.yaml").read_text(),
    ),
    Scenario(
        "published-everywhere",
        "A port on every address",
        "Port 8080 of every address of the host, 127.0.0.1 and the gateway's included, is port 80 of the endpoint: "
        "one map element a family.",
        _web('["8080:80"]'),
    ),
    Scenario(
        "published-on-one-address",
        "A port on one address",
        "Port 8080 of 198.51.100.1 alone; the same port of other addresses stays free for others.",
        _web('["198.51.100.1:8080:80"]'),
    ),
    Scenario(
        "published-on-loopback",
        "A port on 127.0.0.1",
        "Only programs of the host reach it: a packet to 127.0.0.1 that comes by wire ends in `guard`, before it is "
        "translated.",
        _web('["127.0.0.1:8080:80"]'),
    ),
    Scenario(
        "published-udp", "A UDP port", "The protocol is part of the key, so 53/tcp stays free.", _web('["53:53/udp"]')
    ),
    Scenario(
        "published-range",
        "A range of ports",
        "A range that keeps its numbers is one element of `ranges4`, however long it is. A shifted one is an element "
        "for each port, since nft can't shift a range.",
        _web('["3000-3999:3000-3999", "8000-8003:9000-9003"]'),
    ),
    Scenario(
        "published-on-an-interface",
        "A port on an interface",
        "What comes in by up0 is looked up by that name, so its addresses may change; for the host itself the port is "
        "in `own4` under the address that up0 had when it was published.",
        _web('["up0:8080:80"]'),
    ),
    Scenario(
        "shared-port",
        "A port that two endpoints share",
        "Sixty turns are dealt out among those who share the port; the kernel counts, and each new connection goes to "
        "the one whose turn it is.",
        """\
name: lab
networks:
  web:
    name: web
    ipam:
      config:
        - subnet: 10.20.0.0/24
services:
  one:
    networks: {web: {ipv4_address: 10.20.0.2}}
    ports: [{target: 80, published: 8080, share: true}]
  two:
    networks: {web: {ipv4_address: 10.20.0.3}}
    ports: [{target: 80, published: 8080, share: true}]
""",
    ),
    Scenario(
        "fixed-source",
        "A fixed address for the way out",
        "The subnet is in `source4` with the address that its packets leave with; masquerading comes after it, and "
        "finds nothing left to do.",
        _plain("    driver_opts:\n      com.docker.network.host_ipv4: 198.51.100.1\n"),
    ),
    Scenario(
        "internal",
        "An internal network",
        "No way in and no way out: its endpoints have no default route, its bridge is in `internal`, its subnet not in "
        "`hidden4`, and forwarding isn't turned on for it.",
        _plain("    internal: true\n"),
    ),
    Scenario(
        "icc-off",
        "Endpoints that may not talk to one another",
        "The bridge isn't in `icc`, and its ports are isolated from one another (`bridge -d link`): frames between "
        "them meet our rules only where br_netfilter shows them.",
        _plain('    driver_opts:\n      com.docker.network.bridge.enable_icc: "false"\n'),
    ),
    Scenario(
        "no-masquerade",
        "Leaving with one's own address",
        "The subnet isn't in `hidden4`: the world sees the endpoints' own addresses, and must know a way back to them.",
        _plain('    driver_opts:\n      com.docker.network.bridge.enable_ip_masquerade: "false"\n'),
    ),
    Scenario(
        "dual-stack",
        "IPv4 and IPv6",
        "Each family has its own sets and maps; a port published on every address is an element in both maps.",
        """\
name: lab
networks:
  web:
    name: web
    enable_ipv6: true
    ipam:
      config:
        - subnet: 10.20.0.0/24
        - subnet: fd00:20::/64
services:
  server:
    networks:
      web:
        ipv4_address: 10.20.0.2
        ipv6_address: fd00:20::2
    ports: ["8080:80"]
""",
    ),
    Scenario(
        "ipv6-only",
        "IPv6 alone",
        "No IPv4 address, no route_localnet, and IPv4 forwarding is left as it was.",
        """\
name: lab
networks:
  web:
    name: web
    ipam:
      config:
        - subnet: fd00:20::/64
services:
  server:
    networks:
      web:
        ipv6_address: fd00:20::2
    ports: ["8080:80"]
""",
    ),
    Scenario(
        "two-networks",
        "Two networks",
        "Separated by default: no pair of different bridges is in `icc`. Each one's published ports are the host's, so "
        "the other reaches those.",
        """\
name: lab
networks:
  front: {name: front, ipam: {config: [{subnet: 10.20.0.0/24}]}}
  back: {name: back, ipam: {config: [{subnet: 10.21.0.0/24}]}}
services:
  web:
    networks: {front: {ipv4_address: 10.20.0.2}}
    ports: ["8080:80"]
  app:
    networks: {front: {ipv4_address: 10.20.0.3}, back: {ipv4_address: 10.21.0.3}}
  db:
    networks: {back: {ipv4_address: 10.21.0.2}}
    ports: ["5432:5432"]
""",
    ),
    Scenario(
        "forward-drop",
        "A host that drops what it forwards",
        "The host's own FORWARD policy is DROP and stays so. One static rule in that chain accepts what carries our "
        "mark, which `allow` sets; it never changes, whatever is published.",
        _web('["8080:80"]'),
        before="iptables-nft -P FORWARD DROP",
        after="iptables-nft -P FORWARD ACCEPT; nft delete table ip filter",
        also="iptables-nft -S FORWARD",
    ),
)
