"""Errors of a replay against the recording. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmserving_lab.bench.outcome import Outcome, percentile
from llmserving_lab.validate.recording import Recording

LIMITS = {"tpot_mean": 0.03, "tpot_p99": 0.05, "ttft_mean": 0.06, "throughput": 0.03}
"""Largest relative error that a device model may have to be believed."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure, measured and replayed, in seconds or tokens per second."""

    name: str
    unit: str
    real: float
    replayed: float

    @property
    def error(self) -> float:
        """Relative error of the replay."""
        return self.replayed / self.real - 1 if self.real else 0.0

    @property
    def limit(self) -> float | None:
        """Largest error allowed, or None where there is no limit."""
        return LIMITS.get(self.name)

    @property
    def within(self) -> bool:
        """Whether the error is within its limit."""
        return self.limit is None or abs(self.error) <= self.limit


def compare(
    recording: Recording, outcomes: Sequence[Outcome], states: Sequence[tuple[float, int, int]]
) -> tuple[list[Figure], dict[str, Any]]:
    """Figures of both sides, and what else there is to say of the comparison.

    The replay has no front end. Where the recording is a client's, the share of its TTFT that was spent outside the engine, which
    the recorder measured on the idle server, is added to the replay's.

    Args:
        recording: The real run.
        outcomes: The replay's requests, in the same order.
        states: The replay's `(seconds, running, waiting)` over time.
    """
    real_ttft = [request.ttft for request in recording.requests]
    real_tpot = [request.tpot for request in recording.requests if request.tpot is not None]
    front_end = recording.front_end_seconds or 0.0
    ttft = [outcome.ttft + front_end for outcome in outcomes if outcome.ttft is not None]
    tpot = [
        (outcome.token_times[-1] - outcome.token_times[0]) / (len(outcome.token_times) - 1)
        for outcome in outcomes
        if len(outcome.token_times) > 1
    ]
    figures = []
    for name, real, replayed in (("ttft", real_ttft, ttft), ("tpot", real_tpot, tpot)):
        figures.append(Figure(f"{name}_mean", "s", _mean(real), _mean(replayed)))
        figures += [
            Figure(f"{name}_p{share}", "s", percentile(real, share), percentile(replayed, share))
            for share in (50, 95, 99)
        ]
    tokens = sum(request.output_tokens for request in recording.requests)
    real_span = max(request.last_token for request in recording.requests)
    span = max(outcome.token_times[-1] for outcome in outcomes)
    figures.append(Figure("throughput", "tok/s", tokens / real_span, sum(len(o.token_times) for o in outcomes) / span))
    real_gaps = [gap for request in recording.requests for gap in request.gaps]
    if real_gaps:
        gaps = [gap for outcome in outcomes for gap in outcome.gaps()]
        figures += [
            Figure(f"itl_p{share}", "s", percentile(real_gaps, share), percentile(gaps, share))
            for share in (50, 95, 99)
        ]
    return figures, {
        "running_mean_difference": _difference(recording, states, 1),
        "waiting_mean_difference": _difference(recording, states, 2),
        "front_end_seconds": recording.front_end_seconds,
        "not_validated": not_validated(recording),
    }


def not_validated(recording: Recording) -> list[str]:
    """What this recording cannot tell about a device, one sentence each."""
    said = []
    untimed = sum(not request.token_times for request in recording.requests if request.output_tokens > 1)
    if untimed == sum(request.output_tokens > 1 for request in recording.requests) and untimed:
        said.append(
            "Inter-token gaps: the recording has no time per token (token_ts), only their mean per request can be compared "
            "(llmserving-lab record makes recordings that have them)."
        )
    elif untimed:
        said.append(f"Inter-token gaps of {untimed} requests: they have no time per token (token_ts).")
    if not recording.states:
        said.append("Running and waiting over time: timeseries.csv has no rows.")
    if recording.at_client and recording.front_end_seconds is None:
        said.append("TTFT: times are a client's, and how much of them is front end is not known.")
    if recording.kv_tokens is None:
        said.append("Memory: the recording does not say how large the KV cache was, the device's estimate is used.")
    return said


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _difference(recording: Recording, states: Sequence[tuple[float, int, int]], column: int) -> float | None:
    """Mean absolute difference of a state, over the recording's samples."""
    if not recording.states or not states:
        return None
    total = 0.0
    for sample in recording.states:
        nearest = min(states, key=lambda state: abs(state[0] - sample[0]))
        total += abs(nearest[column] - sample[column])
    return round(total / len(recording.states), 2)
