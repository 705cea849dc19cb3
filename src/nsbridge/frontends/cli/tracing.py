"""The verb `trace`."""

from __future__ import annotations

import sys

from nsbridge.engine.trace import Trace
from nsbridge.errors import InvalidIntent
from nsbridge.explain import tell, tell_trace
from nsbridge.frontends.cli import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nsbridge.engine.host import Host
    from nsbridge.explain.compare import Comparison

LONGEST_S = 86400
"""A day."""


def trace(host: Host, args: Any) -> int:
    """Try a question out; exit status 1 if the kernel does something else than was predicted."""
    if not 0 <= args.timeout <= LONGEST_S:
        raise InvalidIntent(f"timeout is {args.timeout:g}", fix=f"give 0 to {LONGEST_S} seconds")
    version = 6 if args.ipv6 else 4 if args.ipv4 else 0
    with Trace(host, args.source, args.target, version=version, wait=args.wait) as trying:
        if args.wait and not args.json:
            print(f"waiting for a packet {trying.asked.text} …", file=sys.stderr, flush=True)
        found = trying.run(args.timeout)
        name, probed = trying.asked.source.name, trying.probed
    said, took_s = (probed.said, round(probed.took_s, 6)) if probed is not None else ("", None)
    if args.json:
        output.as_json(tell_trace.record(found, name, said, took_s))
    else:
        _show(found, name, said, brief=args.brief)
    return 0 if found.agrees else 1


def _show(found: Comparison, source: str, said: str, *, brief: bool) -> None:
    colour = output.GREEN if found.agrees else output.RED
    output.line(tell.wrapped(f"Predicted: {tell.sentence(found.path, source)}"))
    output.line(tell_trace.probed(found, said))
    output.line(output.paint(sys.stdout, colour, tell_trace.verdict(found)))
    for text in found.differences:
        output.line(tell.wrapped(text, 2))
    for text in found.untold:
        output.line(tell.wrapped(f"note: {text}", 2))
    if brief:
        return
    output.line("")
    for text in tell_trace.lines(found):
        output.line(text)
