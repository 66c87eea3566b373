import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmserving_lab.bench.capacity import find_capacity
from llmserving_lab.bench.grid import TILE, grid_points, neighbours, policy_name
from llmserving_lab.bench.policies import setup_of


@given(st.floats(0.2, 50), st.floats(0.5, 20))
def test_a_capacity_is_found_to_three_percent_from_any_first_guess(true: float, first: float) -> None:
    found = find_capacity(lambda rate: rate <= true, first)
    assert found.low <= true <= found.high
    assert found.high / found.low <= 1.03


def test_no_rate_is_tried_twice() -> None:
    tried: list[float] = []

    def passes(rate: float) -> bool:
        tried.append(rate)
        return rate <= 3.3

    find_capacity(passes, 2.0)
    assert len(tried) == len(set(tried))


def test_a_policy_that_never_passes_has_no_capacity() -> None:
    found = find_capacity(lambda rate: False, 4.0)
    assert found.low == 0.0
    assert found.high < 0.1


def test_a_search_ends_even_if_every_rate_passes() -> None:
    assert find_capacity(lambda rate: True, 1.0).low > 50


def test_the_grid_has_at_least_seven_values_of_each_bound_and_only_what_vllm_takes() -> None:
    points = grid_points()
    assert len({seqs for seqs, _ in points}) >= 7
    assert len({tokens for _, tokens in points}) >= 7
    assert all(setup_of(policy_name(point)).ceilings is not None for point in points)


@pytest.mark.parametrize("point", [(256, 640), (16, 128), (1024, 8192)])
def test_neighbours_are_a_tile_away_and_valid(point: tuple[int, int]) -> None:
    around = neighbours(point)
    assert point not in around
    assert (point[0], point[1] + TILE) in around
    assert all(1 <= seqs <= tokens for seqs, tokens in around)
