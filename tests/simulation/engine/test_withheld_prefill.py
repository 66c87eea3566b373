"""A planner that gives all steps to the decodes cannot keep prompts waiting for good; one that holds for a reason may."""

import pytest

from llmserving_engine.planning import registry
from llmserving_engine.planning.bounds_only import BoundsOnly
from llmserving_engine.planning.protocol import StepPlan
from llmserving_engine.telemetry import StepFlag
from llmserving_engine.withholding import CHUNK, WITHHELD_NS

pytestmark = pytest.mark.engine

DECODES = 20


class Stingy(BoundsOnly):
    """No prompt token in a step that has decodes."""

    name = "stingy"
    orders_waiting = True

    def plan(self, view):
        decodes = len(view.running) - len(view.prefilling)
        if decodes < DECODES:
            return super().plan(view)
        return StepPlan(view.bounds.max_num_seqs, decodes, only_listed=True, parked=tuple(view.prefilling))


@pytest.fixture
def stingy(monkeypatch):
    monkeypatch.setitem(registry.PLANNERS, "stingy", lambda parameters: Stingy())
    return {"name": "stingy"}


def decoding(engine, planner, **settings):
    """An engine whose decodes a planner serves alone."""
    sim = engine(kv_blocks=8000, **settings)
    sim.patch(planner=planner, lease_seconds=3600)
    for _ in range(DECODES):
        sim.add(10, 3000)
    while len(sim.outputs) < DECODES:
        sim.step()
    return sim


def step_for(sim, seconds):
    """Tokens of each step."""
    end = sim.clock.now_ns + int(seconds * 1e9)
    tokens = []
    while sim.clock.now_ns < end:
        tokens.append(sim.step().total_num_scheduled_tokens)
    return tokens


def test_prompts_kept_back_for_too_long_are_computed_a_little_at_a_time(engine, stingy, caplog):
    sim = decoding(engine, stingy)
    late = [sim.add(100, 3) for _ in range(3)]
    assert set(step_for(sim, WITHHELD_NS / 1e9 - 0.5)) == {DECODES}
    assert sim.control.document()["prefill_openings"] == 0
    tokens = step_for(sim, 3.0)
    assert set(late) <= set(sim.finished)
    assert max(tokens) <= DECODES + len(late) + CHUNK
    assert sum(count > DECODES + len(late) for count in tokens) == sim.control.document()["prefill_openings"] < 12
    assert any(row.flags & StepFlag.PREFILL_OPENED for row in sim.rows.steps)
    assert "planner 'stingy' kept all prompts back for 10 s" in caplog.text
    assert sim.control.progress.faults == 0


def test_part_of_a_prompt_that_is_parked_for_too_long_goes_on(engine, stingy):
    sim = decoding(engine, {"name": "bounds"})
    late = sim.add(2000, 3)
    sim.step()
    assert 0 < sim.scheduler.requests[late].num_computed_tokens < 2000
    sim.patch(planner=stingy)
    done = sim.scheduler.requests[late].num_computed_tokens
    step_for(sim, WITHHELD_NS / 1e9 - 0.5)
    assert sim.scheduler.requests[late].num_computed_tokens <= done + 512  # of a step planned before
    step_for(sim, 8.0)
    assert late in sim.finished


def test_who_comes_when_others_were_computed_waits_anew(engine, stingy):
    sim = decoding(engine, stingy)
    first = sim.add(100, 3)
    step_for(sim, 13.0)
    assert first in sim.finished
    openings = sim.control.document()["prefill_openings"]
    sim.add(100, 3)
    step_for(sim, 9.0)
    assert sim.control.document()["prefill_openings"] == openings


@pytest.mark.parametrize("reason", ["batch", "memory", "slot", "deadline"])
def test_what_is_held_for_a_reason_is_left_alone(engine, stingy, reason):
    planner = {**stingy, "parameters": {"hold_seconds": 60}} if reason == "deadline" else stingy
    sim = decoding(engine, planner, max_model_len=80_000 if reason == "memory" else 4096)
    if reason == "slot":
        sim.patch(max_num_seqs=DECODES)
    late = sim.add(
        65_000 if reason == "memory" else 100, 3, request_class="batch" if reason == "batch" else "interactive"
    )
    assert set(step_for(sim, 15.0)) == {DECODES}
    assert sim.scheduler.requests[late].num_computed_tokens == 0
    assert sim.control.document()["prefill_openings"] == 0


def test_the_wait_laws_hold_as_long_as_they_are_told(engine):
    law = {"name": "wait", "parameters": {"types": [{"gather": 4}], "hold_seconds": 20.0}}
    sim = decoding(engine, {"name": "bounds"})
    sim.patch(planner=law)
    held = sim.add(100, 3)
    step_for(sim, 19.0)
    assert sim.scheduler.requests[held].num_computed_tokens == 0
    assert sim.control.document()["prefill_openings"] == 0
    step_for(sim, 2.0)
    assert held in sim.finished


def test_a_budget_below_the_decodes_stops_no_prompt_under_the_predictive_law(engine):
    coefficients = [0.011, 1.2e-5, 1.7e-5, 6.3e-6, 4.1e-6, 9.8e-8, 1.3e-9, 2.2e-5, 3.7e-8, 5.9e-7]
    parameters = {"coefficients": coefficients, "residuals": [[], [], []], "error": 0.03}
    sim = decoding(engine, {"name": "predictive", "parameters": parameters})
    sim.patch(targets={"itl_seconds": 0.05, "ttft_seconds": 2.0}, max_num_batched_tokens=DECODES - 4)
    late = sim.add(100, 3)
    step_for(sim, WITHHELD_NS / 1e9 / 2)
    assert late in sim.finished
    assert sim.control.progress.faults == 0
