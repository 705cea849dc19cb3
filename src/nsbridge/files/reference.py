"""The tables of docs/files.md, made from the shapes and from the lists of what is not supported.

``python -m nsbridge.files.reference docs/files.md`` writes them between their markers,
``<!-- table: service -->`` and ``<!-- end -->``; a test fails when the page is behind.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from nsbridge.files.fields import IGNORED, UNSUPPORTED
from nsbridge.files.netshape import Shape
from nsbridge.files.shape import json_schema, shapes

_MARKED = re.compile(r"(<!-- table: ([a-z' ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _form(part: dict[str, Any]) -> str:
    """Say what a field takes, in the words of its schema: ``text or number``, ``list or map``."""
    if "enum" in part:
        return " or ".join(dict.fromkeys(f"`{str(one).lower()}`" for one in part["enum"]))
    found: list[str] = []
    for one in part.get("anyOf", []) + part.get("oneOf", []):
        found.append(_form(one))
    kinds = part.get("type", "object" if "$ref" in part else [])
    words = {"string": "text", "boolean": "true/false", "object": "map", "array": "list", "integer": "number"}
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        found.append(words.get(kind, kind))
    if "true/false" in found and "number" not in found:
        return "true/false"
    unique = dict.fromkeys(word for one in found for word in one.split(" or ") if word not in ("null", ""))
    return " or ".join(unique)


def fields_table(shape: type[Shape]) -> str:
    """Return the table of a shape's fields: name, what it takes, what it means."""
    schema = json_schema()
    part = schema if shape.__name__ == "TopologyShape" else schema["$defs"][shape.__name__]
    needed = part.get("required", [])
    lines = ["| field | takes | meaning |", "| --- | --- | --- |"]
    for name in shape.names():
        one = part["properties"][name]
        must = " **Needed.**" if name in needed else ""
        lines.append(f"| `{name}` | {_cell(_form(one))} | {_cell(one['description'])}{must} |")
    return "\n".join(lines) + "\n"


def _reasons(found: dict[str, dict[str, str]], what: str) -> str:
    """Return a table of fields by reason, so that each reason stands once."""
    lines = [f"| of a | field | {what} |", "| --- | --- | --- |"]
    for kind, fields in found.items():
        by_reason: dict[str, list[str]] = {}
        for name, reason in fields.items():
            by_reason.setdefault(reason, []).append(f"`{name}`")
        lines += [f"| {kind} | {', '.join(names)} | {_cell(reason)} |" for reason, names in by_reason.items()]
    return "\n".join(lines) + "\n"


def tables() -> dict[str, str]:
    """Return every table by the name in its marker."""
    return {
        **{shape.kind: fields_table(shape) for shape in shapes()},
        "unsupported": _reasons(UNSUPPORTED, "use instead"),
        "ignored": _reasons(IGNORED, "why it makes no difference"),
    }


def refreshed(page: str) -> str:
    """Return the page with all its tables as they are now; KeyError for a marker without a table."""
    now = tables()
    return _MARKED.sub(lambda found: found[1] + now[found[2]] + found[3], page)


if __name__ == "__main__":
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as stream:
            text = refreshed(stream.read())
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(text)
