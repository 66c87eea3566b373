"""Learns how long an engine step takes from what it contains, while serving."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from llmserving_agent.laws.predictive.memory import CELLS, StepMemory, cell_of
from llmserving_agent.laws.predictive.regression import fit

SCALES: Final = (1.0, 512.0, 64.0, 65536.0, 262144.0, 1.0, 64.0, 65536.0)
"""Typical sizes of the features: 1, prefill, decodes, context, pairs, and for mixed steps 1, decodes, context."""
PULLS: Final = (1e-4, 1e-4, 1e-4, 1e-4, 1e-4, 1e-2, 1e-2, 1e-2)
"""How hard each is pulled towards zero, in samples. What mixed steps cost beyond their parts is pulled harder: where
the samples do not tell it from what the parts cost, the parts carry it, and steps of a kind not seen yet are
predicted too long, not too short."""
ENOUGH_STEPS: Final = 50
ENOUGH_CELLS: Final = 8


def features(prefill: int, pairs: float, decodes: int, context: int) -> tuple[float, ...]:
    """The features of a step, as the plug-in's model uses them."""
    if prefill and decodes:
        return (1.0, prefill, decodes, context, pairs, 1.0, decodes, context)
    return (1.0, prefill, decodes, context, pairs, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Learned:
    """A fitted model."""

    coefficients: tuple[float, ...]
    residuals: tuple[tuple[float, ...], ...]
    error: float
    steps: int

    def seconds(self, prefill: int, pairs: float, decodes: int, context: int) -> float:
        """Predicted duration of a step."""
        x = features(prefill, pairs, decodes, context)
        time = sum(a * b for a, b in zip(self.coefficients, x, strict=True))
        row = self.residuals[kind_of(prefill, decodes)]
        if row:
            time += row[cell_of(prefill + decodes)]
        return max(time, 1e-4)


def kind_of(prefill: int, decodes: int) -> int:
    """0: decode-only, 1: prefill-only, 2: mixed."""
    if prefill:
        return 2 if decodes else 1
    return 0


@dataclass(slots=True)
class Learner:
    """Accumulates steps and refits on request."""

    memory: StepMemory = field(default_factory=StepMemory)
    steps: int = 0
    model: Learned | None = None
    _errors: deque[float] = field(default_factory=lambda: deque(maxlen=400))

    def observe(self, prefill: int, pairs: float, decodes: int, context: int, seconds: float, now: float) -> None:
        """Take one step that ran back to back with the one before."""
        self.steps += 1
        if self.model is not None:
            predicted = self.model.seconds(prefill, pairs, decodes, context)
            self._errors.append(seconds / predicted - 1.0)
        self.memory.take(
            kind_of(prefill, decodes),
            prefill + decodes,
            decodes,
            features(prefill, pairs, decodes, context),
            seconds,
            now,
        )

    @property
    def ready(self) -> bool:
        """Whether enough different steps were seen for a model that can be relied on."""
        return self.steps >= ENOUGH_STEPS and len(self.memory) >= ENOUGH_CELLS

    def refit(self, now: float) -> Learned:
        """Fit the model to what is remembered."""
        cells = list(self.memory)
        samples = [(cell.features, cell.seconds, min(cell.steps, 8.0) / 8.0 / cell.seconds**2) for _, cell in cells]
        scale = sum(cell.seconds for _, cell in cells) / max(len(cells), 1)
        pulls = [pull * (typical / scale) ** 2 for pull, typical in zip(PULLS, SCALES, strict=True)]
        coefficients = tuple(fit(samples, pulls))
        sums = [[0.0] * CELLS for _ in range(3)]
        counts = [[0.0] * CELLS for _ in range(3)]
        for (kind, tile, _), cell in cells:
            rest = cell.seconds - sum(a * b for a, b in zip(coefficients, cell.features, strict=True))
            sums[kind][tile] += rest * cell.steps
            counts[kind][tile] += cell.steps
        residuals = tuple(
            tuple(total / (count + 2.0) for total, count in zip(row, row_counts, strict=True))
            for row, row_counts in zip(sums, counts, strict=True)
        )
        ordered = sorted(self._errors)
        error = ordered[int(0.95 * (len(ordered) - 1))] if len(ordered) > 20 else 0.15
        self.model = Learned(coefficients, residuals, max(error, 0.0), self.steps)
        return self.model
