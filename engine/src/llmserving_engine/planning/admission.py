"""Whether a request fits until it ends, the KV cache and the time that decodes take, given how long outputs get."""

from __future__ import annotations

from llmserving_engine.planning.forecast import Coming, Forecast
from llmserving_engine.planning.job import Job
from llmserving_engine.planning.lengths import OutputLengths
from llmserving_engine.planning.lives import Lives
from llmserving_engine.planning.protocol import StepView

EASY = 0.5
"""Below this use memory is not scarce, and nothing is forecast."""


def is_easy(view: StepView, need: int = 0) -> bool:
    """Whether memory is not scarce, even with so many more blocks in use."""
    return view.kv_blocks_free - need >= (1 - EASY) * view.kv_blocks_total


def is_scarce(view: StepView, bearable: float, need: int = 0) -> bool:
    """Whether there is something to foresee: more than half of the memory in use, or of the time that decodes may take."""
    return not is_easy(view, need) or view.decode_context_tokens > EASY * bearable


class Room:
    """What a step has left for those who wait: slots, and blocks of the KV cache.

    Attributes:
        is_blocked: Whether somebody was kept out by memory, or by the time that decodes would take; then so is everybody behind.
        is_kept: Whether somebody was kept out for those who come.
    """

    def __init__(
        self,
        view: StepView,
        lives: Lives,
        lengths: OutputLengths,
        forecast: Forecast | None,
        *,
        blocks: int,
        kept_free: float,
        bearable: float,
    ) -> None:
        """Take the state.

        Args:
            view: The engine's state.
            lives: Its decoding requests.
            lengths: How long outputs get.
            forecast: What was foreseen while the device computed; None: it is made when it is needed.
            blocks: Free blocks, less those that the running will take in this step.
            kept_free: Blocks that requests without a deadline leave to others.
            bearable: KV tokens that decodes can attend to in time.
        """
        self._view, self._lives, self._lengths = view, lives, lengths
        self._slots = view.bounds.max_num_seqs - len(view.running)
        self._blocks, self._kept_free, self._bearable = blocks, kept_free, bearable
        self._most = min(view.kv_blocks_total * view.block_size, bearable)
        self._forecast = forecast
        self._left: float | None = None  # KV tokens that are free at all times
        self._besides: float | None = None  # the same besides those who come
        self._taken = 0.0  # by those let in
        self.is_blocked = self.is_kept = False

    @property
    def is_closed(self) -> bool:
        """Whether nobody else can be admitted."""
        return self.is_blocked or self._slots <= 0

    def admits(self, job: Job, tokens: int, coming: Coming | None = None) -> bool:
        """Whether a waiting request has a slot and fits until it ends; if so its share is taken.

        Args:
            job: The request.
            tokens: It has to compute.
            coming: Those for whom room is left besides; None: for nobody.
        """
        if self.is_closed or (not job.hurried and self._blocks < self._kept_free):
            return False
        if coming is not None and self.is_kept:  # as it was for the one before
            return False
        if tokens <= 0:
            return True
        view = self._view
        need = -(-(job.tokens + 1) // view.block_size)
        if need > self._blocks or not self._lasts(job, need, coming):
            self.is_blocked |= coming is None
            self.is_kept |= coming is not None
            return False
        self._blocks -= need
        self._slots -= 1
        return True

    def _lasts(self, job: Job, need: int, coming: Coming | None) -> bool:
        view = self._view
        if job.resumed or not is_scarce(view, self._bearable, need):
            return True
        size = self._taken + job.tokens + self._lengths.growth
        if self._forecast is None:
            self._forecast = Forecast(self._lives.groups(view), self._lengths)
        if self._left is None:
            self._left = self._forecast.room(self._most)
        left = self._left
        if coming is not None:
            if self._besides is None:
                self._besides = self._forecast.room(self._most, coming)
            left = min(left, self._besides)
        if size > left:
            return False
        self._taken = size
        return True
