"""The front end's share: what a request spends in the API server outside the scheduler's sight.

vLLM's own ``vllm:time_to_first_token_seconds`` is measured in the API server, the telemetry ring's in the engine
core. The difference of their means over the same span is the share. Parsing before vLLM's own stamp is in neither.
"""

import re
from dataclasses import dataclass

import httpx

from llmserving_agent.sensors.ports import FrontEndShare
from llmserving_agent.signals.smoothing import Ewma

SERIES = "vllm:time_to_first_token_seconds"
TIMEOUT_SECONDS = 2.0
ENOUGH_REQUESTS = 10
COUNTS_AGREE = 0.2
"""Requests in flight between two readings: the counts of both sides may differ by this share."""
_LINE = re.compile(rf"^{SERIES}_(sum|count)(?:\{{[^}}]*\}})? (\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class FirstTokens:
    """Cumulative first tokens: how many, and the sum of their times in seconds."""

    count: int = 0
    seconds: float = 0.0


def parse_first_tokens(text: str) -> FirstTokens:
    """Sum of vLLM's series over all its labels, from the text format."""
    values = {"sum": 0.0, "count": 0.0}
    for kind, value in _LINE.findall(text):
        values[kind] += float(value)
    return FirstTokens(round(values["count"]), values["sum"])


class FrontEnd:
    """Compares both means at every refresh."""

    def __init__(self, url: str, time_constant_seconds: float = 60.0) -> None:
        self._url = url
        self._smoothed = Ewma(time_constant_seconds)
        self._server: FirstTokens | None = None
        self._engine = FirstTokens()
        self._share = FrontEndShare()

    def read(self) -> FrontEndShare:
        """The newest share."""
        return self._share

    async def refresh(self, client: httpx.AsyncClient, engine: FirstTokens, now: float) -> None:
        """Scrape vLLM and compare with what the ring has counted so far; no answer changes nothing."""
        try:
            response = await client.get(self._url, timeout=TIMEOUT_SECONDS)
            response.raise_for_status()
        except httpx.HTTPError as error:
            self._share = FrontEndShare(self._share.seconds, f"{self._url}: {error or type(error).__name__}")
            return
        self.compare(parse_first_tokens(response.text), engine, now)

    def compare(self, server: FirstTokens, engine: FirstTokens, now: float) -> None:
        """Take in both sides' cumulative counts."""
        before_server, before_engine = self._server, self._engine
        if before_server is None or server.count < before_server.count:
            self._server, self._engine = server, engine
            return
        at_server, at_engine = server.count - before_server.count, engine.count - before_engine.count
        if min(at_server, at_engine) < ENOUGH_REQUESTS:
            return
        self._server, self._engine = server, engine
        if abs(at_server - at_engine) > COUNTS_AGREE * at_server:
            return
        mean_server = (server.seconds - before_server.seconds) / at_server
        mean_engine = (engine.seconds - before_engine.seconds) / at_engine
        self._smoothed = self._smoothed.updated(max(0.0, mean_server - mean_engine), now)
        self._share = FrontEndShare(self._smoothed.value or 0.0, "")
