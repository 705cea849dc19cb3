"""Command lines that leave no doubt, understood without argparse.

argparse and what it brings along cost more than attaching an endpoint does. Most lines are plain: known options
written out, each value a word of its own, as many arguments as the verb takes. These are read here, by the same table
of verbs; for anything else, a mistake or --help among it, the answer is None, and argparse is asked.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from nsbridge.frontends.cli.verb import Argument, Verb

_PLAIN = frozenset(("action", "default", "help", "metavar"))
_PLACED = frozenset(("default", "help", "metavar", "nargs"))


class Arguments:
    """What argparse.Namespace would be."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)


def arguments(verb: Verb, words: Sequence[str]) -> Arguments | None:
    """Return the arguments of a plain command line, None for one that argparse has to look at."""
    options: dict[str, Argument] = {}
    places: list[Argument] = []
    values: dict[str, Any] = {"debug": False}
    for one in verb.arguments:
        if one.positional:
            if not _PLACED.issuperset(one.options) or one.options.get("nargs") not in (None, "+", "?"):
                return None
            places.append(one)
            continue
        if not _PLAIN.issuperset(one.options):
            return None
        options |= dict.fromkeys(one.flags, one)
        values[one.dest] = _default(one)
    if any("nargs" in one.options for one in places[:-1]):
        return None
    several = bool(places) and "nargs" in places[-1].options
    given = _options_taken(list(words), options, values, together=several)
    if given is None or not _placed(places, given, values):
        return None
    return Arguments(values)


def _default(one: Argument) -> Any:
    default = one.options.get("default")
    if one.options.get("action") == "append":
        return list(default or ())
    return False if one.options.get("action") == "store_true" else default


def _options_taken(
    words: list[str], options: dict[str, Argument], values: dict[str, Any], *, together: bool
) -> list[str] | None:
    """Take the options out of the words and into the values; return the other words, None in doubt.

    together: the other words stand side by side, or argparse would end the last place's list at the option.
    """
    rest: list[str] = []
    parted = False
    words.reverse()
    while words:
        word = words.pop()
        if not word.startswith("-"):
            if parted and together:
                return None
            rest.append(word)
            continue
        parted = bool(rest)
        one = options.get(word)
        if one is None:
            return None
        action = one.options.get("action")
        if action == "store_true":
            values[one.dest] = True
        elif action not in (None, "append") or not words or words[-1][:1] in ("", "-"):
            return None
        elif action == "append":
            values[one.dest].append(words.pop())
        else:
            values[one.dest] = words.pop()
    return rest


def _placed(places: list[Argument], given: list[str], values: dict[str, Any]) -> bool:
    """Give each place its word, the last one all that are left if it takes several, or its default."""
    last = places[-1].options.get("nargs") if places else None
    many = last == "+"
    if last == "?" and len(given) == len(places) - 1:
        given = [*given, places[-1].options.get("default", "")]
    if len(given) < len(places) or (len(given) > len(places) and not many):
        return False
    for at, one in enumerate(places):
        values[one.dest] = given[at:] if many and at == len(places) - 1 else given[at]
    return True
