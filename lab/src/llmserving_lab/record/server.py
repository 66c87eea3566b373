"""The server that is recorded: what it says of itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import httpx

from llmserving_lab.record.errors import RecordError
from llmserving_lab.record.series import EngineState, read_state

TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Start-up settings of the engine that a replay needs; None where nobody has said."""

    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A vLLM server and the model that is recorded.

    Attributes:
        name: What requests call the model.
        root: The model's path or name on the hub.
        max_model_len: Longest prompt and answer together, in tokens; None where the server does not say.
        vllm_version: Version of vLLM.
        ceilings: Start-up bounds, as far as the server tells them (only with `VLLM_SERVER_DEV_MODE=1`).
        asynchronous: Whether it schedules one step ahead; None where the server does not say.
    """

    name: str
    root: str
    max_model_len: int | None
    vllm_version: str
    ceilings: Ceilings
    asynchronous: bool | None


class Server:
    """Questions to a vLLM server; each raises `RecordError` in one line where there is no good answer."""

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self.url = url
        self._client = client

    async def state(self) -> EngineState:
        """State of its engines now."""
        answer = await self._get("/metrics")
        state = read_state(answer.text) if answer.status_code == 200 else None
        if state is None:
            raise RecordError(
                f"{self.url}/metrics: holds no series of vLLM (HTTP {answer.status_code}); record needs a vLLM server with "
                "its metrics on"
            )
        return state

    async def model(self, wanted: str | None) -> ServedModel:
        """The model to record: the wanted one, or the only one there is."""
        answer = await self._get("/v1/models")
        entries = _models(answer)
        if entries is None:
            raise RecordError(
                f"{self.url}/v1/models: HTTP {answer.status_code}, not a list of models; --url should be the root of an "
                "OpenAI-compatible server, such as http://127.0.0.1:8000"
            )
        names = [str(entry["id"]) for entry in entries]
        if wanted is None and len(names) != 1:
            raise RecordError(f"{self.url} serves {len(names)} models; give one with --model: {', '.join(names)}")
        if wanted is not None and wanted not in names:
            raise RecordError(f"--model {wanted}: {self.url} does not serve it; it serves {', '.join(names)}")
        entry = next(entry for entry in entries if wanted in {None, entry["id"]})
        config = await self._config()
        scheduler = config.get("scheduler_config") or {}
        longest = entry.get("max_model_len")
        return ServedModel(
            name=str(entry["id"]),
            root=str(entry.get("root") or entry["id"]),
            max_model_len=longest if isinstance(longest, int) else None,
            vllm_version=await self._version(),
            ceilings=Ceilings(scheduler.get("max_num_seqs"), scheduler.get("max_num_batched_tokens")),
            asynchronous=scheduler.get("async_scheduling"),
        )

    async def _version(self) -> str:
        answer = await self._get("/version")
        try:
            return str(answer.json()["version"])
        except (ValueError, KeyError, TypeError):
            raise RecordError(f"{self.url}/version: names no version; record needs a vLLM server") from None

    async def _config(self) -> dict[str, Any]:
        """The engine's settings, where the server gives them away; else nothing."""
        answer = await self._get("/server_info?config_format=json")
        try:
            config = answer.json()["vllm_config"]
        except (ValueError, KeyError, TypeError):
            return {}
        return config if isinstance(config, dict) else {}

    async def _get(self, path: str) -> httpx.Response:
        try:
            return await self._client.get(f"{self.url}{path}", timeout=TIMEOUT_SECONDS)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise RecordError(f"{self.url} cannot be reached: {error or type(error).__name__}") from None


def _models(answer: httpx.Response) -> list[dict[str, Any]] | None:
    try:
        entries = answer.json()["data"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        return None
    if not isinstance(entries, list) or not entries:
        return None
    return entries if all(isinstance(entry, dict) and "id" in entry for entry in entries) else None
