from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from llmserving_engine.planning.line import SPARE, STALE, Line

HERE, GONE = object(), object()


@dataclass(eq=False)
class Job:
    key: int
    standing: object = HERE


@given(st.lists(st.tuples(st.sampled_from(["push", "leave", "front", "tidy"]), st.integers(0, 300)), max_size=200))
def test_the_front_is_always_that_of_the_sorted_line(moves: list[tuple[str, int]]) -> None:
    line = Line(HERE)
    jobs: list[Job] = []
    for serial, (move, number) in enumerate(moves):
        if move == "push":
            jobs.append(Job(number))
            line.push((number, serial, jobs[-1]))
            line.count += 1
        elif move == "leave" and jobs:
            jobs.pop(number % len(jobs)).standing = GONE
            line.count -= 1
        elif move == "tidy":
            line.tidy()
        jobs.sort(key=lambda job: job.key)
        most = number % 12
        assert [job.key for job in line.front(most)] == [job.key for job in jobs[:most]]
    assert {id(job) for job in line.front(len(line))} == {id(job) for job in jobs}


def test_those_that_left_do_not_pile_up_and_what_is_kept_in_order_is_short() -> None:
    line = Line(HERE)
    for serial in range(5000):
        job = Job(5000 - serial)
        line.push((job.key, serial, job))
        job.standing = GONE
        line.front(1)
        line.tidy()
    assert len(line) <= STALE + SPARE + 1
    for serial in range(5000):
        line.push((5000 - serial, serial, Job(0)))
        line.count += 1
        line.front(8)
        assert len(line._near) <= 8 + SPARE
