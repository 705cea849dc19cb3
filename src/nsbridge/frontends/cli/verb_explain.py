"""The verb `explain`, as data."""

from __future__ import annotations

from nsbridge.frontends.cli.shared import JSON
from nsbridge.frontends.cli.verb import Verb, arg, flag, text

EXPLAIN = Verb(
    "explain",
    "looking",
    "Say whether a packet arrives, where and as whom; or who is to blame, and the fix",
    "explaining:explain",
    (
        flag("-4", "--ipv4", help="ask by IPv4"),
        flag("-6", "--ipv6", help="ask by IPv6"),
        text("-s", "--size", metavar="BYTES", help="of the packet (default: a small one)"),
        flag("-b", "--brief", help="leave the hops out"),
        text("--planned", metavar="FILE", help="explain what this topology file would bring up, before it exists"),
        JSON,
        arg("source", metavar="FROM", help="who sends"),
        arg("target", metavar="TO[:PORT][/PROTOCOL]", help="to whom: tcp with a port, unless /udp; a ping without"),
    ),
    about="FROM and TO are an endpoint or service, host, outside or outside=ADDRESS, the name or path of a namespace,\n"
    "an address, or a name that a neighbour has. It is predicted from what the kernel holds: links, routes, settings,\n"
    "sockets, and every rule of every firewall; nothing is sent, nothing changed. What can't be evaluated is called\n"
    "opaque, never guessed. A fix is a command to be run as it stands, by root on the host.\n"
    "Exit status 1 if it doesn't arrive, or if nobody can say.",
    examples=(
        "explain outside host:8080",
        "explain ns1 ns2:80",
        "explain host 127.0.0.1:8080",
        "explain ns1 outside=1.1.1.1:53/udp",
        "explain outside=203.0.113.9 web:80 --json",
    ),
    fields=(
        ("says", "the sentence"),
        ("arrives", "true, false, or null when nobody can say, or it left what can be seen"),
        ("fate", "answered, no answer, refused, dropped, lost, left, unsent, unknown"),
        ("asked", "the packet: source, destination, their ports, protocol, mark"),
        ("culprit", "null, or kind, netns, thing, why, fix (a list of commands), advice"),
        ("way", "there: fate, netns, to, packet as it arrived, and hops"),
        ("back", "the answer's way, null without one"),
        ("opaque", "what couldn't be evaluated"),
        ("assumed", "what was taken for granted: unspent limits"),
        ("notes", "what is worth knowing though it arrives"),
    ),
)
