"""The way of one packet, stage by stage, there and back: the values, and the walk that the stages make.

A stage is a function of the walk: it looks at one thing (a route, a hook, a bridge port …), writes down what it does to
the packet, and returns the stage that follows, or none when the way ends there. Sending begins in sending.py, what a
link carries away goes on in crossing.py and bridging.py, what arrives in receiving.py. When the packet is delivered,
its answer is sent off the same way; each namespace remembers the connection as its conntrack would, so rewrites are
undone where, and only where, the answer comes by again.
"""

from __future__ import annotations

from nsbridge.firewall.packet import Ct, Flow
from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from nsbridge.explain.world import Space, World
    from nsbridge.firewall.evaluate import Met
    from nsbridge.firewall.packet import Packet
    from nsbridge.state.things import Address_

    Stage: TypeAlias = "Callable[[Walk], Stage | None]"

LONGEST = 200
"""Stages after which a packet goes round in circles."""

_SWITCHED = ("rule", "sysctl", "bridge", "link")
"""Kinds of trouble that are to blame themselves, even where a rule of somebody else's led to them."""

ARRIVES, REFUSED, DROPPED, LOST, LEFT, UNSENT, UNKNOWN = (
    "delivered",
    "refused",
    "dropped",
    "lost",
    "left",
    "unsent",
    "unknown",
)
"""Fates: `refused` tells the sender, `dropped` doesn't; `lost`: nobody is there to take it; `left`: out of what can be
read from here; `unsent`: the sender's own kernel says no; `unknown`: something on the way can't be read."""


class Hop(Value):
    """One thing the packet met.

    netns: path, "" for the host. verdict: ``pass``, ``drop``, ``dnat to 10.0.0.2:80`` and so on. packet: as it was
    afterwards.
    """

    netns: str
    stage: str
    thing: str
    verdict: str
    why: str
    packet: Packet


class Passing(Value):
    """A hook it came to, and every rule that applied to it there, those that only lead to others too.

    layer: ``ip``, ``ip6``, ``bridge`` or ``netdev``. at: the place, among the hops, of the first that it makes.
    packet: as it came.
    """

    netns: str
    hook: str
    layer: str
    met: tuple[Met, ...]
    at: int
    packet: Packet


class Culprit(Value):
    """Why it doesn't arrive.

    kind: ``rule``, ``sysctl``, ``route``, ``link``, ``listener``, ``port`` and so on. thing: as its tool writes it.
    fix: commands that mend it, to be run as they stand, by root on the host. advice: what to do where no command can.
    """

    kind: str
    netns: str
    thing: str
    why: str
    fix: tuple[str, ...] = ()
    advice: str = ""


class Question(Value):
    """What is asked: a packet and where it starts. link: by which it comes in, for one that comes from outside.

    start: "" for the host, None for somewhere that isn't seen.
    """

    start: str | None
    packet: Packet
    link: str = ""


class Leg(Value):
    """One direction. fate: see above. netns: where it ended; packet: as it was there. to: who took it, in words.

    passings: the hooks it came to, in order.
    """

    fate: str
    hops: tuple[Hop, ...]
    netns: str
    packet: Packet
    to: str = ""
    said: str = ""
    passings: tuple[Passing, ...] = ()


class Path(Value):
    """What becomes of a packet, and of its answer if it is delivered.

    doubt: something opaque leaves its fate open. opaque: what couldn't be evaluated; assumed: budgets taken as unspent,
    and the like; notes: what is worth knowing though it arrives. then: what follows the first packet of a TCP
    connection and its answer, if it doesn't get where that one did.
    """

    question: Question
    out: Leg
    back: Leg | None = None
    culprit: Culprit | None = None
    opaque: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    doubt: bool = False
    then: Leg | None = None

    @property
    def fate(self) -> str:
        """``answered`` when the answer comes back, else what becomes of the packet, ``no answer`` if that is lost."""
        if self.out.fate != ARRIVES:
            return self.out.fate
        if self.back is None or self.back.fate in (ARRIVES, LEFT):
            return "answered" if self.then is None else "no answer"
        return UNKNOWN if self.back.fate == UNKNOWN else "no answer"

    @property
    def arrives(self) -> bool | None:
        """Whether a connection comes about; None when nobody can say, or when it left what can be seen."""
        if self.doubt:
            return None
        return {"answered": True, LEFT: None, UNKNOWN: None}.get(self.fate, False)


class Tracked(Value):
    """A connection as the conntrack of one namespace keeps it."""

    origin: Flow
    answer: Flow
    status: tuple[str, ...]
    mark: int | None


def flow(packet: Packet) -> Flow:
    """The tuple of a packet; of an echo its id and type."""
    if packet.icmp_type is not None:
        return Flow(packet.saddr, packet.daddr, packet.sport, packet.icmp_type)
    return Flow(packet.saddr, packet.daddr, packet.sport, packet.dport)


ECHO = {8: 0, 0: 8, 128: 129, 129: 128}
"""Types of echo requests and replies, each with the other one."""


def _turned(one: Flow, echo: bool) -> Flow:
    if echo:
        return Flow(one.daddr, one.saddr, one.sport, ECHO.get(one.dport or 0, one.dport))
    return Flow(one.daddr, one.saddr, one.dport, one.sport)


def answer_to(packet: Packet) -> Packet:
    """The packet that answers this one, as its receiver sends it."""
    turned = packet.replace(
        saddr=packet.daddr,
        daddr=packet.saddr,
        sport=packet.dport,
        dport=packet.sport,
        ct=Ct(),
        tracked=False,
        iif="",
        oif="",
        iif_port="",
        oif_port="",
        ether_saddr="",
        ether_daddr="",
        mark=0,
        ttl=None,
        local=True,
        uid=None,
        gid=None,
    )
    if packet.icmp_type is not None:
        return turned.replace(sport=packet.sport, dport=packet.dport, icmp_type=ECHO.get(packet.icmp_type, 0))
    return turned.replace(flags=("syn", "ack")) if packet.proto == "tcp" else turned


class Walk:
    """A packet on its way: where it is, what it met, and what the namespaces it passed remember of it."""

    def __init__(self, world: World, question: Question) -> None:
        self.world = world
        self.question = question
        self.packet = question.packet
        self.netns = question.start or ""
        self.back = False
        self.again = False
        self.hops: list[Hop] = []
        self.passings: list[Passing] = []
        self.known: dict[str, list[Tracked]] = {}
        self.entered: Flow | None = None
        self.fate = ""
        self.to = ""
        self.said = ""
        self.culprit: Culprit | None = None
        self.opaque: dict[str, None] = {}
        self.assumed: dict[str, None] = {}
        self.notes: dict[str, None] = {}
        self.doubt = False
        self.bridged: tuple[str, str] = ("", "")
        self.ip_seen = False
        self.gateway: Address_ | None = None
        self.station: tuple[str, str] = ("", "")
        self.rewriter: Culprit | None = None
        self.shortener: Culprit | None = None
        self.strayed: Culprit | None = None
        self.stolen = ""
        self.scope = ""
        self.taught: dict[tuple[str, str, Address_], str] = {}
        self.many = False

    @property
    def space(self) -> Space:
        """The namespace it is in."""
        found = self.world.space(self.netns)
        if found is None:
            raise LookupError(f"the namespace {self.netns} can't be read")
        return found

    @property
    def version(self) -> int:
        """4 or 6."""
        return self.packet.daddr.version

    def setting(self, key: str, default: int = 0) -> int:
        """A setting of the namespace it is in."""
        return self.world.number(self.netns, key, default)

    def hop(self, stage: str, thing: str, verdict: str = "pass", why: str = "") -> None:
        """Write down what it met."""
        self.hops.append(Hop(self.netns, stage, thing, verdict, why, self.packet))

    def end(self, fate: str, culprit: Culprit | None = None, *, to: str = "", said: str = "") -> None:
        """The way ends here. Where somebody else's rule sent the packet there, that rule is to blame.

        Unless something on the way is merely switched off: then the rule may well be what was meant. What is for a
        loopback address and has left its namespace is lost wherever it ends.
        """
        from nsbridge.explain.cures import stolen

        if self.strayed is not None and self.packet.daddr.is_loopback and (culprit is not None or fate == LEFT):
            fate, culprit, to, said = LOST if fate == LEFT else fate, self.strayed, "", ""
        if not self.back and culprit is not None and culprit.kind in ("ours", "neighbour"):
            culprit = stolen(self) or culprit
        if self.rewriter is not None and culprit is not None and culprit.kind not in _SWITCHED:
            culprit = self.rewriter.replace(why=f"{self.rewriter.why}: {culprit.why}")
        self.fate = fate
        self.culprit = culprit
        self.to = to
        self.said = said

    def change(self, **fields: object) -> None:
        """Change the packet."""
        self.packet = self.packet.replace(**fields)

    def track(self) -> None:
        """What conntrack will find out about the packet in the namespace it has just come to."""
        self.entered = here = flow(self.packet)
        for one in self.known.get(self.netns, ()):
            if here in (one.origin, one.answer):
                status = tuple(
                    dict.fromkeys((*one.status, "confirmed", *(("seen-reply",) if self.back or self.again else ())))
                )
                back = here == one.answer and here != one.origin
                self.change(ct=Ct("established", status, one.mark, back, one.origin, one.answer, ("snat", "dnat")))
                return
        # An answer whose question didn't come by here belongs to no connection (nf_conntrack_proto_tcp.c, _icmp.c).
        strange = self.back and self.packet.proto in ("tcp", "icmp", "icmpv6")
        self.change(ct=Ct("invalid") if strange else Ct())

    def remember(self) -> None:
        """Conntrack confirms the connection: the packet leaves, or is delivered."""
        ct = self.packet.ct
        there = self.known.setdefault(self.netns, [])
        if ct.state not in ("new", "related") or self.entered is None:
            return
        if any(one.origin == self.entered for one in there):
            return
        last = flow(self.packet)
        answer = _turned(last, self.packet.icmp_type is not None)
        there.append(Tracked(self.entered, answer, ct.status, ct.mark))

    def leg(self) -> Leg:
        """What became of this direction."""
        return Leg(self.fate, tuple(self.hops), self.netns, self.packet, self.to, self.said, tuple(self.passings))

    def run(self, stage: Stage | None) -> Leg:
        """Go on from a stage to the end."""
        count = 0
        while stage is not None:
            count += 1
            if count > LONGEST:
                self.hop("route", "the packet goes round in circles", "drop", "its TTL runs out")
                self.end(DROPPED, Culprit("route", self.netns, "a routing loop", "namespaces send it back and forth"))
                break
            stage = stage(self)
        return self.leg()


def walk(world: World, question: Question) -> Path:
    """Predict what becomes of a packet and of its answer. Reads nothing but what the world shows."""
    from nsbridge.explain.receiving import arrive
    from nsbridge.explain.sending import send

    going = Walk(world, question)
    begin = arrive if question.link else send
    out = going.run(_begun(going, begin))
    back = then = None
    if out.fate == ARRIVES:
        back = _answer(going, send, out)
        if back.fate in (ARRIVES, LEFT) and question.packet.proto == "tcp" and not going.doubt:
            then = _rest(going, begin)
    return Path(
        going.question,
        out,
        back,
        going.culprit,
        tuple(going.opaque),
        tuple(going.assumed),
        tuple(going.notes),
        going.doubt,
        then,
    )


def _begun(going: Walk, begin: Stage) -> Stage:
    """Put the packet where it comes from."""
    if going.question.link:
        going.change(iif=going.question.link)
        going.station = (going.netns, going.space.links[going.question.link].master)
    return begin


def _rest(going: Walk, begin: Stage) -> Leg | None:
    """Follow what comes after the first packet and its answer: rules may treat a known connection otherwise."""
    kept = going.culprit, going.notes.copy(), going.opaque.copy(), going.assumed.copy()
    going.hops, going.passings, going.back, going.fate, going.bridged = [], [], False, "", ("", "")
    going.again, going.scope, going.ip_seen = True, "", False
    going.netns, going.packet = going.question.start or "", going.question.packet.replace(flags=("ack",))
    leg = going.run(_begun(going, begin))
    if leg.fate in (DROPPED, REFUSED) and not going.doubt:
        return leg
    going.culprit, going.notes, going.opaque, going.assumed = kept
    going.doubt = False
    return None


def _answer(going: Walk, send: Stage, out: Leg) -> Leg:
    """Send the answer off where the packet was delivered, and see that it is the one the sender waits for."""
    going.hops, going.passings, going.back, going.fate, going.bridged = [], [], True, "", ("", "")
    going.packet, going.scope = answer_to(out.packet), out.packet.iif
    going.ip_seen = False
    asked = going.question
    leg = going.run(send)
    if leg.fate == LEFT and asked.link and leg.packet.daddr != asked.packet.saddr:
        leg = leg.replace(fate=LOST)
    if leg.fate in (ARRIVES, LEFT) and leg.packet.saddr != asked.packet.daddr:
        why = (
            f"asked was {asked.packet.to}, so the sender doesn't know it: it took another way back, past the conntrack "
            "that would have rewritten it"
        )
        going.culprit = going.rewriter or Culprit(
            "nat",
            leg.netns,
            f"the answer comes from {leg.packet.of}",
            why,
        )
        return leg.replace(fate=LOST)
    return leg
