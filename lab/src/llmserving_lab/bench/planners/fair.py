"""Time-budget batching in the manner of FairBatching (arXiv 2510.14392).

The batch of a step is bounded by time, not by a count: by the least slack of the running decodes, where a request that
ran ahead of its deadlines has saved slack for later. Decodes whose slack will not outlast the step come first, then
prefills in order of arrival, then the other decodes as far as the time lasts. The step's time is predicted by a line
through what recent steps took, fitted as they complete.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmserving_engine.planning.protocol import StepComposition, StepDone, StepPlan, StepPlanner, StepView, Track

FORGETTING = 0.998
SAFETY = 0.95
"""Share of the time budget that the prediction may fill."""
URGENT_STEPS = 2.0
"""A decode is urgent when its slack is below so many target intervals."""
DEFAULT_ITL_NS = 50_000_000
LEARNING_STEPS = 20


class StepLine:
    """Least squares with forgetting: step seconds from tokens, decodes and decode context."""

    def __init__(self) -> None:
        self._gram = np.eye(4) * 1e-6
        self._moment = np.zeros(4)
        self.steps = 0
        self.weights: NDArray[np.floating[Any]] = np.zeros(4)

    def add(self, composition: StepComposition, seconds: float) -> None:
        """Learn from one step."""
        x = _features(composition.prefill_tokens, composition.decode_requests, composition.decode_context_tokens)
        self._gram = FORGETTING * self._gram + np.outer(x, x)
        self._moment = FORGETTING * self._moment + x * seconds
        self.steps += 1
        if self.steps % 8 == 0:
            self.weights = np.linalg.solve(self._gram + 1e-9 * np.eye(4), self._moment)

    def tokens_within(self, seconds: float, decodes: int, context: int) -> int:
        """Prefill tokens that fit beside so many decodes."""
        base = float(_features(0, decodes, context) @ self.weights)
        slope = max(float(self.weights[1]) / 1000, 1e-8)
        return max(0, int((seconds - base) / slope))


def _features(prefill: int, decodes: int, context: int) -> NDArray[np.floating[Any]]:
    return np.array([1.0, prefill / 1000, decodes / 100, context / 1e5])


class Fair:
    """Slack decides the size and the order of each batch."""

    name = "fair"
    orders_waiting = False

    def __init__(self) -> None:
        self._line = StepLine()

    def configure(self, parameters: Mapping[str, Any]) -> None:
        """It has no parameters."""

    def arrived(self, track: Track) -> None:
        """Nothing to remember."""

    def departed(self, track: Track) -> None:
        """Nothing to forget."""

    def preempted(self, track: Track) -> None:
        """Nothing to do."""

    def plan(self, view: StepView) -> StepPlan:
        """Fill the least slack with prefill."""
        itl_ns = view.targets.itl_ns or DEFAULT_ITL_NS
        decodes = [request for request in view.running if request.request_id not in view.prefilling]
        slack = {request.request_id: self._slack_ns(request, view, itl_ns) for request in decodes}
        urgent = [request for request in decodes if slack[request.request_id] < URGENT_STEPS * itl_ns]
        relaxed = [request for request in decodes if slack[request.request_id] >= URGENT_STEPS * itl_ns]
        relaxed.sort(key=lambda request: slack[request.request_id])
        prefills = list(view.prefilling.values())
        budget_ns = max(min(slack.values(), default=view.targets.ttft_ns or 4 * itl_ns), itl_ns)
        context = sum(request.num_computed_tokens for request in decodes)
        if self._line.steps < LEARNING_STEPS:
            tokens = min(512, view.bounds.max_num_batched_tokens)
        else:
            tokens = self._line.tokens_within(SAFETY * budget_ns / 1e9, len(decodes), context)
        return StepPlan(
            max_num_seqs=view.bounds.max_num_seqs,
            token_budget=min(view.bounds.max_num_batched_tokens, len(decodes) * view.decode_tokens + tokens),
            running=urgent + prefills + relaxed,
        )

    def on_device(self, now_ns: int) -> None:
        """Nothing to make up for."""

    def completed(self, done: StepDone) -> None:
        """Learn its time."""
        if done.duration_ns:
            self._line.add(done.composition, done.duration_ns / 1e9)

    def _slack_ns(self, request: Any, view: StepView, itl_ns: int) -> int:
        """Time left until the next token is due, counted from the first one at the target's pace."""
        track = view.tracks[request.request_id]
        if track.first_token_ns == 0:
            return itl_ns
        due = track.first_token_ns + itl_ns * (request.num_output_tokens + request.num_output_placeholders)
        return int(due - view.now_ns)


def build_fair(parameters: Mapping[str, Any]) -> StepPlanner:
    """Build the planner; it takes no parameters."""
    return Fair()
