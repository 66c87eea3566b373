"""The agent in production: real clock, real sensors, the control API, HTTP. All effects of the process are here."""

import asyncio
import socket
import time
from collections.abc import Coroutine
from typing import Any

import httpx
import structlog
import uvicorn
from prometheus_client import CollectorRegistry

from llmserving_agent.actuation import Actuation, Answer, Outcome
from llmserving_agent.actuator import ControlClient
from llmserving_agent.exporter import LoopCollector
from llmserving_agent.http import build_app
from llmserving_agent.loop import AgentLoop, Noted
from llmserving_agent.report import note_fields
from llmserving_agent.sensors.front_end import FirstTokens, FrontEnd
from llmserving_agent.sensors.gpu import EngineGPU
from llmserving_agent.sensors.none import NoFrontEnd
from llmserving_agent.sensors.policy_files import PolicyFiles
from llmserving_agent.sensors.relay import Relay
from llmserving_agent.sensors.ring import RingDirectory
from llmserving_agent.settings import Settings, SettingsError

TICK_SECONDS = 0.1
CONFIG_SECONDS = 1.0
RELAY_SECONDS = 5.0
FRONT_END_SECONDS = 10.0
FAILURES_IN_A_ROW = 50
"""Passes that may fail one after the other before the process gives up and is started anew."""

log = structlog.get_logger()


class Runner:
    """One agent process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = ControlClient(settings.control_dir)
        self._relay = Relay()
        self._front_end = FrontEnd(settings.engine_metrics) if settings.engine_metrics else None
        self.loop = AgentLoop(
            telemetry=RingDirectory(settings.control_dir),
            policy=PolicyFiles(settings.policy_dir),
            gpu=EngineGPU(self._relay),
            front_end=self._front_end or NoFrontEnd(),
            wall_clock=wall_clock,
            on_note=_log_note,
            started=time.monotonic(),
        )
        self._last_tick = time.monotonic()
        self._locks: dict[int, asyncio.Lock] = {}
        self._config_due: dict[int, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._policy_said: tuple[int | None, str] = (None, "")

    async def run(self) -> None:
        """Run until the process is told to stop.

        Raises:
            SettingsError: it is not possible to listen at the given address.
        """
        listening = listen(self._settings.host, self._settings.port)
        registry = CollectorRegistry()
        LoopCollector(self.loop, time.monotonic, registry)
        app = build_app(
            self.loop, registry, clock=time.monotonic, wall_clock=wall_clock, last_tick=lambda: self._last_tick
        )
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                loop="asyncio",
            )
        )
        log.info("started", control_dir=str(self._settings.control_dir), policy_dir=str(self._settings.policy_dir))
        background = [asyncio.create_task(self._tick_forever()), asyncio.create_task(self._refresh_forever())]
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            done, _ = await asyncio.wait([serving, *background], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            server.should_exit = True
            for task in (*background, *self._tasks):
                task.cancel()
            await asyncio.gather(serving, *background, *self._tasks, return_exceptions=True)
            await self._client.close()
            log.info("stopped")

    async def _tick_forever(self) -> None:
        failures = 0
        due = time.monotonic()
        while True:
            try:
                self.tick(time.monotonic())
                failures = 0
            except Exception:
                failures += 1
                log.exception("tick failed", failures=failures)
                if failures >= FAILURES_IN_A_ROW:
                    raise
            due = max(due + TICK_SECONDS, time.monotonic())
            await asyncio.sleep(due - time.monotonic())

    def tick(self, now: float) -> None:
        """One pass; calls to the engine go on in the background, one at a time for each rank."""
        self.loop.sense(now)
        self._say_policy()
        changing = self.loop.decide(now)
        for actuation in changing:
            self._start(self._actuate(actuation))
        answered = {actuation.rank for actuation in changing}  # with the engine's newest document
        for rank in {*self._client.ranks(), *self.loop.engines} - answered:
            engine = self.loop.engine(rank)
            if not self._lock(rank).locked() and (engine.awaits_config or now >= self._config_due.get(rank, 0.0)):
                self._config_due[rank] = now + CONFIG_SECONDS
                self._start(self._observe(rank))
        self._last_tick = time.monotonic()

    async def _observe(self, rank: int) -> None:
        async with self._lock(rank):
            answer = await self._client.config(rank)
            self.loop.observe(rank, answer, time.monotonic())

    async def _actuate(self, actuation: Actuation) -> None:
        async with self._lock(actuation.rank):
            try:
                answer = await self._client.patch(actuation.rank, actuation.patch)
            except Exception as error:  # whatever it was: an unanswered change would stop this rank for good
                log.exception("change could not be sent", engine=actuation.rank)
                answer = Answer(Outcome.UNREACHABLE, message=f"{type(error).__name__}: {error}")
            now = time.monotonic()
            self.loop.confirm(actuation.rank, answer, now)
            if answer.config is not None:
                self._config_due[actuation.rank] = now + CONFIG_SECONDS  # the answer was its newest document
            else:
                log.warning("change not applied", engine=actuation.rank, outcome=answer.outcome, message=answer.message)

    async def _refresh_forever(self) -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            relay_due = front_end_due = 0.0
            while True:
                now = time.monotonic()
                if now >= relay_due:
                    relay_due = now + RELAY_SECONDS
                    await self._relay.refresh(self._client, self._client.ranks())
                if self._front_end is not None and now >= front_end_due:
                    front_end_due = now + FRONT_END_SECONDS
                    totals = [engine.totals for engine in self.loop.engines.values()]
                    seen = FirstTokens(
                        sum(one.first_tokens for one in totals), sum(one.first_token_seconds for one in totals)
                    )
                    await self._front_end.refresh(client, seen, now)
                await asyncio.sleep(1.0)

    def _say_policy(self) -> None:
        reading = self.loop.policy
        said = (None if reading.policy is None else reading.policy.revision, reading.error)
        if said == self._policy_said:
            return
        if reading.error and reading.error != self._policy_said[1]:
            log.warning("policy refused", error=reading.error, kept_revision=said[0])
        if reading.policy is not None and said[0] != self._policy_said[0]:
            policy = reading.policy
            log.info("policy", revision=policy.revision, mode=policy.mode, law=policy.law, name=policy.name)
        self._policy_said = said

    def _lock(self, rank: int) -> asyncio.Lock:
        return self._locks.setdefault(rank, asyncio.Lock())

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("call failed", exc_info=task.exception())


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound; uvicorn itself would say neither what it wanted nor where that comes from.

    Raises:
        SettingsError: the address is not this machine's, or is in use.
    """
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise SettingsError(
            f"--host {host} --port {port}: cannot listen there: {error.strerror}; an address of this machine, such as "
            "0.0.0.0, and a free port are needed"
        ) from error
    return bound


def wall_clock(now: float) -> float:
    """Seconds since 1970 of a monotonic time."""
    return time.time() - time.monotonic() + now


def _log_note(noted: Noted) -> None:
    log.info("decision", **note_fields(noted))
