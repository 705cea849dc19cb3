"""Our chains of iptables as a person would write them: no chain of an empty set, no detour, and the same fate.

What the backend writes (iptables_lower.py) is made for change: each rule that asks a set has a chain, so that an
element can come and go alone. A lesson knows all elements at once. So chains that hold nothing go, with the rules that
lead to them; a chain that is called once is written where it is called; what no packet gets to is left out. Each of
these steps changes no packet's way (`_Shortening`); a test sends packets along every path through what they come to.

Two facts are used again and again. The end of a chain is a RETURN. And a packet that our mark says is decided goes no
further in a chain (`DECIDED`): a rule that makes sure of that is needed only where something before it could mark.
"""

from __future__ import annotations

from nsbridge.firewall import iptables as words
from nsbridge.firewall import iptables_read as text
from nsbridge.firewall.iptables import KIND, REFUSED_BIT
from nsbridge.firewall.iptables_lower import DECIDED, lower
from nsbridge.firewall.ruleset import Element
from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsbridge.firewall.iptables import Hooked, Lowered, Placed, Words
    from nsbridge.firewall.ruleset import Table

_FINAL = frozenset(("RETURN", "DROP", "REJECT", "DNAT", "SNAT", "MASQUERADE"))
"""Targets after which a packet comes to no further rule of its chain."""

_RETURN = ("-j", "RETURN")
_REFUSED = f"{REFUSED_BIT:#x}/{REFUSED_BIT:#x}"


class Line(Value):
    """A rule of a chain. of: for what comes last (a published port), the element that it is there for."""

    matches: Words
    target: Words
    why: str = ""
    of: Element | None = None

    @property
    def words(self) -> Words:
        """All of it, after ``-A CHAIN``."""
        return (*self.matches, *self.target)

    @property
    def leaves(self) -> bool:
        """Whether a packet that it is about meets no further rule of the chain."""
        return self.target[0] == "-g" or self.target[1] in _FINAL

    @property
    def decides(self) -> bool:
        """Whether it sends back what is decided."""
        return self.matches == DECIDED and self.target == _RETURN


class Short(Value):
    """Our chains in one family: (name, table, rules) in the order in which a packet gets to them, and who calls us."""

    version: int
    chains: tuple[tuple[str, str, tuple[Line, ...]], ...]
    hooks: tuple[Hooked, ...]

    def below(self, name: str) -> frozenset[str]:
        """Return the names of the chains that a packet may get to from one of them, that one too."""
        lines = {each: found for each, _, found in self.chains}
        found, new = {name}, {name}
        while new:
            new = {line.target[1] for one in new for line in lines[one] if line.target[1] in lines} - found
            found |= new
        return frozenset(found)


def short(
    table: Table, elements: Iterable[Element], late: Iterable[Element], version: int, bridges: Iterable[str] = ()
) -> Short:
    """Return what a table and all its elements come to.

    late: elements that come when everything else stands; their rules are told apart. bridges: those of others on the
    host, by name.
    """
    lowered = lower(table, version)
    kinds = [Element((table.family, table.name), KIND.name, (name,)) for name in bridges]
    late = tuple(late)
    work = _Shortening(lowered, _lines(lowered, (*kinds, *elements, *late), frozenset(late)))
    work.run()
    tables = {chain.name: chain.table for chain in lowered.chains}
    names = _counted(work.reachable())
    chains = [(names[name], tables[name], _renamed(work.chains[name], names)) for name in names]
    return Short(version, tuple(chains), tuple([one for one in lowered.hooks if work.chains[one.chain]]))


def _counted(names: Iterable[str]) -> dict[str, str]:
    """New names for chains that are called after a rule of another one: from 2 on, as they come."""
    found: dict[str, str] = {}
    for name in names:
        start, dash, number = name.rpartition("-")
        numbered = bool(dash) and number[:1].isdigit()
        taken = sum(one.startswith(f"{start}-") and one[len(start) + 1 :].isdigit() for one in found.values())
        found[name] = f"{start}-{taken + 2}" if numbered else name
    return found


def _renamed(lines: Iterable[Line], names: dict[str, str]) -> tuple[Line, ...]:
    found = []
    for line in lines:
        verb, name, *rest = line.target
        found.append(line.replace(target=(verb, names.get(name, name), *rest)))
    return tuple(found)


def _lines(lowered: Lowered, elements: Iterable[Element], late: frozenset[Element]) -> dict[str, list[Line]]:
    """All rules of all chains: those of elements first, as the backend has them."""
    found: dict[str, list[Line]] = {chain.name: [] for chain in lowered.chains}
    groups: dict[tuple[str, str], list[Element]] = {}
    for element in elements:
        if text.is_turn(element.set):
            groups.setdefault(text.place_of(element), []).append(element)
            continue
        for rule in words.placed(lowered, element):
            found[rule.chain].append(_line(rule, element, late))
    for group in groups.values():
        for rule in words.turns(lowered, group):
            found[rule.chain].append(_line(rule, group[0], late))
    for chain in lowered.chains:
        found[chain.name] += [Line(fixed.matches, fixed.target, fixed.why) for fixed in chain.fixed]
    return found


def _line(rule: Placed, element: Element, late: frozenset[Element]) -> Line:
    """The rule without its comment, whose reason is the set's, or else the element's."""
    at = rule.words.index("--comment")
    reason = rule.comment.partition("; ")[2] or element.why
    return Line(rule.words[: at - 2], rule.words[at + 2 :], reason, element if element in late else None)


class _Shortening:
    """Chains that become fewer and shorter, step by step, until no step changes anything."""

    def __init__(self, lowered: Lowered, chains: dict[str, list[Line]]) -> None:
        self.chains = chains
        self.hooks = [hook.chain for hook in lowered.hooks]
        # A chain that drops what is forwarded may have a rule that looks for the mark (`ForeignAccept`).
        self.local = [hook.chain for hook in lowered.hooks if hook.builtin != "FORWARD"]

    def run(self) -> None:
        before: dict[str, tuple[Line, ...]] = {}
        while before != (before := {name: tuple(lines) for name, lines in self.chains.items()}):
            clean = self._entered_clean()
            for name in self.chains:
                self.chains[name] = self._trimmed(self._called(name), clean=clean[name])
            self._unmarked()
        if not any(_REFUSED in line.matches for name in self.reachable() for line in self.chains[name]):
            for name in self.local:  # with no mark left to look at, none has to be taken off
                if not any("MARK" in line.target or "--mark" in line.matches for line in self._below(name)[1:]):
                    self.chains[name] = [line for line in self.chains[name] if "MARK" not in line.target]

    # -------------------------------------------------------------- questions

    def reachable(self) -> list[str]:
        """Return the chains a packet can get to, each before those that it leads to."""
        found: list[str] = []
        for hook in self.hooks:
            self._walk(hook, found)
        return [name for name in found if self.chains[name]]

    def _walk(self, name: str, found: list[str]) -> None:
        if name not in found:
            found.append(name)
            for line in self.chains[name]:
                if line.target[1] in self.chains:
                    self._walk(line.target[1], found)

    def _below(self, name: str) -> list[Line]:
        found: list[str] = []
        self._walk(name, found)
        return [line for one in found for line in self.chains[one]]

    def _uses(self, name: str) -> int:
        lines = [line for one in self.reachable() for line in self.chains[one]]
        return sum(line.target[1] == name for line in lines) + self.hooks.count(name)

    def _may_mark(self, line: Line) -> bool:
        """Whether a packet may come back from this rule with a mark of ours."""
        if line.leaves:
            return False
        target = line.target[1]
        return target == "MARK" or (target in self.chains and any("MARK" in one.target for one in self._below(target)))

    def _always_marks(self, name: str) -> bool:
        """Whether who gets into a chain is marked or dropped."""
        lines = self.chains.get(name)
        if not lines or any(line.target == _RETURN for line in lines) or lines[-1].matches:
            return False
        target = lines[-1].target
        marks = target[1] == "MARK" and not target[-1].startswith("0x0/")
        return marks or target[1] == "DROP" or (target[0] == "-g" and self._always_marks(target[1]))

    def _clean_after(self, line: Line, *, clean: bool) -> bool:
        """Whether a packet that goes on after a rule has no mark of ours. clean: the same before it."""
        return line.decides or line.target[-1].startswith("0x0/") or (clean and not self._may_mark(line))

    def _entered_clean(self) -> dict[str, bool]:
        """Tell which chains no packet with a mark of ours gets into: all, until a call says otherwise."""
        found = dict.fromkeys(self.chains, True) | dict.fromkeys(self.hooks, False)
        before: dict[str, bool] = {}
        while before != found:
            before = dict(found)
            for name in self.reachable():
                clean = found[name]
                for line in self.chains[name]:
                    if line.target[1] in found:
                        found[line.target[1]] &= clean
                    clean = self._clean_after(line, clean=clean)
        return found

    # -------------------------------------------------------------- steps

    def _trimmed(self, lines: list[Line], *, clean: bool) -> list[Line]:
        """Without what comes after the end, without a RETURN at the end, and without needless looks at the mark."""
        kept: list[Line] = []
        for line in lines:
            if not (line.decides and clean):
                kept.append(line)
            clean = self._clean_after(line, clean=clean)
            if line.leaves and not line.matches:
                break
        while kept and kept[-1].target == _RETURN:
            kept.pop()
        return kept

    def _called(self, name: str) -> list[Line]:
        """A chain's rules, with those of other chains in place of calls where that is the same."""
        lines = self.chains[name]
        found: list[Line] = []
        for place, line in enumerate(lines):
            inner = self.chains.get(line.target[1])
            last = place + 1 == len(lines)
            if inner is None:
                found.append(line)
            elif not inner:
                found += [line.replace(target=_RETURN)] if line.target[0] == "-g" else []
            else:
                decided = not last and lines[place + 1].decides
                found += self._instead(line, inner, last=last, decided=decided) or [line]
        return found

    def _instead(self, call: Line, inner: list[Line], *, last: bool, decided: bool) -> list[Line]:
        """What can stand for a call, nothing if only the call can. decided: what is marked goes no further after it."""
        goes, once = call.target[0] == "-g", self._uses(call.target[1]) == 1
        if not goes and decided and self._always_marks(call.target[1]):
            return [call.replace(target=("-g", call.target[1]))]
        if len(inner) == 1 and not inner[0].matches:
            return self._single(call, inner[0])
        if not once:
            return []
        if last and not call.matches:
            return inner
        if goes and not last:
            return []
        if call.matches and (len(inner) > 1 or not _can_be_one(call, inner[0])):
            return []
        return self._inside(call, inner, goes=goes, decided=decided)

    def _single(self, call: Line, only: Line) -> list[Line]:
        """For a chain that does one thing, whatever the packet."""
        target = only.target
        if target[1] in ("MARK", "LOG") or target == _RETURN or only.of is not call.of:
            return []
        if target[1] in self.chains:
            target = (call.target[0], target[1])
        return [call.replace(target=target, why=only.why or call.why)]

    def _inside(self, call: Line, inner: list[Line], *, goes: bool, decided: bool) -> list[Line]:
        """The rules of a chain that comes back to where it was called from, written there."""
        found = []
        for place, line in enumerate(inner):
            target = line.target
            if target == _RETURN:
                return []
            if target[0] == "-g" and not goes and not (decided and self._always_marks(target[1])):
                if place + 1 < len(inner):
                    return []
                target = ("-j", target[1])
            found.append(line.replace(matches=(*call.matches, *line.matches), target=target, why=line.why or call.why))
        return found

    def _unmarked(self) -> None:
        """Leave out what waits for what is to be rejected, where nothing is."""
        lines = [line for name in self.reachable() for line in self.chains[name]]
        if not any(line.target[-1] == _REFUSED for line in lines):
            for name, have in self.chains.items():
                self.chains[name] = [line for line in have if _REFUSED not in line.matches]


def _can_be_one(call: Line, inner: Line) -> bool:
    """Whether one rule can ask what both ask: nothing is asked twice."""
    asked = [{word for word in line.matches if word.startswith("-") or word in _MODULES} for line in (call, inner)]
    return not asked[0] & asked[1] - {"-m"}


_MODULES = frozenset(("conntrack", "addrtype", "mark", "limit", "statistic", "tcp", "udp", "sctp"))
