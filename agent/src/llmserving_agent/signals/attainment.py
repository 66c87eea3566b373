"""The SLA window: latencies and verdicts on requests over the span the user judges by.

Counts are kept by the second for ten minutes and by the minute beyond, so that a window may be any length up to a day
at bounded memory. A request is judged by the targets in force when it leaves.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from llmserving_api.latency import Counts, bucket_of, merge, value_seconds
from llmserving_api.policy import Target
from llmserving_api.telemetry import Outcome, Pairs, RequestRecord

FINE_SECONDS = 600
COARSE_WIDTH = 60
LONGEST_GAP = 5.0
"""A request with a gap beyond this multiple of the target is not good, whatever its percentile."""

Verdict = Literal["good", "missed", "failed", "aborted"]


@dataclass(frozen=True, slots=True)
class JudgeBy:
    """Targets at the engine: those of the resource, the front end's share deducted."""

    ttft: Target | None = None
    itl: Target | None = None
    e2e: Target | None = None


def is_good(record: RequestRecord, targets: JudgeBy) -> bool:
    """Whether a finished request met every target.

    Its time to first token and end-to-end time are within target, the same percentile of its own gaps (nearest rank) is
    within target, and no gap exceeds ``LONGEST_GAP`` times the target. Without gaps the first token alone counts.
    """
    if record.outcome is not Outcome.FINISHED or record.ttft_seconds <= 0:
        return False
    if targets.ttft is not None and record.ttft_seconds > targets.ttft.target_seconds:
        return False
    if targets.e2e is not None and record.e2e_seconds > targets.e2e.target_seconds:
        return False
    if targets.itl is not None and record.gaps:
        within = record.gaps - record.gaps_over_target
        if within < math.ceil(targets.itl.percentile / 100 * record.gaps):
            return False
        if record.max_gap_seconds > LONGEST_GAP * targets.itl.target_seconds:
            return False
    return True


def verdict_on(record: RequestRecord, targets: JudgeBy) -> Verdict:
    """What a request that left counts as: an aborted one as nothing, a failed one as a miss."""
    if record.outcome is Outcome.ABORTED:
        return "aborted"
    if record.outcome is Outcome.FAILED:
        return "failed"
    return "good" if is_good(record, targets) else "missed"


@dataclass(slots=True)
class SLACounts:
    """Counts of a span.

    Attributes:
        ttft: Times to first token by latency bucket.
        itl: Inter-token gaps.
        e2e: End-to-end times of finished requests.
        good: Requests that met every target.
        missed: Finished requests that did not.
        failed: Requests the engine failed; each is a miss.
        failed_unstarted: Those among them without a first token.
        failed_late: Those among them whose first token came beyond its target.
        aborted: Requests the client gave up; left out of every share.
    """

    ttft: dict[int, int] = field(default_factory=dict)
    itl: dict[int, int] = field(default_factory=dict)
    e2e: dict[int, int] = field(default_factory=dict)
    good: int = 0
    missed: int = 0
    failed: int = 0
    failed_unstarted: int = 0
    failed_late: int = 0
    aborted: int = 0

    @property
    def requests(self) -> int:
        """Requests that count: finished and failed ones."""
        return self.good + self.missed + self.failed

    @property
    def good_share(self) -> float | None:
        """Share of good ones among those; None when there are none."""
        return self.good / self.requests if self.requests else None

    def add(self, other: "SLACounts", sign: int = 1) -> None:
        """Add (or with -1 take away) another span's counts."""
        for mine, theirs in ((self.ttft, other.ttft), (self.itl, other.itl), (self.e2e, other.e2e)):
            for bucket, count in theirs.items():
                left = mine.get(bucket, 0) + sign * count
                if left:
                    mine[bucket] = left
                else:
                    mine.pop(bucket, None)
        self.good += sign * other.good
        self.missed += sign * other.missed
        self.failed += sign * other.failed
        self.failed_unstarted += sign * other.failed_unstarted
        self.failed_late += sign * other.failed_late
        self.aborted += sign * other.aborted


class SLAWindow:
    """Counts over the last ``seconds``; the total is kept up to date, not summed anew."""

    def __init__(self, seconds: float = 300.0) -> None:
        self._seconds = seconds
        self._slots: deque[tuple[int, int, SLACounts]] = deque()  # (start, width in seconds, counts), oldest first
        self._fine_from = 0
        self.total = SLACounts()

    def resize(self, seconds: float) -> None:
        """Another length; a longer window fills as time passes."""
        self._seconds = seconds

    def add_step(self, at: float, first_tokens: Pairs, gaps: Pairs) -> None:
        """Count the latencies of one step that ended at ``at`` (seconds)."""
        if not first_tokens and not gaps:
            return
        slot = self._slot(at)
        for pairs, mine, total in ((first_tokens, slot.ttft, self.total.ttft), (gaps, slot.itl, self.total.itl)):
            for bucket, count in pairs:
                mine[bucket] = mine.get(bucket, 0) + count
                total[bucket] = total.get(bucket, 0) + count

    def add_request(self, record: RequestRecord, verdict: Verdict, ttft: Target | None = None) -> None:
        """Count one request that left; ``ttft`` is the target that its first token was held against."""
        slot = self._slot(record.finished_ns / 1e9)
        if record.outcome is Outcome.FINISHED:
            bucket = bucket_of(record.e2e_seconds)
            for counts in (slot.e2e, self.total.e2e):
                counts[bucket] = counts.get(bucket, 0) + 1
        unstarted = record.ttft_seconds <= 0
        late = not unstarted and ttft is not None and record.ttft_seconds > ttft.target_seconds
        for span in (slot, self.total):
            setattr(span, verdict, getattr(span, verdict) + 1)
            if verdict == "failed":
                span.failed_unstarted += unstarted
                span.failed_late += late

    def add_failed(self, count: int, unstarted: int, at: float) -> None:
        """Count requests, some without a first token, that went down with their engine at ``at`` (seconds)."""
        if count:
            for span in (self._slot(at), self.total):
                span.failed += count
                span.failed_unstarted += unstarted

    def advance(self, now: float) -> None:
        """Forget what has left the window and fold old seconds into minutes."""
        while self._slots and self._slots[0][0] + self._slots[0][1] <= now - self._seconds:
            self.total.add(self._slots.popleft()[2], sign=-1)
        if self._seconds > FINE_SECONDS and now - self._fine_from >= COARSE_WIDTH:
            self._fold(now - FINE_SECONDS)
            self._fine_from = int(now)

    def _fold(self, before: float) -> None:
        folded: deque[tuple[int, int, SLACounts]] = deque()
        for start, width, counts in self._slots:
            minute = start - start % COARSE_WIDTH
            if start + COARSE_WIDTH > before:
                folded.append((start, width, counts))
            elif folded and folded[-1][:2] == (minute, COARSE_WIDTH):
                folded[-1][2].add(counts)
            else:
                folded.append((minute, COARSE_WIDTH, counts))
        self._slots = folded

    def _slot(self, at: float) -> SLACounts:
        second = int(at)
        if not self._slots or self._slots[-1][0] + self._slots[-1][1] <= second:
            self._slots.append((second, 1, SLACounts()))
        return self._slots[-1][2]


def shifted(counts: Counts, seconds: float) -> dict[int, int]:
    """A histogram with a constant added to every value."""
    if seconds <= 0:
        return dict(counts)
    return merge({bucket_of(value_seconds(bucket) + seconds): count} for bucket, count in counts.items())
