"""The twin of vLLM's scheduler serves everybody, whatever memory it has."""

import random

import pytest

from llmserving_lab.bench.outcome import Targets
from llmserving_lab.bench.twin import run_twin
from llmserving_lab.device.model import load_device
from llmserving_lab.traces.arrival import Arrival


@pytest.mark.timeout(120)
@pytest.mark.parametrize("asynchronous", [True, False])
@pytest.mark.parametrize(("prompt", "output"), [(20, 200), (50, 20)])
def test_every_request_ends_where_memory_runs_out(prompt: int, output: int, asynchronous: bool) -> None:
    device = load_device("rtxpro6000-llama-3.1-8b", asynchronous=asynchronous)
    for seed in range(20):
        chance = random.Random(seed)
        load = [
            Arrival(
                chance.uniform(0, 2), chance.randint(1, prompt), chance.choice([1, 2, 3, 4, chance.randint(1, output)])
            )
            for _ in range(40)
        ]
        result = run_twin(
            sorted(load, key=lambda one: one.time),
            device,
            Targets(ttft=None, itl=None),
            max_num_seqs=64,
            max_num_batched_tokens=512,
            kv_tokens=prompt + output + chance.randint(0, 200),
            warmup=0.0,
        )
        assert len(result.finished) == result.good == len(load)  # nobody has a target to miss
