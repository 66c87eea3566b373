"""Real kernels, real weights: live changes alter no token and lose no request. The plug-in comes in by environment."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

SCRIPT = Path(__file__).with_name("generate_on_cpu.py")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with random weights large enough that the best token is never nearly tied."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.2,
        dtype="float32",
    )
    LlamaForCausalLM(config).float().save_pretrained(folder)
    return folder


def plugin_site(folder: Path) -> Path:
    """The metadata that the plug-in's image carries beside the package."""
    metadata = folder / "llmserving_engine-0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: llmserving-engine\nVersion: 0\n")
    (metadata / "entry_points.txt").write_text(
        "[vllm.general_plugins]\nllmserving = llmserving_engine.plugin:register\n"
    )
    return folder


def generate(model: Path, folder: Path, *, live: bool) -> dict[str, Any]:
    environment = {
        **os.environ,
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "OMP_NUM_THREADS": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    }
    environment.pop("VLLM_TARGET_DEVICE", None)
    out = folder / f"{'live' if live else 'stock'}.json"
    arguments = [sys.executable, str(SCRIPT), str(model), str(out)]
    if live:
        control = folder / "control"
        control.mkdir()
        paths = [str(plugin_site(folder / "site")), os.environ.get("PYTHONPATH", "")]
        environment |= {"LLMSERVING_CONTROL_DIR": str(control), "PYTHONPATH": os.pathsep.join(paths)}
        arguments.append(str(control / "engine-0.sock"))
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return dict(json.loads(out.read_text()))


def test_greedy_outputs_are_token_identical_under_random_live_changes(model, tmp_path):
    stock = generate(model, tmp_path, live=False)
    live = generate(model, tmp_path, live=True)
    assert live["changes"] >= 50
    assert live["sheds"] >= 5
    assert [len(tokens) for tokens in live["tokens"]] == live["wanted"]
    assert live["tokens"] == stock["tokens"]
    state = live["state"]
    assert state["contract"] == {"mode": "full", "ok": True, "reason": ""}
    assert state["faults"] == 0
    assert state["operation_id"] == live["changes"]
