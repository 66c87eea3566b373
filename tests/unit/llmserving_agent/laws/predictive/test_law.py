from collections.abc import Callable

from llmserving_agent.laws.predictive.law import MANY_PREEMPTIONS, PATIENCE, PAUSE, PLANNER, Predictive, PredictiveState
from llmserving_agent.laws.protocol import Decision, Setting, Window
from llmserving_api.conditions import DecisionReason
from llmserving_api.telemetry import StepRecord

Make = Callable[..., StepRecord]


def batch(make: Make, first: int, count: int = 60, preempted: int = 0, pace: float = 1.0) -> tuple[StepRecord, ...]:
    return tuple(
        make(
            step=first + k,
            duration_ns=int(pace * (10_000_000 + 50_000 * (k % 13) + 40_000 * (17 * k % 400))),
            decode_requests=k % 13,
            decode_context_tokens=1000 * (k % 13),
            prefill_tokens=17 * k % 400,
            preempted=preempted,
        )
        for k in range(count)
    )


def run(
    rounds: int, make: Make, window: Callable[..., Window], setting: Callable[..., Setting], preempted: int = 0
) -> tuple[PredictiveState, Decision]:
    law = Predictive()
    state = law.start(setting().stock, setting())
    for k in range(rounds):
        steps = batch(make, 1 + 60 * k, preempted=preempted)
        state, decision = law.decide(state, window(steps=steps), setting())
    return state, decision


def test_before_anything_is_known_the_planner_feels_its_way_at_the_maxima(
    window: Callable[..., Window], setting: Callable[..., Setting]
):
    law = Predictive()
    _, decision = law.decide(law.start(setting().stock, setting()), window(age_seconds=None), setting())
    assert decision.planner.name == PLANNER
    assert "coefficients" not in decision.planner.parameters
    assert decision.bounds.max_num_seqs == setting().max_num_seqs.max


def test_after_a_second_of_steps_the_planner_gets_a_model(
    step_record: Make, window: Callable[..., Window], setting: Callable[..., Setting]
):
    _, decision = run(3, step_record, window, setting)
    assert len(decision.planner.parameters["coefficients"]) == 9
    assert decision.planner.parameters["itl_percentile"] == 95.0
    assert "step times known to" in decision.message


def test_without_new_steps_nothing_changes(
    step_record: Make, window: Callable[..., Window], setting: Callable[..., Setting]
):
    state, decision = run(3, step_record, window, setting)
    again, same = Predictive().decide(state, window(steps=batch(step_record, 1)), setting())
    assert again == state
    assert same == decision


def test_lasting_preemptions_take_the_planner_out_for_a_while(
    step_record: Make, window: Callable[..., Window], setting: Callable[..., Setting]
):
    state, decision = run(PATIENCE + 1, step_record, window, setting, preempted=1)
    assert decision.planner.name == "bounds"
    assert decision.bounds == setting().stock
    assert decision.reason is DecisionReason.HEADROOM
    assert "preemptions" in decision.message
    for k in range(PAUSE):
        steps = batch(step_record, 10_000 + 60 * k)
        state, decision = Predictive().decide(state, window(steps=steps), setting())
    assert decision.planner.name == PLANNER
    assert MANY_PREEMPTIONS < 1


def test_a_single_bad_second_does_not(
    step_record: Make, window: Callable[..., Window], setting: Callable[..., Setting]
):
    state, _ = run(5, step_record, window, setting)
    steps = batch(step_record, 50_000, preempted=1)
    state, decision = Predictive().decide(state, window(steps=steps), setting())
    assert decision.planner.name == PLANNER
