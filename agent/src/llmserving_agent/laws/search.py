"""The interval search of Algorithm 2 (arXiv 2503.05248v1, section III.B), over one bound.

The interval [lo, hi] is moved by the latency of recent steps against a set point, and the bound is its middle. The
paper gives no values for ``alpha`` (least width), ``delta`` (outward drift) and the tolerance; ours are in
``SearchOptions``.

Corrections to the published form, each with its reason:

* *Clamp.* The fast branch can push ``lo`` below the minimum and the slow one ``hi`` above the maximum; both are
  clamped.
* *Fast path.* The slow branch shrinks by about ``delta / 2`` a call. Far above the set point the linear step-time model
  gives the bound at once, with the part of the step that the bound does not govern (``offset``) left out where known.
* *Proportional drift.* With headroom ``delta`` alone takes minutes over hundreds of sequences; it grows with the
  headroom by the same model.
* *Width.* A fixed ``alpha`` is coarser than a small bound itself; it is at most a quarter of the bound, ``delta`` a
  quarter of ``alpha``.
* *Monotone.* A fast observation never lowers ``lo`` and a slow one never raises ``hi``, whatever batch was seen.
* *Demand.* A bound that held nobody back says nothing about larger ones; it grows only while it binds (``binding``).
"""

from dataclasses import dataclass
from enum import Enum

from llmserving_api.policy import Limits


class Pace(Enum):
    """Latency against the set point."""

    SLOW = "slow"
    WITHIN = "within"
    FAST = "fast"


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """Constants of the search.

    Attributes:
        alpha: Width of the interval for large bounds.
        least_alpha: Width for small ones.
        tolerance: Half width of the accepted band, as a share of the set point (the paper's eps_D).
        fast_path: Latency over set point from which the linear model is used.
        min_steps: Steps needed for a decision.
    """

    alpha: int
    least_alpha: int
    tolerance: float = 0.05
    fast_path: float = 1.2
    min_steps: int = 16

    def width(self, bound: int) -> int:
        """``alpha`` at this bound."""
        return max(self.least_alpha, min(self.alpha, bound // 4))


SEQS = SearchOptions(alpha=16, least_alpha=4)
TOKENS = SearchOptions(alpha=256, least_alpha=64, min_steps=6)


@dataclass(frozen=True, slots=True)
class Interval:
    """State of the search: the bound lies in [lo, hi]."""

    lo: int
    hi: int

    @property
    def middle(self) -> int:
        """The bound."""
        return (self.lo + self.hi) // 2


@dataclass(frozen=True, slots=True)
class Observation:
    """Recent steps that tell of one bound.

    Attributes:
        latency: Mean seconds of a step.
        batch: Mean batch in it, in the unit of the bound.
        offset: Seconds of it that the bound does not govern; 0 where that is not known.
        binding: Whether the bound held work back.
    """

    latency: float
    batch: float
    offset: float = 0.0
    binding: bool = True


def around(bound: int, limits: Limits, options: SearchOptions) -> Interval:
    """The interval whose middle is this bound: to begin with, and wherever the search is set anew."""
    bound = max(limits.min, min(limits.max, bound))
    half = min(options.width(bound) // 2, bound - limits.min, limits.max - bound)
    return Interval(bound - half, bound + half)


def pace(latency: float, set_point: float, options: SearchOptions) -> Pace:
    """Which branch of Algorithm 2 a latency leads to."""
    if latency > set_point * (1 + options.tolerance):
        return Pace.SLOW
    if latency < set_point * (1 - options.tolerance):
        return Pace.FAST
    return Pace.WITHIN


def narrowed(
    interval: Interval, seen: Observation, set_point: float, limits: Limits, options: SearchOptions
) -> Interval:
    """The interval after one observation."""
    alpha = options.width(interval.middle)
    delta = max(1, alpha // 4)
    lo, hi = interval.lo, interval.hi
    observed = round(seen.batch)
    verdict = pace(seen.latency, set_point, options)
    if verdict is Pace.SLOW:
        if seen.latency > options.fast_path * set_point:
            return around(min(interval.middle, int(observed * _ratio(seen, set_point))), limits, options)
        return _clamp(lo - delta, min(hi, max(observed, lo + alpha - delta)), limits)
    if not seen.binding:
        return _clamp(lo, hi, limits)
    if verdict is Pace.FAST:
        drift = max(delta, int(observed * (_ratio(seen, set_point) - 1) / 2))
        return _clamp(max(min(observed, hi - alpha), lo), hi + drift, limits)
    return _clamp(observed - alpha // 2, observed + alpha // 2, limits)


def capped(interval: Interval, seen: Observation, set_point: float, limits: Limits, options: SearchOptions) -> Interval:
    """The interval below the bound at which a step takes the set point, by the linear model; never above where it was.

    For steps that are quick on average and yet too often long, because the bound lets the large ones through.
    """
    bound = int(seen.batch * _ratio(seen, set_point))
    return interval if bound >= interval.middle else around(bound, limits, options)


def _ratio(seen: Observation, set_point: float) -> float:
    """Batch that takes the set point over the batch seen, by the linear model; at most 4."""
    offset = seen.offset if seen.offset < 0.9 * seen.latency else 0.0
    return max(0.0, min(4.0, (set_point - offset) / (seen.latency - offset)))


def _clamp(lo: int, hi: int, limits: Limits) -> Interval:
    lo = max(limits.min, min(limits.max, lo))
    return Interval(lo, max(lo, min(limits.max, hi)))
