"""NVML by GPU UUID: the one place that imports ``pynvml``.

The container of a sidecar may see all GPUs of the node, some or none, so devices are named by the UUIDs of the
engine's. Queries a device does not support (utilisation under MIG, ECC on consumer cards) are absent, never 0.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import pynvml

from llmserving_api.control import DeviceMemory

T = TypeVar("T")

THROTTLE_REASONS = {
    pynvml.nvmlClocksThrottleReasonSwPowerCap: "SwPowerCap",
    pynvml.nvmlClocksThrottleReasonHwSlowdown: "HwSlowdown",
    pynvml.nvmlClocksThrottleReasonSwThermalSlowdown: "SwThermalSlowdown",
    pynvml.nvmlClocksThrottleReasonHwThermalSlowdown: "HwThermalSlowdown",
    pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown: "HwPowerBrakeSlowdown",
}


class NVMLUnavailableError(Exception):
    """NVML cannot be used here; the message says why."""


class NVML:
    """An open NVML library."""

    def __init__(self) -> None:
        """Load and initialise the library.

        Raises:
            NVMLUnavailableError: there is no driver library, or it does not start.
        """
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise NVMLUnavailableError(f"NVML: {error}") from error

    def uuids(self) -> tuple[str, ...]:
        """UUIDs of all GPUs this process sees.

        Raises:
            NVMLUnavailableError: the library stopped answering.
        """
        try:
            handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
            return tuple(_text(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles)
        except pynvml.NVMLError as error:
            raise NVMLUnavailableError(f"NVML: {error}") from error

    def read(self, uuids: Sequence[str]) -> tuple[DeviceMemory, ...]:
        """Facts on these GPUs.

        Raises:
            NVMLUnavailableError: one of them is not visible here, or gone.
        """
        return tuple(self._device(uuid) for uuid in uuids)

    def close(self) -> None:
        """Release the library."""
        pynvml.nvmlShutdown()

    def _device(self, uuid: str) -> DeviceMemory:
        try:
            handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            name = _text(pynvml.nvmlDeviceGetName(handle))
        except pynvml.NVMLError as error:
            raise NVMLUnavailableError(f"NVML: {uuid}: {error}") from error
        utilization = _supported(lambda: float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu) / 100)
        throttled = _supported(lambda: int(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))) or 0
        ecc = _supported(
            lambda: int(
                pynvml.nvmlDeviceGetTotalEccErrors(
                    handle, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
                )
            )
        )
        return DeviceMemory(
            uuid=uuid,
            name=name,
            memory_total_bytes=memory.total,
            memory_free_bytes=memory.free,
            memory_used_bytes=memory.used,
            utilization_ratio=utilization,
            throttle_reasons=tuple(reason for bit, reason in THROTTLE_REASONS.items() if throttled & bit),
            ecc_uncorrected_errors=ecc,
        )


def _supported(query: Callable[[], T]) -> T | None:
    try:
        return query()
    except pynvml.NVMLError:
        return None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
