"""Gathering: requests wait for company until enough have come, or the oldest has waited long enough."""

from collections import OrderedDict


class Gathering:
    """An entry queue of the WAIT laws: members leave together, in order of arrival, never later than a deadline."""

    def __init__(self, threshold: int) -> None:
        self.threshold = threshold
        self._since_ns: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._since_ns)

    def join(self, request_id: str, now_ns: int) -> None:
        """Start waiting; a member that joins again keeps its place."""
        self._since_ns.setdefault(request_id, now_ns)

    def leave(self, request_id: str) -> bool:
        """Stop waiting; False when it was not here."""
        return self._since_ns.pop(request_id, None) is not None

    def members(self) -> list[str]:
        """Who waits, oldest first."""
        return list(self._since_ns)

    def is_due(self, now_ns: int, hold_ns: int) -> bool:
        """Whether enough have gathered, or the oldest has been held for its time."""
        if not self._since_ns:
            return False
        return len(self._since_ns) >= self.threshold or now_ns - next(iter(self._since_ns.values())) >= hold_ns

    def release(self) -> list[str]:
        """At most ``threshold`` members leave, oldest first."""
        count = min(self.threshold, len(self._since_ns))
        return [self._since_ns.popitem(last=False)[0] for _ in range(count)]
