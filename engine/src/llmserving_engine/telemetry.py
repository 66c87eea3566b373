"""What the plug-in reports: one row for each engine step and one for each request that left.

The rows have the names and units of the telemetry ring's records; a sink writes them to the ring in production and
keeps them in memory in a simulation.
"""

from collections.abc import Sequence
from enum import IntEnum, IntFlag
from typing import NamedTuple, Protocol

Pairs = Sequence[tuple[int, int]]
"""(latency bucket, count)."""


class StepFlag(IntFlag):
    """Facts about a step."""

    PREFILL_OPENED = 1
    LEASE_EXPIRED = 2
    DRAINING = 4
    OBSERVE_ONLY = 8
    PREFILL_HELD = 16


class Outcome(IntEnum):
    """How a request ended."""

    FINISHED = 0
    ABORTED = 1
    FAILED = 2


class RequestClass(IntEnum):
    """What a client said of a request; see ``classes``. The targets are for all but ``BATCH``."""

    INTERACTIVE = 0
    BATCH = 1
    UNKNOWN = 2


class StepRow(NamedTuple):
    """One engine step: the fields of the ring's record in its order, then the latencies.

    Times are clock nanoseconds; counts of requests are those right after ``schedule()``.
    """

    flags: int
    step: int
    scheduled_ns: int
    completed_ns: int
    duration_ns: int
    prefill_tokens: int
    decode_tokens: int
    prefill_requests: int
    decode_requests: int
    decode_context_tokens: int
    prefill_attention_tokens: int
    padded_tokens: int
    running: int
    waiting: int
    overdue_waiting: int
    finished: int
    preempted: int
    kv_blocks_used: int
    kv_blocks_total: int
    max_num_seqs: int
    max_num_batched_tokens: int
    token_budget: int
    held: int
    oldest_waiting_ns: int
    predicted_ns: int
    operation_id: int
    trim: float
    gaps: Pairs
    first_tokens: Pairs
    """These two without batch requests, whose latencies are in the next two."""
    batch_gaps: Pairs = ()
    batch_first_tokens: Pairs = ()


class RequestRow(NamedTuple):
    """One request that left the engine: the fields of the ring's record, in its order."""

    outcome: int
    arrival_ns: int
    finished_ns: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    gaps: int
    gaps_over_target: int
    preemptions: int
    priority: int
    relegated: int
    request_class: int
    ttft_seconds: float
    e2e_seconds: float
    queue_seconds: float
    max_gap_seconds: float


class TelemetrySink(Protocol):
    """Where rows go. Called in the engine's thread: must not block."""

    def step(self, row: StepRow) -> None:
        """Take the row of a step."""
        ...

    def request(self, row: RequestRow) -> None:
        """Take the row of a request."""
        ...


class NoTelemetry:
    """Drops everything: used where the ring could not be made."""

    def step(self, row: StepRow) -> None:
        """Drop."""

    def request(self, row: RequestRow) -> None:
        """Drop."""
