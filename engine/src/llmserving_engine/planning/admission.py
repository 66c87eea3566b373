"""Whether a request fits the KV cache until it ends, given how long outputs get."""

from __future__ import annotations

from collections.abc import Iterable

from llmserving_engine.planning.lengths import OutputLengths

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
    2507.10150).
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
        self._lives = sorted(((lengths.remaining(done), size) for done, size in running), reverse=True)

    def admits(self, tokens: int) -> bool:
        """Whether a request with a prompt of `tokens` keeps the peak within the cache; if so it counts from now on."""
        life = (self._lengths.remaining(0), tokens)
        lives = sorted([*self._lives, life], reverse=True)
        total = 0.0
        for count, (remaining, size) in enumerate(lives, 1):
            total += size
            if total + count * remaining > self._limit:
                return False
        self._lives = lives
        return True
