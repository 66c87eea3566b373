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
    """The machine's clocks: ``CLOCK_MONOTONIC`` and ``CLOCK_REALTIME``."""

    monotonic_ns = staticmethod(time.monotonic_ns)
    wall_ns = staticmethod(time.time_ns)
