"""What nf_tables messages about sets and about tables have in common, and sets read back from theirs.

Rules have modules of their own (`nftencode`, `nftdecode`), which are imported by who writes or reads a table.
"""

from __future__ import annotations

from nsbridge.firewall.ruleset import Set
from nsbridge.kernel import nftschema as nf
from nsbridge.kernel.netlink import as_be32, as_text, attributes, be32, message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_FAMILY_NAMES = {number: name for name, number in nf.FAMILIES.items()}
_NO_BYTES = b"\0\0\0\0"


def header(family: str, resource: int = 0) -> bytes:
    """The fixed part of every message: struct nfgenmsg."""
    return bytes((nf.FAMILIES[family] if family else 0, 0)) + resource.to_bytes(2, "big")


def batch(messages: Sequence[bytes], generation: int | None = None) -> list[bytes]:
    """Messages as one transaction; with a generation, only if the ruleset is still that one (else ERESTART)."""
    begin = header("", nf.SUBSYSTEM) + (be32(1, generation) if generation is not None else b"")
    return [message(nf.BATCH_BEGIN, 0, begin), *messages, message(nf.BATCH_END, 0, header("", nf.SUBSYSTEM))]


def family(body: bytes) -> str:
    """The family a message is about; empty for one we don't know."""
    return _FAMILY_NAMES.get(body[0], "")


def comment(data: bytes, tag: int = 0) -> str:
    """The comment in user data, empty without one."""
    offset = 0
    while offset + 2 <= len(data):
        size = data[offset + 1]
        if data[offset] == tag:
            return as_text(data[offset + 2 : offset + 2 + size])
        offset += 2 + size
    return ""


# ------------------------------------------------------------------ sets


def set_of(body: bytes) -> Set:
    """A set; a type or flag we have no word for stands in `key` as a number, so it equals none of ours."""
    found = attributes(body, 4)
    flags = as_be32(found.get(3, _NO_BYTES))
    key = _types(as_be32(found[4]))
    code = as_be32(found[6]) if 6 in found else 0
    data = ("verdict",) if code == nf.VERDICT else _types(code)
    if unknown := flags & ~(nf.SET_INTERVAL | nf.SET_MAP | nf.SET_CONCAT | nf.SET_ANONYMOUS | nf.SET_CONSTANT):
        key = (*key, f"flags {unknown:#x}")
    interval = bool(flags & nf.SET_INTERVAL)
    return Set(as_text(found[2]), key, data, interval, why=comment(found.get(13, b""), 7))


def known(one: Set) -> bool:
    """Tell whether all its types are ours, so that its elements can be read."""
    return all(kind in nf.TYPES or kind == "verdict" for kind in one.key + one.data)


def _types(code: int) -> tuple[str, ...]:
    kinds: list[str] = []
    while code:
        kinds.append(nf.TYPE_OF_CODE.get(code & 63, f"type {code & 63}"))
        code >>= 6
    return tuple(reversed(kinds))
