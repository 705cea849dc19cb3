"""iptables-legacy's tables."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.firewall.seen import SeenTable


def legacy_tables() -> list[SeenTable]:
    """Tables that are loaded."""
    return []
