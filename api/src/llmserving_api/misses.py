"""How often a target was missed within a window: the one judgement behind ``SLAMet`` and its alert.

At most (100 - percentile) % may miss a target. Misses of the time to first token and of the end-to-end time are
requests, those of the inter-token latency are gaps. An engine's failure is a miss of every target (of the gaps, the one
that never ended); so is a request that waits for longer than the target.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from llmserving_api.latency import Counts, bucket_of, merge
from llmserving_api.status import LatencyWindow

LatencyName = Literal["ttft", "itl", "e2e"]


@dataclass(frozen=True, slots=True)
class Judged:
    """Observations against a target.

    Attributes:
        total: Requests or gaps that count.
        misses: Those beyond the target, to the bucket's resolution.
    """

    total: int
    misses: int

    def allowed(self, percentile: int) -> float:
        """Misses that the percentile allows."""
        return (100 - percentile) * self.total / 100

    def is_met(self, percentile: int) -> bool | None:
        """Whether the target holds; None when nothing counts."""
        return self.misses * 100 <= (100 - percentile) * self.total if self.total else None


def judge(window: LatencyWindow, metric: LatencyName, target_seconds: float) -> Judged:
    """Hold a window against a target."""
    counts: Counts = getattr(window, metric)
    seen, late = sum(counts.values()), _above(counts, target_seconds)
    if metric == "ttft":
        unstarted = window.failed if window.failed_unstarted is None else window.failed_unstarted
        seen = max(seen, window.failed - unstarted)  # their first tokens may have left the window before them
        total = seen + unstarted + window.overdue_waiting
        misses = late + window.failed - window.failed_late + window.overdue_waiting
    else:
        overdue = window.overdue_e2e if metric == "e2e" else 0
        total, misses = seen + window.failed + overdue, late + window.failed + overdue
    return Judged(total, min(total, misses))


def merge_windows(windows: Iterable[LatencyWindow]) -> LatencyWindow:
    """The window of several engines together."""
    known = list(windows)
    return LatencyWindow(
        window_seconds=max((window.window_seconds for window in known), default=0.0),
        ttft=merge(window.ttft for window in known),
        itl=merge(window.itl for window in known),
        e2e=merge(window.e2e for window in known),
        requests=sum(window.requests for window in known),
        good=sum(window.good for window in known),
        failed=sum(window.failed for window in known),
        failed_unstarted=sum(
            window.failed if window.failed_unstarted is None else window.failed_unstarted for window in known
        ),
        failed_late=sum(window.failed_late for window in known),
        overdue_waiting=sum(window.overdue_waiting for window in known),
        overdue_e2e=sum(window.overdue_e2e for window in known),
    )


def _above(counts: Counts, seconds: float) -> int:
    edge = bucket_of(seconds)
    return sum(count for bucket, count in counts.items() if bucket > edge)
