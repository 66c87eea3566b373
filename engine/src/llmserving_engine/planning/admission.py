"""Whether a request fits the KV cache until it ends, given how long outputs get."""

from __future__ import annotations

from collections.abc import Iterable

from llmserving_engine.planning.job import Job
from llmserving_engine.planning.lengths import OutputLengths
from llmserving_engine.planning.lives import Lives
from llmserving_engine.planning.protocol import StepView

FILL = 1.06
"""Share of the cache that the predicted peak may fill.

Above one, because the peak takes all outputs to be as long as expected at once; a little more than that costs a preemption
now and then, a little less leaves memory empty all the time."""
EASY = 0.5
"""Below this use memory is not scarce, and nothing is forecast."""


def is_easy(view: StepView, need: int = 0) -> bool:
    """Whether memory is not scarce, even with so many more blocks in use."""
    return view.kv_blocks_free - need >= (1 - EASY) * view.kv_blocks_total


class Forecast:
    """Predicted peak of KV tokens over the lives of the requests that hold some.

    As requests end, their KV goes. With those that run longest first, the peak is the largest of
    `sum of the first k sizes + k x remaining of the k-th`: the moment just before the k-th ends (Past-Future, arXiv
    2507.10150). Requests whose outputs are in one cell of lengths are expected to end together and count as one.
    """

    def __init__(self, capacity: int, groups: Iterable[tuple[int, int, int]], lengths: OutputLengths) -> None:
        """Take the state.

        Args:
            capacity: KV tokens.
            groups: Output tokens so far, number and KV tokens of the requests that hold some, or will when their prompt is
                computed (`Lives.groups`).
            lengths: How long outputs get.
        """
        self._limit = FILL * capacity
        self._lengths = lengths
        self._lives = [(lengths.remaining(outputs), count, size) for outputs, count, size in groups]

    def admits(self, tokens: int) -> bool:
        """Whether a request with a prompt of `tokens` keeps the peak within the cache; if so it counts from now on."""
        lives = sorted([*self._lives, (self._lengths.remaining(0), 1, tokens)], reverse=True)
        total = count = 0
        for remaining, more, size in lives:
            total += size
            count += more
            if total + count * remaining > self._limit:
                return False
        self._lives = lives
        return True


class Room:
    """What a step has left for those who wait: slots, and blocks of the KV cache.

    Attributes:
        is_blocked: Whether somebody was kept out by memory; then so is everybody behind.
    """

    def __init__(self, view: StepView, lives: Lives, lengths: OutputLengths, blocks: int, kept_free: float) -> None:
        """Take the state.

        Args:
            view: The engine's state.
            lives: Its decoding requests.
            lengths: How long outputs get.
            blocks: Free blocks, less those that the running will take in this step.
            kept_free: Blocks that requests without a deadline leave to others.
        """
        self._view, self._lives, self._lengths = view, lives, lengths
        self._slots = view.bounds.max_num_seqs - len(view.running)
        self._blocks, self._kept_free = blocks, kept_free
        self._forecast: Forecast | None = None
        self.is_blocked = False

    @property
    def is_closed(self) -> bool:
        """Whether nobody else can be admitted."""
        return self.is_blocked or self._slots <= 0

    def admits(self, job: Job, tokens: int) -> bool:
        """Whether a waiting request with so many tokens to compute has a slot and fits until it ends; if so its share is taken."""
        if self.is_closed or (not job.hurried and self._blocks < self._kept_free):
            return False
        if tokens <= 0:
            return True
        view = self._view
        need = -(-(job.tokens + 1) // view.block_size)
        if need > self._blocks or not self._lasts(job, need):
            self.is_blocked = True
            return False
        self._blocks -= need
        self._slots -= 1
        return True

    def _lasts(self, job: Job, need: int) -> bool:
        view = self._view
        if job.resumed or is_easy(view, need):
            return True
        if self._forecast is None:
            groups = self._lives.groups(view)
            self._forecast = Forecast(view.kv_blocks_total * view.block_size, groups, self._lengths)
        return self._forecast.admits(job.tokens)
