"""A picture as SVG: readable in light and dark pages, by screen readers, and without any font of ours.

Colours follow the page by ``prefers-color-scheme``; every text stands on a surface of its own, so that it can be read
wherever the picture is put. The drawing says in its title and description what it shows.
"""

from __future__ import annotations

from nsbridge.explain.overlay import Overlay
from nsbridge.explain.picture import way_out
from nsbridge.explain.placing import LINE, TITLE, bridge_lines, bridge_names, is_private, place, space_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsbridge.explain.picture import Picture
    from nsbridge.explain.placing import Arrangement, Box

LIGHT = {
    "page": "#ffffff",
    "ink": "#1f2328",
    "quiet": "#59636e",
    "wire": "#818b98",
    "host": "#f6f8fa",
    "edge": "#d1d9e0",
    "bridge": "#ddf4ff",
    "bridge-edge": "#0969da",
    "space": "#dafbe1",
    "space-edge": "#1a7f37",
    "port": "#fff8c5",
    "port-edge": "#9a6700",
    "way": "#cf222e",
}
DARK = {
    "page": "#0d1117",
    "ink": "#f0f6fc",
    "quiet": "#9198a1",
    "wire": "#656c76",
    "host": "#151b23",
    "edge": "#3d444d",
    "bridge": "#0c2d5c",
    "bridge-edge": "#4493f8",
    "space": "#0f3d1e",
    "space-edge": "#3fb950",
    "port": "#3d2e00",
    "port-edge": "#d29922",
    "way": "#ff7b72",
}


def _rules(colours: dict[str, str]) -> str:
    """Which class has which colour, in one scheme."""
    fills = (("page", "page"), ("host", "host"), ("bridge", "bridge"), ("space", "space"), ("port", "port"))
    edges = (("host", "edge"), ("bridge", "bridge-edge"), ("space", "space-edge"), ("port", "port-edge"))
    lines = [f".{name}{{fill:{colours[colour]}}}" for name, colour in fills]
    lines += [f".{name}{{stroke:{colours[colour]}}}" for name, colour in edges]
    lines += [f"text{{fill:{colours['ink']}}}", f".quiet{{fill:{colours['quiet']}}}"]
    lines += [f".world{{fill:{colours['page']};stroke:{colours['wire']}}}", f".wire{{stroke:{colours['wire']}}}"]
    lines += [f".open{{stroke:{colours['port-edge']}}}", f".tip{{fill:{colours['port-edge']}}}"]
    lines += [
        f".way{{stroke:{colours['way']}}}",
        f".stop{{fill:{colours['way']}}}",
        f".number{{fill:{colours['page']}}}",
    ]
    return "".join(lines)


_SANS = "ui-sans-serif,system-ui,-apple-system,Segoe UI,Helvetica,Arial,sans-serif"
_MONO = "ui-monospace,SFMono-Regular,Menlo,Consolas,Liberation Mono,monospace"
_FORMS = (
    f"text{{font:13px {_SANS}}}.bold{{font-weight:600}}.mono{{font:11.5px {_MONO}}}.small{{font:10px {_MONO}}}"
    f".note{{font:11px {_SANS}}}.host,.bridge,.space,.port,.world{{stroke-width:1.25}}"
    ".wire,.open,.way{fill:none;stroke-width:1.5}.open{stroke-dasharray:4 3}"
    ".way{stroke-width:3.5;stroke-linecap:round;stroke-linejoin:round}"
    ".number{font-size:10px;font-weight:600}"
)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def _n(number: float) -> str:
    """A length with at most one decimal."""
    return f"{number:.1f}".removesuffix(".0")


def _box(box: Box, name: str, round_: int = 6) -> str:
    place_ = f'x="{_n(box.x)}" y="{_n(box.y)}" width="{_n(box.width)}" height="{_n(box.height)}"'
    return f'<rect class="{name}" {place_} rx="{round_}"/>'


def _text(x: float, y: float, text: str, name: str = "", anchor: str = "") -> str:
    classes = f' class="{name}"' if name else ""
    anchored = f' text-anchor="{anchor}"' if anchor else ""
    return f'<text x="{_n(x)}" y="{_n(y)}"{classes}{anchored}>{_escaped(text)}</text>'


def _line(points: Iterable[tuple[float, float]], name: str) -> str:
    return f'<path class="{name}" d="M{" L".join(f"{_n(x)} {_n(y)}" for x, y in points)}"/>'


def render(picture: Picture) -> str:
    """Return the picture as an SVG document."""
    placed = place(picture)
    overlay = Overlay(picture, placed)
    legend = _legend(picture, placed)
    height = placed.height + (14 + 20 * len(picture.way) if legend else 0)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_n(placed.width)} {_n(height)}" '
        f'width="{_n(placed.width)}" height="{_n(height)}" role="img" aria-labelledby="title desc">',
        f'<title id="title">{_escaped(picture.title)}</title>',
        f'<desc id="desc">{_escaped(described(picture))}</desc>',
        f"<style>{_FORMS}{_rules(LIGHT)}@media(prefers-color-scheme:dark){{{_rules(DARK)}}}</style>",
        f'<rect class="page" width="{_n(placed.width)}" height="{_n(height)}" rx="8"/>',
        _box(placed.host, "host", 10),
        _text(placed.host.x + 16, placed.host.y + 20, "the host", "bold"),
        *_outer_wires(placed),
        *_cables(picture, placed),
        *_way_lines(overlay),
        *_outside(picture, placed),
        *_bridges(picture, placed),
        *_spaces(picture, placed),
        *_chips(picture, placed),
        *_way_numbers(overlay),
        *legend,
    ]
    return "\n".join(parts) + "\n</svg>\n"


def described(picture: Picture) -> str:
    """Say in sentences what the picture shows, for those who can't see it."""
    said = []
    for network in picture.networks:
        there = [
            f"{picture.name_of(one.netns)} ({', '.join(str(a.ip) for a in one.addresses)})"
            for one in picture.on(network)
        ]
        out = way_out(network)
        leads = f", with a way out by {out}" if out else ", with no way out"
        said.append(
            f"Bridge {network.ifname} of network {network.name} connects {', '.join(there) or 'nobody'}{leads}."
        )
    for path in picture.spaces:
        ports = [str(port) for one in picture.within(path) for port in one.ports]
        said += [f"Published of {picture.name_of(path)}: {', '.join(ports)}."] if ports else []
    said += [f"{number}. {stop.text}." for number, stop in enumerate(picture.way, 1)]
    return " ".join(said)


# ------------------------------------------------------------------ parts


def _outer_wires(placed: Arrangement) -> list[str]:
    world = placed.world
    found = []
    for _, box in placed.uplinks:
        y = box.y + box.height / 2
        found.append(_line(((world.right, world.y + world.height / 2), (world.right + 20, y), (box.x, y)), "wire"))
    return found


def _outside(picture: Picture, placed: Arrangement) -> list[str]:
    world, found = placed.world, []
    ellipse = (
        f'<ellipse class="world" cx="{_n(world.middle)}" cy="{_n(world.y + 26)}" rx="{_n(world.width / 2)}" ry="26"/>'
    )
    found += [ellipse, _text(world.middle, world.y + 30, "the world", "", "middle")]
    addresses = {one.name: one.addresses for one in picture.uplinks}
    for name, box in placed.uplinks:
        found += [_box(box, "world"), _text(box.middle, box.y + 18, name, "bold", "middle")]
        for number, address in enumerate(addresses[name]):
            found.append(_text(box.middle, box.y + 18 + LINE * (number + 1), str(address), "mono", "middle"))
    return found


def _cables(picture: Picture, placed: Arrangement) -> list[str]:
    """The ways out, the veth pairs, and the dashed ways in; the boxes cover where they cross."""
    found = []
    bridges, spaces, ways_in = dict(placed.bridges), dict(placed.spaces), dict(placed.ways_in)
    trunk = placed.uplinks[0][1].right + 22 if placed.uplinks else placed.host.x
    for network in picture.networks:
        out = way_out(network)
        if not out or not placed.uplinks:
            continue
        box = bridges[network.name]
        x = box.x + 26
        for _, up in placed.uplinks:
            y = up.y + up.height / 2
            found.append(_line(((up.right, y), (trunk, y), (trunk, placed.bus), (x, placed.bus), (x, box.y)), "wire"))
        found.append(_text(x - 6, placed.bus + 17, out, "note quiet", "end"))
    for path, chips in placed.chips:
        if chips:
            box, x = spaces[path], ways_in[path]
            found.append(_line(((x, chips[-1][1].bottom), (x, box.y - 6)), "open"))
            found.append(f'<path class="tip" d="M{_n(x - 4)} {_n(box.y - 7)} h8 l-4 7 z"/>')
    for (name, path), x in placed.slots:
        found.append(_line(((x, bridges[name].bottom), (x, spaces[path].y)), "wire"))
    return found


def _bridges(picture: Picture, placed: Arrangement) -> list[str]:
    boxes = dict(placed.bridges)
    found = []
    for network in picture.networks:
        box, (name, beside) = boxes[network.name], bridge_names(network)
        found += [_box(box, "bridge"), _text(box.x + 12, box.y + 19, name, "bold")]
        if beside:
            found.append(_text(box.right - 12, box.y + 19, beside, "small quiet", "end"))
        for number, line in enumerate(bridge_lines(network)):
            style = "mono" if number == 0 else "note quiet"
            found.append(_text(box.x + 12, box.y + 19 + LINE * (number + 1), line, style))
    return found


def _spaces(picture: Picture, placed: Arrangement) -> list[str]:
    found = []
    slots = dict(placed.slots)
    drivers = {network.name: network.driver for network in picture.networks}
    for path, box in placed.spaces:
        found += [_box(box, "space"), _text(box.middle, box.y + TITLE - 4, picture.name_of(path), "bold", "middle")]
        for number, (name, address) in enumerate(space_lines(picture, path)):
            text = f"{name} {address}" if name else address
            found.append(_text(box.middle, box.y + TITLE + 12 + LINE * number, text, "mono", "middle"))
        for endpoint in picture.within(path):
            if drivers[endpoint.network] == "bridge":
                y = (placed.host.bottom + box.y) / 2 + 4
                found.append(_text(slots[endpoint.network, path] + 7, y, endpoint.host_ifname, "small quiet"))
    return found


def _chips(picture: Picture, placed: Arrangement) -> list[str]:
    found = []
    for path, chips in placed.chips:
        if not all(is_private(port) for one in picture.within(path) for port in one.ports):
            x = chips[0][1].middle
            found.append(_line(((x, placed.host.y - 16), (x, chips[0][1].y - 6)), "open"))
            found.append(f'<path class="tip" d="M{_n(x - 4)} {_n(chips[0][1].y - 7)} h8 l-4 7 z"/>')
        for text, box in chips:
            found += [_box(box, "port", 11), _text(box.middle, box.y + 15, text, "mono", "middle")]
    return found


# ------------------------------------------------------------------ the way of a packet


def _way_lines(overlay: Overlay) -> list[str]:
    found = []
    for points in overlay.lines():
        x, y = points[-1]
        found.append(_line(points, "way"))
        if y > points[-2][1]:
            found.append(f'<path class="stop" d="M{_n(x - 6)} {_n(y - 10)} h12 l-6 10 z"/>')
        elif x < points[-2][0]:
            found.append(f'<path class="stop" d="M{_n(x + 10)} {_n(y - 6)} v12 l-10 -6 z"/>')
    return found


def _number(x: float, y: float, number: int) -> str:
    circle = f'<circle class="stop" cx="{_n(x)}" cy="{_n(y)}" r="8.5"/>'
    return circle + _text(x, y + 3.5, str(number), "number", "middle")


def _way_numbers(overlay: Overlay) -> list[str]:
    return [_number(x, y, number) for number, (x, y) in enumerate(overlay.numbers(), 1)]


def _legend(picture: Picture, placed: Arrangement) -> list[str]:
    found = []
    for number, stop in enumerate(picture.way, 1):
        y = placed.height + 6 + 20 * (number - 1)
        found.append(_number(placed.world.x + 9, y, number))
        why = f'<tspan class="note quiet" dx="8">{_escaped(stop.why)}</tspan>' if stop.why else ""
        said = f'<tspan class="mono">{_escaped(stop.said)}</tspan>{why}'
        found.append(f'<text x="{_n(placed.world.x + 28)}" y="{_n(y + 4)}">{said}</text>')
    return found
