"""`nsbridge trace`: real packets, the kernel's own trace of them, and the prediction beside it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from breakages import BREAKAGES, SERVERS, put_back, shell, workshop
from lab import FreshHost, Lab, eventually, inside

import nsbridge
from nsbridge.engine.trace import Trace
from nsbridge.errors import InvalidIntent, NotFound
from nsbridge.explain.compare import EXTRA, MISSING, OTHER
from nsbridge.explain.tell import WIDTH
from nsbridge.frontends.cli.main import main
from nsbridge.wiring import open_host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsbridge.explain.compare import Compared, Comparison

pytestmark = [pytest.mark.netns, pytest.mark.proves("row 76")]

IP_TRANSPARENT = 19
PLACES = (None, "web", "db", "outside")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Two endpoints on one network, one of them published, one on another; a host outside."""
    with FreshHost() as host, Lab(host) as lab:
        for name in ("web", "db", "other"):
            host.netns(name)
        shell("""set -e
        nsbridge network create front --subnet 10.77.0.0/24 --subnet fd00:77::/64
        nsbridge network create back --subnet 10.78.0.0/24
        nsbridge connect front web --ip 10.77.0.2 --ip6 fd00:77::2 -p 8080:80 -p 5353:53/udp
        nsbridge connect front db --ip 10.77.0.3 --ip6 fd00:77::3
        nsbridge connect back other
        ip -n outside route add 10.0.0.0/8 via 198.51.100.1""")
        for name in ("web", "db", "other"):
            lab.serve(name, *SERVERS[name], ns=name)
        lab.serve("outside", "http:80", "udp:53", ns="outside")
        yield lab
        shell("for name in web db; do nsbridge disconnect front $name; done; nsbridge disconnect back other")
        shell("nsbridge network rm front back")


def rulesets(lab: Lab) -> str:
    """Every rule of every namespace, without counts."""
    return "\n".join(lab.sh("nft --stateless list ruleset", where).out for where in PLACES)


@contextmanager
def nothing_left(lab: Lab) -> Iterator[None]:
    before = rulesets(lab)
    yield
    assert rulesets(lab) == before


def tried(question: str, patience_s: float = 0.9) -> Comparison:
    with Trace(open_host(), *question.split()) as trying:
        return trying.run(patience_s)


def text(lines: tuple[Compared, ...]) -> str:
    return "\n".join(f"{one.mark} {one.netns} {one.stage} {one.thing} {one.predicted}/{one.kernel}" for one in lines)


@pytest.mark.parametrize(
    ("question", "outcome"),
    [
        ("outside host:8080", "connected"),
        ("outside host:5353/udp", "answered"),
        ("host 198.51.100.1:8080", "connected"),
        ("host 127.0.0.1:8080", "connected"),
        ("web db:80", "connected"),
        ("web db", "answered"),
        ("web outside:80", "connected"),
        ("web outside", "answered"),
        ("outside host:81", "refused"),
        ("outside db:80", "silence"),
        ("web other:80", "silence"),
        ("outside [2001:db8:1::1]:8080", "connected"),
        ("host [fd00:77::2]:80", "connected"),
        ("db [fd00:77::2]", "answered"),
    ],
)
def test_the_kernel_does_what_was_predicted(lab: Lab, question: str, outcome: str) -> None:
    with nothing_left(lab):
        found = tried(question, 0.15 if outcome == "silence" else 0.9)
    assert (found.outcome, found.differences) == (outcome, ()), text((*found.out, *found.back))
    assert found.agrees


@contextmanager
def rule(lab: Lab, add: str, remove: str, ns: str | None = None) -> Iterator[None]:
    lab.sh(add, ns)
    try:
        yield
    finally:
        lab.sh(remove, ns)


THEIRS = "nft 'add table inet theirs; add chain inet theirs f { type filter hook forward priority 5; }'"
DROPS = f"{THEIRS}; nft add rule inet theirs f tcp dport 80 drop"
GONE = "nft delete table inet theirs"


@pytest.mark.parametrize(
    ("add", "remove", "question"),
    [
        (DROPS, GONE, "outside host:8080"),
        (
            "iptables-nft -N like-ufw; iptables-nft -A FORWARD -j like-ufw; "
            "iptables-nft -A like-ufw -p tcp --dport 80 -j DROP",
            "nft delete table ip filter",
            "outside host:8080",
        ),
        (
            "iptables-legacy -A FORWARD -p tcp --dport 80 -j DROP",
            "iptables-legacy -F FORWARD",
            "web outside:80",
        ),
        (
            "nft 'add table netdev theirs; add chain netdev theirs i { type filter hook ingress device up0 priority 0; "
            "}; add rule netdev theirs i tcp dport 8080 drop'",
            "nft delete table netdev theirs",
            "outside host:8080",
        ),
        (
            "nft 'add table bridge theirs; add chain bridge theirs f { type filter hook forward priority 0; }; "
            "add rule bridge theirs f ip daddr 10.77.0.3 drop'",
            "nft delete table bridge theirs",
            "web db:80",
        ),
        (
            "nft 'add table ip theirs; add chain ip theirs n { type nat hook prerouting priority -150; }; "
            "add rule ip theirs n tcp dport 8080 dnat to 10.77.0.3:80'",
            "nft delete table ip theirs",
            "outside host:8080",
        ),
        (
            "sysctl -qw net.bridge.bridge-nf-call-iptables=1",
            "sysctl -qw net.bridge.bridge-nf-call-iptables=0",
            "web db:80",
        ),
        (f"{THEIRS}; nft add rule inet theirs f tcp dport 80 reject", GONE, "outside host:8080"),
        (
            "ip netns exec web nft 'add table ip own; add chain ip own o { type filter hook output priority 0; }; "
            "add rule ip own o udp dport 53 drop'",
            "ip netns exec web nft delete table ip own",
            "web outside:53/udp",
        ),
    ],
    ids=["nft", "iptables-nft", "iptables-legacy", "netdev", "bridge", "dnat", "br_netfilter", "reject", "output"],
)
def test_other_peoples_rules(lab: Lab, add: str, remove: str, question: str) -> None:
    with rule(lab, add, remove), nothing_left(lab):
        found = tried(question, 0.15)
    assert found.differences == (), text((*found.out, *found.back))


def test_what_changed_since_the_prediction_is_marked(lab: Lab) -> None:
    """A rule that drops what was to arrive: it, and what wasn't met because of it."""
    with rule(lab, "true", GONE), Trace(open_host(), "outside", "host:8080") as trying:
        lab.sh(DROPS)
        found = trying.run(0.15)
    assert not found.agrees
    assert (found.path.fate, found.outcome) == ("answered", "silence")
    marked = [(one.mark, one.stage, one.thing) for one in found.out if one.mark in (EXTRA, MISSING)]
    assert marked[0] == (EXTRA, "forward", "inet theirs f: tcp dport 80 drop")
    assert marked[1] == (MISSING, "postrouting", "inet nsbridge sources: policy accept")
    assert found.differences[0] == "the host, forward: inet theirs f: tcp dport 80 drop: drop, not predicted"
    assert "predicted to arrive in web, but it wasn't delivered there" in found.differences
    assert found.differences[-1] == "predicted answered, the probe says silence"


def test_a_drop_that_went_is_marked(lab: Lab) -> None:
    with rule(lab, DROPS, "true"), Trace(open_host(), "outside", "host:8080") as trying:
        lab.sh(GONE)
        found = trying.run()
    assert (found.path.fate, found.outcome) == ("dropped", "connected")
    assert found.differences[0] == "the host, forward: inet theirs f: tcp dport 80 drop: predicted (drop), but not met"
    assert found.differences[-1] == "predicted dropped, the probe says connected"


def test_another_target_is_marked(lab: Lab) -> None:
    """The same rule with another element: only the packet's addresses tell."""
    element = "element inet nsbridge publish4 { tcp . 8080"
    with Trace(open_host(), "outside", "host:8080") as trying:
        lab.sh(f"nft 'delete {element} }}; add {element} : 10.77.0.3 . 80 }}'")
        found = trying.run()
    lab.sh(f"nft 'delete {element} }}; add {element} : 10.77.0.2 . 80 }}'")
    assert found.outcome == "connected"
    assert found.differences == (
        "the host, forward: the packet is now 198.51.100.2 → 10.77.0.3:80: not predicted",
        "the host, bridge prerouting: the packet is now 10.77.0.3:80 → 198.51.100.2: not predicted",
        "predicted to arrive in web, but it wasn't delivered there",
    )


def test_a_policy_that_changed_is_marked(lab: Lab) -> None:
    with rule(lab, THEIRS, GONE), Trace(open_host(), "outside", "host:8080") as trying:
        lab.sh("nft 'chain inet theirs f { policy drop; }'")
        found = trying.run(0.15)
    assert found.differences[0] == (
        "the host, forward: inet theirs f: policy accept: predicted was accept, the kernel says drop"
    )
    assert OTHER in [one.mark for one in found.out]


NSBRIDGE = (sys.executable, "-m", "nsbridge")


def test_one_that_somebody_sends_is_followed(lab: Lab) -> None:
    """From outside, by whatever port: the prediction is made again for the very packet."""
    with nothing_left(lab), Trace(open_host(), "outside", "host:8080", wait=True) as trying:
        asked = threading.Timer(0.2, lambda: lab.get("http://198.51.100.1:8080/", "outside"))
        asked.start()
        found = trying.run(5.0)
        asked.join()
    assert (found.outcome, found.differences) == ("", ()), text((*found.out, *found.back))
    assert found.rules > 5
    assert found.back
    assert found.path.question.packet.sport == trying.port != 40000


def _as_somebody_else() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)
        sock.bind(("203.0.113.9", 0))
        sock.sendto(b"hello", ("198.51.100.1", 5353))


def test_one_from_beyond_what_can_be_seen(lab: Lab) -> None:
    """Nothing can be sent from there; what comes from there is followed from the uplink on, and its answer back."""
    with nothing_left(lab), Trace(open_host(), "outside=203.0.113.9", "host:5353/udp", wait=True) as trying:
        asked = threading.Timer(0.1, lambda: inside("/run/netns/outside", _as_somebody_else))
        asked.start()
        found = trying.run(5.0)
        asked.join()
    assert found.path.question.start is None
    assert found.agrees, text((*found.out, *found.back))
    assert found.back
    assert found.rules > 5


def test_nobody_sends(lab: Lab) -> None:
    with nothing_left(lab), Trace(open_host(), "db", "web:80", wait=True) as trying:
        somebody = threading.Timer(0.05, lambda: lab.get("http://10.77.0.2:80/"))
        somebody.start()
        with pytest.raises(NotFound, match=r"nothing was sent from db to 10.77.0.2:80/tcp within 0.2 s"):
            trying.run(0.2)
        somebody.join()


def test_nothing_is_left_by_a_kill(lab: Lab) -> None:
    """The kernel takes the tables away with the process that owns them."""
    with nothing_left(lab):
        command = [*NSBRIDGE, "trace", "--wait", "outside", "host:8080"]
        waiting = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            for where in (None, "web", "outside"):
                listed = lambda where=where: "nsbridge_trace" in lab.sh("nft list ruleset", where).out  # noqa: E731
                assert eventually(listed), where
                assert "flags owner" in lab.sh("nft list ruleset", where).out
            refused = lab.sh(f"nft delete table ip nsbridge_trace_{waiting.pid}_1", check=False)
            assert "Operation not permitted" in refused.err
            lab.sh("nft flush ruleset", "db")
        finally:
            os.kill(waiting.pid, signal.SIGKILL)
            waiting.wait()


def test_an_interrupt_ends_the_waiting(lab: Lab) -> None:
    with nothing_left(lab):
        command = [*NSBRIDGE, "trace", "--wait", "outside", "host:8080"]
        waiting = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert waiting.stderr is not None
        said = waiting.stderr.readline()
        assert said == "waiting for a packet from outside to 198.51.100.1:8080/tcp …\n"
        assert eventually(lambda: "nsbridge_trace" in lab.sh("nft list ruleset").out)
        waiting.send_signal(signal.SIGINT)
        out, err = waiting.communicate(timeout=5)
    assert (waiting.returncode, out) == (130, "")
    assert "Traceback" not in err


@pytest.mark.skipif("EXPLAIN_ALL" not in os.environ, reason="part of make fuzz-explain: 30 s")
def test_broken_networks_are_foreseen_rule_by_rule() -> None:
    """All but those in which ARP gets lost, so that the packet itself is never sent."""
    wrong = []
    with workshop():
        for one in BREAKAGES:
            shell(one.how)
            source, target, *options = one.question.split()
            version = 6 if "-6" in options else 0
            with Trace(open_host(), source, target, version=version) as trying:
                found = trying.run(0.15)
            if found.differences and one.name not in ("isolated ports", "another MAC inside"):
                wrong.append((one.name, *found.differences))
            for fix in found.path.culprit.fix if found.path.culprit is not None else ():
                shell(fix)
            put_back(one)
    assert not wrong, "\n".join(map(str, wrong))


def test_the_python_of_it(lab: Lab) -> None:
    told = nsbridge.traced("outside", "host:8080")
    assert told
    assert (told.outcome, told.differences) == ("connected", ())
    assert str(told) == "The probe connected. The kernel agrees: 12 rules were predicted and met, in this order."
    assert told.record()["probe"]["took_s"] > 0


def test_the_command(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "outside", "host:8080"]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[:4] == [
        "Predicted: A tcp connection from outside to 198.51.100.1:8080 arrives in web as 10.77.0.2:80",
        "  (python) and is seen to come from 198.51.100.2; the answer comes back.",
        "The probe connected.",
        "The kernel agrees: 12 rules were predicted and met, in this order.",
    ]
    assert all(len(line) <= WIDTH for line in said.splitlines())
    assert main(["trace", "outside", "host:8080"]) == 0
    assert capsys.readouterr().out == said, "it reads the same, though the port was another"
    with rule(lab, DROPS, GONE):
        assert main(["trace", "outside", "host:8080", "--json", "--timeout", "0.15"]) == 0  # dropped, as predicted
    told = json.loads(capsys.readouterr().out)
    assert list(told) == [
        "says", "agrees", "fate", "probe", "asked", "rules", "differences", "way", "back", "untold",
    ]  # fmt: skip
    assert (told["agrees"], told["fate"], told["probe"]["outcome"]) == (True, "dropped", "silence")
    assert told["way"][-1]["mark"] == "as predicted"
    assert main(["trace", "outside=203.0.113.9", "host:8080"]) == InvalidIntent.exit_code
    assert "run it with --wait" in capsys.readouterr().err.lower()
