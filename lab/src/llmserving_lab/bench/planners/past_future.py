"""Admission by predicted future peak of KV memory, in the manner of Past-Future (arXiv 2507.10150, LightLLM).

The output length of a request is predicted from the history of finished ones, given that it has produced so many tokens
already. With the running requests sorted by what they have left, the most memory they will ever hold together follows
from one pass: when a request ends, the others still running have grown by as much as it has. A waiting request is
admitted while that peak stays within the cache.
"""

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from llmserving_engine.planning.protocol import StepDone, StepPlan, StepPlanner, StepView, Track

HISTORY = 1000
"""Finished requests remembered, as in the paper's implementation."""
LOOKAHEAD = 32
"""Waiting requests considered in one step."""
QUANTILE = 0.5
"""Quantile of the conditional output length that is taken as the prediction."""


class OutputHistory:
    """Output lengths of finished requests, sorted, the oldest forgotten first."""

    def __init__(self, size: int = HISTORY) -> None:
        self._order: deque[int] = deque()
        self._sorted: list[int] = []
        self._size = size

    def add(self, tokens: int) -> None:
        """Remember one finished request."""
        self._order.append(tokens)
        insort(self._sorted, tokens)
        if len(self._order) > self._size:
            self._sorted.pop(bisect_right(self._sorted, self._order.popleft()) - 1)

    def remaining(self, produced: int, most: int) -> int:
        """Predicted tokens still to come of a request that produced so many; ``most`` where nothing is known."""
        start = bisect_right(self._sorted, produced)
        longer = len(self._sorted) - start
        if longer == 0:
            return most if not self._sorted else max(1, min(most, produced))
        return max(1, self._sorted[start + int(QUANTILE * (longer - 1))] - produced)


def peak_tokens(requests: Iterable[tuple[int, int]]) -> int:
    """Most KV tokens ever held together by requests given as (tokens now, tokens still to come)."""
    peak = total = 0
    for count, (now, remaining) in enumerate(sorted(requests, key=lambda r: -r[1]), start=1):
        total += now
        peak = max(peak, total + count * remaining)
    return peak


class PastFuture:
    """First come, first served, admitted while the predicted peak fits."""

    name = "past-future"
    orders_waiting = True

    def __init__(self) -> None:
        self._history = OutputHistory()
        self._queue: dict[str, Track] = {}

    def configure(self, parameters: Mapping[str, Any]) -> None:
        """It has no parameters."""

    def arrived(self, track: Track) -> None:
        """Remember the order of arrival."""
        if track.first_scheduled_ns == 0:
            self._queue[track.request.request_id] = track

    def departed(self, track: Track) -> None:
        """Learn its output length."""
        self._queue.pop(track.request.request_id, None)
        if track.request.num_output_tokens:
            self._history.add(track.request.num_output_tokens)

    def preempted(self, track: Track) -> None:
        """It is at the head of the queue, where the mixin offers it first."""

    def plan(self, view: StepView) -> StepPlan:
        """Admit from the head of the queue while the predicted peak stays within the cache."""
        for request_id in [name for name, track in self._first() if track.first_scheduled_ns]:
            del self._queue[request_id]
        capacity = view.kv_blocks_total * view.block_size
        holding = [self._footprint(request) for request in view.running]
        admitted: list[str] = []
        for request_id, track in self._first():
            holding.append(self._footprint(track.request))
            if peak_tokens(holding) > capacity and (admitted or view.running):
                break
            admitted.append(request_id)
        return StepPlan(
            max_num_seqs=view.bounds.max_num_seqs,
            token_budget=view.bounds.max_num_batched_tokens,
            waiting_first=admitted,
            only_listed=True,
            held=len(self._queue) - len(admitted),
        )

    def on_device(self, now_ns: int) -> None:
        """Nothing to make up for."""

    def completed(self, done: StepDone) -> None:
        """Nothing to learn from a step."""

    def _first(self) -> list[tuple[str, Track]]:
        first = []
        for entry in self._queue.items():
            first.append(entry)
            if len(first) == LOOKAHEAD:
                break
        return first

    def _footprint(self, request: Any) -> tuple[int, int]:
        produced = request.num_output_tokens
        return request.num_prompt_tokens + produced, self._history.remaining(produced, most=request.max_tokens)


def build_past_future(parameters: Mapping[str, Any]) -> StepPlanner:
    """Build the planner; it takes no parameters."""
    return PastFuture()
