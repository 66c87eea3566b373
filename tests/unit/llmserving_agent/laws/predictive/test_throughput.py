"""What planning costs in throughput, against steps as stock bounds fill them, by a known step-time model."""

from collections.abc import Callable
from typing import Any

import pytest

from llmserving_agent.laws.predictive.law import LOST_THROUGHPUT
from llmserving_agent.laws.predictive.learner import Learned
from llmserving_agent.laws.predictive.memory import CELLS, KINDS, Sample
from llmserving_agent.laws.predictive.throughput import relative_throughput
from llmserving_agent.laws.protocol import Window
from llmserving_api.control import Bounds
from llmserving_api.telemetry import StepRecord

Make = Callable[..., StepRecord]
MODEL = Learned((8e-3, 0.0, 4e-5, 0.0, 6e-5, 8e-8, 0.0, 6e-5, 0.0, 0.0), ((0.0,) * CELLS,) * KINDS, 0.03)
STOCK = Bounds(max_num_seqs=256, max_num_batched_tokens=8192)


@pytest.fixture
def steps(step_record: Make) -> Callable[..., tuple[StepRecord, ...]]:
    """Steps of one content, as long as the model says (times `pace`)."""

    def make(prefill: int, decodes: int, *, waiting: int = 100, pace: float = 1.0, count: int = 30) -> Any:
        seconds = pace * MODEL.seconds(Sample(prefill, 0.0, decodes, decodes * 800, 0.0))
        one = step_record(
            prefill_tokens=prefill,
            decode_requests=decodes,
            decode_context_tokens=decodes * 800,
            waiting=waiting,
            duration_ns=round(seconds * 1e9),
        )
        return (one,) * count

    return make


Steps = Callable[..., tuple[StepRecord, ...]]
Windows = Callable[..., Window]


def test_steps_filled_well_lose_nothing(steps: Steps, window: Windows) -> None:
    relative = relative_throughput(MODEL, steps(900, 120), window(running=150, waiting=100), STOCK)
    assert relative is not None
    assert 0.7 < relative < 1.2


def test_prompts_served_in_crumbs_are_seen(steps: Steps, window: Windows) -> None:
    relative = relative_throughput(MODEL, steps(32, 8), window(running=10, waiting=100), STOCK)
    assert relative is not None
    assert relative < LOST_THROUGHPUT


def test_prompts_not_served_at_all_are_seen_by_how_few_decode(steps: Steps, window: Windows) -> None:
    relative = relative_throughput(MODEL, steps(0, 4), window(running=4, waiting=100), STOCK)
    assert relative is not None
    assert relative < LOST_THROUGHPUT


def test_where_memory_keeps_requests_out_few_decoding_is_no_loss(steps: Steps, window: Windows) -> None:
    full = window(running=10, waiting=100, kv_blocks_used=29_000, kv_blocks_total=30_000)
    relative = relative_throughput(MODEL, steps(0, 10), full, STOCK)
    assert relative is not None
    assert relative > 0.9


def test_limits_that_keep_requests_out_are_no_loss(steps: Steps, window: Windows) -> None:
    small = Bounds(max_num_seqs=8, max_num_batched_tokens=8192)
    relative = relative_throughput(MODEL, steps(0, 8), window(running=8, waiting=100), small)
    assert relative is not None
    assert relative > 0.9


def test_with_nobody_waiting_nothing_is_said(steps: Steps, window: Windows) -> None:
    idle = steps(0, 2, waiting=0)
    assert relative_throughput(MODEL, idle, window(running=2, waiting=0), STOCK) is None
    brief = idle * 9 + steps(0, 2, waiting=1)
    assert relative_throughput(MODEL, brief, window(running=2, waiting=0), STOCK) is None
    assert relative_throughput(MODEL, (), window(), STOCK) is None


def test_a_device_at_another_pace_than_the_model_knows_shows(steps: Steps, window: Windows) -> None:
    """The learner follows within seconds, which is sooner than a fault is acted on."""
    here = window(running=150, waiting=100)
    slow = relative_throughput(MODEL, steps(900, 120, pace=1.3), here, STOCK)
    usual = relative_throughput(MODEL, steps(900, 120), here, STOCK)
    assert slow == pytest.approx((usual or 0.0) / 1.3)
