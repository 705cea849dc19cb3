"""The policy of a file: lines like ``web -> db:5432/tcp`` as rules of the model."""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import TYPE_CHECKING

from nsbridge.desired.policy import levels
from nsbridge.errors import InvalidIntent
from nsbridge.files.faults import Path, Report, Wrong
from nsbridge.files.screen import did_you_mean
from nsbridge.model.policy import ALL_PORTS, PROTOCOLS, VERDICTS, Party, PolicyRule

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsbridge.files.networks import Known
    from nsbridge.files.shape import PolicyShape, TopologyShape
    from nsbridge.model.service import Service

_FORM = "write SOURCE -> TARGET[:PORTS][/PROTOCOL], as in web -> db:5432/tcp"
_TARGET = re.compile(r"(?P<who>\[[^\]]+\]|[^:/\[\]]+(?:/[0-9]+)?)(?::(?P<ports>[^/]*))?(?:/(?P<proto>[A-Za-z]+))?")
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
EVERYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))


def policy_rules(
    topology: TopologyShape, known: Known, services: Iterable[Service], report: Report
) -> tuple[PolicyRule, ...]:
    """Translate all rules; their faults stand at the line that has them."""
    reader = _Reader(known, {service.name for service in services} | set(topology.services or ()))
    found: list[PolicyRule] = []
    for index, shape in enumerate(topology.policy or ()):
        path: Path = ("policy", index)
        given = [verdict for verdict in VERDICTS if getattr(shape, verdict) is not None]
        if len(given) != 1:
            said = f"has {' and '.join(given)}" if given else "says neither allow, deny nor reject"
            report.fault(path, said, "write one of them a rule")
            continue
        try:
            rules = reader.rules(given[0], shape)
            levels((*found, *rules))
            found += rules
        except Wrong as wrong:
            report.fault((*path, given[0]), wrong.message, wrong.hint)
        except InvalidIntent as error:
            report.fault((*path, given[0]), error.message, error.fix)
    return tuple(found)


class _Reader:
    """Knows what names mean."""

    def __init__(self, known: Known, services: set[str]) -> None:
        self.known = known
        self.services = services

    def rules(self, verdict: str, shape: PolicyShape) -> list[PolicyRule]:
        """Read one line: a rule, or one a network when its source is ``*``."""
        line = str(getattr(shape, verdict))
        source, arrow, target = (part.strip() for part in line.partition("->"))
        if not arrow or not source or not target:
            raise Wrong(f"is no rule: {line!r}", _FORM)
        match = _TARGET.fullmatch(target)
        if match is None:
            raise Wrong(f"has a target that can't be read: {target!r}", f"{_FORM}; an IPv6 address stands in brackets")
        proto = (match["proto"] or "any").lower()
        if proto not in PROTOCOLS:
            raise Wrong(f"has a protocol {proto!r}", f"use one of {', '.join(PROTOCOLS)}")
        ports = _ports(match["ports"]) if match["ports"] is not None else ALL_PORTS
        goal = Party("address", nets=EVERYWHERE) if match["who"] == "*" else self.party(match["who"])
        sources = self.everybody() if source == "*" else [self.party(source)]
        return [PolicyRule(verdict, one, goal, proto, ports, bool(shape.log)) for one in sources]

    def everybody(self) -> list[Party]:
        """All networks of the file."""
        return [Party("network", self.known.names[key]) for key in self.known.networks]

    def party(self, text: str) -> Party:
        """A service, a network, ``host``, ``world``, an address or a subnet."""
        bare = text.removeprefix("[").removesuffix("]")
        if bare == text and text in self.services:
            return Party("service", text)
        if bare == text and text in self.known.names:
            return Party("network", self.known.names[text])
        if text == "host":
            return Party("host")
        if text == "world":
            return Party("address", nets=EVERYWHERE)
        try:
            return Party("address", nets=(ip_network(bare),))
        except ValueError:
            pass
        if bare != text or ":" in text or re.fullmatch(r"[0-9./]+", text):
            raise Wrong(f"has no address or subnet: {text!r}", "write it like 10.0.0.0/8 or [fd00::/8]")
        hint = did_you_mean(text, [*sorted(self.services), *self.known.names])
        raise Wrong(f"there is no service or network {text!r}", hint or _FORM)


def _ports(text: str) -> tuple[tuple[int, int], ...]:
    found = []
    for part in text.split(","):
        match = _PORTS.fullmatch(part.strip())
        if match is None:
            raise Wrong(f"has ports that can't be read: {text!r}", "write them like 80, 8000-8010 or 80,443")
        found.append((int(match[1]), int(match[2] or match[1])))
    return tuple(found)
