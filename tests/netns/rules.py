"""Our rules as the host's firewall holds them, for tests that look at them, take one away, or look at all the others.

``NSBRIDGE_FIREWALL`` says which firewall a test has chosen: nftables, or a variant of iptables. A rule is known by its
reason, which is its comment there and there.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lab import sh

from nsbridge.firewall.iptables_read import comment_in
from nsbridge.kernel.linux import LinuxKernel
from nsbridge.model.names import TABLE
from nsbridge.plan.step import Step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsbridge.engine.host import Host

SAVES = ("iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy")
_OUR_TABLES = re.compile(r"^table (?:inet|bridge) nsbridge \{\n.*?^\}\n", re.M | re.S)
_OUR_ACCEPT = re.compile(r"mark & 0x0?4000000 [=!]= |--mark 0x4000000/0x4000000 .*--comment nsbridge")
_COMPAT = re.compile(r"^table ip6? (?:raw|mangle|nat|filter|security) \{\n.*?^\}\n", re.M | re.S)


def backend() -> str:
    return os.environ.get("NSBRIDGE_FIREWALL") or "nftables"


def _programs() -> tuple[str, str]:
    return backend(), backend().replace("iptables", "ip6tables")


def _saved(program: str) -> str:
    return re.sub(r"\[\d+:\d+\]", "[0:0]", sh(f"{program}-save").out)


def listed() -> str:
    """All our rules, without packet counts, and without what iptables is told of bridges as they come and go."""
    if backend() == "nftables":
        return sh("nft --stateless list table inet nsbridge", check=False).out
    rows = [f"{one} {row}" for one in _programs() for row in _saved(one).splitlines() if "NSB-" in row]
    return "\n".join(row for row in rows if "[bridge] " not in row)


def theirs() -> str:
    """Everybody else's rules: all there are but our tables and chains, and our one rule in a chain that drops."""
    listed = _OUR_TABLES.sub("", sh("nft --stateless list ruleset").out)
    saved = [_saved(one) for one in SAVES]
    if backend() != "nftables":
        listed = _COMPAT.sub("", listed)  # shown by iptables-save as well
        saved = ["\n".join(_without_ours(text)) for text in saved]
    rows = [row for text in (listed, *saved) for row in text.splitlines() if not row.startswith("#")]
    return "\n".join(row for row in rows if not _OUR_ACCEPT.search(row))


def _without_ours(saved: str) -> list[str]:
    """What iptables-save printed, without our chains and without tables that hold nothing: they can't be unloaded."""
    kept = []
    for block in saved.split("COMMIT"):
        rows = [row for row in block.splitlines() if row and "NSB-" not in row and not _OUR_ACCEPT.search(row)]
        if any(row.startswith("-A") or (row.startswith(":") and " ACCEPT " not in row) for row in rows):
            kept.append([row for row in rows if not row.startswith("#")])
    return [row for rows in sorted(kept) for row in rows]


def unloaded(snapshot: str) -> str:
    """A snapshot of the host without iptables' tables that hold nothing."""
    if backend() == "nftables":
        return snapshot
    rows = [row for row in snapshot.splitlines() if not row.startswith(("iptables", "nft"))]
    return "\n".join([*rows, theirs()])


def forget(host: Host, name: str) -> None:
    """Empty a set of ours."""
    host.kernel.do(Step("remove", host.kernel.elements(TABLE, name)))  # type: ignore[attr-defined]


def remove(*whys: str) -> None:
    """Take the rules with these reasons out of our table."""
    changed = set()
    if backend() == "nftables":
        chain = ""
        for row in sh("nft -a list table inet nsbridge").out.splitlines():
            chain = found[1] if (found := re.match(r"\s*chain (\w+) ", row)) else chain
            said = re.search(r'comment "(.*)" # handle (\d+)$', row)
            if said and said[1] in whys:
                sh(f"nft delete rule inet nsbridge {chain} handle {said[2]}")
                changed.add(said[1])
    else:
        for one in _programs():
            table = ""
            for row in _saved(one).splitlines():
                table = row[1:] if row.startswith("*") else table
                why = comment_in(row).rpartition("; ")[2]
                if row.startswith("-A NSB-") and why in whys:
                    Path("/run/rules.gone").write_text(f"*{table}\n-D {row[3:]}\nCOMMIT\n")
                    sh(f"{one}-restore --noflush /run/rules.gone; rm /run/rules.gone")
                    changed.add(why)
    assert changed == set(whys)


@contextmanager
def without(*whys: str) -> Iterator[None]:
    """Take rules out for the time of a `with`."""
    file = Path("/run/rules")
    if backend() == "nftables":
        file.write_text("delete table inet nsbridge\n" + sh("nft list table inet nsbridge").out)
        remove(*whys)
        yield
        sh(f"nft -f {file}")
    else:
        whole = {one: _saved(one) for one in _programs()}
        remove(*whys)
        yield
        for one, text in whole.items():
            file.write_text(text)
            sh(f"{one}-restore < {file}")
    file.unlink()


def elements(*names: str) -> list[str]:
    """The elements of these sets of ours, in words: key, ``:``, data."""
    kernel = LinuxKernel(lambda: "" if backend() == "nftables" else backend())
    found = [one for name in names for one in kernel.elements(TABLE, name)]
    kernel.nft.close()
    return [re.sub(r"/(32|128)\b", "", f"{_words(one.key)} : {_words(one.data)}") for one in found]


def _words(values: tuple[object, ...]) -> str:
    return " . ".join(map(str, values))


def flush() -> None:
    """Take all rules away, as somebody might who doesn't know of us."""
    sh("nft flush ruleset")
    if "legacy" in backend():
        for one in _programs():
            for table in ("raw", "mangle", "nat", "filter", "security"):
                sh(f"{one} -t {table} -F; {one} -t {table} -X")


def counted(chain: str) -> bool:
    """Tell whether a packet has come to the first rule of a chain."""
    if backend() == "nftables":
        return bool(re.search(r"counter packets [1-9]", sh(f"nft list chain inet nsbridge {chain}").out))
    saved = "".join(sh(f"{one}-save -c").out for one in _programs())
    return bool(re.search(rf"^\[[1-9]\d*:\d+\] -A NSB-{chain} ", saved, re.M))


def hide_who_comes_in(bridge: str) -> None:
    """Masquerade connections to published ports, as nobody should."""
    if backend() == "nftables":
        sh("nft insert rule inet nsbridge sources oifname @bridges ct status dnat masquerade")
    else:
        sh(f"{backend()} -t nat -I POSTROUTING -o {bridge} -m conntrack --ctstate DNAT -j MASQUERADE")
