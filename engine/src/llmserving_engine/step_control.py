"""Enforcement and measurement around each step of the scheduler.

``scheduler.LiveScheduler`` calls in here before and after vLLM's own ``schedule()`` and ``update_from_output()``. The
attributes of the scheduler that are touched are those of vLLM 0.31 to 0.33, with one difference below 0.31 (see
``Gate``); ``contract`` checks at start-up that they mean what is assumed here.

Nothing here may hurt the served model: every entry point is called through ``LiveScheduler``'s guard, which turns an
exception into the end of control (``surrender``), never into the end of the engine.
"""

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from llmserving_engine.bounds import Bounds, Desired
from llmserving_engine.budget import PrefillGuard, Quantum
from llmserving_engine.clock import Clock
from llmserving_engine.control import MODE_CAPS, MODE_OBSERVE, ControlState
from llmserving_engine.health import Heartbeat
from llmserving_engine.planning import registry
from llmserving_engine.planning.bounds_only import BoundsOnly
from llmserving_engine.planning.protocol import StepComposition, StepDone, StepPlan, StepPlanner, StepView, Track
from llmserving_engine.telemetry import Pairs, StepFlag, StepRow, TelemetrySink
from llmserving_engine.tracking import RequestTracker
from llmserving_engine.waiting_queue import OrderedQueue

logger = logging.getLogger(__name__)

_PARKED_STEP: Final = 1 << 60
_QUIET_NS: Final = 100_000_000
"""A step that scheduled nothing is reported at most this often."""
_NOBODY: Final[AbstractSet[str]] = frozenset()


class Gate(Enum):
    """The scheduler's attribute that limits admission."""

    ACTIVE = "max_num_active_reqs"
    """vLLM 0.31 on: admits while running < this; may be below the number running."""
    RUNNING = "max_num_running_reqs"
    """Before: asserted to be at least the number running, so it is held there until the drain is over."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """What a live scheduler is built with: the outside world in production, stand-ins in a simulation."""

    clock: Clock
    control: ControlState
    sink: TelemetrySink
    heartbeat: Heartbeat
    gate: Gate
    quantum: Quantum
    decode_tokens: int = 1
    """Tokens that one decode takes: 1 + speculative tokens."""


@dataclass(slots=True, eq=False)
class _Step:
    """A step between its scheduling and its output."""

    output: Any
    number: int
    composition: StepComposition
    scheduled_ns: int
    plan: StepPlan
    applied: Bounds
    granted: int
    flags: int
    running: int
    waiting: int
    kv_used: int
    kv_total: int
    preempted: int
    chunks: AbstractSet[str]
    """Scheduled, but with prompt left to do: no output comes for these."""
    joined: list[str]
    left: list[str]
    count: int
    """How many will get output."""

    def __contains__(self, request_id: str) -> bool:
        """Whether output will come for the request."""
        return request_id in self.output.num_scheduled_tokens and request_id not in self.chunks


class StepControl:
    """The state of one engine's control between steps; used by the engine's thread alone."""

    def __init__(self, scheduler: Any, runtime: Runtime) -> None:
        self.scheduler = scheduler
        self.runtime = runtime
        self.tracker = RequestTracker()
        self._clock = runtime.clock
        self._control = runtime.control
        self._sink = runtime.sink
        self._ceilings = runtime.control.ceilings
        self._boot_gate = getattr(scheduler, runtime.gate.value)
        self._boot_budget = scheduler.max_num_scheduled_tokens
        self._boot_chunk = scheduler.scheduler_config.long_prefill_token_threshold
        self._guard = PrefillGuard(self._ceilings.max_num_batched_tokens)
        self._planner: StepPlanner = BoundsOnly()
        self._choice = runtime.control.planner
        self._desired: Desired | None = None
        self._prefilling: dict[str, Any] = {}
        self._decoding = 0
        self._context = 0  # tokens that these attend to
        self._absent: dict[str, Any] = {}  # decoding, but passed over in the last step
        self._left: list[str] = []  # preempted since the last step
        self._missed: set[str] = set()  # scheduled, but without output when it was due
        self._in_flight: deque[_Step] = deque()
        self._parked: list[tuple[Any, int]] = []
        self._queue: OrderedQueue | None = None
        self._largest_item = 0
        self._preempted = 0
        self._finished = 0
        self._shed_done = 0
        self._last_completed_ns = 0
        self._last_row_ns = 0
        self._update_ns = 0
        self._step = 0
        # of the step being scheduled
        self._plan = StepPlan(self._ceilings.max_num_seqs, self._ceilings.max_num_batched_tokens)
        self._applied = self._ceilings
        self._granted = self._ceilings.max_num_batched_tokens
        self._flags = 0
        self._prefill_possible = False
        self._memory_free = False

    # The four entry points

    def before_schedule(self) -> None:
        """Bring bounds, plan and order into the scheduler."""
        now_ns = self._clock.monotonic_ns()
        self.runtime.heartbeat.beat(now_ns)
        self._step += 1
        self._control.progress.step = self._step
        self._settle_departures(now_ns)
        self._flags = 0
        if self._control.contract.mode == MODE_OBSERVE:
            self._flags = StepFlag.OBSERVE_ONLY
            return
        desired = self._control.desired
        if desired is not self._desired:
            self._desired = desired
            self.tracker.set_targets(desired.targets)
        if self._control.planner is not self._choice:
            self._install_planner()
        applied = self._control.progress.applied.advance(desired, now_ns, self._step)
        self._applied = applied
        if desired.expired_seconds(now_ns) > 0:
            self._flags |= StepFlag.LEASE_EXPIRED
        if desired.shed is not None and desired.shed.operation_id > self._shed_done:
            self._shed_done = desired.shed.operation_id
            self._shed(desired.shed.keep)
        plan = self._make_plan(now_ns, applied, desired)
        self._plan = plan
        self._enforce(plan, applied)

    def after_schedule(self, output: Any) -> None:
        """Take back what holds for one step only, and note what was scheduled."""
        self.restore()
        now_ns = self._clock.monotonic_ns()
        scheduler = self.scheduler
        running = len(scheduler.running)
        composition, chunks, joined, left = self._composition(output)
        tokens = output.total_num_scheduled_tokens
        progress = self._control.progress
        progress.running = running
        observed = bool(self._flags & StepFlag.OBSERVE_ONLY)
        if not observed:
            progress.applied.observe(running, tokens)
            if self._prefill_possible:
                self._guard.progressed(self._memory_free, composition.prefill_tokens)
                if not composition.prefill_tokens:
                    self._flags |= StepFlag.PREFILL_HELD
            if running > self._applied.max_num_seqs:
                self._flags |= StepFlag.DRAINING
        pool = scheduler.kv_cache_manager.block_pool
        total = pool.num_gpu_blocks - 1  # the null block serves no request
        step = _Step(
            output=output,
            number=self._step,
            composition=composition,
            scheduled_ns=now_ns,
            plan=self._plan,
            applied=self._applied,
            granted=self._boot_budget if observed else self._granted,
            flags=self._flags,
            running=running,
            waiting=scheduler.get_request_counts()[1],
            kv_used=total - pool.get_num_free_blocks(),
            kv_total=total,
            preempted=self._preempted,
            chunks=chunks,
            joined=joined,
            left=left,
            count=len(output.num_scheduled_tokens) - len(chunks),
        )
        self._preempted = 0
        self._in_flight.append(step)

    def before_update(self) -> None:
        """A step's output came: note the time, and who left before it."""
        now_ns = self._clock.monotonic_ns()
        self.runtime.heartbeat.beat(now_ns)
        self._settle_departures(now_ns)
        self._update_ns = now_ns

    def after_update(self, output: Any, engine_outputs: dict[int, Any]) -> None:
        """Count latencies and report the step.

        Args:
            output: The ``SchedulerOutput`` whose results came.
            engine_outputs: What ``update_from_output`` returned.
        """
        step = self._take(output)
        if step is None:
            return
        now_ns = self._update_ns
        gaps: Pairs = []
        firsts: Pairs = []
        delivered = sum(len(outputs.outputs) for outputs in engine_outputs.values())
        if delivered != step.count or self._missed:
            self._reconcile(step, engine_outputs)
        if step.count:
            gaps, firsts = self.tracker.outputs(step.joined, step.left, step.count, now_ns)
        elif self._in_flight:
            self._in_flight[0].left = [*step.left, *self._in_flight[0].left]
        else:
            self._left = [*step.left, *self._left]
        duration_ns = 0
        if step.output.total_num_scheduled_tokens:
            duration_ns = max(0, now_ns - max(step.scheduled_ns, self._last_completed_ns))
            self._last_completed_ns = now_ns
            self.runtime.heartbeat.step(duration_ns)
        self._settle_departures(now_ns)
        self._control.progress.running = len(self.scheduler.running)
        self._report(step, now_ns, duration_ns, gaps, firsts)

    # What the scheduler reports between the steps

    def arrived(self, request: Any) -> None:
        """A request was added."""
        track = self.tracker.arrive(request, self._clock.monotonic_ns(), self._clock.wall_ns())
        if track is None:
            return
        for item in request.mm_features or ():
            self._largest_item = max(self._largest_item, item.mm_position.length)
        self._tell(self._planner.arrived, track)

    def preempted(self, request: Any, computed_tokens: int) -> None:
        """A running request lost its blocks, which held ``computed_tokens``."""
        request_id = request.request_id
        self._preempted += 1
        self._prefilling.pop(request_id, None)
        self._absent.pop(request_id, None)
        self._left.append(request_id)
        track = self.tracker.tracks.get(request_id)
        if track is not None:
            track.preemptions += 1
            self._stop_decoding(track, computed_tokens)
            self._tell(self._planner.preempted, track)

    def restore(self) -> None:
        """Undo what holds for one step only. Also called when ``schedule()`` raised."""
        for request, eligible in self._parked:
            request.next_decode_eligible_step = eligible
        self._parked.clear()
        if self._queue is not None:
            self._queue.withdraw()
        self.scheduler.scheduler_config.long_prefill_token_threshold = self._boot_chunk

    def surrender(self, where: str, error: Exception) -> None:
        """Our own code failed: hand the scheduler back as vLLM made it, and say so."""
        progress = self._control.progress
        progress.faults += 1
        reason = f"fault in {where}: {type(error).__name__}: {error}"
        if self._control.contract.mode != MODE_OBSERVE:
            logger.error("llmserving: %s; the engine goes on without control", reason, exc_info=error)
            self._control.demote(MODE_OBSERVE, reason)
        scheduler = self.scheduler
        self.restore()
        setattr(scheduler, self.runtime.gate.value, self._boot_gate)
        scheduler.max_num_scheduled_tokens = self._boot_budget
        progress.applied.applied = self._ceilings
        self._applied = self._ceilings
        self._plan = StepPlan(self._ceilings.max_num_seqs, self._ceilings.max_num_batched_tokens)
        self._prefill_possible = False

    # Deciding

    def _make_plan(self, now_ns: int, applied: Bounds, desired: Desired) -> StepPlan:
        scheduler = self.scheduler
        pool = scheduler.kv_cache_manager.block_pool
        view = StepView(
            step=self._step,
            now_ns=now_ns,
            bounds=applied,
            ceilings=self._ceilings,
            targets=desired.targets,
            running=scheduler.running,
            prefilling=self._prefilling,
            waiting=scheduler.get_request_counts()[1],
            tracks=self.tracker.tracks,
            in_flight_steps=len(self._in_flight),
            last_completed_ns=self._last_completed_ns,
            kv_blocks_free=pool.get_num_free_blocks(),
            kv_blocks_total=pool.num_gpu_blocks - 1,
            block_size=scheduler.block_size,
            decode_tokens=self.runtime.decode_tokens,
            max_decode_seqs=self._ceilings.max_num_seqs,
        )
        try:
            plan = self._planner.plan(view)
            if plan.running is not None and (
                len(plan.running) != len(scheduler.running) or set(plan.running) != set(scheduler.running)
            ):
                raise ValueError("the plan's order is not a permutation of the running requests")
        except Exception as error:  # a law must never stop the engine
            self._drop_planner(error)
            plan = self._planner.plan(view)
        return plan

    def _enforce(self, plan: StepPlan, applied: Bounds) -> None:
        scheduler = self.scheduler
        cap = max(1, min(plan.max_num_seqs, applied.max_num_seqs))
        if plan.running is not None:
            scheduler.running[:] = plan.running
        running = scheduler.running
        if self.runtime.gate is Gate.RUNNING:
            scheduler.max_num_running_reqs = max(cap, len(running))
        else:
            scheduler.max_num_active_reqs = cap
        parked_decodes = 0
        for request_id in plan.parked:
            track = self.tracker.tracks.get(request_id)
            if track is not None:
                request = track.request
                parked_decodes += track.decoding
                self._parked.append((request, request.next_decode_eligible_step))
                request.next_decode_eligible_step = _PARKED_STEP
        if self._queue is not None:
            self._queue.offer(plan.waiting_first, plan.only_listed)
        quantum, possible = self._prefill_work(cap, len(plan.parked) - parked_decodes)
        decoding = 0 if plan.decodes_pause else max(0, len(running) - len(self._prefilling) - parked_decodes)
        decodes = decoding * self.runtime.decode_tokens
        wanted = min(plan.token_budget, applied.max_num_batched_tokens)
        grant = self._guard.grant(wanted, decodes, quantum, possible)
        self._prefill_possible = possible
        self._granted = grant.tokens
        scheduler.max_num_scheduled_tokens = min(grant.tokens, self._boot_budget)
        if grant.opened:
            self._flags |= StepFlag.PREFILL_OPENED
            self._control.progress.prefill_openings = self._guard.openings
        if plan.chunk_tokens:
            scheduler.scheduler_config.long_prefill_token_threshold = max(plan.chunk_tokens, quantum)

    def _prefill_work(self, cap: int, parked: int) -> tuple[int, bool]:
        """The quantum of this step, and whether prefill is possible as far as cap and memory go."""
        scheduler = self.scheduler
        free_tokens = scheduler.kv_cache_manager.block_pool.get_num_free_blocks() * scheduler.block_size
        queue = getattr(scheduler, "kv_holding_waiting", None) or scheduler.waiting
        head = queue.peek_request() if queue else None
        next_prompt = head.num_tokens - head.num_computed_tokens if head is not None else 0
        quantum = self.runtime.quantum.tokens(self._largest_item, next_prompt)
        admissible = head is not None and len(scheduler.running) < cap
        possible = admissible or len(self._prefilling) > parked
        self._memory_free = free_tokens >= (max(next_prompt, quantum) if admissible else quantum)
        return quantum, possible

    def _shed(self, keep: int) -> None:
        """Preempt the last admitted until ``keep`` run; they wait at the head of the queue and are recomputed."""
        scheduler = self.scheduler
        timestamp = self._clock.monotonic_ns() / 1e9
        while len(scheduler.running) > keep:
            scheduler._preempt_request(scheduler.running.pop(), timestamp)

    def _install_planner(self) -> None:
        choice = self._control.planner
        self._choice = choice
        try:
            if choice.name == self._planner.name:
                self._planner.configure(choice.parameters)
                return
            planner = registry.build(choice)
            for track in self.tracker.tracks.values():
                planner.arrived(track)
            self._planner = planner
            if planner.orders_waiting and self._queue is None:
                by_priority = str(getattr(self.scheduler.policy, "value", "fcfs")) == "priority"
                self._queue = OrderedQueue(self.scheduler.waiting, by_priority)
                self.scheduler.waiting = self._queue
        except Exception as error:  # a law must never stop the engine
            self._drop_planner(error)

    def _drop_planner(self, error: Exception) -> None:
        reason = f"planner {self._planner.name!r} failed and was dropped: {type(error).__name__}: {error}"
        logger.error("llmserving: %s", reason, exc_info=error)
        self._planner = BoundsOnly()
        self._control.progress.faults += 1
        self._control.demote(MODE_CAPS, reason)
        self._choice = self._control.planner

    # Measuring

    def _composition(self, output: Any) -> tuple[StepComposition, AbstractSet[str], list[str], list[str]]:
        """What the step holds; whose prompts are not done after it; who joins and who leaves the stream of outputs."""
        scheduled: dict[str, int] = output.num_scheduled_tokens
        left, self._left = self._left, []
        if not scheduled:
            self._left = left
            return StepComposition(), _NOBODY, [], []
        running = self.scheduler.running
        prefills = self._prefilling
        self._note_admitted(output)
        prefill_tokens = prefill_requests = attention = 0
        chunks: list[str] = []
        done: list[str] = []
        for request_id, request in prefills.items():
            tokens = scheduled.get(request_id, 0)
            if tokens:
                prefill_requests += 1
                prefill_tokens += tokens
                context = request.num_computed_tokens - tokens
                attention += tokens * context + tokens * tokens // 2
                (chunks if request.is_prefill_chunk else done).append(request_id)
        decode_requests = len(scheduled) - prefill_requests
        decode_tokens = output.total_num_scheduled_tokens - prefill_tokens
        if self._decoding != len(running) - len(prefills) or self.runtime.decode_tokens > 1:
            self._recount()
        else:
            self._context += decode_tokens
        context = self._context
        joined = done
        absent: dict[str, Any] = {}
        if decode_requests != self._decoding:
            absent = {
                request.request_id: request
                for request in passed_over(running, scheduled)
                if request.request_id not in prefills
            }
            context -= sum(request.num_computed_tokens for request in absent.values())
            left.extend(absent.keys() - self._absent.keys())
        if self._absent:
            joined = [*done, *(name for name in self._absent if name in scheduled and name not in prefills)]
        self._absent = absent
        for request_id in done:
            self._begin_decoding(request_id, prefills.pop(request_id))
        composition = StepComposition(
            prefill_tokens, decode_tokens, prefill_requests, decode_requests, context, attention
        )
        return composition, frozenset(chunks), joined, left

    def _note_admitted(self, output: Any) -> None:
        requests, tracks, prefills = self.scheduler.requests, self.tracker.tracks, self._prefilling
        now_ns = self._clock.monotonic_ns()
        for new in output.scheduled_new_reqs:
            request = requests[new.req_id]
            prefills[new.req_id] = request
            track = tracks.get(new.req_id)
            if track is not None and not track.first_scheduled_ns:
                track.first_scheduled_ns = now_ns
                track.cached_tokens = min(new.num_computed_tokens, request.num_prompt_tokens)
        for request_id in output.scheduled_cached_reqs.resumed_req_ids:
            prefills[request_id] = requests[request_id]

    def _begin_decoding(self, request_id: str, request: Any) -> None:
        track = self.tracker.tracks.get(request_id)
        if track is not None:
            track.decoding = True
        self._decoding += 1
        self._context += request.num_computed_tokens

    def _stop_decoding(self, track: Track, computed_tokens: int) -> None:
        if track.decoding:
            track.decoding = False
            self._decoding -= 1
            self._context -= computed_tokens

    def _recount(self) -> None:
        """Count decodes and their context anew: with speculation, and when a request left by a way not seen here."""
        tracks, prefills = self.tracker.tracks, self._prefilling
        self._decoding = self._context = 0
        for request in self.scheduler.running:
            if request.request_id in prefills:
                continue
            self._decoding += 1
            self._context += request.num_computed_tokens
            track = tracks.get(request.request_id)
            if track is not None:
                track.decoding = True

    def _reconcile(self, step: _Step, engine_outputs: dict[int, Any]) -> None:
        """Not everybody who should have got output did (stale output dropped, a streaming session paused)."""
        got = {item.request_id for outs in engine_outputs.values() for item in outs.outputs if item.new_token_ids}
        expected = {name for name in step.output.num_scheduled_tokens if name in step and name in self.tracker.tracks}
        missing = expected - got
        joined = set(step.joined) | (self._missed & got)
        step.joined = sorted(joined - missing)
        step.left = [*step.left, *(missing - self._missed)]
        step.count = len(got)
        self._missed = (self._missed | missing) - got

    def _take(self, output: Any) -> _Step | None:
        in_flight = self._in_flight
        while in_flight:
            step = in_flight.popleft()
            if step.output is output:
                return step
        return None

    def _settle_departures(self, now_ns: int) -> None:
        """Report the requests that left since the last look."""
        for request_id in self.scheduler.finished_req_ids:
            gone = self.tracker.depart(request_id, now_ns)
            if gone is None:
                continue
            track, row = gone
            self._finished += 1
            self._prefilling.pop(request_id, None)
            self._stop_decoding(track, track.request.num_computed_tokens)
            self._absent.pop(request_id, None)
            for step in self._in_flight:
                if request_id in step:
                    step.count -= 1
                    if request_id in step.joined:
                        step.joined.remove(request_id)
            self._sink.request(row)
            self._tell(self._planner.departed, track)

    def _tell(self, method: Callable[[Any], None], news: Any) -> None:
        try:
            method(news)
        except Exception as error:  # a law must never stop the engine
            self._drop_planner(error)

    def _report(self, step: _Step, now_ns: int, duration_ns: int, gaps: Pairs, firsts: Pairs) -> None:
        composition, plan = step.composition, step.plan
        is_empty = not step.output.total_num_scheduled_tokens
        if is_empty and now_ns - self._last_row_ns < _QUIET_NS:
            return
        self._last_row_ns = now_ns
        overdue = self.tracker.overdue(now_ns)
        row = StepRow(
            flags=step.flags,
            step=step.number,
            scheduled_ns=step.scheduled_ns,
            completed_ns=now_ns,
            duration_ns=duration_ns,
            prefill_tokens=composition.prefill_tokens,
            decode_tokens=composition.decode_tokens,
            prefill_requests=composition.prefill_requests,
            decode_requests=composition.decode_requests,
            decode_context_tokens=composition.decode_context_tokens,
            prefill_attention_tokens=composition.prefill_attention_tokens,
            padded_tokens=0,
            running=step.running,
            waiting=step.waiting,
            overdue_waiting=overdue,
            finished=self._finished,
            preempted=step.preempted,
            kv_blocks_used=step.kv_used,
            kv_blocks_total=step.kv_total,
            max_num_seqs=step.applied.max_num_seqs,
            max_num_batched_tokens=step.applied.max_num_batched_tokens,
            token_budget=step.granted,
            held=plan.held,
            oldest_waiting_ns=self.tracker.oldest_ns(now_ns),
            predicted_ns=plan.predicted_ns,
            operation_id=self._control.desired.operation_id,
            trim=plan.trim,
            gaps=gaps,
            first_tokens=firsts,
        )
        self._finished = 0
        self._sink.step(row)
        if not is_empty:
            done = StepDone(step.number, composition, step.scheduled_ns, now_ns, duration_ns, plan.predicted_ns)
            self._tell(self._planner.completed, done)


_FEW: Final = 16


def passed_over(running: Sequence[Any], scheduled: Mapping[str, int]) -> list[Any]:
    """The running requests that a step did not schedule.

    ``schedule()`` takes the running requests in order and then appends the admitted ones, so the scheduled ids are the
    running ones in the same order with some left out: a few of them are found by bisection.
    """
    missing = len(running) - len(scheduled)
    if missing <= 0:
        return []
    names = list(scheduled)
    found: list[Any] = []
    if missing <= _FEW:
        low = 0
        for shift in range(missing):
            high = len(running) - 1
            while low < high:
                middle = (low + high) // 2
                if middle - shift < len(names) and running[middle].request_id == names[middle - shift]:
                    low = middle + 1
                else:
                    high = middle
            found.append(running[low])
            low += 1
        if not any(request.request_id in scheduled for request in found):
            return found
    return [request for request in running if request.request_id not in scheduled]
