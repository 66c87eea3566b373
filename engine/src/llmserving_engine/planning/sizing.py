"""How many prompt tokens fit into a step of a given duration."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field

from llmserving_engine.planning.feasible import Job

GRID = 32
"""Sizes are multiples of this, but for the last tokens of the work there is."""
LOOK_BACK = 0.75
"""A smaller size down to this share of the largest one is taken when it computes more tokens per second."""
GAIN = 1.002
"""... by at least this factor."""


@dataclass(slots=True)
class Work:
    """The prompt tokens on offer, in the order in which they would be computed.

    Attributes:
        jobs: Requests in order.
        hurried_tokens: Tokens of those with a deadline.
        refused: Those of the jobs that the engine passed over when they were offered before (a grammar is being compiled, an
            adapter does not fit). They are last, lest others wait for them, and offered first: they may be taken now.
        done: Requests met on the way that have nothing left to compute.
    """

    jobs: list[Job] = field(default_factory=list)
    hurried_tokens: int = 0
    refused: list[Job] = field(default_factory=list)
    done: list[Job] = field(default_factory=list)
    _tokens: list[int] = field(default_factory=lambda: [0])
    _pairs: list[float] = field(default_factory=lambda: [0.0])

    def add(self, job: Job, tokens: int) -> None:
        """Append a request with this many tokens to compute; one that was refused waits for `put_refused_last`."""
        if job.waiting and job.refused:
            self.refused.append(job)
            return
        self._append(job, tokens)

    def put_refused_last(self) -> None:
        """All others are in."""
        for job in self.refused:
            self._append(job, job.work)

    def _append(self, job: Job, tokens: int) -> None:
        cached = job.tokens - tokens
        self.jobs.append(job)
        if job.hurried:
            self.hurried_tokens += tokens
        self._tokens.append(self._tokens[-1] + tokens)
        self._pairs.append(self._pairs[-1] + tokens * (cached + tokens / 2))

    @property
    def tokens(self) -> int:
        """All tokens on offer."""
        return self._tokens[-1]

    def pairs(self, tokens: int) -> float:
        """Sum of chunk x (cached + chunk / 2) when the first `tokens` are computed."""
        index = bisect_right(self._tokens, tokens) - 1
        rest = tokens - self._tokens[index]
        if not rest:
            return self._pairs[index]
        job = self.jobs[index]
        cached = job.tokens - (self._tokens[index + 1] - self._tokens[index])
        return self._pairs[index] + rest * (cached + rest / 2)


def largest(seconds: Callable[[int], float], tokens: int, limit: float, overhead: float) -> int:
    """The number of tokens to compute in a step of at most `limit` seconds; 0 when not even the smallest chunk fits.

    Matrix tiles make some sizes cost far more than the one just below. So among the sizes near the largest that
    fits, the one with the most tokens per second wins.

    Args:
        seconds: Predicted duration of a step with so many tokens.
        tokens: Tokens on offer.
        limit: Longest step.
        overhead: Seconds that are spent besides, whatever the size; counts for the tokens per second.
    """
    if tokens <= 0 or limit <= 0 or seconds(min(tokens, GRID)) > limit:
        return 0
    if seconds(tokens) <= limit:
        return tokens
    low, high = 1, (tokens + GRID - 1) // GRID
    while high - low > 1:
        middle = (low + high) // 2
        if seconds(middle * GRID) <= limit:
            low = middle
        else:
            high = middle
    best = low * GRID
    best_rate = best / (seconds(best) + overhead) * GAIN
    for size in range(low - 1, int(low * LOOK_BACK), -1):
        rate = size * GRID / (seconds(size * GRID) + overhead)
        if rate > best_rate:
            best, best_rate = size * GRID, rate
    return best
