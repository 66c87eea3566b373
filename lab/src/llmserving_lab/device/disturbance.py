"""What makes a real device slower than its profile: heavy-tailed noise, throttling, a neighbour on the card.

All are functions of virtual time or of a seeded generator, so that a run repeats exactly.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol


class Disturbance(Protocol):
    """Factor on the device's time of one step."""

    def factor(self, now: float) -> float:
        """Factor for the step that starts at `now` (seconds since the run began)."""
        ...


@dataclass(frozen=True, slots=True)
class NoDisturbance:
    """A device exactly as profiled."""

    def factor(self, now: float) -> float:
        """Always one."""
        return 1.0


@dataclass(slots=True)
class Noise:
    """Step-to-step noise: a normal body and, now and then, a Pareto tail.

    Attributes:
        seed: Seed of the generator.
        spread: Standard deviation of the body, relative to the step.
        tail_share: Share of steps that are slow.
        tail_index: Index of the Pareto tail; smaller is heavier (mean delay `1 / (index - 1)` of a step, infinite at 1).
        tail_scale: Smallest relative delay of a slow step.
    """

    seed: int
    spread: float = 0.02
    tail_share: float = 0.002
    tail_index: float = 2.5
    tail_scale: float = 0.25
    _random: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def factor(self, now: float) -> float:
        """Draw the factor of the next step."""
        factor = max(0.5, self._random.gauss(1.0, self.spread))
        if self._random.random() < self.tail_share:
            factor += self.tail_scale * self._random.paretovariate(self.tail_index)
        return factor


@dataclass(frozen=True, slots=True)
class Slowdown:
    """A slower device during part of each period: clock throttling, or a neighbour that uses the same card.

    Attributes:
        times_slower: Factor on step time while it lasts.
        period: Seconds from one slowdown to the next.
        duration: Seconds it lasts.
        start: Seconds until the first.
    """

    times_slower: float
    period: float
    duration: float
    start: float = 0.0

    def factor(self, now: float) -> float:
        """`times_slower` inside a slowdown, else one."""
        return self.times_slower if now >= self.start and (now - self.start) % self.period < self.duration else 1.0


@dataclass(frozen=True, slots=True)
class Together:
    """Several disturbances at once: their factors multiply."""

    parts: tuple[Disturbance, ...]

    def factor(self, now: float) -> float:
        """Product of the parts' factors."""
        product = 1.0
        for part in self.parts:
            product *= part.factor(now)
        return product


HARDER: dict[str, Callable[[int], Disturbance]] = {
    "noise": Noise,
    "throttling": lambda _: Slowdown(times_slower=1.25, period=60.0, duration=15.0, start=20.0),
    "neighbour": lambda _: Slowdown(times_slower=1.5, period=13.0, duration=2.0, start=5.0),
}
"""Disturbances by the name that the command line uses (`--harder noise,throttling`)."""
