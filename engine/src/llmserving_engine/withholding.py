"""Prefill that nothing but the planner keeps back, for too long: then a step is taken out of the planner's hands.

A planner may well leave prompts alone for a while, for the sake of the requests that decode; but it must not do so until
the last of them has ended, for instance because their target cannot be met at all. ``budget.PrefillGuard`` sees to
budgets that are too small for what a plan offers; here it is the plan that offers nothing.

What is held back for a reason is left alone: requests for which vLLM itself has no slot, no adapter or no grammar; those
for which a planner may see no memory coming; batch requests, for which it keeps room for others; and all requests of a
planner that holds them on purpose and lets them go by a deadline of its own.
"""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final

from llmserving_engine.budget import PATIENCE_STEPS
from llmserving_engine.planning.admission import EASY
from llmserving_engine.planning.protocol import Track
from llmserving_engine.telemetry import RequestClass

WITHHELD_NS: Final = 10_000_000_000
"""Five times a usual target of the first token."""
WITHHELD_STEPS: Final = 256
"""Twice as many as the predictive law leaves between two long gaps under targets at the 99th percentile."""
CHUNK: Final = 64
"""Prompt tokens of a step that is taken out of the planner's hands, one in ``PATIENCE_STEPS``: it is hardly longer for them."""
_LOOK: Final = 64
"""Waiting requests looked at."""


class Withholding:
    """Whether the plans of one scheduler keep all prompt tokens back; used by the engine's thread alone."""

    def __init__(self, scheduler: Any, tracks: Mapping[str, Track]) -> None:
        self._scheduler = scheduler
        self._tracks = tracks
        self._since_ns = 0
        self._steps = 0

    def ended(self) -> None:
        """A plan offered prompt tokens, or there are none."""
        self._steps = 0

    def goes_on(self) -> None:
        """The step was taken out of the planner's hands."""
        self._steps += 1

    def saw(self, parked: Iterable[Any], waiting: Iterable[Any], now_ns: int) -> None:
        """A step computed no prompt token, and its plan offered none.

        Args:
            parked: Requests with part of their prompt computed that it passed over.
            waiting: Requests that vLLM could admit.
            now_ns: When it was scheduled.
        """
        if not any(map(self._has_memory, parked)) and not any(map(self._is_kept, islice(waiting, _LOOK))):
            self._steps = 0
            return
        if not self._steps:
            self._since_ns = now_ns
        self._steps += 1

    def is_due(self, now_ns: int) -> bool:
        """Whether the coming step is to be taken out of the planner's hands."""
        steps = self._steps
        return steps >= WITHHELD_STEPS and steps % PATIENCE_STEPS == 0 and now_ns - self._since_ns >= WITHHELD_NS

    def _is_kept(self, request: Any) -> bool:
        track = self._tracks.get(request.request_id)
        return track is not None and track.request_class is not RequestClass.BATCH and self._has_memory(request)

    def _has_memory(self, request: Any) -> bool:
        """Whether memory is not scarce even with the rest of the request's prompt."""
        pool = self._scheduler.kv_cache_manager.block_pool
        left = request.num_tokens - request.num_computed_tokens
        spare = pool.get_num_free_blocks() - (1 - EASY) * (pool.num_gpu_blocks - 1)
        return bool(left <= spare * self._scheduler.block_size)
