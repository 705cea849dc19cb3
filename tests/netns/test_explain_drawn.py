"""What explain foretells, drawn at random: real packets through worlds with other people's rules, whole and broken.

A case is a packet. `make test` tries the same few hundred each time; `make fuzz-explain` others, as many worlds as it
is told (EXAMPLES, SEED). What explain calls open is counted apart, and is no agreement.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
from foretold import ECHO, Case, cases, spoil
from hypothesis import HealthCheck, Phase, given, seed, settings
from test_reach_drawn import real
from told import PATIENCE_S, Traced_, difference, forget, foretell, is_open, settled, watch

from nsbridge.wiring import open_host

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.netns, pytest.mark.proves("row 76")]

EXAMPLES = int(os.environ.get("EXAMPLES", "10"))
SEED = os.environ.get("SEED", "")
PACKETS, TRACED = 40, 3
"""How many are sent in each world, and of how many the kernel tells the rules that they meet."""

COUNTED: dict[str, int] = {}


def tally(what: str, number: int = 1) -> None:
    COUNTED[what] = COUNTED.get(what, 0) + number


def wrong(case: Case) -> list[str]:
    """Build it, foretell everything, send everything, and say in what they differ."""
    with real(case.world) as (lab, servers):
        spoil(case)
        settled()
        host = open_host()
        told = foretell(host, case.asks)
        seen = watch(lab, servers, told)
        found = []
        for ask, path in told.items():
            if is_open(path):
                tally("open")
                continue
            if difference(ask, path, seen[ask]):  # alone, with patience, and when nobody remembers anything
                forget()
                path = foretell(host, [ask])[ask]
                again = watch(lab, servers, [ask], PATIENCE_S)[ask]
                if text := difference(ask, path, again):
                    found.append(text)
            tally(path.fate)
        sample = [ask for ask, path in told.items() if ask.proto != ECHO and not is_open(path) and path.out.netns == ""]
        traced = Traced_()
        for ask in sample[:TRACED]:
            tally("traced")
            if text := traced.compare(lab, host, servers, ask):
                found.append(text)
        traced.close()
        return found


@pytest.fixture(autouse=True)
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "lock"))


def test_what_is_foretold_comes_true() -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=not SEED,
        phases=(Phase.generate,) if os.environ.get("GO_ON") else (Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(case=cases(PACKETS))
    def foretold(case: Case) -> None:
        tally("worlds")
        text = wrong(case)
        if text and os.environ.get("GO_ON"):
            print(case, *text, sep="\n   ", flush=True)
            return
        assert not text, "\n".join(text)

    begun = time.monotonic()
    try:
        (seed(int(SEED))(foretold) if SEED else foretold)()
    finally:
        print(", ".join(f"{number} {what}" for what, number in COUNTED.items()), f"{time.monotonic() - begun:.0f} s")
    packets = sum(number for what, number in COUNTED.items() if what not in ("worlds", "traced"))
    assert COUNTED.get("open", 0) * 50 < packets
