"""A fast twin of vLLM's first-come-first-served scheduler with static bounds: for pruning the static grid, never for figures.

It keeps what decides about latency: running requests before waiting ones, one token per decode, chunks of prompts with what is
left of the budget, the cap on sequences, KV that runs out and costs the last admitted request its place, and with asynchronous
scheduling a step decided before the one before it has ended. All decodes move together, so a step costs no work per request.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

import numpy as np

from llmserving_lab.bench.capacity import queue_grows
from llmserving_lab.bench.outcome import LONGEST_GAP_FACTOR, Targets
from llmserving_lab.device.model import DeviceModel, StepBatch
from llmserving_lab.traces.arrival import Arrival


@dataclass(slots=True, eq=False)
class _Request:
    """A request in the twin; `spans` are the first and last step of each stretch of decoding without a break."""

    arrival: float
    prompt: int
    left: int
    computed: int = 0
    needed: int = 0
    base: int = 0
    spans: list[tuple[int, int]] = field(default_factory=list)
    life: int = 0
    """Counts admissions: what is noted for an earlier one does not hold after a preemption."""


@dataclass(frozen=True, slots=True)
class TwinResult:
    """What a run in the twin says.

    Attributes:
        counted: Requests that count.
        good: Good ones among them.
        waiting_growth: Whether the queue grew.
        finished: When each request's last token came, in order.
    """

    counted: int
    good: int
    waiting_growth: bool
    finished: tuple[float, ...]


def run_twin(
    arrivals: Sequence[Arrival],
    device: DeviceModel,
    targets: Targets,
    *,
    max_num_seqs: int,
    max_num_batched_tokens: int,
    kv_tokens: int,
    warmup: float = 0.1,
) -> TwinResult:
    """Run a load under static bounds and count good requests, the first share of them (`warmup`) left out."""
    twin = _Twin(arrivals, device, max_num_seqs, max_num_batched_tokens, kv_tokens)
    twin.run()
    first = int(len(arrivals) * warmup)
    counted = twin.requests[first:]
    ends = np.array(twin.ends)
    good = sum(_is_good(request, ends, targets) for request in counted)
    finished = tuple(sorted(twin.ends[request.spans[-1][1]] for request in twin.requests))
    return TwinResult(len(counted), good, twin.growing(), finished)


def _is_good(request: _Request, ends: np.ndarray[tuple[int], np.dtype[np.float64]], targets: Targets) -> bool:
    times = np.concatenate([ends[first : last + 1] for first, last in request.spans])
    if targets.ttft is not None and times[0] - request.arrival > targets.ttft:
        return False
    if targets.itl is None or len(times) == 1:
        return True
    gaps = np.diff(times)
    rank = max(0, int(np.ceil(targets.percentile / 100 * len(gaps))) - 1)
    return bool(gaps.max() <= LONGEST_GAP_FACTOR * targets.itl and np.partition(gaps, rank)[rank] <= targets.itl)


class _Twin:
    """State of one run."""

    def __init__(
        self, arrivals: Sequence[Arrival], device: DeviceModel, seqs: int, tokens: int, kv_tokens: int
    ) -> None:
        self.requests = [_Request(one.time, one.prompt_tokens, one.output_tokens) for one in arrivals]
        self.ends: list[float] = []
        self._times = [one.time for one in arrivals]
        self._device = device
        self._seqs, self._tokens, self._kv = seqs, tokens, kv_tokens
        self._waiting: deque[_Request] = deque()
        self._arrived = 0
        self._partial: _Request | None = None
        self._order: list[_Request] = []
        self._decodes = 0
        self._context = 0
        self._held = 0
        self._longest: list[tuple[int, int, _Request, int]] = []
        self._ending: dict[int, list[tuple[_Request, int]]] = {}
        self._backlog: list[tuple[float, int]] = []

    def run(self) -> None:
        """Run until everything is served."""
        ahead = 1 if self._device.asynchronous else 0
        step, free = 0, 0.0
        while True:
            seen = self.ends[step - 1 - ahead] if step > ahead else 0.0
            if not (self._decodes or self._partial or self._waiting):
                if self._arrived == len(self.requests):
                    return
                seen = max(seen, self._times[self._arrived], free)
            self._arrive(seen)
            batch = self._compose(step)
            if not batch.tokens:
                self._finish(step - 1)  # nothing to decide before the step under way has ended
                if self._waiting or self._arrived < len(self.requests):
                    free = max(free, self._times[self._arrived] if self._arrived < len(self.requests) else free)
                    self._arrive(free)
                    if self._idle_forever():
                        return
                    continue
                return
            start = max(free, seen)
            free = start + self._device.step_seconds(batch, now=start).seconds
            self.ends.append(free)
            self._finish(step - ahead)
            step += 1
            if step % 50 == 0:
                self._backlog.append((free, len(self._waiting)))

    def growing(self) -> bool:
        """Whether the queue grew over the last third of the arrivals."""
        last = self._times[-1]
        thirds: list[list[int]] = [[], [], []]
        for at, waiting in self._backlog:
            if at <= last:
                thirds[min(2, int(3 * at / last))].append(waiting)
        if not thirds[1] or not thirds[2]:
            return False
        middle, end = (sum(part) / len(part) for part in thirds[1:])
        return queue_grows(middle, end, len(self.requests))

    def _idle_forever(self) -> bool:
        return not (self._decodes or self._partial) and bool(self._waiting) and self._waiting[0].prompt >= self._kv

    def _arrive(self, until: float) -> None:
        count = bisect_right(self._times, until)
        self._waiting.extend(self.requests[self._arrived : count])
        self._arrived = max(self._arrived, count)

    def _compose(self, step: int) -> StepBatch:
        while self._held + self._decodes > self._kv and len(self._order) > 1:
            self._preempt(step)
        decodes, context = self._decodes, self._context + self._decodes
        self._context, self._held = context, self._held + decodes
        longest = 0
        while self._longest:
            negative, _, request, life = self._longest[0]
            if request.life == life and request.base:
                longest = step - negative
                break
            heappop(self._longest)
        budget = self._tokens - decodes
        prefill: list[tuple[int, int]] = []
        sampled = decodes
        if self._partial is not None and budget > 0:
            budget, done = self._chunk(self._partial, budget, prefill, step)
            sampled += done
            if done:
                self._partial = None
        while budget > 0 and self._partial is None and self._waiting and len(self._order) < self._seqs:
            request = self._waiting[0]
            if self._held + request.prompt > self._kv:
                break
            self._waiting.popleft()
            self._order.append(request)
            request.needed, request.computed = request.prompt, 0
            request.life += 1
            budget, done = self._chunk(request, budget, prefill, step)
            sampled += done
            if not done:
                self._partial = request
        return StepBatch(tuple(prefill), decodes, context, min(longest, context), sampled)

    def _chunk(self, request: _Request, budget: int, prefill: list[tuple[int, int]], step: int) -> tuple[int, bool]:
        tokens = min(budget, request.needed - request.computed)
        prefill.append((tokens, request.computed))
        request.computed += tokens
        self._held += tokens
        done = request.computed == request.needed
        if done:
            request.spans.append((step, step + request.left - 1))
            request.base = request.needed - step or 1
            self._decodes += request.left > 1
            self._ending.setdefault(step + request.left - 1, []).append((request, request.life))
            if request.left > 1:
                self._context += request.needed
                heappush(self._longest, (-request.base, id(request), request, request.life))
        return budget - tokens, done

    def _finish(self, step: int) -> None:
        """Let go of the requests whose last token came in this step."""
        for request, life in self._ending.pop(step, ()):
            if request.life == life:
                self._order.remove(request)
                self._release(request)

    def _release(self, request: _Request) -> None:
        """Free what a request holds whose last token is decided; it decodes on until that token is seen."""
        first, last = request.spans[-1]
        ran = last - first
        if ran:
            extra = len(self.ends) - 1 - last
            self._decodes -= 1
            self._context -= request.needed + ran + extra
            self._held -= ran + extra
        self._held -= request.needed
        request.life += 1

    def _preempt(self, step: int) -> None:
        """The request admitted last loses its KV and goes to the head of the queue, unless its last token is under way."""
        request = self._order.pop()
        if request is not self._partial and request.spans[-1][1] < step:
            self._release(request)
            return
        self._held -= request.computed
        if request is self._partial:
            self._partial = None
        else:
            first, _ = request.spans[-1]
            made = step - first
            request.spans[-1] = (first, step - 1)
            request.left -= made
            self._decodes -= 1
            self._context -= request.needed + made - 1
            self._held -= made - 1
            request.prompt = request.needed + made
        request.life += 1
        self._waiting.appendleft(request)
