"""Fitting a coefficient file to a measured profile, for machines that do not have the profile.

.venv/bin/python -m llmserving_lab.device.fit PROFILE_FOLDER > fitted/NAME.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmserving_lab.device.kernels import AttentionTable
from llmserving_lab.device.profile import ProfileError, load_profile
from llmserving_lab.device.tables import Grid

_Array = NDArray[np.float64]

_LARGEST_KV_TOKENS = 600_000
"""Rows whose decodes hold more context than a card's memory does are left out of the fit."""


def fit_coefficients(folder: Path, *, source: str, layers: int | None = None) -> dict[str, Any]:
    """Coefficients of a profile, by least squares of relative errors; see `coefficients` for their meaning.

    Args:
        folder: A profile folder.
        source: Where the profile comes from, for the file.
        layers: Number of transformer blocks, where the profile does not say.

    Raises:
        ProfileError: the folder is not as it should be.
    """
    profile = load_profile(folder, layers=layers)
    kernels = profile.kernels
    attention = kernels.attention
    prefill = np.array([(chunk, cached, time) for (chunk, cached), time in _points(attention.prefill)])
    pairs = prefill[:, 0] * (prefill[:, 1] + prefill[:, 0] / 2)
    _, pair, cached = _fit((np.ones_like(pairs), pairs, prefill[:, 1]), prefill[:, 2], prefill[:, 2])
    decode = np.array([(n, context, time, time) for (n, context), time in _points(attention.decode)])
    mixed = np.array(_mixed_excess(attention)) if attention.mixed else decode
    largest = kernels.head.largest
    return {
        "card": profile.card,
        "model": profile.model,
        "source": source,
        "dense": [
            [size, round(kernels.layers * kernels.block.at(size) + kernels.once.at(size) + kernels.head.at(1), 1)]
            for size in kernels.block.sizes
        ],
        "sequence": round((kernels.head.at(largest) - kernels.head.at(1)) / largest, 4),
        "prefill": {"pair": kernels.layers * float(pair), "cached": kernels.layers * float(cached)},
        "decode": _decode_fit(decode, kernels.layers),
        "mixed": _decode_fit(mixed, kernels.layers),
    }


def _points(grid: Grid) -> list[tuple[tuple[float, ...], float]]:
    points: list[tuple[tuple[float, ...], float]] = []
    for key, child in zip(grid.axis, grid.children, strict=True):
        if isinstance(child, Grid):
            points += [((key, *rest), value) for rest, value in _points(child)]
        else:
            points.append(((key,), child))
    return points


def _mixed_excess(attention: AttentionTable) -> list[tuple[float, float, float, float]]:
    """Rows of mixed steps as (decodes, context, time above that of their prefill alone, whole time)."""
    rows = _points(attention.mixed) if attention.mixed else []
    return [
        (n, context, time - attention.prefill.at(chunk, before), time) for (chunk, n, before, context), time in rows
    ]


def _decode_fit(rows: _Array, layers: int) -> dict[str, float]:
    rows = rows[rows[:, 0] * rows[:, 1] <= _LARGEST_KV_TOKENS]
    columns = (np.ones(len(rows)), rows[:, 0], rows[:, 0] * rows[:, 1])
    fixed, sequence, context = (layers * float(value) for value in _fit(columns, rows[:, 2], rows[:, 3]))
    return {"fixed": round(fixed, 2), "sequence": round(sequence, 4), "context": round(context, 6)}


def _fit(columns: tuple[_Array, ...], times: _Array, scale: _Array) -> _Array:
    """Non-negative least squares of errors relative to `scale`, by dropping columns that come out negative."""
    keep = list(range(len(columns)))
    while True:
        matrix = np.stack([columns[index] / scale for index in keep], axis=1)
        solution = np.linalg.lstsq(matrix, times / scale, rcond=None)[0]
        if (solution >= 0).all():
            break
        keep = [index for index, value in zip(keep, solution, strict=True) if value >= 0]
    values = np.zeros(len(columns))
    values[keep] = solution
    return values


def main() -> None:
    """Print the coefficients of the profile named on the command line.

    Raises:
        SystemExit: there is none, or it is not as it should be.
    """
    match sys.argv[1:]:
        case [given] if not given.startswith("-"):
            folder = Path(given)
        case _:
            raise SystemExit("usage: .venv/bin/python -m llmserving_lab.device.fit PROFILE_FOLDER > NAME.json")
    try:
        fitted = fit_coefficients(folder, source=f"fitted to the profile {folder.resolve().name}")
    except ProfileError as error:
        raise SystemExit(f"fit: {error}") from error
    json.dump(fitted, sys.stdout)


if __name__ == "__main__":
    main()
