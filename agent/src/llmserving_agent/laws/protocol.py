"""What a law sees and says.

A law is pure: ``decide(state, window, setting) -> (state, decision)``. It never sees a clock, a socket or a type of the
engine; whatever it must remember is in the state it returns. Guards wrap a law and are laws themselves.
"""

from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from llmserving_agent.signals.epoch import EpochSums
from llmserving_agent.signals.lengths import Lengths
from llmserving_api.conditions import DecisionReason
from llmserving_api.control import Bounds, PlannerChoice
from llmserving_api.policy import Limits, Target
from llmserving_api.telemetry import StepRecord

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Setting:
    """What a law decides within: targets as the scheduler must meet them, limits within the engine's ceilings.

    Attributes:
        ttft: Time to first token, the front end's share deducted; None: no such target.
        itl: Inter-token latency.
        e2e: End-to-end latency, the front end's share deducted.
        max_num_seqs: The user's limits of the sequence bound, within the ceiling.
        max_num_batched_tokens: The same of the token bound.
        stock: What stock vLLM would choose, within the limits.
        graph_sizes: Captured CUDA-graph sizes, ascending; empty: none.
    """

    ttft: Target | None
    itl: Target | None
    e2e: Target | None
    max_num_seqs: Limits
    max_num_batched_tokens: Limits
    stock: Bounds
    graph_sizes: tuple[int, ...] = ()

    @property
    def has_targets(self) -> bool:
        """Whether any latency is asked for."""
        return (self.ttft, self.itl, self.e2e) != (None, None, None)


@dataclass(frozen=True, slots=True)
class GPUMemory:
    """The fullest of the engine's GPUs: bytes of memory, and why it runs slower than it could."""

    uuid: str
    free_bytes: int
    total_bytes: int
    throttle_reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Window:
    """What a law knows of the engine.

    Attributes:
        bounds: Bounds in force: those that the engine confirmed last.
        age_seconds: Age of the newest step record; None before the first.
        epoch: Recent steps under these bounds.
        running: Requests in the batch after the newest step.
        decoding: Those of them that decode.
        waiting: Requests waiting.
        overdue_waiting: Waiting for longer than the TTFT target.
        kv_blocks_used: Blocks of KV cache in use.
        kv_blocks_total: All blocks.
        block_size: Tokens in a block.
        draining: More run than the sequence bound allows; it falls as requests finish.
        lengths: Lengths of requests.
        arrivals_per_second: Requests arriving; None while unknown.
        idle_step_seconds: What a step takes with hardly anything in it; None while that was not seen.
        seconds_per_decode: What each decode adds to a step; None while the steps seen do not tell.
        gpu: The GPU's memory; None where there is no reading.
        good_share: Share of good requests among those that left lately; None when none did.
        planner: The planner in force inside the engine's step; a law that holds keeps it.
        steps: The step records that came since the last decision, oldest first.
    """

    bounds: Bounds
    age_seconds: float | None
    epoch: EpochSums
    running: int
    decoding: int
    waiting: int
    overdue_waiting: int
    kv_blocks_used: int
    kv_blocks_total: int
    block_size: int
    draining: bool
    lengths: Lengths
    arrivals_per_second: float | None = None
    idle_step_seconds: float | None = None
    seconds_per_decode: float | None = None
    gpu: GPUMemory | None = None
    good_share: float | None = None
    planner: PlannerChoice = PlannerChoice()
    steps: tuple[StepRecord, ...] = ()

    @property
    def kv_usage(self) -> float:
        """Used share of the KV cache."""
        return self.kv_blocks_used / self.kv_blocks_total if self.kv_blocks_total else 0.0


@dataclass(frozen=True, slots=True)
class Decision:
    """Bounds to put in force, and why.

    Attributes:
        bounds: The bounds; equal to the window's to hold.
        reason: One of the reasons of the project.
        message: The cause in words with numbers, without the bounds themselves.
        planner: The law's part inside the engine's step, with its parameters; by default the bounds are all.
    """

    bounds: Bounds
    reason: DecisionReason
    message: str
    planner: PlannerChoice = PlannerChoice()

    @classmethod
    def hold(cls, window: Window, reason: DecisionReason, message: str) -> "Decision":
        """Everything stays as it is."""
        return cls(window.bounds, reason, message, planner=window.planner)

    def moved(self, bounds: Bounds) -> "Decision":
        """The same decision with other bounds."""
        return replace(self, bounds=bounds)


class Law(Protocol[S]):
    """A rule that decides bounds."""

    def start(self, bounds: Bounds, setting: Setting) -> S:
        """The state to begin with when these bounds are in force: the first decision goes on from them."""
        ...

    def decide(self, state: S, window: Window, setting: Setting) -> tuple[S, Decision]:
        """The next state and the decision."""
        ...


class Guard(Generic[S]):
    """A law around a law that keeps its state and starts like it; subclasses change what is decided."""

    def __init__(self, inner: Law[S]) -> None:
        self._inner = inner

    def start(self, bounds: Bounds, setting: Setting) -> S:
        """As the inner law does."""
        return self._inner.start(bounds, setting)


def bounds_of(max_num_seqs: float, max_num_batched_tokens: float) -> Bounds:
    """Bounds from numbers, rounded down, at least 1."""
    return Bounds(max_num_seqs=max(1, int(max_num_seqs)), max_num_batched_tokens=max(1, int(max_num_batched_tokens)))


def clamped(value: float, limits: Limits) -> int:
    """The value, rounded down, within the limits."""
    return max(limits.min, min(limits.max, int(value)))
