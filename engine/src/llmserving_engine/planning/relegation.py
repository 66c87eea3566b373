"""How much of the prefill the requests get that missed their target already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from llmserving_engine.planning.job import Job

FLOOR: Final = 0.05
"""Share they always have."""
WAIT: Final = 12.0
"""They should have started by so many TTFT targets after arrival."""
START: Final = 0.5
"""Share from which on more than the floor is given for that: as late as possible, because a lull serves them for nothing."""
HOPELESS: Final = 0.4
"""Share that all who missed would need for good; what needs more is an overload that no share can end."""
ACCOUNT: Final = 8192.0
"""Tokens by which they may be ahead of their share, or behind it: what a lull served them is not held against them later."""
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
        need = _share(missed, now, rate, WAIT * ttft)
        is_hopeless = backlog > HOPELESS * WAIT * ttft * rate
        self.share = FLOOR if is_hopeless or need < START else min(need, 1.0)

    def served(self, is_missed: bool, tokens: int) -> None:
        """Book tokens that a step computes."""
        credit = self._credit + tokens * (self.share - is_missed)
        self._credit = max(-ACCOUNT, min(credit, ACCOUNT))


def _share(missed: Sequence[Job], now: float, rate: float, wait: float) -> float:
    """Share of the rate with which each of these starts within `wait` of its arrival, the oldest first."""
    need = 0.0
    tokens = 0
    for job in missed:
        tokens += job.work
        need = max(need, tokens / max(job.arrival + wait - now, LEAST_LEFT * wait) / rate)
    return need
