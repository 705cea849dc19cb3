"""Matches and targets of iptables."""

from __future__ import annotations

from nsbridge.firewall import seen


def extension(kind: str, name: str, revision: int, raw: bytes, family: str) -> seen.Part:
    """What a match or target says."""
    return seen.Strange(f"{kind} {name} {revision}")
