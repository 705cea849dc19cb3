"""iptables' matches: structures in, words and tests out. A reader is given bytes, revision and family."""

from __future__ import annotations

from _struct import unpack_from

from nsbridge.firewall.fields import ORDER, TCP_FLAGS
from nsbridge.firewall.reads import Conn, Fib, HeaderBytes, Masked, Meta
from nsbridge.firewall.seen import (
    AllOf,
    Always,
    AnyOf,
    Chance,
    Compare,
    Limited,
    Within,
)
from nsbridge.kernel.netlink import as_text
from nsbridge.kernel.xtconn import conntrack, state
from nsbridge.kernel.xtsaid import (
    SOURCE_PORT,
    TARGET_PORT,
    address,
    hex_mask,
    in_ports,
    masked,
    native,
    no,
    port_range,
    quoted,
    unless,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.firewall.reads import Source
    from nsbridge.firewall.seen import Part, Test
    from nsbridge.kernel.xtsaid import Reader, Said

_SCALE = 10000  # XT_LIMIT_SCALE: what a limit's average is counted in, a second of it


# ------------------------------------------------------------------ ports


def _ports(low: int, high: int, option: str, of: Source, negate: int, words: list[str], tests: list[Part]) -> None:
    if (low, high) != (0, 65535) or negate:
        words.append(f"{no(negate)} --{option} {port_range(low, high)}")
        tests.append(unless(in_ports(of, low, high), negate))


def _tcp(raw: bytes, _: int, __: str) -> Said | None:
    s0, s1, d0, d1, option, mask, flags, inv = unpack_from("=4H4B", raw)
    words: list[str] = []
    tests: list[Part] = []
    _ports(s0, s1, "sport", SOURCE_PORT, inv & 1, words, tests)
    _ports(d0, d1, "dport", TARGET_PORT, inv & 2, words, tests)
    if option:
        return None
    if mask or inv & 4:
        words.append(f"{no(inv & 4)} --tcp-flags {_flag_names(mask)} {_flag_names(flags)}")
        field = Masked(HeaderBytes("transport", 13, 1), bytes((mask,)), b"\0")
        tests.append(Compare(field, "!=" if inv & 4 else "==", bytes((flags,))))
    return "".join(words), tests


def _flag_names(bits: int) -> str:
    names = [name.upper() for name, bit in TCP_FLAGS.items() if bits & bit]
    return ",".join(names) if names else "NONE"


def _udp(raw: bytes, _: int, __: str) -> Said:
    s0, s1, d0, d1, inv = unpack_from("=4HB", raw)
    words: list[str] = []
    tests: list[Part] = []
    _ports(s0, s1, "sport", SOURCE_PORT, inv & 1, words, tests)
    _ports(d0, d1, "dport", TARGET_PORT, inv & 2, words, tests)
    return "".join(words), tests


def _multiport(raw: bytes, revision: int, _: str) -> Said | None:
    if revision != 1:
        return None
    kind, count = raw[0], raw[1]
    ports = unpack_from(f"={count}H", raw, 2)
    joins, invert = raw[32:47], raw[47]
    shown: list[str] = []
    tests: list[Test] = []
    sides = ((SOURCE_PORT,), (TARGET_PORT,), (SOURCE_PORT, TARGET_PORT))[kind]
    at = 0
    while at < count:
        first = last = ports[at]
        if joins[at]:
            at += 1
            last = ports[at]
        at += 1
        shown.append(port_range(first, last))
        tests += [in_ports(side, first, last) for side in sides]
    option = ("sports", "dports", "ports")[kind]
    return f"{no(invert)} --{option} {','.join(shown)}", [unless(AnyOf(tuple(tests)), invert)]


def _icmp(option: str) -> Reader:
    def read(raw: bytes, _: int, __: str) -> Said:
        kind, low, high, inv = raw[:4]
        if kind == 255 and option == "icmp-type":
            return f"{no(inv)} --{option} any", [Always(not inv)]
        shown = str(kind) if (low, high) == (0, 255) else f"{kind}/{low}"
        tests: tuple[Test, ...] = (
            Compare(HeaderBytes("transport", 0, 1), "==", bytes((kind,))),
            Within(HeaderBytes("transport", 1, 1), bytes((low,)), bytes((high,))),
        )
        return f"{no(inv)} --{option} {shown}", [unless(AllOf(tests), inv)]

    return read


def _mark(of: Source) -> Reader:
    def read(raw: bytes, revision: int, _: str) -> Said | None:
        if revision != 1:
            return None
        mark, mask, invert = unpack_from("=2IB", raw)
        test = Compare(masked(of, mask), "!=" if invert else "==", native(mark))
        return f"{no(invert)} --mark {hex_mask(mark, mask)}", [test]

    return read


# ------------------------------------------------------------------ addresses, interfaces, sockets

_TYPES = ("UNSPEC", "UNICAST", "LOCAL", "BROADCAST", "ANYCAST", "MULTICAST", "BLACKHOLE", "UNREACHABLE", "PROHIBIT")


def _addrtype(raw: bytes, revision: int, _: str) -> Said | None:
    if revision != 1:
        return None
    source, target, flags = unpack_from("=2HI", raw)
    link = ("iif",) if flags & 4 else ("oif",) if flags & 8 else ()
    words: list[str] = []
    tests: list[Part] = []
    for mask, option, end, bit in ((source, "src-type", "saddr", 1), (target, "dst-type", "daddr", 2)):
        if not mask:
            continue
        names = [name for number, name in enumerate(_TYPES) if mask & 1 << number]
        words.append(f"{no(flags & bit)} --{option} {','.join(names)}")
        of = Fib((end, *link), "type", 4)
        kinds = [Compare(of, "==", native(number)) for number in range(len(_TYPES)) if mask & 1 << number]
        tests.append(unless(AnyOf(tuple(kinds)), flags & bit))
    if flags & 4:
        words.append(" --limit-iface-in")
    elif flags & 8:
        words.append(" --limit-iface-out")
    return "".join(words), tests


def _iprange(raw: bytes, revision: int, family: str) -> Said | None:
    if revision != 1:
        return None
    size = 16 if family == "ip6" else 4
    places = (8, 24) if family == "ip6" else (12, 16)
    words: list[str] = []
    tests: list[Part] = []
    for at, place, option, bit in ((0, places[0], "src-range", 1), (32, places[1], "dst-range", 2)):
        if raw[64] & bit:
            first, last, inv = raw[at : at + size], raw[at + 16 : at + 16 + size], raw[64] & bit << 4
            words.append(f"{no(inv)} --{option} {address(first, family)}-{address(last, family)}")
            tests.append(Within(HeaderBytes("network", place, size), first, last, bool(inv)))
    return "".join(words), tests


def _mac(raw: bytes, _: int, __: str) -> Said:
    invert = int.from_bytes(raw[8:12], ORDER)
    test = Compare(HeaderBytes("link", 6, 6), "!=" if invert else "==", raw[:6])
    return f"{no(invert)} --mac-source {raw[:6].hex(':').upper()}", [test]


def _owner(raw: bytes, revision: int, _: str) -> Said | None:
    if revision != 1:
        return None
    uid, uid_last, gid, gid_last, match, inv = unpack_from("=4I2B", raw)
    words: list[str] = []
    tests: list[Part] = []
    has_socket = Within(Meta("skuid", 4), bytes(4), b"\xff" * 4)
    if match & 4:
        words.append(f"{no(inv & 4)} --socket-exists")
        tests.append(unless(has_socket, inv & 4))
    for first, last, option, key, bit in (
        (uid, uid_last, "uid-owner", "skuid", 1), (gid, gid_last, "gid-owner", "skgid", 2),
    ):  # fmt: skip
        if match & bit:
            words.append(f"{no(inv & bit)} --{option} {first}{f'-{last}' if last != first else ''}")
            numbers = [Compare(Meta(key, 4), "==", native(one)) for one in range(first, min(last, first + 64) + 1)]
            tests.append(unless(AnyOf(tuple(numbers)), inv & bit))
    if match & 8:
        return None
    return "".join(words), tests


def _physdev(raw: bytes, _: int, __: str) -> Said:
    invert, wanted = raw[64], raw[65]
    words: list[str] = []
    tests: list[Part] = []
    came, leaves = Meta("physin", 16), Meta("physout", 16)
    for bit, option, of in ((8, "physdev-is-in", came), (16, "physdev-is-out", leaves)):
        if wanted & bit:
            words.append(f"{no(invert & bit)} --{option}")
            tests.append(unless(Compare(of, "!=", bytes(16)), invert & bit))
    for bit, option, of, at in ((1, "physdev-in", came, 0), (2, "physdev-out", leaves, 32)):
        if wanted & bit:
            name, mask = as_text(raw[at : at + 16]), raw[at + 16 : at + 32]
            full = mask.rstrip(b"\0")
            words.append(f"{no(invert & bit)} --{option} {name}{'' if len(full) > len(name) else '+'}")
            tests.append(unless(Compare(of, "==", raw[at : at + len(full)]), invert & bit))
    if wanted & 4:
        words.append(f"{no(invert & 4)} --physdev-is-bridged")
        tests.append(unless(Compare(leaves, "!=", bytes(16)), invert & 4))
    return "".join(words), tests


def _devgroup(raw: bytes, _: int, __: str) -> Said:
    flags, source, source_mask, target, target_mask = unpack_from("=5I", raw)
    words: list[str] = []
    tests: list[Part] = []
    for group, mask, option, key, bit in (
        (source, source_mask, "src-group", "iifgroup", 1), (target, target_mask, "dst-group", "oifgroup", 4),
    ):  # fmt: skip
        if flags & bit:
            inv = flags & bit << 1
            words.append(f"{no(inv)} --{option} {hex_mask(group, mask)}")
            tests.append(Compare(masked(Meta(key, 4), mask), "!=" if inv else "==", native(group)))
    return "".join(words), tests


def _rpfilter(raw: bytes, _: int, __: str) -> Said:
    flags = raw[0]
    options = ((1, "loose"), (2, "validmark"), (4, "accept-local"), (8, "invert"))
    asked = ("saddr", *(() if flags & 1 else ("iif",)), *(("mark",) if flags & 2 else ()))
    test = Compare(Fib(asked, "oif", 1, True), "==", b"\0" if flags & 8 else b"\1")
    return "".join([f" --{name}" for bit, name in options if flags & bit]), [test]


# ------------------------------------------------------------------ the rest


def _comment(raw: bytes, _: int, __: str) -> Said:
    return f" --comment {quoted(as_text(raw))}", [Always()]


_PERIODS = ((86400, "day"), (3600, "hour"), (60, "min"), (1, "sec"))


def rate(period: int, scale: int) -> str:
    """``3/min`` of the time between two packets, in 1/scale of a second (print_rate in libxt_limit.c)."""
    shown = _PERIODS[0]
    for one in _PERIODS[1:]:
        number = one[0] * scale
        if period > number or number // period < number % period:
            break
        shown = one
    return f"{shown[0] * scale // period}/{shown[1]}"


def _limit(raw: bytes, _: int, __: str) -> Said:
    average, burst = unpack_from("=2I", raw)
    words = f" --limit {rate(average, _SCALE)}" + (f" --limit-burst {burst}" if burst != 5 else "")
    return words, [Limited(f"-m limit{words}")]


def _hashlimit(raw: bytes, revision: int, _: str) -> Said | None:
    if revision != 3:
        return None
    mode = unpack_from("=I", raw, 272)[0]
    name = as_text(raw[:255])
    over = bool(mode & 16)
    return f" … --hashlimit-name {name}", [Limited(f"-m hashlimit --hashlimit-name {name}", over)]


def _connlimit(raw: bytes, _: int, __: str) -> Said | None:
    limit, flags = unpack_from("=2I", raw, 16)
    over = not flags & 1
    words = f" --connlimit-{'above' if over else 'upto'} {limit}"
    return f"{words} …", [Limited(f"-m connlimit{words}", over)]


def _quota(raw: bytes, _: int, __: str) -> Said:
    flags, number = raw[0], unpack_from("=Q", raw, 8)[0]
    return f"{no(flags & 1)} --quota {number}", [Limited(f"-m quota --quota {number}", bool(flags & 1))]


def _statistic(raw: bytes, _: int, __: str) -> Said:
    mode, flags, number, packet = unpack_from("=2H2I", raw)
    if mode == 0:
        words = f" --mode random{no(flags & 1)} --probability {number / 0x80000000:.11f}"
    else:
        words = f" --mode nth{no(flags & 1)} --every {number + 1} --packet {packet}"
    return words, [Chance(f"-m statistic{words}")]


_PACKET_TYPES = ("unicast", "broadcast", "multicast")


def _pkttype(raw: bytes, _: int, __: str) -> Said:
    kind, invert = unpack_from("=2i", raw)
    test = Compare(Meta("pkttype", 1), "!=" if invert else "==", bytes((kind,)))
    return f"{no(invert)} --pkt-type {_PACKET_TYPES[kind]}", [test]


def _size(raw: bytes, _: int, __: str) -> Said:
    low, high, invert = unpack_from("=2HB", raw)
    of = HeaderBytes("network", 2, 2)
    return f"{no(invert)} --length {port_range(low, high)}", [unless(in_ports(of, low, high), invert)]


def _ttl(raw: bytes, _: int, family: str) -> Said:
    mode, number = raw[:2]
    of = HeaderBytes("network", 7 if family == "ip6" else 8, 1)
    option = ("-eq", "-eq", "-lt", "-gt")[mode]
    name = "hl" if family == "ip6" else "ttl"
    test = Compare(of, ("==", "!=", "<", ">")[mode], bytes((number,)))
    return f"{no(mode == 1)} --{name}{option} {number}", [test]


READERS: dict[str, Reader] = {
    "tcp": _tcp, "udp": _udp, "multiport": _multiport, "icmp": _icmp("icmp-type"), "icmp6": _icmp("icmpv6-type"),
    "conntrack": conntrack, "state": state, "mark": _mark(Meta("mark", 4)), "connmark": _mark(Conn("mark", 4)),
    "addrtype": _addrtype, "iprange": _iprange, "mac": _mac, "owner": _owner, "physdev": _physdev,
    "devgroup": _devgroup, "rpfilter": _rpfilter, "comment": _comment, "limit": _limit, "hashlimit": _hashlimit,
    "connlimit": _connlimit, "quota": _quota, "statistic": _statistic, "pkttype": _pkttype, "length": _size,
    "ttl": _ttl, "hl": _ttl,
}  # fmt: skip
