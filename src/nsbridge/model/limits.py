"""What an endpoint's link may carry, and how badly it is to behave."""

from __future__ import annotations

from nsbridge.errors import InvalidIntent
from nsbridge.values import Value

MILLION = 1_000_000

QUEUE_S = 0.05
"""How long a packet may wait for a bounded link; what would wait longer is dropped."""

PACKETS = 10_000
"""How many packets a link that delays holds back at most."""


def burst(rate: int) -> int:
    """Return how many bytes may go at once: 10 ms of the rate, in bytes a second, and at least 32 KiB.

    That is half of the largest packet that segmentation offload makes.
    """
    return max(rate // 100, 32 * 1024)


class Limits(Value):
    """Bounds of one endpoint's link; 0 leaves it as it is.

    ingress, egress: bits per second towards and from the endpoint (Incus' limits.ingress and limits.egress). delay,
    jitter: microseconds that what it sends waits, give or take. loss: of a million packets it sends, how many are
    lost. The last three need netem in the kernel.
    """

    ingress: int = 0
    egress: int = 0
    delay: int = 0
    jitter: int = 0
    loss: int = 0

    def __post_init__(self) -> None:
        """Check the ranges: 8 kbit/s is a packet of 1000 bytes a second; tc counts time in 64 bits of nanoseconds."""
        for name, rate in (("ingress", self.ingress), ("egress", self.egress)):
            if rate and not 8_000 <= rate <= 10**12:
                raise InvalidIntent(f"limit {name} is {rate} bit/s", fix="use 8kbit to 1Tbit")
        if not 0 <= self.delay <= 600 * MILLION or not 0 <= self.jitter <= 600 * MILLION:
            raise InvalidIntent(f"delay is {self.delay} µs, jitter {self.jitter} µs", fix="use at most 600s")
        if self.jitter and not self.delay:
            raise InvalidIntent("jitter without a delay has nothing to vary", fix="give a delay too")
        if not 0 <= self.loss <= MILLION:
            raise InvalidIntent(f"loss is {self.loss} of a million packets", fix="use 0% to 100%")

    @property
    def impairs(self) -> bool:
        """Whether netem is needed."""
        return bool(self.delay or self.loss)
