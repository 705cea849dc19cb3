"""Rules in the words of the tools that made them: nft(8), or iptables-save(8) for what is iptables'."""

from __future__ import annotations

from nsbridge.firewall import iptwords, nftwords

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.firewall.seen import Contents, SeenChain, SeenRule, SeenTable


def rule_words(rule: SeenRule, chain: SeenChain, table: SeenTable, contents: Contents | None = None) -> str:
    """A rule as its tool writes it: ``tcp dport 22 accept``, or ``-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT``.

    contents: who knows what an anonymous set holds.
    """
    if table.backend.startswith("iptables") and table.family in ("ip", "ip6"):
        return iptwords.rule_text(rule, chain.name, table.family)
    return nftwords.rule_text(rule, table, contents)
