"""Is the engine alive? It is while steps advance, or while there is nothing to do."""

from dataclasses import dataclass
from typing import Final

from llmserving_engine.latency import BUCKETS, FIRST_EDGE_NS, GROWTH, bucket_of

MIN_SILENCE_SECONDS: Final = 60.0
SILENCE_STEPS: Final = 20
"""A silence this many times the 99th percentile of step time is not yet an alarm."""
_FADE_AT: Final = 20_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """Answer of ``/healthz``."""

    healthy: bool
    age_seconds: float
    """Since the last call of ``schedule()`` or ``update_from_output()``."""
    allowed_seconds: float


class Heartbeat:
    """Beats at each scheduler call. Written by the engine's thread, read by the server's."""

    def __init__(self, now_ns: int) -> None:
        self._last_ns = now_ns
        self._counts = [0] * BUCKETS
        self._total = 0

    def beat(self, now_ns: int) -> None:
        """The scheduler was called."""
        self._last_ns = now_ns

    def step(self, duration_ns: int) -> None:
        """A step took this long. Old steps fade: counts are halved now and then."""
        self._counts[bucket_of(duration_ns)] += 1
        self._total += 1
        if self._total >= _FADE_AT:
            self._counts = [count // 2 for count in self._counts]
            self._total = sum(self._counts)

    def p99_seconds(self) -> float:
        """99th percentile of step time; 0 before the first step."""
        left = self._total // 100
        for bucket in range(BUCKETS - 1, -1, -1):
            left -= self._counts[bucket]
            if left < 0:
                return FIRST_EDGE_NS / 1e9 * GROWTH**bucket
        return 0.0

    def verdict(self, now_ns: int, runnable: bool) -> Verdict:
        """Judge: ``runnable`` means unfinished requests in an engine that is neither paused nor sleeping."""
        age = max(0.0, (now_ns - self._last_ns) / 1e9)
        allowed = max(MIN_SILENCE_SECONDS, SILENCE_STEPS * self.p99_seconds())
        return Verdict(not runnable or age <= allowed, age, allowed)
