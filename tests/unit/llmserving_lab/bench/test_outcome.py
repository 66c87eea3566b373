import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmserving_lab.bench.outcome import Outcome, Targets, gap_course, percentile, summarise

_TARGETS = Targets(ttft=2.0, itl=0.05)


def _outcome(ttft: float = 1.0, gaps: list[float] | None = None, **changes: object) -> Outcome:
    times = [10.0 + ttft]
    for gap in gaps if gaps is not None else [0.04] * 20:
        times.append(times[-1] + gap)
    outcome = Outcome(10.0, 100, len(times), _TARGETS, times, finished=True)
    for name, value in changes.items():
        setattr(outcome, name, value)
    return outcome


def test_a_request_within_all_targets_is_good() -> None:
    assert _outcome().is_good()


def test_a_late_first_token_is_not_good() -> None:
    assert not _outcome(ttft=2.001).is_good()


def test_one_gap_in_twenty_may_be_long_and_two_may_not() -> None:
    assert _outcome(gaps=[0.04] * 19 + [0.2]).is_good()
    assert not _outcome(gaps=[0.04] * 18 + [0.2] * 2).is_good()


def test_no_gap_may_exceed_five_times_the_target() -> None:
    assert not _outcome(gaps=[0.04] * 99 + [0.26]).is_good()


def test_a_single_token_counts_by_its_ttft() -> None:
    assert _outcome(gaps=[]).is_good()
    assert not _outcome(ttft=3.0, gaps=[]).is_good()


def test_an_unfinished_request_is_missed() -> None:
    assert not _outcome(finished=False).is_good()


def test_the_end_to_end_target_counts_where_there_is_one() -> None:
    outcome = _outcome()
    outcome.targets = Targets(ttft=2.0, itl=0.05, e2e=1.5)
    assert not outcome.is_good()


@given(st.lists(st.floats(0, 10), min_size=1, max_size=200), st.integers(50, 99))
def test_the_percentile_is_a_value_that_enough_values_do_not_exceed(values: list[float], share: int) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share / 100 * len(values)
    below = [value for value in values if value < found]
    assert len(below) < share / 100 * len(values)


def test_a_summary_counts_undone_as_missed_and_leaves_aborts_out() -> None:
    outcomes = [_outcome(), _outcome(ttft=3.0), _outcome(finished=False, token_times=[]), _outcome(aborted=True)]
    summary = summarise(outcomes, until=100.0)
    assert (summary["arrived"], summary["completed"], summary["aborted"], summary["good"]) == (4, 2, 1, 1)
    assert summary["attainment"] == pytest.approx(1 / 3, abs=1e-6)


def test_goodput_is_what_was_good_of_a_second_of_arrivals() -> None:
    early, missed, late = _outcome(), _outcome(ttft=3.0), _outcome()
    late.arrival += 10
    late.token_times = [time + 10 for time in late.token_times]
    assert summarise([early, missed, late], until=50.0)["goodput_rps"] == pytest.approx(2 / 10.0, abs=1e-5)


def test_attainment_by_decile_goes_from_short_to_long_prompts() -> None:
    outcomes = [_outcome(prompt_tokens=10 * rank, finished=rank < 90) for rank in range(100)]
    deciles = summarise(outcomes, until=100.0)["attainment_by_prompt_decile"]
    assert deciles == [1.0] * 9 + [0.0]


def test_requests_overtaken_by_later_ones_for_longer_than_the_target_are_relegated() -> None:
    overtaken = _outcome(ttft=20.0)
    outcomes = [overtaken, *(_outcome() for _ in range(9))]
    assert summarise(outcomes, until=100.0)["relegated_share"] == pytest.approx(0.1)


def test_a_run_without_requests_has_no_figures() -> None:
    summary = summarise([], until=0.0)
    assert summary["attainment"] is None
    assert summary["ttft_p95_s"] is None


def test_the_course_of_gaps_takes_each_gap_in_the_span_in_which_it_ended() -> None:
    targets = Targets(ttft=1.0, itl=0.1)
    early = Outcome(0.0, 1, 3, targets, token_times=[0.1, 0.2, 4.5])
    late = Outcome(0.0, 1, 2, targets, token_times=[9.0, 9.5])
    assert gap_course([early, late]) == [
        [4.0, pytest.approx(0.1)],
        [8.0, pytest.approx(4.3)],
        [12.0, pytest.approx(0.5)],
    ]


@given(st.floats(0.0, 4.0), st.lists(st.sampled_from([0.01, 0.05, 0.06, 0.26]), max_size=60), st.integers(0, 60))
def test_a_request_given_up_on_the_way_is_never_good_in_the_end(ttft: float, gaps: list[float], done: int) -> None:
    whole = _outcome(ttft=ttft, gaps=gaps)
    so_far = whole.token_times[: done + 1]
    part = _outcome(output_tokens=whole.output_tokens, token_times=so_far, finished=False)
    if part.is_lost(so_far[-1]):
        assert not whole.is_good()


def test_what_can_no_longer_be_good_is_known_before_the_end() -> None:
    assert _outcome(token_times=[], finished=False).is_lost(12.1)
    assert not _outcome(token_times=[], finished=False).is_lost(11.9)
    one_of_twenty_left = _outcome(gaps=[0.06], output_tokens=21, finished=False)
    assert not one_of_twenty_left.is_lost(12.0)
    assert _outcome(gaps=[0.06] * 2, output_tokens=21, finished=False).is_lost(12.0)
