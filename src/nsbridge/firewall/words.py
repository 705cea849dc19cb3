"""Rules in the words of the tools that made them: nft(8), or iptables-save(8) for what is iptables'."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.firewall.seen import Contents, SeenChain, SeenRule, SeenTable


def rule_words(rule: SeenRule, chain: SeenChain, table: SeenTable, contents: Contents | None = None) -> str:
    """A rule as its tool writes it: ``tcp dport 22 accept``, or ``-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT``."""
    return f"{rule.parts}"
