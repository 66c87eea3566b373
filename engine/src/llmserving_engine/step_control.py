"""Enforcement around each step of the scheduler.

``scheduler.LiveScheduler`` calls in here before and after vLLM's own ``schedule()`` and ``update_from_output()``. The
attributes of the scheduler that are touched are those of vLLM 0.31 to 0.33, with one difference below 0.31 (see
``runtime.Gate``); ``contract`` checks at start-up that they mean what is assumed here.

Nothing here may hurt the served model: every entry point is called through ``LiveScheduler``'s guard, which turns an
exception into the end of control (``surrender``), never into the end of the engine.
"""

import logging
from dataclasses import replace
from operator import attrgetter
from typing import Any, Final

from llmserving_engine.bounds import Bounds
from llmserving_engine.budget import PATIENCE_STEPS, PrefillGuard
from llmserving_engine.control import MODE_OBSERVE
from llmserving_engine.measurement import Measurement
from llmserving_engine.planning.protocol import StepPlan, StepView
from llmserving_engine.planning.slot import PlannerSlot
from llmserving_engine.reporting import MeasuredStep
from llmserving_engine.runtime import Gate, Runtime
from llmserving_engine.telemetry import StepFlag
from llmserving_engine.waiting_queue import OrderedQueue

logger = logging.getLogger(__name__)

_PARKED_STEP: Final = 1 << 60
_NEVER: Final = 1 << 63
_STUCK_NS: Final = 1_000_000_000
"""A planner under which nobody ran for so long is set aside for one step."""
_eligible_step = attrgetter("next_decode_eligible_step")
# plain numbers: an IntFlag makes a new member for each combination
_PREFILL_OPENED: Final = int(StepFlag.PREFILL_OPENED)
_LEASE_EXPIRED: Final = int(StepFlag.LEASE_EXPIRED)
_DRAINING: Final = int(StepFlag.DRAINING)
_OBSERVE_ONLY: Final = int(StepFlag.OBSERVE_ONLY)
_PREFILL_HELD: Final = int(StepFlag.PREFILL_HELD)


class StepControl:
    """The state of one engine's control between steps; used by the engine's thread alone."""

    def __init__(self, scheduler: Any, runtime: Runtime) -> None:
        self.scheduler = scheduler
        self.runtime = runtime
        self.planner = PlannerSlot(runtime.control)
        self.measurement = Measurement(scheduler, runtime, self.planner)
        self._now_ns = runtime.clock.monotonic_ns
        self._heartbeat = runtime.heartbeat
        self._control = runtime.control
        self._progress = runtime.control.progress
        self._keeper = runtime.control.progress.applied
        self._ceilings = runtime.control.ceilings
        self._is_asserted = runtime.gate is Gate.RUNNING
        self._boot_gate = getattr(scheduler, runtime.gate.value)
        self._boot_budget = scheduler.max_num_scheduled_tokens
        self._boot_chunk = scheduler.scheduler_config.long_prefill_token_threshold
        self._guard = PrefillGuard(self._ceilings.max_num_batched_tokens)
        self._largest_item = 0
        self._quantum = runtime.quantum.tokens(0, 0)  # where nothing is asked of the prompt that waits
        self._queue: OrderedQueue | None = None
        self._parked: list[tuple[Any, int]] = []
        self._shed_done = 0
        self._update_ns = 0
        self._step = 0
        self._last_work_ns = self._now_ns()
        self._empty_steps = 0
        # taken over from the control API
        self._revision = -1
        self._valid_until_ns = 0
        self._standing_flags = 0
        self._operation_id = 0
        # of the step being scheduled
        self._plan = StepPlan(self._ceilings.max_num_seqs, self._ceilings.max_num_batched_tokens)
        self._flags = 0
        self._scheduled: tuple[Any, int] | None = None  # its output and time, until noted
        self._cap = 0
        self._has_chunk = False

    # The entry points

    def before_schedule(self) -> None:
        """Bring bounds, plan and order into the scheduler."""
        self._note()
        now_ns = self._now_ns()
        measurement = self.measurement
        self._heartbeat.last_ns = now_ns
        self._step += 1
        self._progress.step = self._step
        measurement.settle_departures(now_ns)
        if measurement.in_flight:
            measurement.ledger.name_absent(self.scheduler.running)
        if self._control.revision != self._revision or now_ns > self._valid_until_ns:
            self._take_over(now_ns)
        self._flags = self._standing_flags
        if self._flags & _OBSERVE_ONLY:
            return
        applied = self._keeper.applied
        if not self.planner.is_plain:
            self._plan = self.planner.plan(self._view(now_ns, applied))
            if self._is_stuck(now_ns):
                self._plan = StepPlan(applied.max_num_seqs, applied.max_num_batched_tokens)
                self._opened(f"planner {self.planner.law.name!r} let nobody run for a second, its plan is set aside")
        self._enforce(self._plan, applied)

    def after_schedule(self, output: Any) -> None:
        """Keep vLLM's ``SchedulerOutput``, to be noted once the device has it."""
        self._scheduled = output, self._now_ns()
        if getattr(output, "pending_structured_output_tokens", False):
            self._note()  # requests may be aborted before the device has it

    def on_device(self) -> None:
        """The device has the step that was just scheduled: time for what nobody waits for."""
        self._note()
        self.measurement.on_device()

    def before_update(self) -> None:
        """A step's output came: note the time, and who left before it."""
        self._note()
        self._update_ns = self._heartbeat.last_ns = now_ns = self._now_ns()
        self.measurement.settle_departures(now_ns)

    def after_update(self, output: Any, engine_outputs: dict[int, Any]) -> None:
        """Count the step whose results came: its ``SchedulerOutput`` and what ``update_from_output`` returned."""
        self.measurement.completed(output, engine_outputs, self._update_ns)
        self._progress.running = len(self.scheduler.running)

    def arrived(self, request: Any) -> None:
        """A request was added."""
        track = self.measurement.arrived(request, self._now_ns(), self.runtime.clock.wall_ns())
        if track is None:
            return
        for item in request.mm_features or ():
            if item.mm_position.length > self._largest_item:
                self._largest_item = item.mm_position.length
                self._quantum = self.runtime.quantum.tokens(self._largest_item, 0)
        self.planner.tell(self.planner.law.arrived, track)

    def preempted(self, request: Any, computed_tokens: int) -> None:
        """A running request lost its blocks, which held ``computed_tokens``."""
        self._note()
        self.measurement.preempted(request, computed_tokens)

    def restore(self) -> None:
        """Undo what holds for one step only. Also called when ``schedule()`` raised."""
        if self._parked:
            for request, eligible in self._parked:
                request.next_decode_eligible_step = eligible
            self._parked.clear()
        if self._queue is not None:
            self._queue.withdraw()
        if self._has_chunk:
            self._has_chunk = False
            self.scheduler.scheduler_config.long_prefill_token_threshold = self._boot_chunk

    def surrender(self, where: str, error: Exception) -> None:
        """Our own code failed: hand the scheduler back as stock vLLM would run, and say so.

        The cap stays at the fallback, not at the ceiling. The budget goes to the ceiling: without our guard a smaller
        one could stop the prefill of an item that may not be split for good.
        """
        self._progress.faults += 1
        if self._control.contract.mode != MODE_OBSERVE:
            reason = f"fault in {where}: {type(error).__name__}: {error}"
            logger.error("llmserving: %s; the engine goes on without control", reason, exc_info=error)
            self._control.demote(MODE_OBSERVE, reason)
        self.restore()
        left = self._ceilings
        if self.runtime.gate is Gate.ACTIVE:  # the older gate must never be below the number running
            left = replace(left, max_num_seqs=self._control.desired.fallback.clamped(self._ceilings).max_num_seqs)
            self.scheduler.max_num_active_reqs = left.max_num_seqs
        else:
            setattr(self.scheduler, self.runtime.gate.value, self._boot_gate)
        self.scheduler.max_num_scheduled_tokens = self._boot_budget
        self._keeper.release(left)
        self._plan = StepPlan(self._ceilings.max_num_seqs, self._ceilings.max_num_batched_tokens)

    # Enforcing

    def _take_over(self, now_ns: int) -> None:
        """Take over what the control API asks for, or what the bounds are once the lease has run out."""
        control, planner, scheduler = self._control, self.planner, self.scheduler
        self._revision = control.revision  # read first: what changes from here on is taken over before the next step
        if control.contract.mode == MODE_OBSERVE:
            self._standing_flags = _OBSERVE_ONLY
            self._valid_until_ns = _NEVER
            return
        desired = control.desired
        self._operation_id = desired.operation_id
        tracker = self.measurement.tracker
        tracker.set_targets(desired.targets)
        planner.refresh(tracker.tracks)
        if self._queue is None and planner.law.orders_waiting:
            by_priority = str(getattr(scheduler.policy, "value", "fcfs")) == "priority"
            self._queue = OrderedQueue(scheduler.waiting, by_priority)
            scheduler.waiting = self._queue
        applied = self._keeper.advance(desired, now_ns, self._step)
        self._standing_flags = _LEASE_EXPIRED if self._keeper.is_gliding else 0
        self._valid_until_ns = desired.expires_ns
        if desired.shed is not None and desired.shed.operation_id > self._shed_done:
            self._shed_done = desired.shed.operation_id
            self._shed(desired.shed.keep)
        self._plan = StepPlan(applied.max_num_seqs, applied.max_num_batched_tokens)

    def _is_stuck(self, now_ns: int) -> bool:
        """Whether requests run and step after step, for a second, none of them got a token, as by no right plan.

        The step is then left to vLLM, once in every such second: a planner that forgot a request must not hold it up for
        good.
        """
        if self._empty_steps < PATIENCE_STEPS or now_ns - self._last_work_ns < _STUCK_NS:
            return False
        self._last_work_ns = now_ns
        return True

    def _view(self, now_ns: int, applied: Bounds) -> StepView:
        scheduler, measurement = self.scheduler, self.measurement
        pool = scheduler.kv_cache_manager.block_pool
        return StepView(
            step=self._step,
            now_ns=now_ns,
            bounds=applied,
            ceilings=self._ceilings,
            targets=self._control.desired.targets,
            running=scheduler.running,
            prefilling=measurement.ledger.prefilling,
            decode_context_tokens=measurement.ledger.context_tokens,
            waiting=scheduler.get_request_counts()[1],
            tracks=measurement.tracker.tracks,
            in_flight_steps=len(measurement.in_flight),
            last_completed_ns=measurement.last_completed_ns,
            kv_blocks_free=pool.get_num_free_blocks(),
            kv_blocks_total=pool.num_gpu_blocks - 1,
            block_size=scheduler.block_size,
            decode_tokens=self.runtime.decode_tokens,
            max_decode_seqs=self._ceilings.max_num_seqs,
            cached_tokens=self._cached_tokens,
        )

    def _cached_tokens(self, request: Any) -> int:
        """Tokens of a waiting request in the prefix cache; vLLM looks again when it admits the request."""
        return int(self.scheduler.kv_cache_manager.get_computed_blocks(request)[1]) if request.block_hashes else 0

    def _enforce(self, plan: StepPlan, applied: Bounds) -> None:
        scheduler = self.scheduler
        self._cap = cap = max(1, min(plan.max_num_seqs, applied.max_num_seqs))
        if plan.running is not None:
            scheduler.running[:] = plan.running
        running = len(scheduler.running)
        if self._is_asserted:
            scheduler.max_num_running_reqs = max(cap, running)
        else:
            scheduler.max_num_active_reqs = cap
        parked_decodes = self._park(plan) if plan.parked or plan.decodes_pause else 0
        if self._queue is not None:
            self._queue.offer(plan.waiting_first, plan.only_listed)
        decoding = running - len(self.measurement.ledger.prefilling) - parked_decodes
        decodes = max(0, decoding) * self.runtime.decode_tokens
        wanted = min(plan.token_budget, applied.max_num_batched_tokens)
        quantum = self._quantum
        if wanted - decodes < quantum or not self._guard.is_calm or self.runtime.quantum.whole_prompt:
            head = self._next_admission()
            quantum = self.runtime.quantum.tokens(self._largest_item, _prompt_left(head))
            possible = head is not None or self._has_prefilling()
            wanted, opened = self._guard.grant(wanted, decodes, quantum, possible)
            if opened:
                self._opened(
                    f"no prompt token for {PATIENCE_STEPS} steps with room for some: {wanted} tokens in this one"
                )
        scheduler.max_num_scheduled_tokens = min(wanted, self._boot_budget)
        if plan.chunk_tokens:
            self._has_chunk = True
            scheduler.scheduler_config.long_prefill_token_threshold = max(plan.chunk_tokens, quantum)

    def _park(self, plan: StepPlan) -> int:
        """Let the step pass over the plan's parked requests; how many decodes these are."""
        measurement, running = self.measurement, self.scheduler.running
        tracks, prefilling = measurement.tracker.tracks, measurement.ledger.prefilling
        parked = {request_id: tracks[request_id].request for request_id in plan.parked if request_id in tracks}
        decodes = sum(tracks[request_id].decoding for request_id in parked)
        requests = list(parked.values())
        if plan.decodes_pause:
            others = [request for request in running if request.request_id not in prefilling]
            requests = [*(request for request in requests if request.request_id in prefilling), *others]
            decodes = len(others)
        self._parked.extend(zip(requests, map(_eligible_step, requests), strict=True))
        for request in requests:
            request.next_decode_eligible_step = _PARKED_STEP
        return decodes

    def _note(self) -> None:
        """Note what was scheduled, unless that is done: ``EngineCore`` need not say that the device has an empty step."""
        if self._scheduled is None:
            return
        (output, now_ns), self._scheduled = self._scheduled, None
        step = self.measurement.scheduled(
            output,
            self._plan,
            self._step,
            self._flags,
            self.scheduler.max_num_scheduled_tokens,
            self._operation_id,
            now_ns,
        )
        tokens, running = output.total_num_scheduled_tokens, step.running
        if tokens or not running:
            self._last_work_ns = now_ns
            self._empty_steps = 0
        else:
            self._empty_steps += 1
        self._progress.running = running
        if self._flags & _OBSERVE_ONLY:
            return
        keeper = self._keeper
        if keeper.effective is not keeper.applied:
            keeper.observe(running, tokens)
        if not step.changes.composition.prefill_tokens:
            self._look_for_prefill(step)
        elif not self._guard.is_calm:
            self._guard.progressed(True, step.changes.composition.prefill_tokens)
        if running > step.bounds.max_num_seqs:
            step.flags |= _DRAINING
        if self._parked or self._queue is not None or self._has_chunk:
            self.restore()

    def _look_for_prefill(self, step: MeasuredStep) -> None:
        """After a step without prefill: say so if some was possible, and tell the guard whether memory was in the way."""
        head = self._next_admission()
        if head is None and not self._has_prefilling():
            return
        step.flags |= _PREFILL_HELD
        scheduler = self.scheduler
        prompt = _prompt_left(head)
        free_tokens = scheduler.kv_cache_manager.block_pool.get_num_free_blocks() * scheduler.block_size
        needed = max(prompt, self.runtime.quantum.tokens(self._largest_item, prompt))
        self._guard.progressed(not step.preempted and free_tokens >= needed, 0)

    def _next_admission(self) -> Any:
        """The request that the step may admit first; None without a free slot, or when nobody is offered."""
        scheduler = self.scheduler
        if len(scheduler.running) >= self._cap:
            return None
        queue = getattr(scheduler, "kv_holding_waiting", None) or scheduler.waiting
        try:
            return queue.peek_request()
        except IndexError:
            return None

    def _has_prefilling(self) -> bool:
        """Whether part of a prompt is left to do for a running request that is not parked."""
        prefilling = self.measurement.ledger.prefilling
        return len(prefilling) > sum(request.request_id in prefilling for request, _ in self._parked)

    def _opened(self, why: str) -> None:
        """A step gets more than was planned so that requests move on: count it, mark it, and say so."""
        self._flags |= _PREFILL_OPENED
        self._progress.prefill_openings = times = self._progress.prefill_openings + 1
        if times & (times - 1) == 0:  # the log is not to drown: at the 1st, 2nd, 4th, 8th ...
            logger.warning("llmserving: step %d opened (the %d. so far): %s", self._step, times, why)

    def _shed(self, keep: int) -> None:
        """Preempt the last admitted until ``keep`` run; they wait at the head of the queue and are recomputed."""
        scheduler = self.scheduler
        timestamp = self._now_ns() / 1e9
        while len(scheduler.running) > keep:
            scheduler._preempt_request(scheduler.running.pop(), timestamp)


def _prompt_left(request: Any) -> int:
    """Tokens of a waiting request still to compute; 0 for nobody."""
    return 0 if request is None else int(request.num_tokens - request.num_computed_tokens)
