"""The same table in the words of iptables(8): the backend for hosts and lessons that want it.

iptables knows neither sets nor maps (ipset is another program, and not everywhere), so each rule that asks a set
becomes a chain of its own, with one rule an element. Nothing of ours says ACCEPT, which would keep a packet from other
people's rules; what is allowed bears our mark and returns. Which of our chains is called from where:

    raw     PREROUTING    guard          nat       POSTROUTING    sources
    nat     PREROUTING    publish_in     filter    FORWARD, INPUT rejected (REJECT is taken in this table alone)
    nat     OUTPUT        publish_out    mangle    POSTROUTING    unrejected (what somebody accepted before that)
    mangle  INPUT         gateway        security  INPUT          unrejected_in (likewise)
    mangle  FORWARD       forwarding

Deciding in mangle rather than in filter keeps a drop of ours a drop: in filter, whoever inserts a rule above ours (as
Docker and libvirt do at each start) could accept what we close. What we allow is marked there, as it is by nftables,
and a filter chain that drops gets the same one rule about our mark (`ForeignAccept`).

Every rule bears a comment. That of an element begins with its set in brackets, and is all that is needed to read
the element back (iptables_read.py): ``[publish4] tcp 8080 -> 10.0.0.2 80; ports published on every address``.

Two things nftables can do and iptables can't: ask whether an interface is a bridge, and deal out turns by a map.
Bridges of others are told by their names (`OTHERS`); turns by counting (``statistic --mode nth``).
"""

from __future__ import annotations

from nsbridge.firewall.ruleset import TURNS, Set
from nsbridge.values import Value, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, TypeAlias

    from nsbridge.firewall.ruleset import Element

    Words: TypeAlias = tuple[str, ...]

PREFIX = "NSB-"
"""How our chains' names begin. A name has 28 bytes at most (XT_EXTENSION_MAXNAMELEN, <linux/netfilter/x_tables.h>)."""

COMMENT = 255
"""Bytes of a comment (XT_MAX_COMMENT_LEN without its NUL, <linux/netfilter/xt_comment.h>)."""

REFUSED_BIT = 0x8000000
"""The bit of the packet mark that says: to be rejected, which only table filter can."""

KIND = Set("bridge", ("ifname",), why="interfaces of this kind: iptables can't ask")
"""Stands in for the question of an interface's kind. Its members are names; one may end in ``+``, for any rest."""

OTHERS = ("docker+", "br-+", "virbr+", "podman+", "cni+", "lxcbr+", "lxdbr+", "incusbr+", "vmbr+")
"""How other software names its bridges: what comes after us is known by these alone."""

FIELDS = {"iifname": "-i", "oifname": "-o", "ip saddr": "-s", "ip daddr": "-d", "ip6 saddr": "-s", "ip6 daddr": "-d"}
_MATCHED = frozenset(("tcp", "udp", "sctp"))


class Standing(Value):
    """A rule that is there whatever the sets hold: what it asks, what it does."""

    matches: Words
    target: Words
    why: str = field(default="")

    @property
    def words(self) -> Words:
        """All of it, after ``-A CHAIN``."""
        return (*self.matches, *_said(self.why), *self.target)


class Slot(Value):
    """Where the elements of a set become rules: what those ask beside the element, and do.

    target: empty when the element's own data says it, by DNAT, SNAT or ``-g``. on: where a packet goes on.
    """

    set: Set
    fields: tuple[str, ...]
    more: Words = ()
    target: Words = ()
    data: str = ""
    on: Words = ()
    why: str = ""


class Chained(Value):
    """One chain of iptables: the elements of a slot first, if it has one, then rules that are always there."""

    table: str
    name: str
    slot: Slot | None
    fixed: tuple[Standing, ...]


class Hooked(Value):
    """The one rule of ours in a built-in chain: into a chain of ours."""

    table: str
    builtin: str
    chain: str
    why: str


class Placed(Value):
    """A rule that an element makes: in which chain, and its words."""

    table: str
    chain: str
    words: Words
    comment: str


class Lowered(Value):
    """A table for one family: `version` is 4 or 6."""

    version: int
    chains: tuple[Chained, ...]
    hooks: tuple[Hooked, ...]
    sets: tuple[Set, ...]


def _said(text: str) -> Words:
    return ("-m", "comment", "--comment", text) if text else ()


def cut(text: str) -> str:
    """Return a comment that fits."""
    return text.replace('"', "'").encode()[:COMMENT].decode(errors="ignore")


def protocol(name: str) -> Words:
    """Words that ask for a protocol; none for any."""
    return () if name == "any" else ("-p", "ipv6-icmp" if name == "icmpv6" else name)


# ------------------------------------------------------------------ elements


def _element_words(fields: Iterable[str], key: Iterable[Any], version: int) -> Words | None:
    """What asks for a key, None when it can't hold in this family."""
    words: Words = ()
    for name, value in zip(fields, key, strict=True):
        if name == "nfproto":
            if value != f"ipv{version}":
                return None
        elif name == "l4proto":
            words += protocol(value)
        elif name == "th dport":
            first, last = getattr(value, "first", value), getattr(value, "last", value)
            if (first, last) != (0, 65535) and words[-1] in _MATCHED:
                words += ("-m", words[-1], "--dport", str(first) if first == last else f"{first}:{last}")
        elif getattr(value, "prefixlen", 1):
            words += (FIELDS[name], str(value))
    return words


def _destination(data: tuple[Any, ...]) -> str:
    shown = f"[{data[0]}]" if data[0].version == 6 and len(data) > 1 else str(data[0])
    return ":".join([shown, *map(str, data[1:])])


def _then(slot: Slot, data: tuple[Any, ...]) -> Words:
    if slot.data == "dnat":
        return ("-j", "DNAT", "--to-destination", _destination(data))
    if slot.data == "snat":
        return ("-j", "SNAT", "--to-source", str(data[0]))
    if slot.data == "verdict":
        return ("-g", PREFIX + data[0].removeprefix("goto "))
    return slot.target


def named(key: Iterable[Any], data: Iterable[Any] = ()) -> str:
    """An element's key and data as they stand in its comment."""
    held = " ".join(map(str, data))
    return " ".join(map(str, key)) + (f" -> {held}" if held else "")


def _placed(chain: Chained, slot: Slot, said: str, asks: Words, then: Words) -> Placed:
    text = cut(f"[{slot.set.name}] {said}" + (f"; {slot.why}" if slot.why else ""))
    return Placed(chain.table, chain.name, (*asks, *slot.more, *_said(text), *then), text)


def placed(lowered: Lowered, element: Element) -> list[Placed]:
    """Return the rules that an element makes in this family; for a turn see `turns`."""
    found = []
    for chain in lowered.chains:
        slot = chain.slot
        if slot is None or slot.set.name != element.set:
            continue
        asks = _element_words(slot.fields, element.key, lowered.version)
        if asks is not None:
            found.append(_placed(chain, slot, named(element.key, element.data), asks, _then(slot, element.data)))
    return found


def turns(lowered: Lowered, elements: Iterable[Element]) -> list[Placed]:
    """Return the rules for the turns of one port, in the order in which they have to stand.

    As many as it takes until the dealing repeats: the first takes one of n connections, the second one of the n-1
    that are left, and so on. A turn without an element takes the packet on.
    """
    dealt = {element.key[-1]: element for element in elements}
    if not dealt:
        return []
    any_ = next(iter(dealt.values()))
    held = [dealt[turn].data if turn in dealt else () for turn in range(TURNS)]
    period = next(n for n in range(1, TURNS + 1) if all(held[turn] == held[turn % n] for turn in range(TURNS)))
    found = []
    for chain in lowered.chains:
        slot = chain.slot
        if slot is None or slot.set.name != any_.set:
            continue
        asks = _element_words(slot.fields[:-1], any_.key[:-1], lowered.version)
        for turn in range(period):
            left = period - turn
            nth = ("-m", "statistic", "--mode", "nth", "--every", str(left), "--packet", "0") if left > 1 else ()
            said = named((*any_.key[:-1], f"{turn}/{period}"), held[turn])
            then = _then(slot, held[turn]) if held[turn] else slot.on
            found.append(_placed(chain, slot, said, (*(asks or ()), *nth), then))
    return found
