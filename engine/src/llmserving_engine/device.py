"""``GET /v1/device``: NVML facts of the GPUs the engine's container sees, through vLLM's own copy of pynvml."""

from typing import Any, Final

_THROTTLE: Final = {
    "nvmlClocksThrottleReasonSwPowerCap": "SwPowerCap",
    "nvmlClocksThrottleReasonHwSlowdown": "HwSlowdown",
    "nvmlClocksThrottleReasonSwThermalSlowdown": "SwThermalSlowdown",
    "nvmlClocksThrottleReasonHwThermalSlowdown": "HwThermalSlowdown",
    "nvmlClocksThrottleReasonHwPowerBrakeSlowdown": "HwPowerBrakeSlowdown",
}


def report() -> dict[str, Any]:
    """The devices, or an empty list with the reason. Never raises."""
    try:
        from vllm.utils.import_utils import import_pynvml

        nvml = import_pynvml()
        nvml.nvmlInit()
    except Exception as error:
        return {"devices": [], "reason": f"NVML is not available: {type(error).__name__}: {error}"}
    try:
        count = nvml.nvmlDeviceGetCount()
        return {
            "devices": [_device(nvml, index) for index in range(count)],
            "reason": "" if count else "NVML sees no GPU",
        }
    except Exception as error:
        return {"devices": [], "reason": f"NVML: {type(error).__name__}: {error}"}
    finally:
        nvml.nvmlShutdown()


def _device(nvml: Any, index: int) -> dict[str, Any]:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    utilization = _ask(nvml, lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    reasons = _ask(nvml, lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
    errors = _ask(
        nvml,
        lambda: nvml.nvmlDeviceGetTotalEccErrors(
            handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
        ),
    )
    return {
        "uuid": _text(nvml.nvmlDeviceGetUUID(handle)),
        "name": _text(nvml.nvmlDeviceGetName(handle)),
        "memory_total_bytes": int(memory.total),
        "memory_free_bytes": int(memory.free),
        "memory_used_bytes": int(memory.used),
        "utilization_ratio": None if utilization is None else utilization / 100,
        "throttle_reasons": [
            name for constant, name in _THROTTLE.items() if reasons and reasons & getattr(nvml, constant, 0)
        ],
        "ecc_uncorrected_errors": None if errors is None else int(errors),
    }


def _ask(nvml: Any, query: Any) -> Any:
    """A query that many devices do not support; None where this one does not."""
    try:
        return query()
    except nvml.NVMLError:
        return None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
