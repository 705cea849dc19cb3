"""A rule of iptables in the words of iptables-save(8), whichever of the two kinds keeps it.

iptables-nft writes some matches as nf_tables' own expressions (addresses, interfaces, protocols, ports) and others as
the structures they always were; the text is the same.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from nsbridge.firewall import seen
from nsbridge.firewall.datawords import length_of
from nsbridge.firewall.expressions import Accept, Drop, Goto, Jump, Return
from nsbridge.firewall.fields import ORDER, TCP_FLAGS
from nsbridge.firewall.reads import HeaderBytes, Masked, Meta

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.firewall.reads import Source
    from nsbridge.firewall.seen import Part, SeenRule

_PROTOS = {
    0: "ip", 1: "icmp", 2: "igmp", 4: "ipencap", 6: "tcp", 17: "udp", 33: "dccp", 41: "ipv6", 47: "gre", 50: "esp",
    51: "ah", 58: "ipv6-icmp", 89: "ospf", 132: "sctp", 136: "udplite",
}  # fmt: skip
_PLACES = {"ip": {12: "-s", 16: "-d"}, "ip6": {8: "-s", 24: "-d"}}
_HEAD = ("-s", "-d", "-i", "-o", "-p", "-f")
_PERIODS = {"second": "sec", "minute": "min", "hour": "hour", "day": "day"}


def rule_text(rule: SeenRule, chain: str, family: str) -> str:
    """``-A FORWARD -s 10.0.0.0/8 -p tcp -m tcp --dport 80 -j ACCEPT``."""
    head: dict[str, str] = {}
    matches: list[str] = []
    target = ""
    proto = ""
    for part in rule.parts:
        if isinstance(part, (Accept, Drop, Return, Jump, Goto)):
            target = _verdict(part)
        elif isinstance(part, seen.Xt):
            if part.words.startswith("-j"):
                target = part.words
            else:
                matches.append(part.words)
        elif isinstance(part, seen.Logged) and part.group is not None:
            prefix = f" --nflog-prefix {_quoted(part.prefix)}" if part.prefix else ""
            target = f"-j NFLOG{prefix}" + (f" --nflog-group {part.group}" if part.group else "")
        elif not isinstance(part, seen.Count):
            place, said = _native(part, family, proto)
            if place == "-p":
                proto = said.rsplit(" ", 1)[-1]
            if place:
                head[place] = said
            elif said:
                _add(matches, said)
    words = [f"-A {chain}", *[head[place] for place in _HEAD if place in head], *matches, target]
    return " ".join([word for word in words if word])


def _add(matches: list[str], said: str) -> None:
    """Options of one match stand behind one name."""
    name = " ".join(said.split(" ")[:2])
    if matches and matches[-1].startswith(name + " "):
        matches[-1] += said.removeprefix(name)
    else:
        matches.append(said)


def _verdict(part: Part) -> str:
    if isinstance(part, (Jump, Goto)):
        return f"{'-j' if isinstance(part, Jump) else '-g'} {part.chain}"
    return f"-j {type(part).__name__.upper()}"


def _native(part: Part, family: str, proto: str) -> tuple[str, str]:
    """Where a test of nf_tables' own stands (empty: among the matches), and its words."""
    if isinstance(part, seen.Compare):
        return _compare(part, family, proto)
    if isinstance(part, seen.Within) and isinstance(part.of, HeaderBytes) and part.of.base == "transport":
        low, high = (int.from_bytes(raw, "big") for raw in (part.first, part.last))
        option = {0: "sport", 2: "dport"}.get(part.of.offset, f"@{part.of.offset}")
        return "", f"-m {proto}{' !' if part.negate else ''} --{option} {low}:{high}"
    if isinstance(part, seen.Limited) and part.what.startswith("limit rate"):
        words = part.what.split()
        number, unit = words[2].split("/")
        burst = f" --limit-burst {words[4]}" if len(words) > 4 else ""
        return "", f"-m limit --limit {number}/{_PERIODS.get(unit, unit)}{burst}"
    if isinstance(part, (seen.Strange, seen.Limited)):
        return "", f"-m {part.what} …"
    return "", ""


def _compare(test: seen.Compare, family: str, proto: str) -> tuple[str, str]:
    no = "! " if test.op == "!=" else ""
    of: Source = test.of
    mask = None
    if isinstance(of, Masked):
        mask, of = of.mask, of.of
    if isinstance(of, Meta):
        return _meta(of, test, mask, no)
    if not isinstance(of, HeaderBytes):
        return "", "-m … "
    if of.base == "network" and of.offset in _PLACES.get(family, {}):
        option = _PLACES[family][of.offset]
        size = 4 if family == "ip" else 16
        length = length_of(mask) if mask else 8 * len(test.raw)
        make = IPv4Address if family == "ip" else IPv6Address
        return option, f"{no}{option} {make(test.raw.ljust(size, bytes(1)))}/{length}"
    if of.base == "network" and of.offset == 6 and family == "ip":
        return "-f", ("! " if test.op == "==" else "") + "-f"
    if of.base == "network" and of.offset == 9:
        return "-p", f"{no}-p {proto_name(test.raw[0])}"
    no = " !" if no else ""
    if of.base == "transport" and of.offset == 13 and mask:
        flags = " ".join([_flags(raw[0]) for raw in (mask, test.raw)])
        return "", f"-m tcp{no} --tcp-flags {flags}"
    if of.base == "transport" and (of.offset, of.size) == (0, 4):  # iptables-nft compares both ports at once
        low, high = (int.from_bytes(raw, "big") for raw in (test.raw[:2], test.raw[2:]))
        return "", f"-m {proto} --sport {low} --dport {high}"
    if of.base == "transport" and of.offset in (0, 2) and of.size == 2:
        option = "sport" if of.offset == 0 else "dport"
        return "", f"-m {proto}{no} --{option} {int.from_bytes(test.raw, 'big')}"
    if of.base == "transport" and of.size == 1 and proto in ("icmp", "ipv6-icmp"):
        name, option = ("icmp", "icmp-type") if proto == "icmp" else ("icmp6", "icmpv6-type")
        return "", f"-m {name}{no} --{option} {test.raw[0]}"
    if of.base == "link" and of.offset == 6:
        return "", f"-m mac{no} --mac-source {test.raw.hex(':').upper()}"
    return "", "-m …"


def _meta(of: Meta, test: seen.Compare, mask: bytes | None, no: str) -> tuple[str, str]:
    if of.key in ("iifname", "oifname"):
        option = "-i" if of.key == "iifname" else "-o"
        name = test.raw.split(b"\0", 1)[0].decode("utf-8", "replace")
        whole = b"\0" in test.raw or len(test.raw) == 16
        return option, f"{no}{option} {name}{'' if whole else '+'}"
    if of.key == "l4proto":
        return "-p", f"{no}-p {proto_name(test.raw[0])}"
    no = " !" if no else ""
    if of.key == "mark":
        shown = f"0x{int.from_bytes(test.raw, ORDER):x}"
        bits = int.from_bytes(mask, ORDER) if mask else 0xFFFFFFFF
        return "", f"-m mark{no} --mark {shown}" + ("" if bits == 0xFFFFFFFF else f"/0x{bits:x}")
    if of.key == "pkttype":
        names = ("unicast", "broadcast", "multicast")
        return "", f"-m pkttype{no} --pkt-type {names[test.raw[0]]}"
    return "", f"-m {of.key} …"


def proto_name(number: int) -> str:
    """A protocol as iptables-save writes it."""
    return _PROTOS.get(number, str(number))


def _flags(bits: int) -> str:
    return ",".join([name.upper() for name, bit in TCP_FLAGS.items() if bits & bit]) or "NONE"


def _quoted(text: str) -> str:
    return text if text.isalnum() else f'"{text}"'
