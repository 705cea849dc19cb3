"""From our table to chains of iptables, rule by rule. See iptables.py for how they hang together."""

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
    Reject,
    Return,
    SetMarkBits,
    Snat,
    Vmap,
)
from nsbridge.firewall.iptables import (
    FIELDS,
    KIND,
    PREFIX,
    REFUSED_BIT,
    Chained,
    Hooked,
    Lowered,
    Slot,
    Standing,
    cut,
    protocol,
)
from nsbridge.model.names import MARK_BIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from nsbridge.firewall.expressions import Expression
    from nsbridge.firewall.iptables import Words
    from nsbridge.firewall.ruleset import Chain, Rule, Table

    Condition: TypeAlias = InSet | Vmap | Dnat | Snat

_PLACES = {
    ("filter", "prerouting"): ("raw", "PREROUTING"),
    ("nat", "prerouting"): ("nat", "PREROUTING"),
    ("nat", "output"): ("nat", "OUTPUT"),
    ("filter", "input"): ("mangle", "INPUT"),
    ("filter", "forward"): ("mangle", "FORWARD"),
    ("nat", "postrouting"): ("nat", "POSTROUTING"),
}

_VERDICTS = ("allow", "allow_log", "deny", "deny_log", "refuse", "refuse_log")


# ------------------------------------------------------------------ what rules ask


def _wanted(rule: Rule, version: int) -> bool:
    """Tell whether a rule can hold for packets of this family."""
    other = "ip6" if version == 4 else "ip"
    for one in rule.expressions:
        names = (one.field,) if isinstance(one, Match) else getattr(one, "fields", ())
        if any(name.partition(" ")[0] == other for name in names) or getattr(one, "family", "") == other:
            return False
        if isinstance(one, Match) and not one.negate:
            if one.field == "nfproto" and one.value != f"ipv{version}":
                return False
            if one.field == "l4proto" and one.value == ("icmpv6" if version == 4 else "icmp"):
                return False
    return True


def _match(one: Match | Limit) -> Words:
    if isinstance(one, Limit):
        return ("-m", "limit", "--limit", f"{one.rate}/sec", "--limit-burst", str(one.burst))
    no, value = ("!",) if one.negate else (), one.value
    if one.field in FIELDS:
        return (*no, FIELDS[one.field], str(value))
    if one.field == "l4proto":
        return (*no, *protocol(value))
    if one.field in ("ct state", "ct status"):
        return ("-m", "conntrack", *no, "--ctstate", ",".join(value).upper())
    if one.field == "mark":
        mask, wanted = value
        return ("-m", "mark", *no, "--mark", f"{wanted:#x}/{mask:#x}")
    if one.field == "fib daddr type":
        return ("-m", "addrtype", *no, "--dst-type", value.upper())
    if one.field == "nfproto":
        return ()
    raise ValueError(f"iptables has no words for {one!r}")


def _matches(expressions: Sequence[Expression]) -> Words:
    return sum([_match(one) for one in expressions if isinstance(one, Match | Limit)], ())


def _parts(rule: Rule) -> tuple[list[Condition], list[Expression]]:
    """Cut a rule into what asks a set or a map, and the rest. An interface's kind is asked of a set of ours."""
    asked: list[Condition] = []
    plain: list[Expression] = []
    for one in rule.expressions:
        if isinstance(one, InSet | Vmap | Dnat | Snat):
            asked.append(one)
        elif isinstance(one, Match) and one.field in ("iifkind", "oifkind"):
            asked.append(InSet(("iifname" if one.field == "iifkind" else "oifname",), KIND.name, one.negate))
        else:
            plain.append(one)
    return asked, plain


def _target(one: Expression) -> Words:
    """What an expression does; nothing for one that iptables does by itself."""
    match one:
        case SetMarkBits(bits):
            return ("-j", "MARK", "--set-xmark", f"{bits:#x}/{bits:#x}")
        case Reject():
            return ("-j", "MARK", "--set-xmark", f"{REFUSED_BIT:#x}/{REFUSED_BIT:#x}")
        case Log(prefix):
            return ("-j", "LOG", "--log-prefix", prefix)
        case Goto(chain):
            return ("-g", PREFIX + chain)
        case Jump(chain):
            return ("-j", PREFIX + chain)
        case Accept() | Return():
            return ("-j", "RETURN")
        case Drop():
            return ("-j", "DROP")
        case Masquerade():
            return ("-j", "MASQUERADE")
        case Counter():
            return ()
    raise ValueError(f"iptables has no words for {one!r}")


# ------------------------------------------------------------------ chains


class _Draft:
    """A chain being written."""

    def __init__(self, table: str, name: str) -> None:
        self.table, self.name = table, name
        self.slot: Slot | None = None
        self.fixed: list[Standing] = []

    def add(self, matches: Words, target: Words, why: str = "") -> None:
        self.fixed.append(Standing(matches, target, cut(why)))

    @property
    def over(self) -> bool:
        """Whether nothing gets past its last rule."""
        last = self.fixed[-1] if self.fixed else None
        return last is not None and not last.matches and (last.target[0] == "-g" or last.target[1] in _FINAL)


_FINAL = ("DROP", "RETURN", "ACCEPT")
_BACK = ("-j", "RETURN")
DECIDED = ("-m", "mark", "!", "--mark", f"0x0/{MARK_BIT | REFUSED_BIT:#x}")


class _Lowering:
    """One table and family under way.

    A rule that asks sets is called (``-j``) where what it decides is final or leaves a mark by which the caller knows
    of it; otherwise a packet goes there for good (``-g``) and goes on from there. Always the latter would be simpler,
    but nf_tables follows 16 chains in a row and no more (NFT_JUMP_STACK_SIZE), gotos included.
    """

    def __init__(self, table: Table, version: int) -> None:
        self.version = version
        self.sets = {one.name: one for one in table.sets} | {KIND.name: KIND}
        self.source = {one.name: one for one in table.chains}
        self.drafts: dict[str, _Draft] = {}
        self.hooks: list[Hooked] = []
        self.rejects = False

    def open(self, table: str, name: str) -> _Draft:
        draft = self.drafts[name] = _Draft(table, name)
        return draft

    def base(self, chain: Chain) -> None:
        table, builtin = _PLACES[chain.kind, chain.hook]
        self.hooks.append(Hooked(table, builtin, PREFIX + chain.name, chain.why))
        self.chain(chain, table)

    def chain(self, chain: Chain, table: str) -> None:
        """Write a chain and those it leads to."""
        name = PREFIX + chain.name
        rules = [(place, one) for place, one in enumerate(chain.rules, 1) if _wanted(one, self.version)]
        draft = self.open(table, name)
        if chain.hook and any(self._leaves_mark(one) for _, one in rules):
            draft.add(DECIDED, ("-j", "MARK", "--set-xmark", f"0x0/{MARK_BIT | REFUSED_BIT:#x}"), "undecided yet")
        for at, (place, rule) in enumerate(rules):
            asked, plain = _parts(rule)
            marks = self._leaves_mark(rule)
            if not asked:
                self._plain(draft, plain, rule.why)
            elif marks or self._is_final(rule):
                draft.add(_matches(plain), ("-j", f"{name}-{place}"))
                self._asking(self.open(table, f"{name}-{place}"), asked, plain, rule.why, ())
            else:
                if draft.fixed or draft.slot:
                    if not draft.over:
                        draft.add((), ("-g", f"{name}-{place}"))
                    draft = self.open(table, f"{name}-{place}")
                on: Words = ("-g", f"{name}-{rules[at + 1][0]}") if at + 1 < len(rules) else ()
                self._asking(draft, asked, plain, rule.why, on)
                if on:
                    draft = self.open(table, on[1])
            if marks and at + 1 < len(rules):
                draft.add(DECIDED, _BACK)

    def _is_final(self, rule: Rule) -> bool:
        """Tell whether a packet for which the rule holds comes back to none of our chains."""
        return isinstance(rule.expressions[-1], Drop | Masquerade | Dnat | Snat)

    def _leaves_mark(self, rule: Rule) -> bool:
        """Tell whether a packet may come back from the rule, decided, and its mark says so."""
        last = rule.expressions[-1]
        if isinstance(last, Vmap):
            return True
        if isinstance(last, Jump):
            return any(map(self._leaves_mark, self.source[last.chain].rules))
        return isinstance(last, Goto) and bool(_parts(rule)[0]) and self._always_marks(last.chain)

    def _always_marks(self, name: str) -> bool:
        """Tell whether whatever gets into a chain is dropped or marked."""
        last = self.source[name].rules[-1]
        if _parts(last)[0] or _matches(last.expressions):
            return False
        end = last.expressions[-1]
        if isinstance(end, Goto):
            return self._always_marks(end.chain)
        marks = any(isinstance(one, SetMarkBits) for one in last.expressions)
        return len(self.source[name].rules) == 1 and (isinstance(end, Drop | Reject) or marks)

    def _plain(self, draft: _Draft, expressions: Sequence[Expression], why: str) -> None:
        matches = _matches(expressions)
        for one in expressions:
            if not isinstance(one, Match | Limit) and (target := _target(one)):
                draft.add(matches, target, why)
                self._follow(one, draft.table)
                if isinstance(one, Reject):
                    draft.add(matches, _BACK)

    def _follow(self, one: Expression, table: str) -> None:
        """See to the chain that something leads to."""
        self.rejects = self.rejects or isinstance(one, Reject)
        if isinstance(one, Goto | Jump) and PREFIX + one.chain not in self.drafts:
            self.chain(self.source[one.chain], table)

    def _asking(self, draft: _Draft, asked: list[Condition], plain: Sequence[Expression], why: str, on: Words) -> None:
        """A rule that asks sets, or takes its verdict from a map: a chain for each of them.

        on: where a packet goes on for which it doesn't hold; () for back to the caller, who asks for matches, too.
        """
        past = on or _BACK
        actions = [one for one in plain if not isinstance(one, Match | Limit | Counter)]
        for number, one in enumerate(asked):
            last = number + 1 == len(asked)
            further: Words = () if last else ("-g", f"{draft.name}{'bc'[number]}")
            more = _matches(plain) if last and on else ()
            if not isinstance(one, InSet):
                draft.slot = Slot(self.sets[one.name], one.fields, more, (), _by_data(one), past, cut(why))
                for verdict in _VERDICTS if isinstance(one, Vmap) else ():
                    self._follow(Goto(verdict), draft.table)
            elif one.negate:
                draft.slot = Slot(self.sets[one.name], one.fields, (), past, "", past)
                draft.add(more, further or self._action(draft, actions), why if last else "")
            else:
                then = further or self._action(draft, actions)
                draft.slot = Slot(self.sets[one.name], one.fields, more, then, "", past, cut(why if last else ""))
            if on and not draft.over:
                draft.add((), on)
            if not last:
                draft = self.open(draft.table, further[1])

    def _action(self, draft: _Draft, actions: Sequence[Expression]) -> Words:
        """What a rule does, in one target."""
        (one,) = actions
        self._follow(one, draft.table)
        return _target(one)

    def refusing(self) -> None:
        """Add what rejects: in filter, and a drop behind it for what somebody accepted before us there."""
        asks = ("-m", "mark", "--mark", f"{REFUSED_BIT:#x}/{REFUSED_BIT:#x}")
        for name, verdict, places in (
            ("rejected", "REJECT", (("filter", "FORWARD"), ("filter", "INPUT"))),
            ("unrejected", "DROP", (("mangle", "POSTROUTING"), ("security", "INPUT"))),
        ):
            for table, builtin in places:
                chain = f"{PREFIX}{name}" if builtin != "INPUT" else f"{PREFIX}{name}_in"
                self.open(table, chain).add(asks, ("-j", verdict), "denied, and the sender is told")
                self.hooks.append(Hooked(table, builtin, chain, "what a policy rejects"))


def _by_data(one: Condition) -> str:
    return "verdict" if isinstance(one, Vmap) else "dnat" if isinstance(one, Dnat) else "snat"


def lower(table: Table, version: int) -> Lowered:
    """Return the table's chains for one family. ValueError for what iptables has no words for."""
    work = _Lowering(table, version)
    for chain in table.chains:
        if chain.hook:
            work.base(chain)
    if work.rejects:
        work.refusing()
    chains = tuple([Chained(one.table, one.name, one.slot, tuple(one.fixed)) for one in work.drafts.values()])
    return Lowered(version, chains, tuple(work.hooks), tuple(work.sets.values()))
