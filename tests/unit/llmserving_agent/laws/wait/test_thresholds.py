"""Thresholds of WAIT and Nested WAIT against the paper's own numbers and its conditions."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmserving_agent.laws.wait.estimates import linear_fit, survival_curve
from llmserving_agent.laws.wait.fluid import IterationTime, RequestType, fluid_point
from llmserving_agent.laws.wait.known import wait_thresholds
from llmserving_agent.laws.wait.nested import (
    boundary_exponent,
    largest_in_system,
    nested_thresholds,
    segments_from_survival,
)

A100 = IterationTime(base_seconds=0.013, seconds_per_token=0.55e-6)


def test_a_request_is_read_for_the_sum_of_its_stages() -> None:
    request = RequestType(rate=1.0, prompt_tokens=512, output_tokens=20)
    assert request.token_iterations == sum(512 + s for s in range(21))


@pytest.mark.parametrize(("rate", "memory"), [(50, 34_377), (60, 55_758), (70, 100_327), (80, 250_509)])
def test_fluid_memory_follows_the_papers_lmsys_table(rate: float, memory: float) -> None:
    # M* = d0 A / (1 - d1 A) with d0 A = 298.83 rate and d1 A = 0.011307 rate reproduces all four values of the table.
    a = RequestType(1.0, 58.6, 147.3).token_iterations
    iteration = IterationTime(298.83 / a, 0.011307 / a)
    point = fluid_point([RequestType(rate, 58.6, 147.3)], iteration)
    assert point is not None
    assert point.memory_tokens == pytest.approx(memory, rel=2e-3)


def test_the_papers_printed_constants_would_make_its_own_workload_unstable() -> None:
    printed = IterationTime(base_seconds=0.276, seconds_per_token=1.15e-5)
    assert fluid_point([RequestType(22, 512, 20)], printed) is None
    assert fluid_point([RequestType(22, 512, 20)], A100) is not None


def test_memory_does_not_bind_in_the_single_type_workload() -> None:
    point = fluid_point([RequestType(22, 512, 20)], A100)
    assert point is not None
    assert point.per_stage[0] < 1
    assert point.memory_tokens < 0.05 * 1.37e5


types = st.lists(
    st.builds(
        RequestType,
        rate=st.floats(0.01, 5),
        prompt_tokens=st.floats(1, 2000),
        output_tokens=st.floats(1, 500),
    ),
    min_size=1,
    max_size=4,
)


@given(types, st.floats(1e4, 1e7), st.floats(0, 1))
def test_wait_thresholds_keep_stability_and_at_least_one_request(
    requests: list[RequestType], capacity: float, slack: float
) -> None:
    thresholds = wait_thresholds(requests, A100, capacity, slack)
    point = fluid_point(requests, A100)
    if thresholds is None:
        assert point is None or point.memory_tokens > capacity
        return
    assert all(n >= 1 for n in thresholds.gather)
    assert -1e-9 <= thresholds.slack <= slack + 1e-9


def test_the_tail_exponent_of_a_boundary_queue_solves_its_equation() -> None:
    theta = boundary_exponent(gather=8, gather_before=20, survival=0.3)
    assert theta == pytest.approx(0.871, abs=1e-3)
    with pytest.raises(ValueError, match="above survival"):
        boundary_exponent(gather=6, gather_before=20, survival=0.3)


@given(st.floats(0.01, 0.9), st.floats(2, 500), st.floats(0.01, 0.99))
def test_the_exponent_is_at_least_the_papers_lower_bound(survival: float, before: float, position: float) -> None:
    gather = before * (survival + (1 - survival) * position)
    if gather <= survival * before or gather >= before:
        return
    theta = boundary_exponent(gather, before, survival)
    assert theta >= 8 * (gather - before * survival) / before * (1 - 1e-6)


def test_two_segments_as_in_the_papers_two_type_experiment() -> None:
    # Segments 1-20 and 21-50, p_2 = 0.3, cap 30: 20 n_1 + 30 x 0.3 n_1 = 30 without a margin; ours is a margin above.
    segments = segments_from_survival([1.0] + [1.0] * 19 + [0.3] * 31 + [0.0], boundaries=(20, 50))
    assert [s.survival for s in segments] == [1.0, pytest.approx(0.3)]
    thresholds = nested_thresholds(segments, 512, A100, in_system=3000, margin=0.0001)
    assert thresholds.gather == (103, 31)


@given(st.floats(1e4, 5e6), st.floats(10, 2000))
def test_the_largest_system_stays_within_memory(capacity: float, prompt: float) -> None:
    segments = segments_from_survival([1 - s / 600 for s in range(600)], boundaries=(100, 200, 400))
    size = largest_in_system(segments, prompt, A100, capacity)
    if size > 0:
        assert nested_thresholds(segments, prompt, A100, size).memory_bound_tokens <= capacity * (1 + 1e-6)


def test_survival_counts_running_requests_as_not_yet_ended() -> None:
    without = survival_curve([10] * 8, [], depth=20)
    censored = survival_curve([10] * 8, [15] * 8, depth=20)
    assert without[10] == 0
    assert censored[10] == pytest.approx(0.5)
    assert censored[9] == 1.0


@given(st.lists(st.integers(0, 50)), st.lists(st.integers(0, 50)))
def test_survival_never_rises(finished: list[int], running: list[int]) -> None:
    curve = survival_curve(finished, running, depth=60)
    assert len(curve) == 61
    assert all(1 >= a >= b >= 0 for a, b in pairwise(curve))


def test_linear_fit_recovers_a_line_and_refuses_a_point() -> None:
    xs = [float(x) for x in range(0, 100_000, 1000)]
    base, slope = linear_fit(xs, [0.01 + 5e-7 * x for x in xs]) or (0.0, 0.0)
    assert base == pytest.approx(0.01)
    assert slope == pytest.approx(5e-7)
    assert linear_fit([5.0, 5.0, 5.0], [1.0, 2.0, 3.0]) is None
