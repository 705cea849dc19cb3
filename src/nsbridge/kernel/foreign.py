"""Other people's forward chains that drop, and the one rule of ours in each.

An accept in our table ends only our chain; a drop anywhere ends the packet. So where the host's own firewall
drops what is forwarded (Docker and ufw set such a policy, firewalld ends its chain with a reject), one static
rule at the front of that chain accepts what carries our mark bit. Nothing else of it is touched, and after
`withdraw` it reads as before, byte for byte.

iptables keeps its rules in one of two places. iptables-nft's are nf_tables rules in tables with fixed names,
so they are found and removed by netlink; only adding goes through the program itself, because which
expressions it understands differs from version to version. iptables-legacy's are in tables of an older
kind: `/proc/net/ip_tables_names` tells whether there are any, while asking the program would load them.
"""

from __future__ import annotations

import errno

from nsbridge.errors import KernelError, unpermitted
from nsbridge.firewall.expressions import Accept, Match
from nsbridge.firewall.ruleset import Rule
from nsbridge.kernel import catchall, nftdecode, nftmessage, programs
from nsbridge.kernel import nftschema as nf
from nsbridge.kernel.netlink import CREATE, Refused, as_text, attr, attribute_list, attributes, message, text
from nsbridge.kernel.nftencode import add_rule
from nsbridge.kernel.nftmessage import header
from nsbridge.model.names import ALIAS, MARK_BIT
from nsbridge.state.things import ForeignAccept

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias, TypeVar

    from nsbridge.kernel.nftnetlink import Nft

    T = TypeVar("T")
    Place: TypeAlias = tuple[str, str, str]
    """Family, table and chain."""
    Expressions: TypeAlias = list[tuple[str, dict[int, bytes]]]

COMMENT = ALIAS

_COMPAT: dict[Place, str] = {("ip", "filter", "FORWARD"): "iptables-nft", ("ip6", "filter", "FORWARD"): "ip6tables-nft"}
_PLACES = {where: place for place, where in _COMPAT.items()}
_LEGACY = {"iptables-legacy": "ip_tables_names", "ip6tables-legacy": "ip6_tables_names"}
_MARK = f"{MARK_BIT:#x}/{MARK_BIT:#x}"
_SPEC = ("-m", "mark", "--mark", _MARK, "-m", "comment", "--comment", COMMENT, "-j", "ACCEPT")
_RULE = Rule((Match("mark", (MARK_BIT, MARK_BIT)), Accept()), why=COMMENT)


# ------------------------------------------------------------------ finding


def droppers(nft: Nft) -> tuple[ForeignAccept, ...]:
    """Return the forward chains that drop whatever comes: by their policy, by a rule, or in a chain they lead to.

    Costs a dump of chains, and of the rules of those that hook into forward (and of those that these lead to); for
    iptables-legacy one run of the program.
    """
    found = []
    for place, drops in _forward_chains(nft):
        if not catchall.stops(place[2], lambda chain, of=place[:2]: _ways(nft, (*of, chain)), drops):  # type: ignore[misc]
            continue
        rules = [expressions for _, expressions, _ in _rules(nft, place)]
        if place in _COMPAT and _is_compat(place, rules):
            found.append(ForeignAccept(_COMPAT[place], why="its FORWARD chain drops what comes through"))
        else:
            found.append(ForeignAccept("nft", *place, why="this forward chain drops what comes through"))
    for where in _LEGACY:
        if _legacy_loaded(where) and _legacy_drops(where):
            found.append(ForeignAccept(where, why="its FORWARD chain drops what comes through"))
    return tuple(found)


def _forward_chains(nft: Nft) -> Iterator[tuple[Place, bool]]:
    """Filter chains of other tables that hook into forward, and whether their policy is drop."""
    for family in ("ip", "ip6", "inet"):
        for body in nft.dump(nf.GETCHAIN, header(family)):
            table, chain, drops = nftdecode.chain_of(body)
            if chain.hook == "forward" and chain.kind == "filter" and (family, table) != nft.table:
                yield (family, table, chain.name), drops


def routers(nft: Nft) -> tuple[str, ...]:
    """Name other people's source NAT: whoever rewrites what leaves needs forwarding, whoever turned it on."""
    found = []
    for family in ("ip", "ip6", "inet"):
        for body in nft.dump(nf.GETCHAIN, header(family)):
            table, chain, _ = nftdecode.chain_of(body)
            place = (family, table, chain.name)
            if (
                chain.hook == "postrouting"
                and chain.kind == "nat"
                and (family, table) != nft.table
                and any(not _calls_us(expressions) for _, expressions, _ in _rules(nft, place))
            ):
                found.append(f"table {family} {table}")
    return (*found, *(f"{where}'s nat table" for where in _LEGACY if _legacy_translates(where)))


def _calls_us(expressions: Expressions) -> bool:
    """Tell whether an iptables rule is the one that leads to our chains, where they are in iptables."""
    return any(name == "match" and _match_comment(item).startswith(f"{ALIAS} ") for name, item in expressions)


def _rules(nft: Nft, place: Place) -> list[tuple[bytes, Expressions, str]]:
    """Rules of a chain: handle, expressions by name, comment."""
    family, table, chain = place
    found = []
    for body in nft.dump(nf.GETRULE, header(family) + text(1, table) + text(2, chain)):
        rule = attributes(body, 4)
        if as_text(rule[1]) != table or as_text(rule[2]) != chain:
            continue  # a kernel that doesn't filter
        items = [attributes(data) for _, data in attribute_list(rule.get(4, b""))]
        expressions = [(as_text(item[1]), attributes(item.get(2, b""))) for item in items]
        found.append((rule[3], expressions, nftmessage.comment(rule.get(7, b""))))
    return found


def _ways(nft: Nft, place: Place) -> list[catchall.Way]:
    """What those rules of a chain do that ask nothing; our own accept asks for our mark."""
    ways = [catchall.way(expressions) for _, expressions, _ in _rules(nft, place)]
    return [one for one in ways if one]


def _verdict(name: str, item: dict[int, bytes]) -> int | None:
    if name != "immediate":
        return None
    verdict = attributes(attributes(item.get(2, b"")).get(2, b""))
    return int.from_bytes(verdict[1], "big", signed=True) if 1 in verdict else None


def _is_compat(place: Place, rules: list[Expressions]) -> bool:
    """Tell whether a chain with iptables' own name is iptables': its rules are in its form, each has a counter."""
    if not rules:
        return programs.find(_COMPAT[place]) is not None
    if any(name in ("match", "target") for rule in rules for name, _ in rule):
        return True
    return all(any(name == "counter" for name, _ in rule) for rule in rules)


def _legacy_loaded(where: str, table: str = "filter") -> bool:
    try:
        with open(f"/proc/thread-self/net/{_LEGACY[where]}", encoding="ascii") as names:
            return table in names.read().split()
    except FileNotFoundError:
        return False
    except PermissionError as err:
        raise unpermitted("the names of iptables' tables can't be read") from err


def _legacy_translates(where: str) -> bool:
    if not _legacy_loaded(where, "nat"):
        return False
    rows = _run(where, "-w", "-t", "nat", "-S", "POSTROUTING")[1].splitlines()
    return any(row.startswith("-A") and f'--comment "{ALIAS} ' not in row for row in rows)


def _legacy_drops(where: str) -> bool:
    said = _run(where, "-w", "-S")[1].splitlines()
    return bool(catchall.stops("FORWARD", catchall.listed(said), "-P FORWARD DROP" in said))


# ------------------------------------------------------------------ our rule


def accepts(nft: Nft) -> tuple[ForeignAccept, ...]:
    """Return the chains in which our rule stands, whether they still drop or not."""
    found = []
    for place, _ in _forward_chains(nft):
        if _ours(nft, place):
            compat = place in _COMPAT and _is_compat(place, [rule for _, rule, _ in _rules(nft, place)])
            found.append(ForeignAccept(_COMPAT[place]) if compat else ForeignAccept("nft", *place))
    return (*found, *[one for one in map(ForeignAccept, _LEGACY) if present(one, nft)])


def present(thing: ForeignAccept, nft: Nft | None = None) -> bool:
    """Tell whether our rule stands in that chain. nft: a socket to use, else one is opened for the call."""
    if thing.where in _LEGACY:
        return _legacy_loaded(thing.where) and _run(thing.where, "-w", "-C", "FORWARD", *_SPEC)[0] == 0
    return bool(_with(nft, lambda socket: _ours(socket, _place(thing))))


def accept(thing: ForeignAccept, nft: Nft | None = None) -> None:
    """Put our rule at the front of that chain unless it is in it.

    KernelError when the chain is gone or refuses it, `Unsupported` when the program it takes isn't installed.
    """
    if present(thing, nft):
        return
    if thing.where == "nft":
        rule = add_rule(thing.family, thing.table, thing.chain, _RULE, CREATE)
        try:
            _with(nft, lambda socket: socket.write([rule]))
        except Refused as err:
            raise _refused(thing, err.errno or 0, err.text) from err
        return
    if thing.where in _LEGACY and not _legacy_loaded(thing.where):
        raise _refused(thing, errno.ENOENT, "its filter table is gone")
    code, said = _run(thing.where, "-w", "-I", "FORWARD", *_SPEC)
    if code:
        raise _refused(thing, errno.EINVAL, said.strip() or f"{thing.where} ended with status {code}")


def withdraw(thing: ForeignAccept, nft: Nft | None = None) -> None:
    """Take our rule out of that chain again; that it (or the chain) is gone already is success."""
    if thing.where in _LEGACY:
        while present(thing, nft):
            code, said = _run(thing.where, "-w", "-D", "FORWARD", *_SPEC)
            if code and present(thing, nft):
                raise _refused(thing, errno.EINVAL, said.strip())
        return
    try:
        _with(nft, lambda socket: _remove(socket, _place(thing)))
    except Refused as err:
        if err.errno != errno.ENOENT:
            raise _refused(thing, err.errno or 0, err.text) from err


def _remove(nft: Nft, place: Place) -> None:
    head = header(place[0]) + text(1, place[1]) + text(2, place[2])
    for handle in _ours(nft, place):
        nft.write([message(nf.DELRULE, 0, head + attr(3, handle))])


def _with(nft: Nft | None, work: Callable[[Nft], T]) -> T:
    """Work with the socket given, else with one for the time of it."""
    if nft is not None:
        return work(nft)
    from nsbridge.kernel.nftnetlink import Nft as NewNft

    own = NewNft()
    try:
        return work(own)
    finally:
        own.close()


def _place(thing: ForeignAccept) -> Place:
    return _PLACES.get(thing.where, (thing.family, thing.table, thing.chain))


def _ours(nft: Nft, place: Place) -> list[bytes]:
    """Handles of our rule in a chain: it bears our name, reads the mark and accepts."""
    found = []
    try:
        rules = _rules(nft, place)
    except Refused as err:
        if err.errno == errno.ENOENT:
            return []
        raise
    for handle, expressions, why in rules:
        names = [why, *[_match_comment(item) for name, item in expressions if name == "match"]]
        marks = any(
            (name == "meta" and item.get(2) == b"\0\0\0\3") or (name == "match" and as_text(item.get(1, b"")) == "mark")
            for name, item in expressions
        )
        accepts = bool(expressions) and _verdict(*expressions[-1]) == nf.ACCEPT
        if COMMENT in names and marks and accepts:
            found.append(handle)
    return found


def _match_comment(item: dict[int, bytes]) -> str:
    """The text of iptables' comment match (struct xt_comment_info), which nft(8) can't show."""
    return as_text(item.get(3, b"")) if as_text(item.get(1, b"")) == "comment" else ""


def _refused(thing: ForeignAccept, code: int, said: str) -> KernelError:
    where = " ".join(part for part in (thing.where, thing.family, thing.table, thing.chain or "FORWARD") if part)
    return KernelError(f"the chain {where} refused our rule: {said}", errno=code, thing=thing)


# ------------------------------------------------------------------ programs


def _run(name: str, *arguments: str) -> tuple[int, str]:
    """Run a program; return its exit status and all it said."""
    code, out, err = programs.run(name, *arguments, needed=", but its FORWARD chain drops what nsbridge forwards")
    return code, out + err
