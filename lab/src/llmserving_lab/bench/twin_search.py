"""Searches in the twin of vLLM's own scheduler: where those on the real one begin, and which settings they leave out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmserving_lab.bench.capacity import geometric_mean, rate_of, rung_of
from llmserving_lab.bench.plan import RunPlan, TwinPlan, TwinSlice
from llmserving_lab.bench.slices import Slice
from llmserving_lab.bench.store import Pool

_FIRST = 0.6
"""Where searches in the twin begin, as a share of the limit."""

_DEEPEST = 0.04
"""No rate below this share of the limit is tried."""

Rungs = tuple[int | None, ...]
"""A capacity on each slice; None where there is none."""


@dataclass(frozen=True, slots=True)
class TwinSearch:
    """Searches in the twin for one load; see `twin` for what it leaves out.

    Attributes:
        pool: Executes them.
        base: The run that all others are variants of.
        slices: The load's slices.
    """

    pool: Pool
    base: RunPlan
    slices: tuple[Slice, ...]

    def capacities(
        self, policies: Sequence[str], limits: Sequence[float], *, slices: int | None = None, width: int = 1
    ) -> dict[str, Rungs]:
        """Capacities of policies that run stock vLLM.

        Args:
            policies: The policies.
            limits: Each slice's limit.
            slices: How many slices, from the first; all by default.
            width: Rungs between passing and failing at which a search stops.
        """
        parts = tuple(
            TwinSlice(start=start, seed=seed, first=rung_of(_FIRST * limit), deepest=rung_of(_DEEPEST * limit))
            for (start, seed), limit in zip(self.slices, limits, strict=True)
        )[:slices]
        futures = [
            self.pool.submit(
                "twin", TwinPlan(run=self.base.model_copy(update={"policy": policy}), slices=parts, width=width)
            )
            for policy in policies
        ]
        return {policy: tuple(future.result()["rungs"]) for policy, future in zip(policies, futures, strict=True)}

    def fastest(self, policies: Sequence[str], run: RunPlan) -> tuple[str, ...]:
        """The policy with the highest saturated throughput on each slice; of equal ones the first.

        Args:
            policies: Policies that run stock vLLM.
            run: The run without targets, at a rate that saturates.
        """
        futures = [
            [
                self.pool.submit(
                    "twin-throughput",
                    run.model_copy(
                        update={
                            "policy": policy,
                            "load": run.load.model_copy(update={"start": start, "seed": seed}),
                        }
                    ),
                )
                for policy in policies
            ]
            for start, seed in self.slices
        ]
        best: list[str] = []
        for of_slice in futures:
            rates = [future.result()["throughput_rps"] or 0.0 for future in of_slice]
            best.append(policies[max(range(len(policies)), key=rates.__getitem__)])
        return tuple(best)


def mean_rate(rungs: Rungs) -> float:
    """Geometric mean of the rungs' rates; 0 where a slice has none."""
    return geometric_mean([0.0 if rung is None else rate_of(rung) for rung in rungs])
