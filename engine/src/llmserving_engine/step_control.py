"""The course of a step, from what the control API asks for to what is measured.

``scheduler.LiveScheduler`` calls in here before and after vLLM's own ``schedule()`` and ``update_from_output()``.

Nothing here may hurt the served model: every entry point is called through ``LiveScheduler``'s guard, which turns an
exception into the end of control (``surrender``), never into the end of the engine.
"""

import logging
from typing import Any, Final

from llmserving_engine.bounds import Bounds
from llmserving_engine.budget import PATIENCE_STEPS
from llmserving_engine.control import MODE_OBSERVE
from llmserving_engine.enforcement import Enforcement
from llmserving_engine.measurement import Measurement
from llmserving_engine.planning.protocol import StepPlan, StepView
from llmserving_engine.planning.slot import PlannerSlot
from llmserving_engine.runtime import Runtime
from llmserving_engine.telemetry import StepFlag

logger = logging.getLogger(__name__)

_NEVER: Final = 1 << 63
_STUCK_NS: Final = 1_000_000_000
"""A planner under which nobody ran for so long is set aside for one step."""
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
        self._enforcement = Enforcement(scheduler, runtime, self.measurement.tracker, self.measurement.ledger)
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
        opened = self._enforcement.put(self._plan, applied, now_ns)
        if self._enforcement.is_set_aside:
            self._opened(
                f"planner {self.planner.law.name!r} kept all prompts back for 10 s: {opened} tokens in this one"
            )
        elif opened:
            self._opened(f"no prompt token for {PATIENCE_STEPS} steps with room for some: {opened} tokens in this one")

    def may_admit(self, request: Any) -> bool:
        """Whether a waiting request that vLLM finds ready may be admitted in the step being scheduled."""
        return bool(self._flags & _OBSERVE_ONLY) or self._enforcement.may_admit(request)

    def after_schedule(self, output: Any) -> None:
        """Keep vLLM's ``SchedulerOutput``, to be noted once the device has it."""
        self._scheduled = output, self._now_ns()

    def on_device(self) -> None:
        """The device has the step that was just scheduled: time for what nobody waits for."""
        self._note()
        self.measurement.on_device()
        if not self.planner.is_plain:
            self.planner.tell(self.planner.law.on_device, self._now_ns())

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
            self._enforcement.saw_item(item.mm_position.length)
        self.planner.tell(self.planner.law.arrived, track)

    def before_removal(self) -> None:
        """Requests are to leave the batch between two entries of ours: note the step that holds them."""
        self._note()

    def preempted(self, request: Any, computed_tokens: int) -> None:
        """A running request lost its blocks, which held ``computed_tokens``."""
        self.measurement.preempted(request, computed_tokens)

    def suspended(self, request: Any, computed_tokens: int) -> None:
        """A streaming session, with so many tokens computed, waits for its next chunk."""
        self.measurement.suspended(request, computed_tokens)

    def restore(self) -> None:
        """Undo what holds for one step only. Also called when ``schedule()`` raised."""
        self._enforcement.restore()

    def surrender(self, where: str, error: Exception) -> None:
        """Our own code failed: hand the scheduler back as stock vLLM would run, and say so."""
        self._progress.faults += 1
        if self._control.contract.mode != MODE_OBSERVE:
            reason = f"fault in {where}: {type(error).__name__}: {error}"
            logger.error("llmserving: %s; the engine goes on without control", reason, exc_info=error)
            self._control.demote(MODE_OBSERVE, reason)
        self._keeper.release(self._enforcement.end(self._control.desired.fallback))
        self._plan = StepPlan(self._ceilings.max_num_seqs, self._ceilings.max_num_batched_tokens)

    # Between them

    def _take_over(self, now_ns: int) -> None:
        """Take over what the control API asks for, or what the bounds are once the lease has run out."""
        control, planner = self._control, self.planner
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
        self._enforcement.has_deadlines = "hold_seconds" in control.planner.parameters
        if planner.law.orders_waiting:
            self._enforcement.order_waiting()
        applied = self._keeper.advance(desired, now_ns, self._step)
        self._standing_flags = _LEASE_EXPIRED if self._keeper.is_gliding else 0
        self._valid_until_ns = desired.expires_ns
        if desired.shed is not None and desired.shed.operation_id > self._shed_done:
            self._shed_done = desired.shed.operation_id
            self._enforcement.shed(desired.shed.keep, now_ns / 1e9)
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
            bounds=self._enforcement.attainable(applied),
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
        enforcement = self._enforcement
        if enforcement.saw(step.changes.composition.prefill_tokens, preempted=step.preempted):
            step.flags |= _PREFILL_HELD
        if running > step.bounds.max_num_seqs:
            step.flags |= _DRAINING
        enforcement.restore()

    def _opened(self, why: str) -> None:
        """A step gets more than was planned so that requests move on: count it, mark it, and say so."""
        self._flags |= _PREFILL_OPENED
        self._progress.prefill_openings = times = self._progress.prefill_openings + 1
        if times & (times - 1) == 0:  # the log is not to drown: at the 1st, 2nd, 4th, 8th ...
            logger.warning("llmserving: step %d opened (the %d. so far): %s", self._step, times, why)
