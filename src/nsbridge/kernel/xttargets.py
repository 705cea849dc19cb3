"""iptables' targets: structures in, words and statements out. A reader is given bytes, revision and family."""

from __future__ import annotations

from _struct import unpack_from
from ipaddress import IPv4Address, IPv6Address

from nsbridge.firewall.reads import Conn, Fixed, HeaderBytes, Masked, Meta, Mixed
from nsbridge.firewall.seen import Assign, Logged, Refuse, Rewrite, Stolen, Strange, ToQueue, Tproxy, Untrack
from nsbridge.kernel.netlink import as_text
from nsbridge.kernel.xtsaid import ALIAS, masked, native, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.firewall.reads import Source
    from nsbridge.firewall.seen import Part
    from nsbridge.kernel.xtsaid import ALIAS, Reader, Said

HARMLESS = (
    "AUDIT", "CHECKSUM", "CLASSIFY", "DSCP", "TOS", "ECN", "TEE", "TRACE", "TCPMSS", "TCPOPTSTRIP",
    "IDLETIMER", "LED", "RATEEST", "SECMARK", "CONNSECMARK", "SET", "ULOG",
)  # fmt: skip
"""Targets that neither end a packet nor change what most rules ask."""

_MAP, _PORTS = 1, 2
_RANGE_FLAGS = ((4, "random"), (16, "random-fully"), (8, "persistent"))


# ------------------------------------------------------------------ NAT


def _range(raw: bytes, revision: int, family: str, kind: str) -> tuple[int, bytes, bytes, int, int]:
    """Flags, first and last address, first and last port: struct nf_nat_range2, nf_nat_range or the older one."""
    if family == "ip" and not (kind == "DNAT" and revision == 2):
        flags, first, last = unpack_from("=I4s4s", raw, 4)
        low, high = unpack_from(">2H", raw, 16)
    else:
        flags, first, last = unpack_from("=I16s16s", raw)
        low, high = unpack_from(">2H", raw, 36)
        if family == "ip":
            first, last = first[:4], last[:4]
    return flags, first, last, low, high


def _nat(kind: str, option: str) -> Reader:
    def read(raw: bytes, revision: int, family: str) -> Said:
        flags, first, last, low, high = _range(raw, revision, family, option)
        words = ""
        if kind in ("dnat", "snat"):
            words = f" --to-{'destination' if kind == 'dnat' else 'source'} {_target(flags, first, last, low, high)}"
        elif flags & _PORTS:
            words = f" --to-ports {low}" + (f"-{high}" if high != low else "")
        names = [name for bit, name in _RANGE_FLAGS if flags & bit]
        words += "".join([f" --{name}" for name in names])
        mapped = flags & _MAP and kind in ("dnat", "snat")
        address = Fixed(first) if mapped else None
        port = Fixed(low.to_bytes(2, "big")) if flags & _PORTS else None
        part = Rewrite(
            kind, family,
            address, Fixed(last) if mapped and last != first else None,
            port, Fixed(high.to_bytes(2, "big")) if port and high != low else None,
            tuple(["fully-random" if name == "random-fully" else name for name in names]),
        )  # fmt: skip
        return words, [part]

    return read


def _shown(raw: bytes) -> str:
    return str(IPv6Address(raw) if len(raw) == 16 else IPv4Address(raw))


def _target(flags: int, first: bytes, last: bytes, low: int, high: int) -> str:
    shown = ""
    if flags & _MAP:
        shown = _shown(first) + (f"-{_shown(last)}" if last != first else "")
        if len(first) == 16 and flags & _PORTS:
            shown = f"[{shown}]"
    if flags & _PORTS:
        shown += f":{low}" + (f"-{high}" if high != low else "")
    return shown


def _netmap(raw: bytes, revision: int, family: str) -> Said:
    _, first, last, _, _ = _range(raw, revision, family, "NETMAP")
    if family == "ip6":
        return f" --to {_shown(first)}", [Strange("-j NETMAP")]
    hosts = int.from_bytes(first, "big") ^ int.from_bytes(last, "big")
    length = 32 - hosts.bit_length()
    return f" --to {_shown(first)}/{length}", [Strange("-j NETMAP")]


# ------------------------------------------------------------------ ends

_REJECTS = {
    "ip": ((0, "icmp-net-unreachable"), (1, "icmp-host-unreachable"), (2, "icmp-proto-unreachable"),
           (3, "icmp-port-unreachable"), None, (9, "icmp-net-prohibited"), (10, "icmp-host-prohibited"),
           (-1, "tcp-reset"), (13, "icmp-admin-prohibited")),
    "ip6": ((0, "icmp6-no-route"), (1, "icmp6-adm-prohibited"), None, (3, "icmp6-addr-unreachable"),
            (4, "icmp6-port-unreachable"), None, (-1, "tcp-reset"), (5, "icmp6-policy-fail"),
            (6, "icmp6-reject-route")),
}  # fmt: skip
"""By family and number in the structure: ICMP's own code and the word of iptables."""


def _reject(raw: bytes, _: int, family: str) -> Said | None:
    found = _REJECTS[family][unpack_from("=I", raw)[0]]
    if found is None:
        return None
    code, word = found
    kind = "tcp reset" if code < 0 else "icmpv6" if family == "ip6" else "icmp"
    return f" --reject-with {word}", [Refuse(kind, max(code, 0))]


def _nfqueue(raw: bytes, revision: int, _: str) -> Said:
    number = unpack_from("=H", raw)[0]
    total = unpack_from("=H", raw, 2)[0] if revision >= 1 else 1
    flags = unpack_from("=H", raw, 4)[0] if revision >= 2 else 0
    words = f" --queue-balance {number}:{number + total - 1}" if total > 1 else f" --queue-num {number}"
    words += " --queue-bypass" if flags & 1 else ""
    return words, [ToQueue(number, bool(flags & 1), f"-j NFQUEUE{words}")]


def _synproxy(_: bytes, __: int, ___: str) -> Said:
    return "", [Stolen("SYNPROXY")]


def _tproxy(raw: bytes, revision: int, family: str) -> Said:
    mark, mask = unpack_from("=2I", raw)
    if revision == 0:
        address, port = raw[8:12], raw[12:14]
    else:
        address, port = raw[8 : 24 if family == "ip6" else 12], raw[24:26]
    words = f" --on-port {int.from_bytes(port, 'big')} --on-ip {_shown(address)} --tproxy-mark 0x{mark:x}/0x{mask:x}"
    return words, [Tproxy(family, Fixed(address), Fixed(port)), _marked(Meta("mark", 4), mask, Fixed(native(mark)))]


# ------------------------------------------------------------------ marks and logs


def _marked(to: Meta | Conn, clear: int, flip: Source) -> Assign:
    """Set ``(to & ~clear) ^ flip``."""
    return Assign(to, Mixed(masked(to, ~clear & 0xFFFFFFFF), "^", flip))


def _mark(raw: bytes, revision: int, _: str) -> Said | None:
    if revision != 2:
        return None
    mark, mask = unpack_from("=2I", raw)
    to = Meta("mark", 4)
    return f" --set-xmark 0x{mark:x}/0x{mask:x}", [Assign(to, Masked(to, native(~mask & 0xFFFFFFFF), native(mark)))]


def _connmark(raw: bytes, revision: int, _: str) -> Said | None:
    if revision not in (1, 2) or (revision == 2 and raw[13]):
        return None  # shifted on the way, which nobody does
    mark, mask, packet_mask = unpack_from("=3I", raw)
    mode = raw[12] if revision == 1 else raw[14]
    packet, connection = Meta("mark", 4), Conn("mark", 4)
    if mode == 0:
        part: Part = _marked(connection, mask, Fixed(native(mark)))
        return f" --set-xmark 0x{mark:x}/0x{mask:x}", [part]
    masks = f" --nfmask 0x{packet_mask:x} --ctmask 0x{mask:x}"
    if mode == 1:
        return f" --save-mark{masks}", [_marked(connection, mask, masked(packet, packet_mask))]
    return f" --restore-mark{masks}", [_marked(packet, packet_mask, masked(connection, mask))]


_LOG_FLAGS = ((1, "tcp-sequence"), (2, "tcp-options"), (4, "ip-options"), (8, "uid"), (32, "macdecode"))


def _log(raw: bytes, _: int, __: str) -> Said:
    level, flags, prefix = raw[0], raw[1], as_text(raw[2:32])
    words = f" --log-prefix {quoted(prefix)}" if prefix else ""
    words += f" --log-level {level}" if level != 4 else ""
    words += "".join([f" --log-{name}" for bit, name in _LOG_FLAGS if flags & bit])
    return words, [Logged(prefix, None, words)]


def _nflog(raw: bytes, _: int, __: str) -> Said:
    size, group, threshold, flags = unpack_from("=I3H", raw)
    prefix = as_text(raw[12:76])
    words = f" --nflog-prefix {quoted(prefix)}" if prefix else ""
    words += f" --nflog-group {group}" if group else ""
    if flags & 1:
        words += f" --nflog-size {size}"
    elif size:
        words += f" --nflog-range {size}"
    words += f" --nflog-threshold {threshold}" if threshold else ""
    return words, [Logged(prefix, group, words)]


def _ct(raw: bytes, revision: int, _: str) -> Said | None:
    flags, zone = unpack_from("=2H", raw)
    helper = as_text(raw[12:28])
    if flags & 2:
        return ALIAS + "NOTRACK", [Untrack()]
    if flags & 1:
        return " --notrack", [Untrack()]
    words = f" --helper {helper}" if helper else ""
    if zone:
        words += f" --zone {zone}"
        return words, [Assign(Conn("zone", 2), Fixed(native(zone, 2)))]
    return (words, [Strange(f"-j CT{words}", harmless=True)]) if words and revision in (1, 2) else None


def _tcpmss(raw: bytes, _: int, __: str) -> Said:
    size = unpack_from("=H", raw)[0]
    words = " --clamp-mss-to-pmtu" if size == 0xFFFF else f" --set-mss {size}"
    return words, [Strange(f"-j TCPMSS{words}", harmless=True)]


def _hops(raw: bytes, _: int, family: str) -> Said:
    """Struct ipt_TTL_info, ip6t_HL_info: mode and number."""
    mode, number = raw[0], raw[1]
    word = "hl" if family == "ip6" else "ttl"
    words = f" --{word}-{('set', 'inc', 'dec')[mode]} {number}"
    to = HeaderBytes("network", 7 if family == "ip6" else 8, 1)
    sure: Part = Assign(to, Fixed(bytes([number])))
    return words, [sure if mode == 0 else Strange(f"-j {word.upper()}{words}", harmless=True)]


def _plain(words: str, part: Part) -> Reader:
    return lambda *_: (words, [part])


READERS: dict[str, Reader] = {
    "DNAT": _nat("dnat", "DNAT"), "SNAT": _nat("snat", "SNAT"), "MASQUERADE": _nat("masquerade", "MASQUERADE"),
    "REDIRECT": _nat("redirect", "REDIRECT"), "NETMAP": _netmap, "REJECT": _reject, "NFQUEUE": _nfqueue,
    "SYNPROXY": _synproxy, "TPROXY": _tproxy, "MARK": _mark, "CONNMARK": _connmark, "LOG": _log, "NFLOG": _nflog,
    "TTL": _hops, "HL": _hops, "CT": _ct, "TCPMSS": _tcpmss, "NOTRACK": _plain("", Untrack()),
    "TRACE": _plain("", Strange("-j TRACE", harmless=True)),
    "CHECKSUM": _plain(" --checksum-fill", Strange("-j CHECKSUM", harmless=True)),
}  # fmt: skip
