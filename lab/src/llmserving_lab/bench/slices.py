"""Disjoint slices of a load: what a figure is measured on more than once."""

from __future__ import annotations

from llmserving_lab.traces.csvfile import TraceError
from llmserving_lab.traces.load import trace_rows
from llmserving_lab.traces.plan import LoadPlan

Slice = tuple[int, int]
"""First row in the trace, and seed."""


def load_slices(load: LoadPlan, count: int) -> tuple[Slice, ...]:
    """Disjoint slices spread over the trace; generated loads differ by seed.

    Raises:
        TraceError: the trace cannot be read, or is too short.
    """
    if load.trace is None:
        return tuple((0, load.seed + index) for index in range(count))
    rows = len(trace_rows(load.trace))
    if count * load.requests > rows:
        raise TraceError(
            f"{load.trace}: has {rows} rows; {count} disjoint slices of {load.requests} need {count * load.requests} rows: give "
            "fewer --requests or --slices"
        )
    stride = rows // count
    offset = (load.seed * load.requests) % (stride - load.requests + 1)
    return tuple((index * stride + offset, load.seed + index) for index in range(count))
