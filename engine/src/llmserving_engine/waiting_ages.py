"""How many requests wait for their first token, since when, and how many of them for too long.

A queue of ten thousand may become overdue within a few steps. So nothing is moved or looked at for a single request:
they are counted by their time of arrival, in slots of some milliseconds, and the boundary of what is overdue passes over
slots. A step costs as much as it lasted, and there are never more slots than requests.
"""

from collections import OrderedDict
from typing import Final

SLOT_NS: Final = 5_000_000
"""Arrivals are told apart to this."""


class WaitingAges:
    """Counts of waiting requests by arrival; a request is taken out with the arrival it was put in with.

    Attributes:
        gone: Arrivals of those that wait no longer; taken out at the next look.
    """

    def __init__(self) -> None:
        self.gone: list[int] = []
        self._slots: OrderedDict[int, int] = OrderedDict()  # its first entry is looked up in each step
        self._boundary = 0  # slots before it are overdue
        self._overdue = 0

    def add(self, arrival_ns: int) -> None:
        """A request that arrived then waits."""
        slot = arrival_ns // SLOT_NS
        self._slots[slot] = self._slots.get(slot, 0) + 1
        self._overdue += slot < self._boundary

    def look(self, time_ns: int) -> tuple[int, int | None]:
        """How many of those that wait arrived before a time, whole slots counted, and when the first of all arrived.

        Cheap when asked again for a time soon after.
        """
        gone, self.gone = self.gone, []
        for arrival_ns in gone:
            self._remove(arrival_ns)
        slots, last, boundary = self._slots, self._boundary, time_ns // SLOT_NS
        if boundary != last:
            if 0 < boundary - last < len(slots):
                for slot in range(last, boundary):
                    if slot in slots:
                        self._overdue += slots[slot]
            else:
                self._overdue = sum(count for slot, count in slots.items() if slot < boundary)
            self._boundary = boundary
        for first in slots:
            return self._overdue, first * SLOT_NS
        return 0, None

    def _remove(self, arrival_ns: int) -> None:
        slot = arrival_ns // SLOT_NS
        left = self._slots[slot] - 1
        if left:
            self._slots[slot] = left
        else:
            del self._slots[slot]
        self._overdue -= slot < self._boundary
