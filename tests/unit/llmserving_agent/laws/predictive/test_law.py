from collections.abc import Callable

import pytest

from llmserving_agent.laws.predictive.law import (
    MOST_PAUSES,
    PATIENCE,
    PAUSE,
    PLANNER,
    Predictive,
    PredictiveState,
    judged,
)
from llmserving_agent.laws.protocol import Decision, Setting, Window
from llmserving_api.conditions import DecisionReason
from llmserving_api.control import PlannerChoice
from llmserving_api.policy import Target
from llmserving_api.telemetry import StepRecord

Make = Callable[..., StepRecord]
IN_FORCE = PlannerChoice(name=PLANNER)


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
        state, decision = law.decide(state, window(steps=steps, planner=IN_FORCE), setting())
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
    assert len(decision.planner.parameters["coefficients"]) == 10
    assert decision.planner.parameters["itl_percentile"] == 95.0
    assert "step times known to" in decision.message


def test_without_new_steps_nothing_changes(
    step_record: Make, window: Callable[..., Window], setting: Callable[..., Setting]
):
    state, decision = run(3, step_record, window, setting)
    again, same = Predictive().decide(state, window(steps=batch(step_record, 1)), setting())
    assert again == state
    assert same == decision


def test_a_new_agent_leaves_the_engine_the_model_it_plans_with_until_it_has_learned_its_own(
    step_record: Make, window: Callable[..., Window], setting: Callable[..., Setting]
):
    _, before = run(3, step_record, window, setting)
    law = Predictive()
    idle = window(running=0, waiting=0, planner=before.planner)
    state, decision = law.decide(law.start(setting().stock, setting()), idle, setting())
    assert decision.planner == before.planner
    _, decision = law.decide(state, window(steps=batch(step_record, 1, 20), planner=before.planner), setting())
    assert decision.planner == before.planner
    _, decision = law.decide(state, window(steps=batch(step_record, 1, 120), planner=before.planner), setting())
    assert decision.planner.parameters["coefficients"] != before.planner.parameters["coefficients"]


def test_an_edit_of_the_percentile_reaches_an_engine_that_is_idle(
    step_record: Make, window: Callable[..., Window], setting: Callable[..., Setting]
):
    state, before = run(3, step_record, window, setting)
    edited = setting(itl=Target(percentile=99, target_seconds=0.05))
    _, decision = Predictive().decide(state, window(running=0, waiting=0, planner=before.planner), edited)
    assert decision.planner.parameters == {**before.planner.parameters, "itl_percentile": 99.0}


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"age_seconds": None}, DecisionReason.TELEMETRY_STALE, "no telemetry from the engine yet; "),
        ({"age_seconds": 6.0}, DecisionReason.TELEMETRY_STALE, "newest step is 6.0 s old"),
        ({"running": 0, "waiting": 0}, DecisionReason.IDLE, "nothing runs and nothing waits; step times known to"),
    ],
)
def test_where_nothing_is_seen_it_says_so_and_keeps_planning(
    step_record: Make,
    window: Callable[..., Window],
    setting: Callable[..., Setting],
    changes: dict[str, object],
    reason: DecisionReason,
    words: str,
):
    state, before = run(3, step_record, window, setting)
    _, decision = Predictive().decide(state, window(planner=before.planner, **changes), setting())
    assert (decision.reason, decision.bounds, decision.planner) == (reason, before.bounds, before.planner)
    assert words in decision.message


@pytest.mark.parametrize("named", ["ttft", "itl", "e2e"])
def test_any_part_of_the_targets_is_enough_to_plan_by(
    step_record: Make, window: Callable[..., Window], setting: Callable[..., Setting], named: str
):
    wanted = setting(
        **{
            name: Target(percentile=90, target_seconds=2.0) if name == named else None
            for name in ("ttft", "itl", "e2e")
        }
    )
    law = Predictive()
    state = law.start(wanted.stock, wanted)
    for k in range(3):
        state, decision = law.decide(state, window(steps=batch(step_record, 1 + 60 * k), planner=IN_FORCE), wanted)
    parameters = decision.planner.parameters
    assert len(parameters["coefficients"]) == 10
    assert parameters.get("itl_percentile") == (90.0 if named == "itl" else None)
    assert parameters.get("ttft_seconds") == (2.0 if named == "e2e" else None)


def test_lasting_preemptions_take_the_planner_out_for_a_while(
    step_record: Make, window: Callable[..., Window], setting: Callable[..., Setting]
):
    state, decision = run(PATIENCE + 1, step_record, window, setting, preempted=1)
    assert decision.planner.name == "bounds"
    assert decision.bounds == setting().stock
    assert decision.reason is DecisionReason.FALLBACK
    assert "preemptions" in decision.message
    for k in range(PAUSE):
        steps = batch(step_record, 10_000 + 60 * k)
        state, decision = Predictive().decide(state, window(steps=steps, planner=IN_FORCE), setting())
    assert decision.planner.name == PLANNER


def test_a_model_that_is_wrong_in_every_second_step_takes_the_planner_out_and_one_that_is_seldom_wrong_does_not(
    step_record: Make, window: Callable[..., Window], setting: Callable[..., Setting]
):
    for slow_in_ten, expected in ((2, PLANNER), (8, "bounds")):
        state, decision = run(10, step_record, window, setting)
        for k in range(3 * PATIENCE):
            first = 10_000 + 60 * k
            pace = 5.0 if k % 2 else 0.2  # back and forth: no pace to learn
            steps = [
                slow if number % 10 < slow_in_ten else usual
                for number, (usual, slow) in enumerate(
                    zip(batch(step_record, first), batch(step_record, first, pace=pace), strict=True)
                )
            ]
            state, decision = Predictive().decide(state, window(steps=tuple(steps), planner=IN_FORCE), setting())
        assert decision.planner.name == expected
    assert decision.reason is DecisionReason.FALLBACK
    assert "in every second step" in decision.message


def test_a_single_bad_second_does_not(
    step_record: Make, window: Callable[..., Window], setting: Callable[..., Setting]
):
    state, _ = run(5, step_record, window, setting)
    steps = batch(step_record, 50_000, preempted=1)
    state, decision = Predictive().decide(state, window(steps=steps, planner=IN_FORCE), setting())
    assert decision.planner.name == PLANNER


def served(
    rounds: int,
    make: Make,
    window: Callable[..., Window],
    setting: Callable[..., Setting],
    *,
    waiting: int,
    good: float | None,
) -> Decision:
    """Three seconds of steps of all kinds, then `rounds` in which four decode and no prompt is computed."""
    law, wanted = Predictive(), setting()
    state = law.start(wanted.stock, wanted)
    for k in range(3):
        state, decision = law.decide(state, window(steps=batch(make, 1 + 60 * k), planner=IN_FORCE), wanted)
    for k in range(rounds):
        steps = tuple(
            make(
                step=1000 + 60 * k + j,
                duration_ns=10_200_000,
                decode_requests=4,
                decode_context_tokens=4000,
                waiting=waiting,
            )
            for j in range(60)
        )
        seen = window(steps=steps, planner=IN_FORCE, running=4, waiting=waiting, good_share=good)
        state, decision = law.decide(state, seen, wanted)
    return decision


def test_lasting_loss_of_throughput_that_serves_nobody_takes_the_planner_out(
    step_record: Make, window: Callable[..., Window], setting: Callable[..., Setting]
):
    almost = served(PATIENCE - 1, step_record, window, setting, waiting=80, good=0.05)
    assert almost.planner.name == PLANNER
    decision = served(PATIENCE, step_record, window, setting, waiting=80, good=0.05)
    assert (decision.planner.name, decision.reason) == ("bounds", DecisionReason.FALLBACK)
    assert "of what stock bounds would, and 5% are served well" in decision.message
    silent = served(PATIENCE, step_record, window, setting, waiting=80, good=None)
    assert silent.reason is DecisionReason.FALLBACK


def test_without_any_target_there_is_nothing_to_plan_for(
    step_record: Make, window: Callable[..., Window], setting: Callable[..., Setting]
):
    wanted = setting(ttft=None, itl=None, e2e=None)
    law = Predictive()
    state = law.start(wanted.stock, wanted)
    for k in range(3):
        state, decision = law.decide(state, window(steps=batch(step_record, 1 + 60 * k)), wanted)
    assert (decision.bounds, decision.planner.name) == (wanted.stock, "bounds")
    assert "no latency target" in decision.message
    _, decision = law.decide(state, window(), setting())
    assert len(decision.planner.parameters["coefficients"]) == 10  # learned meanwhile


@pytest.mark.parametrize(
    ("waiting", "good"),
    [
        pytest.param(0, 0.0, id="low load, or arrivals stopped: nothing waits"),
        pytest.param(1, 0.0, id="a single request waits"),
        pytest.param(80, 0.9, id="what is served is served well"),
    ],
)
def test_little_throughput_is_no_fault_in_itself(
    step_record: Make, window: Callable[..., Window], setting: Callable[..., Setting], waiting: int, good: float
):
    decision = served(3 * PATIENCE, step_record, window, setting, waiting=waiting, good=good)
    assert (decision.planner.name, decision.reason) == (PLANNER, DecisionReason.WITHIN_BAND)


def test_steps_that_another_than_the_planner_made_are_not_its_fault(
    step_record: Make, window: Callable[..., Window], setting: Callable[..., Setting]
):
    law = Predictive()
    state = law.start(setting().stock, setting())
    for k in range(2 * PATIENCE):
        advised = window(steps=batch(step_record, 1 + 60 * k, preempted=1), planner=PlannerChoice())
        state, decision = law.decide(state, advised, setting())
    assert decision.planner.name == PLANNER


def test_a_planner_that_fails_again_stays_out_longer_and_one_that_proves_itself_starts_afresh():
    state, lengths = PredictiveState(), []
    for _ in range(MOST_PAUSES + 2):
        for _ in range(PATIENCE):
            state = judged(state, "a fault")
        lengths.append(state.paused)
        state = PredictiveState(pauses=state.pauses)
    assert lengths[:3] == [PAUSE, 2 * PAUSE, 4 * PAUSE]
    assert lengths[-1] == lengths[-2] == PAUSE << (MOST_PAUSES - 1)
    for _ in range(lengths[-1] + 1):
        state = judged(state, "")
    assert state.pauses == 0
