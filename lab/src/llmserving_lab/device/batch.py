"""What one engine step contains and what it costs: the interface between a scheduler's output and the device model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StepBatch:
    """The work of one step, in aggregates that a caller can take in one pass over the scheduled requests.

    Attributes:
        prefill: One `(tokens, cached)` pair per request that computes prompt tokens (or recomputes after preemption) in this
            step: tokens computed now, and tokens of the same request whose KV is there already.
        decodes: Number of requests that compute exactly their newest token.
        decode_context_sum: Sum over those requests of the tokens their attention reads (KV present, new token included).
        decode_context_max: The largest of them.
        sampled: Requests that sample a token in this step (all decodes, and prefills that finish their prompt).
    """

    prefill: tuple[tuple[int, int], ...] = ()
    decodes: int = 0
    decode_context_sum: int = 0
    decode_context_max: int = 0
    sampled: int = 0

    @property
    def prefill_tokens(self) -> int:
        """Prompt tokens computed in this step."""
        return sum(tokens for tokens, _ in self.prefill)

    @property
    def tokens(self) -> int:
        """All tokens computed in this step."""
        return self.prefill_tokens + self.decodes


@dataclass(frozen=True, slots=True)
class StepCost:
    """What a step takes.

    Attributes:
        seconds: From the start of the step to the start of the next in a saturated engine: device and host time
            combined as the scheduling mode does it (asynchronous: the larger of the two; synchronous: their sum).
        device_seconds: The device's share.
        host_seconds: The host's share (scheduling, input preparation, output handling).
        extrapolated: True when some part lies outside the measured range.
    """

    seconds: float
    device_seconds: float
    host_seconds: float
    extrapolated: bool
