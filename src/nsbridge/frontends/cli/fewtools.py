"""The three decorators of ``functools`` that ``ipaddress`` uses, for the launcher's copy of its code; and `later`.

``functools`` brings ``collections`` and more along, and takes as long to import as ``ipaddress`` itself, which every
hot verb needs. `launcher` compiles the interpreter's own ``ipaddress`` with this in its place (docs/adr/0009).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    def _lru_cache_wrapper(function: Any, size: int, typed: bool, info: Any) -> Any: ...
else:
    from _functools import _lru_cache_wrapper


def total_ordering(cls: Any) -> Any:
    """Add the three orders that follow from ``__lt__`` and ``__eq__``, which the class has to have."""

    def __gt__(self: Any, other: Any) -> Any:
        less = type(self).__lt__(self, other)
        return less if less is NotImplemented else not less and self != other

    def __le__(self: Any, other: Any) -> Any:
        less = type(self).__lt__(self, other)
        return less if less is NotImplemented else less or self == other

    def __ge__(self: Any, other: Any) -> Any:
        less = type(self).__lt__(self, other)
        return less if less is NotImplemented else not less

    for function in (__gt__, __le__, __ge__):
        if getattr(cls, function.__name__) is getattr(object, function.__name__):
            setattr(cls, function.__name__, function)
    return cls


def lru_cache() -> Callable[[Any], Any]:
    """Remember 128 answers, as ``functools.lru_cache()`` does; what it remembers can't be asked."""
    return lambda function: _lru_cache_wrapper(function, 128, False, tuple)


class cached_property:
    """A property that is found out once and kept in the instance."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function
        self._name = function.__name__

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Find it out; from then on the instance's own attribute comes first."""
        if instance is None:
            return self
        instance.__dict__[self._name] = found = self._function(instance)
        return found


class later:
    """An attribute of a class that is made when it is asked for."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Make it, the first time."""
        return self._make()
