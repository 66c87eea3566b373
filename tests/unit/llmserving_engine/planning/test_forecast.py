import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmserving_engine.planning.forecast import Coming, Forecast
from llmserving_engine.planning.lengths import OutputLengths


def lengths_of(*tokens: int) -> OutputLengths:
    lengths = OutputLengths()
    for _ in range(500):
        for one in tokens:
            lengths.end(one)
    lengths.refresh()
    return lengths


def room(groups: list[tuple[int, int, int]], lengths: OutputLengths, most: int, coming: Coming | None = None) -> float:
    return Forecast(groups, lengths).room(most, coming)


def test_where_nobody_is_there_is_room_for_all():
    assert room([], lengths_of(200), 100_000) == 100_000


def test_requests_are_counted_with_what_they_will_hold():
    left = room([(0, 80, 80_000)], lengths_of(200), 100_000)
    assert 100_000 - 80 * 1250 < left < 100_000 - 80 * 1080


def test_longer_outputs_leave_less_room():
    groups = [(0, 20, 20_000)]
    assert room(groups, lengths_of(1000), 50_000) < room(groups, lengths_of(50), 50_000) - 5000


def test_those_about_to_end_leave_more_room_than_those_that_just_began():
    lengths = lengths_of(1000)
    assert room([(900, 10, 20_000)], lengths, 30_000) > room([(8, 10, 20_000)], lengths, 30_000) + 2000


def test_the_fewer_requests_the_more_room_is_kept_for_what_is_not_expected():
    lengths = lengths_of(20, 3800)
    kept = []
    for count in (4, 400):
        forecast = Forecast([(0, count, 10 * count)], lengths)
        expected = max(forecast._held)
        kept.append((10**6 - expected - forecast.room(10**6)) / expected)
    few, many = kept
    assert few > 0.1
    assert many < few / 4


@given(
    running=st.lists(st.tuples(st.integers(0, 1500), st.integers(1, 3000)), max_size=40),
    rate=st.floats(0.0, 0.1),
)
def test_besides_those_who_come_there_is_never_more_room(running: list[tuple[int, int]], rate: float):
    lengths = lengths_of(100, 900)
    groups = [(done, 1, size) for done, size in running]
    alone = room(groups, lengths, 60_000)
    assert room(groups, lengths, 60_000, Coming(rate, 500.0)) <= alone
    assert room(groups, lengths, 60_000, Coming()) == alone


def test_there_is_no_room_besides_more_than_will_ever_fit():
    lengths = lengths_of(1000)
    assert (
        room([(0, 1, 500)], lengths, 50_000, Coming(0.01, 500.0)) > 20_000
    )  # ten under way, of some 1,000 tokens each
    assert room([(0, 1, 500)], lengths, 50_000, Coming(0.06, 500.0)) < 0


@pytest.mark.parametrize("seed", range(3))
def test_requests_let_in_by_it_hardly_ever_need_more_than_there_is(seed: int):
    rng = random.Random(seed)
    lengths = OutputLengths()
    for _ in range(3000):
        lengths.end(int(rng.expovariate(1 / 200)))
    lengths.refresh()
    capacity, running, over, used = 50_000, [], 0, 0
    for _ in range(6000):
        running = [(prompt, made + 1, until) for prompt, made, until in running if made + 1 < until]
        left = room([(made, 1, prompt + made) for prompt, made, _ in running], lengths, capacity)
        while (prompt := rng.randint(100, 1900)) + lengths.growth < left:
            left -= prompt + lengths.growth
            running.append((prompt, 0, 1 + int(rng.expovariate(1 / 200))))
        held = sum(prompt + made for prompt, made, _ in running)
        over += held > capacity
        used += held
    assert over < 0.01 * 6000
    assert used > 0.85 * 6000 * capacity
