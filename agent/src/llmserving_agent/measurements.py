"""What is measured of one engine rank: everything that its telemetry tells, ready to be asked.

No I/O and no clock: records come in as they were read, the time with every question.
"""

from collections import deque
from dataclasses import dataclass, field

from llmserving_agent.laws.protocol import GPUMemory, Window
from llmserving_agent.sensors.ports import Telemetry
from llmserving_agent.setting import in_force
from llmserving_agent.signals.attainment import JudgeBy, SLAWindow, verdict_on
from llmserving_agent.signals.epoch import Epoch
from llmserving_agent.signals.feasibility import Feasibility
from llmserving_agent.signals.lengths import LengthStatistics
from llmserving_agent.signals.smoothing import Ewma
from llmserving_agent.signals.step_cost import StepCost
from llmserving_agent.totals import EngineTotals
from llmserving_api.control import RuntimeConfig
from llmserving_api.policy import Target
from llmserving_api.telemetry import MoreRecord, Pairs, RequestClass, RequestRecord, StepFlag, StepRecord

MAX_STEPS = 2000
"""Step records kept for a law that learns from each of them."""
ARRIVALS_SECONDS = 10.0
LATELY_SECONDS = 15.0
"""Span over which a law sees how many were served well: the SLA window is too long to act on."""


@dataclass(slots=True)
class Measurements:
    """See the module.

    Attributes:
        problem: Why telemetry cannot be read; empty while it can.
        last_step: The newest step record.
        sla: Latencies over the SLA window, of all but batch requests.
        batch: The same of batch requests, judged by the same targets; nothing is decided by it.
        totals: Counts since the agent's start, for metrics.
        judge_by: Targets that requests are judged by as they leave.
        counted_from: Time (seconds) before which nothing is in the totals: an earlier agent has counted it already.
    """

    problem: str = ""
    last_step: StepRecord | None = None
    sla: SLAWindow = field(default_factory=SLAWindow)
    batch: SLAWindow = field(default_factory=SLAWindow)
    totals: EngineTotals = field(default_factory=EngineTotals)
    judge_by: JudgeBy = field(default_factory=JudgeBy)
    counted_from: float = float("-inf")
    _epoch: Epoch = field(default_factory=Epoch)
    _feasibility: Feasibility = field(default_factory=Feasibility)
    _cost: StepCost = field(default_factory=StepCost)
    _steps: deque[StepRecord] = field(default_factory=lambda: deque(maxlen=MAX_STEPS))
    _lengths: LengthStatistics = field(default_factory=LengthStatistics)
    _lately: SLAWindow = field(default_factory=lambda: SLAWindow(LATELY_SECONDS))
    _arrivals: Ewma = field(default_factory=lambda: Ewma(ARRIVALS_SECONDS))
    _left: int = 0
    _further_firsts: int = 0

    def take(self, telemetry: Telemetry, now: float) -> None:
        """Take in what was read of the engine's telemetry."""
        self.problem = telemetry.problem
        self.totals.dropped += telemetry.dropped
        if telemetry.restarted:
            self.forget(now)
        for record in telemetry.records:
            if isinstance(record, StepRecord):
                self._step(record)
            elif isinstance(record, RequestRecord):
                self._left += 1
                self._lengths.add(record)
                verdict = verdict_on(record, self.judge_by)
                self._sla_of(record.request_class).add_request(record, verdict, self.judge_by.ttft)
                if record.request_class != RequestClass.BATCH:
                    self._lately.add_request(record, verdict, self.judge_by.ttft)
                if self._counts(record.finished_ns):
                    self.totals.add_result(record.request_class, verdict)
                    self.totals.relegated += bool(record.relegated)
            else:
                self._more(record)
        self.sla.advance(now)
        self.batch.advance(now)
        self._lately.advance(now)

    def _step(self, record: StepRecord) -> None:
        previous = self.last_step
        self.last_step, self._left = record, 0
        at = record.completed_ns / 1e9
        self._epoch.add(record)
        self._steps.append(record)
        self._feasibility.add(record)
        self._cost.add(record)
        if self._counts(record.completed_ns):
            self.totals.add(record)
        self.sla.add_step(at, record.first_tokens, record.gaps)
        firsts = _counted(record.first_tokens)
        self._lengths.add_outputs(firsts + _counted(record.gaps))
        if previous is not None and record.completed_ns > previous.completed_ns:
            arrived = firsts + self._further_firsts + record.waiting - previous.waiting
            rate = arrived / (record.completed_ns - previous.completed_ns) * 1e9
            self._arrivals = self._arrivals.updated(rate, at)
        self._further_firsts = 0

    def _more(self, record: MoreRecord) -> None:
        firsts = _counted(record.first_tokens)
        self._further_firsts += firsts
        self._lengths.add_outputs(firsts + _counted(record.gaps))
        if record.request_class != RequestClass.BATCH:
            self._epoch.add_more(record)
        if self.last_step is not None:
            if self._counts(self.last_step.completed_ns):
                self.totals.add_first_tokens(record.first_tokens)
            at = self.last_step.completed_ns / 1e9
            self._sla_of(record.request_class).add_step(at, record.first_tokens, record.gaps)

    def _sla_of(self, request_class: int) -> SLAWindow:
        return self.batch if request_class == RequestClass.BATCH else self.sla

    def _counts(self, at_ns: int) -> bool:
        return at_ns / 1e9 >= self.counted_from

    def forget(self, now: float) -> None:
        """A new engine: nothing measured on the old one holds. The SLA window stays: users saw those latencies.

        Requests that the old one held went down with it, without a record of their own: each is a failure.
        """
        step = self.last_step
        if step is not None:
            running = self.running(None)
            started = min(running, step.decode_requests + _counted(step.first_tokens))
            lost = running + step.waiting
            self.sla.add_failed(lost, lost - started, now)
            self.totals.add_result(RequestClass.INTERACTIVE, "failed", lost)
        self.last_step = None
        self._epoch.restart()
        self._lengths.restart()
        self._steps.clear()
        self._feasibility, self._cost, self._arrivals = Feasibility(), StepCost(), Ewma(ARRIVALS_SECONDS)
        self._lately = SLAWindow(LATELY_SECONDS)

    def forget_steps(self) -> None:
        """A law has taken the step records it was shown."""
        self._steps.clear()

    def window(self, config: RuntimeConfig, running: int, now: float, gpu: GPUMemory | None) -> Window:
        """What the law sees; ``running`` are those that still run."""
        step = self.last_step
        cost = self._cost.fitted()
        facts, bounds = config.engine, in_force(config)
        return Window(
            bounds=bounds,
            age_seconds=None if step is None else max(0.0, now - step.completed_ns / 1e9),
            epoch=self._epoch.sums(round(now * 1e9)),
            running=running,
            decoding=0 if step is None else step.decode_requests,
            waiting=0 if step is None else step.waiting,
            overdue_waiting=self.overdue_waiting(now),
            kv_blocks_used=0 if step is None else step.kv_blocks_used,
            kv_blocks_total=facts.num_gpu_blocks if step is None else step.kv_blocks_total or facts.num_gpu_blocks,
            block_size=facts.block_size,
            draining=step is not None and (bool(step.flags & StepFlag.DRAINING) or step.running > bounds.max_num_seqs),
            lengths=self._lengths.statistics(),
            arrivals_per_second=self._arrivals.value,
            idle_step_seconds=self._feasibility.idle_step_seconds or (None if cost is None else cost.idle),
            seconds_per_decode=None if cost is None else cost.each_decode,
            gpu=gpu,
            good_share=self._lately.total.good_share,
            planner=config.planner,
            steps=tuple(self._steps),
        )

    def running(self, idle_since: float | None) -> int:
        """Requests that still run: those of the newest step less those that have left since it was scheduled.

        ``idle_since`` is when the engine last said that nothing runs; None when it said otherwise.
        """
        step = self.last_step
        if step is None:
            return 0
        if idle_since is not None and idle_since > step.completed_ns / 1e9 and step.waiting == 0:
            return 0
        return max(0, step.running - step.finished - self._left)

    def overdue_waiting(self, now: float) -> int:
        """Requests waiting for longer than the TTFT target, also when the engine has stopped stepping; none of batch."""
        return self._overdue(self.judge_by.ttft, 0 if self.last_step is None else self.last_step.overdue_waiting, now)

    def overdue_e2e(self, now: float) -> int:
        """Requests waiting for longer than the end-to-end target: one, where only the oldest's age is known."""
        return self._overdue(self.judge_by.e2e, 0, now)

    def _overdue(self, target: Target | None, counted: int, now: float) -> int:
        step = self.last_step
        if step is None or target is None or step.waiting == 0 or step.oldest_waiting_ns == 0:
            return 0
        since = now - step.completed_ns / 1e9
        if since > target.target_seconds:
            return step.waiting
        oldest_is_late = step.oldest_waiting_ns / 1e9 + since > target.target_seconds
        return max(counted, int(oldest_is_late))

    @property
    def is_feasible(self) -> bool | None:
        """Whether an idle engine could meet the targets; None while that is not known."""
        return self._feasibility.verdict(self.judge_by, self._lengths.statistics())


def _counted(pairs: Pairs) -> int:
    return sum(count for _, count in pairs)
