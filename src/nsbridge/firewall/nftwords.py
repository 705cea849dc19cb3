"""A rule read from the kernel in the words of nft(8), as `nft list` prints it.

The kernel's rule is longer than its text: nft writes ``tcp dport 80`` for a test of the protocol and one of a port.
So a test of what a packet carries waits until something after it says the same. Written after src/payload.c and
src/netlink_delinearize.c of nft 1.0.6.
"""

from __future__ import annotations

from nsbridge.firewall import nftsays
from nsbridge.firewall.datawords import flags, length_of, number, prefix, span, text
from nsbridge.firewall.fields import CONN_BY_NAME, FIB_RESULTS, HEADERS, META_BY_NAME, size_of
from nsbridge.firewall.reads import (
    Conn,
    Fib,
    Fixed,
    HeaderBytes,
    Joined,
    Mapped,
    Masked,
    Meta,
    Mixed,
    Option,
    OwnSocket,
    Shifted,
    Slice,
    Swapped,
    Turn,
)
from nsbridge.firewall.seen import Among, Compare, Remember, VerdictMap, Within

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from nsbridge.firewall.reads import Source
    from nsbridge.firewall.seen import Contents, Part, SeenElement, SeenRule, SeenTable

_PLAIN_META = ("iif", "oif", "iifname", "oifname", "iifgroup", "oifgroup")
_CARRIES = {"nf_proto": {2: "ip", 10: "ip6"}, "ether_type": {0x0800: "ip", 0x86DD: "ip6", 0x0806: "arp"}}
_TRANSPORT = {1: "icmp", 6: "tcp", 17: "udp", 33: "dccp", 58: "icmpv6", 132: "sctp", 136: "udplite"}
_SIZES = {"ipv4_addr": 4, "ipv6_addr": 16, "inet_service": 2, "mark": 4, "ifname": 16}
_MOST = 40
"""Elements of an anonymous set that are shown."""


def rule_text(rule: SeenRule, table: SeenTable, contents: Contents | None) -> str:
    """The rule without its comment's quotes: ``tcp dport 22 accept comment "…"``."""
    writer = _Writer(table, contents)
    for part in rule.parts:
        writer.write(part)
    writer.flush()
    words = [word for word in writer.words if word]
    if rule.why:
        words.append(f'comment "{rule.why}"')
    return " ".join(words)


class _Writer:
    """Words so far, and what earlier tests say the packet carries."""

    def __init__(self, table: SeenTable, contents: Contents | None) -> None:
        self.table = table
        self.contents = contents
        self.sets = {one.name: one for one in table.sets}
        self.words: list[str] = []
        self.network = table.family if table.family in ("ip", "ip6", "arp") else ""
        self.transport = ""
        self.waiting: list[tuple[str, str, Compare]] = []  # layer, what it says, the test

    def write(self, part: Part) -> None:
        """Add the words of a part."""
        kept = self.wait(part)
        if kept:
            return
        said = self.part(part)
        self.flush()
        self.words.append(said)

    def flush(self) -> None:
        """Write the tests of protocols that nothing after them implied."""
        for _, _, test in self.waiting:
            self.words.append(self.compare(test))
        self.waiting.clear()

    def wait(self, part: Part) -> bool:
        """Remember a test of what a packet carries, until a field behind it says as much."""
        if not isinstance(part, Compare) or part.op != "==":
            return False
        kind = self.kind(part.of)
        if kind in _CARRIES and isinstance(part.of, (Meta, HeaderBytes)):
            carried = _CARRIES[kind].get(number(kind, part.raw))
            if carried:
                self.network = carried
                self.waiting.append(("network", carried, part))
                return True
        if kind == "inet_proto" and isinstance(part.of, (Meta, HeaderBytes)):
            carried = _TRANSPORT.get(part.raw[0])
            if isinstance(part.of, HeaderBytes):
                self.imply("network", self.network)
            if carried:
                self.transport = carried
                self.waiting.append(("transport", carried, part))
                return True
        return False

    def imply(self, layer: str, carried: str) -> None:
        """Drop waiting tests that a field says by its name."""
        self.waiting = [one for one in self.waiting if (one[0], one[1]) != (layer, carried)]
        if carried == "icmpv6":
            self.waiting = [one for one in self.waiting if one[:2] != ("network", "ip6")]
        if carried == "icmp":
            self.waiting = [one for one in self.waiting if one[:2] != ("network", "ip")]

    # ------------------------------------------------------------ sources

    def kind(self, of: Source) -> str:
        """The type of what a source gives."""
        if isinstance(of, Meta):
            return META_BY_NAME.get(of.key, (0, ""))[1]
        if isinstance(of, Conn):
            kind = CONN_BY_NAME[of.key][1]
            return ("ipv4_addr" if of.size == 4 else "ipv6_addr") if kind == "address" else kind
        if isinstance(of, Fib):
            return "boolean" if of.present else FIB_RESULTS[of.result][1]
        if isinstance(of, HeaderBytes):
            return self.field(of)[1]
        if isinstance(of, (Masked, Mixed, Shifted, Swapped)):
            return self.kind(of.of)
        if isinstance(of, Option):
            return "boolean" if of.present else "be"
        if isinstance(of, OwnSocket):
            return {"mark": "mark"}.get(of.key, "be")
        return "number" if isinstance(of, Turn) else "be"

    def field(self, of: HeaderBytes) -> tuple[str, str]:
        """Its words, and its type."""
        proto = {"link": "ether", "network": self.network, "transport": self.transport}.get(of.base, "")
        if not proto and of.base == "network":
            proto = "ip6" if of.size == 16 or of.offset > 20 else "ip"
        for name in (proto, "th" if of.base == "transport" else ""):
            fields = HEADERS[name][1] if name in HEADERS else {}
            if (of.offset, of.size) in fields:
                word, kind = fields[of.offset, of.size]
                return f"{name} {word}", kind
        for at, full in ((12, 4), (16, 4)) if proto == "ip" else ((8, 16), (24, 16)):
            if of.base == "network" and of.offset == at and of.size < full:
                word, kind = HEADERS[proto][1][at, full]
                return f"{proto} {word}", kind
        base = {"link": "ll", "network": "nh", "transport": "th", "inner": "ih"}.get(of.base, of.base)
        return f"@{base},{8 * of.offset},{8 * of.size}", "hex"

    def source(self, of: Source) -> str:
        """A source in words."""
        if isinstance(of, HeaderBytes):
            said = self.field(of)[0]
            self.imply(of.base, said.split()[0])
            return said
        if isinstance(of, Meta):
            return of.key if of.key in _PLAIN_META else f"meta {of.key}"
        if isinstance(of, Conn):
            return " ".join([word for word in ("ct", of.direction, self.conn_key(of)) if word])
        if isinstance(of, Fib):
            return f"fib {' . '.join(of.flags)} {of.result}"
        if isinstance(of, Joined):
            return " . ".join([self.source(part) for part in of.parts])
        if isinstance(of, Fixed):
            return of.raw.hex()
        if isinstance(of, Mapped):
            return f"{self.source(of.of)} map {self.held(of.set, of.of)}"
        if isinstance(of, (Masked, Mixed)):
            return self.arithmetic(of)
        if isinstance(of, (Swapped, Slice)):
            return self.source(of.of)
        if isinstance(of, Shifted):
            return f"{self.source(of.of)} {'<<' if of.bits > 0 else '>>'} {abs(of.bits)}"
        return nftsays.simple(of, self.source)

    def conn_key(self, of: Conn) -> str:
        """A key of ct; in tables of one family it doesn't say which."""
        return of.key

    def arithmetic(self, of: Masked | Mixed) -> str:
        """``meta mark | 0x1`` and the like."""
        left = self.source(of.of)
        if isinstance(of, Mixed):
            return f"{left} {of.how} {self.source(of.other)}"
        kind, ones = self.kind(of.of), (1 << 8 * len(of.mask)) - 1
        mask, flip = number(kind, of.mask), number(kind, of.flip)
        shown = [text(kind, raw) for raw in (of.mask, of.flip)]
        if mask == ones:
            return f"{left} ^ {shown[1]}"
        if flip == 0:
            return f"{left} & {shown[0]}"
        if mask ^ ones == flip:
            return f"{left} | {shown[1]}"
        return f"{left} & {shown[0]} ^ {shown[1]}"

    # ------------------------------------------------------------ tests

    def part(self, part: Part) -> str:
        """A part in words."""
        if isinstance(part, Compare):
            return self.compare(part)
        if isinstance(part, Within):
            of, kind = self.source(part.of), self.kind(part.of)
            ends = "-".join([text(kind, raw, turned=True) for raw in (part.first, part.last)])
            return f"{of} {'!= ' if part.negate else ''}{ends}"
        if isinstance(part, Among):
            return f"{self.source(part.of)} {'!= ' if part.negate else ''}{self.held(part.set, part.of)}"
        if isinstance(part, VerdictMap):
            return f"{self.source(part.of)} vmap {self.held(part.set, part.of)}"
        if isinstance(part, Remember):
            budget = f" {part.budget}" if part.budget else ""
            data = f" : {self.source(part.data)}" if part.data else ""
            return f"{part.how} @{part.set} {{ {self.source(part.of)}{budget}{data} }}"
        return nftsays.statement(part, self.source, self.kind, self.table.family)

    def compare(self, test: Compare) -> str:
        """A comparison; ``==`` goes without saying."""
        of, op = test.of, "" if test.op == "==" else f"{test.op} "
        kind = self.kind(of)
        if isinstance(of, Masked) and not any(of.flip):
            said = self.of_mask(of, test, kind)
            if said:
                return said
        if isinstance(of, Joined):
            return f"{self.source(of)} {op}{self.joined(of.parts, test.raw)}"
        source = self.source(of)
        if kind in ("ipv4_addr", "ipv6_addr") and len(test.raw) < (4 if kind == "ipv4_addr" else 16):
            return f"{source} {op}{prefix(kind, test.raw, 8 * len(test.raw))}"
        if kind == "boolean" and isinstance(of, (Fib, Option)):
            return f"{source} {'exists' if any(test.raw) == (test.op == '==') else 'missing'}"
        raw = test.raw[: size_of(of)]
        if kind == "ifindex" and (name := self.contents.link(number(kind, raw)) if self.contents else ""):
            return f'{source} {op}"{name}"'
        if kind == "tcp_flag":
            op = f"{test.op} "
        return f"{source} {op}{text(kind, raw, turned=isinstance(of, Swapped))}"

    def of_mask(self, of: Masked, test: Compare, kind: str) -> str:
        """A comparison of some bits: a prefix, "any of these" or as it is."""
        source = self.source(of.of)
        if kind in ("ct_state", "ct_status") and not any(test.raw):
            return f"{source} {'! ' if test.op == '==' else ''}{flags(kind, number(kind, of.mask))}"
        if kind == "tcp_flag":
            mask, bits = (flags(kind, raw[0]).replace(" | ", ",") for raw in (of.mask, test.raw))
            if not any(test.raw):
                return f"{source} {'! ' if test.op == '==' else ''}{mask}"
            return f"{source} {'!= ' if test.op == '!=' else ''}{bits} / {mask}"
        length = length_of(of.mask)
        if kind in ("ipv4_addr", "ipv6_addr") and length is not None:
            return f"{source} {'!= ' if test.op == '!=' else ''}{prefix(kind, test.raw, length)}"
        return f"{source} & {text(kind, of.mask)} {test.op} {text(kind, test.raw)}"

    def joined(self, parts: Sequence[Source], raw: bytes) -> str:
        """A concatenation's value."""
        words, at = [], 0
        for part in parts:
            size = size_of(part)
            words.append(text(self.kind(part), raw[at : at + size]))
            at += (size + 3) & ~3
        return " . ".join(words)

    # ------------------------------------------------------------ sets

    def held(self, name: str, of: Source) -> str:
        """A set: its name, or what it holds if it has none."""
        one = self.sets.get(name)
        if one is None or not one.anonymous:
            return f"@{name}"
        try:
            found = self.contents.all(self.table.family, self.table.name, name) if self.contents else ()
        except LookupError:
            return "{ … }"
        parts = of.parts if isinstance(of, Joined) else (of,)
        shown = [self.element(element, parts, one.data) for element in found[:_MOST]]
        return f"{{ {', '.join([*shown, *(['…'] if len(found) > _MOST else [])])} }}"

    def element(self, element: SeenElement, parts: Sequence[Source], data: tuple[str, ...]) -> str:
        """An element, and what it maps to."""
        words: list[str] = []
        at = 0
        for part in parts:
            size = size_of(part)
            kind = self.kind(part)
            first, last = element.first[at : at + size], element.last[at : at + size]
            alone = len(parts) == 1 and isinstance(part, Swapped)
            words.append(span(kind, first, last) if first != last else text(kind, first, turned=alone))
            at += (size + 3) & ~3
        key = "*" if element.catchall else " . ".join(words)
        held: Any = element.data
        if held is None:
            return key
        if not isinstance(held, bytes):
            return f"{key} : {nftsays.verdict(held)}"
        shown, at = [], 0
        for kind in data:
            size = {"ipv4_addr": 4, "ipv6_addr": 16, "inet_service": 2, "mark": 4, "ifname": 16}.get(
                kind, len(held) - at
            )
            shown.append(text(kind, held[at : at + size]))
            at += (size + 3) & ~3
        return f"{key} : {' . '.join(shown)}"
