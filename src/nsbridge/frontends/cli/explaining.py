"""The verb `explain`."""

from __future__ import annotations

import sys

from nsbridge.engine import explain as engine
from nsbridge.errors import InvalidIntent
from nsbridge.explain import tell
from nsbridge.frontends.cli import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nsbridge.engine.host import Host
    from nsbridge.explain.path import Path


def explain(host: Host, args: Any) -> int:
    """Tell what becomes of a packet; exit status 1 if it doesn't arrive, or nobody can say."""
    version = 6 if args.ipv6 else 4 if args.ipv4 else 0
    if args.size and not args.size.isdecimal():
        raise InvalidIntent(f"size is {args.size!r}", fix="give a number of bytes")
    planned = None
    if args.planned:
        from nsbridge import files

        planned = files.read(args.planned)
    told = engine.explain(host, args.source, args.target, version=version, size=int(args.size or 0), planned=planned)
    path, source = told.path, told.asked.source.name
    if args.json:
        output.as_json(tell.record(path, source))
    else:
        _show(path, source, brief=args.brief)
    return 0 if tell.arrived(path) else 1


def _show(path: Path, source: str, *, brief: bool) -> None:
    colour = output.GREEN if tell.arrived(path) else output.RED
    output.line(output.paint(sys.stdout, colour, tell.sentence(path, source)))
    culprit = path.culprit
    if culprit is not None:
        output.line(f"  guilty: {culprit.thing}")
        for command in culprit.fix:
            output.line(f"  fix: {command}")
        if culprit.advice:
            output.line(f"  advice: {culprit.advice}")
    for word, texts in (("opaque", path.opaque), ("assumed", path.assumed), ("note", path.notes)):
        for text in texts:
            output.line(f"  {word}: {text}")
    if brief:
        return
    legs = [leg for leg in (path.out, path.back) if leg is not None]
    width = output.too_narrow(tell.HEADER, [row for leg in legs for row in tell.rows(leg)])
    for title, leg in zip(("", "\nthe answer:"), legs, strict=False):
        output.line(title)
        if not width:
            output.table(tell.HEADER, tell.rows(leg))
        for text in tell.lines(leg, width) if width else ():
            output.line(text)
