"""Variables in a file's values, and the ``.env`` file that supplies them.

The compose spec, "Interpolation": ``$NAME``, ``${NAME}``, ``${NAME:-default}`` (unset or empty), ``${NAME-default}``
(unset), ``:?`` and ``?`` (a fault instead of a default), ``:+`` and ``+`` (only when set), ``$$`` for a dollar sign.
Defaults may hold variables themselves. Keys are never interpolated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from nsbridge.files.faults import Fault, Report, Wrong

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATOR = re.compile(r":?[-?+]")
_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_.-]*)\s*(?:=\s*(.*))?", re.DOTALL)
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(?:#.*)?')
_SINGLE = re.compile(r"'([^']*)'\s*(?:#.*)?")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$$"}

_DOLLAR = "write $$ for a dollar sign"


def substitute(text: str, variables: Mapping[str, str], unset: list[str]) -> str:
    """Return the text with its variables filled in; names without value or default are empty and go to `unset`.

    Raises Wrong for a ``$`` that begins no variable and for ``?`` without a value.
    """
    done: list[str] = []
    at = 0
    while (dollar := text.find("$", at)) >= 0:
        done.append(text[at:dollar])
        piece, at = _variable(text, dollar + 1, variables, unset)
        done.append(piece)
    return "".join(done) + text[at:]


def _variable(text: str, at: int, variables: Mapping[str, str], unset: list[str]) -> tuple[str, int]:
    """Read one variable behind its ``$``; return its value and where it ends."""
    if text[at : at + 1] == "$":
        return "$", at + 1
    if text[at : at + 1] == "{":
        end = _closing(text, at + 1)
        return _braced(text[at + 1 : end], variables, unset), end + 1
    if found := _NAME.match(text, at):
        return _value(found.group(), variables, unset), found.end()
    raise Wrong(f"has a '$' that begins no variable: {text[at - 1 : at + 12]!r}", _DOLLAR)


def _closing(text: str, at: int) -> int:
    depth = 1
    start = at
    while at < len(text):
        if text.startswith(("$$", "${"), at):
            depth += text[at + 1] == "{"
            at += 2
            continue
        depth -= text[at] == "}"
        if not depth:
            return at
        at += 1
    raise Wrong(f"has a variable without its closing '}}': {text[start - 2 :]!r}", _DOLLAR)


def _braced(inner: str, variables: Mapping[str, str], unset: list[str]) -> str:
    found = _NAME.match(inner)
    operator = _OPERATOR.match(inner, found.end()) if found else None
    if not found or (found.end() < len(inner) and not operator):
        raise Wrong(
            f"has a variable that can't be read: '${{{inner}}}'", f"{_DOLLAR}, ${{NAME:-default}} for a default"
        )
    name = found.group()
    if not operator:
        return _value(name, variables, unset)
    word = inner[operator.end() :]
    value = variables.get(name)
    there = bool(value) if operator.group()[0] == ":" else value is not None
    kind = operator.group()[-1]
    if kind == "+":
        return substitute(word, variables, unset) if there else ""
    if there:
        return value or ""
    if kind == "-":
        return substitute(word, variables, unset)
    said = substitute(word, variables, unset)
    raise Wrong(f"needs the variable {name}" + (f": {said}" if said else ""), f"set {name} in the environment or .env")


def _value(name: str, variables: Mapping[str, str], unset: list[str]) -> str:
    if name not in variables:
        unset.append(name)
    return variables.get(name, "")


def dotenv(text: str, file: str, report: Report, environ: Mapping[str, str]) -> dict[str, str]:
    r"""Read a ``.env`` file: ``NAME=value`` lines, ``#`` comments, quotes; later lines may use earlier names.

    Single quotes keep everything; double quotes know ``\n`` and friends and variables; without quotes a comment
    begins at a ``#`` behind a space. A value ends with its line. Faults go to the report, at their line of `file`.
    """
    found: dict[str, str] = {}
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line[0] == "#":
            continue
        try:
            if not (parts := _LINE.fullmatch(line)):
                raise Wrong(f"is no NAME=value: {line!r}", "put a # before a comment")
            name, value = parts.groups()
            if value is not None:
                found[name] = _unquoted(value.strip(), {**found, **environ})
        except Wrong as wrong:
            report.add(Fault(file, number, len(raw) - len(raw.lstrip()) + 1, "", wrong.message, wrong.hint))
    return found


def _unquoted(value: str, variables: Mapping[str, str]) -> str:
    if value[:1] == "'":
        if not (single := _SINGLE.fullmatch(value)):
            raise Wrong("has no closing quote", "close it on the same line")
        return single.group(1)
    if value[:1] == '"':
        if not (double := _DOUBLE.fullmatch(value)):
            raise Wrong("has no closing quote", "close it on the same line")
        plain = re.sub(r"\\(.)", lambda m: _ESCAPES.get(m.group(1), m.group()), double.group(1))
        return substitute(plain, variables, [])
    return substitute(re.split(r"(?:^|\s)#", value, maxsplit=1)[0].rstrip(), variables, [])
