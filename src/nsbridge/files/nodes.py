"""YAML text to nodes, by libyaml's parser where it is installed (ruamel.yaml.clib): six times as fast as the pure one.

libyaml gives events, and nodes are made of them here: its own composer recurses in C, so a file of brackets would
overrun the stack. Only what it reads is taken. What it refuses the pure parser reads again: that one knows YAML 1.2
(``[80:80]`` is one text), and its words and positions are those of our faults. So does it read a file that asks for
another version, because libyaml would not tell.
"""

from __future__ import annotations

from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

CParser: Any
try:
    from ruamel.yaml.cyaml import CParser  # type: ignore[attr-defined]
except ImportError:  # no wheel of it for this Python
    CParser = None

_PURE = ("%YAML", "\t")
"""What the two read differently though both read it: another version of YAML, and tabs."""

_END = (MappingEndEvent, SequenceEndEvent)


def compose(text: str) -> Node | None:
    """Return the one document of a text as nodes, None when it is empty. YAMLError, ValueError, RecursionError."""
    # The "safe" flavour: we need nodes, not the comments that the round-trip one keeps.
    reader = YAML(typ="safe", pure=True)
    if CParser is not None and not any(mark in text for mark in _PURE):
        try:
            return _Composer(text, reader.resolver).document()
        except (YAMLError, ValueError, RecursionError):
            pass
    root: Node | None = reader.compose(text)
    return root


class _Composer:
    """One text, event by event."""

    def __init__(self, text: str, resolver: Any) -> None:
        self._next = CParser(text).get_event
        self._resolve = resolver.resolve
        self._anchors: dict[str, Node] = {}

    def document(self) -> Node | None:
        """Return the root, None without a document; ValueError for anything unusual, which the pure parser words."""
        self._next()  # the stream begins
        if isinstance(event := self._next(), StreamEndEvent):
            return None
        if not isinstance(event, DocumentStartEvent):
            raise ValueError(event)
        root = self._node(self._next())
        for expected in (DocumentEndEvent, StreamEndEvent):
            if not isinstance(event := self._next(), expected):
                raise ValueError(event)
        return root

    def _node(self, event: Any) -> Node:
        kind = type(event)
        if kind is AliasEvent:
            if event.anchor not in self._anchors:
                raise ValueError(f"nothing is anchored as {event.anchor}")
            return self._anchors[event.anchor]
        if kind is ScalarEvent:
            tag = self._tag(event, ScalarNode, event.value)
            node: Node = ScalarNode(tag, event.value, event.start_mark, event.end_mark, style=event.style or None)
        elif kind is SequenceStartEvent:
            node = SequenceNode(self._tag(event, SequenceNode, None), [], event.start_mark, None)
        elif kind is MappingStartEvent:
            node = MappingNode(self._tag(event, MappingNode, None), [], event.start_mark, None)
        else:
            raise ValueError(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        if kind is SequenceStartEvent:
            while not isinstance(event := self._next(), _END):
                node.value.append(self._node(event))
        elif kind is MappingStartEvent:
            while not isinstance(event := self._next(), _END):
                node.value.append((self._node(event), self._node(self._next())))
        return node

    def _tag(self, event: Any, kind: type[Node], value: str | None) -> Any:
        tag = event.ctag
        return self._resolve(kind, value, event.implicit) if tag is None or str(tag) == "!" else tag
