"""The real engine on the simulated device: it schedules, caches and preempts as on the card, and says plain words."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llmserving_lab.device.model import load_device
from llmserving_lab.model.folder import SENTENCE

SCRIPT = Path(__file__).with_name("generate_on_device.py")


def generate(folder: Path, **asked: Any) -> dict[str, Any]:
    arguments = json.dumps({"model": str(folder / "model"), "asynchronous": True, "blocks": None, **asked})
    # Other tests of this process choose vLLM's own CPU platform; the device brings a platform of its own.
    environment = {name: value for name, value in os.environ.items() if name != "VLLM_TARGET_DEVICE"}
    finished = subprocess.run(
        [sys.executable, str(SCRIPT), arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    result: dict[str, Any] = json.loads(finished.stdout.strip().splitlines()[-1])
    return result


def test_every_answer_has_its_length_and_the_engine_is_as_on_the_card(tmp_path: Path) -> None:
    seen = generate(tmp_path, prompts=[[1500, 30], [10, 1], [3000, 12], [1, 25]])
    assert seen["lengths"] == [30, 1, 12, 25]
    assert SENTENCE.startswith(seen["text"])
    assert seen["block_size"] == 16
    capacity = load_device("rtxpro6000-llama-3.1-8b").kv_capacity_tokens(64, 1024)
    assert seen["blocks"] == capacity // 16
    assert seen["defaults"] == [1024, 8192]  # vLLM's own for a card of 96 GB


@pytest.mark.parametrize("asynchronous", [True, False], ids=["asynchronous", "synchronous"])
def test_preempted_requests_are_recomputed_and_completed(tmp_path: Path, asynchronous: bool) -> None:
    prompts = [[700, 200]] * 12
    seen = generate(tmp_path, asynchronous=asynchronous, blocks=300, prompts=prompts)
    assert seen["lengths"] == [200] * 12
    assert seen["asynchronous"] is asynchronous
    assert seen["preemptions"] > 0
