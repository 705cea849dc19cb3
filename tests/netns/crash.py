"""Kill a command at any of its effects, for the tests of crash safety.

A command runs in a forked child, a process of its own that shares nothing with the next one but the kernel and
the files. In the child, and only there, every function through which nsbridge changes anything is replaced by
one that counts first: files (open for writing, write, link, rename, unlink, mkdir, rmdir, truncate), netlink
sends, mounts, new namespaces, settings, spawned processes, signals. At the chosen count it kills the child with
SIGKILL. What is before one effect is after the one before, so killing before each, and once after the last,
is killing before and after each. What changes nothing is no effect: questions to the kernel, opening a file or making
a folder that is there. Being killed there is being killed before the next effect.
"""

from __future__ import annotations

import os
import re
import signal
import struct
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from lab import NETNS, mounted_namespaces, sh

from nsbridge.engine import recovery, services, topology  # noqa: F401
from nsbridge.errors import NsbridgeError

# Imported here, so that not every child has to.
from nsbridge.kernel import apply, foreground, foreign, libc, netlink, nftnetlink, observe, process  # noqa: F401
from nsbridge.wiring import open_host

if TYPE_CHECKING:
    from collections.abc import Callable

    from nsbridge.engine.host import Host

NEVER = 1 << 30
NETLINK_SOCK_DIAG = 4
_HEADER = struct.Struct("=IH")
_QUESTIONS = frozenset((10 << 8) + number for number in range(1, 20, 3)) | {(1 << 8) + 1}
"""NFT_MSG_GETTABLE and its like, IPCTNL_MSG_CT_GET: nf_tables.h and nfnetlink_conntrack.h in <linux/netfilter>."""


class Killer:
    """Counts effects from now on, and kills this process before number `at` (from 0)."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.seen: list[str] = []
        for name in "write pwrite ftruncate link rename unlink rmdir posix_spawn kill killpg".split():
            self._watch(os, name)
        self._watch(os, "mkdir", lambda path, *_: not os.path.lexists(path))
        self._watch(os, "open", _makes)
        for name in "mount umount unshare".split():
            self._watch(libc, name)
        self._watch(netlink.NetlinkSocket, "_send", _commands)

    def _watch(self, owner: Any, name: str, changes: Callable[..., bool] = lambda *_: True) -> None:
        real = getattr(owner, name)

        def counted(*args: Any, **named: Any) -> Any:
            if changes(*args):
                self.point(f"{name} {args[:2]!r:.200}")
            return real(*args, **named)

        setattr(owner, name, counted)

    def point(self, what: str) -> None:
        if len(self.seen) == self.at:
            # Not os.kill, which is watched itself.
            signal.pidfd_send_signal(os.pidfd_open(os.getpid()), signal.SIGKILL)
        self.seen.append(what)


def _makes(path: Any, flags: int, *_: Any) -> bool:
    """Whether opening this makes a file, empties one, or sets a setting."""
    new = flags & os.O_CREAT and not os.path.lexists(path)
    return bool(new or flags & os.O_TRUNC or (flags & os.O_WRONLY and str(path).startswith("/proc/sys/")))


def _commands(sock: netlink.NetlinkSocket, packed: bytes) -> bool:
    """Whether any of these messages is more than a question: of rtnetlink, each third of four types is one."""
    protocol, at = sock._protocol, 0
    while at < len(packed):
        size, kind = _HEADER.unpack_from(packed, at)
        if kind not in _QUESTIONS and not (protocol == 0 and kind % 4 == 2) and protocol != NETLINK_SOCK_DIAG:
            return True
        at += size + 3 & ~3
    return False


@dataclass(frozen=True)
class Ended:
    """How a child ended. error: the text of the NsbridgeError it met, empty without one."""

    killed: bool
    error: str = ""
    seen: tuple[str, ...] = ()
    said: str = ""


def child(work: Callable[[Host], object], kill_at: int = NEVER) -> Ended:
    """Run a command in a process of its own; any other exception than NsbridgeError fails the test."""
    return wait(begin(work, kill_at))


def begin(work: Callable[[Host], object], kill_at: int = NEVER) -> tuple[int, int]:
    """Start a command in a process of its own; `wait` takes what this returns."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reading)
        _work(work, kill_at, writing)
    os.close(writing)
    return pid, reading


def _work(work: Callable[[Host], object], kill_at: int, writing: int) -> NoReturn:
    write, leave = os.write, os._exit
    try:
        said: list[str] = []
        killer = Killer(kill_at)
        try:
            work(open_host(said.append))
        except NsbridgeError as err:
            write(writing, f"E{type(err).__name__}: {err}".encode())
        killer.point("the end")
        write(writing, "".join([f"\0P{point}" for point in killer.seen] + [f"\0S{text}" for text in said]).encode())
    except BaseException:
        write(writing, b"\0X" + traceback.format_exc().encode())
    leave(0)


def wait(started: tuple[int, int]) -> Ended:
    pid, reading = started
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read().decode()
    _, status = os.waitpid(pid, 0)
    parts = text.split("\0")
    assert not any(part.startswith("X") for part in parts), text
    assert os.WIFSIGNALED(status) or status == 0
    error = next((part[1:] for part in parts if part.startswith("E")), "")
    seen = tuple(part[1:] for part in parts if part.startswith("P"))
    said = "\n".join(part[1:] for part in parts if part.startswith("S"))
    return Ended(os.WIFSIGNALED(status), error, seen, said)


def recover() -> Ended:
    """The next command: opening the host is what recovers, whatever comes after."""
    done = child(lambda host: None)
    assert not done.error, done.error
    return done


# ------------------------------------------------------------------ what there is

# `ip -d address` has all that `ip -d link` has. iptables-nft's tables are in nft's list, with xt rules as comments.
_LINKS = "ip -d address; ip route show table all; ip -6 route show table all"
_INSIDE = "; ip -n {0} -d address; ip -n {0} route; ip -n {0} -6 route"
_RULES = "; echo; nft --stateless list ruleset"
_LEFT_OUT = re.compile(
    r"^\d+: |@if\d+|(?<=link-netnsid )\d+|(?<=group )\d+|\[\d+:\d+\]|^# .*$|\w+_timer +[\d.]+|expires \d+sec"
    r"|tso_max_\w+ \d+|(?<=new)netnsid \d+|link-netns \S+|valid_lft .*$|(?:designated_port|port_id|port_no) \S+"
    # What comes and goes with the carrier, seconds later.
    r"|NO-CARRIER|LOWER_UP|M-DOWN|state [A-Za-z]+|tentative|linkdown|[<>,]+"
    r"|^.*fe80.*$|^.*ff00::/8.*$",
    re.M,
)
_RANDOM = re.compile(r"(nsb[0-9a-f]{12}\W[^\n]*\n +link/ether )\S+")
_MASKED = re.compile(r'"(?:pid|started|netns_id)": \d+|"since": [\d.]+')
_IGNORED = ("boot", "lock", "ports.lock", "names.lock", "hosts.lock", "projects.lock", "resolv.conf")
_SETTINGS = ("ipv4/ip_forward", "ipv6/conf/all/forwarding", "ipv6/conf/*/accept_ra", "ipv4/conf/*/route_localnet")


def root() -> Path:
    """The one store below /run/nsbridge."""
    (found,) = Path("/run/nsbridge").iterdir()
    return found


def _files() -> list[str]:
    rows = []
    for path in sorted(Path("/run/nsbridge").rglob("*")):
        name = str(path.relative_to(root())) if path != root() else ""
        if path.is_dir() or name in _IGNORED or "/.next" in name:
            continue
        text = "" if name.endswith("/log") else path.read_text()
        rows += [f"file {name}", *[f"file {name}: {row}" for row in sorted(text.splitlines()) if row.strip()]]
    return [_MASKED.sub("", row) for row in rows]


def _settings() -> list[str]:
    net = Path("/proc/sys/net")
    return [f"sysctl {path} = {path.read_text().strip()}" for each in _SETTINGS for path in sorted(net.glob(each))]


def picture(*namespaces: str) -> str:
    """All of the host that nsbridge could have changed, and the inside of these namespaces, by others' eyes.

    Left out: what a link made anew has differently (index, random MAC of a port) and what is still settling
    (carrier). Also said: who lives here.
    """
    inner = "".join(_INSIDE.format(one) for one in namespaces)
    links, _, rules = sh(_LINKS + inner + _RULES).out.partition("\n\n")
    listed = _LEFT_OUT.sub(" ", _RANDOM.sub(r"\1", links))
    spaces = [f"netns {path}" for path in mounted_namespaces()] + [f"name {path}" for path in sorted(NETNS.glob("*"))]
    rows = [" ".join(row.split()) for row in listed.splitlines()]
    return "\n".join([*filter(None, rows), rules, *spaces, *_files(), *_settings()])
