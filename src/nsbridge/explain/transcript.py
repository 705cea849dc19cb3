"""What was done, or would be, as commands that a person could type: of `ip`, `nft` and their like.

A transcript is made from the same steps that are applied, so it can't tell anything else; and a test types it by hand
in one namespace, applies the steps in another, and compares what the kernels then hold.

`told` keeps the order in which steps are applied: guards first, published ports last. `lesson` is the order in which
one would build it on a blackboard: namespaces, the bridge, the rules that watch it, cables, addresses, and at last
what lets packets in and out. Rules still come before the first cable is plugged in and before the host forwards, so a
person who types a lesson line by line is never less safe than we are.
"""

from __future__ import annotations

from nsbridge.errors import InvalidIntent
from nsbridge.explain import iproute, nft, xtables
from nsbridge.explain.command import Chapter, Command, space
from nsbridge.firewall.ruleset import Element, Table
from nsbridge.plan.diff import phase, removing
from nsbridge.state.things import HOST, ForeignAccept, Link, Netns, Shaper, Sysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsbridge.explain.command import Firewall
    from nsbridge.plan.step import Step, Verb
    from nsbridge.state.things import Thing

STYLES: dict[str, Firewall] = {"nft": nft.firewall, "iptables": xtables.firewall}
"""In which words the firewall is told, by name."""

DEFAULT_STYLE = "nft"


def style_of(firewall: str) -> str:
    """Return the style in which a host's firewall is told, by the firewall's name."""
    return "iptables" if firewall.startswith("iptables") else DEFAULT_STYLE


def style_named(name: str) -> Firewall:
    """Return a style; InvalidIntent names those there are."""
    if name not in STYLES:
        raise InvalidIntent(f"there is no style {name!r}", fix=f"use one of {', '.join(STYLES)}")
    return STYLES[name]


def commands(
    verb: Verb, things: Iterable[Thing], firewall: Firewall, before: Iterable[Thing] = ()
) -> tuple[Command, ...]:
    """Return the commands of one step. before: for a change, the things as they were."""
    things = tuple(things)
    if verb == "add":
        return (*iproute.adding(things), *firewall("add", things, ()))
    if verb == "change":
        return (*iproute.changing(things), *firewall("change", things, before))
    if verb == "swap":
        return tuple(firewall("swap", things, before))
    return (*firewall("remove", things, ()), *iproute.removing(things))


def _whole(things: Iterable[Thing], style: str, bridges: Iterable[str]) -> Firewall:
    """A style for a script that knows all it makes."""
    return xtables.whole(things, bridges) if style == "iptables" else style_named(style)


def told(steps: Iterable[Step], style: str = DEFAULT_STYLE, bridges: Iterable[str] = ()) -> tuple[Chapter, ...]:
    """Return the commands of steps in the order in which they are applied. bridges: as for `lesson`."""
    firewall, named = style_named(style), tuple(bridges)
    if style == "iptables":
        return _told(steps, lambda verb, things, before: xtables.firewall(verb, things, before, named))
    return _told(steps, firewall)


def _told(steps: Iterable[Step], firewall: Firewall) -> tuple[Chapter, ...]:
    found = []
    for step in steps:
        some = commands(step.verb, step.things, firewall, step.before)
        if some:
            found.append(Chapter(f"{step.verb} {step.why}".replace("add undo: ", "undo: "), some))
    return tuple(found)


# ------------------------------------------------------------------ lessons

_TITLES = (
    (
        "Namespaces",
        "A network namespace has its own interfaces, addresses, routes and rules. A new one has a loopback.",
    ),
    (
        "Bridges",
        "A bridge is a switch inside the kernel. Its own address on it is the gateway of all who are plugged in.",
    ),
    (
        "Rules",
        "One table decides what may pass between the bridges and the world, another one checks who sends. They are\n"
        "written once; networks and ports are elements of their sets and maps. Nothing is plugged in yet, so there is\n"
        "no moment without them.",
    ),
    ("Cables", "A veth pair is a cable: one end in the bridge, the other in the namespace."),
    ("Inside the namespaces", "Each gets its address, and the gateway as the way out."),
    ("Forwarding", "Only now does the host pass packets on; the rules above say which."),
    ("Limits", "What a link may carry, and how badly it is to behave."),
    (
        "Published ports",
        "Last, when everything behind them is complete: map elements that lead a port of the host inside.",
    ),
)
_NETNS, _BRIDGES, _RULES, _CABLES, _INSIDE, _FORWARDING, _LIMITS, _PORTS = range(8)


def _chapter(thing: Thing) -> int:
    """The chapter of a lesson in which a thing is made."""
    if isinstance(thing, Netns):
        return _NETNS
    if isinstance(thing, Table | ForeignAccept):
        return _RULES
    if isinstance(thing, Element):
        return _PORTS if phase(thing) > phase(Netns("")) else _RULES
    if isinstance(thing, Shaper):
        return _LIMITS
    if isinstance(thing, Sysctl) and thing.netns == HOST:
        opens = bool(thing.was) or thing.key.endswith("/route_localnet")
        return _FORWARDING if opens else _BRIDGES
    if thing.netns != HOST:
        return _INSIDE
    return _CABLES if isinstance(thing, Link) and thing.kind != "bridge" else _BRIDGES


def lesson(things: Iterable[Thing], style: str = DEFAULT_STYLE, bridges: Iterable[str] = ()) -> tuple[Chapter, ...]:
    """Return the commands that make all of these things on a host with none of them, as one would teach it.

    bridges: those of others on the host, which iptables has to know by name.
    """
    things = tuple(things)
    firewall = _whole(things, style, bridges)
    groups: dict[int, list[Thing]] = {}
    for thing in things:
        groups.setdefault(_chapter(thing), []).append(thing)
    found = []
    for place, (title, about) in enumerate(_TITLES):
        some = commands("add", groups.get(place, ()), firewall)
        if some:
            found.append(Chapter(title, some, xtables.ABOUT.get(title, about) if style == "iptables" else about))
    return tuple(found)


def backwards(things: Iterable[Thing], style: str = DEFAULT_STYLE, bridges: Iterable[str] = ()) -> tuple[Chapter, ...]:
    """Return the commands that take away what `lesson` makes, in the order in which `down` does."""
    things = tuple(things)
    return _told(removing(things), _whole(things, style, bridges))


# ------------------------------------------------------------------ as text


def lines(chapter: Chapter) -> list[str]:
    """Return a chapter's commands, each new reason as a comment before them."""
    found: list[str] = []
    said = ""
    for command in chapter.commands:
        if command.why and command.why != said:
            said = command.why
            found.append(f"# {said}")
        found += command.text.split("\n")
    return found


_HEAD = """\
#!/bin/sh
# {title}
#
# {about}
# Written by nsbridge for a host like the one it was asked on: its uplink, its settings and its firewall. To be run as
# root, with iproute2, procps{firewall}.
set -eu
"""


_RULES_FUNCTION = f"""\
# The target of a neighbour advertisement has a name ({nft.TARGET}) in newer versions of nft alone. Where yours has
# none for it, the two rules that ask for it are left out: the only thing that this script can't do as nsbridge does.
rules() {{
    if echo 'table bridge probe {{ chain probe {{ {nft.TARGET} :: }} }}' | nft -c -f - 2>/dev/null; then
        nft -f -
    else
        echo "this nft doesn't know '{nft.TARGET}': two rules are left out" >&2
        sed '/{nft.TARGET}/d' | nft -f -
    fi
}}
"""


def _through_function(command: Command) -> Command:
    text = command.text
    return command.replace(text=text.replace("nft -f -", "rules", 1)) if nft.TARGET in text else command


def script(chapters: Iterable[Chapter], title: str, about: str, spaces: Iterable[str] = ()) -> str:
    """Return chapters as a script for sh(1). spaces: namespaces (paths) that it needs and doesn't make."""
    chapters = tuple(chapters)
    typed = any(one.text.startswith("iptables") for chapter in chapters for one in chapter.commands)
    parts = [_HEAD.format(title=title, about=about, firewall=", nftables and iptables" if typed else " and nftables")]
    names = [space(path) for path in spaces]
    if names:
        parts.append(f"# These namespaces belong to others, and have to be there: {', '.join(names)}\n")
    if any(nft.TARGET in command.text for chapter in chapters for command in chapter.commands):
        parts.append(_RULES_FUNCTION)
    for number, chapter in enumerate(chapters, 1):
        ruler = f"# {number}. {chapter.title} "
        about_lines = [f"# {line}" for line in chapter.about.split("\n")] if chapter.about else []
        body = _spaced(lines(chapter.replace(commands=tuple(map(_through_function, chapter.commands)))))
        parts.append("\n".join([ruler + "-" * max(0, 100 - len(ruler)), *about_lines, "", *body]) + "\n")
    return "\n".join(parts)


def _spaced(rows: list[str]) -> list[str]:
    """Put an empty line before each reason but the first, outside here-documents."""
    found: list[str] = []
    end = ""
    for row in rows:
        if not end and row.startswith("# ") and found:
            found.append("")
        found.append(row)
        if end:
            end = "" if row == end else end
        elif row.endswith("<<'END'"):
            end = "END"
    return found
