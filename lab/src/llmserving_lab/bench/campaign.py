"""A whole bench: which runs a command needs, and the searches among them (capacity, best static setting, limit)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import isfinite
from typing import Any, Protocol

from pydantic import BaseModel

from llmserving_lab.bench.capacity import ATTAINMENT, TOLERANCE, WARMUP, Capacity, find_capacity
from llmserving_lab.bench.grid import Point, grid_points, neighbours, policy_name
from llmserving_lab.bench.plan import RunPlan, TwinPlan

_LIMIT_POINTS: tuple[Point, ...] = ((256, 1024), (256, 2048), (256, 8192), (512, 2048), (512, 8192), (1024, 8192))
"""Settings of which the best gives the limit."""

_SATURATION = 40.0
"""Offered rate of the limit's runs, requests per second: far above what one card serves."""

OVERLOAD = 1.5
"""Share of its own capacity at which a policy is overloaded."""


class Pool(Protocol):
    """Executes plans; see `EnginePool`."""

    def submit(self, kind: str, plan: BaseModel) -> Future[dict[str, Any]]:
        """Have one executed."""
        ...


@dataclass(slots=True)
class Campaign:
    """Runs of one command.

    Attributes:
        pool: Executes runs.
        base: The run that all others are variants of; its load is the first slice.
        slices: `(start, seed)` of each slice.
        note: Told of each run that ends, and of each step of a search.
    """

    pool: Pool
    base: RunPlan
    slices: tuple[tuple[int, int], ...]
    note: Callable[[str], None]

    def runs(self, policies: Sequence[str], rates: Sequence[float | None]) -> list[dict[str, Any]]:
        """One run per policy, rate and slice, in that order."""
        with ThreadPoolExecutor(max(1, len(policies) * len(rates))) as threads:
            cells = [threads.submit(self._cell, policy, rate) for policy in policies for rate in rates]
            return [run for cell in cells for run in cell.result()]

    def capacities(
        self, policies: Sequence[str], *, limit: float | None = None
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Capacity of each policy and the load's limit: entries of the result's `capacity`, and the runs at and above it."""
        limit = limit or self.limit()
        wanted = [policy for policy in policies if policy != "limit"]
        with ThreadPoolExecutor(max(1, len(wanted))) as threads:
            searches = [threads.submit(self._capacity_entry, policy, limit) for policy in wanted]
            entries = [search.result() for search in searches]
            cells = [(entry, factor) for entry in entries if entry["capacity_rps"] for factor in (1.0, OVERLOAD)]
            at = list(
                threads.map(lambda cell: self._cell(cell[0]["measured_as"], cell[0]["capacity_rps"] * cell[1]), cells)
            )
        for (entry, factor), runs in zip(cells, at, strict=True):
            if factor == OVERLOAD:
                goodput = sum(run["goodput_rps"] or 0.0 for run in runs) / len(runs)
                entry["overload"] = round(goodput / entry["capacity_rps"], 4)
        return entries, [run for runs in at for run in runs]

    def limit(self) -> float:
        """Saturated throughput without targets, with the best of a few settings, mean of the slices."""
        plan = self.base.model_copy(
            update={
                "targets": tuple(
                    t.model_copy(update={"ttft": None, "itl": None, "e2e": None}) for t in self.base.targets
                ),
                "warmup": 0.0,
                "detail": False,
            }
        )
        first = [self._submit(plan, policy_name(point), _SATURATION, self.slices[0]) for point in _LIMIT_POINTS]
        rates = [run.result()["throughput_rps"] or 0.0 for run in first]
        best = max(range(len(rates)), key=rates.__getitem__)
        others = [self._submit(plan, policy_name(_LIMIT_POINTS[best]), _SATURATION, one) for one in self.slices[1:]]
        all_rates = [rates[best]] + [run.result()["throughput_rps"] or 0.0 for run in others]
        mean = sum(all_rates) / len(all_rates)
        self.note(f"limit {mean:.2f} req/s without targets, {policy_name(_LIMIT_POINTS[best])}")
        return mean

    def _cell(self, policy: str, rate: float | None) -> list[dict[str, Any]]:
        if policy == "limit":
            return self._limit_runs()
        if policy == "static-grid":
            chosen, tried = self._best_static_at(rate)
            runs = self._cell(chosen, rate)
            return [run | {"policy": "static-grid", "chosen": chosen, "grid": tried} for run in runs]
        plan = self.base.model_copy(update={"detail": True})
        futures = [self._submit(plan, policy, rate, one) for one in self.slices]
        return [future.result() for future in futures]

    def _limit_runs(self) -> list[dict[str, Any]]:
        return [{"policy": "limit", "rate_rps": None, "throughput_rps": round(self.limit(), 4)}]

    def _submit(self, plan: RunPlan, policy: str, rate: float | None, one: tuple[int, int]) -> Future[dict[str, Any]]:
        start, seed = one
        load = plan.load.model_copy(update={"rate": rate, "start": start, "seed": seed})
        future = self.pool.submit("run", plan.model_copy(update={"policy": policy, "load": load}))
        future.add_done_callback(self._say)
        return future

    def _say(self, future: Future[dict[str, Any]]) -> None:
        if future.exception() is not None:
            return
        run = future.result()
        rate = "own rate" if run["rate_rps"] is None else f"{run['rate_rps']:.2f} req/s"
        attained = "" if run["attainment"] is None else f", attainment {run['attainment']:.3f}"
        self.note(f"{run['policy']} at {rate}{attained}{' (stopped early)' if run['gave_up'] else ''}")

    def _capacity_entry(self, policy: str, limit: float) -> dict[str, Any]:
        measured = policy
        extra: dict[str, Any] = {}
        if policy == "static-grid":
            measured, found, extra = self._best_static(limit)
        else:
            found = self._capacity(policy, 0.6 * limit)
        return {
            "policy": policy,
            "measured_as": measured,
            "capacity_rps": round(found.low, 4),
            "low": round(found.low, 4),
            "high": round(found.high, 4) if isfinite(found.high) else None,
            "limit_rps": round(limit, 4),
            "slices": [list(one) for one in self.slices],
            "tried": [[round(rate, 4), passed] for rate, passed in found.tried],
            **extra,
        }

    def _capacity(self, policy: str, first: float, *, known_pass: float = 0.0) -> Capacity:
        return find_capacity(lambda rate: self._passes(policy, rate, self.slices), first, known_pass=known_pass)

    def _passes(self, policy: str, rate: float, slices: Sequence[tuple[int, int]]) -> bool:
        """Whether at this rate the slices together attain enough and no queue grows."""
        counted = self.base.load.requests * (1 - WARMUP)
        allowed = int((1 - ATTAINMENT) * counted * len(slices)) + 1
        plan = self.base.model_copy(update={"detail": False, "warmup": WARMUP, "give_up_misses": allowed})
        runs = [self._submit(plan, policy, rate, one) for one in slices]
        results = [run.result() for run in runs]
        if any(run["gave_up"] or run["queue_growing"] for run in results):
            return False
        counted_requests: int = sum(run["arrived"] - run["aborted"] for run in results)
        good: int = sum(run["good"] for run in results)
        return good >= ATTAINMENT * counted_requests

    def _best_static(self, limit: float) -> tuple[str, Capacity, dict[str, Any]]:
        """Best static setting for this load, with hindsight: the whole grid on the twin, refined there; the best one measured.

        The winner's neighbours are run at 3 % above its capacity; one that passes takes its place.
        """
        rough = self._twin(grid_points(), 0.2 * limit, self.slices[:1], tolerance=1.15)
        bar = 0.75 * max(rough.values())
        found = self._twin([point for point, rate in rough.items() if rate >= bar], bar or 0.1 * limit, self.slices)
        for _ in range(4):
            best = max(found, key=found.__getitem__)
            new = [point for point in neighbours(best) if point not in found]
            if not new:
                break
            found |= self._twin(new, 0.95 * found[best] or 0.1 * limit, self.slices)
        winner = max(found, key=found.__getitem__)
        self.note(f"best static in the twin {policy_name(winner)}, {found[winner]:.2f} req/s")
        capacity = self._capacity(policy_name(winner), found[winner] or 0.5 * limit)
        measured = {policy_name(winner): round(capacity.low, 4)}
        while True:
            around = sorted(neighbours(winner), key=lambda point: found.get(point, 0.0), reverse=True)[:4]
            new = [point for point in around if policy_name(point) not in measured]
            above = capacity.low * TOLERANCE
            with ThreadPoolExecutor(max(1, len(new))) as threads:
                passed = list(
                    threads.map(lambda point, rate=above: self._passes(policy_name(point), rate, self.slices), new)
                )
            measured |= {
                policy_name(point): round(above if ok else 0.0, 4) for point, ok in zip(new, passed, strict=True)
            }
            better = [point for point, ok in zip(new, passed, strict=True) if ok]
            if not better:
                break
            winner = better[0]
            capacity = self._capacity(policy_name(winner), above * TOLERANCE, known_pass=above)
            measured[policy_name(winner)] = round(capacity.low, 4)
        name = policy_name(winner)
        grid = {policy_name(point): round(rate, 4) for point, rate in sorted(found.items())}
        return name, capacity, {"chosen": name, "passed_at": measured, "twin_grid": grid}

    def _twin(
        self,
        points: Sequence[Point],
        bar: float,
        slices: tuple[tuple[int, int], ...],
        *,
        tolerance: float = TOLERANCE,
    ) -> dict[Point, float]:
        """Capacities in the twin; 0 for points that do not pass at `bar`."""
        futures = []
        for point in points:
            run = self.base.model_copy(update={"policy": policy_name(point)})
            futures.append(self.pool.submit("twin", TwinPlan(run=run, slices=slices, bar=bar, tolerance=tolerance)))
        return {point: future.result()["capacity_rps"] for point, future in zip(points, futures, strict=True)}

    def _best_static_at(self, rate: float | None) -> tuple[str, dict[str, float]]:
        """Static setting with the most good requests at one rate: a quarter of the load first, the best eight in full."""
        short = self.base.load.model_copy(update={"requests": max(50, self.base.load.requests // 4)})
        quick = self.base.model_copy(update={"detail": False, "load": short})
        full = self.base.model_copy(update={"detail": False})
        tried = self._goodput(quick, grid_points(), rate)
        tried = self._goodput(full, sorted(tried, key=tried.__getitem__, reverse=True)[:8], rate)
        for _ in range(2):
            best = max(tried, key=tried.__getitem__)
            new = [point for point in neighbours(best) if point not in tried]
            tried |= self._goodput(full, new, rate)
        best = max(tried, key=tried.__getitem__)
        return policy_name(best), {policy_name(point): round(value, 4) for point, value in sorted(tried.items())}

    def _goodput(self, plan: RunPlan, points: Sequence[Point], rate: float | None) -> dict[Point, float]:
        futures = [self._submit(plan, policy_name(point), rate, self.slices[0]) for point in points]
        return {point: future.result()["goodput_rps"] or 0.0 for point, future in zip(points, futures, strict=True)}
