"""What the learner remembers of past steps: one running mean for each kind and size of step.

A least-squares fit over the last N steps forgets every size the engine has not run lately, and an engine under load
runs almost only steps of one size, so the fit degenerates just when it is needed. Here a step updates the mean of its
own cell and touches no other: what was once seen stays known until it is seen again, memory is bounded, and a
straight-line model fits cell means as well as single steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

CELLS: Final = 64
"""Sizes of one kind of step."""
KINDS: Final = 3
BENDS: Final = (128, 384)
"""Tokens at which the line of dense time may bend upwards: from waiting for weights to waiting for arithmetic."""
SHALLOW: Final = 8192
"""Depth of prompt tokens below which steps of one size are alike; above, each octave has cells of its own."""
RECENT: Final = 24.0
"""A cell's mean follows its last steps, about this many."""


def cell_of(tokens: int) -> int:
    """Size of a step, as in the plug-in's residual table: 32 tokens wide below 1,024, then eight to an octave."""
    if tokens < 1024:
        return tokens // 32
    octave = tokens.bit_length() - 11
    return min(32 + 8 * octave + ((tokens >> (octave + 7)) & 7), CELLS - 1)


def kind_of(prefill: int, decodes: int) -> int:
    """Kind of a step: 0 decode-only, 1 prefill-only, 2 mixed."""
    if prefill:
        return 2 if decodes else 1
    return 0


@dataclass(frozen=True, slots=True)
class Sample:
    """One step: what it held and how long it took.

    Attributes:
        prefill: Prompt tokens computed.
        pairs: Sum over prefill chunks of chunk x (cached + chunk / 2).
        decodes: Requests that computed one token.
        context: Sum over those of the tokens they attended to.
        seconds: Duration.
        foreseen: Duration that the planner foresaw; 0: none.
    """

    prefill: int
    pairs: float
    decodes: int
    context: int
    seconds: float
    foreseen: float = 0.0

    @property
    def depth(self) -> float:
        """Tokens that the prompt tokens attend to, on average."""
        return self.pairs / self.prefill if self.prefill else 0.0

    @property
    def features(self) -> tuple[float, ...]:
        """Features of the plug-in's model, in the order of its coefficients (see its `step_model`)."""
        tokens = self.prefill + self.decodes
        mixed = self.prefill > 0 and self.decodes > 0
        return (
            1.0,
            float(tokens),
            float(max(tokens - BENDS[0], 0)),
            float(max(tokens - BENDS[1], 0)),
            float(self.decodes),
            float(self.context),
            self.pairs,
            float(self.decodes if mixed else 0),
            float(self.context if mixed else 0),
            self.depth,
        )


@dataclass(frozen=True, slots=True)
class Cell:
    """Mean features and duration of steps of one kind and size, and how many of them the means rest on."""

    features: tuple[float, ...]
    seconds: float
    steps: float = 1.0

    def with_step(self, features: tuple[float, ...], seconds: float) -> Cell:
        """The means moved towards one more step."""
        steps = min(self.steps + 1.0, RECENT)
        share = 1.0 / steps
        mean = tuple(old + share * (new - old) for old, new in zip(self.features, features, strict=True))
        return Cell(mean, self.seconds + share * (seconds - self.seconds), steps)


Key = tuple[int, int, int, int]
"""Kind, size, octave of decodes, octave of depth."""


def key_of(sample: Sample) -> Key:
    """The cell a step belongs to."""
    kind = kind_of(sample.prefill, sample.decodes)
    depth = int(sample.depth / SHALLOW).bit_length()
    return kind, cell_of(sample.prefill + sample.decodes), sample.decodes.bit_length(), depth


@dataclass(frozen=True, slots=True)
class StepMemory:
    """Cells by kind, size, octave of decodes and of depth: a few hundred in practice, bounded by what a step can be."""

    cells: Mapping[Key, Cell] = field(default_factory=lambda: MappingProxyType({}))

    def with_steps(self, samples: Iterable[Sample]) -> StepMemory:
        """With these steps remembered."""
        cells = dict(self.cells)
        for sample in samples:
            key = key_of(sample)
            cell = cells.get(key)
            features = sample.features
            cells[key] = Cell(features, sample.seconds) if cell is None else cell.with_step(features, sample.seconds)
        return StepMemory(cells)

    def at_pace(self, pace: float) -> StepMemory:
        """As if every step had taken `pace` times as long."""
        return StepMemory({key: replace(cell, seconds=pace * cell.seconds) for key, cell in self.cells.items()})
