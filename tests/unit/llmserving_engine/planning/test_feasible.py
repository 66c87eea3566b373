from dataclasses import dataclass
from itertools import combinations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmserving_engine.planning.fairness import LongPrompts
from llmserving_engine.planning.feasible import JUDGED_PER_STEP, SORTED_ON_DEVICE, SORTED_PER_STEP, Ordering
from llmserving_engine.planning.job import Job, Standing


@dataclass
class Request:
    request_id: str = ""
    num_computed_tokens: int = 0
    relegated: bool = False


def job(arrival: float, tokens: int, rank: int = 0, **more: bool) -> Job:
    request = Request()
    return Job(request, rank, arrival, tokens, request, **more)


def order_of(jobs: list[Job], now: float = 0.0, rate: float = 1000.0, target: float = 2.0) -> Ordering:
    order = Ordering()
    for one in jobs:
        order.add(one)
    order.refresh(now, rate, target)
    return order


def most_in_time(jobs: list[Job], now: float, rate: float) -> int:
    """By trying all subsets."""
    for size in range(len(jobs), 0, -1):
        for chosen in combinations(sorted(jobs, key=lambda one: one.deadline), size):
            time = now
            for one in chosen:
                time += one.tokens / rate
                if time > one.deadline:
                    break
            else:
                return size
    return 0


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(-1950, 0), st.integers(1, 3000)), min_size=1, max_size=8))
@example([(-1024, 2), (-512, 1032), (-128, 852), (-72, 90)])  # the last is in time to the token
def test_as_many_as_possible_make_their_deadline(shapes: list[tuple[int, int]]):
    rate = 1024.0  # times are multiples of what a token takes, so that sums are exact in whatever order
    jobs = [job(arrival / rate, tokens) for arrival, tokens in shapes]
    order = order_of(jobs, rate=rate)
    assert len(order.accepted) == most_in_time(jobs, 0.0, rate)
    time = 0.0
    for one in order.accepted:
        time += one.tokens / rate
        assert time <= one.deadline


@given(st.lists(st.tuples(st.floats(-9.0, 0.0), st.integers(1, 3000)), max_size=3 * SORTED_PER_STEP))
def test_nobody_is_lost_whatever_happens_to_the_order(shapes: list[tuple[float, int]]):
    jobs = [job(arrival, tokens) for arrival, tokens in shapes]
    order = order_of(jobs)
    order.refresh(1.0, 500.0, 2.0)
    assert {id(one) for one in order} == {id(one) for one in jobs}
    assert len(order) == len(jobs)
    for one in list(order):
        order.discard(one)
    assert len(order) == 0
    assert not list(order)


def test_an_edited_target_holds_for_those_who_wait_already():
    jobs = [job(-0.3 * k, 10) for k in range(20)]
    order = order_of(jobs, target=1e9)
    assert len(order.accepted) == 20
    order.refresh(0.0, 1000.0, 2.0)
    order.refresh(0.0, 1000.0, 2.0)
    assert {id(one) for one in order.accepted} == {id(one) for one in jobs if one.arrival > -2.0}
    assert [one.arrival for one in order.missed(20)] == sorted(one.arrival for one in jobs if one.arrival <= -2.0)
    assert order.missed_tokens == 10 * order.missed_count
    order.refresh(0.0, 1000.0, 60.0)
    assert {id(one) for one in order.accepted} == {id(one) for one in jobs}
    assert not order.missed_count
    assert not order.missed_tokens


def test_one_given_up_is_judged_anew_under_an_edited_target():
    only = job(-1.0, 900)
    order = order_of([only], rate=500.0)
    assert order.late(3) == [only]
    order.refresh(0.0, 500.0, 4.0)
    order.refresh(0.0, 500.0, 4.0)
    assert order.accepted == [only]
    order.refresh(1.5, 500.0, 4.0)
    assert order.late(3) == [only]
    order.refresh(2.9, 500.0, 4.0)
    assert not order.missed_count  # not by the deadline that it had before
    order.refresh(3.1, 500.0, 4.0)
    assert order.missed(3) == [only]


@given(
    st.lists(st.tuples(st.floats(-9.0, 0.0), st.integers(1, 3000)), max_size=80),
    st.lists(st.sampled_from([0.5, 2.0, 2.02, 8.0, 1e9]), max_size=6),
)
def test_nobody_is_lost_whatever_becomes_of_the_target(shapes: list[tuple[float, int]], targets: list[float]):
    jobs = [job(arrival, tokens) for arrival, tokens in shapes]
    order = order_of(jobs)
    for step, target in enumerate(targets):
        order.refresh(0.1 * step, 5000.0, target)
        assert sorted(map(id, order)) == sorted(map(id, jobs))
        assert order.accepted == sorted(order.accepted, key=lambda one: (one.rank, one.deadline))
        assert order.missed_tokens == sum(one.tokens for one in jobs if one.standing is Standing.MISSED)


def test_the_longest_is_given_up_for_the_others_and_it_is_noted():
    long, *short = jobs = [job(-1.0, 900), job(-0.9, 500), job(-0.8, 500)]
    order = order_of(jobs)
    assert order.accepted == short
    assert order.late(5) == [long]
    assert long.track.relegated
    assert not any(one.track.relegated for one in short)


def test_work_done_already_does_not_count():
    jobs = [job(-1.0, 900), job(-0.9, 500)]
    jobs[0].request.num_computed_tokens = 700
    jobs[0].left = jobs[0].work  # as in each step
    assert order_of(jobs).accepted == jobs


def test_a_given_up_request_counts_as_missed_once_its_deadline_has_passed():
    jobs = [job(-1.0, 900), job(-0.9, 500), job(-0.8, 500)]
    order = order_of(jobs)
    order.refresh(1.01, 1000.0, 2.0)
    assert jobs[0] in order.missed(3)
    assert jobs[0] not in order.late(3)
    assert order.missed_tokens >= 900


def test_missed_ones_come_oldest_first_and_late_ones_shortest_first():
    old, older = job(-5.0, 10), job(-6.0, 10)
    assert order_of([old, older]).missed(2) == [older, old]
    jobs = [job(-0.1 * k, 1500 + k) for k in range(5)]
    late = order_of(jobs).late(5)
    assert [one.tokens for one in late] == sorted(one.tokens for one in late)


def test_priority_goes_before_deadlines():
    urgent, early = job(0.0, 10, rank=-1), job(-1.0, 10)
    assert order_of([early, urgent]).accepted == [urgent, early]


def test_nobody_is_given_up_for_one_of_a_lower_rank():
    urgent, small = job(-1.0, 900, rank=0), job(-1.0, 500, rank=2)
    order = order_of([small, urgent])
    assert order.accepted == [urgent]
    assert order.late(2) == [small]


def test_those_without_a_deadline_are_neither_in_time_nor_late_and_come_oldest_first():
    young, old, urgent = (job(-arrival, 900, rank=rank, hurried=False) for arrival, rank in ((50, 1), (60, 1), (1, -1)))
    order = order_of([young, old, urgent])
    assert (order.accepted, order.late_count, order.missed_count) == ([], 0, 0)
    assert order.unhurried(3) == [urgent, old, young]
    assert not any(one.track.relegated for one in (young, old, urgent))
    order.discard(old)
    assert order.unhurried(3) == [urgent, young]
    assert len(order) == 2


def test_a_preempted_request_that_had_its_first_token_goes_before_all():
    resumed = job(-100.0, 800, resumed=True)
    order = order_of([job(-1.0, 10), resumed])
    assert order.resumed == [resumed]
    order.discard(resumed)
    assert order.resumed == []


def test_a_burst_is_sorted_in_over_several_steps():
    order = order_of([job(0.0, 1) for _ in range(3 * SORTED_PER_STEP)])
    assert len(order.accepted) == SORTED_PER_STEP
    order.refresh(0.01, 1000.0, 2.0)
    assert len(order.accepted) == 2 * SORTED_PER_STEP


def test_catching_up_is_as_so_many_refreshes():
    def burst() -> Ordering:
        order = order_of([])
        for k in range(5 * SORTED_PER_STEP):
            order.add(job(-0.001 * k, 100 + k))
        return order

    at_once, step_by_step = burst(), burst()
    at_once.catch_up(0.0, 10_000.0, 2.0)
    for _ in range(SORTED_ON_DEVICE // SORTED_PER_STEP):
        step_by_step.refresh(0.0, 10_000.0, 2.0)
    for order in (at_once, step_by_step):
        assert order.late_count > 0
        order.refresh(0.0, 10_000.0, 2.0, 0)
    assert [one.tokens for one in at_once] == [one.tokens for one in step_by_step]
    assert len(at_once) == 5 * SORTED_PER_STEP


def test_deadlines_that_pass_at_once_are_noted_over_several_steps():
    order = order_of([job(-1.99, 3000) for _ in range(SORTED_PER_STEP)])
    for _ in range(3):
        for _ in range(SORTED_PER_STEP):
            order.add(job(-1.99, 3000))
        order.refresh(0.0, 1000.0, 2.0)
    assert order.late_count == 4 * SORTED_PER_STEP
    order.refresh(0.02, 1000.0, 2.0)
    assert order.missed_count == SORTED_PER_STEP
    order.refresh(0.03, 1000.0, 2.0)
    assert (order.late_count, order.missed_count) == (2 * SORTED_PER_STEP, 2 * SORTED_PER_STEP)


def test_where_very_many_are_in_time_those_far_behind_are_judged_when_they_come_near():
    order = order_of([job(0.0, 10) for _ in range(2 * JUDGED_PER_STEP)] + [job(0.1, 5000)])
    for _ in range(2 * JUDGED_PER_STEP // SORTED_PER_STEP):
        order.refresh(0.0, 1000.0, 2.0)
    assert order.late_count == 0
    for one in order.accepted[:JUDGED_PER_STEP]:
        order.discard(one)
    order.refresh(0.0, 1000.0, 2.0)
    assert order.late_count == 0
    for one in order.accepted[:JUDGED_PER_STEP]:
        order.discard(one)
    order.refresh(0.0, 1000.0, 2.0)
    assert [one.tokens for one in order.late(2)] == [5000]


def given_up_of_the_longest(long_share: float) -> float:
    """A tenth of the prompts is long; a fifth more work comes than can be done."""
    order = Ordering(long_prompts=LongPrompts(share=long_share))
    long: list[Job] = []
    budget = 0.0
    for k in range(3000):
        now = 0.01 * k
        one = job(now, 4000 if k % 10 == 0 else 800)
        long += [one] * (k % 10 == 0)
        order.add(one)
        budget += 0.01 * 93_000
        order.refresh(now, 93_000.0, 2.0)
        while order.accepted and budget >= order.accepted[0].tokens:
            budget -= order.accepted[0].tokens
            order.discard(order.accepted[0])
    settled = long[len(long) // 2 :]
    return sum(one.track.relegated for one in settled) / len(settled)


def test_the_longest_prompts_do_not_bear_all_of_an_overload():
    assert given_up_of_the_longest(0.12) < 0.75 * given_up_of_the_longest(1.0)


def test_a_job_that_left_never_comes_back():
    one = job(-5.0, 10)
    order = order_of([one])
    order.discard(one)
    assert order.missed(1) == []
    assert one.standing is Standing.GONE
    assert order.missed_tokens == pytest.approx(0)


def test_those_that_moved_on_do_not_pile_up():
    order = Ordering()
    for k in range(5000):
        order.add(job(0.01 * k, 2000))
        order.refresh(0.01 * k, 10_000.0, 2.0)
        for one in [*order.accepted[:1], *order.missed(3)]:
            order.discard(one)
    assert len(order._late) < 1500
    assert len(order._missed) < 1500
