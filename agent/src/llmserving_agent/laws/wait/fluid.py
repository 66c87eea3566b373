"""The fluid benchmark: what an ideal batching policy reaches when requests flow like a fluid (paper B, section 3).

An iteration over a batch takes ``d0 + d1 x (KV tokens of the batch)``. A request of type j has ``l`` prompt tokens
and ``l'`` decode iterations, so over its life it is read for ``a_j = sum_{s=0..l'} (l + s)`` token-iterations. In
equilibrium every stage of type j holds ``n_j = rate_j x dT`` requests, and ``dT = d0 / (1 - d1 x A)`` with
``A = sum_j rate_j a_j``.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IterationTime:
    """Linear time of one iteration (paper B, section 2).

    The paper's appendix prints constants fitted to a whole batch run of 21 iterations (276 ms); per iteration they
    are about 13 ms and 0.55 us per token. Taken as printed they make every workload of the paper unstable.
    """

    base_seconds: float  # d0
    seconds_per_token: float  # d1, for each KV token of the batch

    def __post_init__(self) -> None:
        if self.base_seconds <= 0 or self.seconds_per_token < 0:
            raise ValueError(
                f"iteration time {self.base_seconds} s + {self.seconds_per_token} s per token: "
                "the base must be positive and the slope not negative"
            )


@dataclass(frozen=True, slots=True)
class RequestType:
    """Requests that look alike: arrival rate per second, prompt tokens, decode iterations."""

    rate: float
    prompt_tokens: float
    output_tokens: float

    @property
    def token_iterations(self) -> float:
        """KV tokens read over a request's life: ``(l' + 1)(l + l' / 2)``."""
        return (self.output_tokens + 1) * (self.prompt_tokens + self.output_tokens / 2)


@dataclass(frozen=True, slots=True)
class FluidPoint:
    """Equilibrium of the fluid model."""

    cycle_seconds: float  # dT*, time of one iteration
    per_stage: tuple[float, ...]  # n_j*, requests of each type in every stage
    memory_tokens: float  # M*, resident KV tokens
    throughput: float  # decode tokens per second


def load(types: Sequence[RequestType], iteration: IterationTime) -> float:
    """``d1 x A``: at 1 or above no policy is stable."""
    return iteration.seconds_per_token * sum(t.rate * t.token_iterations for t in types)


def fluid_point(types: Sequence[RequestType], iteration: IterationTime) -> FluidPoint | None:
    """Equilibrium, or None when the arrivals are beyond what any policy can serve (``d1 x A >= 1``)."""
    utilisation = load(types, iteration)
    if utilisation >= 1:
        return None
    cycle = iteration.base_seconds / (1 - utilisation)
    return FluidPoint(
        cycle_seconds=cycle,
        per_stage=tuple(t.rate * cycle for t in types),
        memory_tokens=cycle * sum(t.rate * t.token_iterations for t in types),
        throughput=sum(t.rate * t.output_tokens for t in types),
    )
