"""What a verb of the command line is: data, from which the parser, the help and the completions are made.

Nothing here imports argparse; `table` lists the verbs, `parser` turns one of them into a parser when it is called.
"""

from __future__ import annotations

from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

GROUPS = ("topology", "services", "networks", "endpoints", "looking", "housekeeping")
"""In the order in which `nsbridge --help` shows them."""

REST = "..."
"""nargs of an argument that takes all that follows, options too (argparse.REMAINDER)."""


class Argument(Value):
    """An option or a positional, in argparse's terms: `flags` and keywords of ``add_argument``."""

    flags: tuple[str, ...]
    options: dict[str, Any]

    @property
    def positional(self) -> bool:
        """Tell whether it is known by its place."""
        return not self.flags[0].startswith("-")

    @property
    def dest(self) -> str:
        """The attribute it becomes: its name, or the first long flag, ``--aux-address`` as aux_address."""
        if self.positional:
            return self.flags[0]
        return next(flag for flag in self.flags if flag.startswith("--"))[2:].replace("-", "_")


class Verb(Value):
    """One verb.

    name: one word or two (``network create``). run: ``module:function`` beside this module; the function takes the
    opened `Host` and the parsed arguments, only the arguments when `host` is False. about: what a person should know
    beyond the summary. examples: without the leading ``nsbridge``. fields: of each object that --json prints, as
    (name, meaning). long: takes a while, so a status line is shown on a terminal.
    """

    name: str
    group: str
    summary: str
    run: str
    arguments: tuple[Argument, ...] = ()
    about: str = ""
    examples: tuple[str, ...] = ()
    fields: tuple[tuple[str, str], ...] = ()
    host: bool = True
    long: bool = False
    aliases: tuple[str, ...] = ()


def arg(*flags: str, **options: Any) -> Argument:
    """An argument, written as for argparse."""
    return Argument(flags, options)


def flag(*flags: str, help: str, **options: Any) -> Argument:
    """An option that is there or not."""
    return Argument(flags, {"action": "store_true", "help": help, **options})


def many(*flags: str, metavar: str, help: str, **options: Any) -> Argument:
    """An option that may be given several times."""
    return Argument(flags, {"action": "append", "default": [], "metavar": metavar, "help": help, **options})


def text(*flags: str, metavar: str, help: str, default: str = "", **options: Any) -> Argument:
    """An option with a value."""
    return Argument(flags, {"default": default, "metavar": metavar, "help": help, **options})
