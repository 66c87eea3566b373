"""WAIT's thresholds, for requests whose output length is known by type (paper B, Alg. 1 and its conditions)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from llmserving_agent.laws.wait.fluid import IterationTime, RequestType, fluid_point


@dataclass(frozen=True, slots=True)
class WaitThresholds:
    """How many requests of each type gather before they are admitted together."""

    gather: tuple[int, ...]  # n_j, at least 1
    cycle_seconds: float  # an iteration at these thresholds, d0 + d1 x M
    memory_tokens: float  # M_pi
    slack: float  # how far the cycle of admissions is above the least stable one, as a share


def wait_thresholds(
    types: Sequence[RequestType], iteration: IterationTime, capacity_tokens: float, slack: float = 0.2
) -> WaitThresholds | None:
    """Thresholds ``n_j = ceil(rate_j x c)`` with ``c = (1 + slack) x dT*``.

    With ``n_j = rate_j x c`` the paper's two conditions, stability and memory, become ``dT* <= c <= C / A``: one number
    is chosen instead of one per type. Strict slack keeps queues bounded (Theorem 1); the slack asked for is cut to
    what memory allows.

    Args:
        types: the request types, with rates per second.
        iteration: time of an iteration.
        capacity_tokens: KV tokens the engine holds.
        slack: wished distance from the boundary of stability, as a share of the cycle.

    Returns:
        The thresholds, or None when no thresholds satisfy both conditions: overload, or too little memory.
    """
    point = fluid_point(types, iteration)
    per_second = sum(t.rate * t.token_iterations for t in types)
    if point is None or per_second == 0 or point.memory_tokens > capacity_tokens:
        return None
    cycle = min(point.cycle_seconds * (1 + slack), capacity_tokens / per_second)
    gather = tuple(max(1, math.ceil(t.rate * cycle)) for t in types)
    memory = sum(n * t.token_iterations for n, t in zip(gather, types, strict=True))
    if memory > capacity_tokens:  # rounding up went past it: round down where that stays stable
        gather = tuple(max(1, math.floor(t.rate * cycle)) for t in types)
        memory = sum(n * t.token_iterations for n, t in zip(gather, types, strict=True))
    return WaitThresholds(
        gather=gather,
        cycle_seconds=iteration.base_seconds + iteration.seconds_per_token * min(memory, capacity_tokens),
        memory_tokens=memory,
        slack=cycle / point.cycle_seconds - 1,
    )
