"""What the plug-in reports is what happened: counted again, the slow way, beside the scheduler."""

import itertools
import random

import pytest

from llmserving_engine.latency import bucket_of
from llmserving_engine.planning import registry
from llmserving_engine.planning.bounds_only import BoundsOnly
from llmserving_engine.planning.protocol import StepPlan
from llmserving_engine.telemetry import Outcome

pytestmark = pytest.mark.engine


class Restless(BoundsOnly):
    """Parks, shuffles and reorders at random."""

    name = "restless"
    orders_waiting = True

    def __init__(self) -> None:
        self.chance = random.Random(3)
        self.waiting: list[str] = []

    def arrived(self, track):
        self.waiting.append(track.request.request_id)

    def plan(self, view):
        running = list(view.running)
        if self.chance.random() < 0.3:
            self.chance.shuffle(running)
        parked = [r.request_id for r in running if self.chance.random() < 0.1] if self.chance.random() < 0.5 else []
        first = self.chance.sample(self.waiting, min(5, len(self.waiting)))
        return StepPlan(
            view.bounds.max_num_seqs,
            view.bounds.max_num_batched_tokens,
            running=running,
            parked=parked,
            waiting_first=first,
            only_listed=self.chance.random() < 0.2,
        )


@pytest.fixture
def restless(monkeypatch):
    monkeypatch.setitem(registry.PLANNERS, "restless", lambda parameters: Restless())
    return {"planner": {"name": "restless"}}


def crowd(sim, chance, *, aborts):
    """Random traffic under random bounds, with step times that vary; the names of the requests."""
    names = []
    for _ in range(400):
        sim.step_ns = chance.choice((4, 7, 30, 60)) * 1_000_000
        names += [
            sim.add(chance.randint(1, 300), chance.randint(1, 40), age_ns=chance.randint(0, 10**8))
            for _ in range(chance.randint(0, 2))
        ]
        if chance.random() < 0.1:
            cap = chance.randint(1, 64)
            shed = {"shed_to": cap} if chance.random() < 0.3 else {}
            sim.patch(max_num_seqs=cap, max_num_batched_tokens=chance.randint(16, 512), **shed)
        if aborts and names and chance.random() < 0.1:
            sim.abort(chance.choice(names))
        sim.step()
    sim.patch(max_num_seqs=64, max_num_batched_tokens=512, planner={"name": "bounds"})
    sim.run()
    return names


@pytest.mark.parametrize("kv_blocks", [2000, 150], ids=["memory", "little-memory"])
@pytest.mark.parametrize("law", ["bounds", "restless"])
def test_latencies_are_those_of_a_slow_count(engine, restless, kv_blocks, law):
    sim = engine(kv_blocks=kv_blocks, max_model_len=1024)
    chance = random.Random(11)
    sim.patch(targets={"ttft_seconds": 0.5, "itl_seconds": 0.05}, **(restless if law == "restless" else {}))
    arrivals = {}
    original = sim.live.measurement.tracker.arrive
    sim.live.measurement.tracker.arrive = lambda request, *args: arrivals.setdefault(
        request.request_id, original(request, *args)
    )
    crowd(sim, chance, aborts=False)

    assert sim.control.progress.faults == 0
    rows = {round(row.ttft_seconds * 1e9) + row.arrival_ns: row for row in sim.rows.requests}
    assert len(sim.rows.requests) == len(sim.delivered_ns)
    by_arrival = sorted(
        (
            row.arrival_ns,
            row.finished_ns,
            row.output_tokens,
            row.gaps,
            row.gaps_over_target,
            round(row.max_gap_seconds, 6),
            round(row.ttft_seconds, 6),
        )
        for row in sim.rows.requests
    )
    expected = []
    for name, times in sim.delivered_ns.items():
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        track = arrivals[name]
        expected.append(
            (
                track.arrival_ns,
                times[-1],
                len(sim.outputs[name]),
                len(gaps),
                sum(gap > 50_000_000 for gap in gaps),
                round(max(gaps, default=0) / 1e9, 6),
                round((times[0] - track.arrival_ns) / 1e9, 6),
            )
        )
    assert by_arrival == sorted(expected)
    assert rows

    histogram = {}
    for row in sim.rows.steps:
        for bucket, count in row.gaps:
            histogram[bucket] = histogram.get(bucket, 0) + count
    wanted = {}
    for times in sim.delivered_ns.values():
        for earlier, later in itertools.pairwise(times):
            bucket = bucket_of(later - earlier)
            wanted[bucket] = wanted.get(bucket, 0) + 1
    assert histogram == wanted
    assert sum(count for row in sim.rows.steps for _, count in row.first_tokens) == len(sim.delivered_ns)


@pytest.mark.parametrize("law", ["bounds", "restless"])
def test_composition_is_that_of_a_slow_count(engine, restless, law):
    sim = engine(kv_blocks=300, max_model_len=1024)
    sim.patch(**(restless if law == "restless" else {}))
    crowd(sim, random.Random(5), aborts=True)
    busy = [row for row in sim.rows.steps if row.prefill_tokens + row.decode_tokens]
    assert [row.decode_context_tokens for row in busy] == sim.contexts
    assert sum(row.preempted for row in sim.rows.steps) > 0
    assert sim.control.progress.faults == 0


def test_aborts_are_reported_as_such_and_counts_stay_right(engine):
    sim = engine()
    chance = random.Random(2)
    names = crowd(sim, chance, aborts=True)
    outcomes = [row.outcome for row in sim.rows.requests]
    assert len(outcomes) == len(names)
    assert outcomes.count(Outcome.ABORTED) == len(names) - len(sim.finished) > 0
    assert sum(count for row in sim.rows.steps for _, count in row.gaps) == sum(
        len(times) - 1 for times in sim.delivered_ns.values()
    )
    assert sum(row.finished for row in sim.rows.steps) == len(names)


def test_step_time_is_attributed_to_the_device(engine):
    sim = engine()
    for _ in range(5):
        sim.add(prompt=16, output=20)
    sim.step_ns = 12_000_000
    sim.run()
    assert {row.duration_ns for row in sim.rows.steps} == {12_000_000}


def test_waiting_past_the_target_is_overdue_until_the_first_token(engine):
    sim = engine()
    sim.patch(max_num_seqs=1, targets={"ttft_seconds": 0.1})
    for _ in range(5):
        sim.add(prompt=16, output=30)
    sim.step_ns = 10_000_000
    while not sim.rows.steps or sim.rows.steps[-1].overdue_waiting < 4:
        sim.step()
    row = sim.rows.steps[-1]
    assert row.waiting == 4
    assert row.oldest_waiting_ns > 100_000_000
    sim.patch(targets={"ttft_seconds": 100})
    sim.step()
    sim.step()
    assert sim.rows.steps[-1].overdue_waiting == 0
    sim.run()
    assert sim.rows.steps[-1].oldest_waiting_ns == 0
