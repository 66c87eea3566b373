"""Finding the highest rate that still passes, on one ladder of rates for all searches. Pure: whoever asks brings the measurement.

Searches ask for rates of the ladder only, so that one search's runs serve the others, and what a search finds does not depend on what
ran before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, floor, log

TOLERANCE = 1.03
"""Ratio of neighbouring rates of the ladder: a capacity lies between a rate that passes and the next one, which fails."""

ATTAINMENT = 0.95
"""Share of good requests at which a rate passes."""

WARMUP = 0.1
"""Share of a run's requests, from its start, that is left out."""

DOWN = 8
"""Stride down of a search that does not know where to begin."""

UP = 2
"""First stride up, doubled at each further one."""

_DEEPEST = 14 * DOWN
_HIGHEST = 64


def rate_of(rung: int) -> float:
    """Rate of a rung, requests per second: 1 at rung 0."""
    return float(f"{TOLERANCE**rung:.9g}")


def rung_of(rate: float) -> int:
    """Highest rung whose rate is at most `rate`, which must be above 0."""
    rung = floor(log(rate) / log(TOLERANCE)) + 1
    while rate_of(rung) > rate:
        rung -= 1
    return rung


@dataclass(frozen=True, slots=True)
class Bracket:
    """A capacity on the ladder.

    Attributes:
        low: Highest rung that passed; None where none did.
        high: Lowest rung that failed; None where none did.
        tried: `(rung, passed)` in order.
    """

    low: int | None
    high: int | None
    tried: tuple[tuple[int, bool], ...] = ()

    @property
    def rates(self) -> tuple[float, float | None]:
        """Highest rate that passed (0 where none did) and lowest that failed (None where none did)."""
        return 0.0 if self.low is None else rate_of(self.low), None if self.high is None else rate_of(self.high)


def find_capacity(
    passes: Callable[[int], bool],
    first: int,
    *,
    deepest: int | None = None,
    width: int = 1,
    down: int = DOWN,
    up: int = UP,
) -> Bracket:
    """Bracket the capacity by strides from a first rung, then halve the bracket.

    Runs that fail end early, and those far below the capacity are the longest of all: begin above the capacity where one can,
    and go down by equal strides, up by growing ones.

    Args:
        passes: Whether a rung passes; asked once per rung.
        first: Rung to try first.
        deepest: Lowest rung worth trying; by default far below the first.
        width: Rungs between the bracket's ends at which the search stops.
        down: Stride down.
        up: First stride up, doubled at each further one.
    """
    tried: dict[int, bool] = {}

    def ask(rung: int) -> bool:
        tried[rung] = passes(rung)
        return tried[rung]

    bottom = first - _DEEPEST if deepest is None else min(deepest, first)
    low: int | None = None
    high: int | None = None
    if ask(first):
        low, stride = first, up
        while high is None and low < first + _HIGHEST:
            rung, stride = low + stride, 2 * stride
            low, high = (rung, None) if ask(rung) else (low, rung)
    else:
        high = first
        while low is None and high > bottom:
            rung = max(bottom, high - down)
            low, high = (rung, high) if ask(rung) else (None, rung)
    while low is not None and high is not None and high - low > width:
        middle = (low + high) // 2
        low, high = (middle, high) if ask(middle) else (low, middle)
    return Bracket(low, high, tuple(tried.items()))


def geometric_mean(values: Sequence[float]) -> float:
    """Geometric mean; 0 where one is 0, or where there are none."""
    return exp(sum(log(value) for value in values) / len(values)) if values and min(values) > 0 else 0.0


def mean_bracket(brackets: Sequence[Bracket]) -> tuple[float, float | None]:
    """Geometric means of the brackets' ends, requests per second; the upper one is None where a bracket has none."""
    lows, highs = zip(*(bracket.rates for bracket in brackets), strict=True)
    known = [high for high in highs if high is not None]
    return geometric_mean(lows), geometric_mean(known) if len(known) == len(highs) else None


def queue_grows(middle: float, end: float, requests: int) -> bool:
    """Whether more requests wait in the last third of the arrivals (`end`, mean) than in the middle third, and many of them."""
    return end > 2 * middle and end > 0.02 * requests
