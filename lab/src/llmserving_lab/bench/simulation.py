"""One run in virtual time: arrivals go in, the real scheduler decides, the device model says how long each step takes.

Time passes in three ways only: a step on the device, a wait for the next arrival or tick when nothing can run, and, with synchronous
scheduling, the host's share of a step. Two runs with equal inputs are equal to the last digit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from typing import Protocol

from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import RequestStatus

from llmserving_lab.bench.clock import EPOCH, Clock
from llmserving_lab.bench.engine import STOP_TOKEN, SchedulerEngine
from llmserving_lab.bench.outcome import Outcome, Targets
from llmserving_lab.device.model import DeviceModel, StepBatch
from llmserving_lab.traces.arrival import Arrival

_POLL_SECONDS = 1e-3
"""An engine that has requests and schedules nothing looks again after this time, as EngineCore does."""

_OUTPUT_TOKEN = 3

_NEVER = float("inf")


class Ticker(Protocol):
    """Something that runs beside the engine at fixed virtual times: the agent."""

    period: float

    def tick(self, now: float) -> None:
        """Run once at virtual time `now`."""
        ...


@dataclass(frozen=True, slots=True)
class TargetChange:
    """New targets from a moment on."""

    time: float
    targets: Targets


@dataclass(slots=True)
class RunRecord:
    """Everything one run left behind.

    Attributes:
        outcomes: One per arrival, in order of arrival.
        steps: Steps with at least one token.
        extrapolated_steps: Steps outside the device model's measured range.
        tokens: Tokens computed.
        end: Virtual time at the end.
        states: `(time, running, waiting, KV use)` once a virtual second.
        bounds: `(time, max_num_seqs, max_num_batched_tokens)` at every change of the scheduler's bounds.
        unfinished: Requests still in the engine when the run was cut off.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    steps: int = 0
    extrapolated_steps: int = 0
    tokens: int = 0
    end: float = 0.0
    states: list[tuple[float, int, int, float]] = field(default_factory=list)
    bounds: list[tuple[float, int, int]] = field(default_factory=list)
    unfinished: int = 0


class Simulation:
    """One engine, one load, one run."""

    def __init__(
        self,
        engine: SchedulerEngine,
        device: DeviceModel,
        arrivals: Sequence[Arrival],
        targets: Sequence[TargetChange],
        *,
        clock: Clock | None = None,
        tickers: Sequence[Ticker] = (),
        on_targets: Callable[[Targets, float], None] | None = None,
        cutoff: float = float("inf"),
        give_up: Callable[[RunRecord], bool] | None = None,
        bounds: Callable[[], tuple[int, int]] | None = None,
    ) -> None:
        """Prepare a run.

        Args:
            engine: The scheduler, empty.
            device: The device model.
            arrivals: The load, in order of time.
            targets: Targets by time; the first must be at or before the first arrival.
            clock: The clock that production code in the engine or the tickers was given.
            tickers: Run beside the engine, each at its period.
            on_targets: Told of every change of targets and its time, the first included.
            cutoff: Virtual time at which the run ends with requests undone.
            bounds: Bounds in force; by default what the scheduler itself holds.
            give_up: Asked once a virtual second; True ends the run (a search has seen enough).
        """
        self._engine = engine
        self._scheduler = engine.scheduler
        self._device = device
        self._clock = clock or Clock()
        self._pending = list(arrivals)
        self._next_pending = 0
        self._retries: list[tuple[float, int, Arrival]] = []
        self._aborts: list[tuple[float, str]] = []
        self._targets = deque(targets)
        self._now_targets = targets[0].targets
        self._tickers = list(tickers)
        self._next_tick = [ticker.period for ticker in tickers]
        self._on_targets = on_targets
        self._cutoff = cutoff
        self._give_up = give_up
        self._bounds = bounds or (
            lambda: (engine.scheduler.max_num_active_reqs, engine.scheduler.max_num_scheduled_tokens)
        )
        self._live: dict[str, tuple[Outcome, Arrival]] = {}
        self._next_sample = 0.0
        self._asked = 0
        self._last_bounds: tuple[int, int] | None = None
        self._in_flight: deque[tuple[SchedulerOutput, list[str], float]] = deque()
        self._device_free = 0.0
        self._depth = 2 if engine.settings.asynchronous else 1
        self.record = RunRecord()

    def run(self) -> RunRecord:
        """Run to the end of the load (or the cutoff) and return the record."""
        scheduler, clock, in_flight = self._scheduler, self._clock, self._in_flight
        while True:
            self._catch_up(clock.time)
            if clock.time >= self._cutoff or self._should_give_up():
                break
            scheduled = False
            if len(in_flight) < self._depth and scheduler.has_requests():
                scheduled = self._schedule()
                if scheduled and len(in_flight) < self._depth:
                    continue
            if in_flight:
                self._complete()
            elif not scheduled and not self._idle():
                break
        self.record.end = clock.time
        self.record.unfinished = len(self._live)
        return self.record

    def _should_give_up(self) -> bool:
        samples = len(self.record.states)
        if self._give_up is None or samples == self._asked:
            return False
        self._asked = samples
        return self._give_up(self.record)

    def _schedule(self) -> bool:
        """Schedule one step and put it on the device; False when the scheduler found nothing to run."""
        output = self._scheduler.schedule()
        self._note_preempted(output)
        if not output.total_num_scheduled_tokens:
            self._scheduler.update_from_output(output, ModelRunnerOutput(req_ids=[], req_id_to_index={}))
            return False
        batch, sampling = self._batch(output)
        start = max(self._clock.time, self._device_free)
        cost = self._device.step_seconds(batch, now=start)
        self._device_free = start + cost.seconds
        self._in_flight.append((output, sampling, self._device_free))
        self._scheduler.get_grammar_bitmask(output)  # as EngineCore does once the device has the step
        record = self.record
        record.steps += 1
        record.tokens += output.total_num_scheduled_tokens
        record.extrapolated_steps += cost.extrapolated
        return True

    def _batch(self, output: SchedulerOutput) -> tuple[StepBatch, list[str]]:
        """What the step contains, and the requests that sample a token in it."""
        requests = self._scheduler.requests
        prefill: list[tuple[int, int]] = []
        sampling: list[str] = []
        decodes = context_sum = context_max = 0
        for name, tokens in output.num_scheduled_tokens.items():
            request = requests[name]
            context = request.num_computed_tokens
            if not request.is_prefill_chunk:
                sampling.append(name)
                if tokens == 1:
                    decodes += 1
                    context_sum += context
                    context_max = max(context_max, context)
                    continue
            prefill.append((tokens, context - tokens))
        return StepBatch(tuple(prefill), decodes, context_sum, context_max, len(sampling)), sampling

    def _complete(self) -> None:
        """Wait for the oldest step, give its tokens to the scheduler and note when they came."""
        output, sampling, end = self._in_flight.popleft()
        self._catch_up(end)
        self._clock.time = end
        requests, live = self._scheduler.requests, self._live
        sampled: list[list[int]] = []
        for name in sampling:
            request = requests.get(name)
            if request is None or name not in live:
                sampled.append([_OUTPUT_TOKEN])
            elif request.num_output_tokens + 1 >= live[name][1].output_tokens:
                sampled.append([STOP_TOKEN])
            else:
                sampled.append([live[name][1].content[-1][0] if live[name][1].content else _OUTPUT_TOKEN])
        in_step = list(output.num_scheduled_tokens)
        tokens_of = dict(zip(sampling, sampled, strict=True))
        result = ModelRunnerOutput(
            req_ids=in_step,
            req_id_to_index={name: index for index, name in enumerate(in_step)},
            sampled_token_ids=[tokens_of.get(name, []) for name in in_step],
        )
        for outputs in self._scheduler.update_from_output(output, result).values():
            for one in outputs.outputs:
                entry = live.get(one.request_id)
                if entry is None:
                    continue
                if one.new_token_ids:
                    entry[0].token_times.append(end)
                if one.finish_reason is not None:
                    entry[0].finished = True
                    del live[one.request_id]

    def _note_preempted(self, output: SchedulerOutput) -> None:
        for name in output.preempted_req_ids or ():
            if name in self._live:
                self._live[name][0].preemptions += 1

    def _idle(self) -> bool:
        """Move the clock to the next thing that can change something; False when there is none."""
        time = min(self._next_arrival(), self._next_abort())
        if self._scheduler.has_requests():
            time = min(time, self._clock.time + _POLL_SECONDS)
        if time == _NEVER:
            return False
        self._catch_up(time)
        self._clock.time = max(self._clock.time, time)
        return True

    def _next_arrival(self) -> float:
        pending = self._pending[self._next_pending].time if self._next_pending < len(self._pending) else _NEVER
        return min(pending, self._retries[0][0]) if self._retries else pending

    def _next_abort(self) -> float:
        while self._aborts and self._aborts[0][1] not in self._live:
            heappop(self._aborts)
        return self._aborts[0][0] if self._aborts else _NEVER

    def _catch_up(self, until: float) -> None:
        """Let everything happen that happens outside the engine up to `until`, in order of time."""
        while True:
            tick = min(self._next_tick, default=_NEVER)
            change = self._targets[0].time if self._targets else _NEVER
            abort, arrival = self._next_abort(), self._next_arrival()
            time = min(change, abort, arrival, tick, self._next_sample)
            if time > until or time == _NEVER:
                return
            self._clock.time = max(self._clock.time, time)
            if time == change:
                self._now_targets = self._targets.popleft().targets
                if self._on_targets:
                    self._on_targets(self._now_targets, time)
            elif time == abort:
                self._abort(heappop(self._aborts)[1], time)
            elif time == arrival:
                self._arrive(time)
            elif time == tick:
                index = self._next_tick.index(tick)
                self._next_tick[index] += self._tickers[index].period
                self._tickers[index].tick(time)
            else:
                self._sample(time)

    def _arrive(self, time: float) -> None:
        if self._retries and self._retries[0][0] <= time:
            _, _, arrival = heappop(self._retries)
        else:
            arrival = self._pending[self._next_pending]
            self._next_pending += 1
        index = len(self.record.outcomes)
        outcome = Outcome(time, arrival.prompt_tokens, arrival.output_tokens, self._now_targets)
        self.record.outcomes.append(outcome)
        name = str(index)
        self._live[name] = (outcome, arrival)
        if arrival.abort_after is not None:
            heappush(self._aborts, (time + arrival.abort_after, name))
        self._scheduler.add_request(self._engine.request(name, index, arrival, now=EPOCH + time))

    def _abort(self, name: str, time: float) -> None:
        outcome, arrival = self._live.pop(name)
        outcome.aborted = True
        self._scheduler.finish_requests(name, RequestStatus.FINISHED_ABORTED)
        if arrival.retries:
            again = replace(arrival, retries=arrival.retries - 1)
            heappush(self._retries, (time, len(self.record.outcomes), again))

    def _sample(self, time: float) -> None:
        scheduler, record = self._scheduler, self.record
        self._next_sample = time + 1.0
        running, waiting = scheduler.get_request_counts()
        record.states.append((time, running, waiting, round(scheduler.kv_cache_manager.usage, 4)))
        bounds = self._bounds()
        if bounds != self._last_bounds:
            self._last_bounds = bounds
            record.bounds.append((time, *bounds))
