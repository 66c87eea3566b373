from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmserving_engine.planning.job import Job
from llmserving_engine.planning.sizing import GRID, Work, best_size


@dataclass
class Request:
    request_id: str = ""
    num_computed_tokens: int = 0
    relegated: bool = False


def work_of(*shapes: tuple[int, int]) -> Work:
    work = Work()
    for tokens, computed in shapes:
        request = Request(num_computed_tokens=computed)
        work.add(Job(request, 0, 0.0, tokens, request), tokens - computed)
    return work


@given(st.lists(st.tuples(st.integers(1, 500), st.integers(0, 400)), min_size=1, max_size=6), st.data())
def test_query_key_pairs_are_those_of_the_chunks_in_order(shapes: list[tuple[int, int]], data: st.DataObject):
    work = work_of(*[(new + computed, computed) for new, computed in shapes])
    tokens = data.draw(st.integers(0, work.tokens))
    expected, left = 0.0, tokens
    for new, computed in shapes:
        chunk = min(new, left)
        expected += chunk * (computed + chunk / 2)
        left -= chunk
    assert work.pairs(tokens) == pytest.approx(expected)


@given(st.integers(1, 5000), st.floats(0.0, 0.2), st.floats(-0.02, 0.02), st.floats(0.0, 1.0))
def test_the_chosen_size_fits_the_time(tokens: int, limit: float, overhead: float, thrift: float):
    def seconds(size: int) -> float:
        return 0.01 + 4e-5 * size

    size = best_size(seconds, tokens, limit, overhead, thrift)
    assert 0 <= size <= tokens
    assert size == 0 or seconds(size) <= limit
    if size == 0:
        assert seconds(min(tokens, GRID)) > limit


def test_a_size_just_beyond_a_tile_is_not_taken():
    def seconds(size: int) -> float:
        return 0.01 * -(-size // 256)

    assert best_size(seconds, 10_000, 0.0301, 0.0) == 768
    assert best_size(seconds, 800, 0.05, 0.0) == 800


def test_with_thrift_the_size_is_that_whose_tokens_cost_least_beyond_what_is_spent_anyway():
    def seconds(size: int) -> float:
        return 0.010 + 2e-5 * size + 4e-5 * max(0, size - 256)

    assert best_size(seconds, 10_000, 0.05, -0.010, 0.0) > 600
    assert best_size(seconds, 10_000, 0.05, -0.0095, 1.0) == 256
    assert best_size(seconds, 400, 0.05, -0.0095, 1.0) == 256
    assert best_size(seconds, 400, 0.05, 0.0, 0.0) == 400


def test_a_jump_makes_the_size_below_it_better():
    def seconds(size: int) -> float:
        return 0.010 if size <= 640 else 0.016 if size <= 704 else 0.050

    assert best_size(seconds, 10_000, 0.016, 0.0) == 640
    assert best_size(seconds, 10_000, 0.016, 1.0) == 704  # where so much is spent besides, the jump does not count
