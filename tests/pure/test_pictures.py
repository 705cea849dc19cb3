"""Pictures in all their forms, from values alone: nothing overlaps, nothing is lost, and each form is well-formed."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_interface, ip_network
from itertools import combinations
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsbridge.explain import graphs, svg, tree
from nsbridge.explain.picture import WORLD, Picture, Stop, Uplink, port_text
from nsbridge.explain.placing import SMALL, place
from nsbridge.model.endpoint import Endpoint, PublishedPort
from nsbridge.model.network import Network, Subnet

if TYPE_CHECKING:
    from nsbridge.explain.placing import Box


def network(name: str, number: int, **more: object) -> Network:
    return Network(name, (Subnet(ip_network(f"10.{number}.0.0/24")),), **more)  # type: ignore[arg-type]


def endpoint(on: str, name: str, host: str, *ports: PublishedPort, ifname: str = "eth0") -> Endpoint:
    return Endpoint(on, name, f"/run/netns/{name}", ifname=ifname, addresses=(ip_interface(host),), ports=ports)


FRONT, BACK = network("front", 1), network("back", 2, internal=True)
PORTS = (PublishedPort(80, 8080), PublishedPort(53, 53, "udp", ip_address("127.0.0.1")))
LAB = Picture(
    'A <lab> & "more"',
    (Uplink("up0", (ip_interface("198.51.100.1/24"),)),),
    (FRONT, BACK),
    (
        endpoint("front", "web", "10.1.0.2/24", *PORTS),
        endpoint("front", "app", "10.1.0.3/24"),
        endpoint("back", "app", "10.2.0.3/24", ifname="eth1"),
        endpoint("back", "db", "10.2.0.2/24"),
    ),
)
WAY = (
    Stop(WORLD, "198.51.100.9:4 → 198.51.100.1:8080", "tcp"),
    Stop("", "198.51.100.9:4 → 10.1.0.2:80", "ports published on every address"),
    Stop("/run/netns/web", "198.51.100.9:4 → 10.1.0.2:80", "arrives", "eth0"),
)
EMPTY = Picture("Nothing", (), (), ())


def test_a_tree_in_eighty_columns() -> None:
    assert (
        tree.render(LAB.along(WAY))
        == """\
the world
  └─ up0  198.51.100.1

the host
  ├─ nsb-front  10.1.0.1/24  (network front, out by NAT)
  │  ├─ web  eth0 10.1.0.2  ◀ 8080 → 80, 127.0.0.1:53/udp
  │  └─ app  eth0 10.1.0.3
  └─ nsb-back  10.2.0.1/24  (network back, internal)
     ├─ app  eth1 10.2.0.3
     └─ db   eth0 10.2.0.2

the way of the packet
   1 the world: 198.51.100.9:4 → 198.51.100.1:8080 (tcp)
   2 the host: 198.51.100.9:4 → 10.1.0.2:80 (ports published on every address)
   3 web: 198.51.100.9:4 → 10.1.0.2:80 (arrives)
"""
    )
    assert tree.render(EMPTY) == "the world\n\nthe host\n  no network\n"


@pytest.mark.parametrize(
    ("port", "shown"),
    [
        (PublishedPort(80, 80), "80"),
        (PublishedPort(80, 8080, share=True), "8080 → 80, shared"),
        (PublishedPort(3000, 3000, count=6), "3000-3005"),
        (PublishedPort(80, 8080, interface="wg0"), "wg0:8080 → 80"),
        (PublishedPort(80, 8080, host_ip=ip_address("::1")), "[::1]:8080 → 80"),
    ],
)
def test_a_port_in_few_characters(port: PublishedPort, shown: str) -> None:
    assert port_text(port) == shown


@st.composite
def pictures(draw: st.DrawFn) -> Picture:
    many = draw(st.integers(0, 4))
    networks = [
        network(f"{'long-name-of-a-' * draw(st.integers(0, 1))}net{n}", n, internal=draw(st.booleans()))
        for n in range(many)
    ]
    endpoints = []
    for space in range(draw(st.integers(0, 6)) if networks else 0):
        on = draw(st.lists(st.sampled_from(networks), min_size=1, unique_by=lambda one: one.name))
        for place_, one in enumerate(on):
            ports = [PublishedPort(80 + n, 8000 + 100 * space + n) for n in range(draw(st.integers(0, 6)))]
            host = f"{one.subnets[0].network.network_address + 10 + space}/24"
            endpoints.append(
                endpoint(one.name, f"ns{space}", host, *(ports if not place_ else ()), ifname=f"eth{place_}")
            )
    ups = [Uplink(f"up{n}", (ip_interface(f"192.0.2.{n + 1}/24"),)) for n in range(draw(st.integers(0, 2)))]
    picture = Picture("Drawn", tuple(ups), tuple(networks), tuple(endpoints))
    stops = draw(st.lists(st.sampled_from([WORLD, "", "/run/netns/elsewhere", *picture.spaces]), max_size=6))
    return picture.along(Stop(at, f"packet {number}", "why") for number, at in enumerate(stops))


def apart(boxes: list[Box]) -> bool:
    return all(
        one.right <= other.x + 0.01
        or other.right <= one.x + 0.01
        or one.bottom <= other.y + 0.01
        or other.bottom <= one.y + 0.01
        for one, other in combinations(boxes, 2)
    )


@settings(max_examples=60, deadline=None)
@given(pictures())
def test_nothing_overlaps_and_all_is_inside(picture: Picture) -> None:
    placed = place(picture)
    bridges = [box for _, box in placed.bridges]
    spaces = [box for _, box in placed.spaces]
    chips = [box for _, some in placed.chips for _, box in some]
    uplinks = [box for _, box in placed.uplinks]
    assert apart([placed.world, *uplinks, *chips, *bridges, *spaces])
    for box in [placed.world, placed.host, *spaces]:
        assert box.x >= 0
        assert box.y >= 0
        assert box.right <= placed.width
        assert box.bottom <= placed.height
    for box in [*bridges, *chips, *uplinks]:
        assert placed.host.x <= box.x
        assert box.right <= placed.host.right
        assert placed.host.y <= box.y
        assert box.bottom <= placed.host.bottom
    for (name, path), x in placed.slots:
        bridge, space = dict(placed.bridges)[name], dict(placed.spaces)[path]
        assert bridge.x <= x <= bridge.right
        assert space.x <= x <= space.right
        assert x + 7 + 15 * SMALL <= placed.width, "the name beside the cable is cut off"


@settings(max_examples=40, deadline=None)
@given(pictures())
def test_every_form_of_any_picture(picture: Picture) -> None:
    root = ElementTree.fromstring(svg.render(picture))
    shown = {"".join(one.itertext()) for one in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {picture.name_of(path) for path in picture.spaces} <= shown
    assert len([one for one in shown if one.isdecimal() and len(one) == 1]) == len(set(range(len(picture.way))))
    assert all(len(line) <= tree.WIDTH for line in tree.render(picture).splitlines())
    check_dot(graphs.dot(picture))
    check_mermaid(graphs.mermaid(picture))


def check_dot(text: str) -> None:
    """The grammar of graphviz.org/doc/info/lang.html, of what of it is used: statements, quoted strings, a cluster."""
    bare = re.sub(r'"(?:[^"\\\n]|\\["\\n])*"', "STRING", text)
    assert '"' not in bare
    first, *lines, last = bare.splitlines()
    assert (first, last) == ("digraph nsbridge {", "}")
    value = r"(?:STRING|\w+)"
    attributes = rf"\[(?:{value}={value} ?)*\]"
    nodes: set[str] = set()
    depth = 0
    for line in map(str.strip, lines):
        if line == "subgraph cluster_host {":
            depth += 1
        elif line == "}":
            depth -= 1
        elif edge := re.fullmatch(rf"(\w+) -> (\w+) {attributes};", line):
            assert {edge[1], edge[2]} <= nodes, f"an edge to what was not said before: {line}"
        elif node := re.fullmatch(rf"(\w+) {attributes};", line):
            nodes.add(node[1])
        else:
            assert re.fullmatch(rf"(?:{value}={value}; ?)+", line), line
    assert depth == 0


def check_mermaid(text: str) -> None:
    """The grammar of mermaid.js.org/syntax/flowchart.html, of what of it is used: nodes, a subgraph, labelled links."""
    lines = text.splitlines()
    assert lines[0] == lines[2] == "---"
    assert re.fullmatch(r'title: "(?:[^"\\]|\\.)*"', lines[1])
    assert lines[3] == "flowchart TB"
    said = r'"(?:[^"<>#]|<br/>|#(?:\d+|quot|lt|gt);)+"'
    nodes: set[str] = set()
    depth = 0
    for line in map(str.strip, lines[4:]):
        if re.fullmatch(rf"subgraph \w+\[{said}\]", line):
            depth += 1
        elif line == "end":
            depth -= 1
        elif link := re.fullmatch(rf"(\w+) (?:---|-\.->|==>)(?:\|{said}\|)? (\w+)", line):
            assert {link[1], link[2]} <= nodes, line
        else:
            node = re.fullmatch(rf"(\w+)(?:\[{said}\]|\({said}\)|\(\[{said}\]\))", line)
            assert node, line
            assert node[1] not in ("end", "graph", "subgraph"), "a word of the grammar is no name"
            nodes.add(node[1])
    assert depth == 0


def test_an_svg_says_what_it_shows_and_fits_light_and_dark() -> None:
    text = svg.render(LAB.along(WAY))
    root = ElementTree.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    assert root.find(f"{space}title").text == 'A <lab> & "more"'  # type: ignore[union-attr]
    described = root.find(f"{space}desc").text or ""  # type: ignore[union-attr]
    assert (
        "Bridge nsb-front of network front connects web (10.1.0.2), app (10.1.0.3), with a way out by NAT." in described
    )
    assert "2. 198.51.100.9:4 → 10.1.0.2:80 (ports published on every address)." in described
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-labelledby"] == "title desc"
    assert "@media(prefers-color-scheme:dark)" in text
    assert not re.search(r"url\(|@import|<image|href=|<script", text), "it needs nothing but itself"
    light, dark = text.split("@media", 1)
    for name in set(re.findall(r'class="([^"]+)"', text)):
        for one in name.split():
            assert one in ("mono", "small", "note", "bold") or f".{one}{{" in light, one
            assert one in ("mono", "small", "note", "bold") or f".{one}{{" in dark, one


def luminance(colour: str) -> float:
    """Relative luminance: WCAG 2.2."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [svg.LIGHT, svg.DARK], ids=["light", "dark"])
def test_every_text_stands_out_from_its_surface(scheme: dict[str, str]) -> None:
    surfaces = {
        "ink": ("page", "host", "bridge", "space", "port"),
        "quiet": ("page", "host", "bridge"),
        "page": ("way",),
    }
    for ink, behind in surfaces.items():
        for surface in behind:
            high, low = sorted((luminance(scheme[ink]), luminance(scheme[surface])), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 4.5, f"{ink} on {surface}"
