"""What happened to each request, and what it says about a run: good, attainment, goodput, percentiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil
from typing import Any

LONGEST_GAP_FACTOR = 5.0
"""No gap of a good request exceeds this many times the inter-token target."""


@dataclass(frozen=True, slots=True)
class Targets:
    """Latency targets, in seconds; None where there is no target.

    Attributes:
        ttft: Time to first token.
        itl: Time between tokens.
        percentile: Percentile that the targets hold at (50 to 99), for a request's own gaps too.
        e2e: Time from arrival to the last token.
    """

    ttft: float | None
    itl: float | None
    percentile: int = 95
    e2e: float | None = None


@dataclass(slots=True)
class Outcome:
    """One request's history in a run.

    Attributes:
        arrival: When it reached the engine (seconds).
        prompt_tokens: Prompt length.
        output_tokens: Output length that completes it.
        token_times: When each token came out.
        finished: Whether it completed.
        aborted: Whether its client gave up; such requests count neither as good nor as missed.
        preemptions: How often it lost its KV.
        targets: Targets in force when it arrived.
    """

    arrival: float
    prompt_tokens: int
    output_tokens: int
    targets: Targets
    token_times: list[float] = field(default_factory=list)
    finished: bool = False
    aborted: bool = False
    preemptions: int = 0

    @property
    def ttft(self) -> float | None:
        """Seconds to the first token, or None when there is none."""
        return self.token_times[0] - self.arrival if self.token_times else None

    def gaps(self) -> list[float]:
        """Times between successive tokens."""
        times = self.token_times
        return [later - earlier for earlier, later in pairwise(times)]

    def is_good(self) -> bool:
        """Whether the request met its targets: first token, the percentile of its own gaps, and no gap over five times the target."""
        if not self.finished or self.ttft is None:
            return False
        targets = self.targets
        if targets.ttft is not None and self.ttft > targets.ttft:
            return False
        if targets.e2e is not None and self.token_times[-1] - self.arrival > targets.e2e:
            return False
        gaps = self.gaps()
        if targets.itl is None or not gaps:
            return True
        return max(gaps) <= LONGEST_GAP_FACTOR * targets.itl and percentile(gaps, targets.percentile) <= targets.itl

    def is_lost(self, now: float) -> bool:
        """Whether an unfinished request can no longer be good."""
        targets = self.targets
        first = self.ttft
        if targets.ttft is not None and (first if first is not None else now - self.arrival) > targets.ttft:
            return True
        if targets.e2e is not None and now - self.arrival > targets.e2e:
            return True
        if targets.itl is None:
            return False
        gaps = self.gaps()
        all_gaps = self.output_tokens - 1
        may_exceed = all_gaps - ceil(targets.percentile / 100 * all_gaps)
        longest = LONGEST_GAP_FACTOR * targets.itl
        return any(gap > longest for gap in gaps) or sum(gap > targets.itl for gap in gaps) > may_exceed


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest-rank percentile: the smallest value that at least `share` % of the values do not exceed.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("a percentile needs at least one value")
    return sorted(values)[max(0, ceil(share / 100 * len(values)) - 1)]


def summarise(outcomes: Sequence[Outcome], *, until: float) -> dict[str, Any]:
    """Figures of the requests that count, by the names of the result file.

    Args:
        outcomes: Requests in order of arrival, warm-up left out.
        until: End of the run in virtual seconds.
    """
    counted = [outcome for outcome in outcomes if not outcome.aborted]
    done = [outcome for outcome in counted if outcome.finished]
    good = [outcome.is_good() for outcome in counted]
    ttfts = [outcome.ttft for outcome in counted if outcome.ttft is not None]
    gaps = [gap for outcome in counted for gap in outcome.gaps()]
    tpots = [
        (outcome.token_times[-1] - outcome.token_times[0]) / (len(outcome.token_times) - 1)
        for outcome in done
        if len(outcome.token_times) > 1
    ]
    start = outcomes[0].arrival if outcomes else 0.0
    last_arrival = outcomes[-1].arrival if outcomes else 0.0
    span = last_arrival - start
    return {
        "arrived": len(outcomes),
        "completed": len(done),
        "aborted": len(outcomes) - len(counted),
        "good": sum(good),
        "attainment": _round(sum(good) / len(counted)) if counted else None,
        "goodput_rps": _round(sum(good) / span) if span > 0 else None,
        **_percentiles("ttft", ttfts),
        "ttft_mean_s": _mean(ttfts),
        "ttft_max_s": _round(max(ttfts)) if ttfts else None,
        **_percentiles("itl", gaps),
        "tpot_mean_s": _mean(tpots),
        "e2e_mean_s": _mean([outcome.token_times[-1] - outcome.arrival for outcome in done]),
        "output_tokens": sum(len(outcome.token_times) for outcome in counted),
        "tpot_p99_s": _round(percentile(tpots, 99)) if tpots else None,
        "preemptions": sum(outcome.preemptions for outcome in outcomes),
        "attainment_by_prompt_decile": _deciles(counted, good),
        "relegated_share": _relegated(counted),
        "virtual_s": _round(until),
    }


COURSE_SECONDS = 4.0
"""Span of one point of `gap_course`."""


def gap_course(outcomes: Sequence[Outcome], share: float = 95) -> list[list[float]]:
    """`[time, percentile of the gaps that ended in the span before it]`, span after span; spans without gaps are left out."""
    spans: dict[int, list[float]] = {}
    for outcome in outcomes:
        for end, gap in zip(outcome.token_times[1:], outcome.gaps(), strict=True):
            spans.setdefault(int(end // COURSE_SECONDS), []).append(gap)
    return [[(number + 1) * COURSE_SECONDS, _round(percentile(spans[number], share))] for number in sorted(spans)]


def _deciles(counted: Sequence[Outcome], good: Sequence[bool]) -> list[float]:
    if len(counted) < 10:
        return []
    order = sorted(range(len(counted)), key=lambda index: counted[index].prompt_tokens)
    edges = [round(part * len(order) / 10) for part in range(11)]
    return [_round(sum(good[index] for index in order[low:high]) / (high - low)) for low, high in pairwise(edges)]


def _relegated(counted: Sequence[Outcome]) -> float | None:
    """Share of requests whose first token came after a later arrival's, by more than the TTFT target."""
    if not counted:
        return None
    relegated = 0
    earliest_later = float("inf")
    for outcome in reversed(counted):
        first = outcome.token_times[0] if outcome.token_times else float("inf")
        if first > earliest_later + (outcome.targets.ttft or 0.0):
            relegated += 1
        earliest_later = min(earliest_later, first)
    return _round(relegated / len(counted))


def _percentiles(name: str, values: Sequence[float]) -> dict[str, float | None]:
    ordered = sorted(values)
    shares = (50, 95, 99)
    if not ordered:
        return {f"{name}_p{share}_s": None for share in shares}
    return {f"{name}_p{share}_s": _round(ordered[ceil(share / 100 * len(ordered)) - 1]) for share in shares}


def _mean(values: Sequence[float]) -> float | None:
    return _round(sum(values) / len(values)) if values else None


def _round(value: float) -> float:
    return round(value, 6)
