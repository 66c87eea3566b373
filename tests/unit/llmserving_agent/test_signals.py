"""Windows, lengths, step cost, feasibility: numbers from step and request records."""

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmserving_agent.signals.attainment import JudgeBy
from llmserving_agent.signals.epoch import Epoch
from llmserving_agent.signals.feasibility import Feasibility
from llmserving_agent.signals.lengths import Lengths, LengthStatistics
from llmserving_agent.signals.misses import is_missed, share_over
from llmserving_agent.signals.smoothing import Ewma
from llmserving_agent.signals.step_cost import StepCost
from llmserving_api.latency import bucket_of
from llmserving_api.policy import Target
from llmserving_api.telemetry import MoreRecord, Outcome, RequestRecord, StepFlag, StepRecord

MS = 1_000_000


def step(at_ms: float, **changes: Any) -> StepRecord:
    fields: dict[str, Any] = dict.fromkeys(StepRecord.__slots__, 0)
    fields |= {"completed_ns": round(at_ms * MS), "trim": 1.0, "gaps": (), "first_tokens": ()}
    fields |= {"duration_ns": 20 * MS, "decode_requests": 10, "decode_tokens": 10, "running": 10}
    fields |= {"max_num_seqs": 64, "max_num_batched_tokens": 1024, "token_budget": 1024}
    return StepRecord(**{**fields, **changes})


def request(prompt: int, output: int, outcome: Outcome = Outcome.FINISHED) -> RequestRecord:
    return RequestRecord(outcome, 0, 0, prompt, 0, output, output - 1, 0, 0, 0, 0, 0, 0.1, 1.0, 0.0, 0.03)


def epoch_of(*records: StepRecord) -> Epoch:
    epoch = Epoch()
    for record in (step(0), *records):
        epoch.add(record)
    return epoch


def test_steps_are_kept_apart_by_kind() -> None:
    sums = epoch_of(
        step(20),
        step(60, prefill_tokens=500, duration_ns=40 * MS),
        step(120, prefill_tokens=1014, duration_ns=60 * MS),
        step(140, duration_ns=0),
        step(160, decode_requests=0, prefill_tokens=800),
    ).sums(200 * MS)
    assert (sums.decode.count, sums.mixed.count, sums.full.count) == (1, 2, 1)
    assert sums.mixed.seconds == pytest.approx(0.05)
    assert sums.full.tokens == 1024
    assert sums.steps == 5
    assert sums.tokens_binding == 0.5


def test_a_change_of_the_bounds_cuts_the_window_and_its_first_step_is_left_out() -> None:
    epoch = epoch_of(step(20), step(40))
    assert epoch.sums(50 * MS).steps == 2
    epoch.add(step(60, max_num_seqs=32))
    assert epoch.sums(70 * MS).steps == 0
    epoch.add(step(80, max_num_seqs=32))
    sums = epoch.sums(90 * MS)
    assert sums.steps == 1
    assert sums.span_seconds == pytest.approx(0.02)


def test_the_window_forgets_what_is_older_than_its_horizon() -> None:
    epoch = epoch_of(*(step(at) for at in range(20, 20_000, 20)))
    assert epoch.sums(20_000 * MS).span_seconds <= 5.3
    assert epoch.sums(60_000 * MS).steps == 0


def test_the_sequence_bound_binds_when_it_is_full_and_somebody_waits() -> None:
    full = {"running": 64, "waiting": 3}
    assert epoch_of(step(20, **full), step(40, **full)).sums(50 * MS).seqs_binding == 1.0
    assert epoch_of(step(20, running=64), step(40, running=30, waiting=3)).sums(50 * MS).seqs_binding == 0.0


def test_steps_whose_budget_was_opened_say_nothing_of_the_token_bound() -> None:
    assert epoch_of(step(20, prefill_tokens=900, flags=StepFlag.PREFILL_OPENED)).sums(50 * MS).mixed.count == 0


def test_latencies_of_further_records_belong_to_the_newest_step() -> None:
    epoch = epoch_of(step(20, gaps=((100, 2),)))
    epoch.add_more(MoreRecord(1, ((100, 1), (120, 4)), ((200, 1),)))
    sums = epoch.sums(30 * MS)
    assert sums.gaps == {100: 3, 120: 4}
    assert sums.first_tokens == {200: 1}


def test_lengths_of_finished_requests() -> None:
    statistics = LengthStatistics()
    for prompt, output in ((100, 50), (300, 150)):
        statistics.add_outputs(output)
        statistics.add(request(prompt, output))
    lengths = statistics.statistics()
    assert (lengths.finished, lengths.prompt_mean) == (2, 200)
    assert lengths.mean == pytest.approx(200 + 150)
    assert lengths.prompt_p95 == 300


def test_aborted_and_failed_requests_have_no_length() -> None:
    statistics = LengthStatistics()
    statistics.add(request(100, 50, Outcome.ABORTED))
    statistics.add(request(100, 50, Outcome.FAILED))
    assert statistics.statistics() == Lengths()


def test_outputs_of_running_requests_correct_the_mean_upwards() -> None:
    """While only short requests have finished, long ones have produced tokens all the same."""
    statistics = LengthStatistics()
    for _ in range(50):
        statistics.add_outputs(30)
        statistics.add(request(100, 10))
    assert statistics.statistics().output_mean == pytest.approx(30, rel=0.05)


def test_under_a_steady_load_the_corrected_mean_is_the_true_one() -> None:
    source = random.Random(3)
    statistics = LengthStatistics()
    running = [source.expovariate(1 / 200) for _ in range(100)]
    for _ in range(3000):
        statistics.add_outputs(len(running))
        running = [left - 1 for left in running]
        for index, left in enumerate(running):
            if left <= 0:
                running[index] = length = source.expovariate(1 / 200)
                statistics.add(request(500, max(1, round(length))))
    assert statistics.statistics().output_mean == pytest.approx(200, rel=0.15)


def test_the_resident_mean_weights_by_time_in_the_batch() -> None:
    statistics = LengthStatistics()
    statistics.add_outputs(100)
    statistics.add(request(400, 100))
    assert statistics.statistics().resident_mean == pytest.approx(400 + 101 / 2)


@pytest.mark.parametrize("each", [0.0, 0.0002])
def test_step_cost_finds_the_empty_step(each: float) -> None:
    source = random.Random(5)
    cost = StepCost()
    for _ in range(400):
        decodes, prefill = source.randint(20, 80), source.choice([0, 256, 512])
        seconds = (0.02 + each * decodes + 0.00006 * prefill) * source.gauss(1, 0.01)
        cost.add(step(0, decode_requests=decodes, prefill_tokens=prefill, duration_ns=round(seconds * 1e9)))
    fitted = cost.fitted()
    assert fitted is not None
    assert fitted.idle == pytest.approx(0.02, rel=0.1)
    assert fitted.each_decode == pytest.approx(each, abs=0.00003)


def test_step_cost_does_not_guess_without_variety() -> None:
    cost = StepCost()
    for _ in range(400):
        cost.add(step(0, decode_requests=64))
    assert cost.fitted() is None


ITL = Target(percentile=95, target_seconds=0.05)
TTFT = Target(percentile=95, target_seconds=1.0)


def test_an_idle_engine_that_misses_the_target_makes_it_infeasible() -> None:
    feasibility = Feasibility()
    assert feasibility.verdict(JudgeBy(itl=ITL), Lengths()) is None
    for _ in range(30):
        feasibility.add(step(0, decode_requests=2, duration_ns=60 * MS))
    assert feasibility.verdict(JudgeBy(itl=ITL), Lengths()) is False


def test_a_busy_slow_engine_alone_is_no_proof() -> None:
    feasibility = Feasibility()
    for _ in range(300):
        feasibility.add(step(0, decode_requests=64, duration_ns=60 * MS))
    assert feasibility.verdict(JudgeBy(itl=ITL), Lengths()) is None


def test_a_prompt_that_the_best_prefill_rate_cannot_meet_makes_the_target_infeasible() -> None:
    feasibility = Feasibility()
    for _ in range(30):
        feasibility.add(step(0, prefill_tokens=1000, duration_ns=100 * MS))
    assert feasibility.verdict(JudgeBy(ttft=TTFT), Lengths(finished=50, prompt_p95=20_000)) is False
    assert feasibility.verdict(JudgeBy(ttft=TTFT), Lengths(finished=50, prompt_p95=2_000)) is True


def test_overdue_requests_count_as_misses() -> None:
    quick = {bucket_of(0.2): 99}
    assert not is_missed(quick, 0, TTFT)
    assert is_missed(quick, 6, TTFT)
    assert is_missed({}, 1, TTFT)
    assert not is_missed({}, 0, TTFT)
    assert not is_missed({bucket_of(9.0): 99}, 0, None)


def test_share_over_errs_to_the_safe_side() -> None:
    assert share_over({bucket_of(0.05): 10}, 0.05) == 1.0
    assert share_over({bucket_of(0.047): 10}, 0.05) == 0.0
    assert share_over({}, 0.05) is None


@given(st.lists(st.tuples(st.floats(0.001, 10), st.floats(-100, 100)), min_size=1, max_size=30))
def test_a_smoothed_value_stays_between_its_readings(readings: list[tuple[float, float]]) -> None:
    smoothed, now = Ewma(5.0), 0.0
    for gap, value in readings:
        now += gap
        smoothed = smoothed.updated(value, now)
    values = [value for _, value in readings]
    assert smoothed.value is not None
    assert min(values) - 1e-9 <= smoothed.value <= max(values) + 1e-9


def test_after_one_time_constant_a_step_has_come_through_to_63_percent() -> None:
    smoothed = Ewma(5.0).updated(0.0, 0.0).updated(1.0, 5.0)
    assert smoothed.value == pytest.approx(1 - math.exp(-1))
