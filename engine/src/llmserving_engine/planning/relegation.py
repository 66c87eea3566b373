"""How much of the prefill the requests get that missed their target already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from llmserving_engine.planning.feasible import Job

FLOOR: Final = 0.05
"""Share they always have."""
CAP: Final = 0.2
"""Largest share for the sake of `WAIT`: beyond it, requests that can still be served in time would be lost for them."""
WAIT: Final = 4.5
"""They should have started by so many TTFT targets after arrival (five, less the time of their own prefill)."""
LAST_CAP: Final = 0.75
"""Largest share for the sake of `LAST_WAIT`. What would need more is an overload that the share cannot end."""
LAST_WAIT: Final = 13.0
"""Where `WAIT` cannot be kept, they should have started by so many TTFT targets after arrival."""
SPREAD: Final = 1.3
"""How much sooner than a whole wait the backlog must be done: 1 if all were new, 2 if their ages were spread evenly."""
LEAST_LEFT: Final = 0.02
"""Share of the wait that is taken to be left to one whose time is up."""


@dataclass(slots=True)
class Ageing:
    """A share of prefill tokens that follows the backlog, kept by an account in tokens."""

    share: float = FLOOR
    _credit: float = 0.0

    @property
    def is_due(self) -> bool:
        """Whether the oldest missed request goes first in this step."""
        return self._credit > 0

    def update(self, missed: Sequence[Job], backlog: int, now: float, rate: float, ttft: float) -> None:
        """Set the share.

        Args:
            missed: The oldest missed requests.
            backlog: Prompt tokens of all missed ones.
            now: Engine time in seconds.
            rate: Prefill tokens per second.
            ttft: The target in seconds.
        """
        need = _share(missed, backlog, now, rate, WAIT * ttft)
        if need > CAP:
            need = _share(missed, backlog, now, rate, LAST_WAIT * ttft)
            if need > LAST_CAP:
                need = FLOOR
        self.share = max(need, FLOOR)

    def served(self, is_missed: bool, tokens: int) -> None:
        """Book tokens that a step computes."""
        self._credit = min(self._credit + tokens * (self.share - is_missed), 8192.0)


def _share(missed: Sequence[Job], backlog: int, now: float, rate: float, wait: float) -> float:
    """Share of the rate with which each starts within `wait` of its arrival, the oldest first.

    Only the oldest are looked at one by one; of the others it is taken that their ages are spread.
    """
    need = SPREAD * backlog / wait / rate
    tokens = 0
    for job in missed:
        tokens += job.work
        need = max(need, tokens / max(job.arrival + wait - now, LEAST_LEFT * wait) / rate)
    return need
