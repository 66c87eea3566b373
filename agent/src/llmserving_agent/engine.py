"""One engine rank as the loop sees it: what was sensed of it, the law in charge, and what is asked of it.

No I/O and no clock: records, documents and the time come in, changes go out.
"""

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

from llmserving_agent.actuation import Actuation, Answer, Outcome
from llmserving_agent.catalogue import LAWS
from llmserving_agent.laws.protocol import Decision, GPUMemory, Law, Setting, Window
from llmserving_agent.sensors.ports import FrontEndShare, Telemetry
from llmserving_agent.setting import in_force, is_observe_only, setting_of, why_advice
from llmserving_agent.signals.attainment import JudgeBy, SLAWindow
from llmserving_agent.signals.epoch import Epoch
from llmserving_agent.signals.feasibility import Feasibility
from llmserving_agent.signals.lengths import LengthStatistics
from llmserving_agent.signals.misses import is_missed
from llmserving_agent.signals.smoothing import Ewma
from llmserving_agent.signals.step_cost import StepCost
from llmserving_agent.totals import EngineTotals
from llmserving_api.conditions import DecisionReason
from llmserving_api.control import Bounds, RuntimeConfig, RuntimePatch, SLATargets
from llmserving_api.policy import LawName, Mode, Policy, Target
from llmserving_api.telemetry import MoreRecord, RequestRecord, StepFlag, StepRecord

DECIDE_SECONDS = 1.0
HURRY_SECONDS = 0.4
"""Until the next decision while a target is being missed or measurements have only begun."""
RENEW_SECONDS = 10.0
LEASE_SECONDS = 30.0
RETRY_SECONDS = 1.0
REFUSED_RETRY_SECONDS = 10.0
SATURATED_AFTER_SECONDS = 10.0
MAX_STEPS = 2000
"""Step records kept for a law that learns from each of them."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A decision as it was taken."""

    at: float
    law: LawName
    decision: Decision
    before: Bounds
    acted: bool


@dataclass(slots=True)
class Engine:
    """State of one rank; see the module.

    Attributes:
        rank: The engine's rank.
        config: The engine's newest document; None before the first.
        reachable: Whether the last call to the control API was answered.
        message: Why it was not, or why the engine refused.
        problem: Why telemetry cannot be read.
        last_step: The newest step record.
        taken: The newest decision.
        confirmed: Revision of the policy that the engine confirmed last.
        sla: Latencies over the SLA window.
        totals: Counts since the agent's start, for metrics.
    """

    rank: int
    config: RuntimeConfig | None = None
    reachable: bool = False
    message: str = "no answer yet"
    problem: str = ""
    last_step: StepRecord | None = None
    taken: Taken | None = None
    confirmed: int | None = None
    sla: SLAWindow = field(default_factory=SLAWindow)
    totals: EngineTotals = field(default_factory=EngineTotals)
    feasibility: Feasibility = field(default_factory=Feasibility)
    _epoch: Epoch = field(default_factory=Epoch)
    _cost: StepCost = field(default_factory=StepCost)
    _steps: deque[StepRecord] = field(default_factory=lambda: deque(maxlen=MAX_STEPS))
    _lengths: LengthStatistics = field(default_factory=LengthStatistics)
    _arrivals: Ewma = field(default_factory=lambda: Ewma(10.0))
    _judge_by: JudgeBy = field(default_factory=JudgeBy)
    _law_name: LawName | None = None
    _law: Law[Any] | None = None
    _state: Any = None
    _decide_due: float = float("-inf")
    _renew_due: float = float("-inf")
    _retry_due: float = float("-inf")
    _decided_revision: int | None = None
    _blocked_since: float | None = None
    _in_flight: int | None = None
    _left: int = 0
    _observed_at: float = float("-inf")

    # Sensing

    def sense(self, telemetry: Telemetry, now: float) -> None:
        """Take in what was read of the engine's telemetry."""
        self.problem = telemetry.problem
        self.totals.dropped += telemetry.dropped
        if telemetry.restarted:
            self._forget()
        for record in telemetry.records:
            if isinstance(record, StepRecord):
                self._step(record)
            elif isinstance(record, RequestRecord):
                self._left += 1
                self._lengths.add(record)
                self.totals.results[self.sla.add_request(record, self._judge_by)] += 1
            else:
                self._more(record)
        self.sla.advance(now)

    def _step(self, record: StepRecord) -> None:
        previous = self.last_step
        self.last_step, self._left = record, 0
        at = record.completed_ns / 1e9
        self._epoch.add(record)
        self._steps.append(record)
        self.feasibility.add(record)
        self._cost.add(record)
        self.totals.add(record)
        self.sla.add_step(at, record.first_tokens, record.gaps)
        firsts = sum(count for _, count in record.first_tokens)
        self._lengths.add_outputs(firsts + sum(count for _, count in record.gaps))
        if previous is not None and record.completed_ns > previous.completed_ns:
            arrived = firsts + record.waiting - previous.waiting
            rate = arrived / (record.completed_ns - previous.completed_ns) * 1e9
            self._arrivals = self._arrivals.updated(rate, at)

    def _more(self, record: MoreRecord) -> None:
        self.totals.add_first_tokens(record.first_tokens)
        self._epoch.add_more(record)
        if self.last_step is not None:
            self.sla.add_step(self.last_step.completed_ns / 1e9, record.first_tokens, record.gaps)

    def _forget(self) -> None:
        """A new engine: nothing measured on the old one holds. The SLA window stays: users saw those latencies."""
        self._epoch.restart()
        self._lengths.restart()
        self.feasibility, self._cost = Feasibility(), StepCost()
        self._arrivals = Ewma(10.0)
        self.last_step = None
        self._law = None

    # The engine's document

    def observe(self, answer: Answer, now: float) -> None:
        """Take in an answer of the control API."""
        was_reachable, self.reachable = self.reachable, answer.outcome is not Outcome.UNREACHABLE
        if answer.config is None:
            self.message = answer.message
            return
        if self.config is not None and _is_other_engine(self.config, answer.config):
            self._forget()
        if self.config is None or not was_reachable:
            self._decide_due = now
        self.config, self.message, self._observed_at = answer.config, "", now

    def confirm(self, answer: Answer, now: float) -> None:
        """Take in what became of the change sent last."""
        revision, self._in_flight = self._in_flight, None
        if answer.outcome is Outcome.APPLIED:
            self.observe(answer, now)
            self.confirmed = revision
            self._renew_due = now + RENEW_SECONDS
            return
        self.reachable = answer.outcome is Outcome.REFUSED
        self.message = answer.message
        self._retry_due = now + (REFUSED_RETRY_SECONDS if answer.status == 400 else RETRY_SECONDS)
        if self.taken is not None and self.config is not None:
            reason = DecisionReason.REFUSED if self.reachable else DecisionReason.ENGINE_UNREACHABLE
            refused = Decision(self.config.requested, reason, answer.message)
            self.taken = replace(self.taken, decision=refused, acted=False)

    @property
    def awaits_config(self) -> bool:
        """Whether the engine's document is about to change, so that it is worth asking soon.

        An idle engine takes a change over at its next step, whenever that is.
        """
        config, step = self.config, self.last_step
        works = step is not None and self.running + step.waiting > 0
        return works and config is not None and config.applied != config.requested

    # Deciding

    def decide(self, policy: Policy, share: FrontEndShare, gpu: GPUMemory | None, now: float) -> Actuation | None:
        """One decision when it is due, and the change to send, if any."""
        config = self.config
        if config is None or self._in_flight is not None:
            return None
        setting = setting_of(policy, config, share)
        self._judge_by = JudgeBy(setting.ttft, setting.itl, setting.e2e)
        self.sla.resize(policy.sla.window_seconds)
        is_new = policy.revision != self._decided_revision
        if not is_new and now < self._decide_due:
            return None
        self._decide_due = now + DECIDE_SECONDS
        self._decided_revision = policy.revision
        window = self.window(now, gpu)
        if not self.reachable:
            self._take(policy, Decision(window.bounds, DecisionReason.ENGINE_UNREACHABLE, self.message), window, now)
            return None
        advice = why_advice(policy, config)
        decision = self._decision(policy, setting, window, now)
        if decision.reason in (DecisionReason.ITL_HIGH, DecisionReason.TOO_FEW_SAMPLES):
            self._decide_due = now + HURRY_SECONDS
        acts = policy.mode is not Mode.ADVISE and not advice
        if not acts:
            decision = replace(decision, message=f"{advice}; {decision.message}")
        self._take(policy, decision, window, now, acted=acts)
        if is_observe_only(config):
            self.confirmed = policy.revision
            return None
        stock = Decision(setting.stock, decision.reason, decision.message)
        return self._actuation(policy, setting, decision if acts else stock, now, at_once=is_new)

    def window(self, now: float, gpu: GPUMemory | None = None) -> Window:
        """What the law sees."""
        config = self._config()
        step = self.last_step
        cost = self._cost.fitted()
        facts, bounds = config.engine, in_force(config)
        return Window(
            bounds=bounds,
            age_seconds=None if step is None else max(0.0, now - step.completed_ns / 1e9),
            epoch=self._epoch.sums(round(now * 1e9)),
            running=self.running,
            decoding=0 if step is None else step.decode_requests,
            waiting=0 if step is None else step.waiting,
            overdue_waiting=self.overdue_waiting(now),
            kv_blocks_used=0 if step is None else step.kv_blocks_used,
            kv_blocks_total=facts.num_gpu_blocks if step is None else step.kv_blocks_total or facts.num_gpu_blocks,
            block_size=facts.block_size,
            draining=step is not None and (bool(step.flags & StepFlag.DRAINING) or step.running > bounds.max_num_seqs),
            lengths=self._lengths.statistics(),
            arrivals_per_second=self._arrivals.value,
            idle_step_seconds=self.feasibility.idle_step_seconds or (None if cost is None else cost.idle),
            seconds_per_decode=None if cost is None else cost.each_decode,
            gpu=gpu,
            planner=config.planner,
            steps=tuple(self._steps),
        )

    @property
    def running(self) -> int:
        """Requests that still run: those of the newest step less those that have left since it was scheduled."""
        step, config = self.last_step, self.config
        if step is None:
            return 0
        is_newer = config is not None and self._observed_at > step.completed_ns / 1e9
        if is_newer and config is not None and config.drain.running == 0 and step.waiting == 0:
            return 0
        return max(0, step.running - step.finished - self._left)

    def overdue_waiting(self, now: float) -> int:
        """Requests waiting for longer than the TTFT target, also when the engine has stopped stepping."""
        step, target = self.last_step, self._judge_by.ttft
        if step is None or target is None or step.waiting == 0:
            return 0
        since = now - step.completed_ns / 1e9
        if since > target.target_seconds:
            return step.waiting
        oldest_is_late = step.oldest_waiting_ns / 1e9 + since > target.target_seconds
        return max(step.overdue_waiting, int(oldest_is_late))

    @property
    def is_feasible(self) -> bool | None:
        """Whether an idle engine could meet the targets; None while that is not known."""
        return self.feasibility.verdict(self._judge_by, self._lengths.statistics())

    def is_saturated(self, now: float) -> bool:
        """Whether that has lasted long enough to say so."""
        return self._blocked_since is not None and now - self._blocked_since >= SATURATED_AFTER_SECONDS

    def _take(self, policy: Policy, decision: Decision, window: Window, now: float, *, acted: bool = False) -> None:
        self.taken = Taken(now, policy.law, decision, window.bounds, acted)
        self.totals.decisions[(policy.law, decision.reason, acted)] += 1

    def _decision(self, policy: Policy, setting: Setting, window: Window, now: float) -> Decision:
        if policy.mode is Mode.OFF:
            self._law, self._blocked_since = None, None
            return Decision(setting.stock, DecisionReason.MODE_OFF, "mode Off: fallback bounds")
        if self._law is None or self._law_name is not policy.law:
            self._law_name, self._law = policy.law, LAWS[policy.law]()
            self._state = self._law.start(window.bounds, setting)
        self._state, decision = self._law.decide(self._state, window, setting)
        self._steps.clear()
        self._watch_saturation(decision, window, setting, now)
        return decision

    def _watch_saturation(self, decision: Decision, window: Window, setting: Setting, now: float) -> None:
        """A target is missed and the decision does not move a bound to help: since when?"""
        bounds, before = decision.bounds, window.bounds
        grows = (
            bounds.max_num_seqs > before.max_num_seqs or bounds.max_num_batched_tokens > before.max_num_batched_tokens
        )
        shrinks = (
            bounds.max_num_seqs < before.max_num_seqs or bounds.max_num_batched_tokens < before.max_num_batched_tokens
        )
        is_late = is_missed(window.epoch.first_tokens, window.overdue_waiting, setting.ttft)
        is_slow = is_missed(window.epoch.gaps, 0, setting.itl)
        if not ((is_late and not grows) or (is_slow and not shrinks and not window.draining)):
            self._blocked_since = None
        elif self._blocked_since is None:
            self._blocked_since = now

    def _config(self) -> RuntimeConfig:
        if self.config is None:
            raise ValueError(f"engine {self.rank}: nothing can be decided before its first document")
        return self.config

    def _actuation(
        self, policy: Policy, setting: Setting, wanted: Decision, now: float, *, at_once: bool
    ) -> Actuation | None:
        config = self._config()
        targets = SLATargets(
            ttft_seconds=_seconds(setting.ttft), itl_seconds=_seconds(setting.itl), e2e_seconds=_seconds(setting.e2e)
        )
        asked = (wanted.bounds, wanted.planner, setting.stock, targets)
        unchanged = (config.requested, config.planner, config.fallback, config.targets) == asked
        leased = config.lease.seconds == LEASE_SECONDS and not config.lease.expired
        if unchanged and leased and now < self._renew_due:
            self.confirmed = policy.revision
            return None
        if now < self._retry_due and not at_once:
            return None
        self._in_flight = policy.revision
        patch = RuntimePatch(
            operation_id=config.operation_id + 1,
            max_num_seqs=wanted.bounds.max_num_seqs,
            max_num_batched_tokens=wanted.bounds.max_num_batched_tokens,
            fallback=setting.stock,
            lease_seconds=LEASE_SECONDS,
            targets=targets,
            planner=None if wanted.planner == config.planner else wanted.planner,
        )
        return Actuation(self.rank, patch)


def _is_other_engine(old: RuntimeConfig, new: RuntimeConfig) -> bool:
    """A new process, also where pids repeat (each container counts from 1): its counters start again."""
    return (old.engine.pid, old.ceilings) != (new.engine.pid, new.ceilings) or new.operation_id < old.operation_id


def _seconds(target: Target | None) -> float | None:
    return None if target is None else target.target_seconds
