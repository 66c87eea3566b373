"""A machine with an NVIDIA GPU: `make test-gpu`. What is missing is said in one line, and fails.

The checks themselves live in `llmserving_lab.serving`; `tests/simulation/serving` runs them on the simulated card.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmserving_agent.sensors.nvml import NVML
from llmserving_lab.serving.gpu import GPUHost, GPUUnavailableError, find_gpu_host
from llmserving_lab.serving.server import ServerPlan, VLLMServer

OUTPUT = Path(__file__).parents[2] / "build" / "gpu"
CEILINGS = {"max_num_seqs": 64, "max_num_batched_tokens": 1024}


@pytest.fixture(scope="session")
def host() -> GPUHost:
    missing = ""
    try:
        return find_gpu_host()
    except GPUUnavailableError as error:
        missing = str(error)
    pytest.fail(missing, pytrace=False)


@pytest.fixture(scope="session")
def nvml(host: GPUHost) -> Iterator[NVML]:
    opened = NVML()
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def output() -> Path:
    """Where recordings and figures stay."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    return OUTPUT


@pytest.fixture(scope="session")
def random_model(host: GPUHost, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with random weights, made here."""
    folder = tmp_path_factory.mktemp("model")
    command = [str(host.python), "-m", "llmserving_lab.model.random_weights", str(folder)]
    subprocess.run(command, env=dict(host.environment), check=True)
    return folder


def small_plan(host: GPUHost, model: Path, *, plugin: bool) -> ServerPlan:
    """A server of the tiny model in float32 with CUDA graphs; it takes a third of the card."""
    arguments = (
        *("--dtype", "float32", "--max-model-len", "4096", "--gpu-memory-utilization", "0.3"),
        *("--max-num-seqs", str(CEILINGS["max_num_seqs"])),
        *("--max-num-batched-tokens", str(CEILINGS["max_num_batched_tokens"])),
    )
    return ServerPlan(host.python, model, arguments, host.environment, plugin=plugin)


@pytest.fixture(scope="module")
def live_server(host: GPUHost, random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VLLMServer]:
    with VLLMServer(small_plan(host, random_model, plugin=True), tmp_path_factory.mktemp("live")) as server:
        yield server


@pytest.fixture(scope="module")
def untouched_server(
    host: GPUHost, random_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[VLLMServer]:
    with VLLMServer(small_plan(host, random_model, plugin=False), tmp_path_factory.mktemp("stock")) as server:
        yield server
