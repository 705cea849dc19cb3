"""Why a packet arrives, or doesn't."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nsbridge.api.host import current
from nsbridge.engine import explain as engine
from nsbridge.explain import tell

if TYPE_CHECKING:
    from nsbridge.engine.explain import Told
    from nsbridge.explain.path import Path


class Explanation:
    """What becomes of a packet and of its answer; true if it arrives, or left in good order what can be seen."""

    def __init__(self, told: Told) -> None:
        self._told = told

    @property
    def path(self) -> Path:
        """All of it: the hops there and back, the culprit, what is opaque."""
        return self._told.path

    @property
    def says(self) -> str:
        """The sentence."""
        return tell.sentence(self.path, self._told.asked.source.name)

    @property
    def fix(self) -> tuple[str, ...]:
        """Commands that mend it, none if nothing is broken or no command can."""
        return self.path.culprit.fix if self.path.culprit is not None else ()

    def record(self) -> dict[str, Any]:
        """Return what ``nsbridge explain --json`` prints."""
        return tell.record(self.path, self._told.asked.source.name)

    def __bool__(self) -> bool:
        """Tell whether it arrives."""
        return tell.arrived(self.path)

    def __str__(self) -> str:
        """Give the sentence."""
        return self.says

    def __repr__(self) -> str:
        return f"<Explanation: {self.says}>"


def explained(source: str, target: str, *, version: int = 0, size: int = 0) -> Explanation:
    """Predict what becomes of a packet, from what the kernel holds; sends nothing and changes nothing.

    source: an endpoint, ``host``, ``outside``, ``outside=ADDRESS``, a namespace, or an address. target: the same, with
    ``:PORT`` for tcp, ``:PORT/udp``, or neither for a ping. version: 4 or 6, 0 to choose. size: of the packet, bytes, 0
    for a small one. NotFound, InvalidIntent when that can't be understood.

    >>> print(nsbridge.explained("host", "localhost:1"))
    A tcp connection from the host to 127.0.0.1:1 is refused: nobody listens on port 1/tcp on the host.
    """
    return Explanation(engine.explain(current(), source, target, version=version, size=size))
