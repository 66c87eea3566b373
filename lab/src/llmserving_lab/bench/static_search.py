"""The best static setting for a load, with hindsight: a fast twin of the scheduler prunes the grid, the real one decides."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import log2

from llmserving_lab.bench.capacity import Bracket, mean_bracket
from llmserving_lab.bench.grid import Point, grid_points, neighbours, policy_name
from llmserving_lab.bench.measurement import Measurement
from llmserving_lab.bench.twin_search import Rungs, mean_rate

_ROUGH = 3
"""Rungs between passing and failing on the whole grid."""

_KEPT = 0.8
"""Points of the grid within this of the best one are looked at on all slices."""

_COMMON_SEQUENCES = 256
_ROUNDS = 6
_CHALLENGERS = 4


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

    def in_twin(points: Sequence[Point], *, slices: int | None = None, width: int = 1) -> dict[Point, Rungs]:
        named = {policy_name(point): point for point in points}
        found = measurement.twin.capacities(list(named), limits, slices=slices, width=width)
        return {named[policy]: rungs for policy, rungs in found.items()}

    rough = in_twin(grid_points(), slices=1, width=_ROUGH)
    bar = _KEPT * max(mean_rate(rungs) for rungs in rough.values())
    found = in_twin([point for point, rungs in rough.items() if mean_rate(rungs) >= bar])
    for _ in range(_ROUNDS):
        new = [point for point in neighbours(_best(found)) if point not in found]
        if not new:
            break
        found |= in_twin(new)
    winner = _best(found)
    measurement.note(f"best static in the twin {policy_name(winner)}, {mean_rate(found[winner]):.2f} req/s")
    capacity = measurement.capacities_of_slices(policy_name(winner), limits)
    asked: dict[str, int] = {}
    while True:
        wanted = [point for point in _challengers(found, winner) if policy_name(point) not in asked]
        with ThreadPoolExecutor(max(1, len(wanted))) as threads:
            passed = list(threads.map(lambda point, bar=capacity: _passes_above(measurement, point, bar), wanted))
        asked |= {policy_name(point): count for point, count in zip(wanted, passed, strict=True)}
        better = [point for point, count in zip(wanted, passed, strict=True) if 2 * count > len(capacity)]
        measured = {point: measurement.capacities_of_slices(policy_name(point), limits) for point in better}
        best_of_them = max(measured, key=lambda point: mean_bracket(measured[point])[0], default=winner)
        if not measured or mean_bracket(measured[best_of_them])[0] <= mean_bracket(capacity)[0]:
            break
        asked[policy_name(winner)] = 0
        winner, capacity = best_of_them, measured[best_of_them]
    grid = {policy_name(point): round(mean_rate(rungs), 4) for point, rungs in sorted(found.items())}
    return BestStatic(policy_name(winner), capacity, asked, grid)


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
    order = sorted(around, key=lambda point: (-mean_rate(found[point]), point))
    seen = {(winner[1], found[winner])}
    kept: list[Point] = []
    for point in order:
        if (point[1], found[point]) not in seen:
            seen.add((point[1], found[point]))
            kept.append(point)
    return kept[:_CHALLENGERS]


def _best(found: dict[Point, Rungs]) -> Point:
    """The best point; of equal ones the one with sequences nearest to common settings, and the smaller token budget."""
    return max(sorted(found), key=lambda point: (mean_rate(found[point]), -abs(log2(point[0] / _COMMON_SEQUENCES))))
