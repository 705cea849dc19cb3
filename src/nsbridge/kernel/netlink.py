"""Netlink: messages packed by hand, many in one send(), one verdict each (netlink(7), <linux/netlink.h>).

A message is a header and a body; a body is a fixed part and attributes (length, type, bytes, padded to four).
The kernel works a message off inside send(): when that returns, every acknowledgement is already queued, so
`transact` reads without waiting and can't hang on one that never comes. rtnetlink goes on after a refused
message; nf_tables takes a batch as a whole or not at all. A socket belongs for life to the network namespace
of the thread that opened it, whatever thread uses it later.

Our own encoder because importing pyroute2 costs 240 ms and each of its calls ten times ours.
"""

from __future__ import annotations

import _socket
import errno
import os
from _struct import Struct
from _thread import allocate_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

ROUTE = 0
NETFILTER = 12

REQUEST, ACK = 0x1, 0x4
ROOT, MATCH = 0x100, 0x200
DUMP = ROOT | MATCH
REPLACE, EXCL, CREATE, APPEND = 0x100, 0x200, 0x400, 0x800

_DUMP_INTERRUPTED = 0x10
_CAPPED, _HAS_ATTRIBUTES = 0x100, 0x200
_NOOP, _ERROR, _DONE, _OVERRUN = 1, 2, 3, 4
_SOL_NETLINK, _CAP_ACK, _EXT_ACK, _STRICT = 270, 10, 11, 12
_EXT_ACK_TEXT = 1
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_NESTED, _TYPE_MASK = 0x8000, 0x3FFF

_CHUNK = 96
"""rtnetlink messages in one send(): should the kernel refuse them all, its answers must fit into the default receive
buffer (212,992 bytes, about 770 each), or it drops what doesn't fit."""

_ASKED = 32
"""Requests for one object each in one send(): a link's description takes up to 4 KiB of the receive buffer."""

_HEADER = Struct("=IHHII")
_ATTR = Struct("=HH")
_U16, _U32, _BE16, _BE32 = (Struct(form) for form in ("=H", "=I", ">H", ">I"))
_S32 = Struct("=i")


class Refused(OSError):
    """The kernel refused a message.

    index: position of the first refused one among the messages sent. errno and text: the kernel's reason and
    its own words (extended ACK), or strerror's. done: positions of those it acknowledged as done; in an
    nf_tables batch they were rolled back, and mean nothing. refusals: every (index, errno, text).
    """

    def __init__(self, refusals: Sequence[tuple[int, int, str]], done: tuple[int, ...] = ()) -> None:
        self.index, code, self.text = refusals[0]
        super().__init__(code, self.text)
        self.refusals = tuple(refusals)
        self.done = done


# ------------------------------------------------------------------ packing


def attr(kind: int, data: bytes = b"") -> bytes:
    """An attribute: its bytes as they are."""
    size = 4 + len(data)
    return _ATTR.pack(size, kind) + data + bytes(-size & 3)


def nested(kind: int, *parts: bytes) -> bytes:
    """An attribute that holds attributes (with NLA_F_NESTED, as strict parsers want)."""
    return attr(kind | _NESTED, b"".join(parts))


def u8(kind: int, value: int) -> bytes:
    """An attribute of one byte."""
    return attr(kind, bytes((value,)))


def u16(kind: int, value: int) -> bytes:
    """An attribute of two bytes in the machine's order."""
    return attr(kind, _U16.pack(value))


def u32(kind: int, value: int) -> bytes:
    """An attribute of four bytes in the machine's order."""
    return attr(kind, _U32.pack(value))


def be16(kind: int, value: int) -> bytes:
    """An attribute of two bytes in network order."""
    return attr(kind, _BE16.pack(value))


def be32(kind: int, value: int) -> bytes:
    """An attribute of four bytes in network order (signed values too)."""
    return attr(kind, _BE32.pack(value & 0xFFFFFFFF))


def text(kind: int, value: str) -> bytes:
    """An attribute that holds a NUL-terminated string."""
    return attr(kind, value.encode() + b"\0")


def message(kind: int, flags: int, body: bytes) -> bytes:
    """A message; NLM_F_REQUEST is added, the sequence number comes when it is sent."""
    return _HEADER.pack(16 + len(body), kind, flags | REQUEST, 0, 0) + body


def acknowledged(one: bytes) -> bytes:
    """The message with NLM_F_ACK: the kernel tells its success too."""
    return one[:6] + _U16.pack(_U16.unpack_from(one, 6)[0] | ACK) + one[8:]


# ------------------------------------------------------------------ parsing


def attribute_list(data: bytes, offset: int = 0) -> list[tuple[int, bytes]]:
    """Return (type, bytes) of each attribute from `offset` on, flags taken off; torn ones end the list."""
    found = []
    end = len(data)
    unpack = _ATTR.unpack_from
    while offset + 4 <= end:
        size, kind = unpack(data, offset)
        if size < 4 or offset + size > end:
            break
        found.append((kind & _TYPE_MASK, data[offset + 4 : offset + size]))
        offset += size + 3 & ~3
    return found


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """Return the attributes from `offset` on by type; of one given twice, the last."""
    found = {}
    end = len(data)
    unpack = _ATTR.unpack_from
    while offset + 4 <= end:  # as above, a third sooner: links by the thousand are read with it
        size, kind = unpack(data, offset)
        if size < 4 or offset + size > end:
            break
        found[kind & _TYPE_MASK] = data[offset + 4 : offset + size]
        offset += size + 3 & ~3
    return found


def as_u32(data: bytes) -> int:
    """Four bytes in the machine's order."""
    return int(_U32.unpack_from(data)[0])


def as_be32(data: bytes) -> int:
    """Four bytes in network order."""
    return int(_BE32.unpack_from(data)[0])


def as_text(data: bytes) -> str:
    """A string up to its NUL; bytes that aren't UTF-8 survive as surrogates."""
    return data.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _replies(data: bytes) -> Iterable[tuple[int, int, int, int, int]]:
    """Yield (type, flags, sequence, start and end of the body) of each message in a datagram."""
    offset, end = 0, len(data)
    while offset + 16 <= end:
        size, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        if size < 16 or offset + size > end:
            raise OSError(errno.EMSGSIZE, "a netlink reply is longer than its buffer")
        yield kind, flags, sequence, offset + 16, offset + size
        offset += size + 3 & ~3


def _verdict(data: bytes, kind: int, flags: int, start: int, end: int) -> tuple[int, str]:
    """Read an NLMSG_ERROR or the tail of an NLMSG_DONE: errno, 0 for an acknowledgement, and the kernel's words."""
    code = -_S32.unpack_from(data, start)[0]
    said = ""
    if flags & _HAS_ATTRIBUTES:
        # An error repeats our message, or only its header when the kernel caps it; an end of list doesn't.
        echoed = 0 if kind == _DONE else 16 if flags & _CAPPED else as_u32(data[start + 4 : start + 8])
        skip = 4 + echoed
        said = as_text(attributes(data[start + (skip + 3 & ~3) : end]).get(_EXT_ACK_TEXT, b""))
    return code, said or (os.strerror(code) if code else "")


# ------------------------------------------------------------------ the socket


class NetlinkSocket:
    """A netlink socket of the calling thread's network namespace. Threads may share it; calls queue up."""

    def __init__(self, protocol: int) -> None:
        """Open it for `ROUTE` or `NETFILTER`; OSError when the kernel has no such family."""
        sock = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, protocol)
        self._socket = sock
        self._protocol = protocol
        self._sequence = 0
        self._room = 0
        self._lock = allocate_lock()
        # Connected to the kernel (port 0), so that no other process can slip us a reply.
        sock.connect((0, 0))
        for option in (_CAP_ACK, _EXT_ACK) if protocol == NETFILTER else (_CAP_ACK, _EXT_ACK, _STRICT):
            sock.setsockopt(_SOL_NETLINK, option, 1)

    def close(self) -> None:
        """Close it. After deleting rules that waits for the kernel's garbage collection, 8 to 20 ms."""
        self._socket.close()

    def __enter__(self) -> NetlinkSocket:
        """Return itself; leaving the block closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """Its file descriptor."""
        return self._socket.fileno()

    def transact(self, messages: Sequence[bytes], *, tolerate: Collection[int] = ()) -> None:
        """Send messages and take the kernel's verdict on them.

        tolerate: errno values that count as success, ENODEV for a removal say. `Refused` tells which messages
        failed and which were done. One send() for nf_tables; for rtnetlink one for each 96 messages, and what
        follows a chunk with a refused message isn't sent.

        Failures are told unasked and in order, so it is enough to have the last message `acknowledged`, as is done
        here for rtnetlink: each acknowledgement is a datagram of its own, and a recv().
        """
        step = len(messages) if self._protocol == NETFILTER else _CHUNK
        done: list[int] = []
        with self._lock:
            for first in range(0, len(messages), step or 1):
                refusals = self._send_chunk(messages[first : first + step], first, done, tolerate)
                if refusals:
                    raise Refused(refusals, tuple(done))

    def request(self, one: bytes) -> list[tuple[int, bytes]]:
        """Send one message that asks for something and return its replies as (type, body). `Refused` says no."""
        return self._ask(one, ACK)

    def dump(self, one: bytes) -> list[tuple[int, bytes]]:
        """Send one message that asks for a list and return its replies as (type, body).

        A list that changed while the kernel wrote it is asked for again, at most eight times.
        """
        return self._ask(one, DUMP)

    def ask(self, messages: Sequence[bytes]) -> list[bytes | None]:
        """Send requests for one object each, many in one send(); return the body of each reply, None where refused."""
        found: list[bytes | None] = []
        with self._lock:
            for first in range(0, len(messages), _ASKED):
                found += self._ask_chunk(messages[first : first + _ASKED])
        return found

    def _ask_chunk(self, messages: Sequence[bytes]) -> list[bytes | None]:
        packed, position, _ = self._pack(messages)
        self._send(packed)
        found: list[bytes | None] = [None] * len(messages)
        while position:
            try:
                data = self._socket.recv(65536, _socket.MSG_DONTWAIT)
            except OSError as err:  # what didn't fit into the receive buffer is asked for again, alone
                if err.errno != errno.ENOBUFS and not isinstance(err, BlockingIOError):
                    raise
                for index in position.values():
                    found[index] = self._ask_again(messages[index])
                break
            for kind, _, sequence, start, end in _replies(data):
                if (index := position.pop(sequence, -1)) >= 0 and kind != _ERROR:
                    found[index] = data[start:end]
        return found

    def _ask_again(self, one: bytes) -> bytes | None:
        try:
            found = self._ask_once(one, ACK)
        except Refused:
            return None
        return found[0][1] if found else None

    def _pack(self, messages: Sequence[bytes]) -> tuple[bytearray, dict[int, int], set[int]]:
        """Join messages under fresh sequence numbers: bytes, position by number, numbers that will be answered."""
        packed = bytearray().join(messages)
        position: dict[int, int] = {}
        expected = set()
        offset = 0
        for index, one in enumerate(messages):
            self._sequence = self._sequence + 1 & 0xFFFFFFFF
            _U32.pack_into(packed, offset + 8, self._sequence)
            position[self._sequence] = index
            if _U16.unpack_from(one, 6)[0] & ACK:
                expected.add(self._sequence)
            offset += len(one)
        return packed, position, expected

    def _send(self, packed: bytes | bytearray) -> None:
        if len(packed) > 100_000 and len(packed) * 2 > self._room:
            self._room = len(packed) * 2
            for force, plain in ((_SO_SNDBUFFORCE, _socket.SO_SNDBUF), (_SO_RCVBUFFORCE, _socket.SO_RCVBUF)):
                try:
                    self._socket.setsockopt(_socket.SOL_SOCKET, force, self._room)
                except PermissionError:  # a user namespace other than the first: net.core.wmem_max is the limit
                    self._socket.setsockopt(_socket.SOL_SOCKET, plain, self._room)
        self._socket.send(packed)

    def _send_chunk(
        self, messages: Sequence[bytes], first: int, done: list[int], tolerate: Collection[int]
    ) -> list[tuple[int, int, str]]:
        if self._protocol == ROUTE:
            messages = [*messages[:-1], acknowledged(messages[-1])]
        packed, position, expected = self._pack(messages)
        self._send(packed)
        refusals: list[tuple[int, int, str]] = []
        overrun = False
        # Failures of messages that didn't ask come before what the last one asked for (nfnl_err_deliver, nfnetlink.c).
        while expected:
            try:
                data = self._socket.recv(65536, _socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError as err:
                if err.errno != errno.ENOBUFS:
                    raise
                overrun = True
                continue
            for kind, flags, sequence, start, end in _replies(data):
                if kind != _ERROR or sequence not in position:
                    continue
                expected.discard(sequence)
                code, said = _verdict(data, kind, flags, start, end)
                if code and code not in tolerate:
                    refusals.append((first + position[sequence], code, said))
        failed = {index for index, _, _ in refusals}
        done += [index for index in range(first, first + len(messages)) if index not in failed]
        if not refusals and (overrun or expected):
            lost = min((position[one] for one in expected), default=0)
            refusals.append((first + lost, errno.ENOBUFS, "the kernel's answer was lost: the receive buffer overran"))
        refusals.sort()
        return refusals

    def _ask(self, one: bytes, flags: int) -> list[tuple[int, bytes]]:
        with self._lock:
            for _ in range(8):
                found = self._ask_once(one, flags)
                if found is not None:
                    return found
        raise OSError(errno.EINTR, "a list kept changing while the kernel wrote it")

    def _ask_once(self, one: bytes, flags: int) -> list[tuple[int, bytes]] | None:
        """Return the replies, None when the kernel says they don't belong together or some were lost."""
        self._sequence = asked = self._sequence + 1 & 0xFFFFFFFF
        size, kind, own, _, _ = _HEADER.unpack_from(one)
        self._send(_HEADER.pack(size, kind, own | flags, asked, 0) + one[16:])
        found: list[tuple[int, bytes]] = []
        torn = False
        while True:
            try:
                data = self._socket.recv(65536)
            except OSError as err:
                if err.errno != errno.ENOBUFS:
                    raise
                return None
            for kind, own, sequence, start, end in _replies(data):
                if sequence != asked:
                    continue  # the rest of an earlier answer
                torn |= bool(own & _DUMP_INTERRUPTED)
                if kind in (_ERROR, _DONE):
                    code, said = _verdict(data, kind, own, start, end) if end - start >= 4 else (0, "")
                    if code == errno.EINTR:
                        torn = True
                    elif code:
                        raise Refused([(0, code, said)])
                    return None if torn else found
                if kind not in (_NOOP, _OVERRUN):
                    found.append((kind, data[start:end]))
