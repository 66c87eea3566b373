"""The stand-in NVML library, asked through the real pynvml."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llmserving_lab.device.model import load_device
from llmserving_lab.nvml.library import build_library
from llmserving_lab.nvml.state import DeviceState, write_state

ASK = """
import json, pynvml
pynvml.nvmlInit()
seen = {"count": pynvml.nvmlDeviceGetCount()}
if seen["count"]:
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    seen |= {
        "name": pynvml.nvmlDeviceGetName(handle),
        "uuid": pynvml.nvmlDeviceGetUUID(handle),
        "memory": [memory.total, memory.used, memory.free],
        "throttling": pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle),
        "same": pynvml.nvmlDeviceGetIndex(pynvml.nvmlDeviceGetHandleByUUID(pynvml.nvmlDeviceGetUUID(handle))),
    }
    try:
        pynvml.nvmlDeviceGetUtilizationRates(handle)
    except pynvml.NVMLError_NotSupported:
        seen["utilization"] = "not supported"
    try:
        pynvml.nvmlDeviceGetHandleByUUID("GPU-another")
    except pynvml.NVMLError_NotFound:
        seen["another"] = "not found"
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_library(tmp_path_factory.mktemp("nvml"))


def ask(library: Path, state: Path) -> dict[str, Any]:
    environment = {**os.environ, "LD_LIBRARY_PATH": str(library.parent), "SIMULATED_GPU": str(state)}
    finished = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=True)
    seen: dict[str, Any] = json.loads(finished.stdout)
    return seen


def test_the_simulated_device_is_seen_as_a_gpu(library: Path, tmp_path: Path) -> None:
    state = DeviceState("NVIDIA RTX PRO 6000 Blackwell", "GPU-0123", 100, 90)
    write_state(tmp_path / "gpu", state)
    assert ask(library, tmp_path / "gpu") == {
        "count": 1,
        "name": state.name,
        "uuid": state.uuid,
        "memory": [100, 90, 10],
        "throttling": 0,
        "same": 0,
        "utilization": "not supported",
        "another": "not found",
    }


def test_without_a_simulated_device_there_is_no_gpu(library: Path, tmp_path: Path) -> None:
    assert ask(library, tmp_path / "missing") == {"count": 0}


def test_a_device_keeps_its_uuid_and_vllm_holds_its_share_of_the_memory() -> None:
    device = load_device("rtxpro6000-llama-3.1-8b")
    state = DeviceState.of(device)
    assert state == DeviceState.of(device)
    assert device.memory is not None
    assert state.used_bytes == int(device.memory.card_bytes * device.memory.utilisation)


def test_the_library_is_compiled_once(library: Path) -> None:
    before = library.stat().st_mtime_ns
    assert build_library(library.parent.parent) == library
    assert library.stat().st_mtime_ns == before
