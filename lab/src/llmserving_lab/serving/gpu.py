"""What tests on a GPU need: an NVIDIA card that NVML shows, and a vLLM that runs on it.

python -m llmserving_lab.serving.gpu says in one line what is missing, with exit status 1, or what there is.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from llmserving_agent.sensors.nvml import NVML, NVMLUnavailableError
from llmserving_api.control import DeviceMemory
from llmserving_lab.bench.pool import INTERPRETER_VARIABLE, engine_python
from llmserving_lab.device.coefficients import load_coefficients, shipped_devices
from llmserving_lab.environment import REQUIREMENTS_GPU, EnvironmentUnavailableError

PROFILE_VARIABLE = "LLMSERVING_GPU_PROFILE"
"""Names the measured profile of the card, to validate a recording against."""

PROBE = """
import torch
assert torch.cuda.is_available(), "torch sees no CUDA device (a driver too old for this torch, or no device in this container)"
import vllm
from vllm.platforms import current_platform
assert current_platform.is_cuda(), f"vLLM {vllm.__version__} is not a CUDA build"
print(vllm.__version__)
"""


class GPUUnavailableError(RuntimeError):
    """There is no GPU to test on, or no vLLM for it; the message is one line that says what is missing."""


@dataclass(frozen=True, slots=True)
class GPUHost:
    """A machine with a card and a vLLM for it.

    Attributes:
        card: The card that is tested: the first that NVML shows.
        python: Interpreter that has vLLM.
        environment: Environment to run it with; the card is the only one that CUDA sees.
        vllm_version: Version of that vLLM.
    """

    card: DeviceMemory
    python: Path
    environment: Mapping[str, str]
    vllm_version: str


def find_gpu_host(open_nvml: Callable[[], NVML] = NVML) -> GPUHost:
    """The card and the engine's interpreter; vLLM's environment is built now where it is missing.

    `LLMSERVING_ENGINE_PYTHON` names another interpreter that has vLLM.

    Raises:
        GPUUnavailableError: something is missing.
    """
    card = first_card(open_nvml)
    try:
        python, variables = engine_python(REQUIREMENTS_GPU)
    except EnvironmentUnavailableError as error:
        line = " ".join(str(error).split())
        raise GPUUnavailableError(f"{line} Or name a Python that has vLLM: {INTERPRETER_VARIABLE}=") from None
    # NVML counts cards by their place on the bus.
    environment = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "0", **variables}
    return GPUHost(card, python, environment, cuda_vllm_version(python, environment))


def first_card(open_nvml: Callable[[], NVML] = NVML) -> DeviceMemory:
    """The first card that NVML shows.

    Raises:
        GPUUnavailableError: NVML shows none; the message says why.
    """
    try:
        nvml = open_nvml()
        try:
            uuids = nvml.uuids()
            if not uuids:
                raise GPUUnavailableError("no NVIDIA GPU here: NVML shows none")
            return nvml.read(uuids[:1])[0]
        finally:
            nvml.close()
    except NVMLUnavailableError as error:
        raise GPUUnavailableError(f"no NVIDIA GPU here: {error}") from None


def cuda_vllm_version(python: Path, environment: Mapping[str, str]) -> str:
    """Version of an interpreter's vLLM.

    Raises:
        GPUUnavailableError: it has none that runs on CUDA here.
    """
    try:
        done = subprocess.run(
            [str(python), "-c", PROBE], env=dict(environment), capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise GPUUnavailableError(f"{python}: {error.strerror}") from None
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise GPUUnavailableError(f"{python} has no vLLM that runs on this GPU: {reason}")
    return done.stdout.strip().splitlines()[-1]


def profiles_for(card: str, model: str, environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Devices that a recording of this card and model can be validated against: the named profile, else the shipped ones."""
    given = environ.get(PROFILE_VARIABLE)
    if given:
        return (given,)
    named = {name: load_coefficients(name) for name in shipped_devices()}
    return tuple(
        name
        for name, device in named.items()
        if device.card.lower() in card.lower() and device.model.rsplit("/", 1)[-1].lower() == model.lower()
    )


def main() -> int:
    """Say what there is, or what is missing."""
    try:
        host = find_gpu_host()
    except GPUUnavailableError as error:
        print(f"make test-gpu: {error}", file=sys.stderr)
        return 1
    gib = host.card.memory_total_bytes / 2**30
    print(f"{host.card.name} ({gib:.0f} GiB), vLLM {host.vllm_version} in {host.python}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
