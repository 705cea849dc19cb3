"""What explain tells of a packet, what really became of it, and in what they differ."""

from __future__ import annotations

import errno
import json
import os
import selectors
import socket
import struct
import time
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from crossing import rules_met, rules_told
from drawn import ADDRESS, NETWORK
from foretold import ECHO
from lab import OUTSIDE, Lab, eventually, inside, sh

import nsbridge.engine.explain as engine
from nsbridge.engine.asking import SOURCE_PORT
from nsbridge.explain import hooks
from nsbridge.kernel.nfttrace import Traces

if TYPE_CHECKING:
    from collections.abc import Iterable

    from drawn import Ask
    from test_reach_drawn import Servers

    from nsbridge.engine.host import Host
    from nsbridge.explain.path import Path
    from nsbridge.firewall.evaluate import Outcome

SILENCE_S, PATIENCE_S = 0.12, 1.3
"""How long to wait after the last answer; and for one that is asked again alone: a SYN is sent twice then."""

_RECVERR = {4: (socket.IPPROTO_IP, 11), 6: (socket.IPPROTO_IPV6, 25)}
_NOWHERE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EPERM, errno.EINVAL, errno.EADDRNOTAVAIL)
_numbers = count(1)


@dataclass(frozen=True)
class Seen:
    """What became of a packet. error: that its sender was told, 0 for none. answered: by whoever; server, source,
    port: who says that it heard it, and whom it saw, which isn't known of pings. own: the port it was sent from.
    """

    answered: bool = False
    error: int = 0
    server: str = ""
    source: str = ""
    port: int = 0
    own: int = 0

    def __str__(self) -> str:
        what = "answered" if self.answered else errno.errorcode.get(self.error, "silence")
        return f"{what}, heard by {self.server} from {self.source}:{self.port}" if self.server else what


# ------------------------------------------------------------------ what is told


def foretell(host: Host, asked: Iterable[Ask]) -> dict[Ask, Path]:
    """Explain them all, by one look at the host: nothing changes in between. What would mend it isn't asked here."""
    world, kept = engine.world_of(host), (engine.world_of, engine._mendable)
    engine.world_of, engine._mendable = lambda _: world, lambda host, culprit, path: culprit
    try:
        return {ask: explained(host, ask) for ask in asked}
    finally:
        engine.world_of, engine._mendable = kept


def explained(host: Host, ask: Ask) -> Path:
    shown = f"[{ask.to}]" if ask.version == 6 else ask.to
    # By its path: `outside` stands for who comes by the default route, and that may be gone.
    start = f"/run/netns/{ask.start}" if ask.start == OUTSIDE else ask.start or "host"
    return engine.explain(host, start, f"{shown}{f':{ask.port}' if ask.port else ''}/{ask.proto}").path


def is_open(told: Path, seen: Seen) -> bool:
    """Nothing is foretold, or not this. Counted, and never taken for agreement.

    A refusal is foretold, not whether it gets back to the sender. Of endpoints that take turns the first is followed,
    so what became of the packet isn't foretold unless some of them got it and answered.
    """
    unheard = told.fate == "refused" and not (seen.error or seen.answered or seen.server)
    turns = _turns(told) and not (seen.answered and told.fate == "answered")
    return told.doubt or told.fate in ("unknown", "left") or unheard or turns


def _turns(told: Path) -> str:
    """The endpoints that take turns, in explain's words."""
    return next((text for text in told.assumed if text.startswith("it is the turn of")), "")


# ------------------------------------------------------------------ what is seen


def _begin(ask: Ask, said: bytes, port: int = 0) -> tuple[socket.socket, int]:
    """Send it without waiting; return the socket, and the error if it can't even be sent."""
    family = socket.AF_INET6 if ask.version == 6 else socket.AF_INET
    proto = (socket.IPPROTO_ICMPV6 if ask.version == 6 else socket.IPPROTO_ICMP) if ask.proto == ECHO else 0
    sock = socket.socket(family, socket.SOCK_STREAM if ask.proto == "tcp" else socket.SOCK_DGRAM, proto)
    sock.setblocking(False)
    if ask.proto != "tcp":  # which is told everything anyway until it is connected
        sock.setsockopt(*_RECVERR[ask.version], 1)
    try:
        if port:
            sock.bind(("", port))
        sock.connect((ask.to, ask.port or 1))
        if ask.proto != "tcp":
            sock.send(struct.pack("!BBHHH", 8 if ask.version == 4 else 128, 0, 0, 0, 1) if ask.proto == ECHO else said)
    except BlockingIOError:
        pass
    except OSError as err:
        return sock, err.errno or errno.EIO
    return sock, 0


def _heard(ask: Ask, sock: socket.socket, own: int) -> Seen:
    try:
        data = sock.recv(1000)
    except OSError as err:
        return Seen(error=err.errno or errno.EIO, own=own)
    if ask.proto == ECHO or not data:
        return Seen(True, own=own)
    server, source, port = json.loads(data)
    return Seen(True, 0, server, source, port, own)


def watch(
    lab: Lab, servers: Servers, asked: Iterable[Ask], patience_s: float = SILENCE_S, port: int = 0
) -> dict[Ask, Seen]:
    """Send them all at once, and see what becomes of each. patience_s: after the last answer. port: to send from."""
    found: dict[Ask, Seen] = {}
    tokens = {ask: b"told %d" % next(_numbers) for ask in asked}
    by_start: dict[str | None, list[Ask]] = {}
    for ask in tokens:
        by_start.setdefault(ask.start, []).append(ask)
    with selectors.DefaultSelector() as selector, ExitStack() as stack:
        for start, mine in by_start.items():

            def begin(mine: list[Ask] = mine) -> list[tuple[Ask, socket.socket, int]]:
                return [(ask, *_begin(ask, tokens[ask], port)) for ask in mine]

            for ask, sock, error in inside(start and lab.ns(start), begin):
                stack.enter_context(sock)
                own = sock.getsockname()[1]
                found[ask] = Seen(error=error, own=own)
                if not error:
                    selector.register(sock, selectors.EVENT_READ, (ask, own))
        quiet = time.monotonic() + patience_s
        while selector.get_map() and time.monotonic() < quiet:
            for key, _ in selector.select(0.02):
                ask, own = key.data
                found[ask] = _heard(ask, key.fileobj, own)  # type: ignore[arg-type]
                selector.unregister(key.fileobj)
                quiet = max(quiet, time.monotonic() + SILENCE_S)
        for ask, token in tokens.items():
            if not found[ask].answered and token in servers.heard:
                found[ask] = Seen(False, found[ask].error, *servers.heard[token], found[ask].own)
    return found


# ------------------------------------------------------------------ in what they differ


def difference(ask: Ask, told: Path, seen: Seen) -> str:
    """In words; empty when what was told is what was seen."""
    fate, out = told.fate, told.out
    if fate == "answered":
        wrong = not seen.answered or _elsewhere(ask, told, seen)
    elif fate == "no answer":
        wrong = seen.answered or (ask.proto == "udp" and (not seen.server or _elsewhere(ask, told, seen)))
    elif seen.answered or seen.server:
        wrong = True
    elif fate == "refused":
        wrong = not seen.error
        if out.said in ("connection refused", "port unreachable") and out.hops[-1].stage == "socket":
            wrong = seen.error != errno.ECONNREFUSED
    elif fate == "unsent":
        wrong = seen.error not in _NOWHERE
    elif fate == "lost":
        wrong = seen.error not in (0, errno.EHOSTUNREACH)
    else:  # dropped; where the sender's own kernel does it, some senders are told
        sending = out.hops[-1].stage in ("output", "postrouting", "route", "conntrack")
        at_home = sending and {hop.netns for hop in out.hops} == {out.netns}
        wrong = seen.error not in ((0, *_NOWHERE) if at_home else (0,))
    if not wrong:
        return ""
    where = out.netns.removeprefix("/run/netns/") or "host"
    blamed = f", because of {told.culprit.thing}" if told.culprit else ""
    return (
        f"{ask.start or 'host'} asks {ask.to} {ask.port}/{ask.proto}: told {fate}, in {where} from {out.packet.of} "
        f"at {out.hops[-1].stage if out.hops else '?'} {out.said}{blamed}; seen {seen}"
    )


def _elsewhere(ask: Ask, told: Path, seen: Seen) -> bool:
    """Another one heard it than was told, or saw somebody else."""
    packet = told.out.packet
    if ask.proto == ECHO or not seen.server:
        return False
    server = told.out.netns.removeprefix("/run/netns/") or "host"
    if seen.server != server and _by_turns(told, seen.server):
        server = seen.server
    if (seen.server, seen.source) != (server, str(packet.saddr)):
        return True
    return packet.sport == SOURCE_PORT and seen.port != seen.own and not _may_clash(told)


def _by_turns(told: Path, server: str) -> bool:
    return any(address in _turns(told) for address in ADDRESS.get(server, {}).values())


def _may_clash(told: Path) -> bool:
    """Where the source is rewritten its port is kept as long as nobody else has it."""
    return told.out.packet.saddr != told.question.packet.saddr


# ------------------------------------------------------------------ the rules it meets on the host


class Tracer:
    """The kernel's trace of single packets on the host, beside the rules that explain had them meet."""

    def __init__(self) -> None:
        self.traces = Traces()

    def close(self) -> None:
        self.traces.close()

    def compare(self, lab: Lab, host: Host, servers: Servers, ask: Ask) -> str:
        told, met = _met(host, ask)
        port = 20000 + next(_numbers) % 9000
        where = f"meta l4proto {ask.proto} th sport {port} meta nftrace set 1"
        lines = [f"add table {family} tracer" for family in ("inet", "bridge")]
        for family, hook in (("inet", "prerouting"), ("inet", "output"), ("bridge", "prerouting")):
            lines.append(f"add chain {family} tracer {hook} {{ type filter hook {hook} priority -1000; }}")
            lines.append(f"add rule {family} tracer {hook} {where}")
        sh("nft -f - <<'E'\n" + "\n".join(lines) + "\nE")
        try:
            self.traces.read()
            watch(lab, servers, [ask], 0.05, port)
            events = [one for one in self.traces.read(0.02) if one.table != "tracer"]
        finally:
            sh("nft delete table inet tracer; nft delete table bridge tracer")
        wanted, real = rules_met(met), rules_told(events)
        legacy = told.culprit is not None and told.culprit.thing.startswith("iptables-legacy")
        if (told.fate == "answered" and ask.proto == "tcp") or legacy:
            # Its other packets follow; and nothing tells in which order chains of iptables-legacy stand among others.
            real = real[: len(wanted)]
        # Who is kept from a neighbour is kept from asking for his MAC as well, so nothing is ever sent.
        if wanted == real or (not real and _neighbours(ask)):
            return ""
        return f"{ask.start or 'host'} asks {ask.to} {ask.port}/{ask.proto} ({told.fate}): told {wanted}, traced {real}"


def _neighbours(ask: Ask) -> bool:
    there = next((name for name, found in ADDRESS.items() if ask.to in found.values()), None)
    return ask.start in NETWORK and there in NETWORK and NETWORK[ask.start] == NETWORK[there]


def _met(host: Host, ask: Ask) -> tuple[Path, list[Outcome]]:
    """Explain it, and keep what the evaluator said of the host's hooks on the way there."""
    found: list[Outcome] = []
    judge = hooks.hook

    def kept(firewall: object, name: str, packet: object, around: object, **more: object) -> Outcome:
        outcome = judge(firewall, name, packet, around, **more)  # type: ignore[arg-type]
        visible = tuple(met for met in outcome.met if met.backend != "iptables-legacy")
        if around.space.path == "" and packet.sport == SOURCE_PORT:  # type: ignore[attr-defined]
            found.append(outcome.replace(met=visible))
        return outcome

    hooks.hook = kept  # type: ignore[assignment]
    try:
        return explained(host, ask), found
    finally:
        hooks.hook = judge


def settled() -> None:
    """No address is tentative, pings are allowed to anybody, and no error message is held back."""
    for name in ("", *os.listdir("/run/netns")):
        inside(f"/run/netns/{name}" if name else None, _talkative)
    eventually(lambda: "tentative" not in sh("ip -6 address").out)


def _talkative() -> None:
    for key, value in (
        ("ipv4/ping_group_range", "0 0"),
        ("ipv4/icmp_ratelimit", "0"),
        ("ipv6/icmp/ratelimit", "0"),
        ("ipv4/icmp_msgs_per_sec", "100000"),
        ("ipv4/icmp_msgs_burst", "100000"),
    ):
        try:
            with open(f"/proc/sys/net/{key}", "w") as file:
                file.write(value)
        except OSError:  # not in every kernel, and some of it not in every namespace
            continue


def forget() -> None:
    """Nobody remembers a neighbour."""
    for name in ("", *os.listdir("/run/netns")):
        sh("ip neigh flush all", f"/run/netns/{name}" if name else None, check=False)
