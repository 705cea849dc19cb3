"""Where everything stands in a picture: a layered layout, small because its layers are known.

The world is on the left, the host a box beside it, namespaces a row of columns below. A namespace has a slot for each
of its interfaces, in the order of the networks; a bridge spans the slots of those who are plugged in, and two bridges
whose spans overlap stand one above the other. What is published stands at the host's upper edge, in the column of whom
it leads to. Lengths are in SVG's user units, about a pixel.
"""

from __future__ import annotations

from nsbridge.explain.picture import gateways, nature, port_text, ports_of
from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsbridge.explain.picture import Picture
    from nsbridge.model.endpoint import PublishedPort
    from nsbridge.model.network import Network

CHAR, BOLD, SMALL = 7.0, 7.6, 6.1
"""Width of a character: monospaced of 11.5, bold of 13, monospaced of 10. No common face is much wider."""

EDGE, GAP = 16, 22
LINE, CHIP, TITLE = 16, 22, 22
PORTS_SHOWN = 4
REACH = 62
"""How far a bridge reaches beyond its outermost cables."""

BESIDE = 16
"""How far left of its cable a way in runs."""

WIRE = 58
"""How long the cables between bridges and namespaces are."""


class Box(Value):
    """A rectangle by its upper left corner."""

    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> float:
        """The x of its middle."""
        return self.x + self.width / 2

    @property
    def bottom(self) -> float:
        """The y of its lower edge."""
        return self.y + self.height

    @property
    def right(self) -> float:
        """The x of its right edge."""
        return self.x + self.width


class Arrangement(Value):
    """A layout: boxes by uplink, network and namespace (path).

    slots: the x of each endpoint's cable, by network and namespace. ways_in: the x at which published ports lead in, by
    namespace. chips: boxes of published ports with their texts, by namespace. bus: the y at which the ways out run.
    """

    width: float
    height: float
    world: Box
    host: Box
    uplinks: tuple[tuple[str, Box], ...]
    bridges: tuple[tuple[str, Box], ...]
    spaces: tuple[tuple[str, Box], ...]
    slots: tuple[tuple[tuple[str, str], float], ...]
    ways_in: tuple[tuple[str, float], ...]
    chips: tuple[tuple[str, tuple[tuple[str, Box], ...]], ...]
    bus: float


def wide(text: str, each: float = CHAR) -> float:
    """Return about how wide a text is."""
    return len(text) * each


def is_private(port: PublishedPort) -> bool:
    """Tell whether only the host itself reaches a port."""
    return port.host_ip is not None and port.host_ip.is_loopback


def chip_texts(picture: Picture, path: str) -> tuple[str, ...]:
    """Return what is published of a namespace, the last ones as a number when they are many."""
    ports = sorted(ports_of(picture.within(path)), key=is_private)
    found = [port_text(port) for port in ports]
    if len(found) > PORTS_SHOWN:
        found = [*found[: PORTS_SHOWN - 1], f"and {len(found) - PORTS_SHOWN + 1} more"]
    return tuple(found)


def space_lines(picture: Picture, path: str) -> tuple[tuple[str, str], ...]:
    """Return interface and address of each line in a namespace's box; further addresses have no interface."""
    found = []
    for endpoint in picture.within(path):
        addresses = [str(one) for one in endpoint.addresses] or ["no address"]
        found += [(endpoint.ifname if place == 0 else "", one) for place, one in enumerate(addresses)]
    return tuple(found)


def bridge_names(network: Network) -> tuple[str, str]:
    """Return what stands out in a bridge's box, and what stands beside it if that doesn't say it already."""
    if network.ifname in (network.name, f"nsb-{network.name}"):
        return network.ifname, ""
    return network.name, network.ifname


def bridge_lines(network: Network) -> tuple[str, ...]:
    """Return the lines in a bridge's box below its name."""
    said = nature(network)
    return (" · ".join(gateways(network)), *((said,) if said else ()))


def _column(picture: Picture, path: str) -> float:
    """How wide the column of a namespace is."""
    lines = [wide(f"{name} {text}") + 10 for name, text in space_lines(picture, path)]
    texts = [*lines, wide(picture.name_of(path), BOLD), *[wide(one) for one in chip_texts(picture, path)]]
    cables = max([wide(one.host_ifname) * 0.86 + 16 for one in picture.within(path)], default=0)
    slots = len(picture.within(path))
    return max(max(texts) + 30, 116, slots * cables)


def _rows(spans: Iterable[tuple[str, float, float]]) -> dict[str, int]:
    """The row of each bridge: the first in which its span overlaps no other."""
    rows: list[list[tuple[float, float]]] = []
    found = {}
    for name, left, right in spans:
        clear = (all(right + GAP / 2 <= start or left - GAP / 2 >= end for start, end in row) for row in rows)
        found[name] = next((number for number, free in enumerate(clear) if free), len(rows))
        if found[name] == len(rows):
            rows.append([])
        rows[found[name]].append((left, right))
    return found


def _uplink_size(picture: Picture) -> tuple[float, float]:
    texts = [str(each) for one in picture.uplinks for each in one.addresses]
    names = [wide(one.name, BOLD) for one in picture.uplinks]
    lines = max([len(one.addresses) for one in picture.uplinks], default=0)
    return max([wide(text) for text in texts] + names + [60]) + 24, TITLE + 6 + LINE * lines


def _spans(
    picture: Picture, columns: dict[str, Box], start: float
) -> tuple[dict[tuple[str, str], float], list[tuple[str, float, float]]]:
    """The x of each cable, and from where to where each bridge reaches."""
    slots: dict[tuple[str, str], float] = {}
    for path, box in columns.items():
        mine = picture.within(path)
        for place, endpoint in enumerate(mine):
            slots[endpoint.network, path] = box.x + box.width * (place + 0.5) / len(mine)
    spans = []
    free = max([box.right for box in columns.values()], default=start - GAP) + GAP
    for network in picture.networks:
        xs = [x for (name, _), x in slots.items() if name == network.name]
        least = max([wide(line) for line in bridge_lines(network)] + [wide(" ".join(bridge_names(network)), BOLD) + 14])
        least += 28
        if not xs:
            xs, free = [free + least / 2], free + least + GAP
        left, right = min(xs) - REACH, max(xs) + REACH
        more = max(0.0, least - (right - left)) / 2
        left, right = left - more, right + more
        shift = max(0.0, start - left)
        spans.append((network.name, left + shift, right + shift))
    return slots, spans


def _columns(picture: Picture, start: float) -> dict[str, Box]:
    """A column for each namespace, from left to right; heights come later."""
    found: dict[str, Box] = {}
    x = start
    for path in picture.spaces:
        found[path] = Box(x, 0, _column(picture, path), 0)
        x = found[path].right + GAP
    return found


def _uplinks(picture: Picture, x: float, y: float) -> tuple[tuple[str, Box], ...]:
    """The uplinks' boxes, one below the other."""
    width, height = _uplink_size(picture)
    ups = picture.uplinks
    return tuple([(one.name, Box(x, y + number * (height + 10), width, height)) for number, one in enumerate(ups)])


def _bridges(
    picture: Picture, spans: Iterable[tuple[str, float, float]], top: float
) -> tuple[tuple[tuple[str, Box], ...], float]:
    """The bridges' boxes in rows from `top` on, and where the last row ends."""
    spans = tuple(spans)
    rows = _rows(spans)
    tall = {one.name: 28 + LINE * len(bridge_lines(one)) for one in picture.networks}
    height = max(tall.values(), default=0) + 18
    boxes = [(name, Box(left, top + rows[name] * height, end - left, tall[name])) for name, left, end in spans]
    return tuple(boxes), top + height * (max(rows.values(), default=-1) + 1)


def place(picture: Picture) -> Arrangement:
    """Return where everything stands."""
    world = Box(EDGE, 0, 86, 52)
    host_x = world.right + 40
    start = host_x + EDGE + (_uplink_size(picture)[0] + 44 if picture.uplinks else 8)
    columns = _columns(picture, start)
    chips = {path: chip_texts(picture, path) for path in columns}
    band = max([len(texts) for texts in chips.values()], default=0) * (CHIP + 4)
    host_y = EDGE + (18 if band else 0)
    uplinks = _uplinks(picture, host_x + EDGE, host_y + 30)
    bus = max(host_y + 30 + max(band, 24), *[box.bottom + 10 for _, box in uplinks], 0) + 10
    slots, spans = _spans(picture, columns, start)
    bridges, rows_end = _bridges(picture, spans, bus + 26)
    host_bottom = rows_end + 4
    lines = {path: TITLE + 10 + LINE * len(space_lines(picture, path)) for path in columns}
    right = max([start, *[box.right for box in columns.values()], *[box.right for _, box in bridges]]) + EDGE
    middle = uplinks[0][1].y + uplinks[0][1].height / 2 if uplinks else host_y + 50
    ways_in = {path: _way_in(picture, path, slots) for path in columns}
    return Arrangement(
        width=max(right, _names_end(picture, slots)) + EDGE,
        height=host_bottom + WIRE + max(lines.values(), default=-WIRE) + EDGE,
        world=world.replace(y=middle - world.height / 2),
        host=Box(host_x, host_y, right - host_x, host_bottom - host_y),
        uplinks=uplinks,
        bridges=bridges,
        spaces=tuple([(path, box.replace(y=host_bottom + WIRE, height=lines[path])) for path, box in columns.items()]),
        slots=tuple(slots.items()),
        ways_in=tuple(ways_in.items()),
        chips=tuple([(path, _chips(chips[path], ways_in[path] + BESIDE / 2, host_y + 10)) for path in columns]),
        bus=bus,
    )


def _names_end(picture: Picture, slots: dict[tuple[str, str], float]) -> float:
    """Where the rightmost name beside a cable ends."""
    ends = [slots[one.network, one.netns] + 8 + wide(one.host_ifname, SMALL) for one in picture.endpoints]
    return max(ends, default=0) - EDGE / 2


def _way_in(picture: Picture, path: str, slots: dict[tuple[str, str], float]) -> float:
    """Beside the cable of the endpoint whose ports are published."""
    mine = picture.within(path)
    main = next((one for one in mine if one.ports), mine[0])
    return slots[main.network, path] - BESIDE


def _chips(texts: tuple[str, ...], middle: float, top: float) -> tuple[tuple[str, Box], ...]:
    found = []
    for number, text in enumerate(texts):
        width = wide(text) + 18
        found.append((text, Box(middle - width / 2, top + number * (CHIP + 4), width, CHIP)))
    return tuple(found)
