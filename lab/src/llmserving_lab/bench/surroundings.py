"""What happens outside the engine in a run, in order of time: arrivals, aborts and retries, target changes, ticks, samples."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from typing import Protocol

from llmserving_lab.bench.clock import EPOCH, Clock
from llmserving_lab.bench.engine import SchedulerEngine
from llmserving_lab.bench.outcome import Outcome, Targets
from llmserving_lab.bench.run_record import RunRecord
from llmserving_lab.traces.arrival import Arrival

NEVER = float("inf")


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


class Surroundings:
    """The clients, the agent and the clock of one engine.

    Attributes:
        live: Requests in the engine by name, and how each turned out so far.
        record: What the run leaves behind.
    """

    def __init__(
        self,
        engine: SchedulerEngine,
        arrivals: Sequence[Arrival],
        targets: Sequence[TargetChange],
        clock: Clock,
        *,
        tickers: Sequence[Ticker] = (),
        on_targets: Callable[[Targets, float], None] | None = None,
        bounds: Callable[[], tuple[int, int]] | None = None,
    ) -> None:
        """See `Simulation`."""
        self.live: dict[str, tuple[Outcome, Arrival]] = {}
        self.record = RunRecord()
        self._engine = engine
        self._scheduler = engine.scheduler
        self._clock = clock
        self._pending = list(arrivals)
        self._next_pending = 0
        self._retries: list[tuple[float, int, Arrival]] = []
        self._aborts: list[tuple[float, str]] = []
        self._targets = deque(targets)
        self._now_targets = targets[0].targets
        self._tickers = list(tickers)
        self._next_tick = [ticker.period for ticker in tickers]
        self._on_targets = on_targets
        self._bounds = bounds or (
            lambda: (engine.scheduler.max_num_active_reqs, engine.scheduler.max_num_scheduled_tokens)
        )
        self._last_bounds: tuple[int, int] | None = None
        self._next_sample = 0.0

    def next_request(self) -> float:
        """When the next request comes or goes; `NEVER` when none does."""
        return min(self._next_arrival(), self._next_abort())

    def catch_up(self, until: float) -> None:
        """Let everything happen that happens up to `until`, in order of time."""
        while True:
            tick = min(self._next_tick, default=NEVER)
            change = self._targets[0].time if self._targets else NEVER
            abort, arrival = self._next_abort(), self._next_arrival()
            time = min(change, abort, arrival, tick, self._next_sample)
            if time > until or time == NEVER:
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

    def _next_arrival(self) -> float:
        pending = self._pending[self._next_pending].time if self._next_pending < len(self._pending) else NEVER
        return min(pending, self._retries[0][0]) if self._retries else pending

    def _next_abort(self) -> float:
        while self._aborts and self._aborts[0][1] not in self.live:
            heappop(self._aborts)
        return self._aborts[0][0] if self._aborts else NEVER

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
        self.live[name] = (outcome, arrival)
        if arrival.abort_after is not None:
            heappush(self._aborts, (time + arrival.abort_after, name))
        self._scheduler.add_request(self._engine.request(name, index, arrival, now=EPOCH + time))

    def _abort(self, name: str, time: float) -> None:
        outcome, arrival = self.live.pop(name)
        outcome.aborted = True
        self._engine.abort(name)
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
