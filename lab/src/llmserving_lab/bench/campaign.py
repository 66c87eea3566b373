"""A whole bench: which runs a command needs, and the searches among them (capacity, best static setting, limit)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Protocol

from llmserving_lab.bench.capacity import ATTAINMENT, Capacity, find_capacity
from llmserving_lab.bench.grid import Point, grid_points, neighbours, policy_name
from llmserving_lab.bench.plan import RunPlan

_LIMIT_POINTS: tuple[Point, ...] = ((256, 1024), (256, 2048), (256, 8192), (512, 2048), (512, 8192), (1024, 8192))
"""Settings of which the best gives the limit."""

_SATURATION = 40.0
"""Offered rate of the limit's runs, requests per second: far above what one card serves."""

_COARSE = 1.1
"""Tolerance of capacities inside a search over static settings."""

OVERLOAD = 1.5
"""Share of its own capacity at which a policy is overloaded."""

_WARMUP = 0.1
"""Share of a capacity run's requests that is left out."""


class Pool(Protocol):
    """Executes plans; see `EnginePool`."""

    jobs: int

    def submit(self, kind: str, plan: RunPlan) -> Future[dict[str, Any]]:
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
        results: All runs so far, in the order in which they were asked for.
    """

    pool: Pool
    base: RunPlan
    slices: tuple[tuple[int, int], ...]
    note: Callable[[str], None]
    grids: dict[str, Any] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

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

    def _capacity(self, policy: str, first: float) -> Capacity:
        return find_capacity(lambda rate: self._passes(policy, rate, self.slices), first)

    def _passes(self, policy: str, rate: float, slices: Sequence[tuple[int, int]]) -> bool:
        """Whether at this rate the slices together attain enough and no queue grows."""
        counted = self.base.load.requests * (1 - _WARMUP)
        allowed = int((1 - ATTAINMENT) * counted * len(slices)) + 1
        plan = self.base.model_copy(update={"detail": False, "warmup": _WARMUP, "give_up_misses": allowed})
        runs = [self._submit(plan, policy, rate, one) for one in slices]
        results = [run.result() for run in runs]
        if any(run["gave_up"] or run["queue_growing"] for run in results):
            return False
        counted_requests: int = sum(run["arrived"] - run["aborted"] for run in results)
        good: int = sum(run["good"] for run in results)
        return good >= ATTAINMENT * counted_requests

    def _best_static(self, limit: float) -> tuple[str, Capacity, dict[str, Any]]:
        """Best static setting for this load, with hindsight: race the grid on one slice, refine, measure the best ones fully."""
        with self._lock:
            first = self.slices[:1]
            best, rate = (0, 0), 0.0
            raced: dict[Point, float] = {}
            points = grid_points()
            while points:
                batch, points = points[: self.pool.jobs], points[self.pool.jobs :]
                best, rate = self._race(batch, best, rate, first, raced, limit)
            for _ in range(3):
                around = [point for point in neighbours(best) if point not in raced]
                before = best
                while around:
                    batch, around = around[: self.pool.jobs], around[self.pool.jobs :]
                    best, rate = self._race(batch, best, rate, first, raced, limit)
                if best == before:
                    break
            finals = [best, *sorted(neighbours(best), key=lambda point: abs(point[1] - best[1]))[:4]]
            measured = {point: self._capacity(policy_name(point), rate) for point in finals}
            winner = max(finals, key=lambda point: measured[point].low)
            around_winner = {policy_name(point): round(found.low, 4) for point, found in measured.items()}
            return policy_name(winner), measured[winner], {"chosen": policy_name(winner), "neighbours": around_winner}

    def _race(
        self,
        batch: Sequence[Point],
        best: Point,
        rate: float,
        slices: Sequence[tuple[int, int]],
        raced: dict[Point, float],
        limit: float,
    ) -> tuple[Point, float]:
        """Points that pass 3 % above the best rate so far are bisected coarsely; the others are out after one run."""
        bar = rate * 1.03 if rate else 0.2 * limit
        with ThreadPoolExecutor(len(batch)) as threads:
            passed = list(threads.map(lambda point: self._passes(policy_name(point), bar, slices), batch))
        for point, ok in zip(batch, passed, strict=True):
            raced[point] = bar if ok else 0.0
            if ok:
                start = max(bar, rate) * _COARSE
                found = find_capacity(
                    lambda tried, point=point: self._passes(policy_name(point), tried, slices),  # type: ignore[misc]
                    start,
                    tolerance=_COARSE,
                    known_pass=bar,
                )
                raced[point] = found.low
                if found.low > rate:
                    best, rate = point, found.low
                    self.note(f"best static so far {policy_name(best)}, {rate:.2f} req/s")
        return best, rate

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
