"""Ways to break a network by hand, as data: what is done, what is asked, who is to blame, and what mends it.

Each is done for real in a workshop, `nsbridge explain` is asked, the fix it prints is run as printed, and a real packet
tells whether it helped (test_breakages.py). docs/explain.md shows the same table, and is made here too
(tools/explaining.py).

      outside ─ up0, up1 ─ host ─┬ front 10.77.0.0/24 fd00:77::/64   web (8080, 127.0.0.1:8081, 8085 → 81)   db
                                 ├ back  10.78.0.0/24                other (5353/udp)
                                 └ shut  10.79.0.0/24 (internal)     inner
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import FreshHost, Lab, eventually, inside

from nsbridge.engine.explain import explain
from nsbridge.engine.mend import mend
from nsbridge.frontends.cli.main import main
from nsbridge.wiring import open_host

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

SETUP = """set -e
nsbridge network create --subnet 10.77.0.0/24 --subnet fd00:77::/64 front
nsbridge network create --subnet 10.78.0.0/24 back
nsbridge network create --subnet 10.79.0.0/24 --internal shut
nsbridge connect front web --ip 10.77.0.2 --ip6 fd00:77::2 -p 8080:80 -p 127.0.0.1:8081:80 -p 8085:81
nsbridge connect front db --ip 10.77.0.3
nsbridge connect back other --ip 10.78.0.2 -p 5353:53/udp
nsbridge connect shut inner --ip 10.79.0.2
ip link add up1 type veth peer name eth1 netns outside
ip address add 198.51.101.1/24 dev up1
ip link set up1 up
ip -n outside address add 198.51.101.2/24 dev eth1
ip -n outside link set eth1 up
ip -n outside address add 203.0.113.9/32 dev lo
ip -n outside route add 10.77.0.0/16 via 198.51.100.1
"""

PORT = (
    "$(ip -n web -o link show eth0 >/dev/null; ip -o link show master nsb-front | grep web | cut -d: -f2 | cut -d@ -f1)"
)
"""The host's end of web's pair, by its alias."""


@dataclass(frozen=True)
class Breakage:
    """One of them. probe: the request that must be answered afterwards: (namespace or "", address, port or protocol).

    item: the complaint of users it stands for. undo: what the fix leaves behind, taken away before the next one.
    """

    name: str
    how: str
    question: str
    culprit: str
    fix: str = ""
    probe: tuple[str, str, str] = ()  # type: ignore[assignment]
    item: str = ""
    undo: str = ""


PUBLISHED = ("outside", "198.51.100.1", "8080")
OUT = ("web", "198.51.100.2", "80")
LOCAL = ("", "127.0.0.1", "8080")
NEAR = ("web", "10.77.0.3", "80")

BREAKAGES = (
    # settings
    Breakage("forwarding turned off", "sysctl -qw net.ipv4.ip_forward=0", "outside host:8080",
             "net.ipv4.ip_forward=0", "nsbridge mend", PUBLISHED, "the hand-made bridge"),
    Breakage("forwarding off on the uplink", "sysctl -qw net.ipv4.conf.up0.forwarding=0", "outside host:8080",
             "net.ipv4.conf.up0.forwarding=0", "sysctl -w", PUBLISHED),
    Breakage("IPv6 forwarding turned off", "sysctl -qw net.ipv6.conf.all.forwarding=0", "web outside:80 -6",
             "net.ipv6.conf.all.forwarding=0", "nsbridge mend", ("web", "2001:db8:1::2", "80"), "38"),
    Breakage("no loopback on the bridge", "sysctl -qw net.ipv4.conf.nsb-front.route_localnet=0",
             "host 127.0.0.1:8080", "net.ipv4.conf.nsb-front.route_localnet=0", "nsbridge mend", LOCAL, "13"),
    Breakage("strict reverse path on a host with two ways",
             "ip route add 203.0.113.0/24 via 198.51.101.2; sysctl -qw net.ipv4.conf.up0.rp_filter=1; "
             # As a router's neighbour is: the host wouldn't tell its MAC to a sender whom it doesn't believe.
             "ip -n outside neigh replace 198.51.100.1 dev eth0 lladdr $(ip -br link show up0 | awk '{print $3}')",
             "203.0.113.9 198.51.100.1:8080", "net.ipv4.conf.up0.rp_filter=1", "sysctl -w",
             ("outside from 203.0.113.9", "198.51.100.1", "8080"), "S23",
             "ip route del 203.0.113.0/24; ip -n outside neigh del 198.51.100.1 dev eth0"),
    Breakage("an endpoint that answers no ARP",
             "ip netns exec web sysctl -qw net.ipv4.conf.eth0.arp_ignore=8; ip neigh flush dev nsb-front",
             "outside host:8080", "net.ipv4.conf.eth0.arp_ignore=8", "sysctl -w", PUBLISHED),
    Breakage("an endpoint that answers no ping", "ip netns exec web sysctl -qw net.ipv4.icmp_echo_ignore_all=1",
             "host web", "net.ipv4.icmp_echo_ignore_all=1", "sysctl -w", ("", "10.77.0.2", "ping")),
    Breakage("IPv6 turned off inside", "ip netns exec web sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1",
             "outside host:8080 -6", "net.ipv6.conf.eth0.disable_ipv6=1", "nsbridge mend",
             ("outside", "2001:db8:1::1", "8080")),
    Breakage("the bridge's address taken away", "ip address del 10.77.0.1/24 dev nsb-front", "outside host:8080",
             "10.77.0.1/24 on nsb-front", "nsbridge mend", PUBLISHED),
    # other people's rules
    Breakage("somebody's redirect of the same port", "iptables -t nat -I PREROUTING -p tcp --dport 8080 -j REDIRECT "
             "--to-ports 9", "outside host:8080", "REDIRECT", "nft delete rule ip nat PREROUTING", PUBLISHED, "S7"),
    Breakage("a port hidden from conntrack", "iptables -t raw -I PREROUTING -p tcp --dport 8080 -j NOTRACK",
             "outside host:8080", "NOTRACK", "nft delete rule ip raw", PUBLISHED),
    Breakage("a rule that lets packets go no further", "iptables -t mangle -A PREROUTING -i up0 -j TTL --ttl-set 1",
             "outside host:8080", "--ttl-set 1", "iptables-nft -t mangle -I", PUBLISHED, "",
             "iptables -t mangle -F PREROUTING"),
    Breakage("a forward policy that came after us", "nft 'add table inet theirs; add chain inet theirs f "
             "{ type filter hook forward priority filter; policy drop; }'", "outside host:8080",
             "inet theirs f", "nsbridge mend", PUBLISHED, "6", "nft delete table inet theirs"),
    Breakage("iptables' FORWARD policy", "iptables -P FORWARD DROP", "outside host:8080", "FORWARD",
             "nsbridge mend", PUBLISHED, "4, 5", "iptables -P FORWARD ACCEPT"),
    Breakage("the same, of iptables-legacy", "iptables-legacy -P FORWARD DROP", "web outside:80", "FORWARD",
             "nsbridge mend", OUT, "7", "iptables-legacy -P FORWARD ACCEPT"),
    Breakage("a rule against the server's port", "nft 'add table inet theirs; add chain inet theirs f "
             "{ type filter hook forward priority 10; }; add rule inet theirs f tcp dport 80 drop'",
             "outside host:8080", "inet theirs f: tcp dport 80 drop", "nft insert rule", PUBLISHED, "2",
             "nft delete table inet theirs"),
    Breakage("a rule in a chain that FORWARD jumps to", "iptables -N ufw-like; "
             "iptables -A ufw-like -d 10.77.0.2 -j DROP; iptables -I FORWARD -j ufw-like", "outside host:8080",
             "ufw-like", "iptables-nft -I ufw-like 1",
             PUBLISHED, "1, 3", "iptables -D FORWARD -j ufw-like; iptables -F ufw-like; iptables -X ufw-like"),
    Breakage("the same in iptables-legacy", "iptables-legacy -I FORWARD -p tcp --dport 80 -j REJECT", "web outside:80",
             "-p tcp", "iptables-legacy -I FORWARD 1", OUT, "7", "iptables-legacy -F FORWARD"),
    Breakage("a drop before conntrack", "nft 'add table ip theirs; add chain ip theirs p "
             "{ type filter hook prerouting priority raw; }; add rule ip theirs p tcp dport 8080 counter drop'",
             "outside host:8080", "ip theirs p: tcp dport 8080", "nft insert rule", PUBLISHED, "39",
             "nft delete table ip theirs"),
    Breakage("a host that lets nothing in", "nft 'add table inet theirs; add chain inet theirs i "
             "{ type filter hook input priority filter; policy drop; }'", "outside host:9000",
             "inet theirs i", "nft add rule", ("outside", "198.51.100.1", "9000"), "2", "nft delete table inet theirs"),
    Breakage("a host that takes no ICMPv6", "nft 'add table inet theirs; add chain inet theirs i "
             "{ type filter hook input priority filter; }; add rule inet theirs i meta l4proto ipv6-icmp drop'; "
             "ip -n web neigh flush dev eth0; ip neigh flush dev nsb-front", "web outside:80 -6", "inet theirs i",
             "icmpv6 type", ("web", "2001:db8:1::2", "80"), "", "nft delete table inet theirs"),
    Breakage("a firewall inside that refuses", "ip netns exec web iptables -A INPUT -p tcp --dport 80 -j REJECT",
             "outside host:8080", "INPUT", "ip netns exec web iptables-nft -I INPUT 1", PUBLISHED, "",
             "ip netns exec web iptables -F INPUT"),
    Breakage("a firewall inside that lets nothing out", "ip netns exec web nft 'add table ip own; add chain ip own o "
             "{ type filter hook output priority 0; policy drop; }'", "web outside:80", "ip own o",
             "ip netns exec web nft add rule", OUT, "", "ip netns exec web nft delete table ip own"),
    Breakage("answers that aren't let out", "ip netns exec web nft 'add table ip own; add chain ip own o "
             "{ type filter hook output priority 0; }; add rule ip own o tcp sport 80 drop'", "outside host:8080",
             "ip own o", "ip netns exec web nft insert rule", PUBLISHED, "",
             "ip netns exec web nft delete table ip own"),
    Breakage("a drop between the ports of the bridge", "nft 'add table bridge theirs; add chain bridge theirs f "
             "{ type filter hook forward priority 0; }; add rule bridge theirs f ip daddr 10.77.0.3 drop'", "web db:80",
             "bridge theirs f", "nft insert rule bridge", NEAR, "", "nft delete table bridge theirs"),
    Breakage("a drop at the wire", "nft 'add table netdev theirs; add chain netdev theirs i { type filter hook ingress "
             "device up0 priority 0; }; add rule netdev theirs i tcp dport 8080 drop'", "outside host:8080",
             "netdev theirs i", "nft insert rule netdev", PUBLISHED, "", "nft delete table netdev theirs"),
    Breakage("somebody else's DNAT comes first", "nft 'add table ip theirs; add chain ip theirs n { type nat hook "
             "prerouting priority -150; }; add rule ip theirs n tcp dport 8080 dnat to 10.77.0.77:80'",
             "outside host:8080", "ip theirs n", "nft delete rule ip theirs n", PUBLISHED, "S7, 29",
             "nft delete table ip theirs"),
    Breakage("the administrator's own rule in our chain", "nft add rule inet nsbridge admin ip daddr 10.77.0.2 drop",
             "outside host:8080", "inet nsbridge admin: ip daddr 10.77.0.2 drop", "nft delete rule", PUBLISHED, "57"),
    # our rules
    Breakage("nft flush ruleset", "nft flush ruleset", "outside host:8080", "0.0.0.0:8080", "nsbridge mend", PUBLISHED,
             "9, 86"),
    Breakage("a published port lost", "nft delete element inet nsbridge publish4 '{ tcp . 8080 }'",
             "host 127.0.0.1:8080", "0.0.0.0:8080", "nsbridge mend", LOCAL, "8"),
    Breakage("masquerade lost", "nft delete element inet nsbridge hidden4 '{ 10.77.0.0/24 }'; ip -n outside route "
             "del 10.77.0.0/16", "web outside:80", "masquerade", "nsbridge mend", OUT, "the hand-made bridge",
             "ip -n outside route add 10.77.0.0/16 via 198.51.100.1"),
    # links, addresses, routes
    Breakage("the interface inside is down", "ip -n web link set eth0 down", "outside host:8080", "eth0",
             "nsbridge mend", PUBLISHED),
    Breakage("the same, asked from inside", "ip -n web link set eth0 down", "web outside:80", "eth0",
             "nsbridge mend", OUT),
    Breakage("the bridge is down", "ip link set nsb-front down", "web db:80", "nsb-front", "nsbridge mend", NEAR),
    Breakage("the bridge is gone", "ip link del nsb-front", "web outside:80", "", "nsbridge mend", OUT, "31"),
    Breakage("a port that left its bridge", f"ip link set {PORT} nomaster", "outside host:8080", "", "nsbridge mend",
             PUBLISHED),
    Breakage("loopback is down", "ip -n web link set lo down", "web 127.0.0.1:80", "lo", "ip link set lo up",
             ("web", "127.0.0.1", "80")),
    Breakage("the routes to loopback are gone", "ip route del local 127.0.0.0/8 dev lo table local; "
             "ip route del local 127.0.0.1 dev lo table local", "host 127.0.0.1:8080", "local 127.0.0.0/8 dev lo",
             "ip route add local 127.0.0.0/8 dev lo", LOCAL),
    Breakage("lo inside has lost its address", "ip -n web address del 127.0.0.1/8 dev lo", "web 127.0.0.1:80",
             "127.0.0.1/8 on lo", "ip address add 127.0.0.1/8 dev lo", ("web", "127.0.0.1", "80")),
    Breakage("the address is gone", "ip -n web address del 10.77.0.2/24 dev eth0", "outside host:8080",
             "10.77.0.2 is missing", "nsbridge mend", PUBLISHED, "32"),
    Breakage("the default route is gone", "ip -n web route del default", "web outside:80", "no route", "nsbridge mend",
             OUT, "41"),
    Breakage("a blackhole inside", "ip -n web route add blackhole 198.51.100.2", "web outside:80",
             "blackhole 198.51.100.2", "ip route del blackhole", OUT, "25"),
    Breakage("a VPN's route over the subnet", "ip route add 10.77.0.2/32 dev up0", "outside host:8080",
             "10.77.0.2/32 dev up0", "ip route del", PUBLISHED, "33"),
    Breakage("a route that forbids", "ip route add prohibit 10.77.0.2", "outside host:8080", "prohibit 10.77.0.2",
             "ip route del prohibit", PUBLISHED, "33"),
    Breakage("a policy rule that forbids", "ip rule add from 10.77.0.2 priority 100 prohibit", "web outside:80",
             "100: from 10.77.0.2/32 prohibit", "ip rule del priority 100", OUT, "33"),
    Breakage("a wrong neighbour for ever", "ip neigh replace 10.77.0.2 lladdr 02:00:00:00:00:99 "
             "dev nsb-front nud permanent", "outside host:8080",
             "10.77.0.2 lladdr 02:00:00:00:00:99 permanent", "ip neigh del", PUBLISHED, "34"),
    # the bridge
    Breakage("isolated ports", "for port in $(ls /sys/class/net/nsb-front/brif); do "
             "ip link set $port type bridge_slave isolated on; done", "web db:80", "isolated", "nsbridge mend", NEAR),
    Breakage("no hairpin under br_netfilter", f"sysctl -qw net.bridge.bridge-nf-call-iptables=1; "
             f"ip link set {PORT} type bridge_slave hairpin off", "web host:8080", "hairpin off", "nsbridge mend",
             ("web", "10.77.0.1", "8080"), "14", "sysctl -qw net.bridge.bridge-nf-call-iptables=0"),
    Breakage("another MAC inside", "ip -n web link set eth0 address 02:00:00:00:00:42; ip -n web neigh flush dev eth0; "
             "ip neigh flush dev nsb-front", "web db:80", "S16", "nsbridge mend", NEAR, "S16"),
    Breakage("an MTU that differs across the pair", "ip -n web link set eth0 mtu 1300", "host web:53/udp -s 1400",
             "mtu 1300 of eth0", "nsbridge mend", ("", "10.77.0.2", "big"), "40"),
    # what was meant
    Breakage("published on 127.0.0.1 only", "true", "outside host:8081", "127.0.0.1:8081->80/tcp",
             "nsbridge publish web 198.51.100.1:8081:80/tcp", ("outside", "198.51.100.1", "8081"), "13",
             "nsbridge unpublish web 198.51.100.1:8081:80"),
    Breakage("published as udp, asked by tcp", "true", "outside host:5353", "0.0.0.0:5353->53/udp",
             "nsbridge publish other 5353:53/tcp", ("outside", "198.51.100.1", "5353"), "",
             "nsbridge unpublish other 5353:53/tcp"),
    Breakage("asked for the port inside", "true", "outside host:80", "0.0.0.0:8090->80/tcp",
             "nsbridge publish svc 80:80/tcp", ("outside", "198.51.100.1", "80"), "", "nsbridge unpublish svc 80:80"),
    Breakage("published to a port that nobody serves", "true", "outside host:8085", "10.77.0.2:81/tcp",
             "nsbridge publish web 8085:80/tcp", ("outside", "198.51.100.1", "8085"), "",
             "nsbridge unpublish web 8085:80; nsbridge publish web 8085:81"),
    Breakage("not published", "true", "outside db:80", "S3, S9", "nsbridge publish db 80:80/tcp",
             ("outside", "198.51.100.1", "80"), "48", "nsbridge unpublish db 80:80"),
    Breakage("another network", "true", "web other:80", "S3, S9", "nsbridge connect back web",
             ("web", "10.78.0.2", "80"), "15", "nsbridge disconnect back web"),
    Breakage("an internal network", "true", "inner outside:80", "internal", "nsbridge connect default inner",
             ("inner", "198.51.100.2", "80"), "S10", "nsbridge disconnect default inner"),
    Breakage("a service whose command has ended", "nsbridge stop -t 1 svc", "outside host:8090", "",
             "nsbridge start svc", ("outside", "198.51.100.1", "8090"), "48"),
)  # fmt: skip


SERVERS = {
    "web": ("http:80", "udp:53"),
    "db": ("http:80",),
    "other": ("http:80", "udp:53", "http:53"),
    "inner": ("http:80",),
}


def shell(command: str, *, check: bool = True) -> str:
    """Run what a person would type."""
    env = {**os.environ, "PATH": PATH, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(["sh", "-c", command], env=env, capture_output=True, text=True, timeout=30, cwd=ROOT)
    assert not check or done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
    return done.stdout


def explained(question: str) -> dict[str, Any]:
    """What `nsbridge explain` says, asked in this process for speed; test_explain.py runs it as users do."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        main(["explain", *question.split(), "--json"])
    told: dict[str, Any] = json.loads(said.getvalue())
    return told


@contextlib.contextmanager
def workshop() -> Iterator[Lab]:
    """The lab that all of them are done in, one after the other."""
    with FreshHost() as host, Lab(host) as lab:
        for name in SERVERS:
            host.netns(name)
        shell(SETUP)
        for name, ports in SERVERS.items():
            lab.serve(name, *ports, ns=name)
        lab.serve("host", "http:9000")
        lab.serve("outside", "http:80", "udp:53", ns="outside")
        echo = f"{sys.executable} {Path(__file__).parent / 'echo.py'} svc http:80"
        shell(f"nsbridge run -d --name svc --net front -p 8090:80 -- {echo}")
        assert eventually(lambda: lab.get("http://127.0.0.1:8090/"))
        yield lab
        shell("nsbridge rm -f svc; for name in web db; do nsbridge disconnect front $name; done")
        shell("nsbridge disconnect back other; nsbridge disconnect shut inner")
        shell("for network in front back shut; do nsbridge network rm $network; done")


def _big(address: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.1)
        sock.sendto(b"x" * 1372, (address, 53))
        try:
            return bool(sock.recv(4096))
        except TimeoutError:
            return False


def _from(source: str, address: str, port: int, timeout_s: float) -> bool:
    with socket.socket() as sock:
        sock.bind((source, 0))
        sock.settimeout(timeout_s)
        try:
            sock.connect((address, port))
        except OSError:
            return False
        return True


def answered(lab: Lab, probe: tuple[str, str, str], timeout_s: float = 0.1) -> bool:
    """Send the real thing."""
    where, address, what = probe
    name, _, source = where.partition(" from ")
    ns = name or None
    if source:
        return inside(ns and lab.ns(ns), lambda: _from(source, address, int(what), timeout_s))
    if what == "ping":
        return lab.sh(f"ping -c 1 -W 0.1 {address}", ns, check=False).status == 0
    if what == "big":
        return _big(address)
    shown = f"[{address}]" if ":" in address else address
    return bool(lab.get(f"http://{shown}:{what}/", ns, timeout_s=timeout_s))


QUESTIONS = (
    ("outside", "198.51.100.1", "8080"), ("outside", "198.51.100.1", "8081"), ("outside", "198.51.100.1", "8090"),
    ("outside", "198.51.100.1", "9000"), ("outside", "10.77.0.3", "80"), ("outside", "2001:db8:1::1", "8080"),
    ("outside", "198.51.101.1", "8080"), ("web", "2001:db8:1::2", "80"), ("web", "198.51.100.2", "80"),
    ("web", "198.51.101.2", "80"), ("web", "10.77.0.3", "80"), ("web", "10.77.0.1", "8080"), ("web", "10.78.0.2", "80"),
    ("web", "127.0.0.1", "80"), ("", "127.0.0.1", "8080"), ("", "127.0.0.1", "8081"), ("", "10.77.0.2", "80"),
    ("", "198.51.100.1", "8080"), ("", "10.77.0.1", "8080"), ("db", "10.77.0.2", "80"), ("db", "198.51.100.1", "8080"),
    ("db", "198.51.100.1", "9000"), ("other", "198.51.100.1", "8080"), ("other", "10.77.0.1", "8080"),
    ("inner", "198.51.100.1", "8080"), ("inner", "198.51.100.2", "80"),
)  # fmt: skip
"""What else is asked while something is broken: (from, address, port)."""


def asked_too(one: Breakage) -> tuple[tuple[str, str, str], ...]:
    """A few of them for each breakage, others each time; all of them for `make fuzz-explain`."""
    if os.environ.get("EXPLAIN_ALL"):
        return QUESTIONS
    first = 5 * BREAKAGES.index(one)
    return tuple(QUESTIONS[number % len(QUESTIONS)] for number in (first, first + 7))


def disagreement(lab: Lab, asked: tuple[str, str, str]) -> str:
    """Ask for a prediction and send the real thing; return in what they differ."""
    where, address, port = asked
    shown = f"[{address}]" if ":" in address else address
    told = explain(open_host(), where or "host", f"{shown}:{port}").path
    foreseen = told.fate == "answered"
    real = answered(lab, asked, 1.2 if foreseen else 0.1)
    if told.doubt or real == foreseen or (not foreseen and not answered(lab, asked, 1.2)):
        return ""
    return f"{asked}: really {'answered' if real else 'not'}, foreseen {told.fate}: {told.culprit}"


def put_back(one: Breakage) -> None:
    """Leave the workshop as it was."""
    shell(one.undo or "true", check=False)
    mend(open_host())
    shell("ip neigh flush all")


def row(one: Breakage, told: dict[str, Any]) -> str:
    """Its line of the table in docs/explain.md. Numbers of rules differ from run to run."""
    cells = [one.name, f"`{one.question}`", told["says"], "<br>".join(f"`{fix}`" for fix in told["culprit"]["fix"])]
    text = " | ".join(cell.replace("|", "\\|") for cell in (*cells, one.item))
    return re.sub(r"handle \d+", "handle N", f"| {text} |".replace("  ", " "))
