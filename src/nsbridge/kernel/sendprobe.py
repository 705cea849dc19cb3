"""One real packet, sent as a program in a namespace would send it, and what it came to.

tcp: a connection, closed again as soon as it stands. udp: one datagram without content, to which most servers don't
answer. icmp: one echo request. The socket is bound before anything is sent, so its port can be watched for.
"""

from __future__ import annotations

import _socket
import errno
import os
import time

from nsbridge.errors import KernelError, NoPermission
from nsbridge.kernel import netns
from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.firewall.packet import Packet

_SAYS = {
    errno.ECONNREFUSED: "refused",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.EACCES: "unreachable",
    errno.EPERM: "not sent",
    errno.EADDRNOTAVAIL: "not sent",
    errno.EINVAL: "not sent",
}
_ECHO_REPLIES = {4: 0, 6: 129}


class Probed(Value):
    """What a probe saw.

    outcome: ``connected``, ``answered``, ``refused``, ``unreachable`` (an error said so), ``not sent`` (our own kernel
    refused), ``silence``. said: the error. took_s: seconds until then.
    """

    outcome: str
    said: str = ""
    took_s: float = 0.0


class Probe:
    """A socket in a namespace, ready to send. Close it, or use it in a ``with``."""

    def __init__(self, where: str, packet: Packet) -> None:
        """Open and bind it. where: the namespace (path). packet: what to send; an unspecified source is any.

        NoPermission for an echo without CAP_NET_RAW; KernelError for a namespace that can't be entered.
        """
        self._packet = packet
        self._failed: OSError | None = None
        self._begun = 0.0
        version = packet.daddr.version
        self._echo = packet.proto in ("icmp", "icmpv6")
        family = _socket.AF_INET if version == 4 else _socket.AF_INET6
        kinds = {"tcp": (_socket.SOCK_STREAM, 0), "udp": (_socket.SOCK_DGRAM, 0)}
        kind, number = kinds.get(packet.proto, (_socket.SOCK_RAW, 1 if version == 4 else 58))
        try:
            self._socket = netns.inside(where, lambda: _socket.socket(family, kind | _socket.SOCK_CLOEXEC, number))
        except PermissionError as err:
            raise NoPermission("not permitted to send a probe", errno=err.errno or 0, fix="run as root") from err
        except OSError as err:
            raise KernelError(f"can't send a probe from {where}: {err.strerror}", errno=err.errno or 0) from err
        self._socket.setblocking(False)
        self.port = packet.sport or 0
        self._bind(packet)

    def _bind(self, packet: Packet) -> None:
        try:
            self._socket.bind((str(packet.saddr), 0))
        except OSError as err:
            self._failed = err
            return
        self.port = os.getpid() & 0xFFFF or 1 if self._echo else int(self._socket.getsockname()[1])

    def __enter__(self) -> Probe:
        """Return itself; leaving the block closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    @property
    def awaited(self) -> tuple[int, int]:
        """What to wait for: its file descriptor, and the event of poll(2) by which something is known."""
        return self._socket.fileno(), 4 if self._packet.proto == "tcp" else 1

    def send(self) -> Probed | None:
        """Send it; return what it came to when that is known at once."""
        self._begun = time.monotonic()
        if self._failed is not None:
            return self._error(self._failed)
        to = (str(self._packet.daddr), self._packet.dport if self._packet.dport and not self._echo else 0)
        try:
            self._socket.connect(to)
            if self._packet.proto != "tcp":
                self._socket.send(self._request() if self._echo else b"")
        except BlockingIOError:
            return None
        except OSError as err:
            return self._error(err)
        return self._done("connected") if self._packet.proto == "tcp" else None

    def result(self) -> Probed | None:
        """Return what it came to, None while nothing is known."""
        if self._packet.proto == "tcp":
            return self._connected()
        while True:
            try:
                data = self._socket.recv(65536)
            except BlockingIOError:
                return None
            except OSError as err:
                return self._error(err)
            if not self._echo or self._is_answer(data):
                return self._done("answered")

    def _connected(self) -> Probed | None:
        code = self._socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
        if code:
            return self._error(OSError(code, os.strerror(code)))
        try:
            self._socket.getpeername()
        except OSError:  # not yet
            return None
        return self._done("connected")

    def silence(self) -> Probed:
        """Nothing came of it until now."""
        return self._done("silence")

    def _done(self, outcome: str, said: str = "") -> Probed:
        return Probed(outcome, said, time.monotonic() - self._begun)

    def _error(self, err: OSError) -> Probed:
        return self._done(_SAYS.get(err.errno or 0, "unreachable"), err.strerror or str(err))

    def _request(self) -> bytes:
        """An echo request; of ICMPv6 the kernel makes the checksum (RFC 3542 §3.1)."""
        body = bytes((128 if self._packet.daddr.version == 6 else 8, 0, 0, 0))
        body += self.port.to_bytes(2, "big") + b"\0\1"
        if self._packet.daddr.version == 6:
            return body
        total = sum(int.from_bytes(body[at : at + 2], "big") for at in range(0, 8, 2))
        total = (total & 0xFFFF) + (total >> 16)
        return body[:2] + (~total & 0xFFFF).to_bytes(2, "big") + body[4:]

    def _is_answer(self, data: bytes) -> bool:
        version = self._packet.daddr.version
        skip = (data[0] & 15) * 4 if version == 4 and data else 0  # with its IP header, but only of IPv4
        kind = data[skip : skip + 1]
        return kind == bytes((_ECHO_REPLIES[version],)) and data[skip + 4 : skip + 6] == self.port.to_bytes(2, "big")
