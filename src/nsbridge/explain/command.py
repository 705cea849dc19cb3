"""A command that a person could type, with its reason; what transcripts are made of."""

from __future__ import annotations

from nsbridge.state.things import HOST
from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias

    from nsbridge.plan.step import Verb
    from nsbridge.state.things import Thing

    Firewall: TypeAlias = Callable[[Verb, Iterable[Thing], Iterable[Thing]], list["Command"]]
    """What a style is: commands about the firewall things among some. The last: those that change, as they were."""

NAMED = "/run/netns/"
"""Where namespaces live that `ip netns` knows by name."""

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./-_")


class Command(Value):
    """text: as typed into a POSIX shell, of several lines with a here-document. why: empty when it was told before."""

    text: str
    why: str = ""


class Chapter(Value):
    """Commands that belong together. about: what a reader should know before them."""

    title: str
    commands: tuple[Command, ...]
    about: str = ""


def quoted(word: str) -> str:
    """Return a word as a shell takes it for one."""
    if word == "!" or (word and _PLAIN.issuperset(word)):
        return word
    return "'" + word.replace("'", "'\\''") + "'"


def space(netns: str) -> str:
    """Return how `ip netns` calls a namespace; its path when it has no name there."""
    name = netns.removeprefix(NAMED)
    return netns if "/" in name else name


def within(netns: str, program: str, words: str) -> str:
    """Write a program's call so that it acts in a namespace (path): ``ip -n ns1 …``, or through another program."""
    if netns == HOST:
        return f"{program} {words}"
    name = space(netns)
    if "/" in name:
        return f"nsenter --net={quoted(name)} {program} {words}"
    return (
        f"{program} -n {quoted(name)} {words}" if program in ("ip", "tc", "bridge") else _through(name, program, words)
    )


def _through(name: str, program: str, words: str) -> str:
    return f"ip netns exec {quoted(name)} {program} {words}"
