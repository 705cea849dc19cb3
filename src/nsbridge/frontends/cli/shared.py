"""Arguments that several verbs share, and the fields that --json prints."""

from __future__ import annotations

from nsbridge.frontends.cli.verb import arg, flag, many, text

JSON = flag("--json", help="print JSON, with the fields named below")
SHOW = flag("--show-commands", help="print what is done as commands a person could type, on stderr")
STYLE = arg(
    "--style",
    default="",
    choices=("nft", "iptables"),
    metavar="STYLE",
    help="in whose words the firewall is told: nft or iptables (default: those of the firewall that holds the rules)",
)
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
    text("--ifname", metavar="IFNAME", help="name of the interface inside (default: eth0 or the next free one)"),
    text("--host-ifname", metavar="IFNAME", help="name of the interface's other end, on the host"),
    many(
        "--limit",
        metavar="NAME=VALUE",
        help="bound its link: ingress=10Mbit, egress=500kbit, delay=20ms, jitter=5ms, loss=0.5%%; repeatable",
    ),
    text("--vlan", metavar="NUMBER", help="VLAN it is in, on a bridge with mode=unmanaged"),
    flag("--check-address", help="ask the neighbours before taking the address (RFC 5227); takes 0.3 s"),
)
MAC = text("--mac-address", metavar="MAC", help="MAC address of the interface")
ALIAS = many("--alias", "--network-alias", metavar="NAME", help="one more name for the neighbours; repeatable")
HEALTH = (
    text("--health-cmd", metavar="COMMAND", help="ask with this command, for a shell, whether it does its work"),
    text("--health-interval", metavar="TIME", help="how often, as 30s (default) or 1m30s"),
    text("--health-timeout", metavar="TIME", help="a test that takes longer has failed (default: 30s)"),
    text("--health-retries", metavar="N", help="so many failures in a row make it unhealthy (default: 3)"),
    text("--health-start-period", metavar="TIME", help="has this and N intervals to become healthy (default: 0s)"),
    text("--health-start-interval", metavar="TIME", help="how often until then (default: 1s)"),
)
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
    ("vlan", "VLAN of its own, 0 for the network's"),
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
UNANSWERED = (
    "unanswered",
    "list of sockets, like [::]:8080/tcp, that take a proxy: [::1], link-local clients, IPv6 to IPv4",
)
ENDPOINT_FIELDS = (
    ("kind", '"endpoint"'),
    ("name", "its name"),
    ("netns", "path of its namespace"),
    *ADDRESS_FIELDS,
    ("ports", "list of published ports: target, host_port, host_ip, protocol, interface, count, shared"),
    UNANSWERED,
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
    (
        "health",
        "of a service with a test: status (starting, healthy, unhealthy, unwatched), failures, exit_status, output,\n"
        "at; else null",
    ),
    ("pid", "of the command, 0 without one"),
    ("since", "when the command began, seconds since 1970, else null"),
    ("netns", "path of its namespace"),
    ("networks", "list: network, ifname, addresses, mac, vlan, aliases, default_route"),
    ("ports", "list: target, host_port, host_ip, protocol, interface, count, shared"),
    UNANSWERED,
    ("labels", "object"),
)
NETWORK_FIELDS = (
    ("kind", '"network"'),
    ("name", "its name"),
    ("bridge", "its interface on the host"),
    ("subnets", "list: subnet, gateway, ip_range, aux_addresses"),
    ("driver", "bridge, macvlan or ipvlan"),
    ("mode", "of macvlan and ipvlan"),
    ("vlan", "VLAN of the bridge, 0 for none"),
    ("vrf", "VRF that somebody else's bridge is in, or empty"),
    ("unmanaged", "its bridge, or the link it stands on, is somebody else's"),
    ("internal", "no way in or out"),
    ("icc", "endpoints may talk to one another"),
    ("masquerade", "packets leave with the host's address"),
    ("sources", "list of addresses of the host that they leave with, empty for the route's"),
    ("host_binding", "address of the host on which ports are published that name none, null for all"),
    ("gateway_modes", "object: ipv4, ipv6; each nat, nat-unprotected, routed or isolated"),
    ("trusted_interfaces", "list of interfaces of the host from which endpoints may be reached directly"),
    ("filtering", "object: mac, ipv4, ipv6, as asked for; guarded, whether this kernel can"),
    ("policy", "what becomes of connections that no rule is about: allow, deny or reject"),
    ("routes", "list: dst, gw, metric, type"),
    ("inhibit_ipv4", "its bridge gets no IPv4 address"),
    ("advertise", "object: messages, null for when needed; interval_ms"),
    ("mtu", "bytes"),
    ("project", "its project, or empty"),
    ("labels", "object"),
    ("endpoints", "list: name, netns, addresses"),
)
CHANGE_FIELDS = (
    ("kind", "host, network or service"),
    ("name", "its name"),
    ("what", "create, recreate, mend, ports, start, watch, remove"),
    ("why", "the reason"),
    ("steps", "list: verb, why, things, and gone for a swap; each thing has kind, text and why"),
)
