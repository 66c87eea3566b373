"""A server that answers as vLLM does, as far as a recording looks."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer


@dataclass
class PlayedServer:
    """Streams answers at once; what tests change are its fields."""

    url: str = ""
    models: tuple[str, ...] = ("m",)
    max_model_len: int | None = 16384
    tells_settings: bool = True
    tells_tokens: bool = True
    tokens_per_output: int = 1
    busy: int = 0
    other_requests: int = 0
    fail_from: int = 10**9
    served: int = 0
    bodies: list[dict[str, Any]] = field(default_factory=list)

    async def list_models(self, _: web.Request) -> web.Response:
        data = [{"id": name, "root": f"org/{name}", "max_model_len": self.max_model_len} for name in self.models]
        return web.json_response({"object": "list", "data": data})

    async def version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": "0.32.0"})

    async def server_info(self, _: web.Request) -> web.Response:
        if not self.tells_settings:
            return web.Response(status=404)
        settings = {"max_num_seqs": 128, "max_num_batched_tokens": 2048, "async_scheduling": True}
        return web.json_response({"vllm_config": {"scheduler_config": settings}})

    async def metrics(self, _: web.Request) -> web.Response:
        finished = self.served + (self.other_requests if self.served > 12 else 0)
        return web.Response(text=metrics(running=self.busy, finished=finished))

    async def completions(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        if len(self.bodies) > self.fail_from:
            return web.Response(status=500, text="out of memory")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        sent = 0
        while sent < body["max_tokens"]:
            sent = min(body["max_tokens"], sent + self.tokens_per_output)
            usage = f', "usage": {{"prompt_tokens": 1, "completion_tokens": {sent}}}' if self.tells_tokens else ""
            await response.write(f'data: {{"choices": [{{"text": "x"}}]{usage}}}\n\n'.encode())
            await asyncio.sleep(0)
        self.served += 1
        await response.write(b"data: [DONE]\n\n")
        return response


def metrics(*, running: int = 0, waiting: int = 0, finished: int = 0, engines: int = 1) -> str:
    """The part of vLLM's /metrics that a recording reads."""
    lines = []
    for engine in range(engines):
        label = f'{{engine="{engine}",model_name="m"}}'
        lines += [
            f"vllm:num_requests_running{label} {running}",
            f"vllm:num_requests_waiting{label} {waiting}",
            f"vllm:kv_cache_usage_perc{label} 0.25",
            f"vllm:prompt_tokens_total{label} {100 * finished}",
            f"vllm:generation_tokens_total{label} {10 * finished}",
            f"vllm:num_preemptions_total{label} 2",
            f"vllm:request_queue_time_seconds_sum{label} 0",
            f"vllm:request_queue_time_seconds_count{label} {finished}",
            f"vllm:request_prefill_time_seconds_sum{label} 0",
            f"vllm:request_prefill_time_seconds_count{label} {finished}",
            f'vllm:cache_config_info{{block_size="16",num_gpu_blocks="1000",engine="{engine}"}} 1',
        ]
    return "\n".join(lines) + "\n"


@pytest.fixture
async def server() -> AsyncIterator[PlayedServer]:
    played = PlayedServer()
    app = web.Application()
    app.add_routes(
        [
            web.get("/v1/models", played.list_models),
            web.get("/version", played.version),
            web.get("/server_info", played.server_info),
            web.get("/metrics", played.metrics),
            web.post("/v1/completions", played.completions),
        ]
    )
    async with TestServer(app, host="127.0.0.1") as server:
        played.url = f"http://{server.host}:{server.port}"
        yield played


@pytest.fixture
def metrics_text() -> Callable[..., str]:
    return metrics
