"""What the papers claim for their laws, and the settings in which the bench repeats them. Pure.

A paper's card, model and constants are not all published: what had to be chosen is in `setting`, what follows from it in
docs/explanation/reproductions.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.resources import files

from llmserving_lab.bench.plan import DevicePlan, RunPlan, TargetPlan
from llmserving_lab.reproductions.measures import Measure
from llmserving_lab.traces.plan import LoadPlan

AT_ONCE = 1e5
"""Arrivals per second that mean "all at once" (the paper's infinite rate)."""

FIGURE_3 = str(files("llmserving_lab.reproductions") / "pang-figure-3.json")
"""The published step-time line of arXiv 2503.05248."""

RTX = "rtxpro6000-llama-3.1-8b"
"""A shipped device: about the bandwidth and the model size of the papers' A100 with a 7B or 8B model."""

STATIC = "static:256x8192"
"""vLLM's `max_num_seqs` when the papers were written."""


@dataclass(frozen=True, slots=True)
class Reproduction:
    """One claim and how it is measured.

    Attributes:
        name: What `--only` takes.
        law: The law it is about.
        claim: What the paper says, and where.
        printed: The gain as printed.
        setting: The setting in words: what the paper names and what was chosen.
        measure: The figure that is compared.
        device: Shipped device or coefficient file.
        lengths: Load, as `LoadPlan.kind` takes it.
        requests: Requests of a run.
        rate: Arrivals per second; a capacity's search begins there.
        policies: The paper's baseline first, then the law, then others worth seeing.
        kv_tokens: KV capacity; None takes what the device has.
        targets: Targets of every run.
    """

    name: str
    law: str
    claim: str
    printed: str
    setting: str
    measure: Measure
    device: str
    lengths: str
    requests: int
    rate: float
    policies: tuple[str, ...]
    kv_tokens: int | None = None
    targets: TargetPlan = field(default_factory=TargetPlan)

    def plan(self, policy: str, rate: float) -> RunPlan:
        """One run."""
        return RunPlan(
            device=DevicePlan(source=self.device),
            load=LoadPlan(kind=self.lengths, requests=self.requests, rate=rate, arrivals="poisson", seed=1),
            policy=policy,
            targets=(self.targets,),
            kv_tokens=self.kv_tokens,
            detail=False,
        )
