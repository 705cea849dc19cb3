"""What other people's rules say: the open vocabulary, beside the closed one of firewall/ruleset.py.

nf_tables keeps a rule as a small program for registers: load some bytes, mask them, compare them, go on or give
up. These values say the same without registers: a *source* is where bytes come from, a *test* compares them, a
*statement* does something, a verdict ends the rule. Bytes are compared as the kernel compares them, so a value
read from a rule is kept as bytes here and told in people's words by firewall/words.py. iptables' matches and
targets are structures of their own; each is kept with the words of iptables-save(8) and the tests and statements
that amount to it. What there is no value for is a `Strange`, in the kernel's words: no answer is guessed from it.
"""

from __future__ import annotations

from nsbridge.values import Value, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from nsbridge.firewall.expressions import Accept, Drop, Goto, Jump, Return
    from nsbridge.firewall.reads import Conn, HeaderBytes, Meta, Option, Source


# ------------------------------------------------------------------ tests


class Compare(Value):
    """``of`` compared with bytes: op is ``==``, ``!=``, ``<``, ``<=``, ``>``, ``>=``, as memcmp(3) does."""

    of: Source
    op: str
    raw: bytes


class Within(Value):
    """``of`` lies from `first` to `last` (or doesn't)."""

    of: Source
    first: bytes
    last: bytes
    negate: bool = False


class Among(Value):
    """``of`` is (or isn't) an element of a set."""

    of: Source
    set: str
    negate: bool = False


class AllOf(Value):
    """Every test holds."""

    tests: tuple[Test, ...]


class AnyOf(Value):
    """One of these tests holds at least."""

    tests: tuple[Test, ...]


class Not(Value):
    """The test doesn't hold."""

    test: Test


class Always(Value):
    """Holds, or never does: a comment, an empty condition."""

    holds: bool = True


class Limited(Value):
    """A budget: ``limit``, ``quota``, ``connlimit``, ``hashlimit`` … An evaluator assumes that it isn't used up.

    over: the test holds when it *is* used up.
    """

    what: str
    over: bool = False


class Chance(Value):
    """Holds for some packets and not for others (xt_statistic): nobody can say."""

    what: str


class Strange(Value):
    """Something no value here stands for, in the kernel's words. As a test it has no answer.

    harmless: known not to decide about the packet and not to change what rules can ask.
    """

    what: str
    harmless: bool = False


# ------------------------------------------------------------------ statements


class Count(Value):
    """A counter, its numbers beside the value."""

    packets: int = field(default=0, compare=False)
    bytes: int = field(default=0, compare=False)


class Logged(Value):
    """A line in the kernel's log, or a packet to a listener (group); words: as the tool says it, after ``log``."""

    prefix: str = ""
    group: int | None = None
    words: str = ""


class Assign(Value):
    """Set ``meta mark``, ``ct mark``, ``meta nftrace`` … or bytes of a header to what a source holds."""

    to: Meta | Conn | HeaderBytes | Option
    of: Source


class Rewrite(Value):
    """NAT. kind: ``snat``, ``dnat``, ``masquerade``, ``redirect``. Addresses and ports may be ranges.

    prefix: addresses are mapped one to one onto a network (netmap). flags: ``random``, ``fully-random``,
    ``persistent``.
    """

    kind: str
    family: str = ""
    address: Source | None = None
    address_last: Source | None = None
    port: Source | None = None
    port_last: Source | None = None
    flags: tuple[str, ...] = ()
    prefix: bool = False


class Refuse(Value):
    """Drop it and tell the sender: ``tcp reset``, or icmp, icmpv6 or icmpx with what (``port-unreachable`` …)."""

    kind: str
    code: int = 0


class ToQueue(Value):
    """Hand it to a program. bypass: without one that listens, it passes."""

    number: Source | int
    bypass: bool = False
    words: str = ""


class Untrack(Value):
    """No conntrack entry for it (``notrack``)."""


class Stolen(Value):
    """It goes another way from here: ``synproxy``, ``fwd`` to a device."""

    what: str


class Tproxy(Value):
    """Hand it to a local socket without rewriting; without one, the rule ends."""

    family: str = ""
    address: Source | None = None
    port: Source | None = None


class Remember(Value):
    """Add (update, delete) an element of a set for this packet (dynset). Holds unless the set is full or spent."""

    how: str
    set: str
    of: Source
    data: Source | None = None
    budget: str = ""
    negate: bool = False


class VerdictMap(Value):
    """Do what a map holds for `of`; without an element the rule ends."""

    of: Source
    set: str


class Xt(Value):
    """A match or target of iptables, told in its own words, and what it amounts to."""

    name: str
    words: str
    does: tuple[Part, ...]


if TYPE_CHECKING:
    Test: TypeAlias = Compare | Within | Among | AllOf | AnyOf | Not | Always | Limited | Chance | Strange
    Verdict: TypeAlias = Accept | Drop | Return | Jump | Goto
    Part: TypeAlias = (
        Test | Count | Logged | Assign | Rewrite | Refuse | ToQueue | Untrack | Stolen | Tproxy | Remember
        | VerdictMap | Xt | Verdict
    )  # fmt: skip


# ------------------------------------------------------------------ rules, chains, tables


class SeenRule(Value):
    """A rule. handle: its number in the kernel, 0 in iptables-legacy and in plans; index: its place, from 0."""

    parts: tuple[Part, ...]
    index: int = 0
    handle: int = 0
    why: str = field(default="", compare=False)
    packets: int | None = field(default=None, compare=False)
    bytes: int | None = field(default=None, compare=False)


class SeenChain(Value):
    """A chain; a base chain when `hook` is given. devices: of netdev's ingress and egress. policy: accept or drop."""

    name: str
    rules: tuple[SeenRule, ...]
    kind: str = ""
    hook: str = ""
    priority: int = 0
    policy: str = ""
    devices: tuple[str, ...] = ()
    handle: int = 0
    why: str = field(default="", compare=False)


class SeenSet(Value):
    """A set or map. key, data: names of nft(8)'s types. Its elements are asked for (`Contents`), if they aren't here.

    size: bytes of the key. widths: bytes of each part of a concatenation.
    """

    name: str
    key: tuple[str, ...]
    data: tuple[str, ...] = ()
    size: int = 0
    widths: tuple[int, ...] = ()
    data_size: int = 0
    interval: bool = False
    anonymous: bool = False
    flags: tuple[str, ...] = ()
    why: str = field(default="", compare=False)


class SeenElement(Value):
    """An element: keys from `first` to `last`; data: bytes, a verdict, or None in a set. timeout: seconds left."""

    first: bytes
    last: bytes
    data: bytes | Verdict | None = None
    catchall: bool = False
    why: str = field(default="", compare=False)


class SeenTable(Value):
    """A table. backend: ``nft``, ``iptables-nft`` or ``iptables-legacy``; owner: whose it is, as far as names tell.

    owner: ``nsbridge``, ``docker``, ``ufw``, ``firewalld``, ``libvirt``, ``kubernetes``, ``iptables``, or the
    table's name.
    """

    family: str
    name: str
    chains: tuple[SeenChain, ...] = ()
    sets: tuple[SeenSet, ...] = ()
    backend: str = "nft"
    owner: str = ""
    dormant: bool = False
    why: str = field(default="", compare=False)


class Firewall(Value):
    """All tables of one namespace, in the order of their registration as far as the kernel tells.

    tracks: families whose packets conntrack sees. It works only while some rule asks for it, by ``ct``, by NAT or by a
    match of iptables about connections; without it no chain of type nat is asked either (firewall/tracking.py).
    """

    tables: tuple[SeenTable, ...] = ()
    tracks: tuple[str, ...] = ("ip", "ip6")
    contents: Contents | None = field(default=None, compare=False)


if TYPE_CHECKING:
    from typing import Protocol

    class Contents(Protocol):
        """Who knows what sets hold: a kernel that is asked, or a plan."""

        def find(self, family: str, table: str, name: str, key: bytes) -> SeenElement | None:
            """The element that this key falls under, None without one. LookupError when nobody can say."""

        def all(self, family: str, table: str, name: str) -> tuple[SeenElement, ...]:
            """Every element. LookupError when nobody can say."""

        def link(self, index: int) -> str:
            """The name of the interface of that number, empty without one."""
