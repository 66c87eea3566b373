"""Making a recording: look at the server, warm it up, send the load, note the engine's state meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import httpx

from llmserving_lab.record.errors import RecordError
from llmserving_lab.record.folder import Recorded
from llmserving_lab.record.load import recorded_load
from llmserving_lab.record.series import EngineState
from llmserving_lab.record.server import Ceilings, ServedModel, Server
from llmserving_lab.traces.arrival import Arrival
from llmserving_lab.traces.plan import LoadPlan
from llmserving_lab.traffic.client import Endpoint, send_load
from llmserving_lab.traffic.record import RequestRecord

WARM_UP_REQUESTS = 4
"""Sent before the recording, with lengths of the load: the first steps of an engine compile what later ones use."""
PROBES = 8
"""Sent one by one before the recording, to tell the front end's share of the time to first token."""
LEAD_SECONDS = 0.5
"""Between the last look at the idle server and the first request."""
SETTLE_SECONDS = 10.0
"""So long may vLLM take to be idle before, and to have counted all requests after the recording."""
REQUEST_SECONDS = 1800.0
"""A request that takes longer has failed: a recording may saturate the engine on purpose."""


@dataclass(frozen=True, slots=True)
class RecordPlan:
    """What to record.

    Attributes:
        url: Root of the server.
        load: The load.
        model: Name of the model; None: the only one.
        ceilings: Start-up bounds of the engine, over what the server tells.
        card: Name of the card, for the record.
        tick_seconds: Between two looks at the engine's state.
    """

    url: str
    load: LoadPlan
    model: str | None = None
    ceilings: Ceilings = field(default_factory=Ceilings)
    card: str = ""
    tick_seconds: float = 0.5


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a recording stands.

    Attributes:
        what: The phase, in words.
        ended: Requests that have ended.
        requests: Requests of the load.
        state: The engine's newest state; None before the first.
    """

    what: str
    ended: int
    requests: int
    state: EngineState | None = None


OnProgress = Callable[[Progress], None]


async def record(plan: RecordPlan, on_progress: OnProgress = lambda _: None) -> Recorded:
    """Record a run.

    Raises:
        RecordError: the server, the model or the load will not do, the engine has other work, or a request failed.
    """
    async with httpx.AsyncClient() as client:
        server = Server(plan.url.rstrip("/"), client)
        model = with_ceilings(await server.model(plan.model), plan.ceilings)
        arrivals = recorded_load(plan.load, model.max_model_len)
        await _idle(server)
        endpoint = Endpoint(server.url, model.name, REQUEST_SECONDS, every_token=True)
        on_progress(Progress("warming up", 0, len(arrivals)))
        await _warm_up(endpoint, arrivals)
        front_end = await _front_end(server, endpoint, arrivals)
        first = await _idle(server)
        states = [(time.monotonic(), first)]
        started = time.monotonic() + LEAD_SECONDS
        records: list[RequestRecord] = []
        watch = asyncio.create_task(_watch(server, plan, started, states, records, len(arrivals), on_progress))
        try:
            await send_load(arrivals, endpoint, records.append, start=started, seed=plan.load.seed)
            check_records(records)
            await watch
        finally:
            watch.cancel()
        on_progress(Progress("done", len(records), len(arrivals)))
        last = await _settled(server, first.finished + len(records))
        if last.finished != first.finished + len(records):
            raise RecordError(
                f"{server.url} counts {last.finished - first.finished} requests where {len(records)} were sent: record on a server "
                "without other traffic"
            )
        states.append((time.monotonic(), last))
        return Recorded(
            model=model,
            card=plan.card,
            plan=plan.load,
            records=tuple(records),
            states=tuple(states),
            started=started,
            wall_offset=time.time() - time.monotonic(),
            tick_seconds=plan.tick_seconds,
            front_end_seconds=front_end,
        )


def with_ceilings(model: ServedModel, given: Ceilings) -> ServedModel:
    """The model with the start-up bounds that the user or the server told.

    Raises:
        RecordError: nobody told one of them.
    """
    known = model.ceilings
    seqs = given.max_num_seqs or known.max_num_seqs
    tokens = given.max_num_batched_tokens or known.max_num_batched_tokens
    missing = [
        flag for flag, value in (("--max-num-seqs", seqs), ("--max-num-batched-tokens", tokens)) if value is None
    ]
    if missing:
        raise RecordError(
            f"{' and '.join(missing)} of the engine: a replay needs them and the server does not tell; give them as it was "
            "started with, or start vLLM with VLLM_SERVER_DEV_MODE=1"
        )
    return replace(model, ceilings=Ceilings(seqs, tokens))


def check_records(records: Sequence[RequestRecord]) -> None:
    """Every request must have been answered in full, with a time for every token.

    Raises:
        RecordError: one was not.
    """
    failed = [one for one in records if not one.completed]
    if failed:
        raise RecordError(f"{len(failed)} of {len(records)} requests failed, the first with: {failed[0].error}")
    untimed = [one for one in records if not one.outputs]
    if untimed:
        raise RecordError(
            f"the server does not say how many tokens an output holds ({len(untimed)} of {len(records)} answers without): record "
            "needs vLLM's stream_options.continuous_usage_stats"
        )
    short = [one for one in records if len(one.outputs) != one.output_tokens]
    if short:
        raise RecordError(
            f"{len(short)} of {len(records)} answers have another length than asked for ({len(short[0].outputs)} tokens instead of "
            f"{short[0].output_tokens}): record needs a server that obeys ignore_eos and max_tokens"
        )


async def _idle(server: Server) -> EngineState:
    """State of the server with nothing to do."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        state = await server.state()
        if not state.running and not state.waiting:
            return state
        if time.monotonic() > deadline:
            raise RecordError(
                f"{server.url} is busy: {state.running} requests run and {state.waiting} wait; record on a server without other "
                "traffic"
            )
        await asyncio.sleep(0.5)


async def _warm_up(endpoint: Endpoint, arrivals: Sequence[Arrival]) -> None:
    records: list[RequestRecord] = []
    longest = sorted(arrivals, key=lambda one: one.prompt_tokens)[-WARM_UP_REQUESTS:]
    chosen = [replace(one, time=0.0, output_tokens=min(one.output_tokens, 32)) for one in longest]
    await send_load(chosen, endpoint, records.append, start=time.monotonic(), seed=-1)
    check_records(records)


async def _front_end(server: Server, endpoint: Endpoint, arrivals: Sequence[Arrival]) -> float:
    """Mean seconds of a first token that are not the engine's: the client's mean less that of vLLM's own engine times.

    One request at a time: in a busy engine part of the difference is the wait for the step that runs, which a replay has itself.
    """
    ranked = sorted(arrivals, key=lambda one: one.prompt_tokens)
    before = await _idle(server)
    records: list[RequestRecord] = []
    for index in range(PROBES):
        chosen = ranked[(2 * index + 1) * len(ranked) // (2 * PROBES)]
        probe = replace(chosen, time=0.0, output_tokens=2)
        await send_load([probe], endpoint, records.append, start=time.monotonic(), seed=-2 - index)
    check_records(records)
    after = await _settled(server, before.finished + PROBES)
    at_client = sum(one.outputs[0] - one.sent for one in records) / PROBES
    at_engine = (after.engine_ttft_seconds - before.engine_ttft_seconds) / max(1, after.finished - before.finished)
    return max(0.0, at_client - at_engine)


async def _watch(
    server: Server,
    plan: RecordPlan,
    started: float,
    states: list[tuple[float, EngineState]],
    records: Sequence[RequestRecord],
    requests: int,
    on_progress: OnProgress,
) -> None:
    """Add a state every tick until all requests have ended."""
    due = started
    while len(records) < requests:
        due += plan.tick_seconds
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        state = await server.state()
        states.append((time.monotonic(), state))
        on_progress(Progress("recording", len(records), requests, state))


async def _settled(server: Server, finished: int) -> EngineState:
    """State once vLLM has counted every request of the recording, or when it has had time enough to."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        state = await server.state()
        if state.finished >= finished or time.monotonic() > deadline:
            return state
        await asyncio.sleep(0.2)
