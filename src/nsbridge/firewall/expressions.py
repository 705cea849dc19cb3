"""What rules are made of: matches, statements and verdicts, as values.

Three readers share them: a backend renders a rule, an evaluator walks a packet through it, and a transcript tells it
in the words of nft(8). The vocabulary is closed: what our own tables need and no more, so that each reader can be
complete.

Values compared with a field are Python's own: str for names and protocols, int for ports and marks,
`ipaddress` types for addresses. Encodings (byte order, registers, padding) belong to the backends.
"""

from __future__ import annotations

from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal, TypeAlias

    Field: TypeAlias = Literal[
        "iifname",       # name of the interface a packet came in by
        "oifname",       # name of the interface it leaves by
        "iifkind",       # kind of that interface, "bridge" say
        "oifkind",
        "nfproto",       # "ipv4" or "ipv6"
        "l4proto",       # "tcp", "udp", "icmp", "icmpv6", "sctp"
        "ip saddr", "ip daddr", "ip6 saddr", "ip6 daddr",
        "th sport", "th dport",
        "ct state",      # compared as a set: ("established", "related")
        "ct status",     # ("dnat",)
        "mark",          # the packet mark
        "fib daddr type",  # "local" when the destination is one of the host's own addresses
        "turn",          # 0 to TURNS - 1, another number for each packet
        "protocol",      # what a frame carries: "ip", "ip6", "arp"
        "ether saddr",   # a MAC as text, lower case with colons; of frames, so in a bridge table only
        "arp saddr ip", "arp saddr ether",
        "icmpv6 type",   # a number; names are in RFC 4861, section 4
        "icmpv6 taddr",  # the target of a neighbour solicitation or advertisement
    ]  # fmt: skip
    Family: TypeAlias = Literal["ip", "ip6"]


class Match(Value):
    """`field` equals `value` (or doesn't, when negated).

    An address field takes a network to compare a prefix; `ct state` and `ct status` take a tuple of names and
    match when any is set; `mark` takes (mask, value) and compares the masked mark.
    """

    field: Field
    value: Any
    negate: bool = False


class InSet(Value):
    """The concatenation of `fields` is (or isn't) an element of the set `name`."""

    fields: tuple[Field, ...]
    name: str
    negate: bool = False


class Counter(Value):
    """Count the packets and bytes that came this far. The numbers are the kernel's, not part of the value."""


class SetMarkBits(Value):
    """Set these bits of the packet mark and leave the others as they are."""

    bits: int


class Vmap(Value):
    """Do what map `name` holds for `fields`: go on in a chain; without an element, go on here."""

    fields: tuple[Field, ...]
    name: str


class Limit(Value):
    """Go on at most `rate` times a second, and `burst` times at once; otherwise the rule ends here."""

    rate: int
    burst: int


class Log(Value):
    """Write the packet to the kernel's log, the line beginning with `prefix` (127 bytes at most)."""

    prefix: str


class Dnat(Value):
    """Rewrite the destination to what map `name` holds for `fields`; without an element, go on.

    port: the map holds an address and a port; otherwise an address alone, and the port stays.
    """

    family: Family
    fields: tuple[Field, ...]
    name: str
    port: bool = True


class Snat(Value):
    """Rewrite the source to the address that map `name` holds for `fields`; without an element, go on."""

    family: Family
    fields: tuple[Field, ...]
    name: str


class Masquerade(Value):
    """Rewrite the source to the address of the interface the packet leaves by."""


class Accept(Value):
    """Let it pass this base chain; a later base chain may still drop it."""


class Drop(Value):
    """End it here, without a word."""


class Reject(Value):
    """End it here and tell the sender: ICMP port unreachable."""


class Return(Value):
    """Back to the calling chain, or to the policy of a base chain."""


class Goto(Value):
    """Go on in another chain and don't come back."""

    chain: str


class Jump(Value):
    """Go on in another chain and come back if it says nothing."""

    chain: str


class Opaque(Value):
    """Something read from a kernel that this vocabulary has no word for, in the words of the kernel.

    It is never written; it makes a strange rule of our own table differ from what we meant.
    """

    what: str


if TYPE_CHECKING:
    Expression: TypeAlias = (
        Match
        | InSet
        | Counter
        | SetMarkBits
        | Dnat
        | Snat
        | Masquerade
        | Accept
        | Drop
        | Return
        | Goto
        | Jump
        | Opaque
        | Vmap
        | Limit
        | Log
        | Reject
    )
