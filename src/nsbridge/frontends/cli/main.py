"""The command `nsbridge`: find the verb, parse its arguments, open the host, do it, and say what went wrong.

A verb pays for nothing but itself: its module is imported when it is known, and argparse, for that verb alone, only
when the line isn't plain (`plain`).
SIGTERM and SIGHUP become an exception, so an operation under way is walked back before we end; SIGKILL leaves that
to the next command.
"""

from __future__ import annotations

import gc
import os
import sys

from nsbridge import __version__
from nsbridge.frontends.cli import output, trouble
from nsbridge.frontends.cli.plain import arguments
from nsbridge.frontends.cli.table import find

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable, Sequence
    from typing import Any

    from nsbridge.frontends.cli.verb import Verb
else:
    import _signal  # without the enums of ``signal``

COMPOSE_OPTIONS = {
    "-f": "--file",
    "--file": "--file",
    "-p": "--project",
    "--project": "--project",
    "--project-name": "--project",
}
"""What docker compose takes before its verb; handed on to verbs about topology files."""


def script() -> None:
    """Entry point: run the command line of this process."""
    gc.set_threshold(200_000)  # a command makes hardly any garbage; looking for it while modules load costs 2 to 3 ms
    gc.enable()  # the launcher has turned it off
    for number in (_signal.SIGTERM, _signal.SIGHUP):
        if _signal.getsignal(number) == _signal.SIG_DFL:  # nohup stays in force
            _signal.signal(number, _ended)
    code = main(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would complain once more when it closes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = trouble.BROKEN_PIPE
    # At once: taking the interpreter apart would cost 2 to 5 ms more, and the kernel frees it all as well.
    sys.stderr.flush()
    os._exit(code)


def _ended(number: int, frame: object) -> None:
    raise trouble.Ended(number)


def main(argv: Sequence[str]) -> int:
    """Run one command line; return its exit status. Nothing is raised."""
    words = list(argv)
    debug = "--debug" in words[:1]
    try:
        while words[:1] == ["--debug"]:
            del words[0]
        return _dispatch(words, debug)
    except SystemExit as err:  # argparse, after --help
        return err.code if isinstance(err.code, int) else 0
    except BaseException as err:
        return trouble.report(err, debug=debug or _asked_for_traces(argv))


def _asked_for_traces(argv: Sequence[str]) -> bool:
    """Tell whether --debug stands among our own words, not among those of a command to run."""
    own = argv[: argv.index("--")] if "--" in argv else argv
    found = find(own)
    return "--debug" in own and (found is None or "--" in argv or found[0].name not in ("run", "exec"))


def _dispatch(words: list[str], debug: bool) -> int:
    extra = _compose_options(words)
    if not words or words[0] in ("-h", "--help"):
        from nsbridge.frontends.cli.parser import overview

        sys.stdout.write(overview())
        return 0
    if words[0] in ("--version", "-v"):
        output.line(f"nsbridge {__version__}")
        return 0
    found = find(words)
    if found is None:
        return _no_verb(words)
    verb, length = found
    if extra and verb.group != "topology":
        from nsbridge.frontends.cli.parser import Usage

        raise Usage(f"`nsbridge {verb.name}` takes no {extra[0]}", fix=f"see `nsbridge {verb.name} --help`")
    rest = words[length:]
    if verb.name == "demo":
        return _call(verb, rest)
    args = arguments(verb, [*extra, *rest])
    if args is None:
        from nsbridge.frontends.cli.parser import parser_for

        return _run(verb, parser_for(verb).parse_args([*extra, *rest]))
    return _run(verb, args)


def _compose_options(words: list[str]) -> list[str]:
    """Take options of docker compose from before the verb, and return them."""
    extra: list[str] = []
    while words and (option := words[0].partition("=")[0]) in COMPOSE_OPTIONS:
        word = words.pop(0)
        value = word.partition("=")[2] if "=" in word else words.pop(0) if words else ""
        extra.append(f"{COMPOSE_OPTIONS[option]}={value}")
    return extra


def _no_verb(words: list[str]) -> int:
    from nsbridge.frontends.cli.parser import group_help, unknown

    text = group_help(words[0])
    if text and (len(words) == 1 or words[1] in ("-h", "--help")):
        sys.stdout.write(text)
        return 0
    raise unknown(words)


def _call(verb: Verb, *arguments: Any) -> int:
    module, _, name = verb.run.partition(":")
    __import__(path := f"nsbridge.frontends.cli.{module}")
    function: Callable[..., int | None] = getattr(sys.modules[path], name)
    return function(*arguments) or 0


def _run(verb: Verb, args: Any) -> int:
    if not verb.host:
        return _call(verb, args)
    from nsbridge.wiring import open_host

    with output.words_for(verb.long, verb.group == "topology") as words:
        args.words = words
        host = open_host(words.say, getattr(args, "firewall", ""))
        if getattr(args, "show_commands", False):
            from nsbridge.frontends.cli.telling import Telling, style

            host.kernel = Telling(host.kernel, words, style(host, args))
        return _call(verb, host, args)
