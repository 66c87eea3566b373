"""The planners we compare with do what their papers say."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmserving_engine.planning.protocol import StepComposition
from llmserving_lab.bench.planners.fair import StepLine
from llmserving_lab.bench.planners.past_future import OutputHistory, peak_tokens


def test_the_peak_comes_before_the_shortest_ends() -> None:
    # A holds 10 and has 5 to go, B holds 20 and has 1 to go: after one step 11 + 21; B leaves; A ends with 15.
    assert peak_tokens([(10, 5), (20, 1)]) == 32


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 30)), min_size=1, max_size=8))
def test_the_peak_equals_a_step_by_step_simulation(requests: list[tuple[int, int]]) -> None:
    peak = 0
    for step in range(32):
        peak = max(peak, sum(now + step for now, remaining in requests if remaining >= step))
    assert peak_tokens(requests) == peak


def test_prediction_is_conditional_on_what_was_produced() -> None:
    history = OutputHistory()
    for tokens in (10, 20, 300, 400):
        history.add(tokens)
    assert history.remaining(0, most=1000) == 20
    assert history.remaining(50, most=1000) == 250
    assert history.remaining(400, most=1000) == 400


def test_old_requests_are_forgotten() -> None:
    history = OutputHistory(size=2)
    for tokens in (5, 100, 100):
        history.add(tokens)
    assert history.remaining(0, most=1000) == 100


def test_the_line_finds_the_tokens_that_fit_a_time() -> None:
    random.seed(1)
    line = StepLine()
    for _ in range(400):
        prefill, decodes = random.randrange(0, 2000), random.randrange(1, 200)
        context = decodes * random.randrange(100, 2000)
        seconds = 0.01 + 4e-5 * prefill + 2e-5 * decodes + 1e-8 * context
        line.add(
            StepComposition(prefill_tokens=prefill, decode_requests=decodes, decode_context_tokens=context), seconds
        )
    expected = (0.05 - 0.01 - 2e-5 * 100 - 1e-8 * 100_000) / 4e-5
    assert line.tokens_within(0.05, 100, 100_000) == pytest.approx(expected, rel=0.01)
