"""The verb `graph`: what is up, or what a file describes, as a picture."""

from __future__ import annotations

import sys

from nsbridge.engine import layout
from nsbridge.errors import InvalidIntent
from nsbridge.explain.picture import Picture
from nsbridge.frontends.cli.script import described, read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nsbridge.engine.host import Host
    from nsbridge.engine.layout import Layout

FORMATS = ("text", "svg", "dot", "mermaid")


def graph(host: Host, args: Any) -> None:
    """Print a picture."""
    topology = read_file(args)
    found, title = described(host, topology)
    picture = draw(host, found, title)
    if args.path:
        from nsbridge.engine.explain import explain
        from nsbridge.explain.stops import stops
        from nsbridge.explain.tell import sentence

        told = explain(host, *args.path, planned=topology)
        picture = picture.replace(title=sentence(told.path, told.asked.source.name)).along(stops(told.path))
    sys.stdout.write(rendered(picture, args.format))


def draw(host: Host, found: Layout, title: str) -> Picture:
    """Return what a picture of a layout shows, on this host."""
    return Picture(title, layout.uplinks(host), found.networks, found.endpoints)


def rendered(picture: Picture, form: str) -> str:
    """Return a picture in one of `FORMATS`."""
    if form == "svg":
        from nsbridge.explain.svg import render

        return render(picture)
    if form in ("dot", "mermaid"):
        from nsbridge.explain import graphs

        return graphs.dot(picture) if form == "dot" else graphs.mermaid(picture)
    if form == "text":
        from nsbridge.explain.tree import render as as_tree

        return as_tree(picture)
    raise InvalidIntent(f"there is no format {form!r}", fix=f"use one of {', '.join(FORMATS)}")
