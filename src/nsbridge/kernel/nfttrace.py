"""What rules a packet meets, told by the kernel while it happens (nft(8), ``meta nftrace set 1``).

Every rule of nf_tables that applies to a traced packet, every chain left and every policy is an event of the
netlink group NFNLGRP_NFTRACE. Rules of iptables-nft are among them; of iptables-legacy nothing is.
"""

from __future__ import annotations

import _socket
import errno
from select import poll

from nsbridge.errors import KernelError
from nsbridge.kernel import nftmessage
from nsbridge.kernel.fwdecode import verdict_of
from nsbridge.kernel.netlink import NETFILTER, as_be32, as_text, attributes
from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_GROUP = 9  # NFNLGRP_NFTRACE
_TRACE = 0xA11  # NFT_MSG_TRACE
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
_ROOM = 4 << 20
_SO_RCVBUFFORCE = 33
_KINDS = {1: "policy", 2: "return", 3: "rule"}


class Traced(Value):
    """One event. packet: the kernel's number for it, the same at every hook of one namespace.

    kind: ``rule`` (with its handle), ``return`` from a chain, ``policy``. verdict: ``accept``, ``drop``, ``continue``,
    ``jump X``, ``goto X``, ``return``, ``queue``, ``stolen`` (by whoever took it). iif, oif: numbers of interfaces.
    network, transport: the first bytes of the headers, with the first event of a hook only.
    """

    packet: int
    family: str
    table: str
    chain: str
    kind: str
    verdict: str
    handle: int = 0
    iif: int = 0
    oif: int = 0
    mark: int = 0
    network: bytes = b""
    transport: bytes = b""


class Traces:
    """An ear for the events of the calling thread's network namespace; close it, or use it in a ``with``."""

    def __init__(self) -> None:
        """Begin to listen; KernelError when the kernel doesn't let us."""
        self._socket = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, NETFILTER)
        try:
            self._socket.bind((0, 0))
            self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP)
            try:
                self._socket.setsockopt(_socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM)
            except PermissionError:  # a user namespace other than the first
                self._socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVBUF, _ROOM)
        except OSError as err:
            self._socket.close()
            raise KernelError(
                f"the kernel's trace of rules can't be heard: {err.strerror}", errno=err.errno or 0
            ) from err
        self._poll = poll()
        self._poll.register(self._socket.fileno(), 1)

    def __enter__(self) -> Traces:
        """Return itself; leaving the block closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def fileno(self) -> int:
        """Its file descriptor, to wait for."""
        return self._socket.fileno()

    def read(self, wait_s: float = 0.0) -> list[Traced]:
        """Events that are there, after waiting at most so many seconds for the first.

        KernelError (ENOBUFS) when some were lost because nobody read them.
        """
        found: list[Traced] = []
        patience = wait_s
        while self._poll.poll(patience * 1000):
            patience = 0.0
            try:
                data = self._socket.recv(65536)
            except OSError as err:
                raise KernelError(f"some of the trace was lost: {err.strerror}", errno=err.errno or errno.EIO) from err
            found += _events(data)
        return found


def _events(data: bytes) -> Iterator[Traced]:
    at = 0
    while at + 16 <= len(data):
        size = int.from_bytes(data[at : at + 4], "little")
        kind = int.from_bytes(data[at + 4 : at + 6], "little")
        if size < 16:
            return
        if kind == _TRACE:
            yield decode(data[at + 16 : at + size])
        at += (size + 3) & ~3


def decode(body: bytes) -> Traced:
    """One event (NFTA_TRACE_*)."""
    item = attributes(body, 4)

    def number(kind: int) -> int:
        return int.from_bytes(item.get(kind, b""), "big")

    kind = _KINDS.get(number(4), f"event {number(4)}")
    if kind == "rule" and 3 not in item:
        kind = "return"  # the end of a chain is told as a rule without a handle
    if kind == "policy":
        verdict = {0: "drop", 1: "accept"}.get(number(16), str(number(16)))
    else:
        verdict = _verdict(item.get(5, b""))
    return Traced(
        number(6), nftmessage.family(body), as_text(item.get(1, b"")), as_text(item.get(2, b"")), kind, verdict,
        number(3), number(10), number(12), number(14), item.get(8, b""), item.get(9, b""),
    )  # fmt: skip


def _verdict(data: bytes) -> str:
    code = as_be32(attributes(data).get(1, b"\xff\xff\xff\xff"))
    if code == 0xFFFFFFFF:
        return "continue"
    found = verdict_of(data)
    if found is None:
        return {2: "stolen", 3: "queue"}.get(code & 0xFF, "continue")
    chain = getattr(found, "chain", "")
    return f"{type(found).__name__.lower()} {chain}".strip()
