"""Output lengths as seen so far: how likely a request goes on, and for how long."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

EDGES: Final[tuple[int, ...]] = (*range(0, 64, 8), *(int(64 * 1.19**i) for i in range(36)))
"""Lower edges of the length cells in tokens: fine up to 64, then 19 % apart up to some 28,000."""
_CELL_OF: Final = bytes(bisect_right(EDGES, tokens) - 1 for tokens in range(EDGES[-1] + 1))
_DECAY: Final = 0.98
"""What of the old counts remains at each refresh (every `REFRESH` requests): a memory of some 3,000 requests."""
REFRESH: Final = 64
"""Requests that end between two refreshes."""
_PRIOR: Final = (0.02, 1.0)
"""Ends and exposures put into every cell: without evidence a cell is survived with 98 %."""


def cell_of(tokens: int) -> int:
    """The cell of an output of this length."""
    return _CELL_OF[tokens] if 0 <= tokens < len(_CELL_OF) else _CELL_OF[-1 if tokens > 0 else 0]


@dataclass(slots=True)
class OutputLengths:
    """Survival of outputs by Kaplan and Meier (1958): a request still running counts as one that reached its length.

    Counting only finished requests would be biased to short outputs for as long as the long ones still run.
    """

    _ended: list[float] = field(default_factory=lambda: [0.0] * len(EDGES))
    _survival: list[float] = field(default_factory=list)
    _remaining: list[float] = field(default_factory=list)
    _fresh: int = 0

    def __post_init__(self) -> None:
        self.refresh()

    def end(self, tokens: int) -> None:
        """A request ended by itself after this many output tokens."""
        cell = cell_of(tokens)
        self._ended[cell] += 1.0
        self._fresh += 1

    def is_due(self, refreshes: int = 1) -> bool:
        """Whether so many refreshes, or more, are overdue."""
        return self._fresh >= refreshes * REFRESH

    def refresh(self, running: Sequence[int] = ()) -> None:
        """Recompute the tables, given how many requests run in each cell; empty: none."""
        self._fresh = 0
        size = len(EDGES)
        reached = running or [0] * size
        beyond = 0.0
        exposed = [0.0] * size
        for cell in reversed(range(size)):
            exposed[cell] = beyond + self._ended[cell]
            beyond += self._ended[cell] + reached[cell]
        survival = [1.0] * (size + 1)
        for cell in range(size):
            hazard = (self._ended[cell] + _PRIOR[0]) / (exposed[cell] + _PRIOR[1])
            survival[cell + 1] = survival[cell] * (1.0 - min(hazard, 1.0))
        self._survival = survival
        area = 0.0
        remaining = [0.0] * size
        for cell in reversed(range(size)):
            width = EDGES[cell + 1] - EDGES[cell] if cell + 1 < size else EDGES[cell] // 4
            area += width * (survival[cell] + survival[cell + 1]) / 2
            remaining[cell] = area / survival[cell] if survival[cell] > 1e-9 else width / 2
        self._remaining = remaining
        self._ended = [count * _DECAY for count in self._ended]

    def survival(self, tokens: int) -> float:
        """Probability that an output has more than this many tokens."""
        cell = cell_of(tokens)
        if cell + 1 >= len(EDGES):
            return self._survival[cell]
        share = (tokens - EDGES[cell]) / (EDGES[cell + 1] - EDGES[cell])
        return self._survival[cell] + share * (self._survival[cell + 1] - self._survival[cell])

    def remaining(self, tokens: int) -> float:
        """Expected further tokens of an output that has this many."""
        return self._remaining[cell_of(tokens)]
