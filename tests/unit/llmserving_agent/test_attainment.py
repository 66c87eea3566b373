"""The SLA window: what counts as good, and windows of any length."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmserving_agent.signals.attainment import JudgeBy, SLAWindow, is_good, shifted, verdict_on
from llmserving_api.latency import bucket_of, value_seconds
from llmserving_api.policy import Target
from llmserving_api.telemetry import Outcome, RequestRecord

TARGETS = JudgeBy(
    ttft=Target(percentile=95, target_seconds=2.0),
    itl=Target(percentile=95, target_seconds=0.05),
    e2e=Target(percentile=95, target_seconds=30.0),
)


def request(**changes: Any) -> RequestRecord:
    fields: dict[str, Any] = dict.fromkeys(RequestRecord.__slots__, 0)
    fields |= {"outcome": Outcome.FINISHED, "output_tokens": 101, "gaps": 100, "gaps_over_target": 0}
    fields |= {"ttft_seconds": 0.5, "e2e_seconds": 5.0, "queue_seconds": 0.1, "max_gap_seconds": 0.04}
    return RequestRecord(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "good"),
    [
        ({}, True),
        ({"ttft_seconds": 2.1}, False),
        ({"e2e_seconds": 31.0}, False),
        ({"gaps_over_target": 5}, True),
        ({"gaps_over_target": 6}, False),
        ({"max_gap_seconds": 0.26}, False),
        ({"max_gap_seconds": 0.24, "gaps_over_target": 1}, True),
        ({"gaps": 0, "output_tokens": 1}, True),
        ({"gaps": 3, "gaps_over_target": 1}, False),
        ({"outcome": Outcome.FAILED}, False),
        ({"ttft_seconds": 0.0, "output_tokens": 0}, False),
    ],
)
def test_a_good_request_met_every_target_and_had_no_very_long_gap(changes: dict[str, Any], good: bool) -> None:
    assert is_good(request(**changes), TARGETS) is good


def test_without_targets_every_finished_request_is_good() -> None:
    assert is_good(request(ttft_seconds=100.0, gaps_over_target=100, max_gap_seconds=9.0), JudgeBy())


def test_aborts_are_left_out_and_failures_are_misses() -> None:
    window = SLAWindow()
    outcomes = [request(), request(ttft_seconds=9.0), request(outcome=Outcome.ABORTED), request(outcome=Outcome.FAILED)]
    for one in outcomes:
        window.add_request(one, verdict_on(one, TARGETS))
    total = window.total
    assert (total.good, total.missed, total.aborted, total.failed) == (1, 1, 1, 1)
    assert (total.requests, total.good_share) == (3, 1 / 3)
    assert sum(window.total.e2e.values()) == 2


def test_failures_are_told_apart_by_their_first_token() -> None:
    window = SLAWindow()
    for seconds in (0.0, 0.5, 9.0):
        one = request(outcome=Outcome.FAILED, ttft_seconds=seconds)
        window.add_request(one, verdict_on(one, TARGETS), TARGETS.ttft)
    window.add_failed(5, 2, 0.0)
    total = window.total
    assert (total.failed, total.failed_unstarted, total.failed_late) == (8, 3, 1)


def test_what_is_older_than_the_window_is_forgotten() -> None:
    window = SLAWindow(30.0)
    for second in range(100):
        window.add_step(second, ((10, 1),), ((20, 3),))
        window.advance(second)
    assert window.total.itl == {20: 93}  # 30 s and the present one
    window.advance(1000)
    assert window.total.itl == {}
    assert window.total.ttft == {}


@settings(max_examples=30, deadline=None)
@given(st.floats(10, 5000), st.lists(st.tuples(st.floats(0.1, 60), st.integers(0, 20)), min_size=1, max_size=200))
def test_the_total_is_that_of_the_kept_spans_whatever_the_length(
    length: float, events: list[tuple[float, int]]
) -> None:
    """Within a minute: old seconds are folded into minutes."""
    window, now, seen = SLAWindow(length), 0.0, []
    for gap, bucket in events:
        now += gap
        window.add_step(now, ((bucket, 1),), ())
        window.advance(now)
        seen.append((now, bucket))
    total = sum(window.total.ttft.values())
    assert sum(at > now - length + 1 for at, _ in seen) <= total
    assert total <= sum(at > now - length - 61 for at, _ in seen)
    assert all(count > 0 for count in window.total.ttft.values())


def test_a_shorter_window_forgets_at_once_and_a_longer_one_fills() -> None:
    window = SLAWindow(300.0)
    for second in range(200):
        window.add_step(second, ((1, 1),), ())
    window.resize(50.0)
    window.advance(199)
    assert window.total.ttft == {1: 51}
    window.resize(300.0)
    for second in range(200, 300):
        window.add_step(second, ((1, 1),), ())
        window.advance(second)
    assert window.total.ttft == {1: 151}


def test_a_constant_added_to_a_histogram_moves_every_value() -> None:
    moved = shifted({bucket_of(0.1): 3, bucket_of(1.0): 2}, 0.05)
    assert sorted(moved.values()) == [2, 3]
    assert value_seconds(min(moved)) == pytest.approx(0.15, rel=0.05)
    assert value_seconds(max(moved)) == pytest.approx(1.05, rel=0.05)
    assert shifted({5: 1}, 0.0) == {5: 1}
