"""The GPU's free memory vetoes a larger token bound."""

from dataclasses import replace
from typing import TypeVar

from llmserving_agent.laws.protocol import Decision, Guard, Law, Setting, Window, bounds_of
from llmserving_api.conditions import DecisionReason

S = TypeVar("S")

RESERVE_BYTES = 256 << 20


class GPUMemoryVeto(Guard[S]):
    """Larger batches need more activation memory: with little free on the card the token bound does not grow."""

    def __init__(self, inner: Law[S], reserve_bytes: int = RESERVE_BYTES) -> None:
        super().__init__(inner)
        self._reserve_bytes = reserve_bytes

    def decide(self, state: S, window: Window, setting: Setting) -> tuple[S, Decision]:
        """The inner decision without growth of the token bound while free memory is below the reserve."""
        state, decision = self._inner.decide(state, window, setting)
        now = window.bounds.max_num_batched_tokens
        gpu = window.gpu
        if gpu is None or gpu.free_bytes >= self._reserve_bytes or decision.bounds.max_num_batched_tokens <= now:
            return state, decision
        message = f"{gpu.free_bytes >> 20} MiB free on {gpu.uuid}, under the reserve of {self._reserve_bytes >> 20} MiB"
        bounds = bounds_of(decision.bounds.max_num_seqs, now)
        if bounds == window.bounds:
            return state, replace(decision, bounds=bounds, reason=DecisionReason.MEMORY_HIGH, message=message)
        return state, replace(decision, bounds=bounds, message=f"{decision.message}; {message}")
