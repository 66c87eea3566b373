"""A waiting queue that can offer chosen requests first, in constant time for each, however long the queue is.

Stands in for vLLM's ``RequestQueue`` while a planner orders admission. Between two steps it keeps arrival order, or
priority order where the engine runs with ``--scheduling-policy priority``.
"""

import heapq
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

STALE: Final = 64
"""Requests that left which a ranking may hold beyond one for each that is there, before it is cleared of them."""


class Ranking:
    """A heap over the values of a mapping, by priority; a request that left the mapping stays until it surfaces."""

    def __init__(self, live: Mapping[str, Any]) -> None:
        self._live = live
        self._heap: list[Any] = []
        self._held: set[Any] = set()

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, request: Any) -> None:
        """Add a request that the mapping holds."""
        if request not in self._held:
            self._held.add(request)
            heapq.heappush(self._heap, request)

    def first(self) -> Any | None:
        """The first of those that are there."""
        heap = self._heap
        while heap and not self._is_live(heap[0]):
            self._held.remove(heapq.heappop(heap))
        return heap[0] if heap else None

    def tidy(self) -> None:
        """Drop those that left, where they are too many to wait until they surface."""
        if len(self._heap) > 2 * len(self._live) + STALE:
            self._heap = list(self._live.values())
            self._held = set(self._heap)
            heapq.heapify(self._heap)

    def __iter__(self) -> Iterator[Any]:
        heap = self._heap[:]
        while heap:
            request = heapq.heappop(heap)
            if self._is_live(request):
                yield request

    def _is_live(self, request: Any) -> bool:
        return self._live.get(request.request_id) is request


class OrderedQueue:
    """The same operations as vLLM's ``RequestQueue``; see ``offer`` for what it adds."""

    def __init__(self, requests: Iterable[Any], is_priority: bool) -> None:
        self._requests: OrderedDict[str, Any] = OrderedDict()  # a dict would scan the gaps left at its head
        self._front: OrderedDict[str, Any] = OrderedDict()  # put back at the head: last in, first out
        self._ranking = Ranking(self._requests) if is_priority else None
        self._front_ranking = Ranking(self._front)
        self._lead: list[str] = []  # reversed: the next one is last
        self._only_lead = False
        for request in requests:
            self.add_request(request)

    def offer(self, first: Iterable[str], only: bool) -> None:
        """For this step: these before all others, in this order; with ``only`` no other but those put back.

        Those put back come before these, or after these where priority decides.
        """
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
        if self._ranking is not None:
            self._ranking.push(request)

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
        self.add_request(request)
        self._front.pop(request_id, None)
        self._front[request_id] = request
        if self._ranking is not None:
            self._front_ranking.push(request)

    def prepend_requests(self, requests: Iterable[Any]) -> None:
        """Put back at the head, one after the other, so the last one comes first."""
        for request in requests:
            self.prepend_request(request)

    def remove_request(self, request: Any) -> None:
        """Remove from anywhere."""
        request_id = request.request_id
        self._requests.pop(request_id, None)
        self._front.pop(request_id, None)
        if self._ranking is not None:
            self._ranking.tidy()
            self._front_ranking.tidy()

    def remove_requests(self, requests: Iterable[Any]) -> None:
        """Remove from anywhere; unknown ones are passed over."""
        for request in requests:
            self.remove_request(request)

    def __bool__(self) -> bool:
        return self._next() is not None

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[Any]:
        if self._ranking is not None:
            return iter(sorted(self._requests.values()))
        front = reversed(self._front.values())
        others = (request for request_id, request in self._requests.items() if request_id not in self._front)
        return iter([*front, *others])

    def offered(self) -> Iterator[Any]:
        """Those that the step may take, in its order; some may come twice. No more are looked at than are asked for."""
        requests, ranking = self._requests, self._ranking
        if ranking is None:
            yield from reversed(self._front.values())
        for request_id in reversed(self._lead):
            if request_id in requests:
                yield requests[request_id]
        if not self._only_lead:
            yield from self.everyone()
        elif ranking is not None:
            yield from self._front_ranking

    def everyone(self) -> Iterator[Any]:
        """All that wait, in the queue's own order; some may come twice. No more are looked at than are asked for."""
        if self._ranking is not None:
            yield from self._ranking
            return
        yield from reversed(self._front.values())
        yield from self._requests.values()

    def _next(self) -> Any | None:
        requests, ranking = self._requests, self._ranking
        if self._front and ranking is None:
            return next(reversed(self._front.values()))
        while self._lead:
            request = requests.get(self._lead[-1])
            if request is not None:
                return request
            self._lead.pop()
        if ranking is not None:
            return self._front_ranking.first() if self._only_lead else ranking.first()
        return None if self._only_lead or not requests else next(iter(requests.values()))
