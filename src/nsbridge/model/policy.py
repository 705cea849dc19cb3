"""What may talk to what: rules of a file, in the order in which they were written; the first that fits decides.

Rules are about who begins a connection; its answers always pass. A party is a service (its addresses, whichever they
are), a network (its subnets), addresses, or as a target the host: its own sockets, by whichever of its addresses. A
source that is addresses means what comes in from outside the host's networks, after a published port has been
translated.
"""

from __future__ import annotations

from nsbridge.errors import InvalidIntent
from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.state.things import Network_

VERDICTS = ("allow", "deny", "reject")
PROTOCOLS = ("any", "tcp", "udp", "sctp", "icmp")
ALL_PORTS = ((0, 65535),)

LEVELS = {"out": 5, "in": 3, "host": 3}
"""How many rules of a policy may overlap one another: of those about what endpoints begin, what comes in from outside,
and what endpoints begin with the host itself."""


class Party(Value):
    """One side of a rule. kind: ``service``, ``network`` (name: its own), ``address`` with `nets`, or ``host``."""

    kind: str
    name: str = ""
    nets: tuple[Network_, ...] = ()

    def meets(self, other: Party) -> bool:
        """Tell whether an address may belong to both, whatever services come and go."""
        if self.kind == other.kind and self.kind != "address":
            return self.name == other.name
        if self.kind == other.kind:
            return any(a.version == b.version and a.overlaps(b) for a in self.nets for b in other.nets)
        return True

    def __str__(self) -> str:
        """As it may stand in a file."""
        if self.kind != "address":
            return self.name or self.kind
        if all(not net.prefixlen for net in self.nets):
            return "*"
        return ", ".join(f"[{net}]" if net.version == 6 else str(net) for net in self.nets)


class PolicyRule(Value):
    """One rule. ports: (first, last) pairs, both included. log: write to the kernel's log what it decides."""

    verdict: str
    source: Party
    target: Party
    proto: str = "any"
    ports: tuple[tuple[int, int], ...] = ALL_PORTS
    log: bool = False

    def __post_init__(self) -> None:
        """Check the words, the ports, and that one side is ours."""
        if self.verdict not in VERDICTS:
            raise InvalidIntent(f"verdict is {self.verdict!r}", fix=f"use one of {', '.join(VERDICTS)}")
        if self.proto not in PROTOCOLS:
            raise InvalidIntent(f"protocol is {self.proto!r}", fix=f"use one of {', '.join(PROTOCOLS)}")
        for first, last in self.ports:
            if not 0 <= first <= last <= 65535:
                raise InvalidIntent(f"ports are {first}-{last}", fix="use 1 to 65535, the lower one first")
        if self.ports != ALL_PORTS and self.proto == "icmp":
            raise InvalidIntent("ICMP has no ports", fix="remove them")
        if self.source.kind == "host":
            raise InvalidIntent("the host's own connections are not filtered", fix="name the host as a target alone")
        if self.source.kind == "address" and self.target.kind in ("address", "host"):
            raise InvalidIntent("neither side is a service or network of the file", fix="name one")

    @property
    def way(self) -> str:
        """``in`` for what comes from outside, ``out`` for what endpoints begin, ``host`` if that is with the host."""
        if self.target.kind == "host":
            return "host"
        return "in" if self.source.kind == "address" else "out"

    @property
    def protocols(self) -> tuple[str, ...]:
        """The protocols it is about; with ports, TCP and UDP if none is named."""
        return ("tcp", "udp") if self.proto == "any" and self.ports != ALL_PORTS else (self.proto,)

    def meets(self, other: PolicyRule) -> bool:
        """Tell whether one connection may fit both."""
        mine, theirs = self.protocols, other.protocols
        return (
            self.way == other.way
            and (any(proto in theirs for proto in mine) or "any" in mine + theirs)
            and any(a <= d and c <= b for a, b in self.ports for c, d in other.ports)
            and self.source.meets(other.source)
            and self.target.meets(other.target)
        )

    def __str__(self) -> str:
        """``allow: web -> db:5432/tcp``."""
        ports = ",".join(str(a) if a == b else f"{a}-{b}" for a, b in self.ports)
        shown = f":{ports}" if self.ports != ALL_PORTS else ""
        proto = f"/{self.proto}" if self.proto != "any" else ""
        return f"{self.verdict}: {self.source} -> {self.target}{shown}{proto}" + (" (logged)" if self.log else "")


class Policy(Value):
    """The rules of one project."""

    project: str
    rules: tuple[PolicyRule, ...] = ()
