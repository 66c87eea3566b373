"""What is measured of one load: a policy's capacity on each slice and on all together, its overload, and the load's limit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from llmserving_lab.bench.capacity import (
    ATTAINMENT,
    DOWN,
    UP,
    WARMUP,
    Bracket,
    find_capacity,
    geometric_mean,
    queue_grows,
    rate_of,
    rung_of,
)
from llmserving_lab.bench.grid import policy_name
from llmserving_lab.bench.plan import RunPlan
from llmserving_lab.bench.policies import setup_of
from llmserving_lab.bench.slices import Slice
from llmserving_lab.bench.store import Pool
from llmserving_lab.bench.twin_search import TwinSearch

OVERLOAD = 1.5
"""Share of its own capacity at which a policy is overloaded."""

FIRST_OF_LIMIT = 0.85
"""Where a search begins, as a share of the slice's limit: above most capacities, because runs that fail end early."""

_LIMIT_POLICIES = tuple(policy_name((seqs, tokens)) for tokens in (8192, 4096, 2048, 1024) for seqs in (256, 512, 1024))
"""Settings of which the twin's best on a slice gives its limit."""

_SATURATION = 40.0
"""Offered rate of the limit's runs, requests per second: far above what one card serves."""


@dataclass(frozen=True, slots=True)
class Capacities:
    """A policy's capacity on each slice, and on all of them at one rate."""

    slices: tuple[Bracket, ...]
    pooled: Bracket


@dataclass(frozen=True, slots=True)
class Measurement:
    """Runs of one load.

    Attributes:
        pool: Executes runs; a store makes equal ones once.
        base: The run that all others are variants of.
        slices: The load's slices.
        note: Told of each run that ends.
    """

    pool: Pool
    base: RunPlan
    slices: tuple[Slice, ...]
    note: Callable[[str], None]

    def capacities(self, policy: str, limits: Sequence[float]) -> Capacities:
        """Capacity of each slice by itself, and of all slices together.

        Args:
            policy: One that can be run (not a search).
            limits: Each slice's limit.
        """
        found = self.capacities_of_slices(policy, limits)
        return Capacities(found, self.pooled(policy, found))

    def capacities_of_slices(self, policy: str, limits: Sequence[float]) -> tuple[Bracket, ...]:
        """Capacity of each slice by itself; for stock vLLM the twin says where the searches begin."""
        setup = setup_of(policy)
        firsts = [rung_of(FIRST_OF_LIMIT * limit) for limit in limits]
        down, up = DOWN, UP
        if not (setup.law or setup.planner):
            rungs = self.twin.capacities([policy], limits)[policy]
            firsts = [first if rung is None else rung + 1 for rung, first in zip(rungs, firsts, strict=True)]
            down, up = (1, 1) if None not in rungs else (DOWN, UP)
        return self.slice_capacities(policy, firsts, down=down, up=up)

    @property
    def twin(self) -> TwinSearch:
        """Searches in the twin for this load."""
        return TwinSearch(self.pool, self.base, self.slices)

    def slice_capacities(
        self, policy: str, firsts: Sequence[int], *, down: int = DOWN, up: int = UP
    ) -> tuple[Bracket, ...]:
        """Capacity of each slice, all at once; the searches begin at the given rungs with the given strides."""

        def search(one: Slice, first: int) -> Bracket:
            return find_capacity(lambda rung: self.slice_passes(policy, rung, one), first, down=down, up=up)

        with ThreadPoolExecutor(len(self.slices)) as threads:
            return tuple(threads.map(search, self.slices, firsts))

    def slice_passes(self, policy: str, rung: int, one: Slice) -> bool:
        """Whether one slice attains enough at this rate and its queue does not grow."""
        run = self.submit(policy, rate_of(rung), one, allowed=self._allowed(1)).result()
        return not run["gave_up"] and not run["queue_growing"] and _attained([run])

    def pooled(self, policy: str, found: Sequence[Bracket]) -> Bracket:
        """Highest rate at which all slices together attain enough; between the lowest and the highest slice's capacity."""
        lows = [bracket.low for bracket in found if bracket.low is not None]
        if len(found) == 1:
            return found[0]
        if not lows:
            return Bracket(None, min((bracket.high for bracket in found if bracket.high is not None), default=None))
        bottom = min(lows) if len(lows) == len(found) else None
        highs = [bracket.high for bracket in found if bracket.high is not None]
        top = max(highs) if len(highs) == len(found) else None

        def passes(rung: int) -> bool:
            if bottom is not None and rung <= bottom:
                return True
            if top is not None and rung >= top:
                return False
            with ThreadPoolExecutor(len(found)) as threads:
                runs = list(
                    threads.map(lambda one, bracket: self._whole(policy, rung, one, bracket), self.slices, found)
                )
            if any(run["gave_up"] for run in runs) or not _attained(runs):
                return False
            middle, end = (sum(run["waiting_by_third"][third] for run in runs) for third in (1, 2))
            return not queue_grows(middle, end, sum(run["arrived"] for run in runs))

        return find_capacity(passes, sorted(lows)[len(lows) // 2], down=2, up=2)

    def _whole(self, policy: str, rung: int, one: Slice, bracket: Bracket) -> dict[str, Any]:
        """A slice's run that ends early only where all slices together must fail; the slice's own search may have it already."""
        rate = rate_of(rung)
        if bracket.low is not None and rung <= bracket.low:
            run = self.submit(policy, rate, one, allowed=self._allowed(1)).result()
            if not run["gave_up"]:
                return run
        return self.submit(policy, rate, one, allowed=self._allowed(len(self.slices))).result()

    def at_capacity(self, policy: str, found: Sequence[Bracket]) -> list[dict[str, Any]]:
        """The run of each slice at its own capacity; slices without one are left out."""
        runs = [
            self.submit(policy, rate_of(bracket.low), one, allowed=self._allowed(1))
            for one, bracket in zip(self.slices, found, strict=True)
            if bracket.low is not None
        ]
        return [run.result() for run in runs]

    def overloaded(self, policy: str, found: Sequence[Bracket]) -> list[dict[str, Any]]:
        """The run of each slice at 1.5 times its own capacity; slices without one are left out."""
        runs = [
            self.submit(policy, OVERLOAD * rate_of(bracket.low), one)
            for one, bracket in zip(self.slices, found, strict=True)
            if bracket.low is not None
        ]
        return [run.result() for run in runs]

    def limits(self) -> tuple[float, ...]:
        """Saturated throughput of each slice without targets, with the best of a few settings."""
        free = tuple(one.model_copy(update={"ttft": None, "itl": None, "e2e": None}) for one in self.base.targets)
        plan = self.base.model_copy(update={"targets": free})

        saturated = plan.model_copy(update={"load": plan.load.model_copy(update={"rate": _SATURATION})})
        best = self.twin.fastest(_LIMIT_POLICIES, saturated)
        runs = [self._submit(plan, policy, _SATURATION, one) for policy, one in zip(best, self.slices, strict=True)]
        limits = tuple(run.result()["throughput_rps"] or 0.0 for run in runs)
        self.note(f"limit {geometric_mean(limits):.2f} req/s without targets ({', '.join(dict.fromkeys(best))})")
        return limits

    def submit(
        self, policy: str, rate: float | None, one: Slice, *, allowed: int | None = None, warmup: float = WARMUP
    ) -> Future[dict[str, Any]]:
        """One run; it ends early once more than `allowed` requests have missed. `warmup` is the share that no figure counts."""
        plan = self.base.model_copy(update={"warmup": warmup, "give_up_misses": allowed})
        return self._submit(plan, policy, rate, one)

    def _submit(self, plan: RunPlan, policy: str, rate: float | None, one: Slice) -> Future[dict[str, Any]]:
        start, seed = one
        load = plan.load.model_copy(update={"rate": rate, "start": start, "seed": seed})
        future = self.pool.submit("run", plan.model_copy(update={"policy": policy, "load": load}))
        future.add_done_callback(self._say)
        return future

    def _allowed(self, slices: int) -> int:
        """Requests that may miss, of so many slices."""
        counted = self.base.load.requests - int(self.base.load.requests * WARMUP)
        return int((1 - ATTAINMENT) * counted * slices)

    def _say(self, future: Future[dict[str, Any]]) -> None:
        if future.exception() is not None:
            return
        run = future.result()
        rate = "own rate" if run["rate_rps"] is None else f"{run['rate_rps']:.2f} req/s"
        attained = "" if run["attainment"] is None else f", attainment {run['attainment']:.3f}"
        self.note(f"{run['policy']} at {rate}{attained}{' (stopped early)' if run['gave_up'] else ''}")


def _attained(runs: Sequence[dict[str, Any]]) -> bool:
    counted = sum(run["arrived"] - run["aborted"] for run in runs)
    good = sum(run["good"] for run in runs)
    return bool(good >= ATTAINMENT * counted)
