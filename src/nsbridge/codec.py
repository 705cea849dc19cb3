"""Values to JSON and back, without importing ``json``.

Records, journal entries and plans are written as JSON, so a person can read them. A value becomes
``{"": "Link", "name": ...}``, an address ``{"ip": "10.0.0.1"}``; lists come back as tuples. The C scanner
behind ``json`` is used alone, because the package itself costs 8 ms; where that private module is missing
the package is used after all. A value type is known by its name once its module is imported; what rules are made of is
imported when a record names some.
"""

from __future__ import annotations

import ipaddress

from nsbridge.errors import NsbridgeError
from nsbridge.values import MISSING, REGISTRY, Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

try:
    from _json import encode_basestring_ascii as _quote
except ImportError:  # not CPython: correct, only slower to start
    from json.encoder import encode_basestring_ascii as _quote

_ADDRESSES: dict[type, str] = {
    ipaddress.IPv4Address: "ip",
    ipaddress.IPv6Address: "ip",
    ipaddress.IPv4Interface: "if",
    ipaddress.IPv6Interface: "if",
    ipaddress.IPv4Network: "net",
    ipaddress.IPv6Network: "net",
}

_READERS: dict[str, tuple[type, type]] = {
    "ip": (ipaddress.IPv4Address, ipaddress.IPv6Address),
    "if": (ipaddress.IPv4Interface, ipaddress.IPv6Interface),
    "net": (ipaddress.IPv4Network, ipaddress.IPv6Network),
}
"""By mark, the classes of both families: `ipaddress.ip_address` would try one after the other."""

_MARKS = frozenset((*_ADDRESSES.values(), "hex"))
"""The one key of an object that stands for an address or for bytes."""

_INFINITY = float("inf")


_WORDS = {None: "null", True: "true", False: "false"}

_plans: dict[type, tuple[str, tuple[tuple[str, str, Any], ...]]] = {}
"""By value type: how its text begins, and each field's name, its label and its default."""


def _plan(kind: type[Value]) -> tuple[str, tuple[tuple[str, str, Any], ...]]:
    fields = tuple([(name, f', "{name}": ', kind._defaults.get(name, MISSING)) for name in kind._fields])
    _plans[kind] = f'{{"": "{kind.__name__}"', fields
    return _plans[kind]


def _encode_value(thing: Value) -> str:
    kind = type(thing)
    head, fields = _plans.get(kind) or _plan(kind)
    text = head
    for name, label, default in fields:
        item = getattr(thing, name)
        if item is not default and (type(item) is not type(default) or item != default):
            text += label + (_quote(item) if type(item) is str else _encode(item))
    return text + "}"


def _encode(thing: Any) -> str:
    kind = type(thing)
    if kind is str:
        return _quote(thing)
    if thing is None or kind is bool:
        return _WORDS[thing]
    if kind is int or (kind is float and abs(thing) < _INFINITY):
        return repr(thing)
    if kind is tuple or kind is list:
        return "[" + ", ".join([_encode(item) for item in thing]) + "]"
    if kind in _ADDRESSES:
        return f'{{"{_ADDRESSES[kind]}": "{thing!s}"}}'
    if isinstance(thing, Value):
        return _encode_value(thing)
    if kind is dict:
        if "" in thing or (len(thing) == 1 and not _MARKS.isdisjoint(thing)):
            raise TypeError(f"a dict with the key {next(iter(thing))!r} would be read as something else")
        return "{" + ", ".join([f"{_quote(key)}: {_encode(item)}" for key, item in thing.items()]) + "}"
    if kind is bytes:
        return f'{{"hex": "{thing.hex()}"}}'
    raise TypeError(f"{thing!r} has no JSON form here")


def _tuples(thing: Any) -> Any:
    return tuple([_tuples(item) for item in thing]) if type(thing) is list else thing


def _revive(pairs: list[tuple[str, Any]]) -> Any:
    if len(pairs) == 1:
        key, text = pairs[0]
        if key in _READERS:
            return _READERS[key][":" in text](text)
        if key == "hex":
            return bytes.fromhex(text)
    found = {key: _tuples(item) for key, item in pairs}
    if "" in found:
        if (name := found.pop("")) not in REGISTRY:
            from nsbridge.firewall import expressions  # noqa: F401 - hot verbs read records without rules
        return REGISTRY[name](**found)
    return found


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


class _Context:
    strict = True
    object_hook = None
    object_pairs_hook = staticmethod(_revive)
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_refuse)


_scan: Callable[[str, int], tuple[Any, int]]
try:
    from _json import make_scanner

    _scan = make_scanner(_Context)  # type: ignore[arg-type]
except ImportError:
    from json import JSONDecoder

    _scan = JSONDecoder(object_pairs_hook=_revive, parse_constant=_refuse).raw_decode


def dumps(thing: Any) -> str:
    """Write a value, or tuples, dicts with str keys and scalars of them, as JSON text. TypeError for anything else."""
    return _encode(thing)


def loads(text: str) -> Any:
    """Read what `dumps` wrote. ValueError when the text is torn or isn't ours."""
    try:
        thing, end = _scan(text, 0)
    except StopIteration:
        raise ValueError("no JSON value here") from None
    except (KeyError, TypeError, AttributeError, NsbridgeError) as err:
        raise ValueError(f"a record of another version: {err}") from err
    if text[end:].strip():
        raise ValueError("text after the JSON value")
    return _tuples(thing)
