"""The verbs that tell and draw what is, or what a file describes: script, rules, graph."""

from __future__ import annotations

from nsbridge.frontends.cli.shared import FILE, JSON, PROJECT, STYLE
from nsbridge.frontends.cli.verb import Verb, arg, flag

_PATH = arg(
    "topology",
    nargs="?",
    default="",
    metavar="FILE",
    help="topology file, up or not (default: what is up on this host)",
)

TELLING = (
    Verb(
        "script",
        "looking",
        "Print a shell script that builds by hand what a file describes, or what is up",
        "script:script",
        (_PATH, FILE, PROJECT, flag("--down", help="the script that takes it away again"), STYLE),
        about="Each part with its reason, in the order in which one would explain it. A test runs such scripts: what\n"
        "the kernel then holds is what nsbridge would have made. With --style iptables its rules are shorter than\n"
        "those that nsbridge keeps in iptables, and every packet fares the same. It starts no commands of services.",
        examples=("script examples/docker-bridge.yaml", "script --style iptables", "script --down > undo.sh"),
    ),
    Verb(
        "graph",
        "looking",
        "Draw the host, its bridges and namespaces: as text, SVG, dot or mermaid",
        "graph:graph",
        (
            _PATH,
            FILE,
            PROJECT,
            arg(
                "--format",
                default="text",
                choices=("text", "svg", "dot", "mermaid"),
                metavar="FORMAT",
                help="text (default), svg, dot (for graphviz) or mermaid (for Markdown)",
            ),
            arg(
                "--path",
                nargs=2,
                metavar=("FROM", "TO"),
                help="draw a packet's way onto it, with its rewrites; FROM and TO as for `nsbridge explain`",
            ),
        ),
        about="The SVG is readable in light and dark pages, and needs nothing but itself.",
        examples=("graph", "graph --format svg examples/two-networks.yaml > two.svg", "graph --path outside host:8088"),
    ),
    Verb(
        "rules",
        "looking",
        "Show the firewall's rules, ours and others', with reasons, owners and counters",
        "rules:rules",
        (
            flag("--chain", help="by chain, in the order in which a packet meets them (this is what is done anyway)"),
            flag("--commands", help="as the commands that would make them"),
            JSON,
            arg(
                "subject",
                nargs="?",
                default="",
                metavar="SUBJECT",
                help="a network, an endpoint, or a published port (8080, 53/udp): only what is about it (default: all)",
            ),
        ),
        about="Before each rule: packets and bytes that have met it, where it counts them.\n"
        "Foreign rules come last: a packet of ours has to pass those of the same hook, too.",
        examples=("rules", "rules web", "rules 8080", "rules --commands front"),
        fields=(
            ("kind", '"rule" or "element"'),
            ("family", "ip, ip6, inet or bridge"),
            ("table", "its table"),
            ("chain", "its chain, null for an element"),
            ("hook", "where the chain hooks in, null for one that others lead to"),
            ("priority", "of the chain at its hook, or null"),
            ("policy", "of the chain, or null"),
            ("set", "the set or map of an element, null for a rule"),
            ("text", "the rule in its tool's words"),
            ("why", "the reason, or empty"),
            ("owner", "nsbridge, or whose table it is"),
            ("packets", "so many have met it, null where nothing counts"),
            ("bytes", "the same in bytes"),
            ("command", "what would make it"),
        ),
    ),
)
