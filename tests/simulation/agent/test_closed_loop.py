"""The agent's loop around a small engine in virtual time: targets, edits, limits, restarts."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from llmserving_agent.report import build_status
from llmserving_api.conditions import DecisionReason
from llmserving_api.policy import LawName, Mode

Make = Callable[..., Any]


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(("rate", "target"), [(3.0, 0.05), (4.0, 0.04), (5.0, 0.08)])
def test_the_inter_token_target_is_kept(
    plant: Make, bench: Make, policy: Make, seed: int, rate: float, target: float
) -> None:
    run = bench(plant(seed=seed, rate=rate), policy(itl=target))
    run.run(90)
    assert percentile(run.gaps_since(20), 0.95) <= 1.03 * target


@pytest.mark.parametrize("seed", [1, 2])
def test_nearly_all_requests_keep_the_target_on_their_own_gaps(
    plant: Make, bench: Make, policy: Make, seed: int
) -> None:
    run = bench(plant(seed=seed, rate=4.0), policy(itl=0.05))
    run.run(90)
    late = [request for request in run.plant.done if request.arrival > 20 and request.gaps]
    good = [request for request in late if percentile(request.gaps, 0.95) <= 0.05]
    assert len(good) >= 0.97 * len(late)


def test_the_same_load_misses_it_by_far_with_static_bounds(plant: Make, bench: Make, policy: Make) -> None:
    run = bench(plant(rate=5.0), policy(itl=0.05, law=LawName.STATIC))
    run.run(60)
    assert percentile(run.gaps_since(20), 0.95) > 0.08


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_tighter_target_acts_within_seconds_and_a_looser_one_gives_the_bounds_back(
    plant: Make, bench: Make, policy: Make, seed: int
) -> None:
    run = bench(plant(seed=seed, rate=4.0), policy(1, itl=0.08))
    run.run(60)
    loose = run.plant.requested.max_num_batched_tokens
    run.policy.policy = policy(2, itl=0.04)
    run.run(40)
    tight = run.plant.requested.max_num_batched_tokens
    assert tight < 0.6 * loose
    edited = run.plant.now - 40
    assert percentile(run.gaps_since(edited + 3), 0.95) <= 0.042
    run.policy.policy = policy(3, itl=0.08)
    run.run(60)
    assert run.plant.requested.max_num_batched_tokens > 1.5 * tight


def test_bounds_never_leave_limits_and_an_edit_of_the_limits_acts_in_the_next_pass(
    plant: Make, bench: Make, policy: Make
) -> None:
    run = bench(plant(rate=6.0), policy(1, itl=0.2))
    run.run(20)
    run.policy.policy = policy(2, itl=0.2, seqs=(4, 16), tokens=(128, 512))
    run.tick(run.plant.now)
    assert run.plant.requested.max_num_seqs <= 16
    assert run.plant.requested.max_num_batched_tokens <= 512
    edited = run.plant.now
    run.run(20)
    for at, bounds in run.trace.bounds:
        if at > edited:
            assert 4 <= bounds.max_num_seqs <= 16
            assert 128 <= bounds.max_num_batched_tokens <= 512


def test_advise_and_off_leave_the_engine_on_fallback_bounds(plant: Make, bench: Make, policy: Make) -> None:
    run = bench(plant(rate=5.0), policy(1, itl=0.04))
    run.run(20)
    assert run.plant.requested != run.plant.stock
    run.policy.policy = policy(2, itl=0.04, mode=Mode.ADVISE)
    run.run(10)
    assert run.plant.requested == run.plant.stock
    taken = run.loop.engines[0].taken
    assert not taken.acted
    assert taken.decision.bounds != run.plant.stock
    run.policy.policy = policy(3, itl=0.04, mode=Mode.OFF)
    run.run(5)
    assert run.plant.requested == run.plant.stock
    assert run.loop.engines[0].taken.decision.reason is DecisionReason.MODE_OFF
    run.policy.policy = policy(4, itl=0.04)
    run.run(20)
    assert run.plant.requested.max_num_batched_tokens < 512


def test_overload_is_called_saturation_and_the_inter_token_target_still_holds(
    plant: Make, bench: Make, policy: Make
) -> None:
    run = bench(plant(rate=9.0), policy(itl=0.05))
    run.run(90)
    status = build_status(run.loop, run.plant.now, run.plant.now)
    assert status.engines[0].saturated
    assert status.engines[0].sla_feasible
    assert status.latency.overdue_waiting > 0
    assert percentile(run.gaps_since(20), 0.95) <= 0.0515


def test_a_target_that_an_idle_engine_misses_is_called_infeasible(plant: Make, bench: Make, policy: Make) -> None:
    run = bench(plant(rate=1.0), policy(itl=0.015))
    run.run(60)
    assert build_status(run.loop, run.plant.now, run.plant.now).engines[0].sla_feasible is False
    assert len(run.plant.waiting) < 5


def test_an_idle_engine_keeps_its_bounds(plant: Make, bench: Make, policy: Make) -> None:
    run = bench(plant(rate=5.0), policy(itl=0.05))
    run.run(30)
    run.plant.rate = 0.0
    run.run(60)
    idle = run.plant.requested
    run.run(60)
    assert run.plant.requested == idle
    assert run.loop.engines[0].taken.decision.reason is DecisionReason.IDLE


def test_a_new_agent_goes_on_without_a_jump(plant: Make, bench: Make, policy: Make) -> None:
    run = bench(plant(rate=5.0), policy(itl=0.05))
    run.run(60)
    before = run.plant.requested
    run.loop = run.new_agent()
    run.run(1)
    assert run.plant.requested == before
    run.run(30)
    after = run.plant.requested.max_num_batched_tokens
    assert 0.5 * before.max_num_batched_tokens <= after <= 2 * before.max_num_batched_tokens


def test_with_a_small_cache_the_memory_law_preempts_less_than_static_bounds(
    plant: Make, bench: Make, policy: Make
) -> None:
    small = {"rate": 6.0, "blocks": 3000}
    by_law = bench(plant(**small), policy(law=LawName.MEMORY))
    by_law.run(90)
    static = bench(plant(**small), policy(law=LawName.STATIC))
    static.run(90)
    assert by_law.plant.preempted < 0.6 * static.plant.preempted
    assert len(by_law.plant.done) >= len(static.plant.done)


def test_runs_are_reproducible(plant: Make, bench: Make, policy: Make) -> None:
    traces = []
    for _ in range(2):
        run = bench(plant(seed=5, rate=5.0), policy(itl=0.05))
        run.run(30)
        traces.append(run.trace.bounds)
    assert traces[0] == traces[1]


def test_attainment_counts_good_requests(plant: Make, bench: Make, policy: Make) -> None:
    run = bench(plant(rate=2.0), policy(itl=0.2, ttft=5.0))
    run.run(60)
    latency = build_status(run.loop, run.plant.now, run.plant.now).latency
    assert latency.requests == len(run.plant.done)
    assert latency.good >= 0.95 * latency.requests
    assert sum(latency.itl.values()) == sum(len(request.gaps) for request in (*run.plant.done, *run.plant.running))
