"""iptables' matches about the connection: conntrack and state."""

from __future__ import annotations

from _struct import unpack_from

from nsbridge.firewall.fields import ORDER
from nsbridge.firewall.reads import Conn, Masked
from nsbridge.firewall.seen import AnyOf, Compare
from nsbridge.kernel.xtsaid import ALIAS, address, in_ports, masked, no, port_range, unless

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsbridge.firewall.seen import Part, Test
    from nsbridge.kernel.xtsaid import ALIAS, Said

_STATES = (
    ("INVALID", 1),
    ("NEW", 8),
    ("RELATED", 4),
    ("ESTABLISHED", 2),
    ("UNTRACKED", 256),
    ("SNAT", 64),
    ("DNAT", 128),
)
_STATUSES = (("EXPECTED", 1), ("SEEN_REPLY", 2), ("ASSURED", 4), ("CONFIRMED", 8))
_TUPLES = (("ctorigsrc", "original", "saddr", 4), ("ctorigdst", "original", "daddr", 8),
           ("ctreplsrc", "reply", "saddr", 16), ("ctrepldst", "reply", "daddr", 32))  # fmt: skip
_PORTS = (("ctorigsrcport", "original", "proto-src", 256), ("ctorigdstport", "original", "proto-dst", 512),
          ("ctreplsrcport", "reply", "proto-src", 1024), ("ctrepldstport", "reply", "proto-dst", 2048))  # fmt: skip


def _state_test(mask: int) -> Test:
    """Its state is one of these; SNAT and DNAT are states too to xt_conntrack, and untracked has another bit."""
    bits = mask & 15 | (64 if mask & 256 else 0)
    tests: list[Test] = [Compare(masked(Conn("state", 4), bits), "!=", bytes(4))] if bits else []
    for bit, status in ((64, 16), (128, 32)):
        if mask & bit:
            tests.append(Compare(masked(Conn("status", 4), status), "!=", bytes(4)))
    return AnyOf(tuple(tests))


def _named(pairs: Sequence[tuple[str, int]], mask: int) -> str:
    return ",".join([name for name, bit in pairs if mask & bit])


def conntrack(raw: bytes, revision: int, family: str) -> Said | None:
    """Take conntrack, in any of its revisions."""
    if revision not in (1, 2, 3):
        return None
    match, inv = unpack_from("=2H", raw, 146)
    state, status = unpack_from("=2B" if revision == 1 else "=2H", raw, 150)
    words: list[str] = []
    tests: list[Part] = []
    if match & 1:
        option = "ctstate"
        if match & 8192:
            words.append(f"{ALIAS}state")
            option = "state"
        words.append(f"{no(inv & 1)} --{option} {_named(_STATES, state)}")
        tests.append(unless(_state_test(state), inv & 1))
    if match & 2:
        number = unpack_from("=H", raw, 136)[0]
        words.append(f"{no(inv & 2)} --ctproto {number}")
        tests.append(Compare(Conn("protocol", 1), "!=" if inv & 2 else "==", bytes((number,))))
    _conn_tuples(raw, revision, family, match, inv, words, tests)
    if match & 64:
        words.append(f"{no(inv & 64)} --ctstatus {_named(_STATUSES, status) or 'NONE'}")
        field = Conn("status", 4)
        test = Compare(masked(field, status), "!=", bytes(4)) if status else Compare(field, "==", bytes(4))
        tests.append(unless(test, inv & 64))
    if match & 128:
        return None
    if match & 4096:
        words.append(f" --ctdir {'REPLY' if inv & 4096 else 'ORIGINAL'}")
        tests.append(Compare(Conn("direction", 1), "==", b"\1" if inv & 4096 else b"\0"))
    return "".join(words), tests


def _conn_tuples(
    raw: bytes, revision: int, family: str, match: int, inv: int, words: list[str], tests: list[Part]
) -> None:
    size = 16 if family == "ip6" else 4
    for place, (option, direction, key, bit) in enumerate(_TUPLES):
        if match & bit:
            at = 32 * place
            mask = raw[at + 16 : at + 16 + size]
            words.append(f"{no(inv & bit)} --{option} {address(raw[at:], family)}{_length(mask)}")
            of = Masked(Conn(f"{family} {key}", size, direction), mask, bytes(size))
            tests.append(Compare(of, "!=" if inv & bit else "==", raw[at : at + size]))
    for place, (option, direction, key, bit) in enumerate(_PORTS):
        if match & bit:
            low = int.from_bytes(raw[138 + 2 * place : 140 + 2 * place], "big" if revision < 3 else ORDER)
            high = int.from_bytes(raw[154 + 2 * place : 156 + 2 * place], ORDER) if revision == 3 else low
            words.append(f"{no(inv & bit)} --{option} {port_range(low, high)}")
            tests.append(unless(in_ports(Conn(key, 2, direction), low, high), inv & bit))


def _length(mask: bytes) -> str:
    ones = bin(int.from_bytes(mask, "big")).count("1")
    return "" if ones == 8 * len(mask) else f"/{ones}"


def state(raw: bytes, _: int, __: str) -> Said:
    """Take state, conntrack's forerunner."""
    mask = int.from_bytes(raw[:4], ORDER)
    mask = mask & 15 | (256 if mask & 64 else 0)
    return f" --state {_named(_STATES, mask)}", [_state_test(mask)]
