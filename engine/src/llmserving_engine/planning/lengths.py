"""Output lengths as seen so far: how likely a request goes on for so long."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

EDGES: Final[tuple[int, ...]] = (*range(0, 64, 8), *(int(64 * 1.19**i) for i in range(36)))
"""Lower edges of the length cells in tokens: fine up to 64, then 19 % apart up to some 28,000."""
_CELL_OF: Final = bytes(bisect_right(EDGES, tokens) - 1 for tokens in range(EDGES[-1] + 1))
HORIZONS: Final[tuple[int, ...]] = (0, *(16 << k for k in range(12)))
"""Output tokens from now at which it is foreseen who is still there: up to some 33,000."""
_DECAY: Final = 0.98
"""What of the old counts remains after `REFRESH` requests: a memory of some 3,000 requests."""
REFRESH: Final = 64
"""Requests that end between two refreshes, ..."""
FIRST: Final = 4
GROWTH: Final = 8
"""... but no more than `FIRST` and one in `GROWTH` of those seen so far: long outputs are rare, and the first tell most."""
_PRIOR: Final = (0.02, 0.4)
_RARE: Final = 100
"""One request more in every cell, of which so much ended: what is taken to be where there is no evidence. Among lengths that many
reach nearly all go on; of outputs longer than nearly all that were seen, many end before they are a fifth longer."""
_PARTS: Final = 4
"""Of the time between two horizons, for sums over it."""


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
    _going_on: list[Sequence[float] | None] = field(default_factory=list)
    _inflow: Sequence[tuple[float, float, float]] = ()
    _growth: float = 0.0
    _fresh: int = 0
    _seen: int = 0

    def __post_init__(self) -> None:
        self.refresh()

    def end(self, tokens: int) -> None:
        """A request ended by itself after this many output tokens."""
        cell = cell_of(tokens)
        self._ended[cell] += 1.0
        self._fresh += 1
        self._seen += 1

    def is_due(self, refreshes: int = 1) -> bool:
        """Whether so many refreshes, or more, are overdue."""
        return self._fresh >= refreshes * min(REFRESH, FIRST + self._seen // GROWTH)

    def refresh(self, running: Sequence[int] = ()) -> None:
        """Recompute the tables, given how many requests run in each cell; empty: none."""
        decay = _DECAY ** (self._fresh / REFRESH)
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
            prior = _PRIOR[0] + (_PRIOR[1] - _PRIOR[0]) * (1.0 - survival[cell]) ** _RARE
            hazard = (self._ended[cell] + prior) / (exposed[cell] + 1.0)
            survival[cell + 1] = survival[cell] * (1.0 - min(hazard, 1.0))
        self._survival = survival
        self._going_on = [None] * size
        self._inflow, self._growth = (), 0.0
        self._ended = [count * decay for count in self._ended]

    def survival(self, tokens: int) -> float:
        """Probability that an output has more than this many tokens."""
        cell = cell_of(tokens)
        if cell + 1 >= len(EDGES):
            return self._survival[cell]
        share = (tokens - EDGES[cell]) / (EDGES[cell + 1] - EDGES[cell])
        return self._survival[cell] + share * (self._survival[cell + 1] - self._survival[cell])

    def going_on(self, tokens: int) -> Sequence[float]:
        """For each of the `HORIZONS`: the probability that an output that has `tokens` will have so many more."""
        cell = cell_of(tokens)
        shares = self._going_on[cell]
        if shares is None:
            edge = EDGES[cell]
            now = self.survival(edge) or 1.0
            shares = self._going_on[cell] = [
                1.0,
                *(min(1.0, self.survival(edge + ahead) / now) for ahead in HORIZONS[1:]),
            ]
        return shares

    @property
    def growth(self) -> float:
        """Tokens that an output holds when it can be expected to hold most."""
        if not self._growth:
            self._growth = max(share * ahead for share, ahead in zip(self.going_on(0), HORIZONS, strict=True))
        return self._growth

    def inflow(self) -> Sequence[tuple[float, float, float]]:
        """What is under way at each of the `HORIZONS` if one output begins with each token from now on.

        Returns:
            Outputs, their tokens, and the sum of the squares of these.
        """
        if not self._inflow:
            outputs = tokens = squares = 0.0
            sums = [(outputs, tokens, squares)]
            for begin, end in pairwise(HORIZONS):
                width = (end - begin) / _PARTS
                for part in range(_PARTS):
                    middle = begin + (part + 0.5) * width
                    share = self.survival(int(middle)) * width
                    outputs += share
                    tokens += share * middle
                    squares += share * middle * middle
                sums.append((outputs, tokens, squares))
            self._inflow = sums
        return self._inflow
