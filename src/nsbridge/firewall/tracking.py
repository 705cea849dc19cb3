"""Whether conntrack works at all: for each family the first rule that needs it turns it on (nf_ct_netns_get)."""

from __future__ import annotations

from nsbridge.firewall.reads import Conn
from nsbridge.firewall.seen import Assign, Limited, Rewrite, SeenTable, Stolen, Untrack, Xt
from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_XT = frozenset(
    (
        "conntrack", "state", "connmark", "connbytes", "connlabel", "connlimit", "cluster", "helper", "DNAT", "SNAT",
        "MASQUERADE", "REDIRECT", "NETMAP", "CONNMARK", "CONNSECMARK", "CT", "NOTRACK", "SYNPROXY",
    )
)  # fmt: skip


def tracked_families(tables: Iterable[SeenTable]) -> tuple[str, ...]:
    """The families of packets that conntrack sees, given all rules of a namespace."""
    found: set[str] = set()
    for table in tables:
        families = {"inet": {"ip", "ip6"}, "ip": {"ip"}, "ip6": {"ip6"}}.get(table.family, set())
        for part in [part for chain in table.chains for rule in chain.rules for part in rule.parts]:
            if families <= found:
                break
            if needs(part):
                # A rewrite of addresses of one family turns on conntrack for that one, whatever its table's family.
                one = part.family if isinstance(part, Rewrite) else ""
                found |= {one} if one else families
    return tuple(sorted(found))


def needs(part: object) -> bool:
    """Tell whether a part of a rule needs conntrack."""
    if isinstance(part, Xt):
        return part.name in _XT
    if isinstance(part, (Rewrite, Untrack, Conn)):
        return True
    if isinstance(part, (Limited, Stolen)):
        return part.what.startswith(("ct count", "synproxy"))
    if isinstance(part, Assign):
        return isinstance(part.to, Conn) or needs(part.of)
    if isinstance(part, Value):
        held = [getattr(part, name) for name in ("of", "other", "test") if name in type(part)._fields]
        inner = [one for name in ("parts", "tests") if name in type(part)._fields for one in getattr(part, name)]
        return any(needs(one) for one in (*held, *inner))
    return False
