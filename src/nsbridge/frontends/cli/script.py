"""The verb `script`: what a file describes, or what is up, as a script for sh(1)."""

from __future__ import annotations

import sys

from nsbridge import files
from nsbridge.engine import layout
from nsbridge.explain import transcript
from nsbridge.frontends.cli import telling

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nsbridge.engine.host import Host
    from nsbridge.engine.layout import Layout
    from nsbridge.model.service import Topology


def script(host: Host, args: Any) -> None:
    """Print a script that builds, or takes away, what a file describes or what is up."""
    found, title = described(host, read_file(args))
    style = telling.style(host, args)
    bridges = host.kernel.facts().bridges
    if args.down:
        chapters = transcript.backwards(found.things, style, bridges)
        about = "It takes away what the script without --down builds, and touches nothing else."
    else:
        chapters = transcript.lesson(found.things, style, bridges)
        about = "It builds by hand what nsbridge builds, in the order in which one would explain it."
    sys.stdout.write(transcript.script(chapters, title, about, found.strange))


def read_file(args: Any) -> Topology | None:
    """Return the topology of the file that was named, None without one."""
    path = args.topology or args.file
    return files.read(path, project=args.project or None) if path else None


def described(host: Host, topology: Topology | None) -> tuple[Layout, str]:
    """Return what a topology describes, or without one what is up on this host; and what to call it."""
    if topology is not None:
        return layout.planned(host, topology), f"Project {topology.project}"
    return layout.standing(host), "What nsbridge has on this host"
