"""What the agent shows: status, health and Prometheus series."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from llmserving_agent.actuation import Answer, Outcome
from llmserving_agent.exporter import LoopCollector
from llmserving_agent.http import build_app
from llmserving_agent.loop import AgentLoop
from llmserving_agent.sensors.none import NoFrontEnd
from llmserving_agent.sensors.ports import GPUReading, PolicyReading, Telemetry
from llmserving_api import series
from llmserving_api.control import (
    DeviceMemory,
    Drain,
    RuntimeConfig,
)
from llmserving_api.latency import bucket_of
from llmserving_api.policy import AskedLimits, Policy, Target, Targets
from llmserving_api.status import AgentStatus
from llmserving_api.telemetry import Outcome as Ended
from llmserving_api.telemetry import RequestClass, RequestRecord, StepRecord
from llmserving_fakes.documents import STOCK, make_policy, runtime_config

NOW = 100.0


class World:
    """All sensors at once."""

    def __init__(self) -> None:
        self.policy: Policy | None = None
        self.error = ""
        self.telemetry: dict[int, Telemetry] = {}

    def read(self, *_: float) -> Any:
        return self.telemetry if not _ else PolicyReading(self.policy, self.error, refused=int(bool(self.error)))


class OneGPU:
    def read(self, now: float) -> GPUReading:
        device = DeviceMemory(
            uuid="GPU-1", name="card", memory_total_bytes=100, memory_free_bytes=30, memory_used_bytes=70
        )
        return GPUReading("relay", (device,), "NVML: library not found")


def a_policy() -> Policy:
    sla = Targets(inter_token_latency=Target(percentile=90, target_seconds=0.05))
    return make_policy(7, namespace="team", sla=sla)


def document() -> RuntimeConfig:
    drain = Drain(active=False, running=3, target=256)
    return runtime_config(effective=STOCK, applied_step=1, step=1, drain=drain)


def records() -> tuple[StepRecord | RequestRecord, ...]:
    fields: dict[str, Any] = dict.fromkeys(StepRecord.__slots__, 0)
    fields |= {"completed_ns": round((NOW - 0.5) * 1e9), "duration_ns": 20_000_000, "trim": 1.0, "running": 4}
    fields |= {"finished": 1, "waiting": 2, "kv_blocks_used": 25, "kv_blocks_total": 100, "preempted": 1}
    fields |= {"gaps": ((bucket_of(0.02), 90), (bucket_of(0.06), 10)), "first_tokens": ((bucket_of(0.3), 5),)}
    fields |= {"max_num_seqs": 256, "max_num_batched_tokens": 8192, "token_budget": 8192, "decode_requests": 4}
    fields |= {"predicted_ns": 18_000_000, "held": 2}
    at = round((NOW - 1) * 1e9)
    ended = RequestRecord(Ended.FINISHED, 0, at, 100, 0, 50, 49, 1, 0, 0, 0, 0, 0.3, 2.0, 0.1, 0.06)
    batch = RequestRecord(Ended.FINISHED, 0, at, 100, 0, 50, 49, 40, 0, 0, 1, RequestClass.BATCH, 99.0, 99.0, 0.1, 0.06)
    return (ended, batch, StepRecord(**fields))


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def loop(world: World) -> AgentLoop:
    return AgentLoop(telemetry=world, policy=world, gpu=OneGPU(), front_end=NoFrontEnd(), wall_clock=lambda now: now)


@pytest.fixture
async def client(loop: AgentLoop) -> Any:
    registry = CollectorRegistry()
    LoopCollector(loop, lambda: NOW, registry)
    app = build_app(loop, registry, clock=lambda: NOW, wall_clock=lambda now: 1e9 + now, last_tick=lambda: NOW - 1)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://agent") as client:
        yield client


def fill(world: World, loop: AgentLoop) -> None:
    world.policy = a_policy()
    world.telemetry = {0: Telemetry(records=records(), dropped=3)}
    loop.observe(0, Answer(Outcome.APPLIED, document()), NOW - 2)
    loop.sense(NOW)
    loop.decide(NOW)


async def test_an_agent_that_knows_nothing_yet_answers_all_the_same(client: httpx.AsyncClient) -> None:
    status = AgentStatus.model_validate_json((await client.get("/v1/status")).content)
    assert status.policy_revision is None
    assert status.engines == ()
    assert (await client.get("/metrics")).status_code == 200
    assert (await client.get("/healthz")).status_code == 200
    ready = await client.get("/readyz")
    assert ready.status_code == 503
    assert ready.json()["missing"] == ["no policy yet", "no engine yet"]


async def test_the_status_holds_policy_engine_latencies_gpu_and_decisions(
    client: httpx.AsyncClient, world: World, loop: AgentLoop
) -> None:
    fill(world, loop)
    status = AgentStatus.model_validate_json((await client.get("/v1/status")).content)
    assert status.policy_seen_revision == 7
    assert status.policy_revision is None
    (engine,) = status.engines
    assert engine.reachable
    assert (engine.running, engine.waiting, engine.kv_usage_ratio) == (3, 2, 0.25)
    assert engine.telemetry_age_seconds == pytest.approx(0.5)
    assert status.latency is not None
    assert sum(status.latency.itl.values()) == 100
    assert (status.latency.requests, status.latency.good) == (1, 1)
    assert (status.gpu.source, status.gpu.devices[0].uuid) == ("relay", "GPU-1")
    assert status.decisions[0].time == "1970-01-01T00:01:40.000Z"
    assert (await client.get("/readyz")).status_code == 200


async def test_a_refused_policy_is_in_the_status(client: httpx.AsyncClient, world: World, loop: AgentLoop) -> None:
    fill(world, loop)
    world.error = "live.json: mode 'x': no"
    loop.sense(NOW)
    status = AgentStatus.model_validate_json((await client.get("/v1/status")).content)
    assert status.policy_error == "live.json: mode 'x': no"
    assert status.mode is not None


def samples(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value


async def test_series_carry_what_the_loop_knows(client: httpx.AsyncClient, world: World, loop: AgentLoop) -> None:
    fill(world, loop)
    found = {
        (name, *sorted(labels.items())): value for name, labels, value in samples((await client.get("/metrics")).text)
    }

    def value(definition: series.Series, suffix: str = "", **labels: str) -> float:
        return found[(definition.name + suffix, *sorted(labels.items()))]

    engine = {"namespace": "team", "name": "chat", "engine": "0"}
    owner = {"namespace": "team", "name": "chat"}
    assert value(series.SLA_TARGET, metric="itl", percentile="90", **owner) == 0.05
    assert value(series.LATENCY_OBSERVED, metric="itl", percentile="50", **engine) == pytest.approx(0.02, rel=0.03)
    assert value(series.LATENCY_OBSERVED, metric="itl", percentile="95", **engine) == pytest.approx(0.06, rel=0.03)
    assert value(series.LATENCY_OBSERVED, metric="itl", percentile="90", **engine) == pytest.approx(0.02, rel=0.03)
    assert value(series.BOUND_APPLIED, bound="max_num_seqs", **engine) == 256
    assert value(series.BOUND_LIMIT, bound="max_num_batched_tokens", limit="min", **owner) == 256
    assert value(series.ENGINE_RUNNING, **engine) == 3
    assert value(series.ENGINE_KV_USAGE, **engine) == 0.25
    assert value(series.ENGINE_STEPS, **engine) == 1
    assert value(series.ENGINE_STEP_SECONDS, "_count", **engine) == 1
    assert value(series.ENGINE_PREDICTED_SECONDS, "_count", **engine) == 1
    assert value(series.ENGINE_PREDICTED_SECONDS, "_sum", **engine) == pytest.approx(0.018)
    assert value(series.ENGINE_BUDGET_TOKENS, **engine) == 8192
    assert value(series.ENGINE_TRIM, **engine) == 1
    assert value(series.ENGINE_HELD, **engine) == 2
    assert value(series.ENGINE_RELEGATED, **engine) == 1
    assert value(series.ENGINE_PREEMPTIONS, **engine) == 1
    assert value(series.TELEMETRY_DROPPED, **engine) == 3
    assert value(series.REQUESTS, result="good", **engine) == 1
    assert value(series.REQUESTS, result="failed", **engine) == 0
    assert value(series.MISSES, metric="itl", percentile="90", **engine) == 10
    assert value(series.MISSES_ALLOWED, metric="itl", percentile="90", **engine) == 10
    assert value(series.ATTAINMENT, **engine) == 1
    assert value(series.CLASS_ATTAINMENT, **{"class": "interactive"}, **engine) == 1
    assert value(series.CLASS_ATTAINMENT, **{"class": "batch"}, **engine) == 0
    assert value(series.CLASS_REQUESTS, **{"class": "batch"}, result="missed", **engine) == 1
    assert value(series.MODE, mode="Auto", **owner) == 1
    assert value(series.MODE, mode="Off", **owner) == 0
    assert value(series.GPU_SOURCE, source="relay") == 1
    assert value(series.GPU_MEMORY, uuid="GPU-1", kind="free") == 30
    assert value(series.ENGINE_CONTRACT, mode="full", **engine) == 1
    assert value(series.POLICY_REVISION, **owner) == 7


async def test_limits_without_a_maximum_are_shown_once_an_engine_has_told_its_ceilings(
    client: httpx.AsyncClient, world: World, loop: AgentLoop
) -> None:
    world.policy = make_policy(max_num_seqs=AskedLimits(min=1000), max_num_batched_tokens=AskedLimits(min=256))
    loop.sense(NOW)

    async def limits() -> dict[tuple[str, str], float]:
        text = (await client.get("/metrics")).text
        found = [(labels, value) for name, labels, value in samples(text) if name == series.BOUND_LIMIT.name]
        return {(labels["bound"], labels["limit"]): value for labels, value in found}

    assert await limits() == {("max_num_seqs", "min"): 1000, ("max_num_batched_tokens", "min"): 256}
    loop.observe(0, Answer(Outcome.APPLIED, document()), NOW)
    assert await limits() == {
        ("max_num_seqs", "min"): 512,
        ("max_num_seqs", "max"): 512,
        ("max_num_batched_tokens", "min"): 256,
        ("max_num_batched_tokens", "max"): 8192,
    }


async def test_what_an_earlier_agent_has_counted_is_not_counted_again(world: World) -> None:
    loop = AgentLoop(
        telemetry=world,
        policy=world,
        gpu=OneGPU(),
        front_end=NoFrontEnd(),
        wall_clock=lambda now: now,
        started=NOW - 0.2,
    )
    fill(world, loop)
    registry = CollectorRegistry()
    LoopCollector(loop, lambda: NOW, registry)
    engine = {"namespace": "team", "name": "chat", "engine": "0"}

    def value(definition: series.Series, **labels: str) -> float | None:
        return registry.get_sample_value(definition.name, engine | labels)

    counters = [value(one) for one in (series.ENGINE_STEPS, series.ENGINE_PREEMPTIONS)]
    assert counters == [0, 0]
    assert value(series.REQUESTS, result="good") == 0
    assert registry.get_sample_value(f"{series.ENGINE_STEP_SECONDS.name}_count", engine) == 0
    assert (loop.engines[0].totals.first_tokens, loop.engines[0].totals.first_token_seconds) == (0, 0)
    # A gauge is of the whole window, and the laws start warm.
    assert value(series.ATTAINMENT) == 1
    assert sum(loop.engines[0].measured.sla.total.itl.values()) == 100
    assert loop.engines[0].measured.last_step is not None


async def test_only_names_of_the_shared_list_are_exported(
    client: httpx.AsyncClient, world: World, loop: AgentLoop
) -> None:
    fill(world, loop)
    known = {one.name: one.labels for one in series.ALL}
    for name, labels, _ in samples((await client.get("/metrics")).text):
        base = name if name in known else name.rsplit("_", 1)[0]
        assert base in known, name
        assert set(labels) - {"le"} == set(known[base])


async def test_a_loop_that_stands_still_is_not_healthy(loop: AgentLoop) -> None:
    app = build_app(
        loop, CollectorRegistry(), clock=lambda: NOW, wall_clock=lambda now: now, last_tick=lambda: NOW - 30
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://agent") as client:
        assert (await client.get("/healthz")).status_code == 503
