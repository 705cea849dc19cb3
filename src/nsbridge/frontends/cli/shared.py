"""Arguments that several verbs share, and the fields that --json prints."""

from __future__ import annotations

from nsbridge.frontends.cli.verb import arg, flag, many, text

JSON = flag("--json", help="print JSON, with the fields named below")
QUIET = flag("-q", "--quiet", help="print names alone")
FILE = text(
    "-f", "--file", metavar="FILE", help="topology file (default: nsbridge.yaml, compose.yaml, … in this directory)"
)
PROJECT = text(
    "-p", "--project", "--project-name", metavar="NAME", help="project name (default: the file's, or its directory's)"
)
FIREWALL = text(
    "--firewall",
    metavar="NAME",
    help="where rules are kept: nftables (default) or iptables; also iptables-nft, iptables-legacy. Chosen with a\n"
    "host's first network, here or by NSBRIDGE_FIREWALL, until the last is gone",
)
PORTS = many(
    "-p",
    "--publish",
    metavar="PORT",
    help="publish a port: [HOST_IP|INTERFACE:][HOST_PORT:]PORT[/PROTOCOL], ranges too; repeatable",
)
IP = many("--ip", metavar="ADDRESS", help="IPv4 address, inside the network's subnet (default: a free one); repeatable")
IP6 = many(
    "--ip6",
    metavar="ADDRESS",
    help="IPv6 address, inside the network's subnet (default: a free one); repeatable",
)
LINK = (
    many("--link-local-ip", metavar="ADDRESS", help="one more address, good on this network alone; repeatable"),
    text("--host-ifname", metavar="IFNAME", help="name of the interface's other end, on the host"),
    many(
        "--limit",
        metavar="NAME=VALUE",
        help="bound its link: ingress=10Mbit, egress=500kbit, delay=20ms, jitter=5ms, loss=0.5%%; repeatable",
    ),
    flag("--check-address", help="ask the neighbours before taking the address (RFC 5227); takes 0.3 s"),
)
MAC = text("--mac-address", metavar="MAC", help="MAC address of the interface")
ALIAS = many("--alias", "--network-alias", metavar="NAME", help="one more name for the neighbours; repeatable")
ENV = many("-e", "--env", metavar="NAME=VALUE", help="set a variable, or pass ours on with NAME alone; repeatable")
WORKDIR = text("-w", "--workdir", metavar="DIR", help="working directory of the command")
USER = text("-u", "--user", metavar="USER[:GROUP]", help="run as this user, by name or number")
NET = text("--net", "--network", metavar="NETWORK", help="network it is on, when it is on several")
TIMEOUT = arg(
    "-t",
    "--timeout",
    "--time",
    type=float,
    default=10.0,
    metavar="SECONDS",
    help="wait this long before SIGKILL (default: 10)",
)
TERMINAL = (
    flag("-i", "--interactive", help="accepted as docker's: stdin always passes through"),
    flag("-t", "--tty", help="accepted as docker's: the terminal always passes through"),
)

ADDRESS_FIELDS = (
    ("network", "its network"),
    ("ifname", "its interface inside"),
    ("addresses", "list, with prefix length"),
    ("mac", "MAC address"),
    ("aliases", "list of further names"),
    ("default_route", "whether the way out goes here"),
)
PORT_FIELDS = (
    ("target", "port inside"),
    ("host_port", "port of the host"),
    ("host_ip", "address of the host, null for all"),
    ("protocol", "tcp, udp or sctp"),
    ("interface", "interface of the host, or empty"),
    ("count", "so many ports, from target and host_port on"),
    ("shared", "whether several endpoints answer on it in turn"),
)
ENDPOINT_FIELDS = (
    ("kind", '"endpoint"'),
    ("name", "its name"),
    ("netns", "path of its namespace"),
    *ADDRESS_FIELDS,
    ("ports", "list of published ports: target, host_port, host_ip, protocol, interface, count, shared"),
    ("service", "its service, or empty"),
    ("project", "its project, or empty"),
)
SERVICE_FIELDS = (
    ("kind", '"service", or "endpoint" for a namespace that somebody else made'),
    ("name", "its name"),
    ("project", "its project, or empty"),
    ("command", "list of words, empty without a command"),
    ("state", "running, exited, created; attached or gone for somebody else's namespace"),
    ("exit_status", "of a command that has ended, 128+n for signal n, else null"),
    ("pid", "of the command, 0 without one"),
    ("since", "when the command began, seconds since 1970, else null"),
    ("netns", "path of its namespace"),
    ("networks", "list: network, ifname, addresses, mac, aliases, default_route"),
    ("ports", "list: target, host_port, host_ip, protocol, interface, count, shared"),
    ("labels", "object"),
)
NETWORK_FIELDS = (
    ("kind", '"network"'),
    ("name", "its name"),
    ("bridge", "its interface on the host"),
    ("subnets", "list: subnet, gateway, ip_range, aux_addresses"),
    ("internal", "no way in or out"),
    ("icc", "endpoints may talk to one another"),
    ("masquerade", "packets leave with the host's address"),
    ("sources", "list of addresses of the host that they leave with, empty for the route's"),
    ("host_binding", "address of the host on which ports are published that name none, null for all"),
    ("mtu", "bytes"),
    ("project", "its project, or empty"),
    ("labels", "object"),
    ("endpoints", "list: name, netns, addresses"),
)
CHANGE_FIELDS = (
    ("kind", "host, network or service"),
    ("name", "its name"),
    ("what", "create, recreate, mend, ports, start, remove"),
    ("why", "the reason"),
    ("steps", "list: verb, why, things; each thing has kind, text and why"),
)
