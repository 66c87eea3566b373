"""A line of waiting jobs: who is first is told at a cost that does not grow with the line."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any, Final

STALE: Final = 64
"""Entries of jobs that moved on that a line may hold beyond one for each live one, before it is cleared of them."""
SPARE: Final = 64
"""Entries kept in order beyond those asked for."""


class Line:
    """Jobs of one standing, in order; its front is at hand, the rest lies in a heap.

    Entries are tuples with a unique number before the job, which is last. Those of jobs that moved on are dropped when they
    come to the front, or when they are too many.
    """

    def __init__(self, standing: object) -> None:
        self.count = 0
        """Live entries; kept by the owner."""
        self._standing = standing
        self._near: list[Any] = []  # sorted, each before all that are far
        self._far: list[Any] = []

    def push(self, entry: Any) -> None:
        """Add a job of the line's standing."""
        near = self._near
        if near and entry < near[-1]:
            insort(near, entry)
        else:
            heappush(self._far, entry)

    def front(self, most: int) -> list[Any]:
        """The first live ones."""
        standing, far = self._standing, self._far
        near = [entry for entry in self._near if entry[-1].standing is standing]
        while far and len(near) < most:
            entry = heappop(far)
            if entry[-1].standing is standing:
                near.append(entry)
        for entry in near[most + SPARE :]:
            heappush(far, entry)
        del near[most + SPARE :]
        self._near = near
        return [entry[-1] for entry in near[:most]]

    def take(self, which: Callable[[Any], bool] = lambda job: True) -> list[Any]:
        """Those of its jobs, all or some, that leave the line; their standing is the caller's to change, and the count is less."""
        live = [entry for entry in (*self._near, *self._far) if entry[-1].standing is self._standing]
        taken = [entry[-1] for entry in live if which(entry[-1])]
        self._near, self._far = [], [entry for entry in live if not which(entry[-1])]
        heapify(self._far)
        self.count -= len(taken)
        return taken

    def tidy(self, patience: int = 1) -> None:
        """Drop entries of jobs that moved on, where there are more than `patience` times as many of them as of others."""
        if len(self._far) > (1 + patience) * self.count + patience * STALE:
            self._far = [entry for entry in self._far if entry[-1].standing is self._standing]
            heapify(self._far)

    def __len__(self) -> int:
        return len(self._near) + len(self._far)
