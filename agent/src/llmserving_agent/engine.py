"""One engine rank as the loop sees it: what was sensed of it, the law in charge, and what is asked of it.

No I/O and no clock: records, documents and the time come in, changes go out.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from llmserving_agent.actuation import Actuation, Answer, Outcome
from llmserving_agent.catalogue import LAWS, WITHOUT_PLANNER
from llmserving_agent.laws.protocol import Decision, GPUMemory, Law, Setting, Window
from llmserving_agent.measurements import Measurements
from llmserving_agent.sensors.ports import FrontEndShare, Telemetry
from llmserving_agent.setting import is_observe_only, judge_by, runs_no_planner, setting_of, why_advice
from llmserving_agent.signals.misses import is_missed
from llmserving_agent.totals import EngineTotals
from llmserving_api.conditions import DecisionReason
from llmserving_api.control import Bounds, RuntimeConfig, RuntimePatch, SLATargets
from llmserving_api.policy import LawName, Mode, Policy, Target

DECIDE_SECONDS = 1.0
HURRY_SECONDS = 0.4
"""Until the next decision while a target is being missed or measurements have only begun."""
RENEW_SECONDS = 10.0
LEASE_SECONDS = 30.0
RETRY_SECONDS = 1.0
REFUSED_RETRY_SECONDS = 10.0
SATURATED_AFTER_SECONDS = 10.0


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
        taken: The newest decision.
        confirmed: Revision of the policy that the engine confirmed last.
        measured: What its telemetry tells.
    """

    rank: int
    config: RuntimeConfig | None = None
    reachable: bool = False
    message: str = "no answer yet"
    taken: Taken | None = None
    confirmed: int | None = None
    measured: Measurements = field(default_factory=Measurements)
    _law_name: LawName | None = None
    _law: Law[Any] | None = None
    _state: Any = None
    _decide_due: float = float("-inf")
    _renew_due: float = float("-inf")
    _retry_due: float = float("-inf")
    _decided_revision: int | None = None
    _blocked_since: float | None = None
    _in_flight: int | None = None
    _observed_at: float = float("-inf")

    # Sensing

    def judge(self, policy: Policy, share: FrontEndShare) -> None:
        """Judge what is sensed from now on by the policy's targets."""
        self.measured.judge_by = judge_by(policy, share)
        self.measured.sla.resize(policy.sla.window_seconds)
        self.measured.batch.resize(policy.sla.window_seconds)

    def sense(self, telemetry: Telemetry, now: float) -> None:
        """Take in what was read of the engine's telemetry."""
        if telemetry.restarted:
            self._law = None
        self.measured.take(telemetry, now)

    # The engine's document

    def observe(self, answer: Answer, now: float) -> None:
        """Take in an answer of the control API."""
        was_reachable, self.reachable = self.reachable, answer.outcome is not Outcome.UNREACHABLE
        if answer.config is None:
            self.message = answer.message
            return
        if self.config is not None and _is_other_engine(self.config, answer.config):
            self.measured.forget(now)
            self._law = None
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
        config, step = self.config, self.measured.last_step
        works = step is not None and self.running + step.waiting > 0
        return works and config is not None and config.applied != config.requested

    # Deciding

    def decide(self, policy: Policy, share: FrontEndShare, gpu: GPUMemory | None, now: float) -> Actuation | None:
        """One decision when it is due, and the change to send, if any."""
        config = self.config
        if config is None or self._in_flight is not None:
            return None
        is_new = policy.revision != self._decided_revision
        if not is_new and now < self._decide_due:
            return None
        setting = setting_of(policy, config, share)
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
        return self.measured.window(self._config(), self.running, now, gpu)

    @property
    def running(self) -> int:
        """Requests that still run."""
        says_idle = self.config is not None and self.config.drain.running == 0
        return self.measured.running(self._observed_at if says_idle else None)

    @property
    def totals(self) -> EngineTotals:
        """Counts since the agent's start, for metrics."""
        return self.measured.totals

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
        config = self._config()
        name = WITHOUT_PLANNER.get(policy.law, policy.law) if runs_no_planner(config) else policy.law
        if self._law is None or self._law_name is not name:
            self._law_name, self._law = name, LAWS[name]()
            self._state = self._law.start(window.bounds, setting)
        self._state, decision = self._law.decide(self._state, window, setting)
        if name is not policy.law:
            why = "" if is_observe_only(config) else f", bounds alone can be set: {config.contract.reason}"
            decision = replace(decision, message=f"{decision.message} ({name} in place of {policy.law}{why})")
        self.measured.forget_steps()
        self._watch_saturation(decision, window, setting, now)
        return decision

    def _watch_saturation(self, decision: Decision, window: Window, setting: Setting, now: float) -> None:
        """A target is missed and the decision neither moves a bound to help nor another planner in: since when?

        In mode `Advise` the planner that would help is advised and never comes in.
        """
        bounds, before = decision.bounds, window.bounds
        grows = (
            bounds.max_num_seqs > before.max_num_seqs or bounds.max_num_batched_tokens > before.max_num_batched_tokens
        )
        shrinks = (
            bounds.max_num_seqs < before.max_num_seqs or bounds.max_num_batched_tokens < before.max_num_batched_tokens
        )
        replans = decision.planner.name != window.planner.name
        is_late = is_missed(window.epoch.first_tokens, window.overdue_waiting, setting.ttft)
        is_slow = is_missed(window.epoch.gaps, 0, setting.itl)
        if replans or not ((is_late and not grows) or (is_slow and not shrinks and not window.draining)):
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
