"""Watches the agents: what each engine's bounds, load and last decision are, finely while an edit is on its way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import aiohttp
from pydantic import ValidationError

from llmserving_api.control import Bounds
from llmserving_api.latency import quantile_seconds
from llmserving_api.status import PATH_STATUS, AgentStatus

CALM_SECONDS = 0.5
BUSY_SECONDS = 0.05
TIMEOUT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Observation:
    """One engine at one moment. Times are seconds of the monotonic clock.

    Attributes:
        time: When the answer arrived.
        asked: When it was asked for: what it says became true before `time`, and after the observation before it.
        pod: The engine's pod.
        revision: Revision of the policy that the engine has confirmed.
        mode: Auto, Advise or Off.
        law: The law in force.
        requested: Bounds asked of the engine.
        applied: Bounds set in its scheduler.
        effective: Bounds that a step has been seen to keep.
        itl_p95: 95th percentile of the inter-token latency over the SLA window, as the agent measures it.
        running: Requests in the batch.
        waiting: Requests in the queue.
        kv_usage: Share of KV blocks in use.
        reason: Reason of the last decision, in one word.
        message: The last decision in words.
        device: The GPU's name as NVML gives it; empty without one.
        gpu_source: Where GPU facts come from.
    """

    time: float
    asked: float
    pod: str
    revision: int | None
    mode: str
    law: str
    requested: Bounds | None
    applied: Bounds | None
    effective: Bounds | None
    itl_p95: float | None
    running: int
    waiting: int
    kv_usage: float | None
    reason: str
    message: str
    device: str
    gpu_source: str

    @property
    def settled(self) -> bool:
        """Whether the engine's steps keep the bounds that were asked for."""
        return self.requested is not None and self.requested == self.applied == self.effective


def observation(pod: str, asked: float, now: float, status: AgentStatus) -> Observation:
    """What an agent's document says of its first engine rank (the demo's engines have one)."""
    engine = status.engines[0] if status.engines else None
    decision = engine.last_decision if engine is not None else None
    return Observation(
        time=now,
        asked=asked,
        pod=pod,
        revision=status.policy_revision,
        mode=status.mode.value if status.mode is not None else "",
        law=status.law.value if status.law is not None else "",
        requested=engine.requested if engine is not None else None,
        applied=engine.applied if engine is not None else None,
        effective=engine.effective if engine is not None else None,
        itl_p95=quantile_seconds(status.latency.itl, 95) if status.latency is not None else None,
        running=engine.running if engine is not None else 0,
        waiting=engine.waiting if engine is not None else 0,
        kv_usage=engine.kv_usage_ratio if engine is not None else None,
        reason=decision.reason.value if decision is not None else "",
        message=decision.message if decision is not None else "",
        device=status.gpu.devices[0].name if status.gpu.devices else "",
        gpu_source=status.gpu.source,
    )


class AgentWatch:
    """Asks every agent again and again; `latest` and `history` hold what they said.

    Args:
        addresses: Pod → host and port of its agent.
        on_error: Called with the pod and what went wrong when an agent does not answer.
    """

    def __init__(
        self, addresses: Mapping[str, str], on_error: Callable[[str, str], None] = lambda pod, what: None
    ) -> None:
        self._addresses = dict(addresses)
        self._on_error = on_error
        self._watchers = 0
        self._changed = asyncio.Condition()
        self.latest: dict[str, Observation] = {}
        self.history: list[Observation] = []

    async def run(self) -> None:
        """Watch until cancelled."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as tasks:
            for pod, address in self._addresses.items():
                tasks.create_task(self._follow(session, pod, address))

    async def until(self, condition: Callable[[Mapping[str, Observation]], bool], seconds: float) -> float | None:
        """Watch finely until the newest observations of all pods meet a condition; the moment, or None if it is too late."""
        self._watchers += 1
        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(
                    lambda: len(self.latest) == len(self._addresses) and condition(self.latest)
                )
                return max(one.time for one in self.latest.values())
        except TimeoutError:
            return None
        finally:
            self._watchers -= 1

    async def _follow(self, session: aiohttp.ClientSession, pod: str, address: str) -> None:
        while True:
            asked = time.monotonic()
            try:
                async with session.get(f"http://{address}{PATH_STATUS}") as response:
                    status = AgentStatus.model_validate_json(await response.read())
            except (TimeoutError, aiohttp.ClientError, ValidationError) as error:
                self._on_error(pod, f"{type(error).__name__}: {error}")
            else:
                seen = observation(pod, asked, time.monotonic(), status)
                async with self._changed:
                    self.latest[pod] = seen
                    self.history.append(seen)
                    self._changed.notify_all()
            period = BUSY_SECONDS if self._watchers else CALM_SECONDS
            await asyncio.sleep(max(0.0, asked + period - time.monotonic()))
