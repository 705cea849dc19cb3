"""The verbs about networks, about namespaces on them, and about the host."""

from __future__ import annotations

from nsbridge.frontends.cli.shared import ALIAS, ENDPOINT_FIELDS, IP, IP6, JSON, MAC, NET, NETWORK_FIELDS, PORTS, QUIET
from nsbridge.frontends.cli.verb import REST, Verb, arg, flag, many, text

NETWORKS = (
    Verb(
        "network create",
        "networks",
        "Make a network",
        "networks:create",
        (
            many(
                "--subnet",
                metavar="CIDR",
                help="its addresses, one IPv4 and one IPv6 subnet at most (default: a free one)",
            ),
            many("--gateway", metavar="ADDRESS", help="the bridge's address (default: the subnet's first)"),
            many("--ip-range", metavar="CIDR", help="give out addresses of this part alone"),
            many("--aux-address", metavar="NAME=ADDRESS", help="never give this address out; repeatable"),
            flag("--ipv6", help="give it an IPv6 subnet too"),
            flag("--internal", help="no way in or out"),
            flag("--no-icc", help="endpoints may not talk to one another"),
            flag("--no-masquerade", help="packets leave with their own source address"),
            text("--bridge", metavar="IFNAME", help="name of its interface on the host (default: nsb-NAME)"),
            arg("--mtu", type=int, default=0, metavar="BYTES", help="largest packet (default: the uplink's)"),
            many(
                "-o",
                "--opt",
                metavar="OPTION=VALUE",
                help="the same by docker's names: com.docker.network.bridge.name, …",
            ),
            many("--label", metavar="NAME=VALUE", help="a note of your own; repeatable"),
            arg("name", metavar="NAME", help="its name"),
        ),
        examples=(
            "network create lab",
            "network create --subnet 10.9.0.0/24 --ipv6 lab",
            "network create --internal db",
        ),
    ),
    Verb(
        "network ls",
        "networks",
        "List networks",
        "networks:listing",
        (QUIET, JSON),
        examples=("network ls", "network ls --json"),
        fields=NETWORK_FIELDS,
        aliases=("network list",),
    ),
    Verb(
        "network inspect",
        "networks",
        "Show all about networks, as JSON",
        "networks:inspect",
        (arg("names", nargs="+", metavar="NAME", help="networks"),),
        examples=("network inspect lab",),
        fields=NETWORK_FIELDS,
    ),
    Verb(
        "policy ls",
        "networks",
        "List who may talk to whom: the rules of files, in their order",
        "policy:listing",
        (JSON,),
        examples=("policy ls", "policy ls --json"),
        fields=(
            ("project", "the project whose file has it"),
            ("rule", "as it may stand in a file"),
            ("verdict", "allow, deny or reject"),
            ("log", "whether the kernel's log tells"),
            ("map", "the maps of table inet nsbridge it stands in: out_1 means out4_1 and out6_1"),
        ),
    ),
    Verb(
        "network rm",
        "networks",
        "Remove networks that nobody is on",
        "networks:remove",
        (arg("names", nargs="+", metavar="NAME", help="networks"),),
        examples=("network rm lab",),
        aliases=("network remove",),
    ),
    Verb(
        "network prune",
        "networks",
        "Remove all networks that nobody is on and no project owns",
        "networks:prune",
        (flag("-f", "--force", help="don't ask"),),
        examples=("network prune -f",),
    ),
)

ENDPOINTS = (
    Verb(
        "connect",
        "endpoints",
        "Attach an existing namespace to a network",
        "endpoints:connect",
        (
            text("--name", metavar="NAME", help="name of the endpoint (default: the namespace's)"),
            IP,
            IP6,
            MAC,
            ALIAS,
            PORTS,
            text(
                "--ifname", metavar="IFNAME", help="name of the interface inside (default: eth0 or the next free one)"
            ),
            JSON,
            arg("network", metavar="NETWORK", help="network"),
            arg("netns", metavar="NETNS", help="a name of `ip netns`, a path that opens the namespace, or a PID in it"),
        ),
        about="The namespace may belong to anything: `ip netns`, a container engine's process, a sandbox.",
        examples=(
            "connect lab ns1",
            "connect -p 8088:80 --ip 10.9.0.7 lab /run/netns/ns1",
            "connect --name web lab 4711",
        ),
        fields=ENDPOINT_FIELDS,
    ),
    Verb(
        "disconnect",
        "endpoints",
        "Take a namespace off a network",
        "endpoints:disconnect",
        (
            flag("-f", "--force", help="it is no error if there is no such endpoint"),
            arg("network", metavar="NETWORK", help="network"),
            arg("name", metavar="NAME", help="endpoint, or the namespace as it was named to connect"),
        ),
        examples=("disconnect lab ns1",),
    ),
    Verb(
        "publish",
        "endpoints",
        "Publish more ports of a live endpoint",
        "endpoints:publish",
        (
            NET,
            arg("name", metavar="NAME", help="endpoint or service"),
            arg("ports", nargs="+", metavar="PORT", help="[HOST_IP:][HOST_PORT:]PORT[/PROTOCOL], ranges too"),
        ),
        examples=("publish web 8088:80", "publish web 127.0.0.1:5353:53/udp [::1]:8080:80"),
    ),
    Verb(
        "unpublish",
        "endpoints",
        "Take published ports of a live endpoint away",
        "endpoints:unpublish",
        (
            NET,
            arg("name", metavar="NAME", help="endpoint or service"),
            arg(
                "ports",
                nargs="+",
                metavar="PORT",
                help="as they were published, or the port inside alone for all of it",
            ),
        ),
        examples=("unpublish web 8088:80", "unpublish web 80"),
    ),
)

HOUSEKEEPING = (
    Verb(
        "gc",
        "housekeeping",
        "Remove leftovers of ours: what nothing that is up accounts for",
        "housekeeping:gc",
        (
            flag("-n", "--dry-run", help="tell, and remove nothing"),
            flag("--json", help="print JSON: a list of what was removed, in words"),
        ),
        examples=("gc -n", "gc"),
    ),
    Verb(
        "doctor",
        "housekeeping",
        "Say what on this host blocks or endangers our networks, and the fix",
        "housekeeping:doctor",
        (JSON,),
        about="Exit status 1 if anything is an error.",
        examples=("doctor",),
        fields=(
            ("level", "ok, note, warning or error"),
            ("what", "what was found"),
            ("why", "what it means"),
            ("fix", "what to do, or empty"),
        ),
    ),
    Verb(
        "schema",
        "housekeeping",
        "Print the JSON Schema of topology files, for editors",
        "housekeeping:schema",
        examples=("schema > nsbridge.schema.json",),
        host=False,
    ),
    Verb(
        "completion",
        "housekeeping",
        "Print a shell's completions",
        "housekeeping:completion",
        (arg("shell", choices=("bash", "zsh", "fish", "tcsh"), metavar="SHELL", help="bash, zsh, fish or tcsh"),),
        examples=(
            "completion bash > ~/.local/share/bash-completion/completions/nsbridge",
            "completion zsh > ~/.zfunc/_nsbridge",
        ),
        host=False,
    ),
    Verb(
        "demo",
        "housekeeping",
        "Build a lab in a throwaway host, try every path, show what arrived; needs no root",
        "demo:main",
        (arg("arguments", nargs=REST, metavar="OPTION", help="see `nsbridge demo --help`"),),
        examples=("demo",),
        host=False,
    ),
    Verb(
        "version",
        "housekeeping",
        "Print versions of nsbridge, Python and the kernel",
        "housekeeping:version",
        (JSON,),
        examples=("version",),
        fields=(("nsbridge", "version"), ("python", "version"), ("kernel", "release")),
        host=False,
    ),
    Verb(
        "help",
        "housekeeping",
        "Show all verbs, or one verb's help",
        "housekeeping:help_for",
        (arg("words", nargs="*", metavar="VERB", help="verb"),),
        examples=("help run", "help network create"),
        host=False,
    ),
)
