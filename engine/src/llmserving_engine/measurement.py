"""Measurement around each step: what was scheduled, how long it took, who got output and who left; one row for each."""

from collections import deque
from typing import Any, Final

from llmserving_engine.batch_ledger import BatchLedger, Changes
from llmserving_engine.planning.protocol import StepComposition, StepDone, StepPlan
from llmserving_engine.planning.slot import PlannerSlot
from llmserving_engine.runtime import Runtime
from llmserving_engine.telemetry import StepRow
from llmserving_engine.tracking import RequestTracker

_QUIET_NS: Final = 100_000_000
"""A step that scheduled nothing is reported at most this often."""


class Measurement:
    """Rows and heartbeat of one scheduler; used by the engine's thread alone."""

    def __init__(self, scheduler: Any, runtime: Runtime, planner: PlannerSlot) -> None:
        self.tracker = RequestTracker()
        self.ledger = BatchLedger(self.tracker.tracks, is_speculative=runtime.decode_tokens > 1)
        self.in_flight: deque[tuple[Any, Changes, StepRow]] = deque()
        """Steps whose output has not come: vLLM's ``SchedulerOutput``, what it did, its row as far as known."""
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
            changes = Changes({}, StepComposition(), set(), [], [], 0)
        composition = changes.composition
        pool = scheduler.kv_cache_manager.block_pool
        total = pool.num_gpu_blocks - 1  # the null block serves no request
        applied = self._control.progress.applied.applied
        row = StepRow(  # by position: names cost as much again
            flags,
            number,
            now_ns,
            0,  # until the output comes: completed, duration
            0,
            composition.prefill_tokens,
            composition.decode_tokens,
            composition.prefill_requests,
            composition.decode_requests,
            0,  # likewise: context
            composition.prefill_attention_tokens,
            0,  # unknown: padded tokens
            len(running),
            scheduler.get_request_counts()[1],
            0,  # likewise: overdue, finished
            0,
            self._preempted,
            total - pool.get_num_free_blocks(),
            total,
            applied.max_num_seqs,
            applied.max_num_batched_tokens,
            budget,
            max(0, plan.held),
            0,  # likewise: oldest
            max(0, plan.predicted_ns),
            self._control.desired.operation_id,
            plan.trim,
            [],
            [],
        )
        self._preempted = 0
        self.in_flight.append((output, changes, row))
        return row

    def completed(self, output: Any, engine_outputs: dict[int, Any], now_ns: int) -> None:
        """Count the latencies of a step whose output came, and report it.

        Args:
            output: The step's ``SchedulerOutput``.
            engine_outputs: What ``update_from_output`` returned.
            now_ns: When the output came.
        """
        scheduled: Any = None
        while scheduled is not output:
            if not self.in_flight:
                return
            scheduled, changes, row = self.in_flight.popleft()
        if changes.unnamed > 0:
            self.ledger.name_absent(self._scheduler.running)
        composition = changes.composition
        row.decode_context_tokens = composition.decode_context_tokens = max(0, composition.decode_context_tokens)
        delivered = 0
        for outputs in engine_outputs.values():
            delivered += len(outputs.outputs)
        if delivered != changes.count or self._missed:
            self._reconcile(changes, engine_outputs)
        if changes.count:
            row.gaps, row.first_tokens = self.tracker.outputs(changes.joined, changes.left, changes.count, now_ns)
            row.batch_gaps, row.batch_first_tokens = self.tracker.take_batch()
        elif changes.left:
            self._postpone(changes.left)
        row.completed_ns = now_ns
        is_busy = output.total_num_scheduled_tokens > 0
        if is_busy:
            row.duration_ns = max(0, now_ns - max(row.scheduled_ns, self.last_completed_ns))
            self.last_completed_ns = now_ns
            self._heartbeat.step(row.duration_ns)
        if self._scheduler.finished_req_ids:
            self.settle_departures(now_ns)
        if not is_busy and now_ns - self._last_row_ns < _QUIET_NS:
            return
        self._last_row_ns = now_ns
        row.overdue_waiting, row.oldest_waiting_ns = self.tracker.overdue(now_ns)
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
        """Report the requests in the scheduler's ``finished_req_ids`` that left since the last look."""
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
            for _, changes, _ in self.in_flight:
                if request_id in changes:
                    changes.count -= 1
                    if request_id in changes.joined:
                        changes.joined.remove(request_id)
            self._sink.request(row)
            self._planner.tell(self._planner.law.departed, track)

    def _postpone(self, left: list[str]) -> None:
        if self.in_flight:
            self.in_flight[0][1].left.extend(left)
        else:
            self.ledger.postpone(left)

    def _reconcile(self, changes: Changes, engine_outputs: dict[int, Any]) -> None:
        """Not everybody who should have got output did (stale output dropped, a streaming session paused)."""
        got = {item.request_id for outs in engine_outputs.values() for item in outs.outputs if item.new_token_ids}
        expected = {name for name in changes.scheduled if name in changes and name in self.tracker.tracks}
        missing = expected - got
        joined = set(changes.joined) | (self._missed & got)
        changes.joined = sorted(joined - missing)
        changes.left = [*changes.left, *(missing - self._missed)]
        changes.count = len(got)
        self._missed = (self._missed | missing) - got
