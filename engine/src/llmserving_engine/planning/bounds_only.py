"""The planner that adds nothing: the bounds are the plan."""

from collections.abc import Mapping
from typing import Any

from llmserving_engine.planning.protocol import StepDone, StepPlan, StepView, Track


class BoundsOnly:
    """Cap and budget as the bounds say, in vLLM's own order."""

    name = "bounds"
    orders_waiting = False

    def configure(self, parameters: Mapping[str, Any]) -> None:
        """It has no parameters."""

    def arrived(self, track: Track) -> None:
        """Nothing to remember."""

    def departed(self, track: Track) -> None:
        """Nothing to forget."""

    def preempted(self, track: Track) -> None:
        """Nothing to do."""

    def plan(self, view: StepView) -> StepPlan:
        """The bounds."""
        return StepPlan(view.bounds.max_num_seqs, view.bounds.max_num_batched_tokens)

    def on_device(self, now_ns: int) -> None:
        """Nothing to make up for."""

    def completed(self, done: StepDone) -> None:
        """Nothing to learn."""
