"""The streaming client against a real HTTP server that plays an engine."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from aiohttp.typedefs import Handler

from llmserving_lab.traces.arrival import Arrival
from llmserving_lab.traffic.client import Endpoint, send_load
from llmserving_lab.traffic.record import RequestRecord


class PlayedEngine:
    """Answers a completion as vLLM streams it; prompts of odd lengths fare badly in the way they name."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []

    async def completions(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        length = len(body["prompt"])
        if length == 500:
            return web.Response(status=500, text="no")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for number in range(body["max_tokens"]):
            if length == 13 and number == 2:
                return response
            if length == 17 and number == 2:
                await response.write(b'data: {"error": {"message": "boom"}}\n\n')
                return response
            await response.write(b'data: {"choices": [{"text": " word"}]}\n\n')
            await asyncio.sleep(0)
        await response.write(b"data: [DONE]\n\n")
        return response


@asynccontextmanager
async def serving(completions: Handler, *, every_token: bool = False) -> AsyncIterator[Endpoint]:
    """A server with this handler, as the client is told of it."""
    app = web.Application()
    app.add_routes([web.post("/v1/completions", completions)])
    async with TestServer(app, host="127.0.0.1") as server:
        yield Endpoint(f"http://{server.host}:{server.port}", "m", every_token=every_token)


@pytest.fixture
async def engine() -> AsyncIterator[tuple[PlayedEngine, Endpoint]]:
    played = PlayedEngine()
    async with serving(played.completions) as endpoint:
        yield played, endpoint


async def send(endpoint: Endpoint, *arrivals: Arrival) -> list[RequestRecord]:
    records: list[RequestRecord] = []
    await send_load(arrivals, endpoint, records.append, start=time.monotonic())
    return records


async def test_every_token_of_a_complete_answer_is_timed_in_order(engine: tuple[PlayedEngine, Endpoint]) -> None:
    _, endpoint = engine
    (seen,) = await send(endpoint, Arrival(0.0, 20, 7))
    assert seen.completed
    assert len(seen.outputs) == 7
    assert seen.sent <= seen.outputs[0]
    assert list(seen.outputs) == sorted(seen.outputs)
    assert seen.outputs[-1] <= seen.ended


async def test_prompts_have_the_wanted_length_and_differ(engine: tuple[PlayedEngine, Endpoint]) -> None:
    played, endpoint = engine
    await send(endpoint, Arrival(0.0, 40, 1), Arrival(0.0, 40, 1))
    first, second = (body["prompt"] for body in played.bodies)
    assert len(first) == len(second) == 40
    assert first != second


async def test_the_next_request_leaves_before_the_last_has_ended(engine: tuple[PlayedEngine, Endpoint]) -> None:
    _, endpoint = engine
    records = await send(endpoint, *(Arrival(0.0, 5, 300) for _ in range(5)))
    assert max(one.sent for one in records) < min(one.ended for one in records)


@pytest.mark.parametrize(("prompt_tokens", "said"), [(500, "HTTP 500: no"), (13, "the answer broke off"), (17, "boom")])
async def test_an_answer_that_fails_is_reported_with_the_reason(
    engine: tuple[PlayedEngine, Endpoint], prompt_tokens: int, said: str
) -> None:
    _, endpoint = engine
    (seen,) = await send(endpoint, Arrival(0.0, prompt_tokens, 5))
    assert not seen.completed
    assert said in seen.error


async def test_a_server_that_is_not_there_is_a_failure_and_not_a_crash() -> None:
    (seen,) = await send(Endpoint("http://127.0.0.1:1", "m"), Arrival(0.0, 5, 5))
    assert "Connect" in seen.error


async def test_every_token_is_timed_where_the_server_says_how_many_an_output_holds() -> None:
    async def completions(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        assert body["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for tokens in (1, 4, 5):
            usage = f'"usage":{{"prompt_tokens":3,"total_tokens":9,"completion_tokens":{tokens}}}'
            await response.write(f'data: {{"choices":[{{"text":"a"}}],{usage}}}\n\n'.encode())
            await asyncio.sleep(0.01)
        await response.write(b'data: {"choices":[],"usage":{"completion_tokens":5}}\n\n')
        await response.write(b"data: [DONE]\n\n")
        return response

    async with serving(completions, every_token=True) as endpoint:
        (seen,) = await send(endpoint, Arrival(0.0, 3, 5))
    assert len(seen.outputs) == 5
    assert len(set(seen.outputs)) == 3
