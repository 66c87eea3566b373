"""How fast prompts are computed, and whether the device or memory limits that."""

from __future__ import annotations

from dataclasses import dataclass

SHARE_WEIGHT = 0.02
"""Weight of one step in the shares of steps."""
KV_BOUND = 0.5
"""From this share on, memory and not the device limits how fast requests are served."""
SAVING = 0.25
"""From this thrift on a step does not tell what steps can compute."""
FLOW_SECONDS = 4.0
"""Time over which the flow of prompt tokens is taken, ..."""
FLOW_ARRIVALS = 32
"""... or that in which so many requests come: where few come, single ones are no flow."""


@dataclass(slots=True)
class Pace:
    """Prompt tokens per second.

    Attributes:
        rate: What steps compute that are full and not thrifty; 0 before the first.
        flow: What was computed lately, whatever there was to do.
        pressure: Share of steps in which requests were kept out for want of room.
        thrift: Share of steps that left no work though memory was scarce: how little it helps to compute prompts sooner, and
            how much to spend less of the device on them (see `sizing.best_size`).
    """

    rate: float = 0.0
    flow: float = 0.0
    pressure: float = 0.0
    thrift: float = 0.0
    step: float = 0.0

    @property
    def is_memory_bound(self) -> bool:
        """Whether memory, not the device, limits how fast requests are served."""
        return self.pressure > KV_BOUND

    @property
    def served(self) -> float:
        """Prompt tokens per second that requests can count on: what is computed, or what the KV cache lets in."""
        if self.is_memory_bound and self.flow > 0:
            return min(self.rate, self.flow)
        return self.rate

    def chosen(self, tokens: int, seconds: float, total: int) -> None:
        """A step of so many of `total` tokens on offer was planned: only one that could not take all of them tells the rate."""
        if not self.rate:
            self.rate = tokens / seconds
        elif self.thrift < SAVING and (tokens < total or tokens >= 256):
            self.rate += min(1.0, seconds) * (tokens / seconds - self.rate)

    def landed(self, tokens: int, seconds: float, gap: float) -> None:
        """A step with so many prompt tokens took so long; `gap`: seconds between two arrivals."""
        self.step += SHARE_WEIGHT * (seconds - self.step)
        self.flow += min(1.0, seconds / max(FLOW_SECONDS, FLOW_ARRIVALS * gap)) * (tokens / seconds - self.flow)

    def planned(self, *, is_blocked: bool, is_spare: bool) -> None:
        """Whether memory kept somebody out of the step, and whether the step left no work though memory was scarce."""
        self.pressure += SHARE_WEIGHT * (is_blocked - self.pressure)
        self.thrift += SHARE_WEIGHT * (is_spare - self.thrift)
