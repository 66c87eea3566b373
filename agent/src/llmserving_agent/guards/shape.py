"""Which bounds make sense to the engine: multiples it computes well, within what the user and the engine allow."""

from bisect import bisect_right
from dataclasses import replace
from typing import TypeVar

from llmserving_agent.laws.protocol import Decision, Guard, Setting, Window, bounds_of
from llmserving_agent.laws.protocol import clamped as within
from llmserving_api.conditions import DecisionReason
from llmserving_api.policy import Limits

S = TypeVar("S")

TOKEN_QUANTUM = 64


class Quantise(Guard[S]):
    """Rounds to captured CUDA-graph sizes and to multiples of 64 tokens: growth to the nearest, the rest down.

    Batches are padded up to the next captured size, so a bound between two sizes pays for the larger one. Above the
    largest size nothing is padded and nothing is rounded.
    """

    def decide(self, state: S, window: Window, setting: Setting) -> tuple[S, Decision]:
        """The inner decision, rounded."""
        state, decision = self._inner.decide(state, window, setting)
        now, wanted = window.bounds, decision.bounds
        seqs = _graph_size(now.max_num_seqs, wanted.max_num_seqs, setting.graph_sizes)
        tokens = _multiple(now.max_num_batched_tokens, wanted.max_num_batched_tokens)
        return state, decision.moved(bounds_of(seqs, tokens))


class Clamp(Guard[S]):
    """Keeps bounds within the limits, whatever was decided; an edit of the limits acts at once through it."""

    def decide(self, state: S, window: Window, setting: Setting) -> tuple[S, Decision]:
        """The inner decision, within limits."""
        state, decision = self._inner.decide(state, window, setting)
        bounds = bounds_of(
            within(decision.bounds.max_num_seqs, setting.max_num_seqs),
            within(decision.bounds.max_num_batched_tokens, setting.max_num_batched_tokens),
        )
        if bounds == decision.bounds:
            return state, decision
        if decision.bounds == window.bounds:
            message = (
                f"limits are now {_text(setting.max_num_seqs)} seqs, {_text(setting.max_num_batched_tokens)} tokens"
            )
            return state, replace(decision, bounds=bounds, reason=DecisionReason.LIMITS_CHANGED, message=message)
        if bounds == window.bounds:
            message = f"{decision.message}; at the limit"
            return state, replace(decision, bounds=bounds, reason=DecisionReason.AT_LIMIT, message=message)
        return state, decision.moved(bounds)


def _graph_size(now: int, wanted: int, sizes: tuple[int, ...]) -> int:
    if wanted == now or not sizes or wanted >= sizes[-1]:
        return wanted
    index = bisect_right(sizes, wanted)
    if index == 0:
        return sizes[0]
    lower, upper = sizes[index - 1], sizes[index]
    return upper if wanted > now and upper - wanted <= wanted - lower else lower


def _multiple(now: int, wanted: int) -> int:
    if wanted == now:
        return now
    rounding = TOKEN_QUANTUM // 2 if wanted > now else 0
    return max(TOKEN_QUANTUM, (wanted + rounding) // TOKEN_QUANTUM * TOKEN_QUANTUM)


def _text(limits: Limits) -> str:
    return f"{limits.min} to {limits.max}"
