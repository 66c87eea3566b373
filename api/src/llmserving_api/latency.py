"""The one latency histogram of the project: fixed log-spaced buckets that merge by adding counts.

Every edge is 4 % above the last, from 0.1 ms to beyond 1,000 s; a value is reported as the geometric middle of its
bucket, so the error is at most 2 %. Counts of pods and windows are added; percentiles are never averaged.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Final

FIRST_EDGE_SECONDS: Final = 1e-4
GROWTH: Final = 1.04
BUCKETS: Final = 412
_LOG_GROWTH: Final = math.log(GROWTH)

Counts = Mapping[int, int]
"""Sparse histogram: bucket index to number of observations."""


def bucket_of(seconds: float) -> int:
    """Index of the bucket for a latency: bucket ``i`` holds values in (edge(i - 1), edge(i)], the ends are open."""
    if seconds <= FIRST_EDGE_SECONDS:
        return 0
    return min(BUCKETS - 1, math.ceil(math.log(seconds / FIRST_EDGE_SECONDS) / _LOG_GROWTH - 1e-9))


def edge_seconds(bucket: int) -> float:
    """Upper edge of a bucket in seconds."""
    return float(FIRST_EDGE_SECONDS * GROWTH**bucket)


def value_seconds(bucket: int) -> float:
    """The value a bucket stands for: its geometric middle, in seconds."""
    return edge_seconds(bucket) / math.sqrt(GROWTH)


def merge(histograms: Iterable[Counts]) -> dict[int, int]:
    """Sum of several histograms."""
    total: dict[int, int] = {}
    for counts in histograms:
        for bucket, count in counts.items():
            total[bucket] = total.get(bucket, 0) + count
    return total


def quantile_seconds(counts: Counts, percentile: float) -> float | None:
    """Nearest-rank percentile (0 < percentile <= 100) of a histogram in seconds; None when it is empty."""
    total = sum(counts.values())
    if total == 0:
        return None
    rank = max(1, math.ceil(percentile / 100 * total))
    seen = 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if seen >= rank:
            return value_seconds(bucket)
    raise AssertionError("counts changed while they were read")


def share_above(counts: Counts, seconds: float) -> float | None:
    """Share of observations above a latency (to the bucket's resolution); None when there are none."""
    total = sum(counts.values())
    if total == 0:
        return None
    edge = bucket_of(seconds)
    return sum(count for bucket, count in counts.items() if bucket > edge) / total
