"""Virtual time."""

from __future__ import annotations

EPOCH = 1_000_000.0
"""What production code sees as its clock's reading at the beginning of a run, in seconds: zero could mean "never" to it."""

TICK_SECONDS = 0.1
"""Seconds between two passes of the agent: `llmserving_agent.runner`'s, which the engine's environment cannot import."""

CONFIG_SECONDS = 1.0
"""Seconds between two looks of the agent at the engine's document; the runner's too."""


class Clock:
    """The run's virtual time.

    Attributes:
        time: Seconds since the run began.
    """

    def __init__(self) -> None:
        self.time = 0.0
