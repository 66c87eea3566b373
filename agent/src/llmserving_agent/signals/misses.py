"""Whether a target holds at its percentile."""

from llmserving_api.latency import GROWTH, Counts, share_above
from llmserving_api.policy import Target


def share_over(counts: Counts, seconds: float) -> float | None:
    """Share of observations that may exceed a latency: those in its own bucket count, to be on the safe side."""
    return share_above(counts, seconds / GROWTH)


def is_missed(counts: Counts, overdue: int, target: Target | None) -> bool:
    """Whether more than the percentile allows exceed the target; overdue ones, who have no latency yet, do."""
    if target is None:
        return False
    measured = sum(counts.values())
    over = (share_above(counts, target.target_seconds) or 0.0) * measured + overdue
    return over > (1 - target.percentile / 100) * (measured + overdue) + 1e-9
