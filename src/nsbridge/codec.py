"""Values to JSON and back, without importing ``json``.

Records, journal entries and plans are written as JSON, so a person can read them. A value becomes
``{"": "Link", "name": ...}``, an address ``{"ip": "10.0.0.1"}``; lists come back as tuples. The C scanner
behind ``json`` is used alone, because the package itself costs 8 ms; where that private module is missing
the package is used after all. A value type is known by its name once its module is imported.
"""

from __future__ import annotations

import ipaddress

from nsbridge.errors import NsbridgeError
from nsbridge.values import REGISTRY, Value

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

_MARKS = frozenset((*_ADDRESSES.values(), "hex"))
"""The one key of an object that stands for an address or for bytes."""

_INFINITY = float("inf")


def _encode(thing: Any) -> str:
    kind = type(thing)
    if kind is str:
        return _quote(thing)
    if thing is None or kind is bool:
        return {None: "null", True: "true", False: "false"}[thing]
    if kind is int or (kind is float and abs(thing) < _INFINITY):
        return repr(thing)
    if kind is tuple or kind is list:
        return "[" + ", ".join([_encode(item) for item in thing]) + "]"
    if kind in _ADDRESSES:
        return f'{{"{_ADDRESSES[kind]}": "{thing}"}}'
    if isinstance(thing, Value):
        pairs = [f'"": "{kind.__name__}"']
        defaults = kind._defaults
        for name in kind._fields:
            item = getattr(thing, name)
            if name not in defaults or item != defaults[name] or type(item) is not type(defaults[name]):
                pairs.append(f'"{name}": {_encode(item)}')
        return "{" + ", ".join(pairs) + "}"
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
        if key == "ip":
            return ipaddress.ip_address(text)
        if key == "if":
            return ipaddress.ip_interface(text)
        if key == "net":
            return ipaddress.ip_network(text)
        if key == "hex":
            return bytes.fromhex(text)
    found = {key: _tuples(item) for key, item in pairs}
    if "" in found:
        return REGISTRY[found.pop("")](**found)
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
