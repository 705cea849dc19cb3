"""The ruleset as text of nft(8), exactly as `nft list` prints it, so that a person can type what we apply.

Only one thing is left to the kernel: numbers of counters, which are zero here. `nft -f` loads the text, and
what it then holds is what our netlink messages would have made, down to comments. Written after the output of
nft 1.0.6 and its sources (src/rule.c, src/expression.c, src/mergesort.c).
"""

from __future__ import annotations

from nsbridge.firewall.expressions import (
    Accept,
    Counter,
    Dnat,
    Drop,
    Goto,
    InSet,
    Jump,
    Limit,
    Log,
    Masquerade,
    Match,
    Opaque,
    Reject,
    Return,
    SetMarkBits,
    Snat,
    Vmap,
)
from nsbridge.firewall.ruleset import TURNS, comment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from nsbridge.firewall.expressions import Expression
    from nsbridge.firewall.ruleset import Chain, Element, Rule, Set, Table

_PRIORITIES = (
    ("raw", -300, ("prerouting", "input", "forward", "output", "postrouting")),
    ("mangle", -150, ("prerouting", "input", "forward", "output", "postrouting")),
    ("dstnat", -100, ("prerouting",)),
    ("filter", 0, ("prerouting", "input", "forward", "output", "postrouting")),
    ("security", 50, ("prerouting", "input", "forward", "output", "postrouting")),
    ("srcnat", 100, ("postrouting",)),
)
"""nft(8), table "Standard priority names"; dstnat and srcnat are known in one hook each."""

_BRIDGE_PRIORITIES = (
    ("dstnat", -300, ("prerouting",)),
    ("filter", -200, ("prerouting", "input", "forward", "output", "postrouting")),
    ("out", 100, ("output",)),
    ("srcnat", 300, ("postrouting",)),
)

_ICMPV6 = {
    134: "nd-router-advert",
    135: "nd-neighbor-solicit",
    136: "nd-neighbor-advert",
    137: "nd-redirect",
    143: "mld2-listener-report",
}

_META = ("iifkind", "oifkind", "nfproto", "l4proto", "mark", "protocol")
_QUOTED = ("iifname", "oifname", "iifkind", "oifkind")
_A_LINE = {"ipv4_addr": 2, "inet_service": 5, "inet_proto": 5, "nf_proto": 5}
_NUMBERS = {"icmp": 1, "tcp": 6, "udp": 17, "dccp": 33, "icmpv6": 58, "sctp": 132, "udplite": 136}
_NFPROTOS = {"ipv4": 2, "ipv6": 10}
_TURN = f"numgen inc mod {TURNS}"
_TYPEOF = {
    "inet_proto": "meta l4proto",
    "inet_service": "th dport",
    "turn": _TURN,
    "ipv4_addr": "ip daddr",
    "ipv6_addr": "ip6 daddr",
}


def render(table: Table, elements: Iterable[Element] = (), *, stateless: bool = False, explicit: bool = False) -> str:
    """Return the table with these elements as `nft list table` prints it, or with `nft --stateless list table`.

    explicit: with tests that nft leaves out because later ones say as much. In a table of family bridge it would put
    others in their place (the frame's type, where ours ask for the packet's protocol).
    """
    held: dict[str, list[Element]] = {}
    for element in elements:
        if element.table == (table.family, table.name):
            held.setdefault(element.set, []).append(element)
    blocks = [_set(one, held.get(one.name, [])) for one in table.sets]
    blocks += [_chain(one, stateless, table.family, explicit) for one in table.chains]
    first = [f'\tcomment "{comment(table.why)}"'] if table.why else []
    body = "\n\n".join(["\n".join(block) for block in blocks])
    return "\n".join([f"table {table.family} {table.name} {{", *first, *([body] if body else []), "}"]) + "\n"


def _set(one: Set, elements: Sequence[Element]) -> list[str]:
    lines = [f"\t{'map' if one.data else 'set'} {one.name} {{"]
    named = "turn" in one.key  # a type without a name: nft tells it by the expressions
    key, held = ([_TYPEOF[kind] for kind in kinds] if named else kinds for kinds in (one.key, one.data))
    data = f" : {' . '.join(held)}" if held else ""
    lines.append(f"\t\t{'typeof' if named else 'type'} {' . '.join(key)}{data}")
    if one.interval:
        lines.append("\t\tflags interval")
    if one.why:
        lines.append(f'\t\tcomment "{comment(one.why)}"')
    if elements:
        lines += _elements(one, elements)
    return [*lines, "\t}"]


def _elements(one: Set, elements: Sequence[Element]) -> list[str]:
    """Nft sorts elements by their key's bytes, but those of a concatenated interval set it leaves as they came."""
    if len(one.key) == 1 or not one.interval:
        elements = sorted(elements, key=lambda element: _order(one.key, element.key))
    shown = [element_text(one, element) for element in elements]
    a_line = _A_LINE.get(one.key[0], 1) if len(one.key) == 1 else 1
    rows = [", ".join(shown[first : first + a_line]) for first in range(0, len(shown), a_line)]
    return ("\t\telements = { " + ",\n\t\t\t     ".join(rows) + " }").split("\n")


def element_text(one: Set, element: Element) -> str:
    """An element as it stands between the braces of `add element`: ``tcp . 80 : 10.0.0.2 . 80``."""
    key = " . ".join([_value(kind, value) for kind, value in zip(one.key, element.key, strict=True)])
    data = " . ".join([_value(kind, value) for kind, value in zip(one.data, element.data, strict=True)])
    return f"{key} : {data}" if data else key


def _value(kind: str, value: Any) -> str:
    return f'"{value}"' if kind == "ifname" else _plain(value)


def _plain(value: Any) -> str:
    """Write a value; a network of one address is written as that address."""
    if value == "any":
        return "0-255"
    if getattr(value, "prefixlen", None) == getattr(value, "max_prefixlen", -1):
        return str(value.network_address)
    return str(value)


def _order(kinds: Sequence[str], key: Sequence[Any]) -> int:
    """What nft sorts by: a number of network order; of a concatenation, all its bytes read from the last."""
    raw = b"".join([_bytes(kind, value) for kind, value in zip(kinds, key, strict=True)])
    host_order = len(kinds) > 1 or kinds[0] == "ifname"
    return int.from_bytes(raw, "little" if host_order else "big")


def _bytes(kind: str, value: Any) -> bytes:
    if kind == "ifname":
        return str(value).encode().ljust(16, b"\0")
    if kind == "inet_service":
        return int(getattr(value, "first", value)).to_bytes(2, "big")
    if kind == "turn":
        return int(value).to_bytes(4, "little")
    if kind == "ether_addr":
        return bytes.fromhex(value.replace(":", ""))
    if kind in ("inet_proto", "nf_proto"):
        number = {**_NUMBERS, **_NFPROTOS}.get(value)
        return bytes((int(value) if number is None else number,))
    packed: bytes = getattr(value, "network_address", value).packed
    return packed


def _chain(chain: Chain, stateless: bool, family: str, explicit: bool) -> list[str]:
    lines = [f"\tchain {chain.name} {{"]
    if chain.why:
        lines.append(f'\t\tcomment "{comment(chain.why)}"')
    if chain.hook:
        lines.append(f"\t\ttype {chain.kind} hook {chain.hook} priority {_priority(chain, family)}; policy accept;")
    lines += [f"\t\t{rule_text(rule, stateless=stateless, explicit=explicit)}" for rule in chain.rules]
    return [*lines, "\t}"]


def _priority(chain: Chain, family: str) -> str:
    """A number near one that has a name in this hook is written by that name."""
    for name, number, hooks in _BRIDGE_PRIORITIES if family == "bridge" else _PRIORITIES:
        offset = chain.priority - number
        if chain.hook in hooks and -10 <= offset <= 10:
            return f"{name} {'+' if offset > 0 else '-'} {abs(offset)}" if offset else name
    return str(chain.priority)


def rule_text(rule: Rule, *, stateless: bool = False, explicit: bool = False) -> str:
    """A rule as one line; stateless, explicit: as for `render`."""
    words: list[str] = []
    protocol = ""
    for place, one in enumerate(rule.expressions):
        if not explicit and _told_later(one, rule.expressions[place + 1 :]):
            continue
        if isinstance(one, Match) and one.field.startswith("th ") and protocol:
            # nft writes the test of a protocol and of its port as one.
            words[-1] = _match(one).replace("th", protocol, 1)
        else:
            words.append(_counter(stateless) if isinstance(one, Counter) else _expression(one))
        tests = isinstance(one, Match) and one.field == "l4proto" and not one.negate
        protocol = one.value if tests and isinstance(one, Match) and one.value in _NUMBERS else ""
    if rule.why:
        words.append(f'comment "{comment(rule.why)}"')
    return " ".join(words)


def _told_later(one: Expression, rest: Sequence[Expression]) -> bool:
    """Tell whether nft leaves out a test of what a packet carries, since a field behind it says as much."""
    if not isinstance(one, Match) or one.negate or one.field not in ("protocol", "l4proto"):
        return False
    for later in rest:
        fields = [later.field] if isinstance(later, Match) else getattr(later, "fields", ())
        for name in fields:
            if name.startswith(f"{one.value} ") or (one.value == "ip6" and name.startswith("icmpv6 ")):
                return True
    return False


def _counter(stateless: bool) -> str:
    return "counter" if stateless else "counter packets 0 bytes 0"


def _field(name: str) -> str:
    if name == "turn":
        return _TURN
    # 64 bits into the ICMPv6 header; nft 1.0.6 has no name for it yet.
    return "@th,64,128" if name == "icmpv6 taddr" else f"meta {name}" if name in _META else name


def _fields(names: Sequence[str]) -> str:
    return " . ".join([_field(name) for name in names])


def _match(one: Match) -> str:
    name, value = _field(one.field), one.value
    if one.field in ("ct state", "ct status"):
        return f"{name} {'! ' if one.negate else ''}{','.join(value)}"
    if one.field == "mark":
        mask, wanted = value
        return f"{name} & {mask:#010x} {'!=' if one.negate else '=='} {wanted:#010x}"
    if one.field == "icmpv6 type":
        value = _ICMPV6.get(value, value)
    elif one.field == "l4proto" and value == "icmpv6":
        value = "ipv6-icmp"
    shown = f'"{value}"' if one.field in _QUOTED else _plain(value)
    return f"{name} {'!= ' if one.negate else ''}{shown}"


def _expression(one: Expression) -> str:
    match one:
        case Match():
            return _match(one)
        case InSet(fields, name, negate):
            return f"{_fields(fields)} {'!= ' if negate else ''}@{name}"
        case Vmap(fields, name):
            return f"{_fields(fields)} vmap @{name}"
        case Limit(rate, burst):
            return f"limit rate {rate}/second burst {burst} packets"
        case Log(prefix):
            return f'log prefix "{prefix}"'
        case Reject():
            return "reject"
        case SetMarkBits(bits):
            return f"meta mark set meta mark | {bits:#010x}"
        case Dnat(family, fields, name):
            return f"dnat {family} to {_fields(fields)} map @{name}"
        case Snat(family, fields, name):
            return f"snat {family} to {_fields(fields)} map @{name}"
        case Goto(chain):
            return f"goto {chain}"
        case Jump(chain):
            return f"jump {chain}"
        case Opaque(what):
            return f"<{what}>"
        case Masquerade():
            return "masquerade"
        case Accept() | Drop() | Return():
            return type(one).__name__.lower()
        case Counter():
            return _counter(False)
