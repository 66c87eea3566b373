"""A real vLLM API server with its engine core in a process of its own: the plug-in comes in by environment alone."""

import asyncio
import http.client
import json
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from llmserving_lab.model.folder import make_model_folder

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

START_SECONDS = 600
METADATA = {
    "llmserving_engine": "[vllm.general_plugins]\nllmserving = llmserving_engine.plugin:register\n",
    "llmserving_lab": "[vllm.platform_plugins]\nllmserving-simulated = llmserving_lab.device.platform:select\n",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    def __init__(self, folder: Path) -> None:
        for name, entry_points in METADATA.items():
            metadata = folder / "site" / f"{name}-0.dist-info"
            metadata.mkdir(parents=True)
            (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 0\n")
            (metadata / "entry_points.txt").write_text(entry_points)
        self.control = folder / "control"
        self.control.mkdir()
        model = folder / "model"
        make_model_folder(model)
        self.url = f"http://127.0.0.1:{free_port()}"
        paths = [str(folder / "site"), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "LLMSERVING_CONTROL_DIR": str(self.control),
            "SIMULATED_DEVICE": "rtxpro6000-llama-3.1-8b",
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        self.log = folder / "server.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
                    *("--model", str(model), "--served-model-name", "m", "--load-format", "dummy", "--enforce-eager"),
                    *("--host", "127.0.0.1", "--port", self.url.rsplit(":", 1)[1]),
                    *("--max-num-seqs", "64", "--max-num-batched-tokens", "1024", "--max-model-len", "4096"),
                    *("--distributed-executor-backend", "llmserving_lab.device.executor.SimulatedExecutor"),
                ],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait(self) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text()[-5000:]
            try:
                if httpx.get(f"{self.url}/health", timeout=5).status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(1)
        raise AssertionError(f"not up in {START_SECONDS} s: {self.log.read_text()[-5000:]}")

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        connection = http.client.HTTPConnection("engine")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.control / "engine-0.sock"))
        connection.request(method, path, None if body is None else json.dumps(body))
        answer = connection.getresponse()
        document: dict[str, Any] = json.loads(answer.read())
        assert answer.status == 200, document
        return document

    async def complete(self, count: int, tokens: int) -> list[int]:
        """Completions at once; the number of tokens of each."""
        async with httpx.AsyncClient(timeout=300, limits=httpx.Limits(max_connections=None)) as client:

            async def one(index: int) -> int:
                body = {"model": "m", "prompt": [10 + index] * 40, "max_tokens": tokens, "ignore_eos": True}
                answer = await client.post(f"{self.url}/v1/completions", json=body)
                answer.raise_for_status()
                return int(answer.json()["usage"]["completion_tokens"])

            return list(await asyncio.gather(*(one(index) for index in range(count))))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("server"))
    try:
        made.wait()
        yield made
    finally:
        made.process.terminate()
        made.process.wait(60)


def test_bounds_change_live_and_drain_while_every_request_is_answered(server):
    state = server.call("GET", "/v1/runtime_config")
    assert state["contract"] == {"mode": "full", "ok": True, "reason": ""}
    assert state["engine"]["pid"] != server.process.pid, "it runs in the engine core, not in the API server"
    assert state["ceilings"] == {"max_num_seqs": 64, "max_num_batched_tokens": 1024}
    assert stat.S_IMODE((server.control / "engine-0.sock").stat().st_mode) == 0o660

    async def scenario() -> tuple[list[int], list[dict[str, Any]]]:
        load = asyncio.create_task(server.complete(64, 120))
        seen = []
        for operation, cap in enumerate((64, 4, 32, 2, 64, 16), start=1):
            body = {"operation_id": operation, "max_num_seqs": cap, "max_num_batched_tokens": 16 * cap}
            await asyncio.to_thread(server.call, "PATCH", "/v1/runtime_config", body)
            await asyncio.sleep(0.5)
            seen.append(await asyncio.to_thread(server.call, "GET", "/v1/runtime_config"))
        return await load, seen

    answered, seen = asyncio.run(scenario())
    assert answered == [120] * 64
    busy = [state for state in seen if state["drain"]["running"]]
    assert busy
    assert all(state["applied"] == state["requested"] for state in busy)
    assert any(state["drain"]["active"] for state in busy)
    assert server.call("GET", "/v1/runtime_config")["faults"] == 0
    assert server.call("GET", "/healthz")["healthy"]
