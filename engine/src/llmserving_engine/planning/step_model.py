"""Predicted duration of an engine step from what the step contains.

The agent learns the coefficients from telemetry; the plug-in only evaluates them, some tens of times per step.

A step of `T` tokens takes `c0 + c1 T + c2 (T - 128)+ + c3 (T - 384)+ + c4 decodes + c5 context + c6 pairs
+ c9 depth + [mixed] (c7 decodes + c8 context) + r(kind, T)`, where `pairs` is the sum over prefill chunks of
chunk x (cached + chunk / 2), `depth` that sum over the prompt tokens (what they attend to, on average), `context` the
sum over decodes of the tokens they attend to, and a *mixed* step one that has both. The bends are there because small
steps wait for weights to be read and large ones for arithmetic. The mixed terms are not small: attention kernels that
serve both at once cost far more than the two parts alone. A small chunk far down a long prompt reads as much of the KV
cache as a larger one there: that is the part of `depth`. `r` is a table of what the straight lines miss, by kind of
step and number of tokens: matrix tiles and captured-graph sizes are learnt there instead of being assumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

COEFFICIENTS: Final = 10
BENDS: Final = (128, 384)
"""Tokens at which the line of dense time may bend upwards."""
KINDS: Final = 3
"""Kinds of step: 0 decode-only, 1 prefill-only, 2 mixed."""
CELLS: Final = 64
"""Residual cells of one kind of step."""


def cell_of(tokens: int) -> int:
    """Residual cell of a step: 32 tokens wide below 1,024, then eight to an octave; the last holds everything above."""
    if tokens < 1024:
        return tokens // 32
    octave = tokens.bit_length() - 11
    return min(32 + 8 * octave + ((tokens >> (octave + 7)) & 7), CELLS - 1)


class StepTimes(Protocol):
    """What predicts the duration of a step."""

    def seconds(self, prefill: int, pairs: float, decodes: int, context: int) -> float:
        """Duration of a step.

        Args:
            prefill: Prompt tokens computed.
            pairs: Sum over prefill chunks of chunk x (cached + chunk / 2).
            decodes: Requests that compute one token.
            context: Sum over those of the tokens they attend to.
        """
        ...

    @property
    def error(self) -> float:
        """Relative error that nearly all steps stay below."""
        ...


@dataclass(frozen=True, slots=True)
class StepModel:
    """A learned model, as the agent sends it.

    Attributes:
        coefficients: The ten coefficients above, seconds per unit.
        residuals: Seconds by kind of step (0 decode-only, 1 prefill-only, 2 mixed) and `cell_of(tokens)`;
            empty rows: none.
        error: Relative error that 99 % of steps stayed below when they were planned.
    """

    coefficients: Sequence[float]
    residuals: Sequence[Sequence[float]] = ((), (), ())
    error: float = 0.1
    _flat: tuple[float, ...] = field(init=False, repr=False, compare=False, default=())

    def __post_init__(self) -> None:
        if len(self.coefficients) != COEFFICIENTS:
            raise ValueError(f"coefficients: {len(self.coefficients)} given, {COEFFICIENTS} needed")
        object.__setattr__(self, "_flat", tuple(self.coefficients))

    def seconds(self, prefill: int, pairs: float, decodes: int, context: int) -> float:
        """See `StepTimes`; never below a tenth of a millisecond."""
        c0, c1, c2, c3, c4, c5, c6, c7, c8, c9 = self._flat
        tokens = prefill + decodes
        time = c0 + c1 * tokens + c4 * decodes + c5 * context
        if tokens > BENDS[0]:
            time += c2 * (tokens - BENDS[0])
            if tokens > BENDS[1]:
                time += c3 * (tokens - BENDS[1])
        kind = 0
        if prefill:
            time += c6 * pairs + c9 * pairs / prefill
            kind = 1
            if decodes:
                time += c7 * decodes + c8 * context
                kind = 2
        row = self.residuals[kind]
        if row:
            time += row[min(cell_of(tokens), len(row) - 1)]
        return max(time, 1e-4)


TRIM_UP: Final = 0.2
TRIM_DOWN: Final = 0.05
TRIM_AT_ONCE: Final = 0.7
SLOW: Final = 1.06
"""Two steps of a kind in a row that took so much longer than predicted are a slower device, not noise."""
TRIM_CLIP: Final = 2.0
"""One step moves the trim by no more than this says: an outlier is not a trend."""


class Trim:
    """Corrects a model by what the last steps took: fast when they were slower than predicted, slowly when faster.

    One factor for each kind of step, and one for very large ones, so that an error in one does not spoil the others.
    It answers a device that became slower within a few steps, while the agent takes a second to refit.
    """

    def __init__(self, model: StepTimes | None) -> None:
        self.model = model
        self._factors = [1.0] * (KINDS + 1)
        self._was_slow = [False] * (KINDS + 1)
        self.value = 1.0
        """The factor applied last."""

    @property
    def error(self) -> float:
        """The model's own error."""
        return self.model.error if self.model is not None else 1.0

    def adopt(self, model: StepTimes | None) -> None:
        """Go on with a newly fitted model; it has seen what the factors stood for, so half of each remains."""
        if self.model is not None:
            self._factors = [1.0 + (factor - 1.0) / 2 for factor in self._factors]
        self.model = model

    def seconds(self, prefill: int, pairs: float, decodes: int, context: int) -> float:
        """Corrected prediction, see `StepTimes`."""
        assert self.model is not None  # noqa: S101 the planner asks only once there is one
        return self.model.seconds(prefill, pairs, decodes, context) * self._factors[_class(prefill, decodes)]

    def observe(self, prefill: int, pairs: float, decodes: int, context: int, seconds: float) -> None:
        """A step with this content took so long."""
        if self.model is None or not prefill + decodes:
            return
        kind = _class(prefill, decodes)
        ratio = seconds / self.model.seconds(prefill, pairs, decodes, context)
        ratio = min(max(ratio, 1.0 / TRIM_CLIP), TRIM_CLIP)
        factor = self._factors[kind]
        is_slow = ratio > SLOW * factor
        is_pace = is_slow and self._was_slow[kind]
        self._was_slow[kind] = is_slow
        weight = TRIM_DOWN if ratio < factor else TRIM_AT_ONCE if is_pace else TRIM_UP
        change = 1.0 + weight * (ratio / factor - 1.0)
        if is_pace and kind < KINDS:  # a slower device slows every kind of step
            self._factors = [max(other, min(other * change, ratio)) for other in self._factors]
        factor *= change
        self._factors[kind] = self.value = factor


LARGE: Final = 1024
"""Prompt tokens above which a step is corrected on its own account."""


def _class(prefill: int, decodes: int) -> int:
    if prefill:
        if prefill > LARGE:
            return KINDS
        return 2 if decodes else 1
    return 0
