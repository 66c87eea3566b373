"""What one run in virtual time leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmserving_lab.bench.outcome import Outcome


@dataclass(slots=True)
class RunRecord:
    """Everything one run left behind.

    Attributes:
        outcomes: One per arrival, in order of arrival.
        steps: Steps with at least one token.
        extrapolated_steps: Steps outside the device model's measured range.
        tokens: Tokens computed.
        end: Virtual time at the end.
        states: `(time, running, waiting, KV use)` once a virtual second.
        bounds: `(time, max_num_seqs, max_num_batched_tokens)` at every change of the scheduler's bounds.
        unfinished: Requests still in the engine when the run was cut off.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    steps: int = 0
    extrapolated_steps: int = 0
    tokens: int = 0
    end: float = 0.0
    states: list[tuple[float, int, int, float]] = field(default_factory=list)
    bounds: list[tuple[float, int, int]] = field(default_factory=list)
    unfinished: int = 0
