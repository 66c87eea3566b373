from llmserving_engine.planning.admission import FILL, Forecast
from llmserving_engine.planning.lengths import OutputLengths


def lengths_of(tokens: int) -> OutputLengths:
    lengths = OutputLengths()
    for _ in range(500):
        lengths.end(tokens)
    lengths.refresh(())
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
    forecast = Forecast(10_000, [(0, 8000)], lengths_of(100))
    assert not forecast.admits(9000)
    assert forecast.admits(500)
