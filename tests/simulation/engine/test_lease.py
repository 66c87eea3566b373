"""When nobody renews the lease the bounds go to the fallback, slowly, and never to the ceilings."""

import pytest
from vllm.engine.arg_utils import EngineArgs
from vllm.usage.usage_lib import UsageContext

pytestmark = pytest.mark.engine


def run_for(sim, seconds: float) -> None:
    end = sim.clock.now_ns + int(seconds * 1e9)
    while sim.clock.now_ns < end:
        if len(sim.scheduler.requests) < 4:
            sim.add(prompt=8, output=200)
        sim.step()


def test_an_expired_lease_moves_the_bounds_to_the_fallback_and_not_to_the_ceilings(engine):
    sim = engine()
    sim.step_ns = 100_000_000
    sim.patch(
        max_num_seqs=4,
        max_num_batched_tokens=64,
        lease_seconds=30,
        fallback={"max_num_seqs": 32, "max_num_batched_tokens": 256},
    )
    run_for(sim, 29)
    assert sim.control.document()["applied"] == {"max_num_seqs": 4, "max_num_batched_tokens": 64}
    run_for(sim, 31)
    halfway = sim.control.document()["applied"]["max_num_seqs"]
    assert 4 < halfway < 32
    run_for(sim, 40)
    document = sim.control.document()
    assert document["applied"] == {"max_num_seqs": 32, "max_num_batched_tokens": 256}
    assert document["lease"]["expired"]
    assert max(row.max_num_seqs for row in sim.rows.steps if row.operation_id) <= 32


def test_a_renewal_brings_the_requested_bounds_back(engine):
    sim = engine()
    sim.step_ns = 100_000_000
    sim.patch(max_num_seqs=4, lease_seconds=5, fallback={"max_num_seqs": 32, "max_num_batched_tokens": 256})
    run_for(sim, 80)
    assert sim.control.document()["applied"]["max_num_seqs"] == 32
    sim.patch()
    run_for(sim, 0.2)
    assert sim.control.document()["applied"]["max_num_seqs"] == 4


def test_before_anybody_speaks_the_engine_runs_with_what_stock_vllm_would_choose(engine):
    sim = engine(max_num_seqs=512, max_num_batched_tokens=16_384)
    document = sim.control.document()
    tokens, seqs = EngineArgs.get_batch_defaults(world_size=1)
    server = UsageContext.OPENAI_API_SERVER
    assert document["stock"] == {"max_num_seqs": seqs[server], "max_num_batched_tokens": tokens[server]}
    assert document["requested"] == document["fallback"] == document["stock"]
    for _ in range(300):
        sim.add(prompt=100, output=50)
    assert sim.step().total_num_scheduled_tokens == tokens[server]
