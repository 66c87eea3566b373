"""Client of the control API: HTTP over the engine's Unix socket, one socket for each rank."""

import asyncio
import os
import re
from pathlib import Path
from typing import TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from llmserving_agent.actuation import Answer, Outcome
from llmserving_api.control import (
    PATH_DEVICE,
    PATH_RUNTIME_CONFIG,
    ControlError,
    DeviceReport,
    RuntimeConfig,
    RuntimePatch,
)
from llmserving_api.names import SOCKET_PATTERN, socket_name

TIMEOUT_SECONDS = 2.0
T = TypeVar("T", bound=BaseModel)
_SOCKET_NAME = re.compile(re.escape(SOCKET_PATTERN).replace(re.escape("{rank}"), r"(\d+)"))


class EngineUnreachableError(Exception):
    """No usable answer came from the engine's control socket; the message says what came instead."""


class EngineRefusedError(Exception):
    """The engine answered with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ControlClient:
    """Talks to the sockets in the control folder; a connection is kept for each."""

    def __init__(self, folder: Path, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._folder = folder
        self._timeout = timeout_seconds
        self._clients: dict[int, httpx.AsyncClient] = {}

    def ranks(self) -> tuple[int, ...]:
        """Ranks whose sockets exist now."""
        try:
            names = os.listdir(self._folder)
        except OSError:
            return ()
        return tuple(sorted(int(match[1]) for name in names if (match := _SOCKET_NAME.fullmatch(name))))

    async def config(self, rank: int) -> Answer:
        """The engine's present document."""
        return await self._config(rank, "GET", None)

    async def patch(self, rank: int, patch: RuntimePatch) -> Answer:
        """Ask for a change; applied means that the engine took all of it."""
        return await self._config(rank, "PATCH", patch.model_dump_json(exclude_none=True).encode())

    async def device(self, rank: int) -> DeviceReport:
        """NVML facts as the engine sees them.

        Raises:
            EngineUnreachableError: no usable answer.
            EngineRefusedError: the engine answered with an error.
        """
        return await self._call(rank, "GET", PATH_DEVICE, None, DeviceReport)

    async def close(self) -> None:
        """Close every connection."""
        await asyncio.gather(*(client.aclose() for client in self._clients.values()))
        self._clients.clear()

    async def _config(self, rank: int, method: str, body: bytes | None) -> Answer:
        try:
            config = await self._call(rank, method, PATH_RUNTIME_CONFIG, body, RuntimeConfig)
        except EngineRefusedError as error:
            return Answer(Outcome.REFUSED, status=error.status, message=str(error))
        except EngineUnreachableError as error:
            return Answer(Outcome.UNREACHABLE, message=str(error))
        return Answer(Outcome.APPLIED, config=config)

    async def _call(self, rank: int, method: str, path: str, body: bytes | None, answer: type[T]) -> T:
        headers = {} if body is None else {"content-type": "application/json"}
        try:
            response = await self._client(rank).request(method, path, content=body, headers=headers)
        except (httpx.HTTPError, OSError) as error:
            raise EngineUnreachableError(f"{socket_name(rank)}: {error or type(error).__name__}") from error
        if response.status_code >= 400:
            raise EngineRefusedError(response.status_code, _refusal(response))
        try:
            return answer.model_validate_json(response.content)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in fault["loc"])
            raise EngineUnreachableError(f"{socket_name(rank)} answered {path} with {where}: {fault['msg']}") from error

    def _client(self, rank: int) -> httpx.AsyncClient:
        if rank not in self._clients:
            # No connection is kept: the socket at this path is a new one after a restart of the engine.
            limits = httpx.Limits(max_keepalive_connections=0)
            transport = httpx.AsyncHTTPTransport(uds=str(self._folder / socket_name(rank)), limits=limits)
            self._clients[rank] = httpx.AsyncClient(
                transport=transport, base_url="http://engine", timeout=self._timeout, trust_env=False
            )
        return self._clients[rank]


def _refusal(response: httpx.Response) -> str:
    """The engine's error body as one line."""
    try:
        error = ControlError.model_validate_json(response.content)
    except ValidationError:
        return f"HTTP {response.status_code}"
    parts = [error.error]
    if error.field is not None and error.field not in error.error:
        parts.append(f"field {error.field}")
    if error.value is not None and error.value not in error.error:
        parts.append(f"value {error.value}")
    if error.allowed is not None and error.allowed not in error.error:
        parts.append(f"allowed {error.allowed}")
    return ", ".join(parts)
