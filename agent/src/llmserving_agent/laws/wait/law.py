"""The laws WAIT and Nested WAIT: thresholds from what was measured, sent to the planner in the engine's step.

Source: Ao, Luo, Simchi-Levi, Wang, "Optimizing LLM Inference: Fluid-Guided Online Scheduling with Memory Constraints"
(arXiv 2504.11320). The paper takes rates, lengths and iteration times as given; here they are estimated, the
thresholds are reviewed every ``REVIEWS`` decisions and sent only when one has moved by more than ``HYSTERESIS``.

Additions, each with its reason. A held request leaves after a share of the TTFT target: arrivals may stop below a
threshold, and held time is time to first token. Without a feasible threshold, in overload or with too little memory,
nothing is held: the queue is never short there. Until enough requests have finished nothing is held either.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llmserving_agent.laws.memory import clt_bound
from llmserving_agent.laws.protocol import Decision, Setting, Window, bounds_of, clamped
from llmserving_agent.laws.wait.estimates import linear_fit, survival_curve
from llmserving_agent.laws.wait.fluid import IterationTime, RequestType
from llmserving_agent.laws.wait.known import wait_thresholds
from llmserving_agent.laws.wait.nested import largest_in_system, nested_thresholds, segments_from_survival
from llmserving_agent.signals.lengths import Lengths
from llmserving_api.conditions import DecisionReason
from llmserving_api.control import Bounds, PlannerChoice

ENOUGH_FINISHED = 64
REVIEWS = 10
"""Decisions between two computations of the thresholds: about ten seconds."""
HYSTERESIS = 0.25
POINTS = 120
"""Observations of step time and KV use behind the iteration time."""
HOLD_SHARE = 0.25
"""A request is held for at most this share of the TTFT target."""
HOLD_SECONDS = 1.0
"""The same without a target."""
TYPES = 3
OVERFLOW_PROBABILITY = 0.01
SURVIVAL_CUTS = (2 / 3, 1 / 3)
"""Nested WAIT's boundaries: the depths that two thirds, and one third, of the requests outlive."""


@dataclass(frozen=True, slots=True)
class WaitState:
    """Observations (KV tokens, step seconds), the planner in force and why, decisions until the next review."""

    points: tuple[tuple[float, float], ...] = ()
    planner: PlannerChoice = PlannerChoice()
    review_in: int = 0
    message: str = "nothing is held yet"


def observed(state: WaitState, window: Window) -> WaitState:
    """With this window's step time and KV use added."""
    steps = window.epoch.decode
    if steps.count < 3:
        return state
    point = (float(window.kv_blocks_used * window.block_size), steps.seconds)
    return replace(state, points=(*state.points[-POINTS + 1 :], point))


def iteration_time(points: Sequence[tuple[float, float]]) -> IterationTime | None:
    """Time of an iteration from the observations; a flat line where KV use has not varied; None without any."""
    if not points:
        return None
    tokens, seconds = [p[0] for p in points], [p[1] for p in points]
    fit = linear_fit(tokens, seconds)
    mean = sum(seconds) / len(seconds)
    if fit is None or fit[0] <= 0 or fit[1] < 0:
        return IterationTime(mean, 0.0)
    return IterationTime(*fit)


def request_types(lengths: Lengths, arrivals_per_second: float) -> tuple[tuple[RequestType, int], ...]:
    """Types by prompt length, up to three of equal share, each with its longest prompt."""
    ordered = sorted(lengths.samples)
    correction = lengths.output_mean / (sum(o for _, o in ordered) / len(ordered))
    cuts = [round(len(ordered) * (k + 1) / TYPES) for k in range(TYPES)]
    types: list[tuple[RequestType, int]] = []
    start = 0
    for cut in cuts:
        while cut < len(ordered) and ordered[cut][0] == ordered[cut - 1][0]:
            cut += 1  # noqa: PLW2901 - one length is one type
        part = ordered[start:cut]
        if part:
            rate = arrivals_per_second * len(part) / len(ordered)
            prompt = sum(p for p, _ in part) / len(part)
            output = correction * sum(o for _, o in part) / len(part)
            types.append((RequestType(rate, prompt, max(1.0, output)), part[-1][0]))
            start = cut
    return tuple(types)


def hold_seconds(setting: Setting) -> float:
    """How long a request may be held."""
    return HOLD_SECONDS if setting.ttft is None else HOLD_SHARE * setting.ttft.target_seconds


class GatheringLaw(ABC):
    """What both laws share: the planner of the moment is reviewed now and then."""

    def start(self, bounds: Bounds, setting: Setting) -> WaitState:
        """Nothing is held at first."""
        return WaitState()

    def decide(self, state: WaitState, window: Window, setting: Setting) -> tuple[WaitState, Decision]:
        """Thresholds, reviewed now and then; the sequence bound by memory, the token bound as stock."""
        return _decide(observed(state, window), window, setting, self.planner)

    @abstractmethod
    def planner(self, state: WaitState, window: Window, setting: Setting) -> tuple[PlannerChoice, str]:
        """The planner that the measurements ask for, and why."""


class Wait(GatheringLaw):
    """Requests of like prompts gather before they are admitted together (Alg. 1)."""

    def planner(self, state: WaitState, window: Window, setting: Setting) -> tuple[PlannerChoice, str]:
        """The planner that the measurements ask for, and why."""
        iteration = iteration_time(state.points)
        if iteration is None or window.arrivals_per_second is None or window.arrivals_per_second <= 0:
            return PlannerChoice(), "step time or arrivals are not known yet"
        types = request_types(window.lengths, window.arrivals_per_second)
        capacity = window.kv_blocks_total * window.block_size
        thresholds = wait_thresholds([kind for kind, _ in types], iteration, capacity)
        if thresholds is None:
            return PlannerChoice(), "no threshold is stable at this load: nothing is held"
        entries: list[dict[str, int]] = [
            {"max_prompt_tokens": longest, "gather": gather}
            for (_, longest), gather in zip(types, thresholds.gather, strict=True)
        ]
        del entries[-1]["max_prompt_tokens"]
        parameters: dict[str, Any] = {"types": entries, "hold_seconds": hold_seconds(setting)}
        gather_text = ", ".join(str(n) for n in thresholds.gather)
        return PlannerChoice(name="wait", parameters=parameters), f"gather {gather_text} by prompt length"


class NestedWait(GatheringLaw):
    """New requests gather at the entrance, survivors at two boundaries of the decode (Alg. 2)."""

    def planner(self, state: WaitState, window: Window, setting: Setting) -> tuple[PlannerChoice, str]:
        """The planner that the measurements ask for, and why."""
        iteration = iteration_time(state.points)
        if iteration is None:
            return PlannerChoice(), "step time is not known yet"
        outputs = sorted(output for _, output in window.lengths.samples)
        depth = outputs[-1] + 1
        curve = survival_curve(outputs, (), depth)
        cuts = sorted({next(s for s in range(depth + 1) if curve[s] <= share) for share in SURVIVAL_CUTS} - {0, depth})
        if not cuts:
            return PlannerChoice(), "outputs are all of one length: nothing to nest"
        segments = segments_from_survival(curve, (*cuts, depth))
        capacity = window.kv_blocks_total * window.block_size
        prompt = window.lengths.prompt_mean
        in_system = largest_in_system(segments, prompt, iteration, capacity, overflow_probability=OVERFLOW_PROBABILITY)
        if in_system < len(segments):
            return PlannerChoice(), "the KV cache is too small for a memory bound with its stated probability"
        thresholds = nested_thresholds(
            segments, prompt, iteration, in_system, overflow_probability=OVERFLOW_PROBABILITY
        )
        parameters = {
            "boundaries": list(cuts),
            "gather": list(thresholds.gather),
            "hold_seconds": hold_seconds(setting),
            "in_system": max(1, int(in_system)),
        }
        gather_text = ", ".join(str(n) for n in thresholds.gather)
        cuts_text = ", ".join(str(cut) for cut in cuts)
        return (
            PlannerChoice(name="nested-wait", parameters=parameters),
            f"gather {gather_text} at depths 0, {cuts_text}; at most {in_system:.0f} in the system",
        )


def _decide(state: WaitState, window: Window, setting: Setting, plan: Any) -> tuple[WaitState, Decision]:
    if window.lengths.finished < ENOUGH_FINISHED:
        message = f"{window.lengths.finished} of {ENOUGH_FINISHED} finished requests needed for thresholds"
        return state, Decision(setting.stock, DecisionReason.TOO_FEW_SAMPLES, message)
    if state.review_in > 0:
        state = replace(state, review_in=state.review_in - 1)
    else:
        planner, message = plan(state, window, setting)
        if not _is_close(planner, state.planner):
            state = replace(state, planner=planner, message=message)
        elif planner.name == PlannerChoice().name:
            state = replace(state, message=message)  # why nothing is held changes without a number that moves
        state = replace(state, review_in=REVIEWS - 1)
    tokens = window.kv_blocks_total * window.block_size
    fit = clt_bound(tokens, window.lengths.resident_mean, window.lengths.sd, OVERFLOW_PROBABILITY)
    bounds = bounds_of(clamped(fit, setting.max_num_seqs), setting.stock.max_num_batched_tokens)
    return state, Decision(bounds, DecisionReason.WITHIN_BAND, state.message, planner=state.planner)


def _is_close(new: PlannerChoice, old: PlannerChoice) -> bool:
    """Whether no number moved by more than the hysteresis, so that the old planner stays."""
    if new.name != old.name:
        return False
    new_numbers, old_numbers = _numbers(new.parameters), _numbers(old.parameters)
    if len(new_numbers) != len(old_numbers):
        return False
    return all(abs(n - o) <= max(HYSTERESIS * abs(o), 0.5) for n, o in zip(new_numbers, old_numbers, strict=True))


def _numbers(value: Any) -> list[float]:
    if isinstance(value, Mapping):
        return [number for key in sorted(value) for number in _numbers(value[key])]
    if isinstance(value, (list, tuple)):
        return [number for one in value for number in _numbers(one)]
    return [float(value)] if isinstance(value, (int, float)) else []
