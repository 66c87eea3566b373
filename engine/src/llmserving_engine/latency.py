"""The project's latency histogram: log-spaced buckets, each edge 4 % above the last, from 0.1 ms to beyond 1,000 s.

The engine's copy of the format that the agent and the operator read; a contract test holds the two together.
"""

from bisect import bisect_left
from typing import Final

FIRST_EDGE_NS: Final = 100_000
GROWTH: Final = 1.04
BUCKETS: Final = 412
_EDGES: Final = tuple(int(FIRST_EDGE_NS * GROWTH ** (bucket + 1e-9)) for bucket in range(BUCKETS - 1))
"""Of all buckets but the last, with the same small slack as in the others' copy. Looked up, as a logarithm would be the
plug-in's only use of the mathematical library in a step, whose code is in no cache by then."""


def bucket_of(latency_ns: int) -> int:
    """Index of the bucket: bucket ``i`` holds latencies in (edge(i - 1), edge(i)], the ends are open."""
    return bisect_left(_EDGES, latency_ns)
