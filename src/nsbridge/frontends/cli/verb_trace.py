"""The verb `trace`, as data."""

from __future__ import annotations

from nsbridge.frontends.cli.shared import JSON
from nsbridge.frontends.cli.verb import Verb, arg, flag

TRACE = Verb(
    "trace",
    "looking",
    "Send one real packet and show the rules it met beside those that were predicted",
    "tracing:trace",
    (
        flag("-4", "--ipv4", help="by IPv4"),
        flag("-6", "--ipv6", help="by IPv6"),
        flag("-w", "--wait", help="send nothing, but follow the next such packet that somebody sends"),
        arg(
            "--timeout",
            type=float,
            default=0.0,
            metavar="SECONDS",
            help="wait so long for the answer (default: 0.9), or with --wait for the packet (default: for ever)",
        ),
        flag("-b", "--brief", help="leave the hops out"),
        JSON,
        arg("source", metavar="FROM", help="who sends, as for `nsbridge explain`"),
        arg("target", metavar="TO[:PORT][/PROTOCOL]", help="to whom: tcp with a port, unless /udp; a ping without"),
    ),
    about="The probe is a tcp connection that is closed at once, one udp datagram without content (to which most\n"
    "servers don't answer), or one ping. The kernel's own trace (nftrace) is turned on for this flow alone, in each\n"
    "namespace on its path, by tables that the kernel takes away when nsbridge ends, even if it is killed. Rules of\n"
    "iptables-legacy aren't traced by any kernel. From outside this host a probe can't be sent: use --wait.\n"
    "Exit status 1 if kernel and prediction differ, or if the prediction had to leave the fate open.",
    examples=(
        "trace host 127.0.0.1:8080",
        "trace ns1 ns2:80",
        "trace ns1 outside=1.1.1.1:53/udp",
        "trace --wait --timeout 30 outside host:8080",
        "trace ns1 ns2 --json",
    ),
    fields=(
        ("says", "what was predicted, as `nsbridge explain` says it"),
        ("agrees", "true if the kernel did what was predicted"),
        ("fate", "as of explain"),
        ("probe", "null with --wait, or outcome (connected, answered, refused, …), said (the error), took_s"),
        ("asked", "the packet: source, destination, their ports, protocol, mark"),
        ("rules", "how many were predicted and met"),
        ("differences", "each in words"),
        ("way", "there: netns, stage, thing, predicted, kernel (verdicts), mark, why of each hop"),
        ("back", "the same of the answer, empty without one"),
        ("untold", "what couldn't be compared"),
    ),
)
