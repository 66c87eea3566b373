"""The interval search: the published branches, the corrections, and convergence on linear plants."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmserving_agent.laws import search
from llmserving_agent.laws.search import SEQS, TOKENS, Interval, Observation, SearchOptions
from llmserving_api.policy import Limits

LIMITS = Limits(min=8, max=512)


def test_in_band_the_interval_is_centred_on_the_batch_seen() -> None:
    interval = search.narrowed(Interval(100, 200), Observation(0.05, 120), 0.05, LIMITS, SEQS)
    assert interval == Interval(112, 128)


def test_too_slow_lowers_both_ends() -> None:
    interval = search.narrowed(Interval(100, 116), Observation(0.055, 108), 0.05, LIMITS, SEQS)
    assert interval.lo < 100
    assert interval.hi <= 116


def test_far_too_slow_takes_the_bound_of_the_linear_model_at_once() -> None:
    seen = Observation(latency=0.096, batch=300, offset=0.030)
    interval = search.narrowed(Interval(292, 308), seen, 0.050, LIMITS, SEQS)
    assert interval.middle == pytest.approx(300 * 20 / 66, abs=1)


def test_fast_raises_only_while_the_bound_binds() -> None:
    idle = Observation(0.03, 20, binding=False)
    assert search.narrowed(Interval(92, 108), idle, 0.05, LIMITS, SEQS) == Interval(92, 108)
    busy = Observation(0.03, 100, binding=True)
    assert search.narrowed(Interval(92, 108), busy, 0.05, LIMITS, SEQS).middle > 100


def test_in_band_with_little_demand_the_bound_is_not_pinned_to_it() -> None:
    seen = Observation(0.05, 20, binding=False)
    assert search.narrowed(Interval(92, 108), seen, 0.05, LIMITS, SEQS) == Interval(92, 108)


@given(
    lo=st.integers(1, 600),
    width=st.integers(0, 300),
    latency=st.floats(1e-4, 10),
    batch=st.floats(0, 5000),
    offset=st.floats(0, 1),
    set_point=st.floats(1e-3, 1),
    binding=st.booleans(),
)
def test_the_interval_stays_within_limits_whatever_is_seen(
    lo: int, width: int, latency: float, batch: float, offset: float, set_point: float, binding: bool
) -> None:
    seen = Observation(latency, batch, offset, binding)
    interval = search.narrowed(Interval(lo, lo + width), seen, set_point, LIMITS, SEQS)
    assert LIMITS.min <= interval.lo <= interval.middle <= interval.hi <= LIMITS.max


@given(start=st.integers(8, 512), latency=st.floats(1e-3, 1), set_point=st.floats(1e-3, 1))
def test_a_slow_observation_never_raises_and_a_fast_one_never_lowers(
    start: int, latency: float, set_point: float
) -> None:
    interval = search.around(start, LIMITS, SEQS)
    seen = Observation(latency, interval.middle)
    verdict = search.pace(latency, set_point, SEQS)
    moved = search.narrowed(interval, seen, set_point, LIMITS, SEQS)
    if verdict is search.Pace.SLOW:
        assert moved.middle <= interval.middle
    if verdict is search.Pace.FAST:
        assert moved.middle >= interval.middle


def settled(
    start: int, fixed: float, slope: float, set_point: float, options: SearchOptions, limits: Limits, seed: int
) -> float:
    """Mean bound over the last third of 120 decisions on ``latency = fixed + slope * bound`` with 3 % noise."""
    noise = random.Random(seed)
    interval = search.around(start, limits, options)
    bounds = []
    for _ in range(120):
        bound = interval.middle
        latency = (fixed + slope * bound) * noise.gauss(1, 0.03)
        interval = search.narrowed(interval, Observation(latency, bound), set_point, limits, options)
        bounds.append(bound)
    return sum(bounds[80:]) / 40


@pytest.mark.parametrize(("target", "bound"), [(0.050, 90.9), (0.080, 227.3)])
@pytest.mark.parametrize("start", [8, 256, 512])
def test_on_the_papers_step_time_line_the_search_finds_its_batch(target: float, bound: float, start: int) -> None:
    """Figure 3: 0.22 b + 30 ms. The accepted band is 5 % of the target: 11 to 18 sequences on this line."""
    found = settled(start, 0.030, 0.00022, target, SEQS, LIMITS, seed=3)
    assert found == pytest.approx(bound, abs=0.05 * target / 0.00022 + SEQS.alpha / 2)


@given(
    start=st.integers(256, 8192),
    fixed=st.floats(0.005, 0.03),
    bound=st.integers(400, 4000),
    seed=st.integers(0, 1000),
)
def test_on_a_token_plant_the_search_keeps_latency_in_band(start: int, fixed: float, bound: int, seed: int) -> None:
    slope = (0.040 - fixed) / bound
    limits = Limits(min=256, max=8192)
    found = settled(start, fixed, slope, 0.040, TOKENS, limits, seed)
    assert fixed + slope * found == pytest.approx(0.040, rel=0.12)
