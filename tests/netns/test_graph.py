"""`nsbridge graph`: what is up is drawn as its file was before, and a packet's way is that of a real packet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from lab import HOST4, OUTSIDE, OUTSIDE4, eventually, sh

if TYPE_CHECKING:
    from commands import Command
    from lab import Lab

pytestmark = pytest.mark.netns

EXAMPLE = str(Path(__file__).parents[2] / "examples/docker-bridge.yaml")


FORMS = ("text", "svg", "dot", "mermaid")


def test_a_file_and_what_it_becomes_look_alike(nb: Command, lab: Lab) -> None:
    before = {form: nb("graph", "--format", form, EXAMPLE).out for form in FORMS}
    nb("up", "-d", "-f", EXAMPLE)
    drawn = {form: nb("graph", "--format", form).out for form in FORMS}
    nb("down", "-f", EXAMPLE, "-t", "0")
    title, own = "Project docker-bridge", "What nsbridge has on this host"
    assert drawn == {form: text.replace(title, own) for form, text in before.items()}
    assert all("175.18.0.3" in text and HOST4 in text for text in drawn.values())


def test_a_way_is_that_of_a_real_packet(nb: Command, lab: Lab) -> None:
    nb("up", "-d", "-f", EXAMPLE)
    url = f"http://{HOST4}:8088/"
    assert eventually(lambda: lab.get(url, OUTSIDE), timeout_s=5)
    way = nb("graph", "--path", "outside", "host:8088").out.partition("the way of the packet")[2]
    assert f"1 the world: {OUTSIDE4}:40000 → {HOST4}:8088 (tcp)" in way
    assert f"2 the host: {OUTSIDE4}:40000 → 175.18.0.2:80 (ports published on every" in way
    assert "3 ns1: " in way
    svg = nb("graph", "--path", "outside", "host:8088", "--format", "svg").out
    shown = ["".join(one.itertext()) for one in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert any(one.startswith(f"{OUTSIDE4}:40000 → 175.18.0.2:80") for one in shown)
    sh("nft insert rule inet nsbridge admin tcp dport 80 drop")
    assert not lab.get(url, OUTSIDE, timeout_s=0.3)
    way = nb("graph", "--path", "outside", "host:8088").out.partition("the way of the packet")[2]
    assert "3 the host: dropped (" in way
    assert "ns1" not in way
    sh("nft flush chain inet nsbridge admin")
    nb("down", "-f", EXAMPLE, "-t", "0")


def test_what_cannot_be_drawn(nb: Command, lab: Lab) -> None:
    assert "no network" in nb("graph").out
    assert "no endpoint" in nb.fails(4, "graph", "--path", "nobody", "host:80")
    assert "choose from" in nb.fails(2, "graph", "--format", "png")
