"""The static setting with the most good requests at one rate, with hindsight."""

from __future__ import annotations

from collections.abc import Sequence

from llmserving_lab.bench.grid import Point, grid_points, neighbours, policy_name
from llmserving_lab.bench.plan import RunPlan
from llmserving_lab.bench.slices import Slice
from llmserving_lab.bench.store import Pool

_FINALISTS = 8


def best_static_at(pool: Pool, base: RunPlan, rate: float | None, one: Slice) -> tuple[str, dict[str, float]]:
    """The setting as a policy, and the goodput of all that ran in full: a quarter of the load first, the best ones in full."""
    start, seed = one
    load = base.load.model_copy(update={"rate": rate, "start": start, "seed": seed})
    short = load.model_copy(update={"requests": max(50, load.requests // 4)})

    def goodput(of: RunPlan, points: Sequence[Point]) -> dict[Point, float]:
        runs = [pool.submit("run", of.model_copy(update={"policy": policy_name(point)})) for point in points]
        return {point: run.result()["goodput_rps"] or 0.0 for point, run in zip(points, runs, strict=True)}

    full = base.model_copy(update={"load": load})
    tried = goodput(base.model_copy(update={"load": short}), grid_points())
    tried = goodput(full, sorted(tried, key=tried.__getitem__, reverse=True)[:_FINALISTS])
    for _ in range(2):
        best = max(tried, key=tried.__getitem__)
        tried |= goodput(full, [point for point in neighbours(best) if point not in tried])
    best = max(tried, key=tried.__getitem__)
    return policy_name(best), {policy_name(point): round(value, 4) for point, value in sorted(tried.items())}
