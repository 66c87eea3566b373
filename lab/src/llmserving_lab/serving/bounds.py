"""Do live bounds hold on a real server under traffic? Judged by vLLM's own metrics, not by what the plug-in says of itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from llmserving_lab.record.series import EngineState
from llmserving_lab.record.server import Server
from llmserving_lab.serving.server import SERVED_NAME, VLLMServer
from llmserving_lab.traces.arrival import Arrival
from llmserving_lab.traffic.client import Endpoint, send_load
from llmserving_lab.traffic.record import RequestRecord

TOKENS_PER_SEQUENCE = 16
"""Tokens per step that each change allows for every sequence it allows."""
EFFECTIVE_SECONDS = 60.0
REQUEST_SECONDS = 600.0
"""Small caps make requests wait long: that is no failure."""
LOOKS = 4
LOOK_SECONDS = 0.3
"""Between two looks at vLLM's metrics, which it renews at every step's output."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the bounds and what came of it.

    Attributes:
        max_num_seqs: The cap asked for.
        effective_seconds: Until a step had kept it: a lowered cap drains first. None: not within a minute.
        most_running: Most requests that vLLM's metrics showed running while the cap was in effect.
        waiting: Requests that waited at the last look: with some, the cap and not the load is what limits.
    """

    max_num_seqs: int
    effective_seconds: float | None
    most_running: int
    waiting: int

    @property
    def obeyed(self) -> bool:
        """Whether the cap came into effect and was never exceeded after."""
        return self.effective_seconds is not None and self.most_running <= self.max_num_seqs


@dataclass(frozen=True, slots=True)
class BoundsReport:
    """What happened.

    Attributes:
        changes: One for each cap, in order.
        records: What the client saw of each request.
    """

    changes: tuple[Change, ...]
    records: tuple[RequestRecord, ...]

    @property
    def failed(self) -> list[str]:
        """Why requests failed, or had another length than asked for."""
        return [
            one.error or f"{len(one.outputs)} tokens instead of {one.output_tokens}"
            for one in self.records
            if one.error or len(one.outputs) != one.output_tokens
        ]


async def move_bounds_under_load(
    server: VLLMServer, arrivals: Sequence[Arrival], caps: Sequence[int], *, first_operation: int = 1
) -> BoundsReport:
    """Send a load and walk through the caps meanwhile, each held until it is in effect and has been looked at."""
    endpoint = Endpoint(server.url, SERVED_NAME, REQUEST_SECONDS, every_token=True)
    records: list[RequestRecord] = []
    load = asyncio.create_task(send_load(arrivals, endpoint, records.append, start=time.monotonic(), seed=3))
    changes = []
    try:
        async with httpx.AsyncClient() as client:
            questions = Server(server.url, client)
            await _running(questions)
            for index, cap in enumerate(caps):
                changes.append(await _change(server, questions, cap, first_operation + index))
        await load
    finally:
        load.cancel()
    return BoundsReport(tuple(changes), tuple(records))


async def _running(questions: Server) -> None:
    """Wait until the load has reached the engine."""
    end = time.monotonic() + EFFECTIVE_SECONDS
    while time.monotonic() < end and not (await questions.state()).running:
        await asyncio.sleep(0.1)


async def _change(server: VLLMServer, questions: Server, cap: int, operation: int) -> Change:
    body = {"operation_id": operation, "max_num_seqs": cap, "max_num_batched_tokens": TOKENS_PER_SEQUENCE * cap}
    await asyncio.to_thread(server.call, "PATCH", "/v1/runtime_config", body)
    wanted = {"max_num_seqs": cap, "max_num_batched_tokens": TOKENS_PER_SEQUENCE * cap}
    began = time.monotonic()
    effective: float | None = None
    while effective is None and time.monotonic() - began < EFFECTIVE_SECONDS:
        state = await asyncio.to_thread(server.call, "GET", "/v1/runtime_config")
        if state["effective"] == wanted:
            effective = time.monotonic() - began
        else:
            await asyncio.sleep(0.02)
    seen: list[EngineState] = []
    for _ in range(LOOKS):
        await asyncio.sleep(LOOK_SECONDS)
        seen.append(await questions.state())
    return Change(cap, effective, max(state.running for state in seen), seen[-1].waiting)
