"""The decoding requests by how long their outputs are, kept up to date at a cost that does not grow with their number.

Every decode step makes every output one token longer. So those that began in the same step stay together: a cohort. A step only
moves the cohorts that cross an edge between two cells of output lengths, and how much KV a cell holds follows from sums. That is
made up for when somebody asks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from llmserving_engine.planning.lengths import EDGES, cell_of
from llmserving_engine.planning.protocol import StepView

_INNER_EDGES: Final = tuple(enumerate(EDGES))[1:]
_FEW: Final = 16
"""Steps that are made up for one by one; of more, all cohorts are counted anew."""


class Lives:
    """See the module's text. A request of size `prompt + outputs` was born `outputs` decode steps ago."""

    def __init__(self) -> None:
        self._steps = 0
        self._counted = 0  # steps that the cells have seen
        self._births: dict[str, tuple[int, int]] = {}  # birth, and base: its size less the steps so far
        self._cohorts: dict[int, list[int]] = {}  # by birth: how many, sum of their bases
        self._counts = [0] * len(EDGES)
        self._bases = [0] * len(EDGES)

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

    def counts(self) -> list[int]:
        """Requests in each cell of output lengths."""
        self._make_up()
        return self._counts

    def groups(self, view: StepView) -> Iterator[tuple[int, int, int]]:
        """Output tokens, number and KV tokens of running requests that are alike; the prefilling as if their prompts were computed.

        Where more or fewer decode than were noted (one came or went unseen), and where a step makes several tokens of a request,
        all are counted anew.
        """
        if len(self._births) != len(view.running) - len(view.prefilling) or view.decode_tokens > 1:
            self._recount(view)
        return self.kept([request.num_tokens for request in view.prefilling.values()])

    def kept(self, prompts: Sequence[int]) -> Iterator[tuple[int, int, int]]:
        """The same of those noted so far, with these prompts in tokens besides."""
        self._make_up()
        if prompts:
            yield 0, len(prompts), sum(prompts)
        for edge, count, base in zip(EDGES, self._counts, self._bases, strict=True):
            if count:
                yield edge, count, base + count * self._steps

    def _change(self, birth: int, base: int, count: int) -> None:
        cohort = self._cohorts.setdefault(birth, [0, 0])
        cohort[0] += count
        cohort[1] += count * base
        if not cohort[0]:
            del self._cohorts[birth]
        cell = cell_of(self._counted - birth)
        self._counts[cell] += count
        self._bases[cell] += count * base

    def _make_up(self) -> None:
        """Move the cohorts that crossed an edge since the last look."""
        counts, bases, cohorts = self._counts, self._bases, self._cohorts
        if self._steps - self._counted > _FEW:
            self._counts, self._bases = counts, bases = [0] * len(EDGES), [0] * len(EDGES)
            self._counted = self._steps
            for birth, (count, base) in cohorts.items():
                cell = cell_of(self._steps - birth)
                counts[cell] += count
                bases[cell] += base
        for steps in range(self._counted + 1, self._steps + 1):
            for cell, edge in _INNER_EDGES:
                cohort = cohorts.get(steps - edge)
                if cohort is not None:
                    count, base = cohort
                    counts[cell - 1] -= count
                    bases[cell - 1] -= base
                    counts[cell] += count
                    bases[cell] += base
        self._counted = self._steps

    def _recount(self, view: StepView) -> None:
        self._births, self._cohorts = {}, {}
        self._counts, self._bases = [0] * len(EDGES), [0] * len(EDGES)
        self._counted = self._steps
        for request in view.running:
            if request.request_id not in view.prefilling:
                self.begin(request.request_id, request.num_prompt_tokens, request.num_output_tokens)
