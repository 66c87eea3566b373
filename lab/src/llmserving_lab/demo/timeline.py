"""Everything a run recorded, and the figures that follow from it. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from llmserving_lab.demo.edits import MadeEdit
from llmserving_lab.demo.script import Phase, Script
from llmserving_lab.demo.watch import Observation
from llmserving_lab.traffic.record import Goals, RequestRecord, is_good, quantile

PERCENTILE = 95


@dataclass(frozen=True, slots=True)
class Granted:
    """Mean token budget of an engine's steps in the seconds before `time` (of the monotonic clock)."""

    time: float
    pod: str
    tokens: float


@dataclass(frozen=True, slots=True)
class Run:
    """What happened while traffic flowed.

    Attributes:
        started: When the traffic began, in seconds of the monotonic clock; every other time is of the same clock.
        script: What was planned.
        sent: Requests sent.
        records: Requests that ended.
        observations: What the agents said.
        edits: Edits as they were made.
        granted: What steps were granted.
    """

    started: float
    script: Script
    sent: int
    records: tuple[RequestRecord, ...]
    observations: tuple[Observation, ...]
    edits: tuple[MadeEdit, ...]
    granted: tuple[Granted, ...] = ()


@dataclass(frozen=True, slots=True)
class PhaseFigures:
    """What users got in a phase; None where nothing was seen.

    Attributes:
        phase: The phase.
        requests: Requests sent in it.
        ttft_p50: Median time to first token of those requests.
        ttft_p95: 95th percentile of the same.
        itl_p50: Median of the gaps that ended in the phase.
        itl_p95: 95th percentile of the same.
        attainment: Share of good requests among those sent in it.
        max_num_seqs: Median of the bound in force.
        max_num_batched_tokens: Median of the bound in force.
        granted_tokens: Mean of the tokens that steps were granted.
    """

    phase: Phase
    requests: int
    ttft_p50: float | None
    ttft_p95: float | None
    itl_p50: float | None
    itl_p95: float | None
    attainment: float | None
    max_num_seqs: float | None
    max_num_batched_tokens: float | None
    granted_tokens: float | None


def phase_figures(run: Run) -> list[PhaseFigures]:
    """Figures of every phase."""
    return [_figures(run, phase) for phase in run.script.phases]


def _figures(run: Run, phase: Phase) -> PhaseFigures:
    start, end = run.started + phase.start, run.started + phase.end
    sent = [record for record in run.records if start <= record.sent < end]
    ttfts = [record.ttft_seconds for record in sent if record.ttft_seconds is not None]
    gaps = [gap for _, gap in gaps_between(run.records, start, end)]
    good = [is_good(record, goals_of(run, record)) for record in sent]
    granted = [one.tokens for one in run.granted if start <= one.time < end]
    bounds = [one.applied for one in run.observations if start <= one.time < end and one.applied is not None]
    return PhaseFigures(
        phase=phase,
        requests=len(sent),
        ttft_p50=quantile(ttfts, 50),
        ttft_p95=quantile(ttfts, PERCENTILE),
        itl_p50=quantile(gaps, 50),
        itl_p95=quantile(gaps, PERCENTILE),
        attainment=sum(good) / len(good) if good else None,
        max_num_seqs=_median([one.max_num_seqs for one in bounds]),
        max_num_batched_tokens=_median([one.max_num_batched_tokens for one in bounds]),
        granted_tokens=statistics.fmean(granted) if granted else None,
    )


def goals_of(run: Run, record: RequestRecord) -> Goals:
    """Targets in force when a request was sent."""
    ttft, itl = run.script.goals_at(record.sent - run.started)
    return Goals(ttft, itl, PERCENTILE)


def gaps_between(records: Iterable[RequestRecord], start: float, end: float) -> list[tuple[float, float]]:
    """Gaps that ended within a time, as (when, seconds)."""
    return [
        (later, gap)
        for record in records
        for later, gap in zip(record.outputs[1:], record.gaps, strict=True)
        if start <= later < end
    ]


@dataclass(frozen=True, slots=True)
class LatencyPoint:
    """Percentiles of a window that ends at `time`."""

    time: float
    ttft_p50: float | None
    ttft_p95: float | None
    itl_p50: float | None
    itl_p95: float | None


def latency_course(
    run: Run, *, window_seconds: float = 5.0, step_seconds: float = 1.0, until: float | None = None
) -> list[LatencyPoint]:
    """Percentiles over a moving window, times in seconds since the traffic began."""
    end = until if until is not None else run.script.seconds
    ttfts = [(record.outputs[0], record.ttft_seconds) for record in run.records if record.ttft_seconds is not None]
    gaps = gaps_between(run.records, run.started, run.started + end)
    points = []
    time = step_seconds
    while time <= end:
        first, last = run.started + time - window_seconds, run.started + time
        own_ttfts = [value for when, value in ttfts if first <= when < last]
        own_gaps = [value for when, value in gaps if first <= when < last]
        points.append(
            LatencyPoint(
                time,
                quantile(own_ttfts, 50),
                quantile(own_ttfts, PERCENTILE),
                quantile(own_gaps, 50),
                quantile(own_gaps, PERCENTILE),
            )
        )
        time += step_seconds
    return points


def _median(values: Sequence[int]) -> float | None:
    return float(statistics.median(values)) if values else None
