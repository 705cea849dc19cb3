"""Tables as values, before any backend has a say: sets and their elements, chains and their rules.

What a rule says stands in expressions.py, which the verbs that only add and remove elements have no use for.
"""

from __future__ import annotations

from nsbridge.values import Value, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nsbridge.firewall.expressions import Expression

TURNS = 60
"""How many places those who share a port divide among them: 60 is shared evenly by 2, 3, 4, 5, 6, 10, 12 …"""

COMMENT = 127
"""Bytes of a comment that nft(8) reads back (NFTNL_UDATA_COMMENT_MAXLEN without its NUL)."""


def comment(why: str) -> str:
    """The comment the kernel keeps for a `why`: cut to fit, and without the double quotes nft(8) would end it at."""
    text = why.replace('"', "'").replace("\n", " ")
    return text if len(text) <= 31 else text.encode()[:COMMENT].decode(errors="ignore")


class Span(Value):
    """Ports from `first` to `last`, both included, as one value of an interval set's key."""

    first: int
    last: int

    def __str__(self) -> str:
        """``3000-3005``."""
        return f"{self.first}-{self.last}"


class Rule(Value):
    """Expressions in order, the verdict last. `why` goes into the kernel too, as the rule's comment (128 bytes)."""

    expressions: tuple[Expression, ...]
    why: str = field(default="", compare=False)


class Chain(Value):
    """A chain; a base chain when `hook` is given. Policies of ours are always accept.

    kind: ``filter`` or ``nat``. hook: ``prerouting``, ``input``, ``forward``, ``output``, ``postrouting``.
    priority: the number, -300 for raw, -100 for dstnat, 0 for filter, 100 for srcnat (nft(8), CHAINS).
    """

    name: str
    rules: tuple[Rule, ...]
    kind: str = ""
    hook: str = ""
    priority: int = 0
    why: str = field(default="", compare=False)


class Set(Value):
    """A set of keys, or a map when `data` is given. Its elements are values of their own.

    key, data: field types in order: ``ifname``, ``ipv4_addr``, ``ipv6_addr``, ``inet_proto``,
    ``inet_service``, ``nf_proto``, ``ether_addr``, ``turn``; as data also ``verdict``, written ``goto CHAIN``.
    interval: elements may be networks, or a `Span` of ports; with more than one key field such a set is a pipapo
    set (slow to insert into, so only for what is few).
    """

    name: str
    key: tuple[str, ...]
    data: tuple[str, ...] = ()
    interval: bool = False
    why: str = field(default="", compare=False)


class Table(Value):
    """The whole skeleton: one table, its sets without elements, its chains with all their rules."""

    family: str
    name: str
    sets: tuple[Set, ...]
    chains: tuple[Chain, ...]
    why: str = field(default="", compare=False)

    @property
    def identity(self) -> tuple[str, ...]:
        """Its family and name."""
        return ("table", self.family, self.name)

    def set(self, name: str) -> Set:
        """The set of that name; KeyError when the table has none."""
        for one in self.sets:
            if one.name == name:
                return one
        raise KeyError(name)


class Element(Value):
    """An element of a set, or of a map when `data` isn't empty. Key and data have one value a field.

    Values are as in `Match`; in an interval set a network stands for all its addresses, a `Span` for all its ports,
    and the protocol ``any`` for all protocols.
    """

    table: tuple[str, str]
    set: str
    key: tuple[Any, ...]
    data: tuple[Any, ...] = ()
    why: str = field(default="", compare=False)

    @property
    def identity(self) -> tuple[str, ...]:
        """Its set and key."""
        return ("element", *self.table, self.set, *map(str, self.key))
