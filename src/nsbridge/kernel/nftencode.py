"""Rules, chains and tables as nf_tables messages (<linux/netfilter/nf_tables.h>).

A rule is a list of small expressions that load fields into registers, compare them and give a verdict. Ours
are the ones nft(8) makes of the same text, one for one, so that it prints them back as they were meant: its
hidden test of the protocol before an IPv4 or IPv6 field of an inet table, prefixes as shorter loads, and the
user data by which it knows comments and the byte order of a set's keys.
"""

from __future__ import annotations

import errno

from nsbridge.errors import KernelError
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
    Reject,
    Return,
    SetMarkBits,
    Snat,
    Vmap,
)
from nsbridge.firewall.ruleset import comment
from nsbridge.kernel import nftschema as nf
from nsbridge.kernel.netlink import APPEND, CREATE, EXCL, attr, be32, message, nested, text
from nsbridge.kernel.nftmessage import header
from nsbridge.model.names import ADMIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from nsbridge.firewall.expressions import Expression
    from nsbridge.firewall.ruleset import Chain, Rule, Set, Table

_EQ, _NEQ = 0, 1


# ------------------------------------------------------------------ messages


def add_table(table: Table) -> list[bytes]:
    """The table with everything in it; EEXIST when there is one of that name."""
    head = header(table.family)
    first = message(
        nf.NEWTABLE, CREATE | EXCL, head + text(1, table.name) + be32(2, 0) + _user_data(6, _comment(0, table.why))
    )
    return [first, *add_sets(table, table.sets), *add_chains(table)]


def remove_table(table: Table) -> bytes:
    """The table and everything in it."""
    return message(nf.DELTABLE, 0, header(table.family) + text(1, table.name))


def add_sets(table: Table, sets: Sequence[Set]) -> list[bytes]:
    """Sets of the table, without elements."""
    return [_set(table, one, number) for number, one in enumerate(sets, 1)]


def add_chains(table: Table) -> list[bytes]:
    """All chains of the table, then their rules, which may go to any of them."""
    chains = [message(nf.NEWCHAIN, CREATE | EXCL, header(table.family) + _chain(table, one)) for one in table.chains]
    return chains + _rules(table, table.chains)


def _emptied(table: Table) -> list[bytes]:
    """Take the rules out of all chains but the administrator's."""
    head = header(table.family) + text(1, table.name)
    return [message(nf.DELRULE, 0, head + text(2, chain.name)) for chain in table.chains if chain.name != ADMIN]


def _rules(table: Table, chains: Sequence[Chain]) -> list[bytes]:
    return [
        add_rule(table.family, table.name, chain.name, rule, CREATE | APPEND)
        for chain in chains
        if chain.name != ADMIN
        for rule in chain.rules
    ]


def replace_rules(table: Table) -> list[bytes]:
    """Write the rules of a table anew whose chains and sets are the right ones, and their policies.

    Chains stay, for elements of maps may lead to them; so do all elements, and what the administrator wrote.
    """
    head = header(table.family)
    policies = [message(nf.NEWCHAIN, 0, head + _chain(table, chain)) for chain in table.chains if chain.hook]
    return [*_emptied(table), *policies, *_rules(table, table.chains)]


def replace_around_admin(there: Table, table: Table) -> list[bytes]:
    """Write all anew that isn't as it should be, around the administrator's chain, whose rules stay.

    Sets and chains then come in another order than in a new table. A rule there that reads a set which changes is
    in the way: the kernel answers EBUSY.
    """
    head = header(table.family) + text(1, table.name)
    chains = {chain.name: chain.replace(rules=(), why="") for chain in there.chains}
    right = [chain for chain in table.chains if chains.get(chain.name) == chain.replace(rules=(), why="")]
    kept = {chain.name for chain in right}
    new = [chain for chain in table.chains if chain.name not in kept]
    return [
        *_emptied(there),
        *[message(nf.DELCHAIN, 0, head + text(3, name)) for name in chains if name not in kept],
        *[message(nf.DELSET, 0, head + text(2, one.name)) for one in there.sets if one not in table.sets],
        *add_sets(table, [one for one in table.sets if one not in there.sets]),
        *[message(nf.NEWCHAIN, CREATE | EXCL, header(table.family) + _chain(table, chain)) for chain in new],
        *_rules(table, table.chains),
    ]


def empty_sets(table: Table) -> list[bytes]:
    """Take all elements out of all sets of the table."""
    head = header(table.family) + text(1, table.name)
    return [message(nf.DELSETELEM, 0, head + text(2, one.name)) for one in table.sets]


def wake_table(table: Table) -> bytes:
    """Take the dormant flag off a table."""
    return message(nf.NEWTABLE, 0, header(table.family) + text(1, table.name) + be32(2, 0))


def add_rule(family: str, table: str, chain: str, rule: Rule, flags: int) -> bytes:
    """A rule, at the end of its chain with the flag APPEND, else at its front."""
    body = header(family) + text(1, table) + text(2, chain) + nested(4, *expressions(rule, family))
    return message(nf.NEWRULE, flags, body + _user_data(7, _comment(0, rule.why)))


def _chain(table: Table, chain: Chain) -> bytes:
    body = text(1, table.name) + text(3, chain.name)
    if chain.hook:
        body += nested(4, be32(1, nf.HOOKS[chain.hook]), be32(2, chain.priority))
        body += be32(5, nf.ACCEPT) + text(7, chain.kind)
    return body + _user_data(12, _comment(0, chain.why))


def _set(table: Table, one: Set, number: int) -> bytes:
    flags = nf.SET_MAP if one.data else 0
    if one.interval:
        flags |= nf.SET_INTERVAL | (nf.SET_CONCAT if len(one.key) > 1 else 0)
    body = text(1, table.name) + text(2, one.name) + be32(3, flags)
    body += be32(4, nf.type_code(one.key)) + be32(5, nf.type_length(one.key))
    if one.data:
        code = nf.VERDICT if one.data == ("verdict",) else nf.type_code(one.data)
        body += be32(6, code) + be32(7, nf.type_length(one.data))
    if one.interval and len(one.key) > 1:
        # The lengths make it a pipapo set. A hash of concatenated keys takes none: EINVAL.
        fields = b"".join([nested(1, be32(1, nf.LENGTH[kind])) for kind in one.key])
        body += nested(9, nested(2, fields))
    body += be32(10, number)
    orders = _order(0, one.key) + (_order(1, one.data) if one.data else b"")
    if "turn" in one.key:
        orders += _typeof(3, one.key) + _typeof(4, one.data)
    return message(nf.NEWSET, CREATE | EXCL, header(table.family) + body + attr(13, orders + _comment(7, one.why)))


def _order(tag: int, kinds: Sequence[str]) -> bytes:
    """User data that tells nft(8) the byte order: 1 the machine's, 2 network order, 0 where it can tell itself."""
    known = {"ifname": 1, "ipv4_addr": 2, "ipv6_addr": 2, "inet_service": 2}
    return bytes((tag, 4)) + nf.native(known.get(kinds[0], 0) if len(kinds) == 1 else 0)


def _note(tag: int, data: bytes) -> bytes:
    """An entry of user data: its tag, its length, what it holds."""
    return bytes((tag, len(data))) + data


def _typeof(tag: int, kinds: Sequence[str]) -> bytes:
    """User data that tells nft(8) the expressions behind a concatenation: 13 is one, its parts numbered from 0."""
    parts = b""
    for place, kind in enumerate(kinds):
        number, notes = nf.TYPEOF[kind]
        inner = b"".join([_note(key, nf.native(note)) for key, note in enumerate(notes)])
        parts += _note(place, _note(0, nf.native(number)) + _note(1, inner))
    return _note(tag, _note(0, nf.native(13)) + _note(1, parts))


def _comment(tag: int, why: str) -> bytes:
    """User data that holds a comment."""
    if not why:
        return b""
    raw = comment(why).encode() + b"\0"
    return bytes((tag, len(raw))) + raw


def _user_data(kind: int, data: bytes) -> bytes:
    return attr(kind, data) if data else b""


# ------------------------------------------------------------------ expressions


def expression(name: str, *attributes: bytes) -> bytes:
    """One expression as an item of a list of them."""
    return nested(1, text(1, name), nested(2, *attributes))


def expressions(rule: Rule, family: str) -> list[bytes]:
    """All expressions of a rule in a table of that family; KernelError (EINVAL) for what can't be written."""
    found: list[bytes] = []
    known = ""
    for one in rule.expressions:
        reads = _reads(one)
        if family == "inet" and reads and reads != known:
            # Each test of ours stands right before the fields that need it: that is how reading tells it from a
            # test somebody asked for.
            known = reads
            found += [
                _load("nfproto", nf.FIRST_REGISTER),
                _compare(_EQ, nf.pack_value("nf_proto", nf.FAMILY_TEST[known])),
            ]
        writer = _WRITERS.get(type(one))
        if writer is None:
            raise KernelError(f"a rule with {one!r} can't be written", errno=errno.EINVAL, thing=one)
        found += writer(one)
    return found


def _reads(one: Expression) -> str:
    if type(one) is Match:
        return nf.family_of(one.field)
    if isinstance(one, InSet | Dnat | Snat | Vmap):
        for name in one.fields:
            if family := nf.family_of(name):
                return family
    return ""


def _register(number: int) -> int:
    """NFT_REG_1 to 4 for every fourth, as the kernel and nft(8) write them."""
    return number if number & 3 else (number >> 2) - 1


def _load(field: str, register: int, size: int = 0) -> bytes:
    name, arguments, kind = nf.FIELDS[field]
    target = be32(1, _register(register))
    if name == "payload":
        base, offset = arguments
        return expression(name, target, be32(2, base), be32(3, offset), be32(4, size or nf.LENGTH[kind]))
    return expression(name, target, *[be32(number, value) for number, value in enumerate(arguments, 2)])


def _load_all(fields: Sequence[str]) -> list[bytes]:
    """Load fields into registers one after the other, as a concatenated key."""
    found = []
    register = nf.FIRST_REGISTER
    for field in fields:
        found.append(_load(field, register))
        register += nf.words(nf.FIELDS[field][2])
    return found


def _compare(operation: int, raw: bytes) -> bytes:
    return expression("cmp", be32(1, 1), be32(2, operation), nested(3, attr(1, raw)))


def _masked(mask: bytes, xor: bytes = b"") -> bytes:
    size = len(mask)
    return expression(
        "bitwise",
        be32(1, 1),
        be32(2, 1),
        be32(3, size),
        nested(4, attr(1, mask)),
        nested(5, attr(1, xor or bytes(size))),
    )


def _match(one: Match) -> list[bytes]:
    kind = nf.FIELDS[one.field][2]
    operation = _NEQ if one.negate else _EQ
    if kind in ("ct_state", "ct_status"):
        # Any of the bits: what is left of them after masking isn't zero.
        mask = nf.pack_value(kind, one.value)
        return [_load(one.field, 8), _masked(mask), _compare(_EQ if one.negate else _NEQ, bytes(4))]
    if kind == "mark":
        mask, value = one.value
        return [_load(one.field, 8), _masked(nf.native(mask)), _compare(operation, nf.native(value))]
    if kind in ("ipv4_addr", "ipv6_addr") and hasattr(one.value, "prefixlen"):
        raw, length = nf.pack_value(kind, one.value.network_address), one.value.prefixlen
        if length and length % 8 == 0:
            return [_load(one.field, 8, length // 8), _compare(operation, raw[: length // 8])]
        return [_load(one.field, 8), _masked(one.value.netmask.packed), _compare(operation, raw)]
    return [_load(one.field, 8), _compare(operation, nf.pack_value(kind, one.value))]


def _in_set(one: InSet) -> list[bytes]:
    inverted = (be32(5, 1),) if one.negate else ()
    return [*_load_all(one.fields), expression("lookup", text(1, one.name), be32(2, 1), *inverted)]


def _vmap(one: Vmap) -> list[bytes]:
    # Register 0 takes the verdict.
    return [*_load_all(one.fields), expression("lookup", text(1, one.name), be32(2, 1), be32(3, 0))]


def _dnat(one: Dnat) -> list[bytes]:
    port = _register(nf.FIRST_REGISTER + nf.words("ipv4_addr" if one.family == "ip" else "ipv6_addr"))
    # Address from the first register of the map's data, port from the one behind it.
    return _translate(one, nf.DNAT, (be32(5, port),) if one.port else ())


def _translate(one: Dnat | Snat, kind: int, port: tuple[bytes, ...] = ()) -> list[bytes]:
    return [
        *_load_all(one.fields),
        expression("lookup", text(1, one.name), be32(2, 1), be32(3, 1)),
        expression("nat", be32(1, kind), be32(2, nf.FAMILIES[one.family]), be32(3, 1), *port),
    ]


def _mark_bits(one: SetMarkBits) -> list[bytes]:
    bits = nf.native(one.bits)
    keep = nf.native(~one.bits & 0xFFFFFFFF)
    return [_load("mark", 8), _masked(keep, bits), expression("meta", be32(2, 3), be32(3, 1))]


def _verdict(code: int, chain: str = "") -> list[bytes]:
    target = (text(2, chain),) if chain else ()
    return [expression("immediate", be32(1, 0), nested(2, nested(2, be32(1, code), *target)))]


def _be64(number: int) -> bytes:
    return number.to_bytes(8, "big")


_WRITERS: dict[type, Callable[[Any], list[bytes]]] = {
    Match: _match,
    InSet: _in_set,
    Dnat: _dnat,
    Snat: lambda one: _translate(one, nf.SNAT),
    SetMarkBits: _mark_bits,
    Vmap: _vmap,
    # A second is the unit, packets are counted.
    Limit: lambda one: [
        expression("limit", attr(1, _be64(one.rate)), attr(2, _be64(1)), be32(3, one.burst), be32(4, 0), be32(5, 0))
    ],
    Log: lambda one: [expression("log", text(2, one.prefix))],
    # 2: in the terms of either family (icmpx); 1: port unreachable.
    Reject: lambda _: [expression("reject", be32(1, 2), attr(2, b"\1"))],
    Counter: lambda _: [expression("counter")],
    Masquerade: lambda _: [expression("masq")],
    Accept: lambda _: _verdict(nf.ACCEPT),
    Drop: lambda _: _verdict(nf.DROP),
    Return: lambda _: _verdict(nf.RETURN),
    Goto: lambda one: _verdict(nf.GOTO, one.chain),
    Jump: lambda one: _verdict(nf.JUMP, one.chain),
}
