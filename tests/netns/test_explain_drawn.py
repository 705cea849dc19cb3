"""What explain foretells, drawn at random: real packets through worlds with other people's rules, whole and broken.

A case is a packet. `make test` tries the same few hundred each time; `make fuzz-explain` others, as many worlds as it
is told (EXAMPLES, SEED). What explain calls open is counted apart, and is no agreement.
"""

from __future__ import annotations

import os
import time
from contextlib import closing, contextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
from drawn import BEYOND, OWN, SERVED, Ask
from foretold import ECHO, Case, cases, spoil
from hypothesis import HealthCheck, Phase, given, seed, settings
from lab import HOST4, OUTSIDE, OUTSIDE4, OUTSIDE6
from test_reach_drawn import USUAL, real
from told import PATIENCE_S, Tracer, difference, foretell, forget, is_open, settled, watch

from nsbridge.explain import bridging, crossing, receiving, sending
from nsbridge.explain.world import Listener
from nsbridge.wiring import open_host

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

    from lab import Lab
    from test_reach_drawn import Servers

    from nsbridge.engine.host import Host

pytestmark = [pytest.mark.netns, pytest.mark.proves("row 76")]

EXAMPLES = int(os.environ.get("EXAMPLES", "5"))
SEED = os.environ.get("SEED", "")
PACKETS, TRACED = 60, 3
"""How many are sent in each world, and of how many the kernel tells the rules that they meet."""

COUNTED: dict[str, int] = {}


def tally(what: str, number: int = 1) -> None:
    COUNTED[what] = COUNTED.get(what, 0) + number


@contextmanager
def built(case: Case) -> Iterator[tuple[Lab, Servers, Host]]:
    """The case for real."""
    with real(case.world) as (lab, servers):
        spoil(case)
        settled()
        yield lab, servers, open_host()


def wrong(case: Case) -> list[str]:
    """Build it, foretell everything, send everything, and say in what they differ."""
    with built(case) as (lab, servers, host), closing(Tracer()) as tracer:
        told = foretell(host, case.asks)
        seen = watch(lab, servers, told)
        differing = [ask for ask, path in told.items() if difference(ask, path, seen[ask])]
        # Once more with patience, when nobody remembers a neighbour, those too of whose refusal nothing was heard yet;
        # and those that still differ alone.
        for group in (differing, *([ask] for ask in differing)):
            again = [ask for ask in group if difference(ask, told[ask], seen[ask])]
            if again and (group is differing or not is_open(told[again[0]], seen[again[0]])):
                forget()
                told |= foretell(host, group)
                seen |= watch(lab, servers, group, PATIENCE_S)
        known = {ask: path for ask, path in told.items() if not is_open(path, seen[ask])}
        tally("open", len(told) - len(known))
        for path in known.values():
            tally(path.fate)
        found = [difference(ask, path, seen[ask]) for ask, path in known.items()]
        sample = [ask for ask, path in known.items() if ask.proto != ECHO and path.out.netns == ""][:TRACED]
        tally("traced", len(sample))
        return [text for text in (*found, *(tracer.compare(lab, host, servers, ask) for ask in sample)) if text]


@pytest.fixture(autouse=True)
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "lock"))


def test_what_is_foretold_comes_true() -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=not SEED,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(case=cases(PACKETS))
    def foretold(case: Case) -> None:
        tally("worlds")
        assert not (text := wrong(case)), "\n".join(text)

    begun = time.monotonic()
    try:
        (seed(int(SEED))(foretold) if SEED else foretold)()
    finally:
        print(", ".join(f"{number} {what}" for what, number in COUNTED.items()), f"{time.monotonic() - begun:.0f} s")
    packets = sum(number for what, number in COUNTED.items() if what not in ("worlds", "traced"))
    assert COUNTED.get("open", 0) * 50 < packets


TROUBLE = Case(
    USUAL,
    rules=('table inet NAME { chain c { type filter hook input priority 10; iifname "up0" udp dport 7000 drop; }; }',),
    broken="sysctl -qw net.ipv4.conf.in0.rp_filter=1 net.ipv6.conf.all.forwarding=0; ip route add 10.9.0.2/32 dev up0; "
    "for port in $(ls /sys/class/net/nsb-near/brif); do ip link set $port type bridge_slave isolated on; done; "
    "ip neigh replace 10.60.0.2 lladdr 02:00:00:00:00:99 dev nsb-near nud permanent",
)
STAGES: tuple[tuple[ModuleType, str, object, Ask], ...] = (
    (receiving, "fire", lambda *_, **__: True, Ask(OUTSIDE, HOST4, OWN, "udp")),
    (receiving, "_reverse_path", lambda walk: None, Ask(BEYOND, HOST4, OWN, "udp")),
    (receiving, "takers", lambda *_: [Listener("tcp", ip_address(HOST4), 81)], Ask(OUTSIDE, HOST4, 81, "tcp")),
    (receiving.cures, "not_forwarding", lambda walk: None, Ask("one", OUTSIDE6, SERVED, "udp")),
    (bridging, "_kept_apart", lambda *_: False, Ask("one", "10.60.0.3", SERVED, "tcp")),
    (crossing, "mistaken", lambda *_: False, Ask(None, "10.60.0.2", SERVED, "tcp")),
    (sending, "fire", lambda *_, **__: True, Ask("two", OUTSIDE4, SERVED, "tcp")),
)
"""Stages of the way, each with what it does when it is crippled, and a packet that is judged there."""


def test_it_would_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    asks = [ask for _, _, _, ask in STAGES]
    with built(TROUBLE) as (lab, servers, host):
        told = foretell(host, asks)
        forget()
        seen = watch(lab, servers, asks, PATIENCE_S)
        assert [difference(ask, told[ask], seen[ask]) for ask in asks] == [""] * len(asks)
        for module, name, crippled, ask in STAGES:
            with monkeypatch.context() as crippling:
                crippling.setattr(module, name, crippled)
                assert difference(ask, foretell(host, [ask])[ask], seen[ask]), name
