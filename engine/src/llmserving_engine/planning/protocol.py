"""The seam: before each ``schedule()`` the mixin shows a planner the state of the engine and obeys the plan it returns.

What vLLM's ``schedule()`` (0.31 to 0.33) can be made to do in one step, and so what a plan can say:

* *Running requests* are served in the order of the list, each with all its remaining tokens as far as the step's token
  budget lasts: a decode takes one (with speculation 1 + k), a part-prefilled prompt takes the rest of the budget. There
  is no quota for a single request; the last one in order gets the remainder. On a shortage of KV blocks the *last* of
  the list is preempted (under ``--scheduling-policy priority`` the worst by priority and arrival instead).
* A *parked* running request is passed over for the step and keeps its KV blocks and its slot. A long prefill yields in
  this way, a lost decode pauses, a segment waits.
* *Waiting requests* come after all running ones, while budget and sequence cap last; the scan stops at the first whose
  blocks cannot be allocated. Those that hold KV blocks already are always taken first, whatever the plan says.
* No waiting request is looked at in a step that preempted one.

The mixin enforces a plan within the bounds: the cap and the budget are clamped to them, a decode is never starved by a
small budget, and prefill that is possible but not granted for too long is let through (``budget.PrefillGuard``).
A planner that raises is replaced by the one that applies the bounds alone, and the control API says so.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from llmserving_engine.bounds import Bounds, Targets
from llmserving_engine.telemetry import RequestClass


class RequestView(Protocol):
    """The attributes of vLLM's ``Request`` that a planner may read; it writes none."""

    request_id: str
    num_prompt_tokens: int
    num_computed_tokens: int
    num_output_placeholders: int
    """Asynchronous scheduling: output tokens of this request that are still in flight."""
    is_prefill_chunk: bool
    """The last scheduled chunk did not complete its prompt: it still is a prefill."""
    num_preemptions: int
    max_tokens: int

    @property
    def num_tokens(self) -> int:
        """Prompt and output tokens known so far; the prefill of a resumed request covers both."""
        ...

    @property
    def num_output_tokens(self) -> int:
        """Output tokens delivered so far."""
        ...


@dataclass(slots=True, eq=False)
class Track:
    """What the plug-in remembers of one request, from arrival to departure. Times are clock nanoseconds; 0: not yet."""

    request: Any
    """vLLM's ``Request`` (see ``RequestView``)."""
    arrival_ns: int
    request_class: RequestClass = RequestClass.INTERACTIVE
    priority: int = 0
    """The request's own where the engine schedules by priority, else 0: clients may name one that nobody is to obey."""
    first_scheduled_ns: int = 0
    first_token_ns: int = 0
    last_token_ns: int = 0
    """Of a request that is not in the steady stream of outputs."""
    cached_tokens: int = 0
    """Prompt tokens found in the prefix cache when it was first scheduled."""
    gaps: int = 0
    gaps_over_target: int = 0
    max_gap_ns: int = 0
    preemptions: int = 0
    relegated: bool = False
    """Set by a planner that put the request behind others because its TTFT could not be met."""
    stream_start: int = -1
    """Index in the tracker's gap log where the current uninterrupted stream of outputs began; -1: not streaming."""
    stream_over: int = 0
    """Long gaps in the log up to there."""
    decoding: bool = False
    """Running, its prefill scheduled to the end."""
    plan: Any = None
    """For the planner's own notes."""


@dataclass(slots=True)
class StepComposition:
    """What a step holds; the features of a step-time model."""

    prefill_tokens: int = 0
    decode_tokens: int = 0
    prefill_requests: int = 0
    decode_requests: int = 0
    decode_context_tokens: int = 0
    """Sum over decodes of the tokens they attend to."""
    prefill_attention_tokens: int = 0
    """Sum over chunks of chunk x (context before it + chunk / 2)."""


@dataclass(slots=True)
class StepDone:
    """A step whose output arrived: what it held and how long it took."""

    step: int
    composition: StepComposition
    scheduled_ns: int
    completed_ns: int
    duration_ns: int
    """Time attributed to the device: to completion, from the later of scheduling and the previous completion."""
    predicted_ns: int
    """What the plan predicted; 0 without a model."""


def nothing_cached(request: Any) -> int:
    """Without a prefix cache."""
    return 0


@dataclass(slots=True)
class StepView:
    """State of the engine before a step. ``running`` and ``waiting`` are the engine's own: read, never change."""

    step: int
    now_ns: int
    bounds: Bounds
    """The cap and the budget in force; a plan is clamped to them."""
    ceilings: Bounds
    targets: Targets
    running: Sequence[Any]
    """``RequestView`` of each running request, in the order in which the engine would serve them."""
    prefilling: Mapping[str, Any]
    """The part-prefilled among ``running``, by request id."""
    decode_context_tokens: int
    """Tokens computed for the others, what is in flight included. With speculation more by what is taken back."""
    waiting: int
    """Requests in the waiting queues. A planner knows them from ``arrived``; it never scans the queue."""
    tracks: Mapping[str, Track]
    """Every request in the engine by id."""
    in_flight_steps: int
    """Steps scheduled whose output has not arrived: 0, with asynchronous scheduling usually 1."""
    last_completed_ns: int
    kv_blocks_free: int
    kv_blocks_total: int
    block_size: int
    decode_tokens: int
    """Tokens that one decode takes from the budget: 1 + speculative tokens."""
    max_decode_seqs: int
    """Model-runner slots: never more running than this."""
    cached_tokens: Callable[[Any], int] = nothing_cached
    """Tokens of a waiting request that are in the prefix cache now. A lookup for each call: ask for a few only."""


@dataclass(slots=True)
class StepPlan:
    """What the step shall be. The default of every field leaves vLLM's own behaviour."""

    max_num_seqs: int
    """At most this many running after the step; fewer than now running admits none and evicts none."""
    token_budget: int
    running: Sequence[Any] | None = None
    """The running requests in the order to serve them: exactly those of the view, each once."""
    waiting_first: Sequence[str] = ()
    """Ids of waiting requests to offer first, in this order; unknown ids are passed over."""
    only_listed: bool = False
    """Offer no other waiting request in this step (those holding KV blocks and the preempted are still offered)."""
    parked: Sequence[str] = ()
    """Ids of running requests to pass over in this step."""
    chunk_tokens: int = 0
    """Most tokens for a single request in this step (``long_prefill_token_threshold``); 0: as configured."""
    predicted_ns: int = 0
    """Predicted duration of the step, for telemetry and ``StepDone``; 0: no model."""
    decodes_pause: bool = False
    """The step is prefill alone: every decode is passed over."""
    held: int = 0
    """Requests held back or parked by the law, for telemetry."""
    trim: float = 1.0
    """Observed over predicted step time, smoothed, for telemetry."""


class StepPlanner(Protocol):
    """A law inside the engine's step. All calls come from the engine's thread; none may block."""

    name: str
    orders_waiting: bool
    """Whether plans use ``waiting_first`` or ``only_listed``; if so the mixin installs a queue that can obey them."""

    def configure(self, parameters: Mapping[str, Any]) -> None:
        """New parameters for this planner, already accepted by its factory; what it has learned stays."""
        ...

    def arrived(self, track: Track) -> None:
        """A request entered the engine, or was there when this planner was installed."""
        ...

    def departed(self, track: Track) -> None:
        """A request finished, failed or was aborted."""
        ...

    def preempted(self, track: Track) -> None:
        """A running request lost its KV blocks and waits again, at the head of the queue."""
        ...

    def plan(self, view: StepView) -> StepPlan:
        """Decide the coming step."""
        ...

    def on_device(self, now_ns: int) -> None:
        """The device has the step that was planned last: time for what nobody waits for. Not every engine says so."""
        ...

    def completed(self, done: StepDone) -> None:
        """A step's output arrived."""
        ...


class ParameterError(ValueError):
    """A parameter of a planner is wrong; becomes a 400 that names all three."""

    def __init__(self, field: str, value: object, allowed: str) -> None:
        super().__init__(f"{field}: {value!r} is not allowed; allowed: {allowed}")
        self.field = field
        self.value = value
        self.allowed = allowed


class PlannerFactory(Protocol):
    """Builds a planner from the parsed JSON object ``planner`` of a PATCH; registered in ``planning.registry``.

    Called in the server's thread to check the parameters, and in the engine's thread to build the planner that runs, so
    it must be free of side effects. Raises ``ParameterError`` on a parameter it does not accept.
    """

    def __call__(self, parameters: Mapping[str, Any]) -> StepPlanner:
        """Build a planner."""
        ...


@dataclass(frozen=True, slots=True)
class PlannerChoice:
    """Name and parameters of the planner in force, as requested over the control API."""

    name: str = "bounds"
    parameters: Mapping[str, Any] = field(default_factory=dict)
