"""The laws Wait and NestedWait: from measurements to the planner's parameters."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from llmserving_agent.laws.protocol import Decision, Setting, Window
from llmserving_agent.laws.wait.law import NestedWait, Wait, WaitState
from llmserving_agent.signals.epoch import EpochSums, Steps
from llmserving_agent.signals.lengths import LengthStatistics
from llmserving_api.conditions import DecisionReason
from llmserving_api.control import Bounds
from llmserving_api.policy import Limits, Target
from llmserving_api.telemetry import Outcome, RequestRecord
from llmserving_engine.planning.protocol import PlannerChoice as EngineChoice
from llmserving_engine.planning.registry import build

STOCK = Bounds(max_num_seqs=256, max_num_batched_tokens=2048)
SETTING = Setting(
    ttft=Target(percentile=95, target_seconds=2.0),
    itl=None,
    e2e=None,
    max_num_seqs=Limits(min=8, max=512),
    max_num_batched_tokens=Limits(min=256, max=8192),
    stock=STOCK,
)


def window(
    requests: list[tuple[int, int]],
    *,
    rate: float = 4.0,
    step_seconds: float = 0.05,
    used: int = 2000,
    blocks: int = 30_000,
) -> Window:
    statistics = LengthStatistics()
    for prompt, output in requests:
        statistics.add_outputs(output)
        statistics.add(
            RequestRecord(Outcome.FINISHED, 0, 1, prompt, 0, output, output - 1, 0, 0, 0, 0, 0, 0.1, 1.0, 0.0, 0.05)
        )
    steps = Steps(count=20, seconds=step_seconds, decodes=20, tokens=20)
    epoch = EpochSums(1.0, 20, steps, Steps(), Steps(), {}, {}, 0, 0.0, 0.0)
    return Window(
        bounds=STOCK,
        age_seconds=0.1,
        epoch=epoch,
        running=20,
        decoding=20,
        waiting=3,
        overdue_waiting=0,
        kv_blocks_used=used,
        kv_blocks_total=blocks,
        block_size=16,
        draining=False,
        lengths=statistics.statistics(),
        arrivals_per_second=rate,
    )


def decided(law: Wait | NestedWait, *windows: Window) -> tuple[WaitState, Decision]:
    state = law.start(STOCK, SETTING)
    for one in windows:
        state, decision = law.decide(state, one, SETTING)
    return state, decision


def chat(count: int = 200, seed: int = 1) -> list[tuple[int, int]]:
    rng = random.Random(seed)
    return [(rng.randrange(20, 2000), rng.randrange(20, 400)) for _ in range(count)]


def short(count: int = 200) -> list[tuple[int, int]]:
    rng = random.Random(2)
    return [(rng.randrange(20, 600), rng.randrange(10, 30)) for _ in range(count)]


def test_nothing_is_held_before_lengths_are_known() -> None:
    _, decision = decided(Wait(), window(chat(10)))
    assert decision.reason is DecisionReason.TOO_FEW_SAMPLES
    assert decision.planner.name == "bounds"


def test_wait_sends_a_threshold_for_each_range_of_prompts_that_the_engine_accepts() -> None:
    _, decision = decided(Wait(), window(short(), rate=100.0))
    types = decision.planner.parameters["types"]
    assert len(types) == 3
    assert all(kind["gather"] >= 1 for kind in types)
    assert decision.planner.parameters["hold_seconds"] == 0.5
    build(EngineChoice(decision.planner.name, decision.planner.parameters))


def test_wait_gathers_more_when_more_arrive() -> None:
    few = decided(Wait(), window(short(), rate=30.0))[1].planner.parameters["types"]
    many = decided(Wait(), window(short(), rate=200.0))[1].planner.parameters["types"]
    assert sum(kind["gather"] for kind in many) > sum(kind["gather"] for kind in few)


def test_wait_holds_nothing_when_no_threshold_is_stable() -> None:
    steps = [
        window(chat(), rate=500.0, used=used, step_seconds=0.01 + used * 16 * 4e-7) for used in range(1000, 9000, 500)
    ]
    _, decision = decided(Wait(), *steps)
    assert decision.planner.name == "bounds"


def test_a_small_change_of_the_rate_leaves_the_thresholds_alone() -> None:
    law = Wait()
    state, first = decided(law, window(short(), rate=80.0))
    for rate in [82.0] * 25:
        state, later = law.decide(state, window(short(), rate=rate), SETTING)
    assert later.planner == first.planner


def test_nested_wait_sends_boundaries_and_thresholds_that_the_engine_accepts() -> None:
    _, decision = decided(NestedWait(), window(chat()))
    assert decision.planner.name == "nested-wait"
    parameters = decision.planner.parameters
    assert parameters["boundaries"] == sorted(parameters["boundaries"])
    assert len(parameters["gather"]) == len(parameters["boundaries"]) + 1
    build(EngineChoice(decision.planner.name, parameters))


def test_nested_wait_asks_for_fewer_in_the_system_with_less_memory() -> None:
    large = decided(NestedWait(), window(chat(), blocks=30_000))[1].planner.parameters["in_system"]
    small = decided(NestedWait(), window(chat(), blocks=20_000))[1].planner.parameters["in_system"]
    assert small < large


@settings(max_examples=50, deadline=None)
@given(
    requests=st.lists(st.tuples(st.integers(1, 4000), st.integers(1, 600)), min_size=64, max_size=120),
    rate=st.floats(0.01, 1000),
    seconds=st.floats(0.001, 0.5),
    blocks=st.integers(100, 50_000),
    nested=st.booleans(),
)
def test_whatever_is_measured_the_engine_accepts_the_parameters(
    requests: list[tuple[int, int]], rate: float, seconds: float, blocks: int, nested: bool
) -> None:
    law = NestedWait() if nested else Wait()
    _, decision = decided(law, window(requests, rate=rate, step_seconds=seconds, blocks=blocks))
    assert 8 <= decision.bounds.max_num_seqs <= 512
    build(EngineChoice(decision.planner.name, decision.planner.parameters))
