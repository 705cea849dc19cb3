"""Frozen values without the cost of importing ``dataclasses``.

Everything nsbridge decides with is a `Value`: declared like a dataclass, immutable, compared and hashed by
its fields. The standard decorator would do, but importing it costs 18 to 28 ms, three times a bare
interpreter, and every hot verb pays it (docs/adr/0002). This metaclass costs nothing to import, and type
checkers understand it through PEP 681.

    class Address(Value):
        netns: str
        link: str
        why: str = field(default="", compare=False)
"""

from __future__ import annotations

from _operator import attrgetter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self, TypeVar, dataclass_transform

    T = TypeVar("T")
else:

    def dataclass_transform(**_: object) -> object:
        """Stand in for `typing.dataclass_transform`, which only type checkers read (PEP 681)."""
        return lambda thing: thing


class _Missing:
    def __repr__(self) -> str:
        return "<no default>"


MISSING = _Missing()


class _Field:
    __slots__ = ("compare", "default")

    def __init__(self, default: Any, compare: bool) -> None:
        self.default = default
        self.compare = compare


def field(*, default: Any = MISSING, compare: bool = True) -> Any:
    """Declare a field that has a default, or that equality and hash leave out (``compare=False``)."""
    return _Field(default, compare)


@dataclass_transform(kw_only_default=False, frozen_default=True, eq_default=True, field_specifiers=(field,))
class ValueType(type):
    """The metaclass: turns annotations into slots and remembers defaults. A value type has no subtypes."""

    _fields: tuple[str, ...]
    _compared: tuple[str, ...]
    _defaults: dict[str, Any]
    _puts: tuple[Callable[[Any, Any], None], ...]
    _named: tuple[tuple[str, Callable[[Any, Any], None]], ...]
    _key_of: Callable[[Any], Any]

    def __new__(mcs, name: str, bases: tuple[type, ...], space: dict[str, Any]) -> ValueType:
        """Build the class: one slot an annotation."""
        if bases and bases != (Value,):
            raise TypeError(f"{name}: a value type has no base but Value")
        fields = compared = tuple(space.get("__annotations__", ()))
        defaults: dict[str, Any] = {}
        for key in fields:
            if key in space:
                default = space.pop(key)
                if isinstance(default, _Field):
                    if not default.compare:
                        compared = tuple([one for one in compared if one != key])
                    default = default.default
                if default is not MISSING:
                    defaults[key] = default
        space["__slots__"] = space["__match_args__"] = space["_fields"] = fields
        space["_compared"] = compared
        space["_defaults"] = defaults
        cls = REGISTRY[name] = super().__new__(mcs, name, bases, space)
        return cls

    if not TYPE_CHECKING:

        def __getattr__(cls, name: str) -> Any:
            """Find what every instance needs, when the first is made: of most types a command makes none."""
            if name not in ("_puts", "_named", "_key_of"):
                raise AttributeError(f"type object {cls.__name__!r} has no attribute {name!r}")
            cls._puts = tuple([cls.__dict__[key].__set__ for key in cls._fields])
            cls._named = tuple(zip(cls._fields, cls._puts, strict=True))
            cls._key_of = staticmethod(attrgetter(*cls._compared) if cls._compared else lambda _: ())
            return getattr(cls, name)


REGISTRY: dict[str, Any] = {}
"""Every value type by its name, for the codec."""


class Value(metaclass=ValueType):
    """Base of every frozen value; subclasses only list their fields."""

    __slots__ = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take fields by position or name, as a dataclass would; TypeError names what is off."""
        cls = type(self)
        puts = cls._puts
        count = len(args)
        if count > len(puts):
            raise TypeError(f"{cls.__name__} takes {len(puts)} fields, got {count}")
        for put, value in zip(puts, args, strict=False):
            put(self, value)
        if kwargs or count < len(puts):
            defaults, left = cls._defaults, len(kwargs)
            for name, put in cls._named[count:]:
                if name in kwargs:
                    put(self, kwargs[name])
                    left -= 1
                elif name in defaults:
                    put(self, defaults[name])
                else:
                    raise TypeError(f"{cls.__name__} misses its field {name!r}")
            if left:
                strange = [name for name in kwargs if name not in cls._fields[count:]]
                raise TypeError(f"{cls.__name__} has no field {strange[0]!r}, or was given it by position too")
        self.__post_init__()

    def __post_init__(self) -> None:
        """Check the fields; subclasses raise `InvalidIntent` here."""

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse: values are frozen."""
        raise AttributeError(f"{type(self).__name__} is frozen: use replace(value, {name}=...)")

    def __delattr__(self, name: str) -> None:
        """Refuse: values are frozen."""
        raise AttributeError(f"{type(self).__name__} is frozen: its field {name!r} stays")

    def __eq__(self, other: object) -> bool:
        """Equal when of one type with equal compared fields."""
        cls = type(self)
        return cls is type(other) and bool(cls._key_of(self) == cls._key_of(other))

    def __hash__(self) -> int:
        """Hash of the type and the compared fields."""
        cls = type(self)
        return hash((cls.__name__, cls._key_of(self)))

    def __repr__(self) -> str:
        """Show as the call that would make this value, defaults left out."""
        cls = type(self)
        shown = [
            f"{name}={getattr(self, name)!r}"
            for name in cls._fields
            if name not in cls._defaults or getattr(self, name) != cls._defaults[name]
        ]
        return f"{cls.__name__}({', '.join(shown)})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy by fields."""
        return type(self), tuple(getattr(self, name) for name in type(self)._fields)

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed."""
        cls = type(self)
        new = cls.__new__(cls)
        for name, put in cls._named:
            put(new, changes.pop(name) if name in changes else getattr(self, name))
        if changes:
            raise TypeError(f"{cls.__name__} has no field {', '.join(map(repr, changes))}")
        new.__post_init__()
        return new
