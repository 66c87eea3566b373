"""A small engine in the test's process: serves requests by the plans of the plug-in's planners as vLLM's scheduler would.

Its device is a formula and its time virtual, so a closed loop of planner and engine, or of law, planner and engine, needs no vLLM.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from llmserving_engine.bounds import Bounds, Targets
from llmserving_engine.planning.protocol import StepComposition, StepDone, StepPlan, StepPlanner, StepView, Track
from llmserving_engine.telemetry import RequestClass

BLOCK = 16
SECOND = 1_000_000_000
SLOTS = 512


class Status(Enum):
    RUNNING = 0
    FINISHED_STOPPED = 1


@dataclass(eq=False)
class Request:
    """The parts of vLLM's request that planners read, and what the engine keeps of it."""

    request_id: str
    arrival: float
    num_prompt_tokens: int
    output: int
    priority: int = 0
    request_class: RequestClass = RequestClass.INTERACTIVE
    num_computed_tokens: int = 0
    num_output_tokens: int = 0
    num_output_placeholders: int = 0
    is_prefill_chunk: bool = False
    blocks: int = 0
    token_times: list[float] = field(default_factory=list)
    status: Status = Status.RUNNING
    held_until: float = 0.0
    """The engine passes it over until then: its grammar is being compiled, its adapter does not fit."""

    @property
    def num_tokens(self) -> int:
        return self.num_prompt_tokens + self.num_output_tokens


@dataclass(frozen=True)
class Step:
    """What a step was. Times in seconds; ``overdue`` and ``oldest`` are of those who wait for a first token.

    ``firsts`` and ``gaps`` are the times that its tokens took, from the arrival and from the token before.
    """

    number: int
    plan: StepPlan
    composition: StepComposition
    started: float
    ended: float
    running: int
    waiting: int
    overdue: int
    oldest: float
    blocks_used: int
    preempted: int
    firsts: list[float]
    gaps: list[float]
    finished: list[tuple[Request, Track]]


class SmallEngine:
    """Requests arrive at their times; `advance` is one step."""

    def __init__(
        self,
        requests: Iterable[Request],
        planner: StepPlanner,
        *,
        blocks: int,
        bounds: Bounds,
        targets: Targets,
        weights_seconds: float = 8e-3,
    ) -> None:
        self.pending = sorted(requests, key=lambda one: one.arrival)
        self.planner = planner
        self.bounds, self.targets = bounds, targets
        self.total = self.free = blocks
        self.weights_seconds = weights_seconds
        self.running: list[Request] = []
        self.waiting: dict[str, Request] = {}
        self.prefilling: dict[str, Request] = {}
        self.tracks: dict[str, Track] = {}
        self.done: list[Request] = []
        self.now = 0.0
        self.step = 0
        self.preempted = 0

    @property
    def has_work(self) -> bool:
        return bool(self.pending or self.running or self.waiting)

    def run(self, most_steps: int = 200_000) -> list[Request]:
        """Serve all requests."""
        for _ in self.steps(most_steps):
            pass
        return self.done

    def steps(self, most_steps: int = 200_000) -> Iterator[int]:
        """Serve all requests; the number of each step, after it."""
        while self.has_work:
            assert self.step < most_steps, "the engine does not come to an end"
            if self.advance() is not None:
                yield self.step

    def advance(self, until: float = float("inf")) -> Step | None:
        """One step; where there is nothing to do, time passes to the next arrival. None where the step held nothing."""
        self.arrive()
        if self.running or self.waiting:
            return self._step()
        self.now = min([until, *[one.arrival for one in self.pending[:1]]])
        return None

    def arrive(self) -> None:
        """Take in those whose time has come."""
        while self.pending and self.pending[0].arrival <= self.now:
            request = self.pending.pop(0)
            track = Track(request, round(request.arrival * SECOND), request.request_class, request.priority)
            self.tracks[request.request_id] = track
            self.waiting[request.request_id] = request
            self.planner.arrived(track)

    def install(self, planner: StepPlanner) -> None:
        """Another planner, which takes over all requests."""
        self.planner = planner
        for track in self.tracks.values():
            planner.arrived(track)

    def view(self) -> StepView:
        now_ns = round(self.now * SECOND)
        context = sum(one.num_computed_tokens for one in self.running if one.request_id not in self.prefilling)
        return StepView(
            self.step, now_ns, self.bounds, self.bounds, self.targets, list(self.running), self.prefilling, context,
            len(self.waiting), self.tracks, 0, now_ns, self.free, self.total, BLOCK, 1, SLOTS,
        )  # fmt: skip

    def preempt(self) -> Request:
        """Take its blocks from the request that was admitted last."""
        victim = self.running.pop()
        track = self.tracks[victim.request_id]
        self.preempted += 1
        self.free += victim.blocks
        victim.blocks = victim.num_computed_tokens = 0
        victim.is_prefill_chunk = False
        self.prefilling.pop(victim.request_id, None)
        self.waiting = {victim.request_id: victim, **self.waiting}
        track.decoding = False
        track.preemptions += 1
        self.planner.preempted(track)
        return victim

    def _step(self) -> Step | None:
        self.step += 1
        before = self.preempted
        view = self.view()
        plan = self.planner.plan(view)
        self._check(plan)
        if plan.running is not None:
            self.running = list(plan.running)
        scheduled = self._schedule(plan)
        self.planner.on_device(view.now_ns)
        return self._compute(plan, scheduled, self.preempted - before)

    def _check(self, plan: StepPlan) -> None:
        """Hold the plan against what the seam allows."""
        running = [one.request_id for one in self.running]
        assert plan.token_budget >= 0
        assert set(plan.waiting_first) <= set(self.waiting)
        assert set(plan.parked) <= set(running)
        if plan.running is not None:
            assert sorted(one.request_id for one in plan.running) == sorted(running)

    def _schedule(self, plan: StepPlan) -> list[tuple[Request, int]]:
        left = plan.token_budget
        before = self.preempted
        scheduled: list[tuple[Request, int]] = []
        for request in list(self.running):
            tokens = min(request.num_tokens - request.num_computed_tokens, left)
            is_parked = request.request_id in plan.parked or (
                plan.decodes_pause and self.tracks[request.request_id].decoding
            )
            if is_parked or tokens <= 0 or request not in self.running:
                continue
            if not self._make_room(request, tokens):
                break
            self._take(request, tokens)
            scheduled.append((request, tokens))
            left -= tokens
        if self.preempted > before:  # as in vLLM, such a step admits nobody
            return [entry for entry in scheduled if entry[0] in self.running]
        resumed = [name for name in self.waiting if self.tracks[name].preemptions]
        others = () if plan.only_listed else self.waiting
        for name in list(dict.fromkeys([*resumed, *plan.waiting_first, *others])):
            request = self.waiting[name]
            if left <= 0 or len(self.running) >= plan.max_num_seqs or -(-request.num_tokens // BLOCK) > self.free:
                break
            if request.held_until > self.now:
                continue
            tokens = min(request.num_tokens, left)
            self._take(request, tokens)
            del self.waiting[name]
            self.running.append(request)
            self.prefilling[name] = request
            track = self.tracks[name]
            track.first_scheduled_ns = track.first_scheduled_ns or round(self.now * SECOND) or 1
            scheduled.append((request, tokens))
            left -= tokens
        return scheduled

    def _make_room(self, request: Request, tokens: int) -> bool:
        while _blocks_needed(request, tokens) > self.free:
            if self.preempt() is request:
                return False
        return True

    def _take(self, request: Request, tokens: int) -> None:
        need = _blocks_needed(request, tokens)
        self.free -= need
        request.blocks += need

    def _compute(self, plan: StepPlan, scheduled: list[tuple[Request, int]], preempted: int) -> Step | None:
        started = self.now
        composition = self._composition(scheduled)
        running, waiting, used = len(self.running), len(self.waiting), self.total - self.free
        fresh = [one.arrival for one in self.waiting.values() if not one.num_output_tokens]
        overdue = sum(started - arrival > self.targets.ttft_ns / SECOND > 0 for arrival in fresh)
        if not scheduled:
            self.now += 1e-3
            return None
        duration = self._seconds(composition)
        self.now += duration
        firsts: list[float] = []
        gaps: list[float] = []
        finished: list[tuple[Request, Track]] = []
        for request, tokens in scheduled:
            request.num_computed_tokens += tokens
            request.is_prefill_chunk = request.num_computed_tokens < request.num_tokens
            if request.is_prefill_chunk:
                continue
            self.prefilling.pop(request.request_id, None)
            track = self.tracks[request.request_id]
            track.decoding = True
            if track.first_token_ns:
                gaps.append(self.now - request.token_times[-1])
            else:
                track.first_token_ns = round(self.now * SECOND)
                firsts.append(self.now - request.arrival)
            request.token_times.append(self.now)
            request.num_output_tokens += 1
            if request.num_output_tokens == request.output:
                finished.append((request, self._end(request)))
        span = (round(started * SECOND), round(self.now * SECOND), round(duration * SECOND))
        self.planner.completed(StepDone(self.step, composition, *span, plan.predicted_ns))
        return Step(
            self.step, plan, composition, started, self.now, running, waiting, overdue, min(fresh, default=started),
            used, preempted, firsts, gaps, finished,
        )  # fmt: skip

    def _composition(self, scheduled: list[tuple[Request, int]]) -> StepComposition:
        prefills = [(one.num_computed_tokens, tokens) for one, tokens in scheduled if one.request_id in self.prefilling]
        decodes = [one for one, _ in scheduled if one.request_id not in self.prefilling]
        return StepComposition(
            prefill_tokens=sum(tokens for _, tokens in prefills),
            decode_tokens=len(decodes),
            prefill_requests=len(prefills),
            decode_requests=len(decodes),
            decode_context_tokens=sum(one.num_computed_tokens + 1 for one in decodes),
            prefill_attention_tokens=sum(tokens * cached + tokens * tokens // 2 for cached, tokens in prefills),
        )

    def _seconds(self, held: StepComposition) -> float:
        """Weights, arithmetic, attention; decodes cost more beside a prefill."""
        prefill, decodes = held.prefill_tokens, held.decode_requests
        seconds = self.weights_seconds + 4e-5 * max(prefill + decodes - 100, 0) + 6e-5 * decodes
        seconds += 8e-8 * held.decode_context_tokens
        return seconds + (6e-5 * decodes if prefill and decodes else 0.0)

    def _end(self, request: Request) -> Track:
        request.status = Status.FINISHED_STOPPED
        self.running.remove(request)
        self.free += request.blocks
        track = self.tracks.pop(request.request_id)
        self.planner.departed(track)
        self.done.append(request)
        return track


def _blocks_needed(request: Request, tokens: int) -> int:
    return -(-(request.num_computed_tokens + tokens) // BLOCK) - request.blocks
