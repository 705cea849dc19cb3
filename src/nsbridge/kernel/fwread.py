"""Every firewall rule of a namespace, whoever made it: nf_tables of all families, and iptables-legacy.

Four dumps read all tables, chains, rules and sets of nf_tables, whatever their number; the ruleset's generation tells
whether they belong together. Elements aren't dumped: a set may hold a hundred thousand. `LiveContents` asks for the
one element that a packet's key falls under, and lists a set only where a rule is told in words or every possibility
matters.
"""

from __future__ import annotations

import _socket
import errno

from nsbridge.errors import KernelError, unpermitted
from nsbridge.firewall import seen
from nsbridge.firewall.owners import owner_of
from nsbridge.firewall.tracking import tracked_families
from nsbridge.kernel import nftmessage
from nsbridge.kernel import nftschema as nf
from nsbridge.kernel.fwdecode import parts_of, verdict_of
from nsbridge.kernel.netlink import (
    NETFILTER,
    NetlinkSocket,
    Refused,
    as_be32,
    as_text,
    attr,
    attribute_list,
    attributes,
    message,
    nested,
    text,
)
from nsbridge.kernel.nftmessage import header
from nsbridge.kernel.xtread import comment, extension

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nsbridge.firewall.seen import Firewall, SeenChain, SeenElement, SeenRule, SeenSet, SeenTable

    Where = tuple[str, str]

_NONE = bytes(4)
_TRIES = 8
_DORMANT = 1
_END, _CATCHALL = 1, 2
_HOOKS = ("prerouting", "input", "forward", "output", "postrouting", "ingress")
_DEVICE_HOOKS = ("ingress", "egress")
_FLAGS = ((2, "constant"), (4, "interval"), (16, "timeout"), (32, "dynamic"))
_BRIDGE_ARP = {"arp": ("input", "output", "forward")}


def read_firewall(*, legacy: bool = True) -> Firewall:
    """Read all tables, chains and rules of the calling thread's network namespace.

    What sets hold is asked for when a packet comes to them: `Firewall.contents` keeps a socket of that namespace,
    which works from any thread and is closed when the value is dropped. legacy: read iptables-legacy's tables too,
    those that are loaded. KernelError when the rules kept changing; NoPermission.
    """
    socket = NetlinkSocket(NETFILTER)
    try:
        tables = _nf_tables(socket)
    except Refused as err:
        if err.errno in (errno.EPERM, errno.EACCES):
            raise unpermitted("the firewall's rules can't be read") from err
        if err.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise KernelError(f"the firewall's rules can't be read: {err.text}", errno=err.errno or 0) from err
        tables = []  # a kernel without nf_tables, or one that hasn't loaded it yet
    if legacy:
        from nsbridge.kernel.xtlegacy import legacy_tables

        tables += legacy_tables()
    return seen.Firewall(tuple(tables), tracked_families(tables), LiveContents(socket, dict(_socket.if_nameindex())))


def _nf_tables(socket: NetlinkSocket) -> list[SeenTable]:
    for _ in range(_TRIES):
        generation = _generation(socket)
        bodies = [_dump(socket, kind) for kind in (nf.GETTABLE, nf.GETCHAIN, nf.GETRULE, nf.GETSET)]
        if _generation(socket) == generation:
            return _assembled(*bodies)
    raise KernelError("the firewall's rules kept changing while they were read", errno=errno.EAGAIN)


def _generation(socket: NetlinkSocket) -> int:
    return as_be32(attributes(socket.request(message(nf.GETGEN, 0, header("")))[0][1], 4)[1])


def _dump(socket: NetlinkSocket, kind: int, body: bytes = b"") -> list[bytes]:
    return [found for _, found in socket.dump(message(kind, 0, body or header("")))]


def _assembled(
    tables: Iterable[bytes], chains: Iterable[bytes], rules: Iterable[bytes], sets: Iterable[bytes]
) -> list[SeenTable]:
    """Tables of what four dumps say, in the order in which the kernel keeps them."""
    set_of: dict[Where, list[SeenSet]] = {}
    for body in sets:
        where, one = _set(body)
        set_of.setdefault(where, []).append(one)
    sizes = {where: {one.name: (one.size, one.data_size) for one in found} for where, found in set_of.items()}
    rules_of: dict[tuple[str, str, str], list[SeenRule]] = {}
    for body in rules:
        found = attributes(body, 4)
        family, table = nftmessage.family(body), as_text(found[1])
        held = rules_of.setdefault((family, table, as_text(found[2])), [])
        held.append(_rule(found, family, sizes.get((family, table), {}), len(held)))
    chains_of: dict[Where, list[SeenChain]] = {}
    for body in chains:
        found = attributes(body, 4)
        where = (nftmessage.family(body), as_text(found[1]))
        chains_of.setdefault(where, []).append(_chain(found, where, rules_of))
    whole = []
    for body in tables:
        found = attributes(body, 4)
        where = (nftmessage.family(body), as_text(found[1]))
        table_ = seen.SeenTable(
            *where, tuple(chains_of.get(where, ())), tuple(set_of.get(where, ())),
            dormant=bool(as_be32(found.get(2, _NONE)) & _DORMANT), why=nftmessage.comment(found.get(6, b"")),
        )  # fmt: skip
        backend = "iptables-nft" if is_compat(table_) else "nft"
        whole.append(table_.replace(backend=backend, owner=owner_of(*where, backend=backend)))
    return whole


def is_compat(table: SeenTable) -> bool:
    """Tell whether a table is iptables-nft's: it has a name of iptables', and rules in its form.

    Its base chains have capital names, and every rule of its counts.
    """
    if table.family not in ("ip", "ip6", "arp", "bridge") or table.name not in (
        "filter", "nat", "mangle", "raw", "security", "broute",
    ):  # fmt: skip
        return False
    if any(chain.hook and chain.name != chain.name.upper() for chain in table.chains):
        return False
    rules = [rule for chain in table.chains for rule in chain.rules]
    return all(any(isinstance(part, seen.Count) for part in rule.parts) for rule in rules)


def _set(body: bytes) -> tuple[Where, SeenSet]:
    found = attributes(body, 4)
    flags, code = as_be32(found.get(3, _NONE)), as_be32(found.get(6, _NONE))
    widths = tuple(
        as_be32(attributes(one)[1])
        for _, desc in attribute_list(attributes(found.get(9, b"")).get(2, b""))
        for one in (desc,)
        if 1 in attributes(one)
    )
    kind = type_names(as_be32(found.get(4, _NONE)))
    return (nftmessage.family(body), as_text(found[1])), seen.SeenSet(
        name=as_text(found[2]),
        key=kind,
        data=("verdict",) if code == nf.VERDICT else type_names(code),
        size=as_be32(found.get(5, _NONE)),
        widths=widths,
        data_size=as_be32(found.get(7, _NONE)),
        interval=bool(flags & nf.SET_INTERVAL),
        anonymous=bool(flags & nf.SET_ANONYMOUS),
        flags=tuple([name for bit, name in _FLAGS if flags & bit]),
        why=nftmessage.comment(found.get(13, b""), 7),
    )


def type_names(code: int) -> tuple[str, ...]:
    """Types by nft(8)'s numbers of them, six bits each."""
    names: list[str] = []
    while code:
        number = code & 63
        names.append(TYPE_NAMES[number] if number < len(TYPE_NAMES) else str(number))
        code >>= 6
    return tuple(reversed(names))


_TYPES = (
    "invalid verdict nf_proto bitmask integer string lladdr ipv4_addr ipv6_addr ether_addr ether_type arp_op "
    "inet_proto inet_service icmp_type tcp_flag dccp_pkttype mh_type time mark ifindex iface_type realm classid uid "
    "gid ct_state ct_dir ct_status icmpv6_type ct_label pkt_type icmp_code icmpv6_code icmpx_code devgroup dscp ecn "
    "fib_addrtype boolean ct_event ifname igmp_type time_date hour day cgroupv2"
)
TYPE_NAMES = tuple(_TYPES.split())
"""By number (include/datatype.h in nftables)."""


def _rule(found: dict[int, bytes], family: str, sets: dict[str, tuple[int, int]], index: int) -> SeenRule:
    parts = parts_of(found.get(4, b""), family, sets, extension)
    count = next((part for part in parts if isinstance(part, seen.Count)), None)
    why = nftmessage.comment(found.get(7, b"")) or comment(parts)
    return seen.SeenRule(
        parts, index, int.from_bytes(found[3], "big"), why,
        count.packets if count else None, count.bytes if count else None,
    )  # fmt: skip


def _chain(found: dict[int, bytes], where: Where, rules: dict[tuple[str, str, str], list[SeenRule]]) -> SeenChain:
    name = as_text(found[3])
    chain = seen.SeenChain(
        name,
        tuple(rules.get((*where, name), ())),
        handle=int.from_bytes(found.get(2, b""), "big"),
        why=nftmessage.comment(found.get(12, b"")),
    )
    if 4 not in found:
        return chain
    hook = attributes(found[4])
    number = as_be32(hook[1])
    names = _DEVICE_HOOKS if where[0] == "netdev" else _BRIDGE_ARP.get(where[0], _HOOKS)
    devices = [as_text(hook[3])] if 3 in hook else [as_text(one) for _, one in attribute_list(hook.get(4, b""))]
    return chain.replace(
        kind=as_text(found.get(7, b"")),
        hook=names[number] if number < len(names) else f"hook {number}",
        priority=int.from_bytes(hook[2], "big", signed=True),
        policy="drop" if as_be32(found.get(5, b"\0\0\0\1")) == nf.DROP else "accept",
        devices=tuple(devices),
    )


# ------------------------------------------------------------------ what sets hold


class LiveContents:
    """Elements of a running kernel's sets, one by one; what was asked once is remembered."""

    def __init__(self, socket: NetlinkSocket, links: dict[int, str]) -> None:
        self._socket = socket
        self._links = links
        self._found: dict[tuple[str, str, str, bytes], SeenElement | None] = {}
        self._all: dict[tuple[str, str, str], tuple[SeenElement, ...]] = {}

    def find(self, family: str, table: str, name: str, key: bytes) -> SeenElement | None:
        """The element that this key falls under, None without one; LookupError when the kernel wouldn't say."""
        place = (family, table, name, key)
        if place not in self._found:
            body = header(family) + text(1, table) + text(2, name)
            item = nested(3, nested(1, nested(1, attr(1, key))))
            try:
                answer = self._socket.request(message(nf.GETSETELEM, 0, body + item))
                found = _elements([body for _, body in answer])
                self._found[place] = found[0].replace(first=key, last=key) if found else None
            except Refused as err:
                if err.errno != errno.ENOENT:
                    raise LookupError(f"set {name}: {err.text}") from err
                self._found[place] = self._catchall(family, table, name)
        return self._found[place]

    def link(self, index: int) -> str:
        """The name of the interface of that number, empty without one; as it was when the rules were read."""
        return self._links.get(index, "")

    def _catchall(self, family: str, table: str, name: str) -> SeenElement | None:
        """The element for every key without one (``*``)."""
        body = header(family) + text(1, table) + text(2, name)
        try:
            item = nested(3, nested(1, attr(3, _CATCHALL.to_bytes(4, "big"))))
            answer = self._socket.request(message(nf.GETSETELEM, 0, body + item))
        except Refused:
            return None
        found = _elements([body for _, body in answer])
        return found[0] if found else None

    def all(self, family: str, table: str, name: str) -> tuple[SeenElement, ...]:
        """Every element, by key; LookupError when the kernel wouldn't say."""
        place = (family, table, name)
        if place not in self._all:
            try:
                bodies = _dump(self._socket, nf.GETSETELEM, header(family) + text(1, table) + text(2, name))
            except Refused as err:
                raise LookupError(f"set {name}: {err.text}") from err
            self._all[place] = tuple(_joined(_elements(bodies, ends=True)))
        return self._all[place]


def _elements(bodies: Sequence[bytes], *, ends: bool = False) -> list[SeenElement]:
    """Elements as the kernel keeps them; the end of an interval is one of its own (why ``end``)."""
    found = []
    for body in bodies:
        for _, item in attribute_list(attributes(body, 4).get(3, b"")):
            one = attributes(item)
            flags = as_be32(one.get(3, _NONE))
            if flags & _END and not ends:
                continue
            key = attributes(one[1])[1] if 1 in one else b""
            last = attributes(one[10])[1] if 10 in one else key
            data: bytes | seen.Verdict | None = None
            if 2 in one:
                held = attributes(one[2])
                data = held[1] if 1 in held else verdict_of(held[2])
            why = "end" if flags & _END else nftmessage.comment(one.get(6, b""))
            found.append(seen.SeenElement(key, last, data, bool(flags & _CATCHALL), why))
    return found


def _joined(found: list[SeenElement]) -> list[SeenElement]:
    """Elements with their intervals whole: a set of intervals keeps where each begins, and where none goes on."""
    if not any(one.why == "end" for one in found):
        return sorted(found, key=lambda one: one.first)
    whole: list[SeenElement] = []
    for one in sorted(found, key=lambda one: (one.first, one.why != "end")):
        if whole and whole[-1].why == "open":
            before = (int.from_bytes(one.first, "big") - 1).to_bytes(len(one.first), "big")
            whole[-1] = whole[-1].replace(last=before, why="")
        if one.why != "end":
            whole.append(one.replace(why="open"))
    if whole and whole[-1].why == "open":
        whole[-1] = whole[-1].replace(last=b"\xff" * len(whole[-1].first), why="")
    return whole
