"""Who bears an overload: not the longest prompts alone, although giving up one of them helps the most."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

SHARE: Final = 0.06
"""Share of the longest tenth of the prompts that may be given up; beyond it the next longest go first."""
MEMORY: Final = 0.005
"""Weight of one long request in that share: a memory of some 200 of them, two thousand requests."""
WINDOW: Final = 448
REVIEW: Final = 64
"""Requests between two looks at which prompts are the longest tenth."""
UNKNOWN: Final = 1 << 60


@dataclass(slots=True)
class LongPrompts:
    """Which prompts are long, and what share of them was given up lately.

    Attributes:
        share: See `SHARE`.
        threshold: Tokens from which a prompt belongs to the longest tenth.
        given_up: Share of long ones given up.
    """

    share: float = SHARE
    threshold: int = UNKNOWN
    given_up: float = 0.0
    _recent: list[int] = field(default_factory=list)

    def arrived(self, tokens: int) -> None:
        """Count an arrival."""
        recent = self._recent
        recent.append(tokens)
        if len(recent) % REVIEW == 0:
            ordered = sorted(recent)
            high, median = ordered[int(0.9 * len(ordered))], ordered[len(ordered) // 2]
            self.threshold = high if high > median else high + 1  # where most are alike, only what is longer is long
            del recent[:-WINDOW]
        if tokens >= self.threshold:
            self.given_up *= 1.0 - MEMORY

    def gave_up(self, tokens: int) -> None:
        """Count a request given up for the first time."""
        if tokens >= self.threshold:
            self.given_up += MEMORY

    @property
    def may_bear_more(self) -> bool:
        """Whether a further long one may be given up before shorter ones."""
        return self.given_up < self.share
