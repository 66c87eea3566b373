"""What the learner remembers of past steps: one running mean for each kind and size of step.

A least-squares fit over the last N steps forgets every size the engine has not run lately, and an engine under load
runs almost only steps of one size, so the fit degenerates just when it is needed. Here a step updates the mean of
its own cell and touches no other: what was once seen stays known until it is seen again, memory is bounded, and a
straight-line model fits cell means as well as single steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

CELLS: Final = 64
"""Sizes of one kind of step."""
_RECENT: Final = 24
"""A cell's mean follows its last steps, about this many."""


def cell_of(tokens: int) -> int:
    """Size of a step, as in the plug-in's residual table: 32 tokens wide below 1,024, then eight to an octave."""
    if tokens < 1024:
        return tokens // 32
    octave = tokens.bit_length() - 11
    return min(32 + 8 * octave + ((tokens >> (octave + 7)) & 7), CELLS - 1)


@dataclass(slots=True)
class Cell:
    """Mean features and duration of steps of one kind and size."""

    features: list[float]
    seconds: float
    steps: float
    last_seen: float

    def take(self, features: Sequence[float], seconds: float, now: float) -> None:
        """Move the means towards one more step."""
        self.steps = min(self.steps + 1.0, _RECENT)
        share = 1.0 / self.steps
        mean = self.features
        for i, value in enumerate(features):
            mean[i] += share * (value - mean[i])
        self.seconds += share * (seconds - self.seconds)
        self.last_seen = now


@dataclass(slots=True)
class StepMemory:
    """Cells by (kind, tile of tokens, octave of decodes)."""

    cells: dict[tuple[int, int, int], Cell] = field(default_factory=dict)

    def take(self, kind: int, tokens: int, decodes: int, features: Sequence[float], seconds: float, now: float) -> None:
        """Remember one step."""
        key = (kind, cell_of(tokens), decodes.bit_length())
        cell = self.cells.get(key)
        if cell is None:
            self.cells[key] = Cell(list(features), seconds, 1.0, now)
        else:
            cell.take(features, seconds, now)

    def scale(self, factor: float, older_than: float) -> None:
        """The device became slower or faster: carry what was seen before then over to the new pace."""
        for cell in self.cells.values():
            if cell.last_seen < older_than:
                cell.seconds *= factor

    def __len__(self) -> int:
        return len(self.cells)

    def __iter__(self) -> Iterator[tuple[tuple[int, int, int], Cell]]:
        return iter(self.cells.items())
