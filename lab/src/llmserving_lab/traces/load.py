"""From a load's description to its requests."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from llmserving_lab.traces.arrival import Arrival
from llmserving_lab.traces.csvfile import TraceError, read_trace
from llmserving_lab.traces.generated import generate
from llmserving_lab.traces.plan import LoadPlan
from llmserving_lab.traces.shapes import arrival_times


@lru_cache(maxsize=4)
def trace_rows(path: str) -> tuple[Arrival, ...]:
    """Rows of a trace file, read once.

    Raises:
        TraceError: the file is not as it should be.
    """
    return tuple(read_trace(Path(path)))


def build_load(plan: LoadPlan) -> list[Arrival]:
    """Requests of a load, in order of arrival from time zero.

    A slice of a trace keeps its order and lengths; its own arrivals are stretched or compressed to the mean rate, other
    patterns replace them.

    Raises:
        ValueError: the trace cannot be read or is too short, or a name is not known.
    """
    generator = random.Random(plan.seed)
    if plan.trace is None:
        if plan.rate is None:
            raise ValueError(f"load {plan.kind}: generated requests need a rate")
        pattern = "poisson" if plan.arrivals == "own" else plan.arrivals
        times = arrival_times(pattern, plan.requests, plan.rate, generator)
        arrivals = generate(plan.kind, times, generator)
    else:
        arrivals = _slice(plan, plan.trace, generator)
    if plan.abort_after is None:
        return arrivals
    return [replace(arrival, abort_after=plan.abort_after, retries=plan.retries) for arrival in arrivals]


def _slice(plan: LoadPlan, trace: str, generator: random.Random) -> list[Arrival]:
    rows = trace_rows(trace)
    end = plan.start + plan.requests
    if end > len(rows):
        raise TraceError(
            f"{trace}: has {len(rows)} rows; {plan.requests} requests from row {plan.start} on need {end} (--requests)"
        )
    chosen = rows[plan.start : end]
    if plan.arrivals != "own":
        if plan.rate is None:
            raise ValueError(f"arrivals {plan.arrivals}: need a rate")
        times = arrival_times(plan.arrivals, len(chosen), plan.rate, generator)
        return [replace(row, time=time) for row, time in zip(chosen, times, strict=True)]
    first = chosen[0].time
    span = chosen[-1].time - first
    factor = (len(chosen) / plan.rate) / span if plan.rate is not None and span > 0 else 1.0
    return [replace(row, time=(row.time - first) * factor) for row in chosen]
