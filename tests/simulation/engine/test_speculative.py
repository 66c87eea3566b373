"""Speculative decoding under the default policy: a decode takes several tokens of the step, and may bring several."""

import random
from itertools import pairwise

import pytest
from vllm.v1.outputs import DraftTokenIds

pytestmark = pytest.mark.engine

DRAFTS = 3
TARGETS = {"ttft_seconds": 2.0, "itl_seconds": 0.05}
MODEL = {"coefficients": [0.008, 1e-5, 0.0, 0.0, 1e-4, 0.0, 0.0, 0.0, 0.0, 0.0], "error": 0.05}


@pytest.fixture
def speculating(engine, asynchronous):
    """An engine whose requests carry three draft tokens in each decode; of them the device accepts some."""
    if asynchronous:
        pytest.skip("drafts are then placeholders that only a real model runner fills")
    chance = random.Random(1)
    sim = engine(prepare=lambda scheduler: setattr(scheduler, "num_spec_tokens", DRAFTS))
    deliver = sim.scheduler.update_from_output

    def update(output, result):
        for index, name in enumerate(result.req_ids):
            drafted = len(output.scheduled_spec_decode_tokens.get(name, ()))
            if result.sampled_token_ids[index]:
                result.sampled_token_ids[index] = [5] * (1 + chance.randint(0, drafted))
        outputs = deliver(output, result)
        decoding = [r.request_id for r in sim.scheduler.running if r.num_computed_tokens >= r.num_prompt_tokens]
        sim.scheduler.update_draft_token_ids(DraftTokenIds(decoding, [[7] * DRAFTS for _ in decoding]))
        return outputs

    sim.scheduler.update_from_output = update
    return sim


@pytest.mark.parametrize("parameters", [{}, MODEL], ids=["without a model", "with a model"])
def test_every_request_gets_all_its_tokens_and_no_decode_waits_for_prompts(speculating, parameters):
    sim = speculating
    sim.patch(targets=TARGETS, planner={"name": "predictive", "parameters": parameters})
    names, drafted = [], 0
    for _ in range(120):
        if len(names) < 40:
            names.append(sim.add(prompt=200, output=50))
        output = sim.step()
        drafted += sum(map(len, output.scheduled_spec_decode_tokens.values()))
    sim.run()
    assert drafted > 1000
    assert {name: len(sim.outputs[name]) for name in names} == dict.fromkeys(names, 50)
    times = [sim.delivered_ns[name] for name in names]
    assert max(later - earlier for own in times for earlier, later in pairwise(own)) <= 5 * sim.step_ns
    assert sim.control.document()["faults"] == 0
    assert sim.control.document()["planner"]["name"] == "predictive"
