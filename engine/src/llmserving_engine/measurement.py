"""Measurement around each step: what was scheduled, how long it took, who got output and who left."""

from collections import deque
from typing import Any, Final

from llmserving_engine.batch_ledger import BatchLedger, Changes
from llmserving_engine.planning.protocol import StepComposition, StepDone, StepPlan, Track
from llmserving_engine.planning.slot import PlannerSlot
from llmserving_engine.reporting import MeasuredStep, Reporter
from llmserving_engine.runtime import Runtime
from llmserving_engine.tracking import RequestTracker

_QUIET_NS: Final = 100_000_000
"""A step that scheduled nothing is reported at most this often while it changes nothing in who runs and who waits."""


class Measurement:
    """Latencies and heartbeat of one scheduler; used by the engine's thread alone."""

    def __init__(self, scheduler: Any, runtime: Runtime, planner: PlannerSlot) -> None:
        self.tracker = RequestTracker(by_priority=runtime.by_priority)
        self.ledger = BatchLedger(self.tracker.tracks, is_speculative=runtime.decode_tokens > 1)
        self.in_flight: deque[MeasuredStep] = deque()
        self.last_completed_ns = 0
        self._scheduler = scheduler
        self._block_pool = scheduler.kv_cache_manager.block_pool
        self._kv_blocks = self._block_pool.num_gpu_blocks - 1  # the null block serves no request
        self._reporter = Reporter(self.tracker, runtime.sink, self._kv_blocks)
        self._heartbeat = runtime.heartbeat
        self._keeper = runtime.control.progress.applied
        self._planner = planner
        self._missed: set[str] = set()  # scheduled, but without output when it was due
        self._idle: set[str] = set()  # streaming sessions without input
        self._settled: tuple[set[str], int] = set(), 0  # vLLM's set of those who finished, and how many of it were seen
        self._preempted = 0
        self._finished = 0
        self._last_row_ns = 0
        self._last_counts = 0, 0  # running and waiting of that row

    def scheduled(
        self, output: Any, plan: StepPlan, number: int, flags: int, budget: int, operation_id: int, now_ns: int
    ) -> MeasuredStep:
        """Note a step just scheduled, whose ``flags`` may still be added to.

        Args:
            output: vLLM's ``SchedulerOutput``.
            plan: What it was to be.
            number: Number of the step.
            flags: ``StepFlag`` bits known so far.
            budget: The token budget it had.
            operation_id: The last change of the control API that was taken over.
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
        step = MeasuredStep(
            output,
            changes,
            plan,
            number,
            flags,
            now_ns,
            len(running),
            self._preempted,
            self._keeper.applied,
            budget,
            operation_id,
        )
        self._preempted = 0
        self.in_flight.append(step)
        return step

    def completed(self, output: Any, engine_outputs: dict[int, Any], now_ns: int) -> None:
        """Count the latencies of a step whose output came, and note what is to be reported of it.

        Args:
            output: The step's ``SchedulerOutput``.
            engine_outputs: What ``update_from_output`` returned.
            now_ns: When the output came.
        """
        step = self._landed(output)
        if step is None:
            return
        changes = step.changes
        if changes.unnamed > 0:
            self.ledger.name_absent(self._scheduler.running)
        composition = changes.composition
        composition.decode_context_tokens = max(0, composition.decode_context_tokens)
        delivered = 0
        for outputs in engine_outputs.values():
            delivered += len(outputs.outputs)
        if delivered != changes.count or self._missed:
            self._reconcile(changes, engine_outputs)
        if changes.count:
            step.latencies = self.tracker.outputs(
                changes.joined, changes.left, changes.count, now_ns, is_pause=changes.is_pause
            )
        elif changes.left:
            self._postpone(changes.left)
        is_busy = output.total_num_scheduled_tokens > 0
        if is_busy:
            step.duration_ns = max(0, now_ns - max(step.scheduled_ns, self.last_completed_ns))
            self.last_completed_ns = now_ns
            self._heartbeat.step(step.duration_ns)
        self.settle_departures(now_ns)
        counts = step.running, step.waiting
        is_news = is_busy or self._finished > 0 or counts != self._last_counts
        if not is_news and now_ns - self._last_row_ns < _QUIET_NS:
            self._preempted += step.preempted
        else:
            step.completed_ns = self._last_row_ns = now_ns
            self._last_counts = counts
            step.finished, self._finished = self._finished, 0
            self._reporter.completed(step)
        if is_busy and not self._planner.is_plain:
            predicted_ns = max(0, step.plan.predicted_ns)
            done = StepDone(step.number, composition, step.scheduled_ns, now_ns, step.duration_ns, predicted_ns)
            self._planner.tell(self._planner.law.completed, done)
        if not is_busy or not self._scheduler.running:  # the device waits for nothing, or no step may follow
            self._reporter.write()

    def on_device(self) -> None:
        """The device has the step that was just scheduled: time for what nobody waits for."""
        if self.in_flight:
            self._look(self.in_flight[-1])
        self._reporter.write()

    def arrived(self, request: Any, now_ns: int, wall_ns: int) -> Track | None:
        """A request was added; its track, None for a further input of a streaming session."""
        scheduler, request_id = self._scheduler, request.request_id
        if request_id in scheduler.finished_req_ids and scheduler.requests.get(request_id) is request:
            # a name used again within a step
            self.settle_departures(now_ns)
            self._settled = set(), 0
        if request_id in self._idle and request_id in scheduler.requests:  # else it was told that no more comes
            self._idle.remove(request_id)
            self._goes_on(self.tracker.tracks[request_id])
            return None
        return self.tracker.arrive(request, now_ns, wall_ns)

    def preempted(self, request: Any, computed_tokens: int) -> None:
        """A running request lost its blocks, which held ``computed_tokens``."""
        self._preempted += 1
        track = self.tracker.tracks.get(request.request_id)
        if track is not None:
            track.preemptions += 1
            self.ledger.ceased(track, computed_tokens, comes_back=True)
            self._planner.tell(self._planner.law.preempted, track)

    def suspended(self, request: Any, computed_tokens: int) -> None:
        """A turn of a streaming session, with so many tokens computed, is over; its next input may be there already."""
        track = self.tracker.tracks.get(request.request_id)
        if track is not None:
            self.ledger.ceased(track, computed_tokens, comes_back=True)
            if request.status.name == "WAITING_FOR_STREAMING_REQ":
                self._idle.add(request.request_id)
            else:
                self._goes_on(track)

    def _goes_on(self, track: Track) -> None:
        """A streaming session has input to compute. To a planner it is like one that was preempted: its stream waits."""
        self._planner.tell(self._planner.law.preempted, track)

    def settle_departures(self, now_ns: int) -> None:
        """Take note of the requests in the scheduler's ``finished_req_ids`` that left since the last look."""
        finished = self._scheduler.finished_req_ids
        seen, count = self._settled
        if len(finished) == (count if finished is seen else 0):
            return
        self._settled = finished, len(finished)
        tracker, ledger, planner, departed = self.tracker, self.ledger, self._planner, self._reporter.departed
        is_plain = planner.is_plain
        for request_id in finished:
            track = tracker.tracks.get(request_id)
            if track is None or not track.request.is_finished():  # noted already; its name is used again
                continue
            tracker.depart(request_id)
            self._missed.discard(request_id)
            self._idle.discard(request_id)
            self._finished += 1
            ledger.ceased(track, track.request.num_computed_tokens, comes_back=False)
            for step in self.in_flight:
                step.changes.drop(request_id)
            departed.append((track, now_ns))
            if not is_plain:
                planner.tell(planner.law.departed, track)

    def _landed(self, output: Any) -> MeasuredStep | None:
        """The step whose output came; None when it could not be noted."""
        in_flight = self.in_flight
        for step in in_flight:
            if step.output is output:
                break
        else:
            return None
        while (passed := in_flight.popleft()) is not step:
            self._preempted += passed.preempted  # a step that scheduled nothing has no output
            self._postpone(passed.changes.left)
        if step.waiting < 0:  # the engine did not say that the device has it
            self._look(step)
        return step

    def _look(self, step: MeasuredStep) -> None:
        """See how things stand after a step was scheduled."""
        step.waiting = self._scheduler.get_request_counts()[1]
        step.kv_blocks_used = self._kv_blocks - self._block_pool.get_num_free_blocks()

    def _postpone(self, left: list[str]) -> None:
        if self.in_flight:
            self.in_flight[0].changes.left.extend(left)
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
