"""Real kernels, real weights: live changes alter no token and lose no request. The plug-in comes in by environment."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llmserving_lab.model.random_weights import make_random_model
from llmserving_lab.serving.server import put_plugin

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

SCRIPT = Path(__file__).with_name("generate_on_cpu.py")


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
        put_plugin(folder / "site")
        paths = [str(folder / "site"), os.environ.get("PYTHONPATH", "")]
        environment |= {"LLMSERVING_CONTROL_DIR": str(control), "PYTHONPATH": os.pathsep.join(paths)}
        arguments.append(str(control / "engine-0.sock"))
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return dict(json.loads(out.read_text()))


def test_greedy_outputs_are_token_identical_under_random_live_changes(tmp_path: Path) -> None:
    model = tmp_path / "model"
    make_random_model(model)
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
