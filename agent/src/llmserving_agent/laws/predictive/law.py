"""The predictive law's part in the agent: learns the step-time model and hands it to the planner in the engine's step.

The bounds are the upper limits: within them the planner decides every step. The agent learns from the steps that
ran, about once a second, and watches that the planner does no harm: when the model stays wrong, the engine keeps
preempting, or throughput is lost that buys no latency, the engine goes back to stock bounds without a planner for a
while, with the reason. Nothing is ever tried out for the sake of knowing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from llmserving_agent.laws.end_to_end import first_token_deadline
from llmserving_agent.laws.predictive.learner import Learner
from llmserving_agent.laws.predictive.throughput import relative_throughput
from llmserving_agent.laws.protocol import Decision, Setting, Window, bounds_of
from llmserving_agent.laws.silence import silence_of
from llmserving_api.conditions import DecisionReason
from llmserving_api.control import Bounds, PlannerChoice
from llmserving_api.telemetry import StepRecord

PLANNER: Final = "predictive"
MODEL: Final = ("coefficients", "residuals", "error")
"""Parameters of the planner that are its step-time model."""
UNUSABLE_ERROR: Final = 0.5
"""Relative error of what was foreseen of every second step beyond which planning is worse than not planning. Single steps
do not count: a neighbour on the card makes one in ten twice as long, and the planner follows it within a few steps."""
MANY_PREEMPTIONS: Final = 0.05
"""Preemptions per step, as a mean over recent steps."""
LOST_THROUGHPUT: Final = 0.5
"""Relative throughput (see `throughput`) below which the planner costs more than latency can ask for, ..."""
WORTH: Final = 0.1
"""... unless what it serves well is at least this share of all that stock bounds could serve."""
PATIENCE: Final = 10
"""Decisions in a row that must find fault before the planner is taken out: about ten seconds."""
PAUSE: Final = 60
"""Decisions for which it stays out at first; twice as many whenever it fails again soon after."""
MOST_PAUSES: Final = 6
"""Doublings end with so many pauses in a row: about half an hour."""


@dataclass(frozen=True, slots=True)
class PredictiveState:
    """What was learned, the newest step it rests on, what requests are due by, and how the planner has done.

    Attributes:
        learner: The step-time model's learner.
        newest: Number of the newest step learned from.
        deadline: Seconds after which a first token is late for the end-to-end target, by the newest steps; None: there is none
            stricter than the user's own.
        faults: Decisions in a row that found fault with it.
        paused: Decisions for which it stays out.
        pauses: Times in a row it was taken out.
        proved: Decisions since it came back without being taken out again.
        cause: Why it is out.
    """

    learner: Learner = field(default_factory=Learner)
    newest: int = 0
    deadline: float | None = None
    faults: int = 0
    paused: int = 0
    pauses: int = 0
    proved: int = 0
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Predictive:
    """Sets the planner; the bounds stay at their upper limits."""

    def start(self, bounds: Bounds, setting: Setting) -> PredictiveState:
        """Nothing is known: the planner feels its way until the first model."""
        return PredictiveState()

    def decide(self, state: PredictiveState, window: Window, setting: Setting) -> tuple[PredictiveState, Decision]:
        """Learn from the steps since the last decision, and say with which model the engine shall plan."""
        steps = [step for step in window.steps if step.step > state.newest]
        if steps:
            learner = state.learner.learned(steps).refitted()
            deadline = first_token_deadline(window, setting)
            state = replace(state, learner=learner, newest=steps[-1].step, deadline=deadline)
            if window.planner.name == PLANNER:
                state = judged(state, fault_of(learner, steps, window, setting))
        if state.paused:
            state = replace(state, paused=state.paused - 1)
            return state, Decision(setting.stock, DecisionReason.FALLBACK, f"stock bounds for a while: {state.cause}")
        if not setting.has_targets:
            message = "no latency target is set, so there is nothing to plan for: stock bounds"
            return state, Decision(setting.stock, DecisionReason.WITHIN_BAND, message)
        bounds = bounds_of(setting.max_num_seqs.max, setting.max_num_batched_tokens.max)
        planner = planner_of(state.learner, setting, state.deadline, window.planner)
        reason, message = DecisionReason.WITHIN_BAND, message_of(state.learner)
        silence = silence_of(window)
        if silence is not None:
            reason, message = silence[0], f"{silence[1]}; {message}"
        return state, Decision(bounds, reason, message, planner=planner)


def planner_of(
    learner: Learner, setting: Setting, deadline: float | None = None, in_force: PlannerChoice | None = None
) -> PlannerChoice:
    """The planner with the newest model and with a deadline of first tokens.

    As long as too little was seen it keeps the model it has: an agent that starts again learns anew, and what the engine
    plans with meanwhile is what the agent before it learned.
    """
    parameters: dict[str, Any] = {}
    if setting.itl is not None:
        parameters["itl_percentile"] = float(setting.itl.percentile)
    if deadline is not None:
        parameters["ttft_seconds"] = round(deadline, 3)
    model = learner.model
    if model is None and in_force is not None and in_force.name == PLANNER:
        parameters |= {name: in_force.parameters[name] for name in MODEL if name in in_force.parameters}
    if model is not None:
        parameters["coefficients"] = list(model.coefficients)
        parameters["residuals"] = [[round(seconds, 7) for seconds in row] for row in model.residuals]
        parameters["error"] = round(model.error, 4)
    return PlannerChoice(name=PLANNER, parameters=parameters)


def message_of(learner: Learner) -> str:
    """What is known of step times, in words."""
    model = learner.model
    if model is None:
        return f"learning step times, {learner.steps} steps seen"
    return f"step times known to {model.error:.1%}, from {learner.steps} steps"


def fault_of(learner: Learner, steps: Sequence[StepRecord], window: Window, setting: Setting) -> str:
    """What is wrong with planning, judged by these steps; empty when nothing is."""
    model, error = learner.model, learner.usual_error
    if error > UNUSABLE_ERROR:
        return f"predicted step times are off by {error:.0%} in every second step"
    preemptions = sum(step.preempted for step in steps) / len(steps)
    if preemptions > MANY_PREEMPTIONS:
        return f"{preemptions:.2f} preemptions per step"
    throughput = None if model is None else relative_throughput(model, steps, window, setting.stock)
    if throughput is None or throughput >= LOST_THROUGHPUT:
        return ""
    good = window.good_share or 0.0
    if throughput * good >= WORTH:
        return ""
    return f"while requests wait, steps do {throughput:.0%} of what stock bounds would, and {good:.0%} are served well"


def judged(state: PredictiveState, cause: str) -> PredictiveState:
    """Count faults, and take the planner out when they go on: longer each time, until it has proved itself as long."""
    if state.paused:
        return state
    proved = state.proved + 1
    pauses = 0 if proved > _pause(state.pauses) else state.pauses
    faults = state.faults + 1 if cause else 0
    if faults < PATIENCE:
        return replace(state, faults=faults, proved=proved, pauses=pauses)
    pauses = min(pauses + 1, MOST_PAUSES)
    return replace(state, faults=0, proved=0, pauses=pauses, paused=_pause(pauses), cause=cause)


def _pause(times: int) -> int:
    return PAUSE << max(times - 1, 0)
