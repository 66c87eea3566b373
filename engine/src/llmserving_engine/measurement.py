"""Measurement around each step: what was scheduled, how long it took, who got output and who left; one row for each."""

from collections import deque
from dataclasses import dataclass
from typing import Any, Final

from llmserving_engine.batch_ledger import BatchLedger, Changes
from llmserving_engine.planning.protocol import StepComposition, StepDone, StepPlan
from llmserving_engine.planning.slot import PlannerSlot
from llmserving_engine.runtime import Runtime
from llmserving_engine.telemetry import StepRow
from llmserving_engine.tracking import RequestTracker

_QUIET_NS: Final = 100_000_000
"""A step that scheduled nothing is reported at most this often."""


@dataclass(slots=True, eq=False)
class _Step:
    """A step between its scheduling and its output."""

    output: Any
    changes: Changes
    row: StepRow
    """Filled in as far as known."""
    count: int
    """How many will get output."""

    def __contains__(self, request_id: str) -> bool:
        """Whether output will come for the request."""
        return request_id in self.changes.scheduled and request_id not in self.changes.chunks


class Measurement:
    """Rows and heartbeat of one scheduler; used by the engine's thread alone."""

    def __init__(self, scheduler: Any, runtime: Runtime, planner: PlannerSlot) -> None:
        self.tracker = RequestTracker()
        self.ledger = BatchLedger(self.tracker.tracks, is_speculative=runtime.decode_tokens > 1)
        self.in_flight: deque[_Step] = deque()
        self.last_completed_ns = 0
        self._scheduler = scheduler
        self._sink = runtime.sink
        self._heartbeat = runtime.heartbeat
        self._control = runtime.control
        self._planner = planner
        self._missed: set[str] = set()  # scheduled, but without output when it was due
        self._preempted = 0
        self._finished = 0
        self._last_row_ns = 0

    def scheduled(self, output: Any, plan: StepPlan, *, number: int, flags: int, budget: int, now_ns: int) -> StepRow:
        """Note a step just scheduled; its row, whose ``flags`` may still be added to.

        Args:
            output: vLLM's ``SchedulerOutput``.
            plan: What it was to be.
            number: Number of the step.
            flags: ``StepFlag`` bits known so far.
            budget: The token budget it had.
            now_ns: When ``schedule()`` returned.
        """
        scheduler = self._scheduler
        running = scheduler.running
        if output.num_scheduled_tokens:
            await_departures = bool(self.in_flight) and not plan.parked
            changes = self.ledger.scheduled(
                output, running, scheduler.requests, now_ns, await_departures=await_departures
            )
        else:
            changes = Changes({}, StepComposition(), set(), [], [])
        composition = changes.composition
        pool = scheduler.kv_cache_manager.block_pool
        total = pool.num_gpu_blocks - 1  # the null block serves no request
        applied = self._control.progress.applied.applied
        row = StepRow(
            flags=flags,
            step=number,
            scheduled_ns=now_ns,
            completed_ns=0,
            duration_ns=0,
            prefill_tokens=composition.prefill_tokens,
            decode_tokens=composition.decode_tokens,
            prefill_requests=composition.prefill_requests,
            decode_requests=composition.decode_requests,
            decode_context_tokens=0,
            prefill_attention_tokens=composition.prefill_attention_tokens,
            padded_tokens=0,
            running=len(running),
            waiting=scheduler.get_request_counts()[1],
            overdue_waiting=0,
            finished=0,
            preempted=self._preempted,
            kv_blocks_used=total - pool.get_num_free_blocks(),
            kv_blocks_total=total,
            max_num_seqs=applied.max_num_seqs,
            max_num_batched_tokens=applied.max_num_batched_tokens,
            token_budget=budget,
            held=max(0, plan.held),
            oldest_waiting_ns=0,
            predicted_ns=max(0, plan.predicted_ns),
            operation_id=self._control.desired.operation_id,
            trim=plan.trim,
            gaps=[],
            first_tokens=[],
        )
        self._preempted = 0
        self.in_flight.append(_Step(output, changes, row, len(output.num_scheduled_tokens) - len(changes.chunks)))
        return row

    def completed(self, output: Any, engine_outputs: dict[int, Any], now_ns: int) -> None:
        """Count the latencies of a step whose output came, and report it.

        Args:
            output: The step's ``SchedulerOutput``.
            engine_outputs: What ``update_from_output`` returned.
            now_ns: When the output came.
        """
        step = self._take(output)
        if step is None:
            return
        row, changes = step.row, step.changes
        if changes.unnamed > 0:
            self.ledger.name_absent(self._scheduler.running)
        composition = changes.composition
        row.decode_context_tokens = composition.decode_context_tokens = max(0, composition.decode_context_tokens)
        delivered = 0
        for outputs in engine_outputs.values():
            delivered += len(outputs.outputs)
        if delivered != step.count or self._missed:
            self._reconcile(step, engine_outputs)
        if step.count:
            row.gaps, row.first_tokens = self.tracker.outputs(changes.joined, changes.left, step.count, now_ns)
            row.batch_gaps, row.batch_first_tokens = self.tracker.take_batch()
        elif changes.left:
            self._postpone(changes.left)
        row.completed_ns = now_ns
        is_busy = output.total_num_scheduled_tokens > 0
        if is_busy:
            row.duration_ns = max(0, now_ns - max(row.scheduled_ns, self.last_completed_ns))
            self.last_completed_ns = now_ns
            self._heartbeat.step(row.duration_ns)
        self.settle_departures(now_ns)
        if not is_busy and now_ns - self._last_row_ns < _QUIET_NS:
            return
        self._last_row_ns = now_ns
        row.overdue_waiting = self.tracker.overdue(now_ns)
        row.oldest_waiting_ns = self.tracker.oldest_ns(now_ns)
        row.finished, self._finished = self._finished, 0
        self._sink.step(row)
        if is_busy and not self._planner.is_plain:
            done = StepDone(row.step, composition, row.scheduled_ns, now_ns, row.duration_ns, row.predicted_ns)
            self._planner.tell(self._planner.law.completed, done)

    def preempted(self, request: Any, computed_tokens: int) -> None:
        """A running request lost its blocks, which held ``computed_tokens``."""
        self._preempted += 1
        track = self.tracker.tracks.get(request.request_id)
        if track is not None:
            track.preemptions += 1
            self.ledger.ceased(track, computed_tokens, is_preempted=True)
            self._planner.tell(self._planner.law.preempted, track)

    def settle_departures(self, now_ns: int) -> None:
        """Report the requests that left since the last look."""
        tracks = self.tracker.tracks
        for request_id in self._scheduler.finished_req_ids:
            if request_id not in tracks:  # reported already
                continue
            departed = self.tracker.depart(request_id, now_ns)
            if departed is None:
                continue
            track, row = departed
            self._finished += 1
            self.ledger.ceased(track, track.request.num_computed_tokens, is_preempted=False)
            for step in self.in_flight:
                if request_id in step:
                    step.count -= 1
                    if request_id in step.changes.joined:
                        step.changes.joined.remove(request_id)
            self._sink.request(row)
            self._planner.tell(self._planner.law.departed, track)

    def _take(self, output: Any) -> _Step | None:
        while self.in_flight:
            step = self.in_flight.popleft()
            if step.output is output:
                return step
        return None

    def _postpone(self, left: list[str]) -> None:
        if self.in_flight:
            self.in_flight[0].changes.left.extend(left)
        else:
            self.ledger.postpone(left)

    def _reconcile(self, step: _Step, engine_outputs: dict[int, Any]) -> None:
        """Not everybody who should have got output did (stale output dropped, a streaming session paused)."""
        got = {item.request_id for outs in engine_outputs.values() for item in outs.outputs if item.new_token_ids}
        expected = {name for name in step.changes.scheduled if name in step and name in self.tracker.tracks}
        missing = expected - got
        changes = step.changes
        joined = set(changes.joined) | (self._missed & got)
        changes.joined = sorted(joined - missing)
        changes.left = [*changes.left, *(missing - self._missed)]
        step.count = len(got)
        self._missed = (self._missed | missing) - got
