"""Parsers and help made from the table of verbs: for the one that is called, or for all of them at once."""

from __future__ import annotations

import argparse
from difflib import get_close_matches

from nsbridge.errors import NsbridgeError
from nsbridge.frontends.cli.table import find, verbs
from nsbridge.frontends.cli.verb import GROUPS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

    from nsbridge.frontends.cli.verb import Argument, Verb

DESCRIPTION = "Docker's bridge network for any process or network namespace."


class Usage(NsbridgeError):
    """The command line can't be understood."""

    exit_code = 2


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are errors like all others, with what to do next."""

    def error(self, message: str) -> NoReturn:
        """Raise `Usage` instead of ending the process."""
        raise Usage(message, fix=f"see `{self.prog} --help`")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Descriptions as they are written, and more room for options than argparse gives them."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34)


def _usage(verb: Verb) -> str:
    words = [f"nsbridge {verb.name}"]
    if any(not one.positional for one in verb.arguments):
        words.append("[OPTION…]")
    for one in verb.arguments:
        if one.positional:
            words.append(_place(one))
    return " ".join(words)


def _place(one: Argument) -> str:
    name: str = one.options["metavar"]
    forms = {None: name, "?": f"[{name}]", "*": f"[{name}…]", "+": f"{name}…", "...": f"[--] {name}…"}
    return forms[one.options.get("nargs")]


def _epilog(verb: Verb) -> str:
    parts = []
    if verb.fields:
        width = max(len(name) for name, _ in verb.fields)
        rows = "\n".join(f"  {name:{width}}  {meaning}" for name, meaning in verb.fields)
        parts.append(f"fields in JSON:\n{rows}")
    if verb.examples:
        parts.append("examples:\n" + "\n".join(f"  nsbridge {example}" for example in verb.examples))
    return "\n\n".join(parts)


def _fill(parser: argparse.ArgumentParser, verb: Verb, completes: dict[str, Any] | None = None) -> None:
    """Add a verb's arguments. completes: what shtab completes words of these metavars with."""
    for one in verb.arguments:
        options = dict(one.options)
        name = one.flags[0]
        action = (
            parser.add_argument(name, **options)
            if one.positional
            else parser.add_argument(*one.flags, dest=one.dest, **options)
        )
        if completes and (what := completes.get(options.get("metavar", ""))):
            action.complete = what  # type: ignore[attr-defined]
    parser.add_argument("--debug", action="store_true", help=argparse.SUPPRESS)


def parser_for(verb: Verb) -> Parser:
    """Return the parser of one verb."""
    about = verb.summary + "." + (f"\n\n{verb.about}" if verb.about else "")
    parser = Parser(
        prog=f"nsbridge {verb.name}",
        usage=_usage(verb),
        description=about,
        epilog=_epilog(verb),
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    _fill(parser, verb)
    return parser


def whole() -> argparse.ArgumentParser:
    """Return one parser with all verbs, for completions."""
    import shtab

    completes = {"FILE": shtab.FILE, "DIR": shtab.DIRECTORY}
    parser = Parser(prog="nsbridge", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--version", action="store_true", help="print the version")
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    top = parser.add_subparsers(dest="verb")
    inner: dict[str, argparse._SubParsersAction[Parser]] = {}
    for verb in verbs():
        first, _, second = verb.name.partition(" ")
        if second and first not in inner:
            group = top.add_parser(first, help=f"{first} {'|'.join(_seconds(first))}")
            inner[first] = group.add_subparsers(dest="second")
        place = inner[first] if second else top
        _fill(place.add_parser(second or first, help=verb.summary, allow_abbrev=False), verb, completes)
    return parser


def _seconds(first: str) -> list[str]:
    """Return the second words of verbs of two words."""
    return [verb.name.split()[1] for verb in verbs() if verb.name.startswith(f"{first} ")]


def overview() -> str:
    """Return what `nsbridge --help` shows: a line for every verb, in groups."""
    lines = [DESCRIPTION, "", "usage: nsbridge VERB [OPTION…] [ARGUMENT…]"]
    width = 16
    for group in GROUPS:
        lines += ["", f"{group}:"]
        lines += [f"  {verb.name:{width}}  {verb.summary}" for verb in verbs() if verb.group == group]
    lines += ["", "options:"]
    options = (
        ("--help", "this text, or a verb's with its options and examples"),
        ("--version", "print the version"),
        ("--debug", "show where an error comes from"),
        ("-f FILE, -p NAME", "may stand before up, down, plan and diff, as docker compose has it"),
    )
    lines += [f"  {name:{width}}  {meaning}" for name, meaning in options]
    return "\n".join(lines) + "\n"


def group_help(first: str) -> str:
    """Return the lines of the verbs that begin with this word; empty if there are none."""
    found = [verb for verb in verbs() if verb.name.startswith(f"{first} ")]
    if not found:
        return ""
    width = max(len(verb.name) for verb in found)
    rows = "\n".join(f"  {verb.name:{width}}  {verb.summary}" for verb in found)
    return f"usage: nsbridge {first} VERB [OPTION…] [ARGUMENT…]\n\n{rows}\n"


def unknown(words: Sequence[str]) -> Usage:
    """Return the error about words that are no verb, with the likeliest one meant."""
    first = words[0]
    seconds = _seconds(first)
    if seconds and len(words) > 1:
        said, known, prefix = words[1], seconds, f"{first} "
    else:
        said, known, prefix = first, sorted({verb.name.split()[0] for verb in verbs()}), ""
    near = get_close_matches(said.lower(), known, 1, 0.6)
    fix = f"did you mean `nsbridge {prefix}{near[0]}`?" if near else "see `nsbridge --help`"
    return Usage(f"there is no verb {prefix + said!r}", fix=fix)


def help_text(words: Sequence[str]) -> str:
    """Return the help of the verb these words name, of a group of them, or of all. Usage without such a verb."""
    if not words:
        return overview()
    if found := find(words):
        return parser_for(found[0]).format_help()
    if len(words) == 1 and (text := group_help(words[0])):
        return text
    raise unknown(words)
