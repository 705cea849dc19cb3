"""The way of a packet drawn onto a picture: along the wires that are there, with a number at each stop.

The line runs behind the boxes, so it reads as the wire that it follows. Host and namespaces are joined where the ways
out run (the bus), neighbours on one bridge by the bridge itself.
"""

from __future__ import annotations

from nsbridge.explain.picture import WORLD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from nsbridge.explain.picture import Picture, Stop
    from nsbridge.explain.placing import Arrangement

    Points: TypeAlias = list[tuple[float, float]]

ASIDE = 7
"""How far from its cable a way goes that comes back by it."""

STEP = 20
"""From one number to the next."""


class Overlay:
    """The stops of a picture, placed."""

    def __init__(self, picture: Picture, placed: Arrangement) -> None:
        self._picture, self._placed = picture, placed
        self._bridges, self._spaces, self._slots = dict(placed.bridges), dict(placed.spaces), dict(placed.slots)
        ends = [place for place, stop in enumerate(picture.way) if stop.at != "" or place in (0, len(picture.way) - 1)]
        self._ends = [picture.way[place] for place in ends]

    def lines(self) -> list[Points]:
        """Return what to draw from place to place: each as the points of a line, its end last."""
        pairs = zip(self._ends, self._ends[1:], strict=False)
        return [self._line(start, end) for start, end in pairs if start.at != end.at or self._network(start)]

    def numbers(self) -> list[tuple[float, float]]:
        """Return where the number of each stop stands."""
        met: dict[str, int] = {}
        found = []
        for stop in self._picture.way:
            x, y = self._first_spot(stop)
            found.append((x + STEP * met.get(stop.at, 0), y))
            met[stop.at] = met.get(stop.at, 0) + 1
        return found

    def _first_spot(self, stop: Stop) -> tuple[float, float]:
        placed = self._placed
        if stop.at == WORLD:
            return placed.world.middle, placed.world.y
        box = self._spaces.get(stop.at)
        if box is not None:
            return box.x + 15, box.y + 14
        if self._ends[0].at == "" or self._ends[-1].at == "":
            return placed.host.x + 96, placed.host.y + 16
        shared = self._network(self._ends[0])
        if shared and shared == self._network(self._ends[-1]):
            many = sum(one.at == "" for one in self._picture.way)
            bridge = self._bridges[shared]
            return bridge.right - 16 - STEP * (many - 1), bridge.bottom - 15
        return self._trunk + 14, placed.bus

    @property
    def _trunk(self) -> float:
        """The x at which the uplinks' wires go down to the bus."""
        ups = self._placed.uplinks
        return ups[0][1].right + 22 if ups else self._placed.host.x + 96

    def _network(self, stop: Stop) -> str:
        """The network by which a packet leaves or enters a namespace; empty for the world and the host."""
        mine = self._picture.within(stop.at) if stop.at in self._spaces else ()
        chosen = [one for one in mine if one.ifname == stop.link] or list(mine)
        return chosen[0].network if chosen else ""

    def _line(self, start: Stop, end: Stop) -> Points:
        one, other = self._network(start), self._network(end)
        if start.at == end.at:  # to the bridge and back
            up = [(x - ASIDE, y) for x, y in self._up(start, one)]
            return [*up, *self._up(end, one)[::-1]]
        if one and one == other:
            return [*self._up(start, one), *self._up(end, one)[::-1]]
        return [*self._to_bus(start), *self._to_bus(end)[::-1]]

    def _up(self, stop: Stop, network: str) -> Points:
        """From a namespace to the middle of its bridge."""
        x, box = self._slots[network, stop.at], self._bridges[network]
        return [(x, self._spaces[stop.at].y), (x, box.y + box.height / 2)]

    def _to_bus(self, stop: Stop) -> Points:
        placed = self._placed
        network = self._network(stop)
        if network:
            box = self._bridges[network]
            return [*self._up(stop, network), (box.x + 26, box.y + box.height / 2), (box.x + 26, placed.bus)]
        if stop.at == WORLD and placed.uplinks:
            up = placed.uplinks[0][1]
            y = up.y + up.height / 2
            return [(placed.world.right, y), (self._trunk, y), (self._trunk, placed.bus)]
        return [(placed.host.x + 96, placed.host.y + 16), (self._trunk, placed.host.y + 16), (self._trunk, placed.bus)]
