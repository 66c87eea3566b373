"""The best static setting for a load, with hindsight: a fast twin of the scheduler prunes the grid, the real one decides."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import log2
from typing import Any

from llmserving_lab.bench.capacity import Bracket, geometric_mean, mean_bracket, rate_of, rung_of
from llmserving_lab.bench.grid import Point, grid_points, neighbours, policy_name
from llmserving_lab.bench.measurement import Measurement
from llmserving_lab.bench.plan import TwinPlan, TwinSlice

_FIRST = 0.6
"""Where searches in the twin begin, as a share of the limit."""

_DEEPEST = 0.1
"""Points that do not pass at this share of the limit are left alone."""

_ROUGH = 3
"""Rungs between passing and failing on the whole grid."""

_KEPT = 0.8
"""Points of the grid within this of the best one are looked at on all slices."""

_COMMON_SEQUENCES = 256
_ROUNDS = 6
_CHALLENGERS = 4

Rungs = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class BestStatic:
    """What the search found.

    Attributes:
        policy: The best setting, as a policy.
        slices: Its capacity on each slice, on the real scheduler.
        challengers: Neighbours asked on the real scheduler, and on how many slices each passed one rung above the capacity that
            the best one had then.
        twin: Capacities in the twin, requests per second: geometric means over the slices.
    """

    policy: str
    slices: tuple[Bracket, ...]
    challengers: dict[str, int]
    twin: dict[str, float]


def best_static(measurement: Measurement, limits: Sequence[float]) -> BestStatic:
    """Find the best static setting for the slices together (geometric mean of its capacities)."""
    twin = _Twin(measurement, limits)
    rough = twin.capacities(grid_points(), slices=1, width=_ROUGH)
    bar = _KEPT * max(_mean(rungs) for rungs in rough.values())
    found = twin.capacities([point for point, rungs in rough.items() if _mean(rungs) >= bar])
    for _ in range(_ROUNDS):
        best = _best(found)
        new = [point for point in neighbours(best) if point not in found]
        if not new:
            break
        found |= twin.capacities(new)
    winner = _best(found)
    measurement.note(f"best static in the twin {policy_name(winner)}, {_mean(found[winner]):.2f} req/s")
    capacity = _measured(measurement, winner, found[winner], limits)
    asked: dict[str, int] = {}
    while True:
        wanted = [point for point in _challengers(found, winner) if policy_name(point) not in asked]
        with ThreadPoolExecutor(max(1, len(wanted))) as threads:
            passed = list(threads.map(lambda point, bar=capacity: _passes_above(measurement, point, bar), wanted))
        asked |= {policy_name(point): count for point, count in zip(wanted, passed, strict=True)}
        better = [point for point, count in zip(wanted, passed, strict=True) if 2 * count > len(capacity)]
        measured = {point: _measured(measurement, point, found[point], limits) for point in better}
        best_of_them = max(measured, key=lambda point: mean_bracket(measured[point])[0], default=winner)
        if not measured or mean_bracket(measured[best_of_them])[0] <= mean_bracket(capacity)[0]:
            break
        asked[policy_name(winner)] = 0
        winner, capacity = best_of_them, measured[best_of_them]
    grid = {policy_name(point): round(_mean(rungs), 4) for point, rungs in sorted(found.items())}
    return BestStatic(policy_name(winner), capacity, asked, grid)


def _measured(measurement: Measurement, point: Point, twin: Rungs, limits: Sequence[float]) -> tuple[Bracket, ...]:
    """Capacities on the real scheduler; the twin says where to begin, so strides are short."""
    firsts = [rung_of(_FIRST * limit) if rung is None else rung + 1 for rung, limit in zip(twin, limits, strict=True)]
    return measurement.slice_capacities(policy_name(point), firsts, down=1, up=1)


def _passes_above(measurement: Measurement, point: Point, capacity: Sequence[Bracket]) -> int:
    """On how many slices the setting passes one rung above a capacity; stops once half of them have failed."""
    passed = failed = 0
    for one, bracket in zip(measurement.slices, capacity, strict=True):
        if bracket.high is None or measurement.slice_passes(policy_name(point), bracket.high, one):
            passed += 1
        else:
            failed += 1
        if 2 * failed >= len(capacity):
            break
    return passed


def _challengers(found: dict[Point, Rungs], winner: Point) -> list[Point]:
    """Neighbours of the winner that were best in the twin, each token budget once."""
    around = [point for point in neighbours(winner) if point in found]
    order = sorted(around, key=lambda point: (-_mean(found[point]), point))
    seen = {(winner[1], found[winner])}
    kept: list[Point] = []
    for point in order:
        if (point[1], found[point]) not in seen:
            seen.add((point[1], found[point]))
            kept.append(point)
    return kept[:_CHALLENGERS]


def _best(found: dict[Point, Rungs]) -> Point:
    """The best point; of equal ones the one with sequences nearest to common settings, and the smaller token budget."""
    return max(sorted(found), key=lambda point: (_mean(found[point]), -abs(log2(point[0] / _COMMON_SEQUENCES))))


def _mean(rungs: Rungs) -> float:
    return geometric_mean([0.0 if rung is None else rate_of(rung) for rung in rungs])


@dataclass(frozen=True, slots=True)
class _Twin:
    """Capacities of settings in the twin."""

    measurement: Measurement
    limits: Sequence[float]

    def capacities(self, points: Sequence[Point], *, slices: int | None = None, width: int = 1) -> dict[Point, Rungs]:
        parts = tuple(
            TwinSlice(start=start, seed=seed, first=rung_of(_FIRST * limit), deepest=rung_of(_DEEPEST * limit))
            for (start, seed), limit in zip(self.measurement.slices, self.limits, strict=True)
        )[:slices]
        futures = {
            point: self.measurement.pool.submit("twin", self._plan(policy_name(point), parts, width))
            for point in points
        }
        return {point: tuple(future.result()["rungs"]) for point, future in futures.items()}

    def _plan(self, policy: str, slices: tuple[TwinSlice, ...], width: int) -> TwinPlan:
        base: dict[str, Any] = {"policy": policy}
        return TwinPlan(run=self.measurement.base.model_copy(update=base), slices=slices, width=width)
