"""What the plug-in reports is what happened: counted again, the slow way, beside the scheduler."""

import itertools
import random

import pytest
from vllm.v1.outputs import ModelRunnerOutput

from llmserving_engine.latency import bucket_of
from llmserving_engine.planning import registry
from llmserving_engine.planning.bounds_only import BoundsOnly
from llmserving_engine.planning.protocol import StepPlan
from llmserving_engine.telemetry import Outcome

pytestmark = pytest.mark.engine


class Restless(BoundsOnly):
    """Parks, pauses, shuffles and reorders at random."""

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
            decodes_pause=self.chance.random() < 0.3,
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


class Telling(BoundsOnly):
    """The bounds with a model of its own."""

    name = "telling"

    def plan(self, view):
        return StepPlan(view.bounds.max_num_seqs, 190, predicted_ns=12_345, held=3, trim=1.25)


def test_every_field_of_a_steps_row_says_what_its_name_does(engine, monkeypatch):
    """Rows are made by position: no two fields that could be taken for each other are equal here."""
    monkeypatch.setitem(registry.PLANNERS, "telling", lambda parameters: Telling())
    sim = engine(kv_blocks=500)
    sim.patch(planner={"name": "telling"})
    sim.patch(max_num_seqs=9, max_num_batched_tokens=200, targets={"ttft_seconds": 0.02, "itl_seconds": 0.05})
    for _ in range(8):
        sim.add(prompt=20, output=60)
    while len(sim.scheduler.running) < 8 or sim.live.measurement.ledger.prefilling:
        sim.step()
    for _ in range(10):
        sim.step()
    late = [sim.add(prompt=30, output=20) for _ in range(7)]
    sim.clock.now_ns += 30_000_000
    sim.abort(late.pop())
    blocks = sim.scheduler.kv_cache_manager.block_pool
    scheduled_ns = sim.clock.now_ns
    tokens = sim.step().num_scheduled_tokens
    number = sim.control.progress.step
    taken, total = blocks.num_gpu_blocks - 1 - blocks.get_num_free_blocks(), blocks.num_gpu_blocks - 1
    while sim.rows.steps[-1].step < number:
        sim.step()
    row = sim.rows.steps[-1]
    assert (row.step, row.scheduled_ns, row.completed_ns) == (number, scheduled_ns, sim.delivered_ns[late[0]][0])
    assert (row.duration_ns, row.padded_tokens, row.flags) == (sim.step_ns, 0, 0)
    assert (row.prefill_requests, row.prefill_tokens) == (1, tokens[late[0]])
    assert (row.decode_requests, row.decode_tokens) == (8, 8)
    assert (row.decode_context_tokens, row.prefill_attention_tokens) == (sim.contexts[row.step - 1], 30 * 30 // 2)
    assert (row.running, row.waiting, row.overdue_waiting) == (9, 5, 5)
    assert (row.preempted, row.held, row.predicted_ns, row.trim) == (0, 3, 12_345, 1.25)
    assert sum(one.finished for one in sim.rows.steps) == len(sim.rows.requests) == 1
    assert (row.kv_blocks_used, row.kv_blocks_total) == (taken, total)
    assert (row.max_num_seqs, row.max_num_batched_tokens, row.token_budget, row.operation_id) == (9, 200, 190, 2)
    assert 30_000_000 < row.oldest_waiting_ns < 60_000_000
    assert [count for _, count in row.gaps] == [8]
    assert [count for _, count in row.first_tokens] == [1]


def test_rows_are_written_while_the_device_computes_the_next_step(engine):
    sim = engine()
    sim.add(prompt=16, output=30)
    for _ in range(5):
        sim.step()
    scheduler = sim.scheduler
    reported = len(sim.rows.steps)
    output = scheduler.schedule()
    assert len(sim.rows.steps) == reported, "the device waits for the scheduler: no time for rows"
    scheduler.get_grammar_bitmask(output)
    assert len(sim.rows.steps) == reported + 1
    assert sim.rows.steps[-1].completed_ns == sim.clock.now_ns


def test_nothing_stays_unreported_when_the_engine_falls_idle(engine):
    sim = engine()
    names = [sim.add(prompt=16, output=length) for length in (3, 9, 9)]
    sim.run()
    assert len(sim.rows.requests) == len(names)
    assert sum(row.decode_tokens for row in sim.rows.steps) == 2 + 8 + 8
    sim.abort(sim.add(prompt=16, output=5))
    assert not sim.scheduler.get_num_unfinished_requests()
    output = sim.scheduler.schedule()  # EngineCore goes on until the worker has heard of it
    sim.scheduler.update_from_output(output, ModelRunnerOutput(req_ids=[], req_id_to_index={}))
    assert sim.rows.requests[-1].outcome == Outcome.ABORTED


def test_an_engine_that_never_says_that_the_device_is_busy_is_reported_all_the_same(engine, monkeypatch):
    rows = []
    for is_silent in (False, True):
        sim = engine(kv_blocks=300)
        sim.clock.now_ns = 10**12
        if is_silent:
            monkeypatch.setattr(sim.scheduler, "get_grammar_bitmask", lambda output: None)
        crowd(sim, random.Random(4), aborts=True)
        rows.append((sim.rows.steps, sorted(sim.rows.requests)))
    (spoken, spoken_requests), (silent, silent_requests) = rows
    later = {
        "waiting": 0,
        "kv_blocks_used": 0,
        "overdue_waiting": 0,
        "oldest_waiting_ns": 0,
    }  # these are looked at a moment later
    assert [row._replace(**later) for row in silent] == [row._replace(**later) for row in spoken]
    assert silent_requests == spoken_requests
