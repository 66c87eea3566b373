"""The project's latency histogram: log-spaced buckets, each edge 4 % above the last, from 0.1 ms to beyond 1,000 s.

The engine's copy of the format that the agent and the operator read; a contract test holds the two together.
"""

import math
from typing import Final

FIRST_EDGE_NS: Final = 100_000
GROWTH: Final = 1.04
BUCKETS: Final = 412
_LOG_GROWTH: Final = math.log(GROWTH)


def bucket_of(latency_ns: int) -> int:
    """Index of the bucket: bucket ``i`` holds latencies in (edge(i - 1), edge(i)], the ends are open."""
    if latency_ns <= FIRST_EDGE_NS:
        return 0
    return min(BUCKETS - 1, math.ceil(math.log(latency_ns / FIRST_EDGE_NS) / _LOG_GROWTH - 1e-9))
