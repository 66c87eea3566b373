"""Learns how long an engine step takes from what it contains, while serving."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from llmserving_agent.laws.predictive.memory import CELLS, KINDS, Sample, StepMemory, cell_of, key_of, kind_of
from llmserving_agent.laws.predictive.regression import fit
from llmserving_api.telemetry import StepRecord

SCALES: Final = (1.0, 512.0, 512.0, 512.0, 64.0, 65536.0, 262144.0, 64.0, 65536.0, 8192.0)
"""Typical sizes of the features."""
PULLS: Final = (1e-4, 1e-4, 1e-4, 1e-4, 1e-4, 1e-4, 1e-4, 1e-2, 1e-2, 1e-3)
"""How hard each coefficient is pulled towards zero, in samples.

What mixed steps cost beyond their parts is pulled harder: where the samples do not tell it from what the parts cost,
the parts carry it, and steps of a kind not seen yet are predicted too long, not too short.
"""
ENOUGH_STEPS: Final = 50
ENOUGH_CELLS: Final = 8
ERRORS: Final = 400
"""Steps over which the error is taken."""
ERROR_QUANTILE: Final = 0.99
"""Share of the steps that stay below the stated error."""
FEW_ERRORS: Final = 20
FIRST_ERROR: Final = 0.15
"""Error stated before it was seen."""
SHRINK: Final = 2.0
"""Steps worth of doubt about a residual."""
FULL_WEIGHT: Final = 8.0
"""Steps from which a cell counts fully."""
DRIFT: Final = 0.06
"""From this median difference to earlier steps like them on, the device is taken to have changed its pace."""
DRIFT_STEPS: Final = 15
UNSURE_DRIFT: Final = 0.15
"""The same where too few of the steps are like many earlier ones, but enough are like a few."""
DRIFT_PATIENCE: Final = 2
"""Rounds in which steps of another pace are set aside: what is over within two seconds is not learned."""
SETTLED: Final = 30
"""Rounds after which another pace is taken to be the device's own."""
FAR: Final = 0.3
"""A step whose content makes it this much longer or shorter than its cell, by the model, is none that the cell knows."""
SURPRISE: Final = 0.08
"""One step moves what is known by no more than this difference would."""
LONGEST: Final = 10.0
"""Seconds beyond which a step is no step but a pause (a sleeping engine, a debugger)."""


@dataclass(frozen=True, slots=True)
class Learned:
    """A fitted model; see the plug-in's `step_model` for its meaning.

    Attributes:
        coefficients: Ten of them.
        residuals: Seconds by kind and size of step.
        error: Relative error that most steps stayed below (see `ERROR_QUANTILE`) when predicted before they ran, with what the
            planner corrects the model by from step to step.
    """

    coefficients: tuple[float, ...]
    residuals: tuple[tuple[float, ...], ...]
    error: float

    def seconds(self, sample: Sample) -> float:
        """Predicted duration."""
        time = sum(a * b for a, b in zip(self.coefficients, sample.features, strict=True))
        row = self.residuals[kind_of(sample.prefill, sample.decodes)]
        return max(time + row[cell_of(sample.prefill + sample.decodes)], 1e-4)


@dataclass(frozen=True, slots=True)
class Learner:
    """What was seen, and the model fitted to it.

    Attributes:
        memory: Means of what was seen at the device's own pace.
        steps: Steps seen.
        model: Newest fit; None while too little was seen.
        errors: Relative errors of the newest predictions, positive where the step took longer.
        drifting: Rounds in a row in which the device seemed to have another pace than `pace`.
        pace: What a step takes now over what it takes at the device's own pace.
        settled: Rounds since the pace changed.
        first_pace: What a step took at first over what it takes at the device's own pace.
        held: Steps that wait for more: so few do not say whether the device has changed its pace.
    """

    memory: StepMemory = field(default_factory=StepMemory)
    steps: int = 0
    model: Learned | None = None
    errors: tuple[float, ...] = ()
    drifting: int = 0
    pace: float = 1.0
    settled: int = 0
    first_pace: float = 1.0
    held: tuple[Sample, ...] = ()

    @property
    def usual_error(self) -> float:
        """Relative error, of either sign, that every second of the newest predictions exceeded; 0 while there are few."""
        if len(self.errors) < FEW_ERRORS:
            return 0.0
        return sorted(map(abs, self.errors))[len(self.errors) // 2]

    def learned(self, records: Iterable[StepRecord]) -> Learner:
        """With these steps taken in; those of unknown duration are passed over."""
        return self.with_samples([sample for record in records if (sample := sample_of(record)) is not None])

    def with_samples(self, samples: Sequence[Sample]) -> Learner:
        """With these steps taken in."""
        if self.model is None:
            return replace(self, steps=self.steps + len(samples), memory=self.memory.with_steps(samples))
        fresh = [sample.seconds / (sample.foreseen or self.model.seconds(sample)) - 1.0 for sample in samples]
        errors = (*self.errors, *fresh)[-ERRORS:]
        samples = (*self.held, *samples)
        if len(samples) < DRIFT_STEPS:
            return replace(self, errors=errors, held=samples)
        seen = replace(self, errors=errors, held=())
        drift = self._drift(samples)
        if drift is None:
            return seen._remembering(samples)
        if self.drifting < DRIFT_PATIENCE:
            return replace(seen, drifting=self.drifting + 1)
        return seen._at_pace(self.pace * (1.0 + drift))  # some of these steps are of the old pace: none is remembered

    def _at_pace(self, pace: float) -> Learner:
        """A pace that comes back is the same exactly, lest the errors of many changes add up."""
        for known in (self.first_pace, 1.0):
            pace = known if abs(pace / known - 1.0) <= DRIFT else pace
        return replace(self, drifting=0, pace=pace, settled=0)

    def _remembering(self, samples: Sequence[Sample]) -> Learner:
        seen = replace(self, steps=self.steps + len(samples), drifting=0, settled=self.settled + 1)
        if self.pace != 1.0 and seen.settled >= SETTLED:
            first_pace = self.first_pace / self.pace
            return replace(seen, memory=self.memory.at_pace(self.pace), pace=1.0, first_pace=first_pace)
        return replace(seen, memory=self.memory.with_steps(self._believed(samples)))

    def _believed(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """What to remember of these steps.

        The edge of a slowdown must not pull what is known along with it, and at another pace than the device's own only what is
        not known yet is learned: what is remembered is all of one pace, and what is seldom seen is not left behind.
        """
        for sample in samples:
            expected = self._expected(sample)
            if expected is None:
                yield replace(sample, seconds=sample.seconds / self.pace)
            elif self.pace == 1.0:
                most, least = expected * (1.0 + SURPRISE), expected * (1.0 - SURPRISE)
                yield replace(sample, seconds=min(max(sample.seconds, least), most))

    def _expected(self, sample: Sample, least: float = FULL_WEIGHT) -> float | None:
        """How long this step takes at the pace there is, by earlier steps of its own kind and size; None: they are too few.

        Not by the model: where that fits badly, this is no news. So nothing is said either of content far from that of those steps.
        """
        cell = self.memory.cells.get(key_of(sample))
        if self.model is None or cell is None or cell.steps < least:
            return None
        features = zip(self.model.coefficients, sample.features, cell.features, strict=True)
        known, beyond = self.pace * cell.seconds, sum(weight * (new - old) for weight, new, old in features)
        return max(known + beyond, 1e-4) if abs(beyond) <= FAR * known else None

    def refitted(self) -> Learner:
        """With a model fitted to all that is remembered; unchanged while that is too little."""
        cells = self.memory.cells
        if self.steps < ENOUGH_STEPS or len(cells) < ENOUGH_CELLS:
            return self
        mean = sum(cell.seconds for cell in cells.values()) / len(cells)
        pulls = [pull * (size / mean) ** 2 for pull, size in zip(PULLS, SCALES, strict=True)]
        coefficients = tuple(
            fit(
                (
                    (cell.features, cell.seconds, min(cell.steps, FULL_WEIGHT) / FULL_WEIGHT / cell.seconds**2)
                    for cell in cells.values()
                ),
                pulls,
            )
        )
        residuals = self._residuals(coefficients)
        model = Learned(
            tuple(self.pace * coefficient for coefficient in coefficients),
            tuple(tuple(self.pace * seconds for seconds in row) for row in residuals),
            self._error(),
        )
        return replace(self, model=model)

    def _residuals(self, coefficients: Sequence[float]) -> tuple[tuple[float, ...], ...]:
        """What the straight lines miss, by kind and size: the mean over the cells of that size."""
        sums = [[0.0] * CELLS for _ in range(KINDS)]
        counts = [[SHRINK] * CELLS for _ in range(KINDS)]
        for (kind, size, *_), cell in self.memory.cells.items():
            rest = cell.seconds - sum(a * b for a, b in zip(coefficients, cell.features, strict=True))
            sums[kind][size] += rest * cell.steps
            counts[kind][size] += cell.steps
        return tuple(
            tuple(total / count for total, count in zip(row, row_counts, strict=True))
            for row, row_counts in zip(sums, counts, strict=True)
        )

    def _drift(self, samples: Sequence[Sample]) -> float | None:
        """How much slower or faster the device has become; None where the steps do not say so.

        Steps of sizes never seen say nothing: that they take longer or shorter than the model says is its error, not the device's.
        """
        for least, limit in ((FULL_WEIGHT, DRIFT), (1.0, UNSURE_DRIFT)):
            pairs = [(sample.seconds, self._expected(sample, least)) for sample in samples]
            ratios = sorted(seconds / expected - 1.0 for seconds, expected in pairs if expected is not None)
            if len(ratios) >= DRIFT_STEPS:
                median = ratios[len(ratios) // 2]
                return median if abs(median) > limit else None
        return None

    def _error(self) -> float:
        if len(self.errors) < FEW_ERRORS:
            return FIRST_ERROR
        ordered = sorted(self.errors)
        return max(ordered[int(ERROR_QUANTILE * (len(ordered) - 1))], 0.0)


def sample_of(record: StepRecord) -> Sample | None:
    """A step's sample; None where its duration is unknown or it held nothing."""
    seconds = record.duration_ns / 1e9
    if not 0 < seconds < LONGEST or not record.prefill_tokens + record.decode_requests:
        return None
    return Sample(
        record.prefill_tokens,
        float(record.prefill_attention_tokens),
        record.decode_requests,
        record.decode_context_tokens,
        seconds,
        record.predicted_ns / 1e9,
    )
