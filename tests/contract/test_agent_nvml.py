"""The agent's NVML sensor through the real `pynvml`, over the lab's stand-in for the driver's library.

The library's path is read when a process starts, so the sensor runs in one of its own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmserving_lab.nvml.library import build_library
from llmserving_lab.nvml.state import DeviceState, write_state

READ = """
import json
import sys
from llmserving_agent.sensors.gpu import EngineGPU
from llmserving_agent.sensors.relay import Relay
from llmserving_api.control import DeviceMemory

relay = Relay()
if sys.argv[1]:
    sizes = {"memory_total_bytes": 1, "memory_free_bytes": 1, "memory_used_bytes": 0}
    relay.devices = (DeviceMemory(uuid=sys.argv[1], name="by relay", **sizes),)
reading = EngineGPU(relay).read(0.0)
print(json.dumps([reading.source, reading.reason, [device.model_dump() for device in reading.devices]]))
"""


@pytest.fixture(scope="session")
def library() -> Path:
    return build_library()


def read(environment: dict[str, str], uuid: str = "") -> tuple[str, str, list[dict[str, object]]]:
    command = [sys.executable, "-c", READ, uuid]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    source, reason, devices = json.loads(done.stdout)
    return source, reason, devices


@pytest.fixture
def simulated(library: Path, tmp_path: Path) -> dict[str, str]:
    state = tmp_path / "simulated-gpu"
    write_state(state, DeviceState(name="Card", uuid="GPU-1", total_bytes=96 << 30, used_bytes=86 << 30))
    return {"LD_LIBRARY_PATH": str(library.parent), "SIMULATED_GPU": str(state)}


def test_the_gpu_is_read_by_its_uuid(simulated: dict[str, str]) -> None:
    source, reason, (device,) = read(simulated, "GPU-1")
    assert (source, reason) == ("nvml", "")
    assert (device["name"], device["uuid"]) == ("Card", "GPU-1")
    assert device["memory_free_bytes"] == 10 << 30
    assert device["memory_total_bytes"] == 96 << 30


def test_what_the_device_does_not_support_is_absent_and_not_zero(simulated: dict[str, str]) -> None:
    _, _, (device,) = read(simulated, "GPU-1")
    assert device["utilization_ratio"] is None


def test_a_gpu_that_is_not_visible_here_comes_by_the_relay_with_the_reason(simulated: dict[str, str]) -> None:
    source, reason, (device,) = read(simulated, "GPU-other")
    assert source == "relay"
    assert device["name"] == "by relay"
    assert "GPU-other" in reason


def test_without_the_drivers_library_the_reason_is_said(tmp_path: Path) -> None:
    source, reason, devices = read({"LD_LIBRARY_PATH": str(tmp_path)})
    assert (source, devices) == ("none", [])
    assert "NVML" in reason
