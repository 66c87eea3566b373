import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmserving_lab.bench.capacity import (
    TOLERANCE,
    Bracket,
    find_capacity,
    geometric_mean,
    mean_bracket,
    rate_of,
    rung_of,
)
from llmserving_lab.bench.grid import TILE, grid_points, neighbours, policy_name
from llmserving_lab.bench.policies import setup_of


@given(st.floats(0.001, 1000))
def test_a_rate_lies_between_its_rung_and_the_next(rate: float) -> None:
    assert rate_of(rung_of(rate)) <= rate < rate_of(rung_of(rate) + 1)


@given(st.integers(-40, 60), st.integers(-10, 10))
def test_a_capacity_is_found_to_one_rung_and_to_the_same_one_from_any_first_guess(true: int, off: int) -> None:
    found = find_capacity(lambda rung: rung <= true, true + off)
    assert (found.low, found.high) == (true, true + 1)
    low, high = found.rates
    assert high is not None
    assert high / low == pytest.approx(TOLERANCE)


def test_no_rung_is_asked_twice() -> None:
    asked: list[int] = []

    def passes(rung: int) -> bool:
        asked.append(rung)
        return rung <= 33

    find_capacity(passes, 60)
    assert len(asked) == len(set(asked))


def test_a_search_from_above_asks_for_few_rungs_that_pass() -> None:
    found = find_capacity(lambda rung: rung <= 10, 50)
    assert sum(passed for _, passed in found.tried) <= 4
    assert min(rung for rung, _ in found.tried) > 10 - 8


def test_a_policy_that_never_passes_has_no_capacity() -> None:
    found = find_capacity(lambda _: False, 40)
    assert found.low is None
    assert found.rates[0] == 0.0
    assert rate_of(found.tried[-1][0]) < 0.05 * rate_of(40)


def test_below_the_deepest_rung_nothing_is_asked() -> None:
    found = find_capacity(lambda rung: rung <= 3, 40, deepest=20)
    assert found.low is None
    assert min(rung for rung, _ in found.tried) == 20


def test_a_search_ends_even_if_every_rate_passes() -> None:
    found = find_capacity(lambda _: True, 0)
    assert found.high is None
    assert found.rates[0] > 5


def test_a_wide_search_asks_for_less() -> None:
    wide, narrow = (find_capacity(lambda rung: rung <= 10, 50, width=width) for width in (3, 1))
    assert len(wide.tried) < len(narrow.tried)


def test_capacities_of_slices_are_averaged_in_proportion() -> None:
    low, high = mean_bracket([Bracket(10, 11), Bracket(20, 21)])
    assert low == pytest.approx(rate_of(15))
    assert high == pytest.approx(rate_of(16))


def test_a_slice_without_a_capacity_leaves_none_for_all() -> None:
    assert mean_bracket([Bracket(10, 11), Bracket(None, 0)])[0] == 0.0
    assert geometric_mean([]) == 0.0


def test_the_grid_has_at_least_seven_values_of_each_bound_and_only_what_vllm_takes() -> None:
    points = grid_points()
    assert len({seqs for seqs, _ in points}) >= 7
    assert len({tokens for _, tokens in points}) >= 7
    assert all(setup_of(policy_name(point)).ceilings is not None for point in points)


@pytest.mark.parametrize("point", [(256, 640), (16, 128), (1024, 8192)])
def test_neighbours_are_a_tile_away_or_less_and_valid(point: tuple[int, int]) -> None:
    around = neighbours(point)
    assert point not in around
    assert (point[0], point[1] + TILE) in around
    assert (point[0], point[1] + TILE // 4) in around
    assert all(1 <= seqs <= tokens for seqs, tokens in around)
