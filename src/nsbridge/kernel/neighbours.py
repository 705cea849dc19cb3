"""Ask the neighbours whether an address is free, and tell them who has it now (RFC 5227, RFC 4861).

Both are for links where we aren't alone: on a bridge of ours the leases say who has an address, and a MAC made
from the address stays right in everybody's ARP table when the address is used again.

Asking is done by the host out of the bridge, before the endpoint exists: an ARP probe (sender 0.0.0.0), or a
neighbour solicitation from ``::``; whoever has the address answers. Telling is done by the endpoint's kernel:
with arp_notify and ndisc_notify on, a link that is given its MAC (again) sends a gratuitous ARP and an
unsolicited advertisement for each address. The bridge port must carry packets by then (`Kernel.await_link`).
"""

from __future__ import annotations

import _socket
import time
from _struct import pack, unpack_from

from nsbridge.kernel import netns, rtnetlink, sysctl
from nsbridge.kernel.netlink import ROUTE, NetlinkSocket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsbridge.state.things import Address_

_ARP, _IPV6 = 0x0806, 0x86DD
_ANY = 3  # ETH_P_ALL
_BROADCAST = b"\xff" * 6
_SOLICIT, _ADVERTISE = 135, 136

PROBES = 3
"""How often is asked: PROBE_NUM of RFC 5227 §1.1."""

PAUSE_S = 0.1
"""Between two questions, and after the last. The RFC's 1 to 2 s are for links that take seconds to come up."""


def _checksum(data: bytes) -> int:
    total = sum(unpack_from(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF)


def question(address: Address_, mac: bytes) -> bytes:
    """The frame that asks who has an address, from a host that hasn't one itself. RFC 5227 §2.1.1, RFC 4862 §5.4.2."""
    if address.version == 4:
        body = pack(">HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, mac, bytes(4), bytes(6), address.packed)
        return _BROADCAST + mac + pack(">H", _ARP) + body
    group = bytes.fromhex("ff0200000000000000000001ff") + address.packed[13:]
    body = pack(">BBHI16s", _SOLICIT, 0, 0, 0, address.packed)
    pseudo = bytes(16) + group + pack(">II", len(body), 58)
    body = body[:2] + pack(">H", _checksum(pseudo + body)) + body[4:]
    header = pack(">IHBB16s16s", 0x60000000, len(body), 58, 255, bytes(16), group)
    return b"\x33\x33" + group[12:] + mac + pack(">H", _IPV6) + header + body


def answer(frame: bytes) -> tuple[bytes, bytes] | None:
    """Return (address, MAC) that a frame claims, None when it claims none.

    An ARP request with the same target that somebody else sends at the same time counts too (RFC 5227 §2.1.1).
    """
    kind = int.from_bytes(frame[12:14], "big")
    if kind == _ARP and len(frame) >= 42:
        return frame[28:32], frame[22:28]
    if kind == _IPV6 and len(frame) >= 78 and frame[20] == 58 and frame[54] == _ADVERTISE:
        return frame[62:78], frame[6:12]
    return None


def probe(link: str, addresses: Iterable[Address_]) -> dict[Address_, str]:
    """Ask on a link of the host who has these addresses; return the MAC of each that is taken."""
    wanted = {address.packed: address for address in addresses}
    found: dict[Address_, str] = {}
    # Closing a packet socket waits for RCU, some 20 ms: another reason to ask only on request.
    with PacketSocket(link) as sock:
        mac: bytes = sock.getsockname()[4]
        for _ in range(PROBES):
            for address in wanted.values():
                sock.send(question(address, mac))
            until = time.monotonic() + PAUSE_S
            while (left := until - time.monotonic()) > 0 and len(found) < len(wanted):
                sock.settimeout(left)
                try:
                    claimed = answer(sock.recv(2048))
                except TimeoutError:
                    break
                if claimed is not None and claimed[0] in wanted and claimed[1] != mac:
                    found[wanted[claimed[0]]] = claimed[1].hex(":")
            if len(found) == len(wanted):
                break
    return found


class PacketSocket:
    """A packet socket of one link of the host, closed at the end. OSError without the link or the right."""

    def __init__(self, link: str) -> None:
        self._sock = _socket.socket(_socket.AF_PACKET, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, 0)
        try:
            self._sock.bind((link, _ANY))
        except OSError:
            self._sock.close()
            raise

    def __enter__(self) -> _socket.socket:
        return self._sock

    def __exit__(self, *_: object) -> None:
        self._sock.close()


def announce(path: str, link: str, mac: str) -> None:
    """Tell the neighbours of `link`, inside `path`, which MAC its addresses have.

    OSError when the namespace or the link is gone.
    """

    def tell() -> None:
        for key in (f"net/ipv4/conf/{link}/arp_notify", f"net/ipv6/conf/{link}/ndisc_notify"):
            if sysctl.read(key):
                sysctl.write(key, "1")
        with NetlinkSocket(ROUTE) as there:
            there.transact([rtnetlink.give_mac(_socket.if_nametoindex(link), mac)])

    netns.inside(path, tell)
