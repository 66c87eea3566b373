"""A waiting queue that can offer chosen requests first, in constant time for each, however long the queue is.

Stands in for vLLM's ``RequestQueue`` while a planner orders admission. Between two steps it keeps arrival order, or
priority order where the engine runs with ``--scheduling-policy priority``.
"""

import heapq
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any


class OrderedQueue:
    """The same operations as vLLM's ``RequestQueue``; see ``offer`` for what it adds."""

    def __init__(self, requests: Iterable[Any], is_priority: bool) -> None:
        self._by_priority = is_priority
        self._requests: OrderedDict[str, Any] = OrderedDict()  # a dict would scan the gaps left at its head
        self._front: OrderedDict[str, None] = OrderedDict()  # put back at the head: last in, first out
        self._heap: list[Any] = []
        self._lead: list[str] = []  # reversed: the next one is last
        self._only_lead = False
        for request in requests:
            self.add_request(request)

    def offer(self, first: Iterable[str], only: bool) -> None:
        """For this step: these before all others, in this order; with ``only`` no other but those put back."""
        self._lead = [request_id for request_id in first if request_id in self._requests]
        self._lead.reverse()
        self._only_lead = only

    def withdraw(self) -> None:
        """The step is over: back to the queue's own order."""
        self._lead = []
        self._only_lead = False

    def add_request(self, request: Any) -> None:
        """Add at the end, or by priority."""
        self._requests[request.request_id] = request
        if self._by_priority:
            heapq.heappush(self._heap, request)

    def peek_request(self) -> Any:
        """The next request. Raises IndexError when none is offered."""
        request = self._next()
        if request is None:
            raise IndexError("peek from an empty queue")
        return request

    def pop_request(self) -> Any:
        """Take the next request. Raises IndexError when none is offered."""
        request = self._next()
        if request is None:
            raise IndexError("pop from an empty queue")
        self.remove_request(request)
        return request

    def prepend_request(self, request: Any) -> None:
        """Put back at the head (by priority: in its place)."""
        request_id = request.request_id
        self._requests[request_id] = request
        if self._by_priority:
            heapq.heappush(self._heap, request)
        else:
            self._front.pop(request_id, None)
            self._front[request_id] = None

    def prepend_requests(self, requests: Iterable[Any]) -> None:
        """Put back at the head, one after the other, so the last one comes first."""
        for request in requests:
            self.prepend_request(request)

    def remove_request(self, request: Any) -> None:
        """Remove from anywhere; its entry in the heap goes when it surfaces."""
        request_id = request.request_id
        self._requests.pop(request_id, None)
        self._front.pop(request_id, None)

    def remove_requests(self, requests: Iterable[Any]) -> None:
        """Remove from anywhere; unknown ones are passed over."""
        for request in requests:
            self.remove_request(request)

    def __bool__(self) -> bool:
        return self._next() is not None

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[Any]:
        if self._by_priority:
            return iter(sorted(self._requests.values()))
        front = reversed(self._front)
        others = (request_id for request_id in self._requests if request_id not in self._front)
        return iter([self._requests[request_id] for ids in (front, others) for request_id in ids])

    def _next(self) -> Any | None:
        requests = self._requests
        if self._front:
            return requests[next(reversed(self._front))]
        while self._lead:
            request = requests.get(self._lead[-1])
            if request is not None:
                return request
            self._lead.pop()
        if self._only_lead or not requests:
            return None
        return self._first_by_priority() if self._by_priority else next(iter(requests.values()))

    def _first_by_priority(self) -> Any:
        while True:
            request = self._heap[0]
            if self._requests.get(request.request_id) is request:
                return request
            heapq.heappop(self._heap)
