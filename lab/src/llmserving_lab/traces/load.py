"""From a load's description to its requests."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from llmserving_lab.traces.arrival import Arrival
from llmserving_lab.traces.csvfile import TraceError, read_trace
from llmserving_lab.traces.plan import LoadPlan
from llmserving_lab.traces.shapes import lay_over


@lru_cache(maxsize=4)
def _trace(path: str) -> list[Arrival]:
    return read_trace(Path(path))


def build_load(plan: LoadPlan) -> list[Arrival]:
    """Requests of a load, in order of arrival from time zero.

    A slice of a trace keeps its order and lengths; its own arrivals are stretched or compressed to the mean rate, other shapes
    replace them.

    Raises:
        ValueError: the trace cannot be read or is too short, or there is no such shape.
    """
    generator = random.Random(plan.seed)  # noqa: S311 simulation, not secrecy
    if plan.trace is None:
        from llmserving_lab.traces.generated import generate

        return generate(plan.shape, plan.requests, plan.rate, generator)
    rows = _trace(plan.trace)
    if plan.start + plan.requests > len(rows):
        raise TraceError(
            f"{plan.trace}: has {len(rows)} rows; {plan.requests} requests from row {plan.start} on need "
            f"{plan.start + plan.requests}"
        )
    rows = rows[plan.start : plan.start + plan.requests]
    if plan.shape != "own":
        if plan.rate is None:
            raise ValueError(f"load {plan.shape}: needs a rate")
        times = lay_over(plan.shape, len(rows), plan.rate, generator)
        return [replace(row, time=time) for row, time in zip(rows, times, strict=True)]
    first = rows[0].time
    span = rows[-1].time - first
    factor = (len(rows) / plan.rate) / span if plan.rate is not None and span > 0 else 1.0
    return [replace(row, time=(row.time - first) * factor) for row in rows]
