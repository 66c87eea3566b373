"""What the running requests can be expected to hold of the KV cache, at every moment until they end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt

from llmserving_engine.planning.lengths import HORIZONS, OutputLengths

MARGIN = 1.0
"""Standard deviations by which what is expected to be held stays below what can be: beyond it requests are preempted, or all decodes
are late."""
NEARLY = 0.75
"""Moments at which less than this share of the most is held are not those that decide."""


@dataclass(frozen=True, slots=True)
class Coming:
    """Requests that are expected.

    Attributes:
        per_step: How many with each step.
        prompt: Tokens of one's prompt.
    """

    per_step: float = 0.0
    prompt: float = 0.0


class Forecast:
    """Expected KV tokens at moments to come, of the requests that hold some now.

    Each holds its tokens as long as its output goes on, and one more with each step. How long that is is not known, but how likely
    (`OutputLengths.going_on`), so the expectation needs no guess at single lengths. (Past-Future, arXiv 2507.10150, draws
    lengths and takes the peak before each end; that takes all of them to be as long as expected at once.)
    """

    def __init__(self, groups: Iterable[tuple[int, int, int]], lengths: OutputLengths) -> None:
        """Take the state.

        Args:
            groups: Output tokens so far, number and KV tokens of the requests that hold some, or will when their prompt is
                computed (`Lives.groups`).
            lengths: How long outputs get.
        """
        self._lengths = lengths
        groups = list(groups)
        held = [0.0] * len(HORIZONS)
        for outputs, count, size in groups:
            shares = lengths.going_on(outputs)
            held = [
                sum_ + share * (size + count * ahead) for sum_, share, ahead in zip(held, shares, HORIZONS, strict=True)
            ]
        self._held = held
        full = NEARLY * max(held)
        self._variances = [self._variance(at, groups) if sum_ > full else 0.0 for at, sum_ in enumerate(held)]

    def _variance(self, at: int, groups: Iterable[tuple[int, int, int]]) -> float:
        """Of what is held at a moment."""
        at = max(at, 1)  # nothing is uncertain now, but it will be before anybody has ended
        ahead = HORIZONS[at]
        variance = 0.0
        for outputs, count, size in groups:
            share = self._lengths.going_on(outputs)[at]
            variance += share * (1.0 - share) * (size + count * ahead) ** 2 / count
        return variance

    def room(self, most: float, coming: Coming | None = None) -> float:
        """KV tokens that are free at all times.

        Args:
            most: KV tokens that can be held.
            coming: Requests that are expected besides, with each step and as a Poisson process; None: nobody.
        """
        if coming is None:
            return most - max(
                sum_ + MARGIN * sqrt(variance) for sum_, variance in zip(self._held, self._variances, strict=True)
            )
        rate, prompt = coming.per_step, coming.prompt
        fullest = 0.0
        for sum_, variance, (count, made, squares) in zip(
            self._held, self._variances, self._lengths.inflow(), strict=True
        ):
            more = rate * (prompt * count + made)
            variance_then = variance + rate * (prompt * prompt * count + 2 * prompt * made + squares)
            fullest = max(fullest, sum_ + more + MARGIN * sqrt(variance_then))
        return most - fullest
