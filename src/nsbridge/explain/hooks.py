"""A hook of the namespace a packet is in: the rules it meets there, written down as hops."""

from __future__ import annotations

from nsbridge.explain import cures
from nsbridge.explain.around import Around
from nsbridge.explain.path import DROPPED, REFUSED, UNKNOWN, Culprit, Passing
from nsbridge.firewall.evaluate import EVERY, hook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsbridge.explain.path import Walk
    from nsbridge.firewall.evaluate import Met, Outcome
    from nsbridge.firewall.packet import Packet

_DISCOVERY = (135, 136)  # types of ICMPv6

_QUIET = ("continue", "jump", "goto", "return")


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
    if met.open or _changes(met):
        return True
    quiet = met.verdict.partition(" ")[0] in _QUIET
    return not quiet and not (met.index < 0 and met.verdict == "accept")


def _changes(met: Met) -> list[str]:
    """What a rule makes of the packet that its verdict doesn't tell."""
    before, after = met.before, met.after
    found = []
    if after.ttl != before.ttl:
        found.append(f"TTL {after.ttl if after.ttl is not None else 'unknown'}")
    if _untracks(met):
        found.append("untracked")
    if _ends(after) != _ends(before) and after.ct.settled == before.ct.settled:  # written, past NAT
        found.append(f"{after.of} → {after.to}")
    return found


def _untracks(met: Met) -> bool:
    return met.after.ct.state == "untracked" != met.before.ct.state


def _ends(packet: Packet) -> tuple[object, ...]:
    return (packet.saddr, packet.sport, packet.daddr, packet.dport)


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


def kept(walk: Walk) -> bool:
    """Have conntrack keep the connection of a packet that leaves or is delivered; tell whether its table has room."""
    full = cures.conntrack_full(walk)
    if full is not None and walk.packet.ct.state == "new":
        walk.hop("conntrack", full.thing, "drop", full.why)
        walk.end(DROPPED, full)
        return False
    walk.remember()
    return True


def _tell(walk: Walk, name: str, layer: str, before: Packet, met: Sequence[Met]) -> None:
    """Write down what the rules of a hook did to the packet, and whose fault that may turn out to be."""
    packet = walk.packet
    for one in met:
        elsewhere = (one.after.daddr, one.after.dport) != (one.before.daddr, one.before.dport)
        if elsewhere and one.owner != "nsbridge" and not walk.back:
            walk.rewriter = cures.rewriting(walk, one)
        if _untracks(one):
            walk.rewriter = cures.untracking(walk, one)
        if one.after.ttl != one.before.ttl:
            walk.shortener = cures.shortening(walk, one)
        if loud(one):
            stage = f"bridge {name}" if layer == "bridge" else name
            does = [*_changes(one), *([one.verdict] if one.verdict != "continue" or one.open else [])]
            walk.hop(stage, f"{place(one)}: {one.text}", ", ".join(does), one.why)
    if not any(loud(one) for one in met) and _ends(packet) != _ends(before):
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
    # Who asked for a MAC makes nothing of a refusal, and the one who sent the packet never hears of it (ndisc.c).
    told = outcome.verdict == "reject" and not discovers(walk.packet)
    fate = REFUSED if told else DROPPED
    if last is None:
        walk.end(fate, Culprit("rule", walk.netns, f"hook {name}", "a rule drops it"))
        return
    walk.end(fate, cures.rule(walk, last, name, layer), said=outcome.said if told else "")
