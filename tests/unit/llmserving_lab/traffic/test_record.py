"""Latencies that follow from what a client saw."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmserving_lab.traffic.record import Goals, RequestRecord, is_good, quantile


def record(*outputs: float, sent: float = 0.0, error: str = "") -> RequestRecord:
    return RequestRecord(sent, 10, len(outputs), outputs, outputs[-1] if outputs else sent, error)


def test_the_first_token_and_the_gaps_follow_from_the_outputs() -> None:
    seen = record(1.5, 1.6, 1.9, sent=1.0)
    assert seen.ttft_seconds == 0.5
    assert seen.gaps == pytest.approx((0.1, 0.3))


def test_a_request_without_output_has_no_latency() -> None:
    assert record().ttft_seconds is None
    assert record().gaps == ()


@given(
    st.lists(st.floats(0, 1e5), max_size=30),
    st.text(max_size=20),
)
def test_a_line_of_json_gives_the_record_back_to_a_tenth_of_a_millisecond(times: list[float], error: str) -> None:
    before = record(*sorted(times), error=error)
    after = RequestRecord.from_json(before.to_json())
    assert after.outputs == pytest.approx(before.outputs, abs=1e-4)
    assert (after.error, after.prompt_tokens, after.output_tokens) == (error, 10, len(times))


GOALS = Goals(ttft_seconds=1.0, itl_seconds=0.1)


def test_a_request_within_all_targets_is_good() -> None:
    assert is_good(record(0.9, 0.98, 1.05), GOALS)


def test_a_late_first_token_is_not_good() -> None:
    assert not is_good(record(1.1, 1.2), GOALS)


def test_a_failed_request_is_not_good() -> None:
    assert not is_good(record(0.5, error="the answer broke off"), GOALS)


def test_slow_gaps_beyond_the_percentile_are_not_good() -> None:
    times = [0.1]
    for number in range(20):
        times.append(times[-1] + (0.15 if number < 2 else 0.05))
    assert not is_good(record(*times), GOALS)


def test_one_gap_in_twenty_may_be_long_but_not_extreme() -> None:
    fast = [0.1 + 0.05 * number for number in range(20)]
    assert is_good(record(*fast, fast[-1] + 0.4), GOALS)
    assert not is_good(record(*fast, fast[-1] + 0.6), GOALS)


def test_an_answer_of_one_token_counts_by_its_first_token() -> None:
    assert is_good(record(0.5), GOALS)


def test_without_targets_every_complete_answer_is_good() -> None:
    assert is_good(record(50.0, 90.0), Goals(None, None))


@given(st.lists(st.floats(0, 100), min_size=1), st.integers(1, 100))
def test_at_most_the_remaining_share_lies_above_a_quantile(values: list[float], percentile: int) -> None:
    found = quantile(values, percentile)
    assert found in values
    assert sum(value > found for value in values) <= (100 - percentile) / 100 * len(values)


def test_nothing_has_no_quantile() -> None:
    assert quantile([], 95) is None
