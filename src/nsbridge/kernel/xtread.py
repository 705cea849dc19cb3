"""Matches and targets of iptables: their binary structures, in words and as what they amount to.

iptables-nft puts them into nf_tables rules as they are (``match`` and ``target``), iptables-legacy into its own
blobs; both come here. A structure is of a name, a revision and sometimes a family (<linux/netfilter/xt_*.h>,
<linux/netfilter_ipv4/ipt_*.h>). Words are those of iptables-save(8). One that isn't known here is `Strange`.
"""

from __future__ import annotations

from nsbridge.firewall import seen
from nsbridge.kernel import xtmatches, xttargets
from nsbridge.kernel.xtsaid import ALIAS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.kernel.xtsaid import Said

_ROOM = 512
"""Bytes that any structure read here fits into."""


def extension(kind: str, name: str, revision: int, raw: bytes, family: str) -> seen.Part:
    """What a ``match`` or ``target`` says."""
    readers = xtmatches.READERS if kind == "match" else xttargets.READERS
    reader = readers.get(name)
    option = "-m" if kind == "match" else "-j"
    said: Said | None = None
    if reader is not None:
        try:
            said = reader(raw.ljust(_ROOM, b"\0"), revision, family)
        except (ValueError, IndexError, KeyError, OverflowError):
            said = None
    if said is None:
        harmless = kind == "target" and name in xttargets.HARMLESS
        return seen.Xt(name, f"{option} {name} …", (seen.Strange(f"{option} {name}", harmless=harmless),))
    words, parts = said
    shown = words.removeprefix(ALIAS) if words.startswith(ALIAS) else name + words
    return seen.Xt(name, f"{option} {shown}", tuple(parts))


def comment(parts: tuple[seen.Part, ...]) -> str:
    """The text of a rule's comment match, empty without one."""
    begin = "-m comment --comment "
    for part in parts:
        if isinstance(part, seen.Xt) and part.words.startswith(begin):
            text = part.words.removeprefix(begin)
            return text[1:-1].replace("\\", "") if text.startswith('"') else text
    return ""
