"""Ending a run that can no longer pass."""

from __future__ import annotations

from llmserving_lab.bench.outcome import Outcome
from llmserving_lab.bench.run_record import RunRecord

_BETWEEN_COUNTS = 5.0
"""Virtual seconds between two counts of what has missed."""


class Misses:
    """Ends a run once more requests have missed for certain than a plan allows.

    Attributes:
        reached: Whether that has happened.
    """

    def __init__(self, allowed: int, warmup: float, requests: int) -> None:
        """Allow so many misses of a run's requests, the first share of them (`warmup`) not counted."""
        self.reached = False
        self._allowed = allowed
        self._from = int(requests * warmup)
        self._open: list[Outcome] = []
        self._seen = self._from
        self._missed = 0
        self._next = 0.0

    def __call__(self, record: RunRecord) -> bool:
        """Whether the run is to end: asked at every step, counted now and then."""
        now = record.states[-1][0]
        if now < self._next:
            return False
        self._next = now + _BETWEEN_COUNTS
        self._open += record.outcomes[self._seen :]
        self._seen = max(self._seen, len(record.outcomes))
        still_open: list[Outcome] = []
        for outcome in self._open:
            if outcome.aborted:
                continue
            if outcome.finished or outcome.is_lost(now):
                self._missed += not (outcome.finished and outcome.is_good())
            else:
                still_open.append(outcome)
        self._open = still_open
        self.reached = self._missed > self._allowed
        return self.reached
