"""Interpolation in measured kernel times. Scalar and free of numpy: a step asks for a handful of points, where a numpy call costs more."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_PADDED_GAP = 16
"""Matrix tiles are multiples of 16 tokens: between points at most this far apart the time is that of the upper point."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Time against one integer size, from measured points.

    Between points up to 16 apart the time of the upper point holds (`padded`: a matrix product takes the time of its padded
    tile), else a straight line. Above the last point the line from the middle of the range to its end goes on, because the
    last points may lie on one tile plateau.
    """

    sizes: tuple[int, ...]
    values: tuple[float, ...]
    padded: bool = False

    @classmethod
    def of(cls, points: dict[int, float], *, padded: bool = False) -> Curve:
        """Make a curve of `{size: value}`, which must not be empty."""
        sizes = tuple(sorted(points))
        return cls(sizes, tuple(points[size] for size in sizes), padded)

    @property
    def largest(self) -> int:
        """Largest measured size."""
        return self.sizes[-1]

    def at(self, size: float) -> float:
        """Value at `size`, extrapolated above the measured range and constant below it."""
        sizes, values = self.sizes, self.values
        high = bisect_left(sizes, size)
        if high == 0:
            return values[0]
        if high == len(sizes):
            return values[-1] + (size - sizes[-1]) * self.slope()
        low = high - 1
        if self.padded and sizes[high] - sizes[low] <= _PADDED_GAP:
            return values[high]
        share = (size - sizes[low]) / (sizes[high] - sizes[low])
        return values[low] + share * (values[high] - values[low])

    def slope(self) -> float:
        """Slope of the extrapolation: from the point nearest half the largest size to the largest."""
        if len(self.sizes) == 1:
            return 0.0
        middle = min(bisect_left(self.sizes, self.sizes[-1] / 2), len(self.sizes) - 2)
        return (self.values[-1] - self.values[middle]) / (self.sizes[-1] - self.sizes[middle])


@dataclass(frozen=True, slots=True)
class Grid:
    """Time against several sizes, as nested axes: each value of the first axis has a grid of the rest of its own.

    Nesting lets measurements come as a union of several grids, or with rows missing: every branch interpolates over the points
    it has. Outside the measured range the line through the two outermost points of that axis goes on.
    """

    axis: tuple[float, ...]
    children: tuple[Grid | float, ...]

    @classmethod
    def of(cls, rows: Iterable[tuple[Sequence[float], float]]) -> Grid:
        """Make a grid of `(coordinates, value)` rows with at least one coordinate each; there must be at least one row."""
        branches: dict[float, list[tuple[Sequence[float], float]]] = {}
        for coordinates, value in rows:
            branches.setdefault(coordinates[0], []).append((coordinates[1:], value))
        axis = tuple(sorted(branches))
        return cls(axis, tuple(cls._child(branches[key]) for key in axis))

    @classmethod
    def _child(cls, rows: list[tuple[Sequence[float], float]]) -> Grid | float:
        return cls.of(rows) if rows[0][0] else rows[-1][1]

    def at(self, *coordinates: float) -> float:
        """Value at the coordinates, in the order of the axes; never below zero."""
        return max(0.0, _value(self, coordinates, 0))


def _value(node: Grid | float, coordinates: Sequence[float], depth: int) -> float:
    if not isinstance(node, Grid):
        return node
    axis, children, x = node.axis, node.children, coordinates[depth]
    last = len(axis) - 1
    high = bisect_left(axis, x)
    if high == 0 or last == 0:
        return _value(children[0], coordinates, depth + 1)
    if high > last:
        high = last
    elif axis[high] == x:
        return _value(children[high], coordinates, depth + 1)
    low = high - 1
    lower = _value(children[low], coordinates, depth + 1)
    upper = _value(children[high], coordinates, depth + 1)
    return lower + (x - axis[low]) / (axis[high] - axis[low]) * (upper - lower)
