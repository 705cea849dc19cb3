"""Structure: names of fields first, by our own tables, then their values, by pydantic.

`screen` goes first, because it can say more about a name than pydantic: "not supported, use this instead", "did you
mean". What it objects to it takes out, and so does `shaped` with values that are wrong, so that the rest of the file
can still be translated and checked: all faults of a file come at once.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from nsbridge.files.faults import Path, Report
from nsbridge.files.fields import IGNORED, UNSUPPORTED, asks_for_nothing
from nsbridge.files.kinds import WRONG
from nsbridge.files.parts import kind_of
from nsbridge.files.shape import Shape, TopologyShape

_WANTED = {
    "union_tag_not_found": "a map or a list",
    "list_type": "a list",
    "dict_type": "a map",
    "model_type": "a map",
}
"""What pydantic wants, by its type of error."""


def did_you_mean(name: str, known: list[str]) -> str:
    """Return ``did you mean 'ports'?``, or the choices if they are few (``known: …``), or nothing."""
    near = get_close_matches(name.lower(), known, 1, 0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known: {', '.join(known)}" if 0 < len(known) <= 6 else ""


def screen(data: Any, shape: type[Shape], path: Path, report: Report) -> Any:
    """Return the data without extension fields and without fields that `shape` doesn't have, which become faults."""
    if not isinstance(data, dict):
        return data
    kept: dict[str, Any] = {}
    known = list(shape.names())
    unsupported, ignored = UNSUPPORTED.get(shape.kind, {}), IGNORED.get(shape.kind, {})
    for field, value in data.items():
        here = (*path, field)
        if field in known:
            kept[field] = _inner(value, shape, field, here, report)
        elif field.startswith("x-") or (field in unsupported and asks_for_nothing(field, value)):
            continue
        elif field in ignored:
            if not asks_for_nothing(field, value):
                report.warn(here, "is ignored", ignored[field], key=True)
        elif field in unsupported:
            report.fault(here, "is not supported by nsbridge", unsupported[field], key=True)
        else:
            article = "an" if shape.kind[0] in "aeiou" else "a"
            hint = did_you_mean(field, [*known, *unsupported, *ignored])
            report.fault(here, f"is not a field of {article} {shape.kind}", hint, key=True)
    return kept


def _inner(value: Any, shape: type[Shape], field: str, path: Path, report: Report) -> Any:
    if field not in shape.children:
        return value
    how, child = shape.children[field]
    if how == "one":
        return screen(value, child, path, report)
    if isinstance(value, dict):
        return {key: screen(inner, child, (*path, key), report) for key, inner in value.items()}
    if isinstance(value, list):
        return [screen(inner, child, (*path, index), report) for index, inner in enumerate(value)]
    return value


def shaped(data: dict[str, Any], report: Report) -> TopologyShape:
    """Return the screened data as a shape; what is faulty in it becomes a fault and is taken out of `data`."""
    first = True
    while True:
        try:
            return TopologyShape.model_validate(data)
        except ValidationError as error:
            faulty = {_fault(one, data, report, first) for one in error.errors(include_url=False)}
        # From the back, and what is inside before what it is in, so that the other paths stay true.
        for path in sorted(faulty, key=lambda path: [(isinstance(part, int), part) for part in path], reverse=True):
            report.take_out(data, path)
        first = False


def _fault(error: Any, data: Any, report: Report, first: bool) -> Path:
    """Report one error of pydantic in our words; return its path, which leaves out the tags of forms.

    first: nothing was taken out yet, so a field that is missing was never there.
    """
    path: list[str | int] = []
    at: Any = data
    for part in error["loc"]:
        if (isinstance(at, dict) and part in at) or (isinstance(at, list) and isinstance(part, int)):
            at = at[part]
            path.append(part)
    kind, found = error["type"], kind_of(error["input"])
    hint = ""
    if kind == WRONG:
        message, hint = error["ctx"]["message"], error["ctx"]["hint"]
    elif kind == "missing":
        message = f"needs a field {error['loc'][-1]!r}"
        hint = "write condition: service_started" if error["loc"][-1] == "condition" else ""
    elif kind in _WANTED:
        message = f"is {found} where {_WANTED[kind]} should be"
    else:
        message = error["msg"]
    if first or kind != "missing":
        report.fault(tuple(path), message, hint, key=kind == "missing")
    return tuple(path)
