"""Tables and built-in chains that iptables-nft makes with the first rule and never takes away, taken away by us.

Only those that weren't there when our rules came, and only what holds nothing: the kernel itself refuses the rest,
since a removal with NLM_F_NONREC stops at a chain with rules and at a table with chains.
"""

from __future__ import annotations

from nsbridge.kernel import nftdecode
from nsbridge.kernel import nftschema as nf
from nsbridge.kernel.netlink import REPLACE, Refused, as_text, attributes, message, text
from nsbridge.kernel.nftmessage import header

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from nsbridge.kernel.nftnetlink import Nft

NONREC = REPLACE
"""NLM_F_NONREC of <linux/netlink.h>: the flag that means "replace" when something is made."""


def present(nft: Nft, names: Container[str]) -> tuple[str, ...]:
    """Return those of iptables' tables and their chains that exist, as ``ip nat`` and ``ip nat PREROUTING``."""
    chains = [" ".join((*table, name)) for table, name, _ in _chains(nft, names)]
    return (*[" ".join(table) for table in _tables(nft, names)], *chains)


def sweep(nft: Nft, names: Container[str], before: Container[str]) -> None:
    """Remove of these tables what holds no rule, has no policy but accept, and wasn't there before (see `present`)."""
    for table, name, drops in _chains(nft, names):
        if not drops and " ".join((*table, name)) not in before:
            _try(nft, nf.DELCHAIN, header(table[0]) + text(1, table[1]) + text(3, name))
    for family, name in _tables(nft, names):
        if f"{family} {name}" not in before:
            _try(nft, nf.DELTABLE, header(family) + text(1, name))


def _tables(nft: Nft, names: Container[str]) -> Iterator[tuple[str, str]]:
    for family in ("ip", "ip6"):
        for body in nft.dump(nf.GETTABLE, header(family)):
            name = as_text(attributes(body, 4)[1])
            if name in names:
                yield family, name


def _chains(nft: Nft, names: Container[str]) -> Iterator[tuple[tuple[str, str], str, bool]]:
    """Base chains: their table, their name, and whether their policy is drop."""
    for family in ("ip", "ip6"):
        for body in nft.dump(nf.GETCHAIN, header(family)):
            table, chain, drops = nftdecode.chain_of(body)
            if table in names and chain.hook:
                yield (family, table), chain.name, drops


def _try(nft: Nft, kind: int, body: bytes) -> None:
    try:
        nft.write([message(kind, NONREC, body)])
    except Refused:  # somebody's rules are in it by now, or it is gone
        return
