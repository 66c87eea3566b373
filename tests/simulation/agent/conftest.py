"""A small engine in virtual time for the agent's closed loop: continuous batching with chunked prefill.

Step time is linear in sequences and prefill tokens, with multiplicative noise. Everything else (bounds at the next
step, drain, queueing, preemption when the KV cache is full) follows vLLM's scheduler in outline.
"""

import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from llmserving_agent.actuation import Answer, Outcome
from llmserving_agent.loop import AgentLoop
from llmserving_agent.sensors.none import NoFrontEnd, NoGPU
from llmserving_agent.sensors.ports import PolicyReading, Record, Telemetry
from llmserving_api.control import (
    Bounds,
    Drain,
    RuntimeConfig,
    SLATargets,
)
from llmserving_api.latency import bucket_of
from llmserving_api.policy import AskedLimits, LawName, Mode, Policy, Target, Targets
from llmserving_api.telemetry import Outcome as Ended
from llmserving_api.telemetry import RequestRecord, StepFlag, StepRecord
from llmserving_fakes import documents
from llmserving_fakes.documents import asked_bounds, runtime_config

FACTS = {
    "max_model_len": 16384,
    "async_scheduling": False,
    "prefix_caching": False,
    "cudagraph_capture_sizes": (1, 2, 4, *range(8, 257, 8), *range(272, 513, 16)),
}


@dataclass
class Request:
    arrival: float
    prompt: int
    output: int
    prefilled: int = 0
    produced: int = 0
    admitted: float | None = None
    first: float = 0.0
    last: float = 0.0
    gaps: list[float] = field(default_factory=list)


@dataclass
class Plant:
    """The engine; ``now`` is virtual seconds."""

    seed: int = 1
    base: float = 0.020
    per_sequence: float = 0.0001
    per_prefill_token: float = 0.00006
    noise: float = 0.03
    blocks: int = 30000
    rate: float = 4.0
    prompt_mean: float = 1000.0
    output_mean: float = 200.0
    stock: Bounds = field(default_factory=lambda: Bounds(max_num_seqs=256, max_num_batched_tokens=8192))
    ceilings: Bounds = field(default_factory=lambda: Bounds(max_num_seqs=512, max_num_batched_tokens=8192))

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.now = 0.0
        self.bounds = self.requested = self.fallback = self.stock
        self.targets = SLATargets()
        self.operation_id = 0
        self.step_number = 0
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []
        self.records: list[Record] = []
        self.done: list[Request] = []
        self.next_arrival = 0.0
        self.preempted = 0

    # what the agent sees

    def read(self) -> Mapping[int, Telemetry]:
        records, self.records = tuple(self.records), []
        return {0: Telemetry(records=records)}

    def config(self) -> RuntimeConfig:
        return runtime_config(
            {**FACTS, "num_gpu_blocks": self.blocks},
            ceilings=self.ceilings,
            stock=self.stock,
            fallback=self.fallback,
            requested=self.requested,
            applied=self.bounds,
            effective=self.bounds,
            applied_step=self.step_number,
            step=self.step_number,
            operation_id=self.operation_id,
            drain=Drain(active=False, running=len(self.running), target=self.bounds.max_num_seqs),
            targets=self.targets,
        )

    # what happens

    def arrive(self) -> None:
        while self.rate > 0 and self.next_arrival <= self.now:
            self.waiting.append(
                Request(
                    arrival=self.next_arrival,
                    prompt=max(1, min(8000, round(self.random.lognormvariate(0, 0.7) * self.prompt_mean * 0.78))),
                    output=max(1, min(2000, round(self.random.expovariate(1 / self.output_mean)))),
                )
            )
            self.next_arrival += self.random.expovariate(self.rate)

    def used_blocks(self) -> int:
        return sum(-(-(r.prefilled + r.produced) // 16) for r in self.running)

    def step(self) -> None:
        """One engine step, or a wait for the next arrival."""
        self.bounds = self.requested
        self.arrive()
        if not self.running and not self.waiting:
            self.now = max(self.next_arrival, self.now) if self.rate > 0 else self.now + 0.1
            return
        budget = self.bounds.max_num_batched_tokens
        decodes = [r for r in self.running if r.prefilled >= r.prompt][:budget]
        budget -= len(decodes)
        used = self.used_blocks()
        while used + len(decodes) > self.blocks and len(self.running) > 1:
            victim = self.running.pop()
            victim.prefilled = 0
            self.waiting.appendleft(victim)
            self.preempted += 1
            decodes = [r for r in decodes if r is not victim]
            used = self.used_blocks()
        chunks: list[tuple[Request, int]] = []
        for request in self.running:
            if request.prefilled < request.prompt and budget > 0:
                chunk = min(budget, request.prompt - request.prefilled)
                chunks.append((request, chunk))
                budget -= chunk
        free = self.blocks - used - sum(chunk for _, chunk in chunks) // 16
        while self.waiting and budget > 0 and len(self.running) < self.bounds.max_num_seqs:
            request = self.waiting[0]
            chunk = min(budget, request.prompt - request.prefilled)
            if free < -(-request.prompt // 16) + len(decodes):
                break
            self.waiting.popleft()
            self.running.append(request)
            request.admitted = request.admitted if request.admitted is not None else self.now
            chunks.append((request, chunk))
            free -= -(-request.prompt // 16)
            budget -= chunk
        prefill = sum(chunk for _, chunk in chunks)
        seconds = self.base + self.per_sequence * (len(decodes) + len(chunks)) + self.per_prefill_token * prefill
        seconds *= max(0.5, self.random.gauss(1.0, self.noise))
        self.now += seconds
        self.finish(decodes, chunks, seconds, prefill)

    def finish(self, decodes: list[Request], chunks: list[tuple[Request, int]], seconds: float, prefill: int) -> None:
        gaps: dict[int, int] = {}
        firsts: dict[int, int] = {}
        for request in decodes:
            gap = self.now - request.last
            request.gaps.append(gap)
            gaps[bucket_of(gap)] = gaps.get(bucket_of(gap), 0) + 1
            request.last, request.produced = self.now, request.produced + 1
        for request, chunk in chunks:
            request.prefilled += chunk
            if request.prefilled >= request.prompt and request.produced == 0:
                request.first = request.last = self.now
                request.produced = 1
                bucket = bucket_of(self.now - request.arrival)
                firsts[bucket] = firsts.get(bucket, 0) + 1
        self.step_number += 1
        ended = [r for r in self.running if r.produced >= r.output]
        self.running = [r for r in self.running if r.produced < r.output]
        at = round(self.now * 1e9)
        self.done += ended
        self.records += [self.record(request, at) for request in ended]
        overdue = 0
        if self.targets.ttft_seconds:
            overdue = sum(self.now - r.arrival > self.targets.ttft_seconds for r in self.waiting)
        running = len(self.running) + len(ended)
        self.records.append(
            StepRecord(
                flags=StepFlag.DRAINING if running > self.bounds.max_num_seqs else 0,
                step=self.step_number,
                scheduled_ns=at,
                completed_ns=at,
                duration_ns=round(seconds * 1e9),
                prefill_tokens=prefill,
                decode_tokens=len(decodes),
                prefill_requests=len(chunks),
                decode_requests=len(decodes),
                decode_context_tokens=sum(r.prompt + r.produced for r in decodes),
                prefill_attention_tokens=0,
                padded_tokens=0,
                running=running,
                waiting=len(self.waiting),
                overdue_waiting=overdue,
                finished=len(ended),
                preempted=0,
                kv_blocks_used=self.used_blocks(),
                kv_blocks_total=self.blocks,
                max_num_seqs=self.bounds.max_num_seqs,
                max_num_batched_tokens=self.bounds.max_num_batched_tokens,
                token_budget=self.bounds.max_num_batched_tokens,
                held=0,
                oldest_waiting_ns=round((self.now - self.waiting[0].arrival) * 1e9) if self.waiting else 0,
                predicted_ns=0,
                operation_id=self.operation_id,
                trim=1.0,
                gaps=tuple(gaps.items()),
                first_tokens=tuple(firsts.items()),
            )
        )

    def record(self, request: Request, at: int) -> RequestRecord:
        itl = self.targets.itl_seconds or 1e9
        return RequestRecord(
            outcome=Ended.FINISHED,
            arrival_ns=round(request.arrival * 1e9),
            finished_ns=at,
            prompt_tokens=request.prompt,
            cached_tokens=0,
            output_tokens=request.produced,
            gaps=len(request.gaps),
            gaps_over_target=sum(gap > itl for gap in request.gaps),
            preemptions=0,
            priority=0,
            relegated=0,
            request_class=0,
            ttft_seconds=request.first - request.arrival,
            e2e_seconds=self.now - request.arrival,
            queue_seconds=(request.admitted or request.arrival) - request.arrival,
            max_gap_seconds=max(request.gaps, default=0.0),
        )


@dataclass
class Trace:
    """What the loop did: bounds by time."""

    bounds: list[tuple[float, Bounds]] = field(default_factory=list)

    def mean_tokens(self, since: float) -> float:
        values = [bounds.max_num_batched_tokens for at, bounds in self.bounds if at >= since]
        return sum(values) / len(values)


class SettablePolicy:
    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def read(self, now: float) -> PolicyReading:
        return PolicyReading(policy=self.policy)


class Bench:
    """The agent's loop around one plant."""

    def __init__(self, plant: Plant, policy: Policy) -> None:
        self.plant, self.policy = plant, SettablePolicy(policy)
        self.trace = Trace()
        self.sense_due = 0.0
        self.loop = self.new_agent()

    def new_agent(self) -> AgentLoop:
        loop = AgentLoop(
            telemetry=self.plant,
            policy=self.policy,
            gpu=NoGPU("simulated"),
            front_end=NoFrontEnd(),
            wall_clock=float,
        )
        loop.observe(0, Answer(Outcome.APPLIED, self.plant.config()), self.plant.now)
        return loop

    def run(self, seconds: float) -> None:
        end = self.plant.now + seconds
        while self.plant.now < end:
            self.plant.step()
            while self.sense_due <= self.plant.now:
                self.tick(self.sense_due)
                self.sense_due += 0.1

    def tick(self, now: float) -> None:
        plant = self.plant
        self.loop.sense(max(now, plant.now))
        for actuation in self.loop.decide(max(now, plant.now)):
            patch = actuation.patch
            plant.requested = asked_bounds(patch)
            assert patch.fallback is not None
            assert patch.targets is not None
            plant.fallback, plant.targets, plant.operation_id = patch.fallback, patch.targets, patch.operation_id
            self.loop.confirm(0, Answer(Outcome.APPLIED, plant.config()), plant.now)
        self.trace.bounds.append((now, plant.requested))

    def gaps_since(self, at: float) -> list[float]:
        return [gap for request in self.plant.done if request.arrival >= at for gap in request.gaps]


def make_policy(
    revision: int = 1,
    *,
    law: LawName = LawName.MEMORY_SLA,
    mode: Mode = Mode.AUTO,
    itl: float | None = 0.05,
    ttft: float | None = 2.0,
    seqs: tuple[int, int] = (8, 512),
    tokens: tuple[int, int] = (256, 8192),
) -> Policy:
    return documents.make_policy(
        revision,
        mode=mode,
        law=law,
        sla=Targets(
            time_to_first_token=None if ttft is None else Target(percentile=95, target_seconds=ttft),
            inter_token_latency=None if itl is None else Target(percentile=95, target_seconds=itl),
        ),
        max_num_seqs=AskedLimits(min=seqs[0], max=seqs[1]),
        max_num_batched_tokens=AskedLimits(min=tokens[0], max=tokens[1]),
    )


@pytest.fixture
def plant() -> Callable[..., Plant]:
    return Plant


@pytest.fixture
def bench() -> Callable[..., Bench]:
    return Bench


@pytest.fixture
def policy() -> Callable[..., Policy]:
    return make_policy
