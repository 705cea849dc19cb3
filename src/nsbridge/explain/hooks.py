"""A hook of the namespace a packet is in: the rules it meets there, written down as hops."""

from __future__ import annotations

from nsbridge.explain import cures
from nsbridge.explain.around import Around
from nsbridge.explain.path import DROPPED, REFUSED, UNKNOWN, Culprit, Passing
from nsbridge.firewall.evaluate import EVERY, hook
from nsbridge.model.names import TABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsbridge.explain.path import Walk
    from nsbridge.firewall.evaluate import Met, Outcome
    from nsbridge.firewall.packet import Packet

_DISCOVERY = (135, 136)  # types of ICMPv6

_QUIET = ("continue", "jump", "goto", "return")
_ELSEWHERE = ("dnat to", "redirect")
_HOPS_LEFT = ("ttl", "hoplimit", "-j hl")


def present(walk: Walk, name: str, family: tuple[str, ...]) -> bool:
    """Tell whether the namespace has a base chain at that hook in a table of one of these families."""
    found = walk.world.firewall(walk.netns)
    return any(
        chain.hook == name for table in found.tables if table.family in family for chain in table.chains if chain.hook
    )


def discovers(packet: Packet) -> bool:
    """Tell whether a packet asks for a neighbour's MAC, or answers: it isn't the one whose way is told, then."""
    return packet.family == "arp" or packet.icmp_type in _DISCOVERY


def loud(met: Met) -> bool:
    """Tell whether a rule is worth a line: it ends the packet, rewrites it, or may do so."""
    if met.open:
        return True
    quiet = met.verdict.partition(" ")[0] in _QUIET
    return not quiet and not (met.index < 0 and met.verdict == "accept")


def place(met: Met) -> str:
    """The chain a rule is in, as nft(8) names it; iptables' by its own words."""
    if met.backend == "nft":
        return f"{met.family} {met.table} {met.chain}"
    return f"{met.backend} -t {met.table} {met.chain}"


def fire(walk: Walk, name: str, *, layer: str = "", device: str = "", priorities: tuple[int, int] = EVERY) -> bool:
    """Lead the packet through a hook, or those of its chains that have such priorities; tell whether it goes on."""
    if layer and not present(walk, name, (layer, "inet") if layer == "netdev" else (layer,)):
        return True
    before = walk.packet
    around = Around(walk.world, walk.space)
    outcome: Outcome = hook(
        walk.world.firewall(walk.netns), name, before, around, layer=layer, device=device, priorities=priorities
    )
    walk.opaque |= dict.fromkeys(outcome.opaque)
    walk.assumed |= dict.fromkeys(outcome.assumed)
    chosen = outcome
    if outcome.verdict == "open":
        walk.doubt = True
        passing = next((way for way in outcome.ways if way.verdict == "accept"), None)
        if passing is None:
            walk.hop(name, "; ".join(outcome.opaque) or "a rule", "open", "what becomes of it can't be evaluated")
            walk.end(UNKNOWN)
            return False
        packet, met = passing.packet, passing.met
    else:
        packet, met = outcome.packet, outcome.met
        _turns(walk, outcome)
    walk.packet = packet
    if not discovers(before):
        walk.passings.append(Passing(walk.netns, name, layer or before.family, met, len(walk.hops), before))
    _tell(walk, name, layer, before, met)
    if outcome.verdict in ("accept", "open"):
        return True
    _ended(walk, name, chosen, layer)
    return False


def _tell(walk: Walk, name: str, layer: str, before: Packet, met: Sequence[Met]) -> None:
    """Write down what the rules of a hook did to the packet, and whose fault that may turn out to be."""
    packet = walk.packet
    for one in met:
        if one.verdict.startswith(_ELSEWHERE) and (one.family, one.table) != TABLE and not walk.back:
            walk.rewriter = cures.rewriting(walk, one)
        if loud(one):
            walk.hop(f"bridge {name}" if layer == "bridge" else name, f"{place(one)}: {one.text}", one.verdict, one.why)
    if packet.ct.state == "untracked" != before.ct.state:
        blind = next((one for one in met if "notrack" in one.text.lower()), None)
        walk.rewriter = cures.untracking(walk, blind) if blind is not None else walk.rewriter
    lowered = next((one for one in met if any(word in one.text.lower() for word in _HOPS_LEFT)), None)
    if packet.ttl != before.ttl and lowered is not None:
        walk.hop(name, f"{place(lowered)}: {lowered.text}", f"TTL {packet.ttl}", lowered.why)
        walk.shortener = cures.shortening(walk, lowered, before)
    if not any(loud(one) for one in met) and packet != before and (packet.daddr, packet.saddr, packet.dport) != (
        before.daddr, before.saddr, before.dport
    ):  # fmt: skip
        walk.hop(
            name, "conntrack", f"{before.of} → {before.to} becomes {packet.of} → {packet.to}", "a known connection"
        )


def _turns(walk: Walk, outcome: Outcome) -> None:
    """Where a rule sends one here and the next one there, the first is followed, and the others are named."""
    others = [way.packet.to for way in outcome.ways if way.packet.to != outcome.packet.to]
    if outcome.verdict == "accept" and others:
        walk.assumed[f"it is the turn of {outcome.packet.to}; others go to {', '.join(dict.fromkeys(others))}"] = None


def _ended(walk: Walk, name: str, outcome: Outcome, layer: str) -> None:
    last = next((one for one in reversed(outcome.met) if one.verdict not in _QUIET), None)
    if outcome.verdict in ("queue", "stolen"):
        walk.opaque[f"{last.text if last else name}: {outcome.said or outcome.verdict}"] = None
        walk.end(UNKNOWN)
        return
    fate = REFUSED if outcome.verdict == "reject" else DROPPED
    if last is None:
        walk.end(fate, Culprit("rule", walk.netns, f"hook {name}", "a rule drops it"))
        return
    walk.end(fate, cures.rule(walk, last, name, layer), said=outcome.said)
