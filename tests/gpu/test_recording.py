"""A recording of the card, and where there is a profile of it, its validation. The recording stays in build/gpu/runs."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmserving_lab.bench.pool import INTERPRETER_VARIABLE
from llmserving_lab.serving.gpu import GPUHost, profiles_for
from llmserving_lab.serving.server import ServerPlan, VLLMServer

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(900)]

MODEL = "Llama-3.1-8B"
LEAST_BYTES = 22 << 30
"""Memory that its weights in bfloat16 and some KV cache need."""
SETTINGS = {"--max-num-seqs": "128", "--max-num-batched-tokens": "2048"}


@pytest.fixture(scope="module")
def eight_billion(host: GPUHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VLLMServer]:
    """Llama 3.1 8B's shape with dummy weights, stock vLLM without the plug-in."""
    if host.card.memory_total_bytes < LEAST_BYTES:
        pytest.skip(f"{host.card.name} has too little memory for {MODEL} in bfloat16")
    folder = tmp_path_factory.mktemp("eight-billion")
    command = [str(host.python), "-m", "llmserving_lab.model.folder", str(folder / "model")]
    subprocess.run(command, env=dict(host.environment), check=True)
    arguments = ("--load-format", "dummy", "--max-model-len", "16384", "--no-enable-prefix-caching")
    settings = tuple(part for flag in SETTINGS.items() for part in flag)
    plan = ServerPlan(host.python, folder / "model", (*arguments, *settings), host.environment, plugin=False)
    with VLLMServer(plan, folder / "server") as server:
        yield server


@pytest.fixture(scope="module")
def recording(eight_billion: VLLMServer, host: GPUHost, output: Path) -> Path:
    folder = output / "runs" / f"{host.card.name.lower().replace(' ', '-')}-{MODEL.lower()}"
    shutil.rmtree(folder, ignore_errors=True)
    flags = ["--url", eight_billion.url, "--out", str(folder), "--requests", "250", "--rate", "6"]
    settings = [part for flag in SETTINGS.items() for part in flag]
    subprocess.run([sys.executable, "-m", "llmserving_lab", "record", *flags, *settings], check=True)
    return folder


def test_a_run_is_recorded_with_a_time_for_every_token(recording: Path, host: GPUHost) -> None:
    rows = [json.loads(line) for line in (recording / "requests.jsonl").read_text().splitlines()]
    assert len(rows) == 250
    assert all(len(row["token_ts"]) == row["output_toks"] for row in rows)
    meta = json.loads((recording / "meta.json").read_text())
    assert meta["card"] == host.card.name
    assert meta["kv_cache_tokens"] > 0
    print(f"\nrecorded: {recording}")


def test_the_recording_is_validated_where_there_is_a_profile(recording: Path, host: GPUHost, output: Path) -> None:
    devices = profiles_for(host.card.name, MODEL)
    if not devices:
        pytest.skip(f"no profile of {host.card.name} with {MODEL}: name one with LLMSERVING_GPU_PROFILE=FOLDER")
    for device in devices:
        figures = output / f"validation-{Path(device).name}.json"
        flags = ["--profile", device, "--run", str(recording), "--json", str(figures)]
        environment = {**host.environment, INTERPRETER_VARIABLE: str(host.python)}
        command = [sys.executable, "-m", "llmserving_lab", "validate", *flags]
        done = subprocess.run(command, env=environment, check=False)
        assert done.returncode in {0, 1}, "validate could not run"
        result = json.loads(figures.read_text())
        assert result["has_token_times"]
        if Path(device).is_dir():  # a measured profile; shipped coefficients are for comparisons and only reported
            assert result["within"], result["figures"]
