"""Time as the plug-in reads it: handed in everywhere, so that a simulation can supply its own."""

import time
from typing import Protocol


class Clock(Protocol):
    """Two readings of one clock, both in nanoseconds."""

    def monotonic_ns(self) -> int:
        """Time that never goes back; zero is arbitrary (``CLOCK_MONOTONIC`` of the machine in production)."""
        ...

    def wall_ns(self) -> int:
        """Time since the epoch, as vLLM stamps the arrival of requests."""
        ...


class SystemClock:
    """The machine's clocks."""

    def monotonic_ns(self) -> int:
        """``CLOCK_MONOTONIC``."""
        return time.monotonic_ns()

    def wall_ns(self) -> int:
        """``CLOCK_REALTIME``."""
        return time.time_ns()
