"""Is the engine alive? It is while steps advance, or while there is nothing to do."""

from dataclasses import dataclass
from typing import Final

from llmserving_engine.latency import FIRST_EDGE_NS, GROWTH, bucket_of

MIN_SILENCE_SECONDS: Final = 60.0
SILENCE_STEPS: Final = 20
"""A silence this many times the 99th percentile of step time is not yet an alarm."""
_MATTERS_NS: Final = int(MIN_SILENCE_SECONDS / SILENCE_STEPS * 1e9)
"""With a percentile of step time below this the smallest silence decides."""
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
        self.last_ns = now_ns
        """When the scheduler was last called."""
        self._slow: dict[int, int] = {}  # steps that took longer than matters, by latency bucket
        self._steps = 0

    def step(self, duration_ns: int) -> None:
        """A step took this long. Old steps fade: counts are halved now and then."""
        self._steps += 1
        if duration_ns > _MATTERS_NS:
            bucket = bucket_of(duration_ns)
            self._slow[bucket] = self._slow.get(bucket, 0) + 1
        if self._steps >= _FADE_AT:
            self._steps //= 2
            self._slow = {bucket: count // 2 for bucket, count in self._slow.items()}

    def p99_seconds(self) -> float:
        """99th percentile of step time where it matters for the verdict; 0 where it is shorter."""
        left = self._steps // 100
        slow = self._slow
        for bucket in sorted(slow, reverse=True):
            left -= slow[bucket]
            if left < 0:
                return FIRST_EDGE_NS / 1e9 * GROWTH**bucket
        return 0.0

    def verdict(self, now_ns: int, runnable: bool) -> Verdict:
        """Judge: ``runnable`` means unfinished requests in an engine that is neither paused nor sleeping."""
        age = max(0.0, (now_ns - self.last_ns) / 1e9)
        allowed = max(MIN_SILENCE_SECONDS, SILENCE_STEPS * self.p99_seconds())
        return Verdict(not runnable or age <= allowed, age, allowed)
