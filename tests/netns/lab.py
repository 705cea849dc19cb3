"""The laboratory of the kernel tests: a fresh host, a client outside, servers, requests, and a picture of it all.

      outside (namespace)                       the host (the test's own namespace)
      eth0 198.51.100.2  ───── veth pair ─────  up0 198.51.100.1
           2001:db8:1::2                            2001:db8:1::1, default routes through outside

Outside knows nothing of the networks behind the host, as the internet doesn't: without masquerade no answer
comes back. Everything is built with iproute2, nft and iptables, so that what nsbridge does is judged by others.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import urlsplit

from nsbridge.kernel import sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

T = TypeVar("T")

HERE = Path(__file__).parent
NETNS = Path("/run/netns")
OUTSIDE = "outside"
HOST4, HOST6 = "198.51.100.1", "2001:db8:1::1"
OUTSIDE4, OUTSIDE6 = "198.51.100.2", "2001:db8:1::2"
CLONE_NEWNET, MNT_DETACH = 0x40000000, 2
IFA_F_TENTATIVE = 0x40  # <linux/if_addr.h>

POLICIES = ("none", "iptables-nft", "iptables-legacy", "nft", "iptables-nft+iptables-legacy+nft")
"""Whose forward chain drops; joined by + when several do. ip6tables goes along, or stands alone: ip6tables-nft."""

STATE = ("/run/nsbridge", "/var/lib/nsbridge")
"""Directories whose files `snapshot` reads."""

_libc = ctypes.CDLL(None, use_errno=True)


def _libc_call(name: str, *args: Any) -> None:
    if getattr(_libc, name)(*args) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")


def for_everybody(*places: str | Path) -> bool:
    """Tell whether other users may read these: a checkout below a private home isn't, so they can't run it."""
    real = [Path(place).resolve() for place in places]
    above = {folder for place in real for folder in place.parents}
    return all(folder.stat().st_mode & 0o001 for folder in above) and all(one.stat().st_mode & 0o004 for one in real)


def inode(netns: str = "/proc/thread-self/ns/net") -> int:
    """Return the inode of a namespace, by default of the calling thread's."""
    return os.stat(netns).st_ino


def inside(netns: str | None, function: Callable[[], T]) -> T:
    """Call a function in a thread that has entered a namespace (path); None is the test's own."""
    if netns is None:
        return function()
    result: list[T] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            fd = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
            try:
                _libc_call("setns", fd, CLONE_NEWNET)
            finally:
                os.close(fd)
            result.append(function())
        except BaseException as err:
            failure.append(err)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


def processes() -> dict[int, str]:
    """Return every process but zombies and ourselves, with its command line."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state = (path / "stat").read_text().rpartition(")")[2].split()[0]
            if state not in "ZX" and int(path.name) != os.getpid():
                found[int(path.name)] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        except OSError:
            continue
    return found


def _mounts() -> list[str]:
    return [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]


def mounted_namespaces() -> list[str]:
    """Return the paths below /run/netns on which something is mounted."""
    return sorted({point for point in _mounts() if point.startswith(f"{NETNS}/")})


def eventually(check: Callable[[], Any], *, timeout_s: float = 3.0) -> Any:
    """Return the first true value of `check`, or its last one when the time is over."""
    deadline = time.monotonic() + timeout_s
    while not (value := check()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return value


def hears(link: str, ns: str | None = None) -> bool:
    """Tell whether IPv6 works on a link of a namespace (path): its link-local address is there, and no longer checked.

    Before that, the kernel doesn't count the link as operational, and knows no way to the multicast groups either:
    who asks for a MAC isn't heard. It looks at a new carrier within a second, or as soon as it is asked for the link.
    """
    sh(f"ip link show dev {link}", ns)
    listed = inside(ns, lambda: Path("/proc/thread-self/net/if_inet6").read_text()).splitlines()
    flags = [int(line.split()[4], 16) for line in listed if line.startswith("fe80") and line.split()[5] == link]
    return bool(flags) and not any(one & IFA_F_TENTATIVE for one in flags)


class FreshHost:
    """An empty network namespace with an empty /run for the time of a `with`, and a look at what was left behind."""

    def __enter__(self) -> Self:
        assert sandbox.in_sandbox()
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._processes = {*processes(), os.getpid()}
        self._mounts = _mounts()
        self.registered: set[str] = set()
        _libc_call("unshare", CLONE_NEWNET)
        sandbox.furnish()
        self.inode = inode()
        return self

    def netns(self, name: str) -> str:
        """Return the path of a namespace of that name, made (with loopback up) unless it exists; removed at the end."""
        path = NETNS / name
        if not path.exists():
            sh(f"ip netns add {name} && ip -n {name} link set lo up")
            self.registered.add(str(path))
        return str(path)

    def strangers(self) -> dict[int, str]:
        """Return the processes that weren't there when the host was made."""
        return {pid: line for pid, line in processes().items() if pid not in self._processes}

    def __exit__(self, kind: object, *_: object) -> None:
        strangers = {} if eventually(lambda: not self.strangers(), timeout_s=1.0) else self.strangers()
        for pid in strangers:
            os.kill(pid, 9)
        left = [path for path in mounted_namespaces() if path not in self.registered]
        _libc_call("setns", self._home, CLONE_NEWNET)
        os.close(self._home)
        for path in ("/run", "/sys"):  # with all that is mounted below
            if _mounts().count(path) > self._mounts.count(path):
                _libc_call("umount2", path.encode(), MNT_DETACH)
        if kind is None:
            assert not strangers, f"processes left behind: {strangers}"
            assert not left, f"namespaces left mounted: {left}"


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    status: int
    out: str
    err: str


def sh(command: str | Sequence[str], ns: str | None = None, *, check: bool = True, timeout_s: float = 20.0) -> Done:
    """Run a command (text: a shell's) in a namespace (path); fail the test when it fails, unless told not to."""
    argv = ["sh", "-c", command] if isinstance(command, str) else list(command)
    done = inside(
        ns, lambda: subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL)
    )
    assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
    return Done(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Reply:
    """What came of a request. status: of HTTP, 200 for TCP and UDP, 0 without an answer (`error` says why).

    source, source_port: of the client as an echo server saw it; server: the name of that server.
    """

    status: int = 0
    body: str = ""
    source: str = ""
    source_port: int = 0
    server: str = ""
    error: str = ""

    def __bool__(self) -> bool:
        return self.status == 200


def _reply(status: int, body: str) -> Reply:
    try:
        seen = json.loads(body)
        return Reply(status, body, seen["source"], seen["source_port"], seen["server"])
    except (ValueError, TypeError, KeyError):  # not our echo server
        return Reply(status, body)


def _converse(proto: str, address: str, port: int, said: bytes, timeout_s: float) -> bytes:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM if proto == "udp" else socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout_s)
        sock.connect((address, port))
        sock.sendall(said)
        received = sock.recv(65536)
        while proto == "http" and (more := sock.recv(65536)):
            received += more
        return received


def ask(proto: str, address: str, port: int, said: bytes, ns: str | None, timeout_s: float) -> Reply:
    try:
        received = inside(ns, lambda: _converse(proto, address, port, said, timeout_s)).decode("utf-8", "replace")
    except TimeoutError:
        return Reply(error="no answer")
    except OSError as err:
        return Reply(error=os.strerror(err.errno) if err.errno else str(err))
    if proto != "http":
        return _reply(200, received)
    head, _, body = received.partition("\r\n\r\n")
    return _reply(int(head.split()[1]), body) if head.startswith("HTTP/") else Reply(error=f"not HTTP: {head[:80]!r}")


@dataclass
class Lab:
    """The host with a client outside it. Namespaces are given by name or path; None is the host."""

    host: FreshHost
    policy: str = "none"
    _servers: list[subprocess.Popen[str]] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.host.netns(OUTSIDE)
        sh(f"""set -e
        ip link add up0 type veth peer name eth0 netns {OUTSIDE}
        # No duplicate address detection: its flags would change under `snapshot` two seconds later.
        echo 0 > /proc/sys/net/ipv6/conf/up0/accept_dad
        ip netns exec {OUTSIDE} sh -c 'echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad'
        ip address add {HOST4}/24 dev up0
        ip address add {HOST6}/64 dev up0 nodad
        ip link set up0 up
        ip -n {OUTSIDE} address add {OUTSIDE4}/24 dev eth0
        ip -n {OUTSIDE} address add {OUTSIDE6}/64 dev eth0 nodad
        ip -n {OUTSIDE} link set eth0 up
        ip route add default via {OUTSIDE4} dev up0
        ip -6 route add default via {OUTSIDE6} dev up0""")
        assert eventually(lambda: hears("up0") and hears("eth0", self.ns(OUTSIDE)))
        for where in self.policy.split("+"):
            drop_forwarded(where)
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.kill()
            server.wait()
            if server.stdout:
                server.stdout.close()

    def ns(self, name: str) -> str:
        """Return the path of a namespace, made unless it exists; a path stays as it is."""
        return name if name.startswith("/") else self.host.netns(name)

    def sh(self, command: str | Sequence[str], ns: str | None = None, *, check: bool = True) -> Done:
        """Run a command in a namespace. It sees that network; its mounts are the host's."""
        return sh(command, ns and self.ns(ns), check=check)

    def serve(self, name: str, *ports: str, ns: str | None = None) -> None:
        """Start an echo server that calls itself `name`: ``lab.serve("web", "http:80", "udp:53", ns="ns1")``."""
        argv = [sys.executable, "-I", str(HERE / "echo.py"), name, *ports]
        server = inside(ns and self.ns(ns), lambda: subprocess.Popen(argv, stdout=subprocess.PIPE, text=True))
        self._servers.append(server)
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n", f"the echo server {name} on {ports} didn't start"

    def get(self, url: str, ns: str | None = None, *, timeout_s: float = 1.0) -> Reply:
        """Ask for ``http://ADDRESS:PORT/PATH`` from a namespace. A refusal or no answer is a Reply too, a false one."""
        parts = urlsplit(url)
        path = parts.path or "/"
        request = f"GET {path} HTTP/1.0\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode()
        return ask("http", parts.hostname or "", parts.port or 80, request, ns and self.ns(ns), timeout_s)

    def tcp(
        self, address: str, port: int, ns: str | None = None, *, said: str = "hello", timeout_s: float = 1.0
    ) -> Reply:
        """Say something to a TCP echo server."""
        return ask("tcp", address, port, said.encode(), ns and self.ns(ns), timeout_s)

    def udp(
        self, address: str, port: int, ns: str | None = None, *, said: str = "hello", timeout_s: float = 1.0
    ) -> Reply:
        """Say something to a UDP echo server."""
        return ask("udp", address, port, said.encode(), ns and self.ns(ns), timeout_s)

    def snapshot(self) -> str:
        """Return everything nsbridge could have changed on the host: equal when it left nothing."""
        return snapshot()


def drop_forwarded(where: str) -> None:
    """Make one kind of forward chain drop, as a host's own firewall does."""
    if where == "nft":
        sh("nft add table inet theirs")
        sh("nft 'add chain inet theirs forward { type filter hook forward priority filter; policy drop; }'")
    elif where != "none":
        both = (where,) if where.startswith("ip6") else (where, where.replace("ip", "ip6", 1))
        sh(" && ".join(f"{one} -P FORWARD DROP" for one in both))


LISTINGS = {
    "link": "ip -d link",
    "address": "ip -d address",
    "route": "ip -d route show table all",
    "route6": "ip -d -6 route show table all",
    "rule": "ip rule; ip -6 rule",
    "nft": "nft --stateless list ruleset",
    "iptables": "iptables-nft-save; ip6tables-nft-save",
    "iptables-legacy": "iptables-legacy-save; ip6tables-legacy-save",
}
SYSCTLS = ("ipv4/conf/*/*", "ipv6/conf/*/*", "ipv4/ip_forward", "ipv4/ip_nonlocal_bind", "bridge/*")
_VOLATILE = re.compile(
    r"\[\d+:\d+\]|^# .*$|(?:hello|tcn|topology_change|gc)_timer +[\d.]+|hold_timer +[\d.]+|expires \d+sec|age [\d.]+",
    re.M,
)


def snapshot() -> str:
    """Return listings of this namespace without times and packet counts; each line begins with what it lists."""
    seen = {name: _VOLATILE.sub("", sh(command).out) for name, command in LISTINGS.items()}
    seen["sysctl"] = "\n".join(f"{key} = {value}" for key, value in _sysctls())
    seen["netns"] = "\n".join([*mounted_namespaces(), *sorted(map(str, NETNS.glob("*")))])
    for top in map(Path, STATE):
        for path in sorted(top.rglob("*")):
            content = path.read_bytes().decode("utf-8", "replace") if path.is_file() else "a directory"
            seen[str(path)] = content or "an empty file"
    return "".join(f"{name}| {line.rstrip()}\n" for name, text in seen.items() for line in text.splitlines())


def _sysctls() -> Iterator[tuple[str, str]]:
    root = Path("/proc/sys/net")
    for pattern in SYSCTLS:
        for path in sorted(root.glob(pattern)):
            try:
                yield str(path.relative_to(root)), path.read_text().strip()
            except OSError:  # write-only, or without a value yet (stable_secret)
                continue
