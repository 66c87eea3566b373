"""The interval search of Algorithm 2 (arXiv 2503.05248v1, section III.B), over one bound.

The interval [lo, hi] is moved by the latency of recent steps against a set point, and the bound is its middle. The
paper gives no values for ``alpha`` (least width), ``delta`` (outward drift) and the tolerance; ours are in
``SearchOptions``.

Corrections to the published form, each with its reason:

* *Clamp.* The fast branch can push ``lo`` below the minimum and the slow one ``hi`` above the maximum; both are
  clamped.
* *Fast path.* The slow branch shrinks by about ``delta / 2`` a call; far above the set point the linear step-time model
  gives the bound at once: ``hi = batch * set point / latency``.
* *Proportional drift.* With headroom ``delta`` alone takes minutes over hundreds of sequences; it grows with the
  headroom.
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
        alpha: Least width of the interval.
        delta: Least outward drift of its far end.
        tolerance: Half width of the accepted band, as a share of the set point (the paper's eps_D).
        fast_path: Latency over set point from which the linear model is used.
        min_steps: Steps needed for a decision.
    """

    alpha: int
    delta: int
    tolerance: float = 0.05
    fast_path: float = 1.2
    min_steps: int = 16


SEQS = SearchOptions(alpha=16, delta=4)
TOKENS = SearchOptions(alpha=256, delta=64, min_steps=6)


@dataclass(frozen=True, slots=True)
class Interval:
    """State of the search: the bound lies in [lo, hi]."""

    lo: int
    hi: int

    @property
    def middle(self) -> int:
        """The bound."""
        return (self.lo + self.hi) // 2


def start(bound: int, limits: Limits, options: SearchOptions) -> Interval:
    """The interval to begin with: its middle is the bound in force, so the first decision goes on from there."""
    half = options.alpha // 2
    return Interval(max(limits.min, bound - half), min(limits.max, bound + half))


def pace(latency: float, set_point: float, options: SearchOptions) -> Pace:
    """Which branch of Algorithm 2 a latency leads to."""
    if latency > set_point * (1 + options.tolerance):
        return Pace.SLOW
    if latency < set_point * (1 - options.tolerance):
        return Pace.FAST
    return Pace.WITHIN


def narrowed(
    interval: Interval,
    *,
    latency: float,
    batch: float,
    set_point: float,
    binding: bool,
    limits: Limits,
    options: SearchOptions,
) -> Interval:
    """The interval after one observation.

    Args:
        interval: The one before.
        latency: Mean seconds of recent steps.
        batch: Their mean batch, in the unit of the bound.
        set_point: Seconds to steer to.
        binding: Whether the bound held work back.
        limits: Least and greatest bound.
        options: Constants.
    """
    alpha, delta = options.alpha, options.delta
    lo, hi = interval.lo, interval.hi
    observed = round(batch)
    verdict = pace(latency, set_point, options)
    if verdict is Pace.SLOW:
        if latency > options.fast_path * set_point:
            new_hi = int(min(observed, interval.middle) * set_point / latency)
            new_lo = new_hi - alpha
        else:
            new_hi = min(hi, max(observed, lo + alpha))
            new_lo = lo - delta
    elif verdict is Pace.FAST:
        if not binding:
            return _clamp(lo, hi, limits)
        drift = max(delta, int(observed * (set_point / latency - 1) / 2))
        new_lo = max(min(observed, hi - alpha), lo)
        new_hi = hi + drift
    else:
        if not binding:
            return _clamp(lo, hi, limits)
        new_lo, new_hi = observed - alpha // 2, observed + alpha // 2
    return _clamp(new_lo, new_hi, limits)


def _clamp(lo: int, hi: int, limits: Limits) -> Interval:
    lo = max(limits.min, min(limits.max, lo))
    return Interval(lo, max(lo, min(limits.max, hi)))
