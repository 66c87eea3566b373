"""Nested WAIT: output lengths unknown, survivors gather at segment boundaries (paper B, Alg. 2, Theorem 2).

The decode is cut into segments ``(r_{k-1}, r_k]``. A request that outlives segment k - 1 joins the queue at the
boundary of segment k with probability ``p_k``; that segment's requests advance only when ``n_k`` have gathered, and
only when all shorter segments advance too (the prefix rule).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from llmserving_agent.laws.wait.fluid import IterationTime

MAX_SURVIVAL = 0.99
"""Upper bound of a threshold's ratio to the one before, as in the paper's experiments."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Decode stages ``(start, end]`` and the share of the previous segment's requests that reach it."""

    start: int
    end: int
    survival: float  # p_k; 1 for the first segment

    @property
    def stages(self) -> int:
        """``w_k``: the first segment has the prefill stage as well."""
        return self.end - self.start + (1 if self.start == 0 else 0)

    @property
    def mean_stage(self) -> float:
        """Mean decode depth within the segment."""
        return self.end / 2 if self.start == 0 else (self.start + 1 + self.end) / 2


@dataclass(frozen=True, slots=True)
class NestedThresholds:
    """How many gather at each boundary, and the memory that costs."""

    gather: tuple[int, ...]  # n_k
    memory_tokens: float  # M_pi, resident in equilibrium
    memory_bound_tokens: float  # with the stated probability no overflow below this
    overflow_probability: float
    cycle_seconds: float


def segments_from_survival(survival: Sequence[float], boundaries: Sequence[int]) -> tuple[Segment, ...]:
    """Segments at ``boundaries`` (rising decode depths) from ``survival[s]``, the share that outlives depth s.

    Raises:
        ValueError: the boundaries do not rise, or reach beyond the survival curve.
    """
    edges = (0, *boundaries)
    if any(a >= b for a, b in pairwise(edges)) or edges[-1] >= len(survival):
        raise ValueError(f"boundaries {tuple(boundaries)}: they must rise and stay below depth {len(survival)}")
    shares = [survival[edge] for edge in edges]
    return tuple(
        Segment(start, end, survival=1.0 if k == 0 or shares[k - 1] <= 0 else shares[k] / shares[k - 1])
        for k, (start, end) in enumerate(pairwise(edges))
    )


def boundary_exponent(gather: float, gather_before: float, survival: float) -> float:
    """``theta > 0`` with ``e^(-theta n_k) (1 - p + p e^theta)^(n_{k-1}) = 1``: how fast a boundary queue's tail decays.

    Infinite where survivors cannot exceed the threshold (``gather >= gather_before`` or ``survival == 0``).

    Raises:
        ValueError: survivors outnumber the threshold on average (``gather <= survival x gather_before``): the queue
            would grow.
    """
    if gather <= survival * gather_before:
        raise ValueError(f"threshold {gather}: must be above survival x the one before, {survival * gather_before:.3f}")
    if survival <= 0 or gather >= gather_before:
        return math.inf

    def excess(theta: float) -> float:
        # log(1 - p + p e^theta), stable for large theta
        growth = theta + math.log(survival + (1 - survival) * math.exp(-theta))
        return gather_before * growth - gather * theta

    low = high = 8 * (gather - gather_before * survival) / gather_before
    while excess(high) < 0:
        low, high = high, 2 * high
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    return (low + high) / 2


def nested_thresholds(
    segments: Sequence[Segment],
    prompt_tokens: float,
    iteration: IterationTime,
    in_system: float,
    *,
    horizon_seconds: float = 3600.0,
    overflow_probability: float = 0.01,
    margin: float = 0.05,
) -> NestedThresholds:
    """Thresholds for a cap on requests in the system, built as in the paper's experiments.

    ``n_k = n_1 x prod q_r`` with ``q_k = min(p_k + margin, 0.99)`` (strictly above the survival, as Theorem 2 asks),
    and ``n_1`` from ``sum_k w_k n_k = in_system``, where ``w_k`` counts the decode stages of segment k.

    Args:
        segments: the segments, first to last.
        prompt_tokens: typical prompt length.
        iteration: time of an iteration.
        in_system: requests resident at once.
        horizon_seconds: span for which the memory bound holds.
        overflow_probability: chance of an overflow within the horizon that the bound accepts.
        margin: distance of each threshold's ratio above the survival.
    """
    shares: list[float] = []
    share = 1.0
    for k, segment in enumerate(segments):
        share *= 1.0 if k == 0 else min(segment.survival + margin, MAX_SURVIVAL)
        shares.append(share)
    widths = [segment.end - segment.start for segment in segments]
    first = in_system / sum(w * s for w, s in zip(widths, shares, strict=True))
    exact = [first * s for s in shares]
    memory = sum(
        n * (prompt_tokens + segment.mean_stage) * segment.stages for n, segment in zip(exact, segments, strict=True)
    )
    log_term = math.log(len(segments) * (1 + horizon_seconds / iteration.base_seconds) / overflow_probability)
    buffers = 0.0
    for (before, n), segment in zip(pairwise(exact), segments[1:], strict=True):
        theta = boundary_exponent(n, before, segment.survival)
        buffers += (prompt_tokens + segment.start) * (n + log_term / theta)
    return NestedThresholds(
        gather=tuple(max(1, round(n)) for n in exact),
        memory_tokens=memory,
        memory_bound_tokens=memory + buffers,
        overflow_probability=overflow_probability,
        cycle_seconds=iteration.base_seconds + iteration.seconds_per_token * memory,
    )


def largest_in_system(
    segments: Sequence[Segment],
    prompt_tokens: float,
    iteration: IterationTime,
    capacity_tokens: float,
    *,
    horizon_seconds: float = 3600.0,
    overflow_probability: float = 0.01,
) -> float:
    """Most requests in the system whose memory bound stays within the KV capacity (bisection); 0 when none fits."""
    low, high = 0.0, capacity_tokens / max(prompt_tokens, 1.0)
    for _ in range(50):
        middle = (low + high) / 2
        bound = nested_thresholds(
            segments,
            prompt_tokens,
            iteration,
            middle,
            horizon_seconds=horizon_seconds,
            overflow_probability=overflow_probability,
        ).memory_bound_tokens
        low, high = (middle, high) if bound <= capacity_tokens else (low, middle)
    return low
