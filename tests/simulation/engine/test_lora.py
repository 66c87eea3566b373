"""Adapters of parked and paused requests count: no more of them run together than the engine has slots for."""

import random

import pytest
from vllm.config.lora import LoRAConfig
from vllm.lora.request import LoRARequest

pytestmark = pytest.mark.engine

PLANNERS = {
    "bounds": {"name": "bounds"},
    "predictive": {
        "name": "predictive",
        "parameters": {
            "coefficients": [0.011, 1.2e-5, 1.7e-5, 6.3e-6, 4.1e-6, 9.8e-8, 1.3e-9, 2.2e-5, 3.7e-8, 5.9e-7],
            "residuals": [[], [], []],
            "error": 0.03,
        },
    },
    "nested-wait": {
        "name": "nested-wait",
        "parameters": {"boundaries": [20, 60], "gather": [1, 4, 4], "hold_seconds": 0.5},
    },
}


def adapter(number: int) -> LoRARequest:
    return LoRARequest(f"adapter-{number}", number, f"/adapters/{number}")


@pytest.mark.parametrize("law", PLANNERS)
@pytest.mark.parametrize("max_loras", [1, 2])
def test_requests_of_more_adapters_than_fit_are_all_served(engine, law, max_loras):
    def with_adapters(scheduler):
        scheduler.lora_config = LoRAConfig(max_loras=max_loras, max_lora_rank=8)

    sim = engine(prepare=with_adapters, max_num_seqs=256, max_num_batched_tokens=2048, kv_blocks=20_000)
    sim.step_ns = 20_000_000
    sim.patch(planner=PLANNERS[law], targets={"itl_seconds": 0.05, "ttft_seconds": 2.0}, lease_seconds=3600)
    chance = random.Random(1)
    names = [sim.add(500, 150, lora_request=adapter(1)) for _ in range(24)]
    for number in range(20_000):
        if number >= 30 and number % 3 == 0 and len(names) < 64:
            kind = number // 3 % (max_loras + 1)
            names.append(sim.add(chance.randint(200, 3000), 40, lora_request=adapter(1 + kind)))
        if not sim.step().total_num_scheduled_tokens:
            sim.clock.now_ns += 10_000_000  # a group is held
        together = {request.lora_request.lora_int_id for request in sim.scheduler.running}
        assert len(together) <= max_loras
        if len(sim.finished) == 64:
            break
    assert set(sim.finished) == set(names)
    assert sim.control.progress.faults == 0
