"""A step in which all decodes pause: who is served in it, and that nothing of it stays."""

import pytest

from llmserving_engine.planning import registry
from llmserving_engine.planning.bounds_only import BoundsOnly
from llmserving_engine.planning.protocol import StepPlan

pytestmark = pytest.mark.engine


class Pauser(BoundsOnly):
    """Every other step is for prompts alone; in it, one of two that are partly computed waits too."""

    name = "pauser"

    def __init__(self):
        self.pauses = 0

    def plan(self, view):
        if view.step % 2 or len(view.prefilling) < 2:
            return StepPlan(64, 96, chunk_tokens=24)  # several prompts at once
        self.pauses += 1
        parked = tuple(view.prefilling)[:1]
        return StepPlan(64, 200, decodes_pause=True, parked=parked)


@pytest.fixture
def pauser(monkeypatch):
    made = Pauser()
    monkeypatch.setitem(registry.PLANNERS, "pauser", lambda parameters: made)
    return made


def served_in(sim):
    """Tokens by request of each step, beside who decoded before it."""
    scheduler, steps = sim.scheduler, []
    schedule = scheduler.schedule

    def watched():
        decoding = {r.request_id for r in scheduler.running if r.num_computed_tokens >= r.num_prompt_tokens}
        output = schedule()
        steps.append((decoding, dict(output.num_scheduled_tokens)))
        return output

    scheduler.schedule = watched
    return steps


def test_decodes_pause_while_prompts_are_computed_and_all_are_served_in_the_end(engine, pauser):
    sim = engine()
    sim.patch(planner={"name": "pauser"})
    steps = served_in(sim)
    names = [sim.add(prompt=20, output=30) for _ in range(3)]
    for _ in range(20):
        names.append(sim.add(prompt=150, output=10))
        sim.step()
    sim.run()
    paused = [served for decoding, served in steps if decoding and served and not decoding & served.keys()]
    assert pauser.pauses > 5
    assert len(paused) >= pauser.pauses - 2
    assert {name: len(sim.outputs[name]) for name in names} == {n: 30 if n in names[:3] else 10 for n in names}
    assert sim.control.progress.faults == 0


def test_the_turns_that_vllm_gives_hold_through_a_pause(engine, pauser):
    """With pipeline stages a request decodes every so many steps: also one that was admitted or served while others paused."""
    sim = engine()
    scheduler = sim.scheduler
    scheduler.use_v2_model_runner = True
    scheduler.decode_stagger = 3
    sim.patch(planner={"name": "pauser"})
    last: dict[str, int] = {}
    turns: list[int] = []
    schedule = scheduler.schedule

    def watched():
        output = schedule()
        scheduler.live.before_removal()  # the step is noted: nothing of a pause is left
        assert 0 < scheduler.current_step < 10_000
        for request in scheduler.running:
            if request.request_id in output.num_scheduled_tokens:
                last[request.request_id] = scheduler.current_step
            turns.append(request.next_decode_eligible_step)
            assert turns[-1] in (0, last.get(request.request_id, -3) + 3)
        return output

    scheduler.schedule = watched
    for number in range(60):
        sim.add(prompt=(10, 150)[number % 2], output=10)
        sim.step()
    assert pauser.pauses > 5
    assert any(turns) == sim.settings.asynchronous  # else vLLM gives none
    assert sim.control.progress.faults == 0
