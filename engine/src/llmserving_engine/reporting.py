"""Rows of completed steps and of requests that left, written while the device computes.

From the output of one step to the start of the next the device waits for the scheduler; right after that it is the
scheduler that waits. A row is of no use to either, so it is only noted when the output comes and written a moment
later, once the next step is on the device; at once where nobody runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from llmserving_engine.batch_ledger import Changes
from llmserving_engine.bounds import Bounds
from llmserving_engine.latency import bucket_of
from llmserving_engine.planning.protocol import StepPlan, Track
from llmserving_engine.telemetry import Outcome, Pairs, RequestRow, StepRow, TelemetrySink
from llmserving_engine.tracking import Latencies, RequestTracker

_U64_MAX: Final = (1 << 64) - 1
_OUTCOMES: Final = {"FINISHED_ABORTED": Outcome.ABORTED, "FINISHED_ERROR": Outcome.FAILED}


@dataclass(slots=True)
class MeasuredStep:
    """A step from ``schedule()`` to its row: what it does, how things stood right after, and what came of it."""

    output: Any
    """vLLM's ``SchedulerOutput``."""
    changes: Changes
    plan: StepPlan
    number: int
    flags: int
    """``StepFlag`` bits."""
    scheduled_ns: int
    running: int
    preempted: int
    bounds: Bounds
    budget: int
    operation_id: int
    # once the device has it
    waiting: int = -1
    kv_blocks_used: int = 0
    # once its output has come
    completed_ns: int = 0
    duration_ns: int = 0
    finished: int = 0
    latencies: Latencies | None = None
    """None: no request got output."""


class Reporter:
    """Turns what was measured into rows; used by the engine's thread alone.

    Attributes:
        departed: Requests that left, and when; those that left with a step are put here before it is noted.
    """

    def __init__(self, tracker: RequestTracker, sink: TelemetrySink, kv_blocks: int) -> None:
        self._tracker = tracker
        self._sink = sink
        self._kv_blocks = kv_blocks
        self.departed: list[tuple[Track, int]] = []
        self._step: MeasuredStep | None = None

    def completed(self, step: MeasuredStep) -> None:
        """Note a step whose output came."""
        if self._step is not None:  # the engine did not say that the device is busy
            self.write()
        self._step = step

    def write(self) -> None:
        """Write a row for all that was noted."""
        departed, self.departed = self.departed, []
        step, self._step = self._step, None
        for track, left_ns in departed:
            self._sink.request(request_row(track, left_ns))
        if step is not None:
            self._sink.step(self._step_row(step))

    def _step_row(self, step: MeasuredStep) -> StepRow:
        composition, plan, bounds = step.changes.composition, step.plan, step.bounds
        overdue, oldest_ns = self._tracker.overdue(step.completed_ns)
        return StepRow(
            step.flags,
            step.number,
            step.scheduled_ns,
            step.completed_ns,
            step.duration_ns,
            composition.prefill_tokens,
            composition.decode_tokens,
            composition.prefill_requests,
            composition.decode_requests,
            composition.decode_context_tokens,
            composition.prefill_attention_tokens,
            0,  # padded_tokens: unknown
            step.running,
            step.waiting,
            overdue,
            step.finished,
            step.preempted,
            step.kv_blocks_used,
            self._kv_blocks,
            bounds.max_num_seqs,
            bounds.max_num_batched_tokens,
            step.budget,
            max(0, plan.held),
            oldest_ns,
            min(max(0, plan.predicted_ns), _U64_MAX),  # a step model may predict anything
            step.operation_id,
            plan.trim,
            *histograms(step.latencies),
        )


def histograms(latencies: Latencies | None) -> tuple[Pairs, Pairs, Pairs, Pairs]:
    """Gaps that ended and times to first token, then both of batch requests, counted by bucket."""
    if latencies is None:
        return (), (), (), ()
    gap_ns = latencies.gap_ns
    return (
        _counted(latencies.gaps, gap_ns, latencies.streaming),
        _counted(latencies.first_tokens),
        _counted(latencies.batch_gaps, gap_ns, latencies.batch_streaming),
        _counted(latencies.batch_first_tokens),
    )


def _counted(single: Sequence[int], common: int = 0, times: int = 0) -> Pairs:
    """Each of the single latencies once, and a common one so many times."""
    counts = {bucket_of(common): times} if times > 0 else {}
    for latency_ns in single:
        bucket = bucket_of(latency_ns)
        counts[bucket] = counts.get(bucket, 0) + 1
    return list(counts.items())


def request_row(track: Track, left_ns: int) -> RequestRow:
    """The row of a request that left at a time of the clock, once its stream of outputs is settled."""
    request, arrival_ns, first_ns = track.request, track.arrival_ns, track.first_token_ns
    return RequestRow(  # by position: names cost as much again
        _OUTCOMES.get(request.status.name, Outcome.FINISHED),
        arrival_ns,
        left_ns,
        request.num_prompt_tokens,
        track.cached_tokens,
        request.num_output_tokens,
        track.gaps,
        track.gaps_over_target,
        track.preemptions,
        request.priority,
        track.relegated,
        track.request_class,
        (first_ns - arrival_ns) / 1e9 if first_ns else 0.0,
        (left_ns - arrival_ns) / 1e9,
        ((track.first_scheduled_ns or left_ns) - arrival_ns) / 1e9,
        track.max_gap_ns / 1e9,
    )
