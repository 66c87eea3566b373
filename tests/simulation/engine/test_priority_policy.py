"""Under ``--scheduling-policy priority`` a planner that orders the queue loses no request and keeps none that left."""

import gc
import weakref

import pytest

pytestmark = pytest.mark.engine

HELD = {
    "wait": {"name": "wait", "parameters": {"types": [{"gather": 2}], "hold_seconds": 0.5}},
    "nested-wait": {
        "name": "nested-wait",
        "parameters": {"boundaries": [20, 60], "gather": [2, 2, 2], "hold_seconds": 0.5},
    },
}


@pytest.mark.parametrize("priority", [False, True], ids=["fcfs", "priority"])
def test_requests_that_left_are_let_go(engine, priority):
    sim = engine(priority=priority)
    sim.patch(planner={"name": "predictive"}, lease_seconds=3600)
    requests = []
    for number in range(600):
        name = sim.add(64, 3, priority=number % 3 if priority else 0)
        requests.append(weakref.ref(sim.scheduler.requests[name]))
        sim.step()
    sim.run()
    for _ in range(3):
        sim.step()
    gc.collect()
    assert len(sim.finished) == 600
    assert sum(request() is not None for request in requests) < 70


@pytest.mark.parametrize("law", HELD)
@pytest.mark.parametrize("priority", [False, True], ids=["fcfs", "priority"])
def test_a_law_that_holds_requests_back_does_not_hold_back_the_preempted(engine, law, priority):
    sim = engine(priority=priority, kv_blocks=60, max_model_len=2048)
    sim.patch(planner=HELD[law], lease_seconds=3600)
    names = [sim.add(100, 200) for _ in range(12)]
    for _ in range(3000):
        if not sim.step().total_num_scheduled_tokens:
            sim.clock.now_ns += 1_000_000
        if len(sim.finished) == len(names):
            break
    assert set(sim.finished) == set(names)
    assert sum(row.preempted for row in sim.rows.steps) > 0
    assert sim.control.document()["prefill_openings"] == 0


def first_tokens(sim, priority):
    """When an ordinary request of twenty got its first token beside a flood of others, on average."""
    sim.patch(planner={"name": "predictive"}, targets={"ttft_seconds": 1.0, "itl_seconds": 0.05}, lease_seconds=3600)
    ordinary = [sim.add(500, 20) for _ in range(20)]
    flood = set()
    for _ in range(500):
        if len(flood - sim.finished.keys()) < 8:
            flood.add(sim.add(500, 20, priority=priority))
        sim.step()
    sim.run()
    assert sim.control.progress.faults == 0
    return [sim.delivered_ns[name][0] for name in ordinary]


def test_a_priority_that_a_client_sends_changes_nothing_where_first_come_is_first_served(engine):
    assert first_tokens(engine(max_num_seqs=4), priority=-1) == first_tokens(engine(max_num_seqs=4), priority=0)


def test_under_the_priority_policy_a_better_priority_goes_first(engine):
    ranked, plain = (first_tokens(engine(max_num_seqs=4, priority=True), priority=value) for value in (-1, 0))
    assert sum(ranked) > sum(plain)
