"""The verbs that tell and draw what is, or what a file describes: script, rules, graph."""

from __future__ import annotations

from nsbridge.frontends.cli.shared import FILE, PROJECT
from nsbridge.frontends.cli.verb import Verb, arg, flag

_PATH = arg(
    "path", nargs="?", default="", metavar="FILE", help="topology file, up or not (default: what is up on this host)"
)
_STYLE = arg(
    "--style",
    default="nft",
    choices=("nft",),
    metavar="STYLE",
    help="how the firewall is told: nft (default)",
)

TELLING = (
    Verb(
        "script",
        "looking",
        "Print a shell script that builds by hand what a file describes, or what is up",
        "telling:script",
        (_PATH, FILE, PROJECT, flag("--down", help="the script that takes it away again"), _STYLE),
        about="Each part with its reason, in the order in which one would explain it. A test runs such scripts: what\n"
        "the kernel then holds is what nsbridge would have made. Commands of services aren't started by it.",
        examples=("script examples/docker-bridge.yaml", "script --down", "script > by-hand.sh"),
    ),
)
