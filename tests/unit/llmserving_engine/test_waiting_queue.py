"""The ordered queue behaves as vLLM's own, and offers chosen requests first."""

import gc
import weakref
from collections import deque
from functools import total_ordering

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmserving_engine.waiting_queue import STALE, OrderedQueue, Ranking


@total_ordering
class Request:
    def __init__(self, name: str, priority: int = 0) -> None:
        self.request_id = name
        self.priority = priority

    def __lt__(self, other: "Request") -> bool:
        return (self.priority, self.request_id) < (other.priority, other.request_id)


def names(queue: OrderedQueue) -> list[str]:
    return [request.request_id for request in queue]


operations = st.lists(st.tuples(st.sampled_from(["add", "pop", "prepend", "remove"]), st.integers(0, 30)), max_size=60)


@given(operations)
def test_it_keeps_the_order_of_a_first_come_first_served_queue(steps):
    queue, model = OrderedQueue([], is_priority=False), deque[Request]()
    pool: dict[int, Request] = {}
    for operation, number in steps:
        request = pool.setdefault(number, Request(str(number)))
        if operation == "pop":
            if model:
                assert queue.pop_request() is model.popleft()
        elif operation == "remove":
            if request in model:
                model.remove(request)
            queue.remove_requests([request])
        elif request not in model:
            getattr(queue, f"{operation}_request")(request)
            model.append(request) if operation == "add" else model.appendleft(request)
        assert names(queue) == [entry.request_id for entry in model]
        assert len(queue) == len(model)
        assert bool(queue) == bool(model)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=40))
def test_by_priority_the_smallest_comes_first(entries):
    queue = OrderedQueue([], is_priority=True)
    requests = [Request(f"{index:03d}", priority) for index, (priority, _) in enumerate(entries)]
    for request, (_, is_prepended) in zip(requests, entries, strict=True):
        (queue.prepend_request if is_prepended else queue.add_request)(request)
    assert names(queue) == [request.request_id for request in sorted(requests)]
    assert [queue.pop_request() for _ in requests] == sorted(requests)
    assert not queue


def test_offered_requests_come_first_and_unknown_ones_are_passed_over():
    queue = OrderedQueue([Request(name) for name in "abcd"], is_priority=False)
    queue.offer(["c", "x", "b"], only=False)
    assert [queue.pop_request().request_id for _ in range(4)] == ["c", "b", "a", "d"]


def test_with_only_listed_nobody_else_is_offered_but_all_are_counted():
    queue = OrderedQueue([Request(name) for name in "abcd"], is_priority=False)
    queue.offer(["d"], only=True)
    assert queue.pop_request().request_id == "d"
    assert not queue
    assert len(queue) == 3
    with pytest.raises(IndexError):
        queue.peek_request()
    queue.withdraw()
    assert queue.peek_request().request_id == "a"


def test_preempted_requests_come_before_the_offered_ones():
    queue = OrderedQueue([Request(name) for name in "ab"], is_priority=False)
    queue.prepend_request(Request("preempted"))
    queue.offer(["b"], only=True)
    assert [queue.pop_request().request_id for _ in range(2)] == ["preempted", "b"]
    assert not queue


def test_by_priority_the_preempted_come_after_the_offered_ones_but_they_come():
    queue = OrderedQueue([Request(name) for name in "abc"], is_priority=True)
    queue.prepend_request(Request("preempted", priority=2))
    queue.prepend_request(Request("another", priority=1))
    queue.offer(["b"], only=True)
    assert [one.request_id for one in queue.offered()] == ["b", "another", "preempted"]
    assert [queue.pop_request().request_id for _ in range(3)] == ["b", "another", "preempted"]
    assert not queue


@given(
    st.booleans(),
    st.booleans(),
    st.lists(st.integers(0, 12), max_size=6),
    st.lists(st.tuples(st.sampled_from(["add", "prepend", "remove", "pop"]), st.integers(0, 12)), max_size=40),
)
def test_what_is_offered_is_what_can_be_taken_in_the_same_order(is_priority, only, first, steps):
    queue = OrderedQueue([], is_priority)
    pool = [Request(f"{number:02d}", priority=number % 3) for number in range(13)]
    for operation, number in steps:
        request = pool[number]
        if operation == "pop":
            if queue:
                queue.pop_request()
        elif operation == "remove" or request not in list(queue):
            getattr(queue, f"{operation}_request")(request)
    queue.offer([f"{number:02d}" for number in first], only)
    offered = list(dict.fromkeys(one.request_id for one in queue.offered()))
    taken = []
    while queue:
        assert queue.peek_request().request_id == offered[len(taken)]
        taken.append(queue.pop_request().request_id)
    assert taken == offered


def test_requests_that_left_are_let_go_though_the_queue_never_chooses_by_itself():
    queue = OrderedQueue([], is_priority=True)
    left = []
    for number in range(2000):
        request = Request(f"{number:04d}", priority=number % 3)
        left.append(weakref.ref(request))
        queue.add_request(request)
        queue.offer([request.request_id], only=True)
        assert queue.pop_request() is request
    del request
    gc.collect()
    assert sum(reference() is not None for reference in left) <= STALE + 2


def test_a_request_that_is_passed_over_again_and_again_is_ranked_once():
    blocked = Request("blocked")
    live = {"blocked": blocked}
    ranking = Ranking(live)
    for _ in range(1000):
        ranking.push(blocked)
    assert len(ranking) == 1
    assert ranking.first() is blocked
