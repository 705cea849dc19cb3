"""Whether somebody else's chain stops whatever comes: by a rule that asks nothing, there or in a chain it leads to.

ufw and Docker set a policy that drops; firewalld ends its chain with a reject; others accept by policy and jump to
a chain of theirs that ends everything. A rule that asks something isn't counted: what it stops, it was meant to stop,
and a verdict of ours must not overrule it.
"""

from __future__ import annotations

from nsbridge.kernel import nftschema as nf
from nsbridge.kernel.netlink import as_text, attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeAlias

    Expressions: TypeAlias = list[tuple[str, dict[int, bytes]]]
    Way: TypeAlias = tuple[str, str]
    """What a rule that asks nothing does: ``stop``, ``accept``, ``return``, ``jump`` or ``goto``, and where to."""

_SILENT = ("counter", "log", "limit", "quota", "last")
_DEEPEST = 16
"""Chains inside chains that nf_tables allows (NFT_JUMP_STACK_SIZE)."""


def stops(chain: str, read: Callable[[str], Iterable[Way]], drops: bool, deep: int = 0) -> bool | None:
    """Tell whether everything that enters the chain is dropped or rejected; None when it comes back undecided.

    read: what the rules of a chain do that ask nothing, in order. drops: the policy of a base chain.
    """
    if deep > _DEEPEST:
        return None
    for what, where in read(chain):
        if what in ("stop", "accept"):
            return what == "stop"
        if what == "return":
            break
        inner = stops(where, read, False, deep + 1)
        if inner is not None:
            return inner
        if what == "goto":
            break
    if deep:
        return None
    return drops


def way(expressions: Expressions) -> Way | None:
    """Return what an nf_tables rule does if it asks nothing, else None."""
    if not expressions or any(name not in _SILENT[:2] for name, _ in expressions[:-1]):
        return None
    name, item = expressions[-1]
    if name == "target":
        target = as_text(item.get(1, b""))
        return ("stop", "") if target in ("DROP", "REJECT") else None
    if name == "reject":
        return ("stop", "")
    if name != "immediate":
        return None
    verdict = attributes(attributes(item.get(2, b"")).get(2, b""))
    code = int.from_bytes(verdict.get(1, b"\0\0\0\0"), "big", signed=True)
    plain = {nf.DROP: "stop", nf.ACCEPT: "accept", nf.RETURN: "return", nf.JUMP: "jump", nf.GOTO: "goto"}
    return (plain[code], as_text(verdict.get(2, b""))) if 1 in verdict and code in plain else None


def listed(lines: Sequence[str]) -> Callable[[str], Iterable[Way]]:
    """Return a reader of chains from what ``iptables -S`` lists."""

    def read(chain: str) -> Iterable[Way]:
        for line in lines:
            words = line.split()
            if words[:2] != ["-A", chain] or len(words) < 4 or words[2] not in ("-j", "-g"):
                continue
            target, rest = words[3], words[4:]
            if target in ("DROP", "REJECT"):
                yield ("stop", "")
            elif rest:
                continue
            elif target in ("ACCEPT", "RETURN"):
                yield (target.lower(), "")
            elif target not in ("LOG", "MARK", "NFLOG", "TRACE"):
                yield ("goto" if words[2] == "-g" else "jump", target)

    return read
