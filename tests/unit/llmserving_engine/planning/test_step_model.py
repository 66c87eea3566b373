import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmserving_engine.planning.step_model import BENDS, CELLS, StepModel, Trim, cell_of

COEFFICIENTS = (10e-3, 2e-6, 10e-6, 20e-6, 50e-6, 1e-7, 2e-9, 80e-6, 1e-8, 1e-6)


def test_a_step_is_the_sum_of_what_its_parts_cost():
    model = StepModel(COEFFICIENTS)
    tokens = 500 + 64
    expected = (
        10e-3
        + 2e-6 * tokens
        + 10e-6 * (tokens - BENDS[0])
        + 20e-6 * (tokens - BENDS[1])
        + 50e-6 * 64
        + 1e-7 * 64_000
        + 2e-9 * 125_000
        + 80e-6 * 64
        + 1e-8 * 64_000
        + 1e-6 * 250
    )
    assert model.seconds(500, 125_000, 64, 64_000) == pytest.approx(expected)


def test_what_mixing_costs_is_left_out_of_steps_of_one_kind():
    model = StepModel(COEFFICIENTS)
    apart = model.seconds(64, 2048, 0, 0) + model.seconds(0, 0, 64, 64_000)
    plain = StepModel((*COEFFICIENTS[:7], 0.0, 0.0, COEFFICIENTS[9]))
    assert apart == pytest.approx(plain.seconds(64, 2048, 0, 0) + plain.seconds(0, 0, 64, 64_000))
    assert model.seconds(64, 2048, 64, 64_000) > plain.seconds(64, 2048, 64, 64_000)


def test_residuals_are_added_by_kind_and_size():
    rows = ((), (0.0,) * 3 + (5e-3,) + (0.0,) * (CELLS - 4), ())
    model, plain = StepModel(COEFFICIENTS, rows), StepModel(COEFFICIENTS)
    assert model.seconds(100, 5000, 0, 0) == pytest.approx(plain.seconds(100, 5000, 0, 0) + 5e-3)
    assert model.seconds(0, 0, 100, 5000) == plain.seconds(0, 0, 100, 5000)


def test_the_number_of_coefficients_is_checked():
    with pytest.raises(ValueError, match="10 needed"):
        StepModel((1.0, 2.0))


@given(st.integers(0, 200_000))
def test_cells_grow_with_the_step_and_stay_within_the_table(tokens: int):
    assert 0 <= cell_of(tokens) <= cell_of(tokens + 1) < CELLS


def test_the_trim_follows_a_slower_device_within_steps_and_a_faster_one_slowly():
    trim = Trim(StepModel(COEFFICIENTS))
    truth = 1.3 * trim.seconds(0, 0, 32, 32_000)
    for _ in range(10):
        trim.observe(0, 0, 32, 32_000, truth)
    assert trim.seconds(0, 0, 32, 32_000) > 0.95 * truth
    fast = truth / 1.3
    for _ in range(10):
        trim.observe(0, 0, 32, 32_000, fast)
    assert trim.seconds(0, 0, 32, 32_000) > 1.05 * fast


def test_steps_of_one_kind_in_a_row_that_are_too_slow_raise_all_kinds():
    trim = Trim(StepModel(COEFFICIENTS))
    before = trim.seconds(256, 32_768, 0, 0)
    slow = 1.5 * trim.seconds(0, 0, 32, 32_000)
    for _ in range(4):
        trim.observe(0, 0, 32, 32_000, slow)
    assert 1.3 * before < trim.seconds(256, 32_768, 0, 0) <= 1.5 * before


def test_a_single_slow_step_is_an_outlier():
    trim = Trim(StepModel(COEFFICIENTS))
    before, usual = trim.seconds(256, 32_768, 0, 0), trim.seconds(0, 0, 32, 32_000)
    trim.observe(0, 0, 32, 32_000, 5 * usual)
    trim.observe(0, 0, 32, 32_000, usual)
    assert trim.seconds(256, 32_768, 0, 0) == before
    assert trim.seconds(0, 0, 32, 32_000) < 1.25 * usual


def test_quick_steps_of_one_kind_leave_the_others_alone():
    trim = Trim(StepModel(COEFFICIENTS))
    before = trim.seconds(256, 32_768, 0, 0)
    for _ in range(50):
        trim.observe(0, 0, 32, 32_000, 0.005)
    assert trim.seconds(256, 32_768, 0, 0) == before
