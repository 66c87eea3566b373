"""The batch: its bounds within their limits, what runs and waits, and the memory it takes."""

from typing import Any

from llmserving_api import series
from llmserving_dashboards.panels import NO_DATA, Line, plot
from llmserving_dashboards.promql import rate, select


def panels() -> list[Any]:
    """Bounds, load and memory."""
    running = f"max by (pod, engine) ({select(series.ENGINE_RUNNING)})"
    waiting = f"max by (pod, engine) ({select(series.ENGINE_WAITING)})"
    return [
        _bounds("max_num_seqs", "Requests in a batch", [Line(running, "running {{pod}}/{{engine}}")]),
        _bounds("max_num_batched_tokens", "Tokens of a step", []),
        plot(
            "Running and waiting",
            "Requests in the batch and requests waiting for admission, each engine. A queue that grows while the "
            "sequence bound is at its limit asks for replicas.",
            "short",
            [Line(running, "running {{pod}}/{{engine}}"), Line(waiting, "waiting {{pod}}/{{engine}}")],
            absent=NO_DATA,
        ),
        plot(
            "KV cache and preemptions",
            "Used share of KV blocks, and preemptions per second: a preempted request is computed anew, so these cost "
            "time. Set a lower batching.maxNumSeqs.max, or choose the policy Predictive or MemorySLA, where they persist.",
            "percentunit",
            [
                Line(f"max by (pod, engine) ({select(series.ENGINE_KV_USAGE)})", "KV {{pod}}/{{engine}}"),
                Line(f"sum({rate(series.ENGINE_PREEMPTIONS)})", "preemptions per second"),
            ],
            right=("^preemptions.*", "ops"),
            absent=NO_DATA,
        ),
    ]


def _bounds(bound: str, words: str, beside: list[Line]) -> Any:
    """Requested, applied and effective bounds inside their limits."""
    lines = [
        Line(f"min by (pod, engine) ({select(definition, bound=bound)})", f"{state} {{{{pod}}}}/{{{{engine}}}}")
        for state, definition in (
            ("requested", series.BOUND_REQUESTED),
            ("applied", series.BOUND_APPLIED),
            ("effective", series.BOUND_EFFECTIVE),
        )
    ]
    limits = Line(f"max by (limit) ({select(series.BOUND_LIMIT, bound=bound)})", "limit {{limit}}")
    return plot(
        words,
        f"Bound `{bound}`: requested by the agent, applied in the scheduler, effective once a step has kept it; a "
        "lowered bound drains, so effective follows later. The limits are the resource's, within the "
        "engine's ceilings.",
        "short",
        [*lines, limits, *beside],
        targets="^limit.*",
        absent=NO_DATA,
        stepped=True,
    )
