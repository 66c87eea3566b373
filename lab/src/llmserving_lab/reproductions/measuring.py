"""Measuring one reproduction: a run per policy, or a search over rates per policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmserving_lab.bench.capacity import WARMUP, find_capacity, rate_of, rung_of
from llmserving_lab.bench.store import Pool
from llmserving_lab.reproductions.measures import Measure, figure, gain, is_served
from llmserving_lab.reproductions.settings import Reproduction

_KEPT = ("virtual_s", "ttft_p50_s", "tpot_mean_s", "itl_p95_s", "e2e_mean_s", "preemptions", "attainment", "ceilings")
"""What the result keeps of the run that gave a figure, or of the run at capacity."""

_STRIDE = 4
"""First stride of a search from the rate that a reproduction names: that is near the capacity."""


def measured(reproduction: Reproduction, pool: Pool, note: Callable[[str], None]) -> dict[str, Any]:
    """The reproduction's entry in the result: a figure per policy, and the gain over the first of them.

    Args:
        reproduction: What to measure.
        pool: Executes runs.
        note: Told of each run that ends.
    """
    found = [_policy(reproduction, policy, pool, note) for policy in reproduction.policies]
    baseline = found[0]["figure"]
    for entry in found:
        entry["gain"] = round(gain(reproduction.measure, baseline, entry["figure"]), 4) if baseline else None
    return {
        "name": reproduction.name,
        "law": reproduction.law,
        "claim": reproduction.claim,
        "printed": reproduction.printed,
        "setting": reproduction.setting,
        "measure": reproduction.measure.value,
        "policies": found,
        "gain": found[1]["gain"],
    }


def _policy(reproduction: Reproduction, policy: str, pool: Pool, note: Callable[[str], None]) -> dict[str, Any]:
    is_search = reproduction.measure is Measure.MEAN_CAPACITY
    kept: dict[float, dict[str, Any]] = {}

    def run(rate: float) -> dict[str, Any]:
        plan = reproduction.plan(policy, rate)
        if is_search:
            plan = plan.model_copy(update={"warmup": WARMUP})
        result = pool.submit("run", plan).result()
        kept[rate] = result
        note(f"{reproduction.name}: {policy} at {_words(rate)}")
        return result

    if is_search:
        found = find_capacity(
            lambda rung: is_served(run(rate_of(rung)), reproduction.targets),
            rung_of(reproduction.rate),
            down=_STRIDE,
            up=_STRIDE,
        )
        value = found.rates[0]
        result = kept.get(value, {})
    else:
        result = run(reproduction.rate)
        value = figure(reproduction.measure, result)
    return {"policy": policy, "figure": round(value, 4), **{key: result[key] for key in _KEPT if key in result}}


def _words(rate: float) -> str:
    return f"{rate:.2f} req/s" if rate < 1000 else "all at once"
