"""A packet at one hook: every base chain there, rule by rule, as the kernel does it."""

from __future__ import annotations

from nsbridge.firewall.effects import settled, tracked, translated
from nsbridge.firewall.owners import owner_of
from nsbridge.firewall.walk import End, Walk
from nsbridge.firewall.words import rule_words
from nsbridge.values import Value, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from nsbridge.firewall.packet import Packet
    from nsbridge.firewall.seen import Firewall, SeenChain, SeenRule, SeenTable
    from nsbridge.firewall.surroundings import Surroundings
    from nsbridge.firewall.walk import Passed

    Base: TypeAlias = tuple[SeenTable, SeenChain]
    Station: TypeAlias = Base | list[Base] | str


class Met(Value):
    """A rule (or a policy) that a packet met and that applied to it, or may have.

    hook: ``prerouting`` …; priority: of the base chain. index: of the rule in its chain, -1 for the policy.
    text: the rule as its tool writes it. verdict: ``accept``, ``drop``, ``reject``, ``continue``, ``jump X``,
    ``goto X``, ``return``, ``dnat to 10.0.0.2:80`` …; open: nobody can say whether it applied.
    before, after: the packet as it came to the rule and as it left it, which is how to tell what the rule does.
    why: its comment. owner: as in `SeenTable`. fix: for one that drops, how to reach that rule (nft delete rule …).
    """

    family: str
    table: str
    chain: str
    hook: str
    priority: int
    index: int
    handle: int
    text: str
    verdict: str
    before: Packet = field(compare=False)
    after: Packet = field(compare=False)
    why: str = ""
    owner: str = ""
    backend: str = "nft"
    open: bool = False


class Way(Value):
    """One way in which a hook can end. verdict: accept, drop, reject, queue, stolen."""

    verdict: str
    packet: Packet
    met: tuple[Met, ...] = ()
    said: str = ""
    """With reject: what the sender is told; with queue or stolen: who has it."""


class Outcome(Value):
    """How a hook ends.

    verdict: ``accept``, ``drop``, ``reject``, ``queue``, ``stolen``; ``open`` when opaque rules leave more than one
    of them. packet, met: of the way that is taken, or of the first. ways: all of them, one unless something is open.
    opaque: what nobody could answer. assumed: budgets taken to be unspent. Both in words, the rule first.
    """

    verdict: str
    packet: Packet
    met: tuple[Met, ...] = ()
    ways: tuple[Way, ...] = ()
    opaque: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    said: str = ""


# ------------------------------------------------------------------ what happens at a hook, in order

_CONNTRACK = -200
_DST, _SRC = -100, 100
_NAT_AT = {"prerouting": _DST, "output": _DST, "postrouting": _SRC, "input": _SRC}
_NAT_KIND = {"prerouting": "dnat", "output": "dnat", "postrouting": "snat", "input": "snat"}
_LAST = 1 << 31
EVERY = (-_LAST, _LAST - 1)
"""Priorities that a chain can have."""


def base_chains(firewall: Firewall, name: str, layer: str, device: str = "") -> list[Base]:
    """Base chains at a hook in the order in which a packet meets them; those of type nat are in it too.

    Of two with one priority the kernel asks the younger one first (nf_hook_entries_grow). The age of chains in
    different tables isn't told by anything, so that of their tables stands for it.
    """
    found: list[tuple[int, Base]] = []
    for table in firewall.tables:
        here = table.family == layer or (table.family == "inet" and (layer in ("ip", "ip6") or name == "ingress"))
        if table.dormant or not here:
            continue
        for chain in sorted(table.chains, key=lambda one: one.handle):
            if chain.hook == name and (not device or device in chain.devices):
                found.append((chain.priority, (table, chain)))
    found.reverse()
    found.sort(key=lambda one: one[0])
    return [base for _, base in found]


def hook(
    firewall: Firewall,
    name: str,
    packet: Packet,
    around: Surroundings,
    *,
    layer: str = "",
    device: str = "",
    priorities: tuple[int, int] = EVERY,
) -> Outcome:
    """Lead a packet through all base chains at a hook.

    name: ``prerouting``, ``input``, ``forward``, ``output``, ``postrouting``, ``ingress``, ``egress``.
    layer: the packet's own family by default; ``bridge``, ``arp`` or ``netdev`` for those hooks; device: for the last.
    priorities: only chains from the first to the last of them.
    conntrack's and NAT's own work is done at their priorities: after prerouting a packet is tracked, and a rewrite
    decided now or known from its `Ct` has been carried out.
    """
    layer = layer or packet.family
    first, last = priorities
    bases = [base for base in base_chains(firewall, name, layer, device) if first <= base[1].priority <= last]
    stations = _stations(bases, name, ip=layer in ("ip", "ip6"), tracks=layer in firewall.tracks)
    at = _Hook(firewall, name, around)
    ways = [End("accept", packet, None)]
    for station in stations:
        ways = at.pass_on(ways, station)
    return at.outcome(ways)


def _stations(bases: list[Base], name: str, *, ip: bool, tracks: bool) -> list[Station]:
    """Chains one by one, those of type nat together where the NAT core stands, and conntrack among them."""
    nat = [base for base in bases if ip and base[1].kind == "nat"]
    found: list[tuple[int, int, Station]] = [
        (base[1].priority, 1, base) for base in bases if not (ip and base[1].kind == "nat")
    ]
    if tracks and name in ("prerouting", "output"):
        found.append((_CONNTRACK, 0, "conntrack"))
    if tracks and name in _NAT_AT:
        found.append((_NAT_AT[name], 0, nat))
    found.sort(key=lambda one: one[:2])
    return [station for _, _, station in found]


class _Hook:
    """The ways of a packet through one hook."""

    def __init__(self, firewall: Firewall, name: str, around: Surroundings) -> None:
        self.firewall = firewall
        self.name = name
        self.around = around
        self.walks: list[Walk] = []

    def pass_on(self, ways: list[End], station: Station) -> list[End]:
        """Take every way that is still alive through the next station."""
        after: list[End] = []
        for way in ways:
            if way.verdict != "accept":
                after.append(way)
            elif station == "conntrack":
                after.append(End("accept", tracked(way.packet), way.passed))
            elif isinstance(station, list):
                after += self._nat(station, way)
            else:
                after += self._chain(station, way)  # type: ignore[arg-type]
        return _distinct(after)

    def _chain(self, base: Base, way: End) -> list[End]:
        walk = Walk(*base, self.firewall.contents, self.around)
        ends = walk.run(way.packet, way.passed)
        self.walks.append(walk)
        return ends

    def _nat(self, bases: list[Base], way: End) -> list[End]:
        """Ask the chains of type nat about a connection's first packet, until one decides; then rewrite.

        Every later packet of a connection is rewritten as the first one was.
        """
        kind = _NAT_KIND[self.name]
        ways = [way]
        if way.packet.ct.state in ("new", "related") and kind not in way.packet.ct.settled and way.packet.tracked:
            for base in bases:
                after: list[End] = []
                for one in ways:
                    going = one.verdict == "accept" and kind not in one.packet.ct.settled
                    after += self._chain(base, one) if going else [one]
                ways = _distinct(after)
            return [
                End(one.verdict, settled(one.packet, kind), one.passed, one.said) if one.verdict == "accept" else one
                for one in ways
            ]
        return [End("accept", translated(way.packet, self.name), way.passed)]

    def outcome(self, ends: list[End]) -> Outcome:
        """What is said of it all."""
        ways = tuple(
            Way(end.verdict, end.packet, tuple(self._met(one) for one in end.passed.listed()) if end.passed else (),
                end.said)
            for end in ends
        )  # fmt: skip
        verdicts = {way.verdict for way in ways}
        opaque = {
            f"{walk.table.family} {walk.table.name} {chain.name}: {self._text(rule, chain, walk.table)}": None
            for walk in self.walks
            for _, rule, chain in walk.doubtful
        }
        assumed = {said: None for walk in self.walks for said in walk.assumed.values()}
        first = ways[0]
        verdict = first.verdict if len(verdicts) == 1 else "open"
        return Outcome(verdict, first.packet, first.met, ways, tuple(opaque), tuple(assumed), first.said)

    def _text(self, rule: SeenRule, chain: SeenChain, table: SeenTable) -> str:
        return rule_words(rule, chain, table, self.firewall.contents)

    def _met(self, passed: Passed) -> Met:
        rule, chain, table, base = passed.place
        place = (table.family, table.name, chain.name, base.hook, base.priority)
        did = (passed.verdict, passed.before, passed.after)
        if rule is None:
            owner = owner_of(table.family, table.name, chain.name, "", table.backend)
            return Met(*place, -1, 0, f"policy {passed.verdict}", *did, "", owner, table.backend)
        owner = owner_of(table.family, table.name, chain.name, rule.why, table.backend)
        text = self._text(rule, chain, table)
        return Met(*place, rule.index, rule.handle, text, *did, rule.why, owner, table.backend, passed.doubt)


def _distinct(ends: list[End]) -> list[End]:
    """Ways that end alike, with the same packet, are one: the first, or rather one without doubts."""
    found: dict[tuple[str, Packet], End] = {}
    for end in ends:
        found.setdefault((end.verdict, end.packet), end)
    return list(found.values())
