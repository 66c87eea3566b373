"""Real vLLM servers without a GPU: on the simulated device with the stand-in NVML, and on CPU kernels."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmserving_lab.model.folder import make_model_folder
from llmserving_lab.nvml.library import build_library
from llmserving_lab.nvml.state import STATE_FILE
from llmserving_lab.serving.server import ServerPlan, VLLMServer

DEVICE = "rtxpro6000-llama-3.1-8b"
CEILINGS = {"--max-num-seqs": "64", "--max-num-batched-tokens": "1024"}


def environment_without_platform() -> dict[str, str]:
    """Other tests of this process choose vLLM's CPU platform; a server chooses for itself."""
    return {name: value for name, value in os.environ.items() if name != "VLLM_TARGET_DEVICE"}


@pytest.fixture(scope="session")
def simulated_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VLLMServer]:
    """On the simulated device, whose card NVML shows to the engine and to whoever uses `server.plan.environment`."""
    folder = tmp_path_factory.mktemp("simulated")
    make_model_folder(folder / "model")
    metadata = folder / "lab" / "llmserving_lab-0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: llmserving-lab\nVersion: 0\n")
    (metadata / "entry_points.txt").write_text(
        "[vllm.platform_plugins]\nllmserving-simulated = llmserving_lab.device.platform:select\n"
    )
    server_folder = folder / "server"
    environment = {
        **environment_without_platform(),
        "PYTHONPATH": os.pathsep.join([str(metadata.parent), os.environ.get("PYTHONPATH", "")]),
        "SIMULATED_DEVICE": DEVICE,
        "SIMULATED_GPU": str(server_folder / "control" / STATE_FILE),
        "LD_LIBRARY_PATH": str(build_library().parent),
    }
    arguments = (
        *("--load-format", "dummy", "--enforce-eager", "--max-model-len", "16384"),
        *(part for flag in CEILINGS.items() for part in flag),
        *("--distributed-executor-backend", "llmserving_lab.device.executor.SimulatedExecutor"),
    )
    plan = ServerPlan(Path(sys.executable), folder / "model", arguments, environment)
    with VLLMServer(plan, server_folder) as server:
        yield server
