"""Whether a request fits the KV cache until it ends, given how long outputs get."""

from __future__ import annotations

from collections.abc import Iterable

from llmserving_engine.planning.lengths import EDGES, OutputLengths, cell_of

FILL = 1.06
"""Share of the cache that the predicted peak may fill.

Above one, because the peak takes all outputs to be as long as expected at once; a little more than that costs a preemption
now and then, a little less leaves memory empty all the time."""
EASY = 0.5
"""Below this use nothing is forecast."""


class Forecast:
    """Predicted peak of KV tokens over the lives of the requests that hold some.

    As requests end, their KV goes. With those that run longest first, the peak is the largest of
    `sum of the first k sizes + k x remaining of the k-th`: the moment just before the k-th ends (Past-Future, arXiv
    2507.10150). Requests whose outputs are in one cell of lengths are expected to end together and count as one life.
    """

    def __init__(self, capacity: int, running: Iterable[tuple[int, int]], lengths: OutputLengths) -> None:
        """Take the state.

        Args:
            capacity: KV tokens.
            running: `(output tokens so far, KV tokens it holds or will hold when its prompt is computed)` of each
                request.
            lengths: How long outputs get.
        """
        self._limit = FILL * capacity
        self._lengths = lengths
        counts = [0] * len(EDGES)
        sizes = [0] * len(EDGES)
        for done, size in running:
            cell = cell_of(done)
            counts[cell] += 1
            sizes[cell] += size
        self._lives = [
            (lengths.remaining(edge), count, size)
            for edge, count, size in zip(EDGES, counts, sizes, strict=True)
            if count
        ]

    def admits(self, tokens: int) -> bool:
        """Whether a request with a prompt of `tokens` keeps the peak within the cache; if so it counts from now on."""
        lives = sorted([*self._lives, (self._lengths.remaining(0), 1, tokens)], reverse=True)
        total = count = 0
        for remaining, more, size in lives:
            total += size
            count += more
            if total + count * remaining > self._limit:
                return False
        self._lives = lives
        return True
