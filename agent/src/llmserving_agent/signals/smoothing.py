"""Exponential smoothing over unevenly spaced readings."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ewma:
    """Exponentially weighted mean with a time constant: a reading that old weighs 1/e.

    Attributes:
        time_constant_seconds: How slowly it forgets.
        value: The mean, None before the first reading.
        at: Time of the newest reading in seconds of any steady clock.
    """

    time_constant_seconds: float
    value: float | None = None
    at: float = 0.0

    def updated(self, reading: float, now: float) -> "Ewma":
        """The mean after one more reading; the first is taken as it is."""
        if self.value is None:
            return Ewma(self.time_constant_seconds, reading, now)
        weight = 1 - math.exp(-max(0.0, now - self.at) / self.time_constant_seconds)
        return Ewma(self.time_constant_seconds, self.value + weight * (reading - self.value), now)
