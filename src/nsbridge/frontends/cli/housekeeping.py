"""The verbs `gc`, `mend`, `doctor`, `schema`, `completion`, `version`, `help`."""

from __future__ import annotations

import os
import sys

from nsbridge import __version__
from nsbridge.errors import Unsupported
from nsbridge.frontends.cli import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nsbridge.engine.host import Host

LEVEL_COLOURS = {"ok": "\x1b[32m", "note": "\x1b[36m", "warning": "\x1b[33m", "error": "\x1b[31m"}


def gc(host: Host, args: Any) -> None:
    """Remove leftovers, and print what went."""
    from nsbridge.engine.gc import collect

    found = collect(host, dry_run=args.dry_run)
    if args.json:
        output.as_json(list(found))
        return
    for text in found:
        output.line(text)
    if not found:
        host.say("nothing of ours is left over")


def mend(host: Host, args: Any) -> None:
    """Put back what the kernel has lost, and print what that was."""
    from nsbridge.engine import mend as engine
    from nsbridge.frontends.cli.words import thing_text

    steps = engine.lost(host) if args.dry_run else engine.mend(host)
    found = list(dict.fromkeys(thing_text(thing) for thing in engine.told(steps)))
    if args.json:
        output.as_json(found)
        return
    for text in found:
        output.line(text)
    if not found:
        host.say("nothing of ours is lost")


def doctor(host: Host, args: Any) -> int:
    """Print what was found on this host; exit status 1 if anything is an error."""
    from nsbridge.engine.doctor import examine

    findings = examine(host)
    if args.json:
        output.as_json([{"level": one.level, "what": one.what, "why": one.why, "fix": one.fix} for one in findings])
    else:
        width = max(map(len, LEVEL_COLOURS))
        for one in findings:
            level = output.paint(sys.stdout, LEVEL_COLOURS[one.level], one.level.ljust(width))
            output.line(f"{level}  {one.what}")
            for text in (one.why, f"fix: {one.fix}" if one.fix else ""):
                if text:
                    output.line(f"{'':{width}}  {text}")
    return 1 if any(one.level == "error" for one in findings) else 0


def schema(args: Any) -> None:
    """Print the JSON Schema of topology files."""
    from nsbridge import files

    output.as_json(files.schema())


def completion(args: Any) -> None:
    """Print a shell's completions, made from the same parsers that parse."""
    import shtab

    from nsbridge.frontends.cli.parser import whole

    if args.shell not in shtab.SUPPORTED_SHELLS:
        raise Unsupported(f"this version of shtab knows no {args.shell}", fix="upgrade it: pip install -U shtab")
    output.line(shtab.complete(whole(), shell=args.shell))


def version(args: Any) -> None:
    """Print the versions that a report of a bug should name."""
    facts = {
        "nsbridge": __version__,
        "python": ".".join(map(str, sys.version_info[:3])),
        "kernel": os.uname().release,
    }
    if args.json:
        output.as_json(facts)
    else:
        output.line(f"nsbridge {facts['nsbridge']} (Python {facts['python']}, Linux {facts['kernel']})")


def help_for(args: Any) -> None:
    """Print the help of a verb, or of all."""
    from nsbridge.frontends.cli.parser import help_text

    sys.stdout.write(help_text(args.words))
