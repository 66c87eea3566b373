"""A step in which all decodes pause: who is served in it, and that nothing of it stays."""

import random

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


class Restless(BoundsOnly):
    """Pauses, parks and shuffles at random."""

    name = "restless"

    def __init__(self, chance):
        self.chance = chance

    def plan(self, view):
        chance = self.chance
        names = [request.request_id for request in view.running]
        running = chance.sample(view.running, len(view.running)) if chance.random() < 0.5 else None
        return StepPlan(
            chance.choice([4, 16, 64]),
            chance.choice([16, 96, 200]),
            running,
            chunk_tokens=chance.choice([0, 24]),
            parked=tuple(chance.sample(names, min(len(names), chance.choice([0, 0, 1, 5])))),
            decodes_pause=chance.random() < 0.4,
        )


@pytest.mark.parametrize("seed", range(6))
def test_no_turn_is_lost_whatever_else_happens_in_a_pause(engine, monkeypatch, seed):
    """Memory that runs out, aborts, a cache that is reset, and pipeline stages of every depth."""
    chance = random.Random(seed)
    planner = Restless(chance)
    monkeypatch.setitem(registry.PLANNERS, "restless", lambda parameters: planner)
    sim = engine(kv_blocks=chance.choice([60, 120, 1000]))
    scheduler = sim.scheduler
    scheduler.use_v2_model_runner, scheduler.decode_stagger = bool(seed % 2), 1 + seed % 3
    sim.patch(planner={"name": "restless"})
    for step in range(1, 301):
        if chance.random() < 0.6 and len(scheduler.requests) < 60:
            sim.add(prompt=chance.choice([5, 30, 150, 400]), output=chance.choice([1, 3, 20, 60]))
        if chance.random() < 0.1 and scheduler.requests:
            sim.abort(chance.choice(list(scheduler.requests)))
        sim.step()
        if chance.random() < 0.05:
            scheduler.reset_prefix_cache(reset_running_requests=True)
        if chance.random() < 0.3:
            scheduler.live.before_removal()  # the step is noted
            assert scheduler.current_step == step
            assert all(0 <= one.next_decode_eligible_step <= step + 3 for one in scheduler.requests.values())
    sim.patch(planner={"name": "bounds"})
    sim.run(3000)
    assert not scheduler.get_num_unfinished_requests()
    assert sim.control.progress.faults == 0
