"""Lengths of requests: what one sequence takes of the KV cache, in tokens.

Finished requests alone tell a biased story, because the long ones are still running. The mean output length is
corrected by exposure: output tokens produced since the oldest finished request of the window, running requests
included, divided by the requests finished since then. Under a steady load that is unbiased; after a start it errs
upward, which is the careful side for memory.
"""

import math
from collections import deque
from dataclasses import dataclass

from llmserving_api.telemetry import Outcome, RequestRecord

MAX_CORRECTION = 4.0
"""Bound on exposure over finished mean: a long idle prefix must not run away with the estimate."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Statistics over the last finished requests, in tokens.

    Attributes:
        finished: Number of requests they rest on; the rest is 0 where this is 0.
        mean: Mean of prompt and output together, corrected for the running ones.
        sd: Standard deviation of the sum of prompt and output, so that their covariance is in it, scaled like the mean.
        resident_mean: What a slot holds on average over a request's life, weighted by its time in the batch.
        prompt_mean: Mean prompt.
        output_mean: Mean output, corrected.
        prompt_p95: 95th percentile of prompts (nearest rank).
        samples: Prompt and output of each, oldest first, as they finished: not corrected.
    """

    finished: int = 0
    mean: float = 0.0
    sd: float = 0.0
    resident_mean: float = 0.0
    prompt_mean: float = 0.0
    output_mean: float = 0.0
    prompt_p95: int = 0
    samples: tuple[tuple[int, int], ...] = ()


class LengthStatistics:
    """Gathers request and step records over the last ``size`` finished requests."""

    def __init__(self, size: int = 512) -> None:
        self._finished: deque[tuple[int, int, int]] = deque(maxlen=size)
        self._produced = 0

    def restart(self) -> None:
        """Forget everything: the engine is new."""
        self._finished.clear()
        self._produced = 0

    def add_outputs(self, tokens: int) -> None:
        """Count output tokens that a step produced, of whichever requests."""
        self._produced += tokens

    def add(self, record: RequestRecord) -> None:
        """Count one request; aborted and failed ones have no length of their own."""
        if record.outcome is Outcome.FINISHED and record.output_tokens > 0:
            self._finished.append((record.prompt_tokens, record.output_tokens, self._produced))

    def statistics(self) -> Lengths:
        """The statistics as of now."""
        n = len(self._finished)
        if n == 0:
            return Lengths()
        prompts = sum(p for p, _, _ in self._finished)
        outputs = sum(o for _, o, _ in self._finished)
        prompt_mean, output_mean = prompts / n, outputs / n
        sums = [p + o for p, o, _ in self._finished]
        mean = prompt_mean + output_mean
        variance = sum((s - mean) ** 2 for s in sums) / n
        correction = 1.0
        if n > 1:
            exposure = (self._produced - self._finished[0][2]) / (n - 1)
            correction = min(MAX_CORRECTION, max(1.0, exposure / output_mean))
        # Occupancy-weighted mean of a slot: E[in * out] / E[out] + (E[out^2] / E[out] + 1) / 2.
        cross = sum(p * o for p, o, _ in self._finished) / n
        square = sum(o * o for _, o, _ in self._finished) / n
        resident = cross / output_mean + (correction * square / output_mean + 1) / 2
        corrected = prompt_mean + correction * output_mean
        return Lengths(
            finished=n,
            mean=corrected,
            sd=math.sqrt(variance) * corrected / mean,
            resident_mean=resident,
            prompt_mean=prompt_mean,
            output_mean=correction * output_mean,
            samples=tuple((p, o) for p, o, _ in self._finished),
            prompt_p95=sorted(p for p, _, _ in self._finished)[math.ceil(0.95 * n) - 1],
        )
