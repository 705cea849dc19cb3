"""Queueing disciplines as rtnetlink messages, and back (<linux/pkt_sched.h>, tc-tbf(8), tc-netem(8)).

A link sends what its root queueing discipline lets go: ``tbf`` bounds the rate; ``netem`` delays and loses as well,
and bounds the rate itself, so one discipline is always enough. What an endpoint receives is what the other end of
its pair, on the host, sends.
"""

from __future__ import annotations

from _struct import Struct

from nsbridge.kernel.netlink import CREATE, EXCL, REPLACE, as_text, attr, attributes, message, nested, text, u32
from nsbridge.model.limits import PACKETS, QUEUE_S, burst
from nsbridge.state.things import Shaper

NEWQDISC, DELQDISC, GETQDISC = 36, 37, 38

_TCMSG = Struct("=BxxxiIII")
_ROOT = 0xFFFFFFFF
_KIND, _OPTIONS = 1, 2
_RATESPEC, _TBF, _U64 = Struct("=BBHhHI"), Struct("=III"), Struct("=Q")
_TBF_PARMS, _TBF_RATE64, _TBF_BURST = 1, 4, 6
_NETEM, _NETEM_RATE = Struct("=IIIIII"), Struct("=IiIi")
_RATE, _RATE64, _LATENCY64, _JITTER64 = 6, 8, 10, 11
_ETHERNET = 1
_MAX32 = 0xFFFFFFFF


def _tbf(rate: int) -> bytes:
    """rate: bytes per second."""
    most = burst(rate)
    spec = _RATESPEC.pack(0, _ETHERNET, 0, -1, 0, min(rate, _MAX32))
    parms = spec + bytes(_RATESPEC.size) + _TBF.pack(min(int(rate * QUEUE_S) + most, _MAX32), 0, 0)
    parts = attr(_TBF_PARMS, parms) + u32(_TBF_BURST, min(most, _MAX32))
    return parts + (attr(_TBF_RATE64, _U64.pack(rate)) if rate > _MAX32 else b"")


def _netem(thing: Shaper, rate: int) -> bytes:
    loss = min(thing.loss * (1 << 32) // 1_000_000 + (1 if thing.loss else 0), _MAX32)
    found = _NETEM.pack(0, PACKETS, loss, 0, 0, 0)
    found += attr(_LATENCY64, _U64.pack(thing.delay * 1000)) + attr(_JITTER64, _U64.pack(thing.jitter * 1000))
    if rate:
        found += attr(_RATE, _NETEM_RATE.pack(min(rate, _MAX32), 0, 0, 0))
        found += attr(_RATE64, _U64.pack(rate)) if rate > _MAX32 else b""
    return found


def _qdisc(flags: int, thing: Shaper, index: int) -> bytes:
    rate = thing.rate // 8
    impaired = thing.delay or thing.loss
    options = attr(_OPTIONS, _netem(thing, rate)) if impaired else nested(_OPTIONS, _tbf(rate))
    kind = text(_KIND, "netem" if impaired else "tbf")
    return message(NEWQDISC, flags, _TCMSG.pack(0, index, 0, _ROOT, 0) + kind + options)


def add_shaper(thing: Shaper, index: int) -> bytes:
    """The message that bounds the link of that index."""
    return _qdisc(CREATE | EXCL, thing, index)


def replace_shaper(thing: Shaper, index: int) -> bytes:
    """The same, in the place of any other."""
    return _qdisc(CREATE | REPLACE, thing, index)


def delete_shaper(index: int) -> bytes:
    """The message that gives a link back what the kernel gave it."""
    return message(DELQDISC, 0, _TCMSG.pack(0, index, 0, _ROOT, 0))


def get_shapers() -> bytes:
    """Ask for the disciplines of all links; those of one can't be asked for."""
    return message(GETQDISC, 0, _TCMSG.pack(0, 0, 0, 0, 0))


def decode_shaper(netns: str, body: bytes, names: dict[int, str]) -> Shaper | None:
    """Read an RTM_NEWQDISC body; None for what isn't a tbf or netem at the root of a link."""
    _, index, _, parent, _ = _TCMSG.unpack_from(body)
    found = attributes(body, _TCMSG.size)
    kind, options = as_text(found.get(_KIND, b"")), found.get(_OPTIONS, b"")
    if parent != _ROOT or index not in names:
        return None
    if kind == "tbf":
        parts = attributes(options)
        rate = _RATESPEC.unpack_from(parts[_TBF_PARMS])[5]
        rate = _U64.unpack(parts[_TBF_RATE64])[0] if _TBF_RATE64 in parts else rate
        return Shaper(netns, names[index], rate * 8)
    if kind != "netem":
        return None
    parts = attributes(options, _NETEM.size)
    loss = _NETEM.unpack_from(options)[2] * 1_000_000 + (1 << 31) >> 32  # to the nearest, as tc(8) rounds
    delay, jitter = (_U64.unpack(parts[each])[0] // 1000 if each in parts else 0 for each in (_LATENCY64, _JITTER64))
    rate = _NETEM_RATE.unpack(parts[_RATE])[0] if _RATE in parts else 0
    rate = _U64.unpack(parts[_RATE64])[0] if _RATE64 in parts else rate
    return Shaper(netns, names[index], rate * 8, delay, jitter, loss)
