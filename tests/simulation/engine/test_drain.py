"""Live bounds on a real vLLM scheduler: lowering drains, raising admits, nobody is killed or lost."""

import random

import pytest

pytestmark = pytest.mark.engine


def test_a_bound_far_below_the_running_count_drains_and_never_kills(engine):
    sim = engine()
    names = [sim.add(prompt=8, output=10 + index) for index in range(60)]
    while len(sim.scheduler.running) < 60:
        sim.step()

    sim.patch(max_num_seqs=4)
    counts = []
    while sim.scheduler.get_num_unfinished_requests():
        sim.step()
        counts.append(len(sim.scheduler.running))

    assert counts[0] > 50
    assert counts == sorted(counts, reverse=True)
    assert set(sim.finished) == set(names)
    assert [len(sim.outputs[name]) for name in names] == [10 + index for index in range(60)]
    assert sum(row.preempted for row in sim.rows.steps) == 0
    assert sim.control.progress.faults == 0


def test_a_drain_is_shown_and_the_bound_becomes_effective_when_it_is_over(engine):
    sim = engine()
    for index in range(40):
        sim.add(prompt=8, output=10 + index)
    while len(sim.scheduler.running) < 40:
        sim.step()

    sim.patch(max_num_seqs=8)
    sim.step()
    document = sim.control.document()
    assert document["applied"]["max_num_seqs"] == 8
    assert document["effective"]["max_num_seqs"] == 64
    assert document["drain"] == {"active": True, "running": 40, "target": 8}

    while len(sim.scheduler.running) > 8:
        sim.step()
    sim.step()
    document = sim.control.document()
    assert document["effective"]["max_num_seqs"] == 8
    assert not document["drain"]["active"]


def test_a_raised_bound_admits_at_the_very_next_step(engine):
    sim = engine()
    sim.patch(max_num_seqs=2)
    for _ in range(30):
        sim.add(prompt=8, output=50)
    for _ in range(5):
        sim.step()
    assert len(sim.scheduler.running) == 2

    sim.patch(max_num_seqs=20)
    sim.step()
    assert len(sim.scheduler.running) == 20
    assert sim.control.document()["applied_step"] == sim.control.progress.step


def test_a_token_budget_holds_from_the_next_step_on(engine):
    sim = engine()
    for _ in range(20):
        sim.add(prompt=200, output=5)
    assert sim.step().total_num_scheduled_tokens == 512

    sim.patch(max_num_batched_tokens=64)
    totals = [sim.step().total_num_scheduled_tokens for _ in range(10)]
    assert max(totals) <= 64
    sim.run()
    assert len(sim.finished) == 20


def test_a_budget_below_the_running_decodes_starves_none_of_them(engine):
    sim = engine()
    names = [sim.add(prompt=8, output=30) for _ in range(50)]
    while len(sim.scheduler.running) < 50 or sim.live.measurement.ledger.prefilling:
        sim.step()
    sim.patch(max_num_batched_tokens=16)
    sim.step()
    before = {name: len(sim.outputs.get(name, ())) for name in names}
    for _ in range(5):
        sim.step()
    assert all(len(sim.outputs[name]) >= before[name] + 4 for name in names)


def test_shedding_preempts_at_once_and_everybody_finishes_with_all_tokens(engine):
    sim = engine()
    names = [sim.add(prompt=20, output=30) for _ in range(40)]
    while len(sim.scheduler.running) < 40:
        sim.step()
    for _ in range(5):
        sim.step()

    sim.patch(max_num_seqs=10, shed_to=10)
    sim.step()
    assert len(sim.scheduler.running) == 10

    sim.run()
    assert sum(row.preempted for row in sim.rows.steps) == 30
    assert all(len(sim.outputs[name]) == 30 for name in names)
    assert {row.preemptions for row in sim.rows.requests} == {0, 1}


def test_shedding_happens_once_for_an_operation(engine):
    sim = engine()
    for _ in range(10):
        sim.add(prompt=20, output=100)
    for _ in range(5):
        sim.step()
    sim.patch(max_num_seqs=4, shed_to=4)
    sim.step()
    assert len(sim.scheduler.running) == 4
    sim.patch(max_num_seqs=10)
    for _ in range(5):
        sim.step()
    assert len(sim.scheduler.running) == 10
    assert sum(row.preempted for row in sim.rows.steps) == 6


def test_outputs_are_those_of_an_untouched_scheduler_under_random_changes(engine):
    chance = random.Random(7)
    shapes = [(chance.randint(1, 300), chance.randint(1, 60)) for _ in range(120)]
    plain, sim = engine(live=False), engine()
    for prompt, output in shapes:
        plain.add(prompt, output)
        sim.add(prompt, output)
    plain.run()
    changes = 0
    while sim.scheduler.get_num_unfinished_requests():
        if chance.random() < 0.3:
            cap = chance.randint(1, 64)
            change = {"max_num_seqs": cap, "max_num_batched_tokens": chance.randint(1, 512)}
            if chance.random() < 0.2:
                change["shed_to"] = cap
            sim.patch(**change)
            changes += 1
        sim.step()
    sim.run()
    assert changes >= 50
    assert sim.outputs == plain.outputs
    assert sim.control.progress.faults == 0
