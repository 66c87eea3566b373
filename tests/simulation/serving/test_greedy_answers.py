"""Real kernels behind a real API server: live changes alter no token. The same check as on a GPU, on CPU kernels."""

import asyncio
import contextlib
import os
import sys
from pathlib import Path

import pytest

from llmserving_lab.model.random_weights import make_random_model
from llmserving_lab.serving.greedy import Answer, agreement, ask, random_questions
from llmserving_lab.serving.server import ServerPlan, VLLMServer
from llmserving_lab.serving.shaking import Shaken, shake_bounds

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

TIE_NATS = 1e-3


def answers(model: Path, folder: Path, *, plugin: bool) -> tuple[list[Answer], Shaken]:
    variables = {name: value for name, value in os.environ.items() if name != "VLLM_TARGET_DEVICE"}
    environment = {**variables, "VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1"}
    arguments = ("--dtype", "float32", "--enforce-eager", "--max-model-len", "1024", "--max-num-seqs", "24")
    plan = ServerPlan(
        Path(sys.executable), model, (*arguments, "--max-num-batched-tokens", "512"), environment, plugin=plugin
    )
    with VLLMServer(plan, folder) as server:
        shaking = shake_bounds(server.call, max_num_seqs=24, max_num_batched_tokens=512) if plugin else None
        with shaking or contextlib.nullcontext(Shaken()) as shaken:
            return asyncio.run(ask(server.url, random_questions(120, seed=1))), shaken


def test_greedy_answers_are_those_of_the_untouched_engine(tmp_path: Path) -> None:
    make_random_model(tmp_path / "model")
    untouched, _ = answers(tmp_path / "model", tmp_path / "untouched", plugin=False)
    live, shaken = answers(tmp_path / "model", tmp_path / "live", plugin=True)
    assert shaken.changes >= 20
    assert shaken.sheds >= 3
    found = agreement(untouched, live, tie_nats=TIE_NATS)
    assert found.different == ()
    assert found.identical >= 110
