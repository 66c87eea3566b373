"""Open-loop streaming client: each request leaves at its time, however slow the answers before it are."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import aiohttp

from llmserving_lab.traces.arrival import Arrival
from llmserving_lab.traffic.record import RequestRecord

CONTENT_TOKENS = range(10, 250)
"""Token ids of prompts: plain characters in any byte-level vocabulary, different for every request."""

_DATA = b"data: "
_DONE = b"data: [DONE]"
_TOKENS = re.compile(rb'"completion_tokens":\s*(\d+)')


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go.

    Attributes:
        url: Root of the OpenAI-compatible server.
        model: Name of the model.
        timeout_seconds: A request that takes longer has failed.
        every_token: Time every token instead of every output: a busy vLLM sends several tokens in one output, and says how
            many where it is asked to. Servers that do not say leave no times at all.
    """

    url: str
    model: str
    timeout_seconds: float = 120.0
    every_token: bool = False


async def send_load(
    arrivals: Sequence[Arrival],
    endpoint: Endpoint,
    on_end: Callable[[RequestRecord], None],
    *,
    start: float,
    seed: int = 0,
) -> None:
    """Send every request at its time after `start` (monotonic clock) and report each as it ends; returns after the last."""
    timeout = aiohttp.ClientTimeout(total=endpoint.timeout_seconds)
    # A connection for each request: kube-proxy spreads connections over the engines, not requests.
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    content = random.Random(seed)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session, asyncio.TaskGroup() as tasks:
        for arrival in arrivals:
            await asyncio.sleep(start + arrival.time - time.monotonic())
            prompt = content.choices(CONTENT_TOKENS, k=arrival.prompt_tokens)
            tasks.create_task(_send(session, endpoint, prompt, arrival.output_tokens, on_end))


async def _send(
    session: aiohttp.ClientSession,
    endpoint: Endpoint,
    prompt: list[int],
    output_tokens: int,
    on_end: Callable[[RequestRecord], None],
) -> None:
    body: dict[str, object] = {
        "model": endpoint.model,
        "prompt": prompt,
        "max_tokens": output_tokens,
        "ignore_eos": True,
        "stream": True,
    }
    if endpoint.every_token:
        body["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
    outputs: list[float] = []
    sent = time.monotonic()
    try:
        async with session.post(f"{endpoint.url}/v1/completions", json=body) as response:
            error = await _read(response, outputs, every_token=endpoint.every_token)
    except (TimeoutError, aiohttp.ClientError) as failure:
        error = f"{type(failure).__name__}: {failure}"
    on_end(RequestRecord(sent, len(prompt), output_tokens, tuple(outputs), time.monotonic(), error))


async def _read(response: aiohttp.ClientResponse, outputs: list[float], *, every_token: bool) -> str:
    """Note when outputs arrive until the answer ends; an empty text means that all of it came."""
    if response.status != 200:
        return f"HTTP {response.status}: {(await response.text())[:200]}"
    async for line in response.content:
        if line.startswith(_DONE):
            return ""
        if line.startswith(_DATA):
            if b'"error"' in line:
                return line.decode(errors="replace").strip()[:200]
            now = time.monotonic()
            if every_token:
                told = _TOKENS.search(line)
                outputs += [now] * (int(told[1]) - len(outputs) if told else 0)
            else:
                outputs.append(now)
    return "the answer broke off"
