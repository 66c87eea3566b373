"""The engine's GPUs from the best source there is: NVML here, else the plug-in's relay, else none."""

from collections.abc import Callable

from llmserving_agent.sensors.nvml import NVML, NVMLUnavailableError
from llmserving_agent.sensors.ports import GPUReading
from llmserving_agent.sensors.relay import Relay

PERIOD_SECONDS = 1.0
RETRY_SECONDS = 30.0


class EngineGPU:
    """Chooses the source by what answers; the choice and its reason are in every reading."""

    def __init__(self, relay: Relay, open_nvml: Callable[[], NVML] = NVML) -> None:
        self._relay, self._open_nvml = relay, open_nvml
        self._nvml: NVML | None = None
        self._why_not = ""
        self._retry_due = self._due = float("-inf")
        self._reading = GPUReading(source="none", reason="not read yet")

    def read(self, now: float) -> GPUReading:
        """The newest facts, at most a second old."""
        if now >= self._due:
            self._due = now + PERIOD_SECONDS
            self._reading = self._by_nvml(now) or self._by_relay()
        return self._reading

    def _by_nvml(self, now: float) -> GPUReading | None:
        if self._nvml is None and now < self._retry_due:
            return None
        try:
            if self._nvml is None:
                self._nvml = self._open_nvml()
            uuids = tuple(device.uuid for device in self._relay.devices)
            if not uuids:
                uuids = self._nvml.uuids()
                if len(uuids) != 1:
                    self._why_not = f"NVML: {len(uuids)} GPUs visible and the engine's is not known"
                    return None
            return GPUReading(source="nvml", devices=self._nvml.read(uuids))
        except NVMLUnavailableError as error:
            self._why_not, self._nvml = str(error), None
            self._retry_due = now + RETRY_SECONDS
            return None

    def _by_relay(self) -> GPUReading:
        if self._relay.devices:
            return GPUReading(source="relay", devices=self._relay.devices, reason=self._why_not)
        reason = "; ".join(part for part in (self._why_not, self._relay.reason) if part)
        return GPUReading(source="none", reason=reason)
