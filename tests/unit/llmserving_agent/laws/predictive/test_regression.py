import random
from operator import mul

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmserving_agent.laws.predictive.regression import fit

PULLS = (1e-9, 1e-9, 1e-9)


def test_known_coefficients_are_recovered():
    rng = random.Random(1)
    truth = (2.0, 0.5, 3.0)
    rows = [(1.0, rng.uniform(0, 10), rng.uniform(0, 10)) for _ in range(50)]
    samples = [(row, sum(a * b for a, b in zip(truth, row, strict=True)), 1.0) for row in rows]
    assert fit(samples, PULLS) == pytest.approx(truth, rel=1e-3)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100), st.floats(0, 100)), max_size=30))
def test_no_coefficient_is_negative_whatever_the_samples(rows: list[tuple[float, float, float]]):
    coefficients = fit([((1.0, a, b), value, 1.0) for a, b, value in rows], (1e-6, 1e-6, 1e-6))
    assert len(coefficients) == 3
    assert all(coefficient >= 0.0 for coefficient in coefficients)


def test_a_feature_that_never_varied_gets_nothing():
    assert fit([((1.0, 0.0), 5.0, 1.0)] * 10, (1e-6, 1e-6))[1] == 0.0


def test_heavier_samples_count_more():
    light = fit([((1.0,), 1.0, 1.0), ((1.0,), 3.0, 1.0)], (1e-9,))
    heavy = fit([((1.0,), 1.0, 1.0), ((1.0,), 3.0, 9.0)], (1e-9,))
    assert light == pytest.approx([2.0])
    assert heavy == pytest.approx([2.8])


TERMS = 5
_part = st.floats(0, 1000)


@given(
    rows=st.lists(st.tuples(*[_part] * TERMS, _part), min_size=1, max_size=20),
    other=st.tuples(*[st.floats(0, 3)] * TERMS),
    collinear=st.booleans(),
)
def test_no_other_coefficients_without_negative_ones_are_better(
    rows: list[tuple[float, ...]], other: tuple[float, ...], collinear: bool
):
    samples = [((a, b, 2 * b if collinear else c, c * d, d * e), value, 1.0) for a, b, c, d, e, value in rows]
    pulls = (1e-3,) * TERMS

    def loss(coefficients: tuple[float, ...] | list[float]) -> float:
        misses = (sum(map(mul, coefficients, features)) - value for features, value, _ in samples)
        return sum(miss**2 for miss in misses) + sum(map(mul, pulls, (one**2 for one in coefficients)))

    found = fit(samples, pulls)
    assert loss(found) <= loss(other) * (1 + 1e-6) + 1e-3
    for term in range(TERMS):
        for step in (0.9, 1.1):
            near = [step * one if k == term else one for k, one in enumerate(found)]
            assert loss(found) <= loss(near) * (1 + 1e-6) + 1e-3
