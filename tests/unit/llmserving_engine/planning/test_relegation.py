from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from llmserving_engine.planning.job import Job
from llmserving_engine.planning.relegation import FLOOR, START, WAIT, Ageing


@dataclass
class Request:
    request_id: str = ""
    num_computed_tokens: int = 0
    relegated: bool = False


def job(arrival: float, tokens: int) -> Job:
    request = Request()
    return Job(request, 0, arrival, tokens, request)


def share(missed: list[Job], now: float = 0.0, rate: float = 10_000.0, ttft: float = 2.0) -> float:
    ageing = Ageing()
    ageing.update(missed, sum(one.tokens for one in missed), now, rate, ttft)
    return ageing.share


@given(st.lists(st.tuples(st.floats(-100, 0), st.integers(1, 100_000)), max_size=20))
def test_the_share_is_never_below_the_floor_nor_above_all_there_is(shapes: list[tuple[float, int]]) -> None:
    assert FLOOR <= share([job(*shape) for shape in shapes]) <= 1.0


def test_they_wait_for_a_lull_until_time_runs_out_and_then_get_what_it_takes():
    ttft, rate, tokens = 2.0, 10_000.0, 40_000
    last_moment = WAIT * ttft - tokens / rate  # from then on not even all of the rate would do
    assert share([job(0.0, tokens)], now=last_moment - 10.0) == FLOOR
    assert START <= share([job(0.0, tokens)], now=last_moment - 1.0) < 1.0
    assert share([job(0.0, tokens)], now=last_moment + 1.0) == 1.0


def test_a_backlog_that_no_share_can_end_gets_the_floor():
    assert share([job(-20.0, 10_000) for _ in range(100)]) == FLOOR


def test_over_time_they_get_their_share_of_the_tokens():
    ageing = Ageing(share=0.2)
    theirs = others = 0
    for _ in range(1000):
        if ageing.is_due:
            theirs += 300
            ageing.served(True, 300)
        else:
            others += 300
            ageing.served(False, 300)
    assert 0.18 < theirs / (theirs + others) < 0.22


def test_what_a_lull_served_them_is_not_held_against_them():
    ageing = Ageing()
    ageing.served(True, 500_000)
    others = 0
    while not ageing.is_due and others < 1_000_000:
        ageing.served(False, 500)
        others += 500
    assert others < 200_000
