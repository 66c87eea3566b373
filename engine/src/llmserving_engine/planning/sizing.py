"""How many prompt tokens fit into a step of a given duration."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field

from llmserving_engine.planning.job import Job

GRID = 32
"""Sizes are multiples of this, but for the last tokens of the work there is."""
LOOK_BACK = 0.75
"""A smaller size down to this share of the largest one is taken when it computes more tokens per second."""
GAIN = 1.002
"""... by at least this factor."""
NEAR_SIZES = 128
STRIDE = 8
"""Much smaller sizes are looked at in steps of this part of themselves, those near the largest in steps of 1 / `NEAR_SIZES` of it."""
LEAST_SECONDS = 1e-4
"""What a step counts for at least."""


@dataclass(slots=True)
class Work:
    """The prompt tokens on offer, in the order in which they would be computed.

    Attributes:
        jobs: Requests in order.
        hurried_tokens: Tokens of those with a deadline.
        refused: Those of the jobs that the engine passed over when they were offered before (a grammar is being compiled, an
            adapter does not fit). They are last, lest others wait for them, and offered first: they may be taken now.
        done: Requests met on the way that have nothing left to compute.
        tokens: All tokens on offer.
        is_blocked: Whether memory kept somebody out.
    """

    jobs: list[Job] = field(default_factory=list)
    hurried_tokens: int = 0
    refused: list[Job] = field(default_factory=list)
    done: list[Job] = field(default_factory=list)
    tokens: int = 0
    is_blocked: bool = False
    _starts: list[int] = field(default_factory=list)
    _pairs: list[float] = field(default_factory=lambda: [0.0])

    def add(self, job: Job, tokens: int) -> None:
        """Append a request with this many tokens to compute; one that was refused waits for `put_refused_last`."""
        if job.refused and job.waiting:
            self.refused.append(job)
            return
        self._append(job, tokens)

    @property
    def first_tokens(self) -> int:
        """Tokens of the first of them."""
        return self._starts[1] if len(self._starts) > 1 else self.tokens

    def put_refused_last(self) -> None:
        """All others are in."""
        for job in self.refused:
            self._append(job, job.work)

    def _append(self, job: Job, tokens: int) -> None:
        self.jobs.append(job)
        self._starts.append(self.tokens)
        self.tokens += tokens
        if job.hurried:
            self.hurried_tokens += tokens

    def pairs(self, tokens: int) -> float:
        """Sum of chunk x (cached + chunk / 2) when the first `tokens` are computed."""
        if not tokens:
            return 0.0
        starts, sums, jobs = self._starts, self._pairs, self.jobs
        index = bisect_left(starts, tokens) - 1
        for done in range(len(sums) - 1, index):  # only as far as anybody asks
            size = starts[done + 1] - starts[done]
            sums.append(sums[done] + size * (jobs[done].tokens - size / 2))
        rest = tokens - starts[index]
        size = (starts[index + 1] if index + 1 < len(starts) else self.tokens) - starts[index]
        return sums[index] + rest * (jobs[index].tokens - size + rest / 2)


def best_size(
    seconds: Callable[[int], float], tokens: int, limit: float, overhead: float = 0.0, thrift: float = 0.0
) -> int:
    """The number of tokens to compute in a step of at most `limit` seconds; 0 when not even the smallest chunk fits.

    Matrix tiles make some sizes cost far more than the one just below. So among the sizes near the largest that
    fits, the one with the most tokens per second wins. With thrift smaller ones are looked at as well.

    Args:
        seconds: Predicted duration of a step with so many tokens.
        tokens: Tokens on offer.
        limit: Longest step.
        overhead: Seconds that count besides, whatever the size, for the tokens per second; below 0 where a step without any
            would take some of its time as well.
        thrift: From 0, only sizes near the largest, to 1, all.
    """
    if tokens <= 0 or limit <= 0 or seconds(min(tokens, GRID)) > limit:
        return 0
    best, best_seconds = tokens, seconds(tokens)
    low = near = best // GRID + 1
    look_back = 1.0
    if best_seconds > limit:
        look_back = LOOK_BACK
        low, high = 1, (tokens + GRID - 1) // GRID
        while high - low > 1:
            middle = (low + high) // 2
            if seconds(middle * GRID) <= limit:
                low = middle
            else:
                high = middle
        best, near = low * GRID, int(low * LOOK_BACK)
        best_seconds = seconds(best)
    best_rate = best / max(best_seconds + overhead, LEAST_SECONDS) * GAIN
    least = int(low * look_back * (1 - thrift))
    size = low - 1
    while size > least:
        rate = size * GRID / max(seconds(size * GRID) + overhead, LEAST_SECONDS)
        if rate > best_rate:
            best, best_rate = size * GRID, rate
        size -= max(1, low // NEAR_SIZES if size > near else size // STRIDE)
    return best
