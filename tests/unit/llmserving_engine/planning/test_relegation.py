from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from llmserving_engine.planning.feasible import Job
from llmserving_engine.planning.relegation import CAP, FLOOR, LAST_CAP, Ageing


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
def test_the_share_is_never_below_the_floor_nor_above_the_cap(shapes: list[tuple[float, int]]):
    assert FLOOR <= share([job(*shape) for shape in shapes]) <= LAST_CAP


def test_the_share_grows_as_their_time_runs_out():
    early, late = share([job(-2.5, 8000)]), share([job(-5.0, 8000)])
    assert FLOOR < early < late <= CAP


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
