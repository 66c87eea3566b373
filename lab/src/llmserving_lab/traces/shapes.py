"""Arrival times: when requests come, whatever they contain."""

from __future__ import annotations

import math
import random
from collections.abc import Callable


def poisson(requests: int, rate: float, generator: random.Random) -> list[float]:
    """Independent arrivals at a constant rate."""
    return gamma(requests, rate, generator, variation=1.0)


def gamma(requests: int, rate: float, generator: random.Random, *, variation: float = 2.0) -> list[float]:
    """Gamma gaps with the given coefficient of variation; above one they come in clumps."""
    shape = 1.0 / variation**2
    times, now = [], 0.0
    for _ in range(requests):
        times.append(now)
        now += generator.gammavariate(shape, 1.0 / (shape * rate))
    return times


def varying(
    requests: int, rate: float, generator: random.Random, *, level: Callable[[float], float], period: float
) -> list[float]:
    """Poisson arrivals whose rate is `rate x level(time / period)`, by thinning; `level` must stay within 0 and 4."""
    highest = 4.0
    times: list[float] = []
    now = 0.0
    while len(times) < requests:
        now += generator.expovariate(rate * highest)
        if generator.random() < level(now / period) / highest:
            times.append(now)
    return [time - times[0] for time in times]


def _bursts(phase: float) -> float:
    return 3.4 if phase % 1.0 < 1 / 6 else 0.52


def _day(phase: float) -> float:
    return 1.0 - 0.8 * math.cos(2 * math.pi * phase)


def _ramp(phase: float) -> float:
    return 0.4 + 1.2 * min(1.0, phase)


def _step(phase: float) -> float:
    return 0.5 if phase % 1.0 < 0.5 else 1.5


SHAPES: dict[str, Callable[[int, float, random.Random], list[float]]] = {
    "poisson": poisson,
    "gamma": gamma,
    "bursts": lambda requests, rate, generator: varying(requests, rate, generator, level=_bursts, period=60.0),
    "day": lambda requests, rate, generator: varying(requests, rate, generator, level=_day, period=requests / rate / 2),
    "ramp": lambda requests, rate, generator: varying(requests, rate, generator, level=_ramp, period=requests / rate),
    "step": lambda requests, rate, generator: varying(requests, rate, generator, level=_step, period=requests / rate),
}
"""Arrival shapes by the name that the command line uses. All have the given mean rate over the whole load; `bursts` has ten
seconds of 3.4 x the rate every minute, `day` two periods of a day with peaks of 1.8 x, `ramp` goes from 0.4 to 1.6 x, `step` from
0.5 to 1.5 x in the middle."""


def arrival_times(pattern: str, requests: int, rate: float, generator: random.Random) -> list[float]:
    """Arrival times of a pattern, ascending from zero.

    Raises:
        ValueError: no such shape.
    """
    if pattern not in SHAPES:
        raise ValueError(f"arrivals {pattern!r} are not known; known are own, {', '.join(SHAPES)}")
    return SHAPES[pattern](requests, rate, generator)
