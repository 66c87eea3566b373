"""Sensors that are not there."""

from llmserving_agent.sensors.ports import FrontEndShare, GPUReading


class NoGPU:
    """No facts on GPUs, for a stated reason."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def read(self, now: float) -> GPUReading:
        """Always none."""
        return GPUReading(source="none", reason=self._reason)


class NoFrontEnd:
    """A front end that takes no time, as in simulations that drive the scheduler alone."""

    def read(self) -> FrontEndShare:
        """Always 0."""
        return FrontEndShare(reason="there is no front end")
