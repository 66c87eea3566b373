"""A small engine in the test's process: serves requests by the plans of the plug-in's planners, and leaves the telemetry
that the agent measures. Its device is a formula, so a closed loop of law, planner and engine needs no vLLM."""

import dataclasses
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import pytest

from llmserving_agent.laws.protocol import Decision, Law, Setting
from llmserving_agent.measurements import Measurements
from llmserving_agent.sensors.ports import Telemetry
from llmserving_agent.signals.attainment import JudgeBy
from llmserving_api.control import PlannerChoice as AgentChoice
from llmserving_api.control import RuntimeConfig
from llmserving_api.latency import bucket_of, quantile_seconds
from llmserving_api.telemetry import Outcome, RequestRecord, StepRecord
from llmserving_engine.bounds import Bounds, Targets
from llmserving_engine.planning.protocol import (
    PlannerChoice,
    StepComposition,
    StepDone,
    StepPlan,
    StepPlanner,
    StepView,
    Track,
)
from llmserving_engine.planning.registry import build
from llmserving_fakes.documents import runtime_config

BLOCK = 16
SECOND = 1_000_000_000


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
    num_computed_tokens: int = 0
    num_output_tokens: int = 0
    num_output_placeholders: int = 0
    is_prefill_chunk: bool = False
    blocks: int = 0
    last_token: float = 0.0
    status: Status = Status.RUNNING

    @property
    def num_tokens(self) -> int:
        return self.num_prompt_tokens + self.num_output_tokens


def step_seconds(prefill: int, decodes: int, context: int) -> float:
    """Weights, arithmetic, attention; decodes cost more beside a prefill."""
    seconds = 10e-3 + 4e-5 * max(prefill + decodes - 100, 0) + 6e-5 * decodes + 8e-8 * context
    return seconds + (6e-5 * decodes if prefill and decodes else 0.0)


def burst_load(seconds: float, rate: float, burst: float, prompt: int, output: int) -> list[Request]:
    """Arrivals at `rate`, at `burst` from a third to half of the time; lengths between half and double."""
    source = random.Random(1)
    requests: list[Request] = []
    time = 0.0
    while time < seconds:
        time += source.expovariate(burst if seconds / 3 <= time < seconds / 2 else rate)
        lengths = [max(1, round(mean * 2 ** source.uniform(-1, 0.85))) for mean in (prompt, output)]
        requests.append(Request(f"r{len(requests):04}", time, *lengths))
    return requests


@dataclass
class Plant:
    """The engine. `advance` runs it to a time and gives the telemetry of that span."""

    pending: list[Request]
    blocks: int
    bounds: Bounds
    targets: Targets
    planner: StepPlanner = field(default_factory=lambda: build(PlannerChoice()))
    now: float = 0.0
    step: int = 0
    running: list[Request] = field(default_factory=list)
    waiting: dict[str, Request] = field(default_factory=dict)
    prefilling: dict[str, Request] = field(default_factory=dict)
    tracks: dict[str, Track] = field(default_factory=dict)
    free: int = 0
    preempted: int = 0
    finished: int = 0
    records: list[StepRecord | RequestRecord] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.free = self.blocks

    def choose(self, choice: AgentChoice) -> None:
        """Another planner, or other parameters for the one in force."""
        if choice.name == self.planner.name:
            if choice.name != "bounds":
                self.planner.configure(choice.parameters)
            return
        self.planner = build(PlannerChoice(choice.name, choice.parameters))
        for track in self.tracks.values():
            self.planner.arrived(track)

    def advance(self, until: float) -> Telemetry:
        while self.now < until:
            self._arrivals()
            if self.running or self.waiting:
                self._one_step()
            else:
                self.now = min([until, *[one.arrival for one in self.pending[:1]]])
        records, self.records = tuple(self.records), []
        return Telemetry(records=records)

    def _arrivals(self) -> None:
        while self.pending and self.pending[0].arrival <= self.now:
            request = self.pending.pop(0)
            track = Track(request, round(request.arrival * SECOND))
            self.tracks[request.request_id] = track
            self.waiting[request.request_id] = request
            self.planner.arrived(track)

    def _one_step(self) -> None:
        self.step += 1
        self.preempted = self.finished = 0
        now_ns = round(self.now * SECOND)
        view = StepView(
            self.step, now_ns, self.bounds, self.bounds, self.targets, list(self.running), self.prefilling,
            len(self.waiting), self.tracks, 0, now_ns, self.free, self.blocks, BLOCK, 1, 512,
        )  # fmt: skip
        plan = self.planner.plan(view)
        if plan.running is not None:
            self.running = list(plan.running)
        scheduled = self._schedule(plan)
        self._compute(plan, scheduled)

    def _schedule(self, plan: StepPlan) -> list[tuple[Request, int]]:
        left = plan.token_budget
        scheduled: list[tuple[Request, int]] = []
        for request in list(self.running):
            tokens = min(request.num_tokens - request.num_computed_tokens, left)
            if request.request_id in plan.parked or tokens <= 0 or request not in self.running:
                continue
            if not self._make_room(request, tokens, scheduled):
                break
            self._take(request, tokens)
            scheduled.append((request, tokens))
            left -= tokens
        if self.preempted:
            return [entry for entry in scheduled if entry[0] in self.running]
        resumed = [name for name in self.waiting if self.tracks[name].preemptions]
        others = () if plan.only_listed else self.waiting
        for name in list(dict.fromkeys([*resumed, *plan.waiting_first, *others])):
            request = self.waiting[name]
            if left <= 0 or len(self.running) >= plan.max_num_seqs or -(-request.num_tokens // BLOCK) > self.free:
                break
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

    def _make_room(self, request: Request, tokens: int, scheduled: list[tuple[Request, int]]) -> bool:
        while -(-(request.num_computed_tokens + tokens) // BLOCK) - request.blocks > self.free:
            victim = self.running.pop()
            self.preempted += 1
            self.free += victim.blocks
            victim.blocks = victim.num_computed_tokens = 0
            victim.is_prefill_chunk = False
            self.prefilling.pop(victim.request_id, None)
            self.waiting = {victim.request_id: victim, **self.waiting}
            self.tracks[victim.request_id].preemptions += 1
            self.planner.preempted(self.tracks[victim.request_id])
            if victim is request:
                return False
        return True

    def _take(self, request: Request, tokens: int) -> None:
        need = -(-(request.num_computed_tokens + tokens) // BLOCK) - request.blocks
        self.free -= need
        request.blocks += need

    def _compute(self, plan: StepPlan, scheduled: list[tuple[Request, int]]) -> None:
        prefills = [(one.num_computed_tokens, tokens) for one, tokens in scheduled if one.request_id in self.prefilling]
        prefill = sum(tokens for _, tokens in prefills)
        pairs = sum(tokens * cached + tokens * tokens // 2 for cached, tokens in prefills)
        decodes = [one for one, _ in scheduled if one.request_id not in self.prefilling]
        context = sum(one.num_computed_tokens + 1 for one in decodes)
        composition = StepComposition(prefill, len(decodes), len(prefills), len(decodes), context, pairs)
        started, running, waiting = self.now, len(self.running), len(self.waiting)
        oldest = min((one.arrival for one in self.waiting.values() if not one.num_output_tokens), default=started)
        overdue = sum(
            started - one.arrival > self.targets.ttft_ns / SECOND > 0
            for one in self.waiting.values()
            if not one.num_output_tokens
        )
        duration = step_seconds(prefill, len(decodes), context) if scheduled else 1e-3
        self.now += duration
        gaps: Counter[int] = Counter()
        firsts: Counter[int] = Counter()
        ended: list[RequestRecord] = []
        used = self.blocks - self.free
        for request, tokens in scheduled:
            request.num_computed_tokens += tokens
            request.is_prefill_chunk = request.num_computed_tokens < request.num_tokens
            if request.is_prefill_chunk:
                continue
            self.prefilling.pop(request.request_id, None)
            track = self.tracks[request.request_id]
            if track.first_token_ns:
                gaps[bucket_of(self.now - request.last_token)] += 1
            else:
                track.first_token_ns = round(self.now * SECOND)
                firsts[bucket_of(self.now - request.arrival)] += 1
            request.last_token = self.now
            request.num_output_tokens += 1
            if request.num_output_tokens == request.output:
                ended.append(self._end(request))
        if not scheduled:
            return
        span = (round(started * SECOND), round(self.now * SECOND), round(duration * SECOND))
        self.planner.completed(StepDone(self.step, composition, *span, plan.predicted_ns))
        self.records.append(
            _record(
                StepRecord,
                step=self.step,
                scheduled_ns=span[0],
                completed_ns=span[1],
                duration_ns=span[2],
                **dataclasses.asdict(composition),
                running=running,
                waiting=waiting,
                overdue_waiting=overdue,
                oldest_waiting_ns=round((started - oldest) * SECOND),
                finished=len(ended),
                preempted=self.preempted,
                kv_blocks_used=used,
                kv_blocks_total=self.blocks,
                max_num_seqs=self.bounds.max_num_seqs,
                max_num_batched_tokens=self.bounds.max_num_batched_tokens,
                token_budget=plan.token_budget,
                held=plan.held,
                predicted_ns=plan.predicted_ns,
                gaps=tuple(sorted(gaps.items())),
                first_tokens=tuple(sorted(firsts.items())),
            )
        )
        self.records.extend(ended)

    def _end(self, request: Request) -> RequestRecord:
        request.status = Status.FINISHED_STOPPED
        self.running.remove(request)
        self.free += request.blocks
        track = self.tracks.pop(request.request_id)
        self.planner.departed(track)
        ended: RequestRecord = _record(
            RequestRecord,
            outcome=Outcome.FINISHED,
            arrival_ns=round(request.arrival * SECOND),
            finished_ns=round(self.now * SECOND),
            prompt_tokens=request.num_prompt_tokens,
            output_tokens=request.num_output_tokens,
            gaps=request.num_output_tokens - 1,
            preemptions=track.preemptions,
        )
        return ended


def _record(kind: type[Any], **fields: Any) -> Any:
    """A record with everything not named at zero."""
    zeros = {one.name: 0 for one in dataclasses.fields(kind)}
    if kind is StepRecord:
        zeros["trim"] = 1
    return kind(**{**zeros, **fields})


@dataclass(frozen=True)
class Row:
    """One decision and what it was taken on."""

    time: float
    running: int
    waiting: int
    kv_percent: int
    itl_p95_ms: int
    decision: Decision


def _config(bounds: Bounds, blocks: int) -> RuntimeConfig:
    pair: Any = {"max_num_seqs": bounds.max_num_seqs, "max_num_batched_tokens": bounds.max_num_batched_tokens}
    at_stock = dict.fromkeys(("ceilings", "stock", "fallback", "requested", "applied"), pair)
    return runtime_config({"num_gpu_blocks": blocks, "async_scheduling": False, "prefix_caching": False}, **at_stock)


def closed_loop(law: Law[Any], setting: Setting, load: list[Request], blocks: int, seconds: int) -> list[Row]:
    """The law decides once a second for an engine that starts at stock bounds."""
    stock = Bounds(setting.stock.max_num_seqs, setting.stock.max_num_batched_tokens)
    targets = Targets(*(round((one.target_seconds if one else 0) * SECOND) for one in (setting.ttft, setting.itl)))
    plant = Plant(load, blocks, stock, targets)
    measured = Measurements()
    measured.judge_by = JudgeBy(setting.ttft, setting.itl, setting.e2e)
    config = _config(stock, blocks)
    state = law.start(setting.stock, setting)
    rows: list[Row] = []
    for second in range(1, seconds + 1):
        telemetry = plant.advance(float(second))
        measured.take(telemetry, float(second))
        window = measured.window(config, measured.running(None), float(second), None)
        state, decision = law.decide(state, window, setting)
        measured.forget_steps()
        config = config.model_copy(update={"requested": decision.bounds, "planner": decision.planner})
        plant.bounds = Bounds(decision.bounds.max_num_seqs, decision.bounds.max_num_batched_tokens)
        plant.choose(decision.planner)
        gaps: Counter[int] = Counter()
        for record in telemetry.records:
            if isinstance(record, StepRecord):
                gaps.update(dict(record.gaps))
        itl = quantile_seconds(gaps, 95) or 0.0
        kv = round(100 * window.kv_usage)
        rows.append(Row(second, window.running, window.waiting, kv, round(itl * 1000), decision))
    return rows


@pytest.fixture
def loop() -> Callable[..., list[Row]]:
    return closed_loop


@pytest.fixture
def load() -> Callable[..., list[Request]]:
    return burst_load
