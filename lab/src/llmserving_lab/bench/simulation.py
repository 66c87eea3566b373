"""One run in virtual time: arrivals go in, the real scheduler decides, the device model says how long each step takes.

Time passes in three ways only: a step on the device, a wait for the next arrival or tick when nothing can run, and, with synchronous
scheduling, the host's share of a step. Two runs with equal inputs are equal to the last digit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.outputs import ModelRunnerOutput

from llmserving_lab.bench.clock import Clock
from llmserving_lab.bench.engine import STOP_TOKEN, SchedulerEngine
from llmserving_lab.bench.outcome import Targets
from llmserving_lab.bench.run_record import RunRecord
from llmserving_lab.bench.surroundings import NEVER, Surroundings, TargetChange, Ticker
from llmserving_lab.device.model import DeviceModel, StepBatch
from llmserving_lab.traces.arrival import Arrival

_POLL_SECONDS = 1e-3
"""An engine that has requests and schedules nothing looks again after this time, as EngineCore does."""

_OUTPUT_TOKEN = 3


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
        self._scheduler = engine.scheduler
        self._device = device
        self._clock = clock or Clock()
        self._surroundings = Surroundings(
            engine, arrivals, targets, self._clock, tickers=tickers, on_targets=on_targets, bounds=bounds
        )
        self.record = self._surroundings.record
        self._cutoff = cutoff
        self._give_up = give_up
        self._asked = 0
        self._in_flight: deque[tuple[SchedulerOutput, list[str], float]] = deque()
        self._device_free = 0.0
        self._depth = 2 if engine.settings.asynchronous else 1

    def run(self) -> RunRecord:
        """Run to the end of the load (or the cutoff) and return the record."""
        scheduler, clock, in_flight = self._scheduler, self._clock, self._in_flight
        while True:
            self._surroundings.catch_up(clock.time)
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
        self.record.unfinished = len(self._surroundings.live)
        return self.record

    def _should_give_up(self) -> bool:
        samples = len(self.record.states)
        if self._give_up is None or samples == self._asked:
            return False
        self._asked = samples
        return self._give_up(self.record)

    def _schedule(self) -> bool:
        """Schedule one step and put it on the device; False when there was nothing to run, on the device neither."""
        output = self._scheduler.schedule()
        self._note_preempted(output)
        if not output.total_num_scheduled_tokens:
            has_waited = bool(self._in_flight)
            while self._in_flight:  # outputs come in the order of their steps
                self._complete()
            self._scheduler.update_from_output(output, ModelRunnerOutput(req_ids=[], req_id_to_index={}))
            return has_waited
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
        self._surroundings.catch_up(end)
        self._clock.time = end
        requests, live = self._scheduler.requests, self._surroundings.live
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
        live = self._surroundings.live
        for name in output.preempted_req_ids or ():
            if name in live:
                live[name][0].preemptions += 1

    def _idle(self) -> bool:
        """Move the clock to the next thing that can change something; False when there is none."""
        time = self._surroundings.next_request()
        if self._scheduler.has_requests():
            time = min(time, self._clock.time + _POLL_SECONDS)
        if time == NEVER:
            return False
        self._surroundings.catch_up(time)
        self._clock.time = max(self._clock.time, time)
        return True
