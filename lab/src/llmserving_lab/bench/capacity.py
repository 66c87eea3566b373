"""Finding the highest rate that still passes. Pure: whoever asks brings the measurement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import sqrt

TOLERANCE = 1.03
"""A capacity is known once the lowest failing rate is at most this many times the highest passing one."""

ATTAINMENT = 0.95
"""Share of good requests at which a rate passes."""

WARMUP = 0.1
"""Share of a capacity run's requests, from its start, that is left out."""

_STEP = 1.5
_TRIES = 16


@dataclass(frozen=True, slots=True)
class Capacity:
    """A capacity and how it was found.

    Attributes:
        low: Highest rate that passed; 0 where none did.
        high: Lowest rate that failed.
        tried: `(rate, passed)` in order.
    """

    low: float
    high: float
    tried: tuple[tuple[float, bool], ...] = field(default=())


def find_capacity(
    passes: Callable[[float], bool], first: float, *, tolerance: float = TOLERANCE, known_pass: float = 0.0
) -> Capacity:
    """Bracket the capacity by steps of 1.5, then halve the bracket in proportion until it is within `tolerance`.

    Args:
        passes: Whether a rate passes; asked once per rate.
        first: Rate to try first.
        tolerance: Ratio of the bracket's ends at which the search stops.
        known_pass: A rate known to pass already.
    """
    tried: list[tuple[float, bool]] = []

    def ask(rate: float) -> bool:
        passed = passes(rate)
        tried.append((rate, passed))
        return passed

    low, high = known_pass, float("inf")
    rate = first
    while len(tried) < _TRIES and (low == 0.0 or high == float("inf")):
        if ask(rate):
            low = rate
            rate *= _STEP
        else:
            high = rate
            rate /= _STEP
    while low > 0.0 and tolerance < high / low < float("inf"):
        middle = sqrt(low * high)
        if ask(middle):
            low = middle
        else:
            high = middle
    return Capacity(low, high, tuple(tried))
