import json
from collections.abc import Callable
from typing import Any

import pytest

from llmserving_lab.bench.beside import law_of
from llmserving_lab.bench.clock import Clock
from llmserving_lab.bench.engine import EngineSettings, SchedulerEngine
from llmserving_lab.bench.outcome import Targets
from llmserving_lab.bench.simulation import Simulation
from llmserving_lab.bench.surroundings import TargetChange
from llmserving_lab.bench.twin import run_twin
from llmserving_lab.device.model import StepBatch, load_device
from llmserving_lab.traces.arrival import Arrival
from llmserving_lab.traces.load import build_load
from llmserving_lab.traces.plan import LoadPlan

Run = Callable[..., dict[str, Any]]

_POLICIES = (
    "default",
    "static:64x512",
    "memory",
    "memory-readme",
    "sla",
    "memory-sla",
    "predictive",
    "oracle",
    "wait",
    "nested-wait",
    "fair",
    "past-future",
)


def _without_wall(result: dict[str, Any]) -> str:
    return json.dumps({key: value for key, value in result.items() if not key.startswith("wall_")})


@pytest.mark.parametrize("policy", _POLICIES)
@pytest.mark.parametrize("asynchronous", [True, False])
def test_every_policy_finishes_every_request(run: Run, policy: str, asynchronous: bool) -> None:
    result = run(policy, asynchronous=asynchronous)
    assert result["completed"] == result["arrived"] == 80
    assert result["unfinished"] == 0


@pytest.mark.parametrize("policy", ["default", "memory-sla"])
def test_a_run_repeats_to_the_last_digit(run: Run, policy: str) -> None:
    noisy = {"source": "h200-qwen3-8b", "harder": ["noise", "throttling"]}
    assert _without_wall(run(policy, device=noisy)) == _without_wall(run(policy, device=noisy))


def test_other_seeds_give_other_runs(run: Run) -> None:
    assert run("default", load__seed=1)["ttft_p50_s"] != run("default", load__seed=2)["ttft_p50_s"]


@pytest.mark.parametrize("policy", ["static:64x512", "past-future", "memory-sla"])
def test_no_token_is_lost_or_made_twice_where_memory_binds(run: Run, policy: str) -> None:
    result = run(policy, kv_tokens=10_000, load__rate=20.0)
    assert result["completed"] == 80
    if policy == "static:64x512":
        assert result["preemptions"] > 0


def test_outputs_have_exactly_the_lengths_of_the_load() -> None:
    load = [Arrival(0.1 * index, 50 + index, 1 + index % 7) for index in range(40)]
    for asynchronous in (True, False):
        engine = SchedulerEngine(EngineSettings(8, 64, kv_blocks=40, asynchronous=asynchronous))
        device = load_device("h200-qwen3-8b", asynchronous=asynchronous)
        record = Simulation(engine, device, load, [TargetChange(0.0, Targets(1.0, 0.1))]).run()
        assert [len(outcome.token_times) for outcome in record.outcomes] == [one.output_tokens for one in load]
        assert all(times == sorted(times) for times in (outcome.token_times for outcome in record.outcomes))


def test_one_request_alone_takes_the_time_of_its_steps() -> None:
    device = load_device("h200-qwen3-8b", asynchronous=False)
    engine = SchedulerEngine(EngineSettings(8, 2048, kv_blocks=1000, asynchronous=False))
    record = Simulation(engine, device, [Arrival(5.0, 100, 3)], [TargetChange(0.0, Targets(1.0, 0.1))]).run()
    steps = [StepBatch(((100, 0),), sampled=1), StepBatch((), 1, 101, 101, 1), StepBatch((), 1, 102, 102, 1)]
    expected = 5.0
    for batch, token in zip(steps, record.outcomes[0].token_times, strict=True):
        expected += device.step_seconds(batch).seconds
        assert token == pytest.approx(expected)


def test_the_engine_cannot_read_an_output_length_beforehand() -> None:
    engine = SchedulerEngine(EngineSettings(8, 2048, kv_blocks=1000))
    short, long = (engine.request(str(n), n, Arrival(0.0, 10, n), now=0.0) for n in (2, 500))
    assert short.max_tokens == long.max_tokens


@pytest.mark.parametrize("policy", ["default", "predictive", "fair", "planner:bounds"])
@pytest.mark.parametrize(
    ("device", "ceilings"), [("rtxpro6000-llama-3.1-8b", [1024, 8192]), ("rtx4090-llama-3.1-8b", [256, 2048])]
)
def test_ceilings_that_nobody_names_are_those_of_vllm_for_the_card(
    run: Run, policy: str, device: str, ceilings: list[int]
) -> None:
    result = run(policy, load__requests=5, device={"source": device})
    assert result["ceilings"] == result["bounds"][0][1:] == ceilings


def test_a_tight_target_brings_the_law_to_smaller_bounds(run: Run) -> None:
    result = run("memory-sla", load__requests=400, load__rate=6.0, targets=[{"ttft": 2.0, "itl": 0.04}])
    assert result["bounds"][0][1:] == [1024, 8192]
    assert result["bounds"][-1][2] < 2048
    assert "ITLHigh" in result["decisions"]


def test_an_edit_of_the_sla_reaches_the_engine_in_virtual_time(run: Run) -> None:
    edit = [{"ttft": 2.0, "itl": 0.2}, {"time": 30.0, "ttft": 2.0, "itl": 0.03}]
    result = run("memory-sla", load__requests=400, load__rate=6.0, targets=edit)
    before = [bounds for bounds in result["bounds"] if bounds[0] < 30]
    assert before[-1][2] > 2048
    assert result["bounds"][-1][2] < before[-1][2]


def test_clients_that_give_up_leave_and_their_retries_come(run: Run) -> None:
    result = run("static:16x256", load__rate=20.0, load__abort_after=3.0, load__retries=1)
    assert result["aborted"] > 0
    assert result["arrived"] > 80
    assert result["completed"] + result["aborted"] == result["arrived"]


def test_a_search_gives_up_early_once_enough_has_missed(run: Run) -> None:
    result = run("static:16x256", load__rate=20.0, load__requests=300, give_up_misses=20)
    assert result["gave_up"]
    assert result["arrived"] < 300


def test_without_a_drain_what_is_undone_is_missed(run: Run) -> None:
    result = run("static:16x256", load__rate=40.0, drain=False)
    assert result["unfinished"] > 0
    assert result["good"] <= result["completed"] < result["arrived"]


def test_shared_prefixes_are_found_in_the_cache() -> None:
    shared = [Arrival(10.0 * index, 1100, 5, content=((7, 1000), (100 + index, 100))) for index in range(5)]
    own = [Arrival(10.0 * index, 1100, 5) for index in range(5)]
    tokens = {}
    for name, load in (("shared", shared), ("own", own)):
        engine = SchedulerEngine(EngineSettings(8, 2048, kv_blocks=2000))
        tokens[name] = (
            Simulation(engine, load_device("h200-qwen3-8b"), load, [TargetChange(0.0, Targets(1.0, 0.1))]).run().tokens
        )
    assert tokens["own"] - tokens["shared"] == 4 * (1000 // 16 * 16)


def test_a_request_larger_than_the_cache_is_refused_with_what_would_help(run: Run) -> None:
    with pytest.raises(ValueError, match=r"can never fit into 2000 tokens .*--kv-tokens"):
        run("default", kv_tokens=2000, load__kind="long-context", load__requests=3)


def test_an_unknown_law_says_which_there_are() -> None:
    with pytest.raises(ValueError, match="MemorySLA"):
        law_of("magic")


def test_time_stands_still_without_work() -> None:
    clock = Clock()
    engine = SchedulerEngine(EngineSettings(8, 2048, kv_blocks=1000))
    record = Simulation(
        engine,
        load_device("h200-qwen3-8b"),
        [Arrival(1000.0, 10, 2)],
        [TargetChange(0.0, Targets(1.0, 0.1))],
        clock=clock,
    ).run()
    assert record.steps < 6
    assert 1000.0 < clock.time < 1001.0


def test_outputs_come_in_the_order_of_their_steps_as_from_the_engines_core(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = SchedulerEngine(EngineSettings(8, 2048, kv_blocks=1000, max_model_len=32))
    schedule, update = engine.scheduler.schedule, engine.scheduler.update_from_output
    scheduled: list[Any] = []
    updated: list[Any] = []

    def noting_schedule() -> Any:
        scheduled.append(schedule())
        return scheduled[-1]

    def noting_update(output: Any, result: Any) -> Any:
        updated.append(output)
        return update(output, result)

    monkeypatch.setattr(engine.scheduler, "schedule", noting_schedule)
    monkeypatch.setattr(engine.scheduler, "update_from_output", noting_update)
    load = [Arrival(0.0, 24, 8), Arrival(5.0, 24, 8)]  # nothing is left to schedule while the last token comes
    Simulation(engine, load_device("h200-qwen3-8b"), load, [TargetChange(0.0, Targets(1.0, 0.1))]).run()
    assert not all(output.total_num_scheduled_tokens for output in scheduled[:-1])
    assert [id(output) for output in updated] == [id(output) for output in scheduled]


@pytest.mark.parametrize(("bounds", "kv_tokens"), [((64, 512), 400_000), ((16, 256), 400_000), ((64, 1024), 20_000)])
@pytest.mark.parametrize("asynchronous", [True, False])
def test_the_twin_agrees_with_the_real_scheduler(bounds: tuple[int, int], kv_tokens: int, asynchronous: bool) -> None:
    targets = Targets(ttft=0.5, itl=0.03)
    load = build_load(LoadPlan(kind="conversation", requests=200, rate=8.0, seed=5))
    device = load_device("rtxpro6000-llama-3.1-8b", asynchronous=asynchronous)
    twin = run_twin(
        load, device, targets, max_num_seqs=bounds[0], max_num_batched_tokens=bounds[1], kv_tokens=kv_tokens, warmup=0.0
    )
    engine = SchedulerEngine(EngineSettings(*bounds, kv_blocks=kv_tokens // 16, asynchronous=asynchronous))
    record = Simulation(engine, device, load, [TargetChange(0.0, targets)]).run()
    good = sum(outcome.is_good() for outcome in record.outcomes)
    assert 0 < good < 200
    assert abs(twin.good - good) <= 10
