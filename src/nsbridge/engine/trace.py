"""A real packet, followed by the kernel's own trace, beside what was predicted of it."""

from __future__ import annotations

import time

from nsbridge.engine import asking
from nsbridge.engine.explain import predict, world_of
from nsbridge.errors import InvalidIntent, NotFound
from nsbridge.explain import compare, following
from nsbridge.firewall.words import rule_words
from nsbridge.kernel.sendprobe import Probe
from nsbridge.kernel.tracer import Post, Tracer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsbridge.engine.asking import Asked
    from nsbridge.engine.host import Host
    from nsbridge.explain.compare import Comparison
    from nsbridge.explain.path import Path
    from nsbridge.explain.world import World
    from nsbridge.firewall.tracing import Event, Watch
    from nsbridge.kernel.sendprobe import Probed
    from nsbridge.state.things import Address_

PATIENCE_S = 0.9
"""How long a probe's answer is waited for. TCP sends again after 1 s (RFC 6298 §2), which would be another packet."""

QUIET_S = 0.05
"""After the answer: when nothing was told for so long, everything was."""


class Trace:
    """A question that is to be tried out: predicted when this is made, tried by `run`. Use it in a ``with``."""

    def __init__(self, host: Host, source: str, target: str, *, version: int = 0, wait: bool = False) -> None:
        """Understand and predict it. wait: don't send anything, but follow what somebody else sends.

        Errors as of `explain`; InvalidIntent when the sender is nowhere that can be reached from here.
        """
        self.host = host
        self.world: World = world_of(host)
        self.asked: Asked = asking.understood(host, self.world, source, target, version=version)
        self.probe: Probe | None = None
        self.probed: Probed | None = None
        self.port = asking.SOURCE_PORT
        if not wait:
            self._ready()
        self.path: Path = predict(host, self.world, self.asked)

    def __enter__(self) -> Trace:
        """Return itself; leaving the block closes the probe's socket."""
        return self

    def __exit__(self, *_: object) -> None:
        if self.probe is not None:
            self.probe.close()

    def _ready(self) -> None:
        """Open the probe's socket, so that what is predicted has its port."""
        question = self.asked.question
        if question.start is None:
            raise InvalidIntent(
                f"a probe can't be sent from {self.asked.source.name}: that is nowhere on this host",
                fix="run it with --wait, and connect from there meanwhile",
            )
        self.probe = Probe(question.start, question.packet)
        self._named(sport=self.probe.port)

    def _named(self, **fields: object) -> None:
        """Ask about the very packet."""
        question = self.asked.question
        packet = question.packet.replace(**fields)
        self.port = packet.sport or 0
        self.asked = self.asked.replace(question=question.replace(packet=packet))

    def run(self, timeout_s: float = 0.0) -> Comparison:
        """Send the probe, or wait for somebody's packet, and compare. Nothing is left afterwards, killed or not.

        timeout_s: to wait for the answer (0: `PATIENCE_S`), or for the packet (0: for ever). NotFound when none
        came; NoPermission, Unsupported, KernelError from the tracing.
        """
        if self.probe is not None:
            watches = following.watches(self.path, self.port)
        else:
            watches = following.awaited(self.path, self._known_source())
        with Tracer(self._posts(watches)) as tracer:
            events = self._probe(tracer, timeout_s) if self.probe is not None else self._follow(tracer, timeout_s)
            outcome = self.probed.outcome if self.probed is not None else ""
            return compare.compare(self.path, events, self.port, outcome, self._namer(), tracer.blind)

    def _known_source(self) -> Address_ | None:
        """The sender's address; None for anybody outside."""
        if self.asked.source.kind == asking.OUTSIDE and self.asked.source.address is None:
            return None
        return self.path.question.packet.saddr

    def _posts(self, watches: tuple[Watch, ...]) -> Iterator[Post]:
        """Yield the host, the namespaces of both ends, and all on the way, each once."""
        path, known = self.path, set()
        legs = (path.out, path.back) if path.back is not None else (path.out,)
        hops = [hop for leg in legs for hop in leg.hops]
        ends = (self.asked.question.start, self.asked.target.netns)
        for netns in ("", *(hop.netns for hop in hops), *(end for end in ends if end is not None)):
            inode = self.host.kernel.netns_id(netns)
            if inode in known or not inode:
                continue
            known.add(inode)
            links = {hop.packet.iif for hop in hops if hop.netns == netns and hop.packet.iif}
            there = self.world.space(netns)
            devices = tuple(sorted(link for link in links if there is not None and link in there.links))
            yield Post(netns, watches, devices if self._at_links(netns) else ())

    def _at_links(self, netns: str) -> bool:
        """Tell whether there are rules at the ingress of links."""
        tables = self.world.firewall(netns).tables
        return any(chain.hook == "ingress" for table in tables for chain in table.chains)

    def _probe(self, tracer: Tracer, timeout_s: float) -> list[Event]:
        probe = self.probe
        assert probe is not None
        events: list[Event] = []
        result = probe.send()
        until = time.monotonic() + (timeout_s or PATIENCE_S)
        while result is None and (left := until - time.monotonic()) > 0:
            events += tracer.read(left, probe.awaited)
            result = probe.result()
        self.probed = result or probe.silence()
        return events + _rest(tracer)

    def _follow(self, tracer: Tracer, timeout_s: float) -> list[Event]:
        until = time.monotonic() + timeout_s
        events: list[Event] = []
        first = None
        while first is None:
            left = until - time.monotonic() if timeout_s else 3600.0
            if left <= 0:
                raise NotFound(
                    f"nothing was sent {self.asked.text} within {timeout_s:g} s", fix="wait longer, with --timeout"
                )
            events += tracer.read(min(left, 3600.0))
            first = next((one for one in events if following.asks(one, self.path)), None)
        until = time.monotonic() + PATIENCE_S
        while (left := until - time.monotonic()) > 0:
            events += tracer.read(left)
        self._named(sport=first.sport, **({"saddr": first.saddr} if self._known_source() is None else {}))
        self.path = predict(self.host, self.world, self.asked)
        return events

    def _namer(self) -> compare.Namer:
        """Look up rules that weren't predicted, in what the kernel holds now."""
        world: list[World] = []

        def name(event: Event) -> tuple[str, str, str]:
            if not world:
                world.append(world_of(self.host))
            return _named(world[0], event)

        return name


def _rest(tracer: Tracer) -> list[Event]:
    events: list[Event] = []
    while more := tracer.read(QUIET_S):
        events += more
    return events


def _named(world: World, event: Event) -> tuple[str, str, str]:
    """Return hook, words and reason of a rule that the kernel told of."""
    firewall = world.firewall(event.netns)
    stage = event.base
    for table in firewall.tables:
        if (table.family, table.name) != (event.family, event.table):
            continue
        chains = {chain.name: chain for chain in table.chains}
        base = chains.get(event.base)
        stage = f"{'bridge ' if table.family == 'bridge' else ''}{base.hook}" if base is not None else stage
        place = f"{table.family} {table.name} {event.chain}"
        if table.backend != "nft":
            place = f"{table.backend} -t {table.name} {event.chain}"
        if event.kind == "policy":
            return stage, f"{place}: policy {event.verdict}", ""
        if event.chain not in chains:
            break
        chain = chains[event.chain]
        for rule in chain.rules:
            if rule.handle == event.handle:
                return stage, f"{place}: {rule_words(rule, chain, table, firewall.contents)}", rule.why
    return stage, f"{event.family} {event.table} {event.chain}: a rule that is gone (handle {event.handle})", ""
