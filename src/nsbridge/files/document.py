"""From text to a tree of dicts, lists and scalars, with the line and column of everything in it.

ruamel.yaml reads YAML 1.2 (``22:22`` and ``no`` stay text) as far as nodes, which know their positions; building
values from nodes is done here, because only so can duplicate keys, merge keys, variables and unknown tags all become
faults of one report. A number remembers how it was written, so that ``1.10`` in an environment stays ``1.10``.
JSON is YAML; TOML comes from tomllib and has no positions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ruamel.yaml.composer import ComposerError
from ruamel.yaml.error import MarkedYAMLError, StringMark, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from nsbridge.files.faults import Fault, Path, Report, Spot, Wrong
from nsbridge.files.interpolate import substitute
from nsbridge.files.nodes import compose

MOST_NODES = 200_000
"""Nodes of one file with its aliases followed; a file of 5,000 services has half of that."""

_TAG = "tag:yaml.org,2002:"


class WrittenInt(int):
    """An integer that knows how it was written."""

    written: str


class WrittenFloat(float):
    """A float that knows how it was written."""

    written: str


def parse(text: str, report: Report, variables: Mapping[str, str], *, suffix: str = "") -> Any:
    """Return the tree of a file's text; None when it is empty, or when it can't be parsed, which is a fault then.

    Fills `report.where`. suffix: ``.toml`` and ``.json`` are read as such, anything else as YAML.
    """
    if suffix == ".toml":
        return _toml(text, report, variables)
    if suffix == ".json":  # tabs may indent JSON but not YAML; inside JSON strings they can't stand
        text = text.replace("\t", " ")
    try:
        root = compose(text)
        if root is None:
            return None
        report.where[()] = _spot(root, root)
        return _Builder(report, variables).build(root, ())
    except RecursionError:
        report.add(Fault(report.file, 1, 1, "", "is nested too deep to be read"))
    except (YAMLError, ValueError) as error:
        report.add(_syntax_fault(report.file, text, error))
    return None


def _syntax_fault(file: str, text: str, error: Exception) -> Fault:
    """YAML that can't be read, in one fault: a parser that has lost its way can't tell what is behind."""
    mark: Any = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    said = " ".join(str(part) for part in (getattr(error, "problem", ""), getattr(error, "context", "")) if part)
    line, column = (mark.line + 1, mark.column + 1) if isinstance(mark, StringMark) else (1, 1)
    hint = ""
    if isinstance(error, ReaderError):
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        said, hint = f"character U+{ord(text[error.position]):04X} may not stand in YAML", "remove it"
    elif isinstance(error, ComposerError) and "document" in said:
        said, hint = "a second document begins here", "a topology is one document: remove the '---'"
    elif "'\\t'" in said:
        hint = "indent with spaces, not tabs"
    elif "mapping values are not allowed" in said:
        hint = "quote text that has ': ' in it, or check the indentation"
    elif isinstance(error, MarkedYAMLError) and "cannot start any token" in said:
        hint = "quote text that begins with this character"
    elif not said:
        said = str(error)
    return Fault(file, line, column, "", f"is no YAML: {said}", hint)


def _spot(key: Node, value: Node) -> Spot:
    """Where a pair stands. An empty value stands at its key: its own mark is on a later line."""
    start = (key.start_mark.line + 1, key.start_mark.column + 1)
    empty = isinstance(value, ScalarNode) and not value.value and value.style is None
    return Spot(start, start if empty else (value.start_mark.line + 1, value.start_mark.column + 1))


class _Builder:
    """Builds values from nodes, with faults for what has no value."""

    def __init__(self, report: Report, variables: Mapping[str, str]) -> None:
        self.report = report
        self.variables = variables
        self.left = MOST_NODES
        self.full = False
        self.open: set[int] = set()

    def build(self, node: Node, path: Path) -> Any:
        """Return the value of a node; what can't have one is a fault and None."""
        if isinstance(node, ScalarNode):
            return self.scalar(node, path)
        self.left -= 1 + len(node.value)
        if self.left < 0:
            if not self.full:
                self.full = True
                self.report.fault(path, f"has more than {MOST_NODES} parts once aliases are followed", "use fewer")
            return None
        if id(node) in self.open:
            self.report.fault(path, "is an alias of something it is inside of", "copy what you need")
            return None
        if node.tag not in (_TAG + "map", _TAG + "seq"):
            self.report.fault(path, f"has a tag {node.tag!r}", "remove it: tags are not supported")
            return None
        self.open.add(id(node))
        value = self.mapping(node, path) if isinstance(node, MappingNode) else self.sequence(node, path)
        self.open.discard(id(node))
        return value

    def sequence(self, node: Node, path: Path) -> list[Any]:
        """Return a list."""
        for index, item in enumerate(node.value):
            self.report.where[*path, index] = _spot(item, item)
        return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]

    def mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        """Return a dict; its own keys win over merged ones, a key given twice is a fault at the second."""
        pairs: dict[str, tuple[Node, Node]] = {}
        for merged_key, value in self.merged(node, path):
            pairs[merged_key.value] = (merged_key, value)
        own: dict[str, Node] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                self._fault_at(key, path, "has a key that is no text", "write 'key: value' on a line of its own")
            elif key.tag == _TAG + "merge":
                continue
            elif key.value in own:
                first = own[key.value].start_mark.line + 1
                self._fault_at(key, (*path, key.value), f"is given twice, first on line {first}", "keep one")
            else:
                own[key.value] = key
                pairs[key.value] = (key, value)
        for name, (key, value) in pairs.items():
            self.report.where[*path, name] = _spot(key, value)
        return {name: self.build(value, (*path, name)) for name, (_, value) in pairs.items()}

    def merged(self, node: MappingNode, path: Path) -> Iterator[tuple[ScalarNode, Node]]:
        """Give the pairs that ``<<`` brings in, weakest first: of a list, an earlier map wins (yaml.org/type/merge)."""
        for key, value in node.value:
            if not (isinstance(key, ScalarNode) and key.tag == _TAG + "merge"):
                continue
            sources = value.value if isinstance(value, SequenceNode) else [value]
            for source in reversed(sources):
                if not isinstance(source, MappingNode) or id(source) in self.open:
                    self._fault_at(key, path, "merges something that is no map", "write '<<: *anchor' of a map")
                    continue
                self.open.add(id(source))
                yield from self.merged(source, path)
                self.open.discard(id(source))
                for inner, inner_value in source.value:
                    if isinstance(inner, ScalarNode) and inner.tag != _TAG + "merge":
                        yield inner, inner_value

    def scalar(self, node: ScalarNode, path: Path) -> Any:
        """Return text, a number, true or false, or None."""
        kind = str(node.tag).removeprefix(_TAG)
        if kind == node.tag or kind == "binary":
            self.report.fault(path, f"has a tag {node.tag!r}", "remove it: tags are not supported")
            return None
        try:
            if (value := plain(kind, node.value)) is not node.value:
                return value
        except ValueError:
            self.report.fault(path, f"is no {kind}: {node.value!r}", "quote it if it is text")
            return None
        return fill(node.value, path, self.report, self.variables)

    def _fault_at(self, node: Node, path: Path, message: str, hint: str) -> None:
        from nsbridge.files.faults import path_text

        mark = node.start_mark
        self.report.add(Fault(self.report.file, mark.line + 1, mark.column + 1, path_text(path), message, hint))


def plain(kind: str, text: str) -> Any:
    """Return the value of a scalar of this YAML 1.2 kind (core schema, §10.3.2); the text itself if it is text."""
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind == "int":
        digits = text.replace("_", "")
        sign = -1 if digits[0] == "-" else 1
        bare = digits.lstrip("+-")
        base = {"0x": 16, "0o": 8, "0b": 2}.get(bare[:2].lower(), 10)
        number = WrittenInt(sign * int(bare if base == 10 else bare[2:], base))
        number.written = text
        return number
    if kind == "float":
        real = WrittenFloat(text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))
        real.written = text
        return real
    return text


def fill(text: str, path: Path, report: Report, variables: Mapping[str, str]) -> str:
    """Return the text with its variables filled in; what is under an ``x-`` key is nobody's business and stays."""
    if "$" not in text or any(isinstance(part, str) and part.startswith("x-") for part in path):
        return text
    unset: list[str] = []
    try:
        text = substitute(text, variables, unset)
    except Wrong as wrong:
        report.fault(path, wrong.message, wrong.hint)
    for name in unset:
        report.warn(path, f"variable {name} is not set, so nothing stands for it", f"give a default: ${{{name}:-…}}")
    return text


def _toml(text: str, report: Report, variables: Mapping[str, str]) -> Any:
    import tomllib

    def walk(value: Any, path: Path) -> Any:
        if isinstance(value, dict):
            return {key: walk(inner, (*path, key)) for key, inner in value.items()}
        if isinstance(value, list):
            return [walk(inner, (*path, index)) for index, inner in enumerate(value)]
        return fill(value, path, report, variables) if isinstance(value, str) else value

    try:
        return walk(tomllib.loads(text), ())
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        line, column = (int(found[1]), int(found[2])) if found else (0, 0)
        said = re.sub(r" \(at .*\)$", "", str(error))
        report.add(Fault(report.file, line, column, "", f"is no TOML: {said}"))
    return None
