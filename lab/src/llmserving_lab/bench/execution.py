"""Executing a plan: one run from its description to its figures. Runs in the engine's environment."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from llmserving_lab.bench.beside import AgentBeside, Beside, PlannerBeside, catalogue_of, law_of
from llmserving_lab.bench.capacity import ATTAINMENT, WARMUP, find_capacity, queue_grows, rate_of
from llmserving_lab.bench.clock import Clock
from llmserving_lab.bench.engine import EngineSettings, SchedulerEngine
from llmserving_lab.bench.machine import BLOCK_SIZE, as_card, make_device, stock_ceilings
from llmserving_lab.bench.misses import Misses
from llmserving_lab.bench.outcome import Targets, gap_course, summarise
from llmserving_lab.bench.plan import ReplayPlan, RunPlan, TargetPlan, TwinPlan, TwinSlice
from llmserving_lab.bench.plugin import PlugIn, tell_oracle
from llmserving_lab.bench.policies import setup_of
from llmserving_lab.bench.replay import execute_replay
from llmserving_lab.bench.run_record import RunRecord
from llmserving_lab.bench.simulation import Simulation
from llmserving_lab.bench.surroundings import TargetChange
from llmserving_lab.bench.twin import TwinResult, run_twin
from llmserving_lab.traces.arrival import Arrival
from llmserving_lab.traces.load import build_load

_AFTER_LAST_ARRIVAL = 5.0
"""A run without a drain goes on for so many TTFT targets after the last arrival."""


def execute(kind: str, plan: dict[str, Any]) -> dict[str, Any]:
    """Execute a plan of the given kind: `run`, `replay`, `twin` (capacities there) or `twin-throughput`.

    Raises:
        ValueError: a profile, trace, recording or policy is not as it should be; the message is one clear line.
    """
    if kind == "replay":
        return execute_replay(ReplayPlan.model_validate(plan))
    if kind == "twin":
        return execute_twin(TwinPlan.model_validate(plan))
    if kind == "twin-throughput":
        return {"throughput_rps": middle_rate(_in_twin(RunPlan.model_validate(plan)).finished)}
    return execute_run(RunPlan.model_validate(plan))


def warm_up() -> None:
    """Build one scheduler, so that what vLLM imports and compiles at first use is there before runs are forked off."""
    SchedulerEngine(EngineSettings(1, 16, kv_blocks=64, max_model_len=256))


def execute_run(plan: RunPlan) -> dict[str, Any]:
    """One run of the bench, as an entry of the result file's `runs`."""
    started, processor = time.perf_counter(), time.process_time()
    setup = setup_of(plan.policy)
    device = make_device(plan.device, asynchronous=plan.asynchronous, seed=plan.load.seed)
    ceilings = setup.ceilings or stock_ceilings(device)
    kv_tokens = plan.kv_tokens or device.kv_capacity_tokens(ceilings.max_num_seqs, ceilings.max_num_batched_tokens)
    arrivals = build_load(plan.load)
    _check_fits(arrivals, kv_tokens, plan.policy)
    settings = EngineSettings(
        ceilings.max_num_seqs,
        ceilings.max_num_batched_tokens,
        kv_blocks=kv_tokens // BLOCK_SIZE,
        block_size=BLOCK_SIZE,
        asynchronous=plan.asynchronous,
        prefix_caching=plan.prefix_caching,
    )
    last = arrivals[-1].time
    cutoff = float("inf") if plan.drain else last + _AFTER_LAST_ARRIVAL * (plan.targets[-1].ttft or 2.0)
    misses = Misses(plan.give_up_misses, plan.warmup, len(arrivals)) if plan.give_up_misses is not None else None
    with ExitStack() as stack:
        clock = Clock()
        plugin = stack.enter_context(PlugIn(clock)) if setup.law or setup.planner else None
        beside: Beside | None = None
        if plugin and setup.law:
            stack.enter_context(catalogue_of(setup.law))
            beside = AgentBeside(law_of(setup.law), plugin)
        elif plugin and setup.planner:
            tell_oracle(device, [arrival.output_tokens for arrival in arrivals])
            beside = PlannerBeside(setup.planner, ceilings, plugin)
        with as_card(device):
            engine = SchedulerEngine(settings, scheduler_class=plugin.scheduler_class if plugin else None)
        simulation = Simulation(
            engine,
            device,
            arrivals,
            [TargetChange(change.time, _targets(change)) for change in plan.targets],
            clock=clock,
            tickers=(beside,) if beside else (),
            on_targets=beside.edit if beside else None,
            cutoff=cutoff,
            give_up=misses,
            bounds=plugin.bounds if plugin else None,
        )
        record = simulation.run()
        decisions = beside.decisions() if beside else {}
    waiting = waiting_by_third(record, last)
    counted = record.outcomes[int(len(record.outcomes) * plan.warmup) :]
    result = {
        "policy": plan.policy,
        "rate_rps": plan.load.rate,
        "seed": plan.load.seed,
        "start": plan.load.start,
        **summarise(counted, until=record.end),
        "steps": record.steps,
        "extrapolated_steps": record.extrapolated_steps,
        "tokens": record.tokens,
        "unfinished": record.unfinished,
        "gave_up": misses is not None and misses.reached,
        "longest_ttft_s": max((outcome.ttft for outcome in record.outcomes if outcome.ttft is not None), default=None),
        "waiting_by_third": waiting,
        "queue_growing": queue_grows(waiting[1], waiting[2], len(record.outcomes)),
        "throughput_rps": middle_rate(
            sorted(outcome.token_times[-1] for outcome in record.outcomes if outcome.finished)
        ),
        "ceilings": [ceilings.max_num_seqs, ceilings.max_num_batched_tokens],
        "kv_tokens": kv_tokens,
        "decisions": decisions,
        "caveats": list(device.caveats),
        "wall_s": round(time.perf_counter() - started, 3),
        "wall_cpu_s": round(time.process_time() - processor, 3),
    }
    if plan.detail:
        result["bounds"] = [list(change) for change in record.bounds]
        result["states"] = [list(state) for state in record.states]
        result["itl_course"] = gap_course(record.outcomes)
    return result


def execute_twin(plan: TwinPlan) -> dict[str, Any]:
    """Capacity of static bounds in the twin on each slice, as rungs; None where the deepest rung does not pass."""

    def capacity(one: TwinSlice) -> int | None:
        def passes(rung: int) -> bool:
            load = plan.run.load.model_copy(update={"rate": rate_of(rung), "start": one.start, "seed": one.seed})
            result = _in_twin(plan.run.model_copy(update={"load": load, "warmup": WARMUP}))
            return not result.waiting_growth and result.good >= ATTAINMENT * result.counted

        return find_capacity(passes, one.first, deepest=one.deepest, width=plan.width).low

    return {"rungs": [capacity(one) for one in plan.slices]}


def _in_twin(run: RunPlan) -> TwinResult:
    setup = setup_of(run.policy)
    if setup.law or setup.planner:
        raise ValueError(f"policy {run.policy}: the twin runs static bounds only")
    device = make_device(run.device, asynchronous=run.asynchronous, seed=run.load.seed)
    ceilings = setup.ceilings or stock_ceilings(device)
    kv_tokens = run.kv_tokens or device.kv_capacity_tokens(ceilings.max_num_seqs, ceilings.max_num_batched_tokens)
    arrivals = build_load(run.load)
    _check_fits(arrivals, kv_tokens, run.policy)
    return run_twin(
        arrivals,
        device,
        _targets(run.targets[0]),
        max_num_seqs=ceilings.max_num_seqs,
        max_num_batched_tokens=ceilings.max_num_batched_tokens,
        kv_tokens=kv_tokens,
        warmup=run.warmup,
    )


def waiting_by_third(record: RunRecord, last_arrival: float) -> list[float]:
    """Mean number of waiting requests in each third of the arrivals."""
    thirds: list[list[int]] = [[], [], []]
    for at, _, waiting, _ in record.states:
        if at <= last_arrival and last_arrival > 0:
            thirds[min(2, int(3 * at / last_arrival))].append(waiting)
    return [round(sum(part) / len(part), 3) if part else 0.0 for part in thirds]


def middle_rate(ends: Sequence[float]) -> float | None:
    """Completions per second over the middle 80 % of all completions, whose times come in order."""
    if len(ends) < 10:
        return None
    low, high = int(0.1 * len(ends)), int(0.9 * len(ends)) - 1
    return round((high - low) / (ends[high] - ends[low]), 4) if ends[high] > ends[low] else None


def _targets(change: TargetPlan) -> Targets:
    return Targets(change.ttft, change.itl, change.percentile, change.e2e)


def _check_fits(arrivals: list[Arrival], kv_tokens: int, policy: str) -> None:
    largest = max(arrival.prompt_tokens + arrival.output_tokens for arrival in arrivals)
    if largest > kv_tokens - BLOCK_SIZE:
        raise ValueError(
            f"policy {policy}: a request of {largest} tokens can never fit into {kv_tokens} tokens of KV cache; give more with "
            "--kv-tokens or a load with shorter requests"
        )
