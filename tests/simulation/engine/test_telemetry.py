"""What the plug-in reports is what happened: counted again, the slow way, beside the scheduler."""

import itertools
import random

import pytest
from vllm.v1.core.sched.interface import PauseState
from vllm.v1.outputs import ModelRunnerOutput

from llmserving_engine.latency import bucket_of
from llmserving_engine.planning import registry
from llmserving_engine.planning.bounds_only import BoundsOnly
from llmserving_engine.planning.protocol import StepPlan
from llmserving_engine.telemetry import Outcome, RequestClass

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
        decodes = [request for request in running if request.request_id not in view.prefilling]
        assert view.decode_context_tokens == sum(request.num_computed_tokens for request in decodes)
        assert all(0 <= request.next_decode_eligible_step < 1 << 59 for request in running)
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


def crowd(sim, chance, *, aborts, classes=("interactive",)):
    """Random traffic under random bounds, with step times that vary; the names of the requests."""
    names = []
    for _ in range(400):
        sim.step_ns = chance.choice((4, 7, 30, 60)) * 1_000_000
        names += [
            sim.add(
                chance.randint(1, 300),
                chance.randint(1, 40),
                age_ns=chance.randint(0, 10**8),
                request_class=chance.choice(classes),
            )
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


def pairs(rows, *names):
    """Counts by bucket of these fields, for each row's time."""
    return {row.completed_ns: [dict(getattr(row, name)) for name in names] for row in rows}


@pytest.mark.parametrize("is_silent", [False, True], ids=["spoken", "silent"])
def test_each_step_reports_its_outputs_by_class_though_requests_leave_while_it_is_computed(
    engine, restless, monkeypatch, is_silent
):
    sim = engine(kv_blocks=300, max_model_len=1024)
    sim.patch(**restless)
    if is_silent:
        monkeypatch.setattr(sim.scheduler, "get_grammar_bitmask", lambda output: None)
    chance, tracks = random.Random(6), sim.live.measurement.tracker.tracks
    first, last, wanted = {}, {}, {}

    def leave():
        if sim.scheduler.requests and chance.random() < 0.15:
            sim.abort(chance.choice(list(sim.scheduler.requests)))
        first.update((name, track) for name, track in tracks.items() if name not in first)

    sim.meanwhile = leave
    crowd(sim, chance, aborts=True, classes=("interactive", "batch"))
    assert sim.control.progress.faults == 0, sim.control.document()["contract"]
    for now_ns, name in sorted((time, name) for name, times in sim.delivered_ns.items() for time in times):
        counts = wanted.setdefault(now_ns, [{}, {}, {}, {}])
        side = 2 * (first[name].request_class is RequestClass.BATCH) + (name not in last)
        bucket = bucket_of(now_ns - last.get(name, first[name].arrival_ns))
        counts[side][bucket] = counts[side].get(bucket, 0) + 1
        last[name] = now_ns
    reported = pairs(sim.rows.steps, "gaps", "first_tokens", "batch_gaps", "batch_first_tokens")
    assert {now_ns: counts for now_ns, counts in reported.items() if any(counts)} == wanted
    busy = [row for row in sim.rows.steps if row.prefill_tokens + row.decode_tokens]
    assert [row.decode_context_tokens for row in busy] == sim.contexts
    assert any(row.prefill_requests and not row.decode_requests and row.running > row.prefill_requests for row in busy)


def longest_gaps(sim):
    """The longest gap of each request that got output, in nanoseconds."""
    times = sim.delivered_ns.values()
    return sorted(max(later - earlier for earlier, later in itertools.pairwise(one)) for one in times)


def test_a_gap_begins_with_the_token_before_the_preemption_though_that_step_gave_nobody_output(engine):
    sim = engine()
    names = [sim.add(prompt=16, output=30) for _ in range(3)]
    for _ in range(6):
        sim.step()
    sim.patch(max_num_seqs=1, shed_to=1)
    sim.meanwhile = lambda: sim.abort(names[0])
    sim.step()
    sim.scheduler.set_pause_state(PauseState.PAUSED_ALL)
    sim.step()  # of nothing, and without output
    sim.scheduler.set_pause_state(PauseState.UNPAUSED)
    sim.run()
    assert sum(row.preempted for row in sim.rows.steps) == 2
    assert sorted(round(row.max_gap_seconds * 1e9) for row in sim.rows.requests) == longest_gaps(sim)


def test_a_streaming_session_that_waits_for_its_next_chunk_is_not_in_the_stream(engine):
    sim = engine()
    sim.patch(targets={"itl_seconds": 0.05})
    others = [sim.add(prompt=16, output=60) for _ in range(3)]
    session = sim.add(prompt=16, output=5, resumable=True)
    for _ in range(2):
        for _ in range(15):
            sim.step()
        decodes = sum(sim.scheduler.requests[name].num_computed_tokens for name in others)
        assert sim.live.measurement.ledger.context_tokens == decodes
        sim.add(prompt=8, output=5, name=session, resumable=True)
    for _ in range(15):
        sim.step()
    sim.abort(session)
    sim.run()
    assert sorted(round(row.max_gap_seconds * 1e9) for row in sim.rows.requests) == longest_gaps(sim)
    assert sorted(row.gaps for row in sim.rows.requests) == sorted(len(one) - 1 for one in sim.delivered_ns.values())
    assert sorted(row.gaps_over_target for row in sim.rows.requests) == [0, 0, 0, 2]


@pytest.mark.parametrize("is_aborted", [False, True], ids=["finished", "aborted"])
def test_a_name_used_again_within_a_step_is_a_request_of_its_own(engine, is_aborted):
    sim = engine()
    sim.add(prompt=16, output=40)
    name = sim.add(prompt=16, output=5)
    for _ in range(3):
        sim.step()
    while not is_aborted and name not in sim.finished:
        sim.step()
    if is_aborted:
        sim.abort(name)
    sim.add(prompt=24, output=8, name=name)
    sim.run()
    rows = [row for row in sim.rows.requests if row.prompt_tokens == 24]
    assert [(row.outcome, row.output_tokens) for row in rows] == [(Outcome.FINISHED, 8)]
    assert len(sim.rows.requests) == 3
