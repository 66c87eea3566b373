"""A closed loop of law, planner and a small engine, which leaves the telemetry that the agent measures."""

import dataclasses
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
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
from llmserving_engine.planning.protocol import PlannerChoice, Track
from llmserving_engine.planning.registry import build
from llmserving_fakes.documents import runtime_config
from llmserving_fakes.small_engine import SECOND, Request, SmallEngine, Step

WEIGHTS_SECONDS = 10e-3
"""Of the least step."""


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


class Plant:
    """The engine and what its plug-in writes. `advance` runs it to a time and gives the telemetry of that span."""

    def __init__(self, load: list[Request], blocks: int, bounds: Bounds, targets: Targets) -> None:
        planner = build(PlannerChoice())
        self.engine = SmallEngine(
            load, planner, blocks=blocks, bounds=bounds, targets=targets, weights_seconds=WEIGHTS_SECONDS
        )

    def choose(self, choice: AgentChoice) -> None:
        """Another planner, or other parameters for the one in force."""
        if choice.name != self.engine.planner.name:
            self.engine.install(build(PlannerChoice(choice.name, choice.parameters)))
        elif choice.name != "bounds":
            self.engine.planner.configure(choice.parameters)

    def advance(self, until: float) -> Telemetry:
        records: list[StepRecord | RequestRecord] = []
        while self.engine.now < until:
            step = self.engine.advance(until)
            if step is not None:
                records.append(self._of_step(step))
                records += [_of_request(request, track, step.ended) for request, track in step.finished]
        return Telemetry(records=tuple(records))

    def _of_step(self, step: Step) -> StepRecord:
        engine, plan = self.engine, step.plan
        record: StepRecord = _record(
            StepRecord,
            step=step.number,
            scheduled_ns=round(step.started * SECOND),
            completed_ns=round(step.ended * SECOND),
            duration_ns=round((step.ended - step.started) * SECOND),
            **dataclasses.asdict(step.composition),
            running=step.running,
            waiting=step.waiting,
            overdue_waiting=step.overdue,
            oldest_waiting_ns=round((step.started - step.oldest) * SECOND),
            finished=len(step.finished),
            preempted=step.preempted,
            kv_blocks_used=step.blocks_used,
            kv_blocks_total=engine.total,
            max_num_seqs=engine.bounds.max_num_seqs,
            max_num_batched_tokens=engine.bounds.max_num_batched_tokens,
            token_budget=plan.token_budget,
            held=plan.held,
            predicted_ns=plan.predicted_ns,
            gaps=tuple(sorted(Counter(map(bucket_of, step.gaps)).items())),
            first_tokens=tuple(sorted(Counter(map(bucket_of, step.firsts)).items())),
        )
        return record


def _of_request(request: Request, track: Track, at: float) -> RequestRecord:
    record: RequestRecord = _record(
        RequestRecord,
        outcome=Outcome.FINISHED,
        arrival_ns=round(request.arrival * SECOND),
        finished_ns=round(at * SECOND),
        prompt_tokens=request.num_prompt_tokens,
        output_tokens=request.num_output_tokens,
        gaps=request.num_output_tokens - 1,
        preemptions=track.preemptions,
    )
    return record


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
        plant.engine.bounds = Bounds(decision.bounds.max_num_seqs, decision.bounds.max_num_batched_tokens)
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
