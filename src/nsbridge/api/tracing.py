"""A real packet, followed by the kernel's trace, beside what was predicted of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nsbridge.api.host import current
from nsbridge.engine.trace import Trace
from nsbridge.explain import tell_trace

if TYPE_CHECKING:
    from nsbridge.explain.compare import Comparison


class Tracing:
    """A prediction beside what the kernel did; true if they agree."""

    def __init__(self, comparison: Comparison, source: str, said: str, took_s: float | None) -> None:
        self._source = source
        self._said = said
        self._took_s = took_s
        self.comparison = comparison
        """All of it: the prediction's path, and every hop with its mark."""

    @property
    def differences(self) -> tuple[str, ...]:
        """In which places they differ, in words."""
        return self.comparison.differences

    @property
    def outcome(self) -> str:
        """What the probe saw: connected, answered, refused, unreachable, not sent, silence; "" of another's packet."""
        return self.comparison.outcome

    def record(self) -> dict[str, Any]:
        """Return what ``nsbridge trace --json`` prints."""
        return tell_trace.record(self.comparison, self._source, self._said, self._took_s)

    def __bool__(self) -> bool:
        """Tell whether they agree."""
        return self.comparison.agrees

    def __str__(self) -> str:
        """Give what the probe saw, and whether they agree."""
        return f"{tell_trace.probed(self.comparison, self._said)} {tell_trace.verdict(self.comparison).rstrip(':')}"

    def __repr__(self) -> str:
        return f"<Tracing: {self}>"


def traced(source: str, target: str, *, version: int = 0, wait: bool = False, timeout_s: float = 0.0) -> Tracing:
    """Send one real packet and compare the rules it meets with those that were predicted.

    source, target, version: as for `explained`. wait: send nothing, but follow the next such packet that somebody
    sends. timeout_s: to wait for the answer (0: 0.9), or for that packet (0: for ever). Errors as of `explained`, and
    NotFound when nobody sent anything, NoPermission, Unsupported (before Linux 5.12), KernelError.

    >>> found = nsbridge.traced("host", "localhost:1")
    >>> bool(found), found.outcome
    (True, 'refused')
    """
    with Trace(current(), source, target, version=version, wait=wait) as trying:
        found = trying.run(timeout_s)
        probed = trying.probed
        said, took_s = (probed.said, probed.took_s) if probed is not None else ("", None)
        return Tracing(found, trying.asked.source.name, said, took_s)
