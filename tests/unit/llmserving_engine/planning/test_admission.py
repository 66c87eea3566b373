from hypothesis import given
from hypothesis import strategies as st

from llmserving_engine.planning.admission import FILL, Forecast
from llmserving_engine.planning.lengths import OutputLengths


def lengths_of(tokens: int) -> OutputLengths:
    lengths = OutputLengths()
    for _ in range(500):
        lengths.end(tokens)
    lengths.refresh()
    return lengths


def admitted(capacity: int, prompt: int, output: int, most: int = 1000) -> int:
    forecast = Forecast(capacity, [], lengths_of(output))
    count = 0
    while count < most and forecast.admits(prompt):
        count += 1
    return count


def test_requests_are_let_in_up_to_the_predicted_peak():
    count = admitted(100_000, 1000, 200)
    assert 0.8 * FILL * 100_000 / 1200 < count <= FILL * 100_000 / 1000


def test_longer_outputs_let_fewer_in():
    assert admitted(50_000, 500, 1000) < admitted(50_000, 500, 50)


def test_a_request_that_was_refused_does_not_count():
    forecast = Forecast(10_000, [(0, 1, 8000)], lengths_of(100))
    assert not forecast.admits(9000)
    assert forecast.admits(500)


@given(
    st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 3000)), max_size=60),
    st.integers(1, 3000),
    st.integers(10_000, 120_000),
)
def test_the_peak_is_the_largest_of_all_moments_just_before_an_end(
    running: list[tuple[int, int]], prompt: int, capacity: int
) -> None:
    lengths = lengths_of(300)
    lives = sorted([(lengths.remaining(done), size) for done, size in [*running, (0, prompt)]], reverse=True)
    peak = max(
        sum(size for _, size in lives[:count]) + count * lives[count - 1][0] for count in range(1, len(lives) + 1)
    )
    assert Forecast(capacity, [(done, 1, size) for done, size in running], lengths).admits(prompt) == (
        peak <= FILL * capacity
    )
