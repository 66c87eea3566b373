"""How much of the prefill the requests get that missed their target already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from llmserving_engine.planning.feasible import Job

FLOOR: Final = 0.05
"""Share they always have."""
CAP: Final = 0.3
"""Largest share: beyond it, requests that can still be served in time would be lost for them."""
WAIT: Final = 4.5
"""They should have started by so many TTFT targets after arrival (five, less the time of their own prefill)."""
HOPELESS: Final = 2.0
"""A backlog of more than so many TTFT targets at the full prefill rate cannot be worked off at the capped share; the
engine is overloaded, and trying would only take more requests down."""


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
        if backlog / rate > HOPELESS * ttft:
            self.share = FLOOR
            return
        need = FLOOR
        tokens = 0
        for job in missed:
            tokens += job.tokens - job.request.num_computed_tokens
            left = max(job.arrival + WAIT * ttft - now, 0.025 * ttft)
            need = max(need, tokens / left / rate)
        self.share = min(need, CAP)

    def served(self, is_missed: bool, tokens: int) -> None:
        """Book tokens that a step computes."""
        self._credit = min(self._credit + tokens * (self.share - is_missed), 8192.0)
