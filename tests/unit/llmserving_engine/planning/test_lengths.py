import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmserving_engine.planning.lengths import EDGES, REFRESH, OutputLengths, cell_of


def by_cell(outputs: list[int]) -> list[int]:
    counts = [0] * len(EDGES)
    for tokens in outputs:
        counts[cell_of(tokens)] += 1
    return counts


@given(st.lists(st.integers(0, 30_000), max_size=200), st.lists(st.integers(0, 5000), max_size=50))
def test_survival_falls_from_one_and_something_is_always_left(ended: list[int], running: list[int]):
    lengths = OutputLengths()
    for tokens in ended:
        lengths.end(tokens)
    lengths.refresh(by_cell(running))
    survival = [lengths.survival(tokens) for tokens in (0, 5, 50, 500, 5000, 40_000)]
    assert survival[0] <= 1.0
    assert all(before >= after >= 0.0 for before, after in pairwise(survival))
    assert all(lengths.remaining(tokens) >= 0.0 for tokens in (0, 100, 40_000))


def test_the_mean_is_recovered():
    rng = random.Random(7)
    lengths = OutputLengths()
    for _ in range(2000):
        lengths.end(int(rng.expovariate(1 / 200)))
    lengths.refresh()
    assert lengths.remaining(0) == pytest.approx(200, rel=0.15)
    assert lengths.survival(200) == pytest.approx(0.37, abs=0.05)


def test_running_requests_keep_the_estimate_from_being_short():
    finished_only, with_running = OutputLengths(), OutputLengths()
    for lengths in (finished_only, with_running):
        for _ in range(50):
            lengths.end(20)
    finished_only.refresh()
    with_running.refresh(by_cell([400] * 50))
    assert with_running.remaining(0) > 3 * finished_only.remaining(0)


def test_a_refresh_is_due_after_so_many_ends_and_then_anew():
    lengths = OutputLengths()
    for _ in range(REFRESH - 1):
        lengths.end(100)
    assert not lengths.is_due()
    lengths.end(100)
    assert lengths.is_due()
    assert not lengths.is_due(2)
    lengths.refresh()
    assert not lengths.is_due()
