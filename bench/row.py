"""What a measurement gives back, and how several ways of doing the same thing are timed fairly."""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WARM = 2
"""Rounds at the start that don't count: sockets are opened and modules loaded in them."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How much to measure. seconds: after which a slow peer is stopped in the middle of many."""

    quick: bool = False
    peers: tuple[str, ...] = ()
    seconds: float = 60.0

    def pick(self, full: int, quick: int) -> int:
        """Return a count for this run."""
        return quick if self.quick else full

    def wants(self, name: str) -> bool:
        """Tell whether a peer was asked for; all are when none was named."""
        return not self.peers or any(each.lower() in name.lower() for each in self.peers)


@dataclass
class Target:
    """One line of what is to be reached. better: ``<=`` or ``>=`` between `reached` and `wanted`."""

    what: str
    reached: float
    better: str
    wanted: float
    unit: str = "x"

    @property
    def met(self) -> bool:
        """Whether it was."""
        return self.reached <= self.wanted if self.better == "<=" else self.reached >= self.wanted

    def __str__(self) -> str:
        """``attach against the raw floor: 1.4 x (to reach: <= 1.5)``."""
        return f"{self.what}: {number(self.reached)} {self.unit} (to reach: {self.better} {number(self.wanted)})"


@dataclass
class Table:
    """Figures as a person reads them: text cells under a head."""

    head: list[str]
    lines: list[list[str]] = field(default_factory=list)
    note: str = ""

    def add(self, *cells: object) -> None:
        """Append a line; numbers are rounded to three digits."""
        self.lines.append([number(cell) if isinstance(cell, float | int) else str(cell) for cell in cells])


@dataclass
class Row:
    """One measurement: tables, targets, and series for the charts (chart -> line -> points)."""

    name: str
    title: str
    tables: list[Table] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    series: dict[str, dict[str, list[tuple[float, float]]]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    load: float = 0.0
    took_s: float = 0.0

    def target(self, what: str, reached: float | None, better: str, wanted: float, unit: str = "x") -> None:
        """Note a target, unless what it is measured against isn't there."""
        if reached is not None:
            self.targets.append(Target(what, reached, better, wanted, unit))

    def point(self, chart: str, line: str, x: float, y: float) -> None:
        """Add a point to a line of a chart."""
        self.series.setdefault(chart, {}).setdefault(line, []).append((x, y))

    def dumps(self) -> str:
        """Write it as JSON, for the process that collects the rows."""
        return json.dumps(asdict(self))


def loads(text: str) -> Row:
    """Read what `Row.dumps` wrote."""
    raw: dict[str, Any] = json.loads(text)
    raw["tables"] = [Table(**each) for each in raw["tables"]]
    raw["targets"] = [Target(**each) for each in raw["targets"]]
    return Row(**raw)


def number(value: float | None) -> str:
    """Three digits, without a zoo of zeros."""
    if value is None:
        return "-"
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"


def ms(values: Sequence[float]) -> float:
    """Median of seconds, in milliseconds."""
    return statistics.median(values) * 1e3


def tenth(values: Sequence[float]) -> float:
    """The value under which a tenth lies, in milliseconds: what a quiet machine would show."""
    return sorted(values)[len(values) // 10] * 1e3


def against(ours: float | None, theirs: float | None) -> float | None:
    """How many times ours theirs is; None when one of them is missing."""
    return theirs / ours if ours and theirs else None


def paired(ours: Sequence[float] | None, theirs: Sequence[float] | None) -> float | None:
    """How many times ours theirs is: the median over rounds, in each of which both met the same noise."""
    if not ours or not theirs:
        return None
    return statistics.median(their / our for our, their in zip(ours, theirs, strict=True))


def more(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """How many milliseconds ours takes more: the median over rounds, as `paired`."""
    return ms([our - their for our, their in zip(ours, theirs, strict=True)])


def timed(action: Callable[[], object]) -> float:
    """Seconds of the clock on the wall that an action takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def alternate(cases: dict[str, Callable[[], float]], rounds: int, warm: int = WARM) -> dict[str, list[float]]:
    """Measure each case once a round, every other round backwards, so that all meet the same noise."""
    found: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(rounds + warm):
        for name in list(cases) if turn % 2 == 0 else list(cases)[::-1]:
            value = cases[name]()
            if turn >= warm:
                found[name].append(value)
    return found
