"""Asks the agents of all pods for their status, often while an edit is on its way and seldom otherwise."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import httpx
from pydantic import ValidationError

from llmserving_api import names
from llmserving_api.status import PATH_STATUS, AgentStatus
from llmserving_operator.observe import Pod, Report

TIMEOUT_SECONDS: Final = 2.0
MAX_BYTES: Final = 1 << 20
CONCURRENCY: Final = 32
FORGIVEN_FAILURES: Final = 2
"""Failures in a row before an agent counts as silent: one lost packet is no news."""
TICK_SECONDS: Final = 0.1


@dataclass(slots=True)
class _Target:
    """A pod that is asked."""

    owner: tuple[str, str]
    address: str
    interval: float
    ready: bool = False
    due: float = 0.0
    failures: int = 0
    asking: bool = False


class AgentPoller:
    """Keeps the last report of every pod.

    Args:
        client: speaks HTTP to the pods' addresses.
    """

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._targets: dict[str, _Target] = {}
        self._reports: dict[str, Report] = {}
        self._room = asyncio.Semaphore(CONCURRENCY)

    def watch(self, owner: tuple[str, str], pods: Iterable[Pod], interval: float) -> None:
        """Ask these pods of a resource, and no others of it, this often (seconds).

        What an agent said before its pod became ready is forgotten, and it is asked at once: its engine was starting.
        """
        wanted = {pod.uid: pod for pod in pods if pod.ip and pod.running and not pod.terminating}
        for uid in [uid for uid, target in self._targets.items() if target.owner == owner and uid not in wanted]:
            del self._targets[uid]
            self._reports.pop(uid, None)
        for uid, pod in wanted.items():
            target = self._targets.setdefault(uid, _Target(owner, _address(pod), interval))
            became_ready = pod.ready and not target.ready
            if became_ready:
                self._reports.pop(uid, None)
                target.failures = 0
            if became_ready or interval < target.interval:
                target.due = 0.0
            target.interval, target.ready = interval, pod.ready

    def reports(self, pods: Iterable[Pod]) -> Mapping[str, Report]:
        """The last report of each pod that was asked, by uid."""
        return {pod.uid: self._reports[pod.uid] for pod in pods if pod.uid in self._reports}

    async def run(self, on_news: Callable[[tuple[str, str]], None]) -> None:
        """Ask until cancelled.

        Args:
            on_news: told of the owner of a pod whose report changed in a way worth looking at again.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            while True:
                for uid, target in list(self._targets.items()):
                    if not target.asking and target.due <= loop.time():
                        target.asking = True
                        target.due = loop.time() + target.interval
                        group.create_task(self._ask(uid, target, on_news))
                await asyncio.sleep(TICK_SECONDS)

    async def _ask(self, uid: str, target: _Target, on_news: Callable[[tuple[str, str]], None]) -> None:
        async with self._room:
            report = await self._fetch(target.address)
        target.asking = False
        if self._targets.get(uid) is not target:
            return
        target.failures = 0 if report.status is not None else target.failures + 1
        before = self._reports.get(uid)
        if report.status is None and target.failures <= FORGIVEN_FAILURES:
            return
        self._reports[uid] = report
        if before is None or digest_report(before) != digest_report(report):
            on_news(target.owner)

    async def _fetch(self, address: str) -> Report:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS), self._client.stream("GET", address) as answer:
                answer.raise_for_status()
                return Report(AgentStatus.model_validate_json(await _read(answer)))
        except TimeoutError:
            return Report(None, f"no answer from the agent within {TIMEOUT_SECONDS:g} s")
        except httpx.HTTPStatusError as error:
            return Report(None, f"the agent answered {error.response.status_code}")
        except httpx.HTTPError as error:
            return Report(None, f"no answer from the agent: {str(error) or type(error).__name__}")
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(str(part) for part in first["loc"])
            return Report(None, f"the agent's status is not understood: {field}: {first['msg']}")


def digest_report(report: Report) -> tuple[object, ...]:
    """What of a report is worth looking at again at once; latencies and queue lengths are not."""
    status = report.status
    if status is None:
        return (report.error,)
    engines = tuple(
        (e.rank, e.reachable, e.contract, e.requested, e.applied, e.effective, e.saturated, e.sla_feasible)
        for e in status.engines
    )
    return (status.policy_revision, status.policy_error, status.mode, status.law, status.gpu.source, engines)


async def _read(answer: httpx.Response) -> bytes:
    """The body; what is too long for a status is cut, and then not understood."""
    body = b""
    async for part in answer.aiter_bytes():
        body += part
        if len(body) > MAX_BYTES:
            break
    return body


def _address(pod: Pod) -> str:
    host = f"[{pod.ip}]" if pod.ip and ":" in pod.ip else pod.ip
    return f"http://{host}:{names.PORT_AGENT}{PATH_STATUS}"
