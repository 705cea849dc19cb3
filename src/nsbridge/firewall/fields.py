"""What rules can read, by name: how many bytes, and what kind of value they are.

One table for those who decode a kernel's rules, who read a packet, and who tell a rule in words. Numbers in the
machine's order are kept as the kernel keeps them in its registers.
"""

from __future__ import annotations

from sys import byteorder

from nsbridge.firewall.reads import Fixed, Joined, Masked, Mixed, Shifted, Swapped, Turn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from nsbridge.firewall.reads import Source

ORDER: Literal["little", "big"] = byteorder

META: tuple[tuple[str, int, str], ...] = (
    ("length", 4, "number"), ("protocol", 2, "ether_type"), ("priority", 4, "classid"), ("mark", 4, "mark"),
    ("iif", 4, "ifindex"), ("oif", 4, "ifindex"), ("iifname", 16, "ifname"), ("oifname", 16, "ifname"),
    ("iiftype", 2, "iface_type"), ("oiftype", 2, "iface_type"), ("skuid", 4, "uid"), ("skgid", 4, "gid"),
    ("nftrace", 1, "boolean"), ("rtclassid", 4, "realm"), ("secmark", 4, "number"), ("nfproto", 1, "nf_proto"),
    ("l4proto", 1, "inet_proto"), ("ibrname", 16, "ifname"), ("obrname", 16, "ifname"), ("pkttype", 1, "pkt_type"),
    ("cpu", 4, "number"), ("iifgroup", 4, "devgroup"), ("oifgroup", 4, "devgroup"), ("cgroup", 4, "number"),
    ("random", 4, "number"), ("ipsec", 1, "boolean"), ("iifkind", 16, "ifname"), ("oifkind", 16, "ifname"),
    ("ibrpvid", 2, "number"), ("ibrvproto", 2, "ether_type"), ("time", 8, "time"), ("day", 1, "day"),
    ("hour", 4, "hour"), ("sdif", 4, "ifindex"), ("sdifname", 16, "ifname"), ("broute", 1, "boolean"),
    ("ibrhwaddr", 6, "ether_addr"),
)  # fmt: skip
"""By NFT_META_*: name as in nft(8) after ``meta``, bytes in a register, type."""

CONN: tuple[tuple[str, int, str], ...] = (
    ("state", 4, "ct_state"), ("direction", 1, "ct_dir"), ("status", 4, "ct_status"), ("mark", 4, "mark"),
    ("secmark", 4, "number"), ("expiration", 4, "time"), ("helper", 16, "string"), ("l3proto", 1, "nf_proto"),
    ("saddr", 16, "address"), ("daddr", 16, "address"), ("protocol", 1, "inet_proto"),
    ("proto-src", 2, "inet_service"), ("proto-dst", 2, "inet_service"), ("label", 16, "ct_label"),
    ("packets", 8, "number"), ("bytes", 8, "number"), ("avgpkt", 8, "number"), ("zone", 2, "number"),
    ("event", 4, "number"), ("ip saddr", 4, "ipv4_addr"), ("ip daddr", 4, "ipv4_addr"),
    ("ip6 saddr", 16, "ipv6_addr"), ("ip6 daddr", 16, "ipv6_addr"), ("id", 4, "number"),
)  # fmt: skip
"""By NFT_CT_*."""

META_BY_NAME = {name: (size, kind) for name, size, kind in META}
CONN_BY_NAME = {name: (size, kind) for name, size, kind in CONN}

BASES = ("link", "network", "transport", "inner", "tunnel")

FIB_RESULTS = {"oif": (4, "ifindex"), "oifname": (16, "ifname"), "type": (4, "fib_addrtype")}

CT_STATES = {"invalid": 1, "established": 2, "related": 4, "new": 8, "untracked": 64}
CT_STATUSES = {
    "expected": 1, "seen-reply": 2, "assured": 4, "confirmed": 8, "snat": 16, "dnat": 32, "dying": 512,
}  # fmt: skip
FIB_TYPES = {
    "unspec": 0, "unicast": 1, "local": 2, "broadcast": 3, "anycast": 4, "multicast": 5, "blackhole": 6,
    "unreachable": 7, "prohibit": 8,
}  # fmt: skip
PKT_TYPES = {"host": 0, "broadcast": 1, "multicast": 2, "other": 3}
NFPROTOS = {"ip": 2, "ip6": 10, "arp": 3}
ETHERTYPES = {"ip": 0x0800, "arp": 0x0806, "ip6": 0x86DD, "8021q": 0x8100}
TCP_FLAGS = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ecn": 64, "cwr": 128}

HEADERS: dict[str, tuple[str, dict[tuple[int, int], tuple[str, str]]]] = {
    "ether": ("link", {
        (0, 6): ("daddr", "ether_addr"), (6, 6): ("saddr", "ether_addr"), (12, 2): ("type", "ether_type"),
    }),
    "ip": ("network", {
        (1, 1): ("tos", "hex"), (2, 2): ("length", "be"), (4, 2): ("id", "be"), (6, 2): ("frag-off", "hex"),
        (8, 1): ("ttl", "be"), (9, 1): ("protocol", "inet_proto"), (10, 2): ("checksum", "be"),
        (12, 4): ("saddr", "ipv4_addr"), (16, 4): ("daddr", "ipv4_addr"),
    }),
    "ip6": ("network", {
        (4, 2): ("length", "be"), (6, 1): ("nexthdr", "inet_proto"), (7, 1): ("hoplimit", "be"),
        (8, 16): ("saddr", "ipv6_addr"), (24, 16): ("daddr", "ipv6_addr"),
    }),
    "arp": ("network", {
        (0, 2): ("htype", "be"), (2, 2): ("ptype", "ether_type"), (4, 1): ("hlen", "be"), (5, 1): ("plen", "be"),
        (6, 2): ("operation", "arp_op"), (8, 6): ("saddr ether", "ether_addr"), (14, 4): ("saddr ip", "ipv4_addr"),
        (18, 6): ("daddr ether", "ether_addr"), (24, 4): ("daddr ip", "ipv4_addr"),
    }),
    "tcp": ("transport", {
        (0, 2): ("sport", "inet_service"), (2, 2): ("dport", "inet_service"), (4, 4): ("sequence", "be"),
        (8, 4): ("ackseq", "be"), (13, 1): ("flags", "tcp_flag"), (14, 2): ("window", "be"),
        (16, 2): ("checksum", "be"), (18, 2): ("urgptr", "be"),
    }),
    "udp": ("transport", {
        (0, 2): ("sport", "inet_service"), (2, 2): ("dport", "inet_service"), (4, 2): ("length", "be"),
        (6, 2): ("checksum", "be"),
    }),
    "icmp": ("transport", {
        (0, 1): ("type", "icmp_type"), (1, 1): ("code", "icmp_code"), (2, 2): ("checksum", "be"), (4, 2): ("id", "be"),
        (6, 2): ("sequence", "be"), (4, 4): ("gateway", "be"),
    }),
    "icmpv6": ("transport", {
        (0, 1): ("type", "icmpv6_type"), (1, 1): ("code", "icmpv6_code"), (2, 2): ("checksum", "be"),
        (4, 2): ("id", "be"), (6, 2): ("sequence", "be"),
    }),
    "th": ("transport", {(0, 2): ("sport", "inet_service"), (2, 2): ("dport", "inet_service")}),
}  # fmt: skip
"""Protocol, as nft(8) names it: the header it is and its fields, by offset and size in bytes: name and type."""
HEADERS["sctp"] = HEADERS["dccp"] = HEADERS["udplite"] = HEADERS["th"]

FIELD_PLACES = {
    f"{proto} {name}": (base, offset, size, kind)
    for proto, (base, fields) in HEADERS.items()
    for (offset, size), (name, kind) in fields.items()
}
"""Field by its name in nft(8), ``ip saddr`` say: header, offset, bytes, type."""


def size_of(of: Source) -> int:
    """The bytes a source gives."""
    if isinstance(of, Fixed):
        return len(of.raw)
    if isinstance(of, Turn):
        return 4
    if isinstance(of, Joined):
        return sum([(size_of(part) + 3) & ~3 for part in of.parts])
    if isinstance(of, (Masked, Mixed, Shifted, Swapped)):
        return size_of(of.of)
    return of.size
