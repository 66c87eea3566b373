"""A whole bench: which runs a command needs, and the entries of its result file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from llmserving_lab.bench.capacity import Bracket, geometric_mean, mean_bracket
from llmserving_lab.bench.measurement import Capacities, Measurement
from llmserving_lab.bench.plan import RunPlan
from llmserving_lab.bench.slices import Slice
from llmserving_lab.bench.static_at_rate import best_static_at
from llmserving_lab.bench.static_search import best_static
from llmserving_lab.bench.store import Pool


@dataclass(slots=True)
class Campaign:
    """Runs of one command.

    Attributes:
        pool: Executes runs; a store makes equal ones once.
        base: The run that all others are variants of; its load is the first slice.
        slices: `(start, seed)` of each slice.
        note: Told of each run that ends, and of each step of a search.
    """

    pool: Pool
    base: RunPlan
    slices: tuple[Slice, ...]
    note: Callable[[str], None]

    def runs(self, policies: Sequence[str], rates: Sequence[float | None]) -> list[dict[str, Any]]:
        """One run per policy, rate and slice, in that order."""
        with ThreadPoolExecutor(max(1, len(policies) * len(rates))) as threads:
            cells = [threads.submit(self._cell, policy, rate) for policy in policies for rate in rates]
            return [run for cell in cells for run in cell.result()]

    def capacities(self, policies: Sequence[str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Capacity of each policy: entries of the result's `capacity`, and the runs at and above it."""
        limits = self.measurement.limits()
        wanted = [policy for policy in policies if policy != "limit"]
        with ThreadPoolExecutor(max(1, len(wanted))) as threads:
            found = list(threads.map(lambda policy: self.capacity(policy, limits), wanted))
        return [entry for entry, _ in found], [run for _, runs in found for run in runs]

    def capacity(self, policy: str, limits: Sequence[float]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """A policy's entry in the result's `capacity`, and the runs of its slices at their capacities and overloaded."""
        measured, extra = policy, {}
        if policy == "static-grid":
            best = best_static(self.measurement, limits)
            measured = best.policy
            extra = {"chosen": best.policy, "challengers": best.challengers, "twin_grid": best.twin}
            found = Capacities(best.slices, self.measurement.pooled(measured, best.slices))
        else:
            found = self.measurement.capacities(policy, limits)
        with ThreadPoolExecutor(2) as threads:
            at, over = threads.map(
                lambda make: make(measured, found.slices), (self.measurement.at_capacity, self.measurement.overloaded)
            )
        entry = _entry(policy, measured, found, limits) | _at_capacity(at) | _overload(found.slices, over) | extra
        entry["slices"] = [list(one) for one in self.slices]
        return entry, [*at, *over]

    @property
    def measurement(self) -> Measurement:
        """What is measured of the load."""
        return Measurement(self.pool, self.base, self.slices, self.note)

    def _cell(self, policy: str, rate: float | None) -> list[dict[str, Any]]:
        if policy == "limit":
            limits = self.measurement.limits()
            return [{"policy": "limit", "rate_rps": None, "throughput_rps": round(geometric_mean(limits), 4)}]
        if policy == "static-grid":
            chosen, tried = best_static_at(self.pool, self.base, rate, self.slices[0])
            runs = self._cell(chosen, rate)
            return [run | {"policy": "static-grid", "chosen": chosen, "grid": tried} for run in runs]
        made = [self.measurement.submit(policy, rate, one, warmup=self.base.warmup) for one in self.slices]
        return [run.result() for run in made]


def _entry(policy: str, measured: str, found: Capacities, limits: Sequence[float]) -> dict[str, Any]:
    low, high = mean_bracket(found.slices)
    limit = geometric_mean(limits)
    pooled_low, pooled_high = found.pooled.rates
    return {
        "policy": policy,
        "measured_as": measured,
        "capacity_rps": round(low, 4),
        "low": round(low, 4),
        "high": None if high is None else round(high, 4),
        "slice_capacities": [list(bracket.rates) for bracket in found.slices],
        "never": sum(bracket.low is None for bracket in found.slices),
        "pooled_rps": pooled_low,
        "pooled": [pooled_low, pooled_high],
        "limit_rps": round(limit, 4),
        "slice_limits": [round(one, 4) for one in limits],
    }


def _at_capacity(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Figures of the slices at their own capacities."""
    deciles = [run["attainment_by_prompt_decile"] for run in runs if run["attainment_by_prompt_decile"]]
    by_decile = [round(fmean(shares), 4) for shares in zip(*deciles, strict=True)]
    return {
        "longest_ttft_s": _longest(runs),
        "attainment_by_prompt_decile": by_decile,
        "longest_decile": [round(min(shares[-1] for shares in deciles), 4), by_decile[-1]] if deciles else None,
        "relegated_share": round(fmean(run["relegated_share"] for run in runs), 4) if runs else None,
        "preemptions": sum(run["preemptions"] for run in runs),
    }


def _overload(found: Sequence[Bracket], runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Goodput of the slices at 1.5 times their capacities, over these."""
    capacities = [bracket.rates[0] for bracket in found if bracket.low is not None]
    shares = [(run["goodput_rps"] or 0.0) / capacity for run, capacity in zip(runs, capacities, strict=True)]
    if not shares:
        return {"overload": None}
    return {"overload": round(geometric_mean(shares), 4), "overload_longest_ttft_s": _longest(runs)}


def _longest(runs: Sequence[dict[str, Any]]) -> float | None:
    found = [run["longest_ttft_s"] for run in runs if run["longest_ttft_s"] is not None]
    return round(max(found), 3) if found else None
