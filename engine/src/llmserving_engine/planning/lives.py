"""The decoding requests by how long their outputs are, kept up to date at a cost that does not grow with their number.

Every decode step makes every output one token longer. So those that began in the same step stay together: a cohort. A step only
moves the cohorts that cross an edge between two cells of output lengths, and how much KV a cell holds follows from sums.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from llmserving_engine.planning.lengths import EDGES, cell_of

_INNER_EDGES = tuple(enumerate(EDGES))[1:]


class Lives:
    """See the module's text. A request of size `prompt + outputs` was born `outputs` decode steps ago."""

    def __init__(self) -> None:
        self.counts = [0] * len(EDGES)
        """Requests by the cell of their output's length."""
        self._steps = 0
        self._births: dict[str, tuple[int, int]] = {}  # birth, and base: its size less the steps so far
        self._cohorts: dict[int, list[int]] = {}  # by birth: how many, sum of their bases
        self._bases = [0] * len(EDGES)

    def __len__(self) -> int:
        return len(self._births)

    def begin(self, request_id: str, prompt: int, outputs: int = 0) -> None:
        """A request decodes from now on: its prompt in tokens, and the output tokens that it has already."""
        self.end(request_id)
        birth = self._steps - outputs
        base = prompt - birth
        self._births[request_id] = birth, base
        self._change(birth, base, 1)

    def end(self, request_id: str) -> None:
        """A request decodes no longer; one that did not is nothing new."""
        born = self._births.pop(request_id, None)
        if born is not None:
            self._change(*born, -1)

    def step(self) -> None:
        """Every output became one token longer."""
        self._steps += 1
        steps, cohorts = self._steps, self._cohorts
        for cell, edge in _INNER_EDGES:
            cohort = cohorts.get(steps - edge)
            if cohort is not None:
                count, base = cohort
                self.counts[cell - 1] -= count
                self._bases[cell - 1] -= base
                self.counts[cell] += count
                self._bases[cell] += base

    def recount(self, decoding: Iterable[Any]) -> None:
        """Take these requests and no others."""
        for request_id in list(self._births):
            self.end(request_id)
        for request in decoding:
            self.begin(request.request_id, request.num_prompt_tokens, request.num_output_tokens)

    def groups(self, prefilling: Mapping[str, Any]) -> Iterator[tuple[int, int, int]]:
        """Output tokens, number and KV tokens of requests that are alike; the prefilling as if their prompts were computed."""
        for request in prefilling.values():
            yield 0, 1, request.num_tokens
        for edge, count, base in zip(EDGES, self.counts, self._bases, strict=True):
            if count:
                yield edge, count, base + count * self._steps

    def _change(self, birth: int, base: int, count: int) -> None:
        cohort = self._cohorts.setdefault(birth, [0, 0])
        cohort[0] += count
        cohort[1] += count * base
        if not cohort[0]:
            del self._cohorts[birth]
        cell = cell_of(self._steps - birth)
        self.counts[cell] += count
        self._bases[cell] += count * base
