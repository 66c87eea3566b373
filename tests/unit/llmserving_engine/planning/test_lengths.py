import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmserving_engine.planning.lengths import EDGES, HORIZONS, REFRESH, OutputLengths, cell_of


def by_cell(outputs: list[int]) -> list[int]:
    counts = [0] * len(EDGES)
    for tokens in outputs:
        counts[cell_of(tokens)] += 1
    return counts


@given(st.lists(st.integers(0, 30_000), max_size=200), st.lists(st.integers(0, 5000), max_size=50))
def test_survival_falls_from_one_and_so_does_what_goes_on(ended: list[int], running: list[int]):
    lengths = OutputLengths()
    for tokens in ended:
        lengths.end(tokens)
    lengths.refresh(by_cell(running))
    survival = [lengths.survival(tokens) for tokens in (0, 5, 50, 500, 5000, 40_000)]
    assert survival[0] <= 1.0
    assert all(before >= after >= 0.0 for before, after in pairwise(survival))
    for tokens in (0, 100, 5000, 40_000):
        shares = lengths.going_on(tokens)
        assert shares[0] == 1.0
        assert all(before >= after >= 0.0 for before, after in pairwise(shares))


def mean_of(lengths: OutputLengths) -> float:
    """Tokens of an output: with one that begins with each token, that many are under way."""
    return lengths.inflow()[-1][0]


def exponential(mean: int, count: int = 2000) -> OutputLengths:
    rng = random.Random(7)
    lengths = OutputLengths()
    for _ in range(count):
        lengths.end(int(rng.expovariate(1 / mean)))
    lengths.refresh()
    return lengths


def test_the_mean_is_recovered():
    lengths = exponential(200)
    assert mean_of(lengths) == pytest.approx(200, rel=0.15)
    assert lengths.survival(200) == pytest.approx(0.37, abs=0.05)


def test_of_outputs_that_forget_how_long_they_are_as_many_go_on_at_any_length():
    lengths = exponential(200)
    at = HORIZONS.index(256)
    for tokens in (0, 150, 400):
        assert lengths.going_on(tokens)[at] == pytest.approx(0.28, abs=0.06)


def test_what_is_under_way_if_one_begins_with_each_token_is_known_with_its_spread():
    lengths = OutputLengths()
    rng = random.Random(7)
    for _ in range(2000):
        lengths.end(rng.randint(100, 300))
    lengths.refresh()
    outputs, tokens, squares = lengths.inflow()[-1]
    assert outputs == pytest.approx(200, rel=0.1)
    assert tokens == pytest.approx(200**2 / 2, rel=0.25)
    assert squares == pytest.approx(200**3 / 3, rel=0.6)


def test_of_outputs_longer_than_all_that_were_seen_few_get_much_longer_still():
    lengths = exponential(200)
    assert lengths.survival(8000) < 0.02 * lengths.survival(1500)


def test_among_lengths_that_many_reach_nearly_all_go_on():
    lengths = OutputLengths()
    for _ in range(130):
        lengths.end(5)
    lengths.refresh(by_cell([130] * 130))
    assert lengths.survival(500) > 0.7 * lengths.survival(130)


def test_running_requests_keep_the_estimate_from_being_short():
    finished_only, with_running = OutputLengths(), OutputLengths()
    for lengths in (finished_only, with_running):
        for _ in range(50):
            lengths.end(20)
    finished_only.refresh()
    with_running.refresh(by_cell([400] * 50))
    assert with_running.survival(200) > 0.4 > 0.05 > finished_only.survival(200)


def test_a_refresh_is_due_after_so_many_ends_and_then_anew():
    lengths = exponential(100)
    for _ in range(REFRESH - 1):
        lengths.end(100)
    assert not lengths.is_due()
    lengths.end(100)
    assert lengths.is_due()
    assert not lengths.is_due(2)
    lengths.refresh()
    assert not lengths.is_due()


def test_the_first_lengths_are_learned_from_at_once():
    lengths = OutputLengths()
    seen = []
    for count in range(1, 65):
        lengths.end(100)
        if lengths.is_due():
            lengths.refresh()
            seen.append(count)
    assert seen[0] <= 5
    assert len(seen) > 6


def test_more_refreshes_do_not_forget_sooner():
    often, seldom = OutputLengths(), OutputLengths()
    for count in range(1024):
        for lengths in (often, seldom):
            lengths.end(100 if count < 512 else 300)
        if count % 8 == 7:
            often.refresh()
        if count % REFRESH == REFRESH - 1:
            seldom.refresh()
    assert often.survival(200) == pytest.approx(seldom.survival(200), abs=0.01)
