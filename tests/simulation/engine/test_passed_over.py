"""Requests that vLLM passes over, whatever budget it has, are no reason to open the budget."""

import pytest
from vllm.config.lora import LoRAConfig
from vllm.lora.request import LoRARequest
from vllm.sampling_params import StructuredOutputsParams
from vllm.v1.core.sched.interface import PauseState
from vllm.v1.request import RequestStatus
from vllm.v1.structured_output.request import StructuredOutputRequest

pytestmark = pytest.mark.engine

BOUND = 128


def a_grammar_is_compiled(sim):
    request = sim.scheduler.requests[sim.add(100, 50)]
    request.structured_output_request = StructuredOutputRequest(StructuredOutputsParams(regex="a"))
    request.status = RequestStatus.WAITING_FOR_STRUCTURED_OUTPUT_GRAMMAR


def a_session_is_idle(sim):
    sim.add(32, 4, resumable=True)


def no_adapter_slot_is_free(sim):
    sim.add(32, 4, lora_request=LoRARequest("other", 2, "/adapters/2"))


def nobody_new_is_admitted(sim):
    sim.scheduler.set_pause_state(PauseState.PAUSED_NEW)
    sim.add(100, 50)


@pytest.mark.parametrize(
    "block", [a_grammar_is_compiled, a_session_is_idle, no_adapter_slot_is_free, nobody_new_is_admitted]
)
def test_the_budget_stays_within_its_bound_beside_a_request_that_cannot_be_admitted(engine, block):
    def with_adapters(scheduler):
        scheduler.lora_config = LoRAConfig(max_loras=1, max_lora_rank=8)

    sim = engine(prepare=with_adapters)
    sim.patch(max_num_batched_tokens=BOUND, lease_seconds=3600)
    for _ in range(20):
        sim.add(32, 2000, lora_request=LoRARequest("one", 1, "/adapters/1"))
    for _ in range(20):
        sim.step()
    block(sim)
    for _ in range(150):
        assert sim.step().total_num_scheduled_tokens <= BOUND

    sim.scheduler.set_pause_state(PauseState.UNPAUSED)
    late = sim.add(2000, 5, lora_request=LoRARequest("one", 1, "/adapters/1"))
    largest = max(sim.step().total_num_scheduled_tokens for _ in range(40))
    assert largest == BOUND
    assert late in sim.finished
    assert sim.control.document()["prefill_openings"] == 0
    assert sim.control.progress.faults == 0


def test_a_request_behind_one_that_cannot_be_admitted_is_not_forgotten(engine):
    """The decodes take the whole budget: only the guard can let the second one in."""
    sim = engine()
    for _ in range(40):
        sim.add(4, 2000)
    while len(sim.scheduler.running) < 40:
        sim.step()
    a_grammar_is_compiled(sim)
    late = sim.add(20, 3)
    sim.patch(max_num_batched_tokens=40)
    for _ in range(60):
        sim.step()
    assert late in sim.finished


def test_a_grammar_that_is_ready_lets_its_request_in_under_the_smallest_budget(engine):
    sim = engine()
    for _ in range(40):
        sim.add(4, 2000)
    while len(sim.scheduler.running) < 40:
        sim.step()
    a_grammar_is_compiled(sim)
    request = next(one for one in sim.scheduler.requests.values() if one.structured_output_request)
    sim.patch(max_num_batched_tokens=40)
    for _ in range(30):
        sim.step()
    assert request.num_computed_tokens == 0
    request.structured_output_request.grammar = object()
    for _ in range(20):
        sim.step()
    assert request.num_computed_tokens > 0
