"""Weighted least squares without negative coefficients, for a handful of them; no library needed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import mul
from typing import Final

FLAT: Final = 1e-9
"""Slope, as a share of the largest one at the start, below which a coefficient is left at zero."""
ROUNDS: Final = 3
"""Coefficients are freed at most so many times each, on average; once is usual."""


def fit(samples: Iterable[tuple[Sequence[float], float, float]], pulls: Sequence[float]) -> list[float]:
    """Coefficients, none below zero, that minimise the weighted squared error plus the pull of each towards zero.

    Every part of a step costs time, so a negative coefficient is never right; it would be the fit's way to explain
    steps it has seen by two large parts that cancel, and predict nonsense for those it has not. The coefficients are the
    best there are (Lawson and Hanson, Solving Least Squares Problems, 1974, ch. 23): to fix those that come out negative at
    zero, one after the other, can end with none left that matters.

    Args:
        samples: `(features, value, weight)`.
        pulls: Weight of the pull of each coefficient, all above zero, so that what the samples leave open is zero.
    """
    size = len(pulls)
    matrix = [[0.0] * size for _ in range(size)]
    right = [0.0] * size
    for features, value, weight in samples:
        for i in range(size):
            scaled = features[i] * weight
            if scaled:
                row = matrix[i]
                for j in range(i, size):
                    row[j] += scaled * features[j]
                right[i] += scaled * value
    for i in range(size):
        matrix[i][i] += pulls[i]
        for j in range(i):
            matrix[i][j] = matrix[j][i]
    scales = [matrix[i][i] ** -0.5 for i in range(size)]
    matrix = [[scales[i] * scales[j] * matrix[i][j] for j in range(size)] for i in range(size)]
    right = [scales[i] * right[i] for i in range(size)]
    return [scale * value for scale, value in zip(scales, _not_negative(matrix, right), strict=True)]


def _not_negative(matrix: list[list[float]], right: list[float]) -> list[float]:
    """The solution without negative parts of a symmetric positive definite system whose diagonal is 1."""
    size = len(right)
    solution = [0.0] * size
    free: list[int] = []  # those above zero
    for _ in range(ROUNDS * size):
        slopes = [right[i] - sum(map(mul, matrix[i], solution)) for i in range(size)]
        steepest = max((i for i in range(size) if i not in free), key=slopes.__getitem__, default=None)
        if steepest is None or slopes[steepest] <= FLAT * max(map(abs, right)):
            break
        free.append(steepest)
        while free:
            target = _solve([[matrix[i][j] for j in free] for i in free], [right[i] for i in free])
            if min(target) > 0:
                break
            # as far towards it as nothing becomes negative; what becomes zero on the way stays there
            ways = [(solution[i] / (solution[i] - end), i) for i, end in zip(free, target, strict=True) if end <= 0]
            way, first = min(ways)
            for i, end in zip(free, target, strict=True):
                solution[i] += way * (end - solution[i])
            solution[first] = 0.0
            free.remove(first)
        else:
            break
        for i, value in zip(free, target, strict=True):
            solution[i] = value
    return solution


def _solve(matrix: list[list[float]], right: list[float]) -> list[float]:
    """Solution of a symmetric positive definite system, by Cholesky's decomposition."""
    size = len(right)
    lower = [[0.0] * size for _ in range(size)]
    for i in range(size):
        for j in range(i + 1):
            rest = matrix[i][j] - sum(lower[i][k] * lower[j][k] for k in range(j))
            lower[i][j] = max(rest, 1e-300) ** 0.5 if i == j else rest / lower[j][j]
    middle = [0.0] * size
    for i in range(size):
        middle[i] = (right[i] - sum(lower[i][k] * middle[k] for k in range(i))) / lower[i][i]
    solution = [0.0] * size
    for i in reversed(range(size)):
        solution[i] = (middle[i] - sum(lower[k][i] * solution[k] for k in range(i + 1, size))) / lower[i][i]
    return solution
