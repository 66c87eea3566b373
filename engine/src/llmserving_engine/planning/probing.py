"""A safe token budget while no step-time model is there: feedback on the durations seen."""

from __future__ import annotations

from dataclasses import dataclass

FIRST = 256
"""Tokens to begin with: some ten milliseconds on any card made for this."""
SMALLEST = 32


@dataclass(slots=True)
class Probe:
    """Prefill tokens of a step: up by an eighth below 0.7 of the target, down at once above 0.9."""

    tokens: float = FIRST
    _target: float = 0.0

    def budget(self, target: float, ceiling: int) -> int:
        """The budget for prefill tokens of the coming step."""
        self._target = target
        self.tokens = min(self.tokens, ceiling)
        return int(self.tokens)

    def completed(self, tokens: int, seconds: float) -> None:
        """A step of so many tokens took so long."""
        if not self._target:
            return
        ratio = seconds / self._target
        if ratio > 0.9:
            self.tokens = max(SMALLEST, self.tokens * max(0.5, 0.8 / ratio))
        elif ratio < 0.7 and tokens >= 0.9 * self.tokens:
            self.tokens *= 1.125
