"""How many requests come: room is kept for them before those who are late already get it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MEMORY: Final = 64
"""Arrivals that the means are over."""


@dataclass(slots=True)
class Inflow:
    """Means over the last arrivals.

    Attributes:
        gap: Seconds between two of them.
        prompt: Tokens of a prompt.
    """

    gap: float = 0.0
    prompt: float = 0.0
    _last: float = 0.0
    _count: int = 0

    def arrived(self, now: float, prompt: int) -> None:
        """A request came.

        Args:
            now: Engine time in seconds.
            prompt: Its tokens.
        """
        if self._last:
            self._count = min(self._count + 1, MEMORY)
            self.gap += (max(now - self._last, 0.0) - self.gap) / self._count
            self.prompt += (prompt - self.prompt) / self._count
        self._last = now

    def per_step(self, now: float, step_seconds: float) -> float:
        """Requests to come with each step; fewer and fewer when nobody comes for longer than usual."""
        gap = max(self.gap, now - self._last)
        return step_seconds / gap if self._count and gap > 0 else 0.0
