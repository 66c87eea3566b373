"""Weighted least squares without negative coefficients, for a handful of them; no library needed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def fit(samples: Iterable[tuple[Sequence[float], float, float]], pulls: Sequence[float]) -> list[float]:
    """Coefficients, none below zero, that minimise the weighted squared error plus the pull of each towards zero.

    Every part of a step costs time, so a negative coefficient is never right; it would be the fit's way to explain
    steps it has seen by two large parts that cancel, and predict nonsense for those it has not. Coefficients that
    come out negative are fixed at zero, the most negative first, and the others fitted again.

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
    free = list(range(size))
    while free:
        solution = _solve([[matrix[i][j] for j in free] for i in free], [right[i] for i in free])
        lowest = min(range(len(free)), key=lambda k: solution[k] * pulls[free[k]] ** 0.5)
        if solution[lowest] >= 0:
            break
        del free[lowest]
    coefficients = [0.0] * size
    for index, value in zip(free, solution, strict=True) if free else ():
        coefficients[index] = value
    return coefficients


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
