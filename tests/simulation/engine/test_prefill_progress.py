"""A small live budget never stops prefill for good: the ways in which vLLM's scheduler is known to wedge."""

import pytest
import torch
from vllm.multimodal.inputs import MultiModalFeatureSpec, PlaceholderRange
from vllm.v1.core.encoder_cache_manager import EncoderCacheManager

from llmserving_engine.budget import Quantum
from llmserving_engine.planning.bounds_only import BoundsOnly
from llmserving_engine.planning.protocol import StepPlan
from llmserving_engine.telemetry import StepFlag

pytestmark = pytest.mark.engine


def without_chunking(scheduler):
    scheduler.scheduler_config.enable_chunked_prefill = False


def with_aligned_mamba_blocks(scheduler):
    scheduler.need_mamba_block_aligned_split = True
    scheduler.cache_config.block_size = 128


def with_whole_items(scheduler):
    scheduler.scheduler_config.disable_chunked_mm_input = True
    scheduler.max_num_encoder_input_tokens = 1000
    scheduler.encoder_cache_manager = EncoderCacheManager(cache_size=1000)
    scheduler.num_prefill_lookahead = 1


def picture(tokens: int, offset: int, name: str) -> MultiModalFeatureSpec:
    position = PlaceholderRange(offset=offset, length=tokens, is_embed=torch.ones(tokens, dtype=torch.bool))
    return MultiModalFeatureSpec(data=None, modality="image", identifier=name, mm_position=position, mm_hash=name)


def add_traffic(sim, kind):
    """Long decodes that fill most of a small budget, then requests whose prefill needs a whole quantum."""
    for _ in range(50):
        sim.add(prompt=4, output=2000)
    while len(sim.scheduler.running) < 50:
        sim.step()
    if kind is with_whole_items:
        return [sim.add(prompt=300, output=3, mm_features=[picture(200, 40, f"p{index}")]) for index in range(3)]
    return [sim.add(prompt=300, output=3) for _ in range(3)]


@pytest.mark.parametrize("kind", [without_chunking, with_aligned_mamba_blocks, with_whole_items])
def test_requests_that_need_a_whole_quantum_are_served_under_a_small_budget(engine, kind):
    sim = engine(prepare=kind)
    late = add_traffic(sim, kind)
    sim.patch(max_num_batched_tokens=130)
    for _ in range(60):
        sim.step()
    assert set(late) <= set(sim.finished)
    assert sim.control.progress.faults == 0


@pytest.mark.parametrize("kind", [without_chunking, with_aligned_mamba_blocks, with_whole_items])
def test_stock_vllm_wedges_under_such_a_budget(engine, kind):
    """Why the quantum is needed; if this fails one day, vLLM has learned to help itself."""
    sim = engine(live=False)
    kind(sim.scheduler)
    late = add_traffic(sim, kind)
    sim.scheduler.max_num_scheduled_tokens = 130
    for _ in range(300):
        sim.step()
    assert not set(late) & set(sim.finished)


def test_a_wedge_nobody_knew_is_opened_and_counted(engine, caplog):
    """A scheduler that refuses chunks under 200 tokens for a reason of its own."""

    def stubborn(scheduler):
        scheduler.need_mamba_block_aligned_split = True
        scheduler._mamba_block_aligned_split = lambda request, tokens, *computed: (
            tokens if tokens >= min(200, request.num_tokens - request.num_computed_tokens) else 0
        )

    sim = engine(prepare=stubborn)
    object.__setattr__(sim.live.runtime, "quantum", Quantum())  # which knows nothing of it
    name = sim.add(prompt=300, output=3)
    sim.patch(max_num_batched_tokens=64)
    for _ in range(200):
        sim.step()
    assert name in sim.finished
    assert sim.control.document()["prefill_openings"] > 0
    assert any(row.flags & StepFlag.PREFILL_OPENED for row in sim.rows.steps)
    assert "no prompt token for 16 steps" in caplog.text


def test_a_planner_that_never_serves_a_running_request_does_not_hold_it_up_for_good(engine, caplog):
    class Forgetful(BoundsOnly):
        name = "forgetful"

        def plan(self, view):
            return StepPlan(view.bounds.max_num_seqs, 0, parked=tuple(one.request_id for one in view.running))

    sim = engine()
    name = sim.add(prompt=40, output=3)
    sim.step()
    sim.live.planner.law = Forgetful()
    for _ in range(5_000):
        sim.clock.now_ns += 1_000_000
        sim.step()
    assert name in sim.finished
    assert sim.control.progress.faults == 0
    assert sim.control.document()["prefill_openings"] > 0
    assert "planner 'forgetful' let nobody run for a second" in caplog.text
