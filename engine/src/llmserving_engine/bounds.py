"""The batch bounds: what is asked for, what the scheduler obeys now, and what happens when nobody asks any more.

Pure: time comes in as an argument. Three things are kept apart: *ceilings* (start-up flags, the most the engine can
ever do), *fallback bounds* (where the bounds drift when the lease has run out) and *bounds* (in force).
"""

import math
from dataclasses import dataclass, field
from typing import Final

GLIDE_SECONDS: Final = 60.0
"""Time from the end of a lease until the bounds have reached the fallback."""
DEFAULT_LEASE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """The pair the scheduler obeys."""

    max_num_seqs: int
    max_num_batched_tokens: int

    def clamped(self, ceilings: "Bounds") -> "Bounds":
        """These bounds, each at most the ceiling and at least 1."""
        return Bounds(
            max(1, min(self.max_num_seqs, ceilings.max_num_seqs)),
            max(1, min(self.max_num_batched_tokens, ceilings.max_num_batched_tokens)),
        )


@dataclass(frozen=True, slots=True)
class Targets:
    """Latency targets in nanoseconds, for counting gaps and overdue requests; 0: no such target."""

    ttft_ns: int = 0
    itl_ns: int = 0
    e2e_ns: int = 0


@dataclass(frozen=True, slots=True)
class Shed:
    """An explicit request to preempt running requests down to ``keep``, once."""

    operation_id: int
    keep: int


@dataclass(frozen=True, slots=True)
class Desired:
    """The state somebody asked for; replaced as a whole, never changed."""

    requested: Bounds
    fallback: Bounds
    operation_id: int = 0
    lease_seconds: float = DEFAULT_LEASE_SECONDS
    confirmed_ns: int = 0
    targets: Targets = field(default_factory=Targets)
    shed: Shed | None = None

    @property
    def expires_ns(self) -> int:
        """When the lease runs out; it holds up to and including this time."""
        return self.confirmed_ns + round(self.lease_seconds * 1e9)

    def bounds_at(self, now_ns: int, ceilings: Bounds) -> Bounds:
        """The bounds to apply: as requested under the lease, afterwards on the way to the fallback."""
        expired_ns = now_ns - self.expires_ns
        if expired_ns <= 0:
            return self.requested.clamped(ceilings)
        share = min(1.0, expired_ns / 1e9 / GLIDE_SECONDS)
        return Bounds(
            _between(self.requested.max_num_seqs, self.fallback.max_num_seqs, share),
            _between(self.requested.max_num_batched_tokens, self.fallback.max_num_batched_tokens, share),
        ).clamped(ceilings)


def _between(start: int, end: int, share: float) -> int:
    """The way from ``start`` to ``end``, equal ratios in equal times, exact at both ends."""
    if share >= 1.0:
        return end
    return round(math.exp(math.log(start) + (math.log(end) - math.log(start)) * share))


class AppliedBounds:
    """What the scheduler obeys, step by step, and since when; owned by the engine's thread."""

    def __init__(self, ceilings: Bounds) -> None:
        self.ceilings = ceilings
        self.applied = ceilings
        self.applied_step = 0
        self.effective: Bounds | None = None
        self.is_gliding = False
        """The lease has run out."""
        self._taken: Desired | None = None
        self._expires_ns = 0

    def advance(self, desired: Desired, now_ns: int, step: int) -> Bounds:
        """Take over what is wanted at this step and return it."""
        if desired is self._taken and now_ns <= self._expires_ns:
            return self.applied
        self._taken, self._expires_ns = desired, desired.expires_ns
        self.is_gliding = now_ns > self._expires_ns
        wanted = desired.bounds_at(now_ns, self.ceilings)
        if wanted != self.applied or self.applied_step == 0:
            self.applied = wanted
            self.applied_step = step
        return self.applied

    def observe(self, running: int, tokens: int) -> None:
        """A step was scheduled: the bounds are effective once one has kept both."""
        if running <= self.applied.max_num_seqs and tokens <= self.applied.max_num_batched_tokens:
            self.effective = self.applied

    def release(self, left: Bounds) -> None:
        """Control has ended and leaves the scheduler with these."""
        self.applied = left
        self._taken = None
